/* profile.h - timing what runs, and what it costs in operations and bytes. A branch and nothing more while the
 * profile is off. */
#ifndef KD_GRAPH_PROFILE_H
#define KD_GRAPH_PROFILE_H
#include "base/context.h"
#include "op/op.h"

/* What one run of a node costs by the rules of kdas_profile_row. `kernel` says what backward reads. */
typedef struct kd_work {
    double flop, bytes;
} kd_work;
kd_work kd_work_of(const kdas_node_desc *node, const kdas_kernel *kernel, kdas_profile_part part);

/* The time now while the profile is on, else 0. */
static inline double kd_profile_start(const kdas_context *ctx)
{
    return ctx->profiling ? kd_now() : 0;
}
/* Add what began at `start` to the row of these names. */
kdas_status kd_profile_stop(kdas_context *ctx, double start, const char *program, const char *op,
                            const char *node, kdas_profile_part part, kd_work work);
/* kd_device_zero, as a row of `program`. */
kdas_status kd_profile_zero(kdas_context *ctx, const char *program, void *memory, size_t bytes);

/* ---- programs: their rows are found once, by the first run with the profile on ---- */

/* Of a node: a row and its work for each part, row -1: it has no such part. */
enum { KD_PROFILE_PARTS = KDAS_PROFILE_ZERO + 1 };
typedef struct kd_profile_slot {
    int32_t row[KD_PROFILE_PARTS];
    kd_work work[KD_PROFILE_PARTS];
} kd_profile_slot;

typedef struct kd_program kd_program;
/* Find the rows of a program, unless that is done. */
kdas_status kd_profile_program(kd_program *p);
/* Add what node i began at `start`; kd_profile_node_zero: it cleared so many bytes. */
kdas_status kd_profile_node(kd_program *p, int i, kdas_profile_part part, double start);
kdas_status kd_profile_node_zero(kd_program *p, int i, double start, size_t bytes);

#endif
