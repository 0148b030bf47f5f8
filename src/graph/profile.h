/* profile.h - times what runs, and counts its operations and bytes. While the profile is off, it
 * costs one branch. */
#ifndef KD_GRAPH_PROFILE_H
#define KD_GRAPH_PROFILE_H
#include "base/context.h"
#include "op/op.h"

/* The cost of one run of a node by the rules of kdas_profile_row. `kernel` says what backward
 * reads. */
typedef struct kd_work {
    double flop, bytes;
} kd_work;
kd_work kd_work_of(const kdas_node_desc *node, const kdas_kernel *kernel, kdas_profile_part part);

/* The time now while the profile is on, else 0. */
static inline double kd_profile_start(const kdas_context *ctx)
{
    return ctx->profiling ? kd_profile_begin(ctx) : 0;
}
/* Add the time since `start` to the row of these names. */
kdas_status kd_profile_stop(kdas_context *ctx, double start, const char *program, const char *op,
                            const char *node, kdas_profile_part part, kd_work work);
/* kd_device_zero, as a row of `program`. */
kdas_status kd_profile_zero(kdas_context *ctx, const char *program, void *memory, size_t bytes);

/* ---- programs: their rows are found once, by the first run with the profile on ---- */

/* For each node and part: a row and its work. Row -1: the node lacks this part. */
enum { KD_PROFILE_PARTS = KDAS_PROFILE_ZERO + 1 };
typedef struct kd_profile_slot {
    int32_t row[KD_PROFILE_PARTS];
    kd_work work[KD_PROFILE_PARTS];
} kd_profile_slot;

typedef struct kd_program kd_program;
/* Find the rows of a program. Does nothing if that is done. */
kdas_status kd_profile_program(kd_program *p);
/* Add the time of node i since `start`. kd_profile_node_zero: node i cleared this many bytes. */
kdas_status kd_profile_node(kd_program *p, int i, kdas_profile_part part, double start);
kdas_status kd_profile_node_zero(kd_program *p, int i, double start, size_t bytes);

#endif
