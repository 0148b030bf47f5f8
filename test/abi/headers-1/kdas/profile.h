/* kdas/profile.h - experimental (KDAS_EXPERIMENTAL): time, operations and bytes of every node, and
 * the machine's roofline. */
#ifndef KDAS_PROFILE_H
#define KDAS_PROFILE_H
#include <kdas/base.h>
#ifdef KDAS_EXPERIMENTAL
KDAS_BEGIN

/* The phase that a row measures. */
typedef enum kdas_profile_part {
    KDAS_PROFILE_FORWARD  = 0,
    KDAS_PROFILE_BACKWARD = 1,
    KDAS_PROFILE_PACK     = 2, /* repacking changed weights into the kernels' layout */
    KDAS_PROFILE_ZERO     = 3, /* clearing gradients before accumulation */
    KDAS_PROFILE_UPDATE   = 4  /* flat kernels outside networks: optimizers, sums, norms */
} kdas_profile_part;

/* "forward", "backward", "pack", "zero", "update"; NULL for others. Static. Any thread.
 * Since 0.2. */
KDAS_API const char *kdas_profile_part_name(kdas_profile_part part);

/* Switch profiling of a context on (non-zero) or off (0, the default). While on, every kernel on
 * the context is timed and added to its row; on an asynchronous device the library waits for each
 * kernel. While off, it costs one comparison per kernel. Switching off keeps the rows. A program's
 * first profiled run allocates its rows; later runs allocate nothing. KDAS_EINVAL, KDAS_ENOMEM
 * (profiling is then off). Since 0.2. */
KDAS_API kdas_status kdas_context_profile(kdas_context *context, int32_t on);

/* Totals of one node of one program in one phase, over all calls since the last reset. Strings are
 * valid while the context lives. */
typedef struct kdas_profile_row {
    size_t      size;      /* set it to sizeof before the call */
    const char *program;   /* "polyp_pvt_b0 train 16x352x352", "loss.seg 16x352x352"; "" if none */
    const char *op;        /* "conv2d"; for updates its name, "adamw" */
    const char *node;      /* "backbone.block1.0.mlp.fc1.linear"; "" if none */
    int32_t     part;      /* kdas_profile_part */
    int32_t     precision; /* kdas_precision of the first operand; of integer nodes INT8 */
    int64_t     calls;
    double      seconds;
    /* Floating-point operations. Matrix products and convolutions: two per multiply-accumulate (as
     * in KDAS_COUNT_MACS) forward, and the same for each of the two gradients (data, weights)
     * backward. Other ops: one per output value. Values that a kernel recomputes count once. */
    double flop;
    /* Bytes of operands read and results written, each counted once, parameters included. This is
     * the memory traffic without cache reuse and without repeated reads. */
    double bytes;
    /* Of `seconds` times the context's threads: thread-seconds in which a thread had nothing to do,
     * because others were not done or the work was not divided. 0 on a device that does not compute
     * with the context's threads. Since 0.4. */
    double idle;
} kdas_profile_row;

/* Number of rows with a call since the last reset (NULL: 0). Since 0.2. */
KDAS_API int32_t kdas_profile_count(const kdas_context *context);
/* Read row `i`; rows are in order of their first call. KDAS_EINVAL (NULL, or size not set),
 * KDAS_ENOTFOUND (past the last). Since 0.2. */
KDAS_API kdas_status kdas_profile_at(const kdas_context *context, int32_t i, kdas_profile_row *out);
/* Clear all totals. KDAS_EINVAL. Since 0.2. */
KDAS_API kdas_status kdas_profile_reset(kdas_context *context);

/* Roofline of the machine: peak rates, measured on the context's device with its threads. */
typedef struct kdas_profile_roofline {
    size_t size; /* set it to sizeof before the call */
    double gemm; /* operations/s of a large f32 matrix product; the faster of two implementations */
    /* Bytes/s of y += a x over 256 MiB, counting x read, y read and y written. */
    double triad;
    /* As gemm, in the context's 16-bit format (bf16 or f16); 0 if the context computes in f32. */
    double gemm_bf16;
    /* As gemm, of 8-bit integers; 0 if the context does not compute with them. Since 0.4. */
    double gemm_int8;
} kdas_profile_roofline;

/* Measure the roofline. Takes one to two seconds and 256 MiB, which are freed. It does not show in
 * the profile. KDAS_EINVAL (NULL, or size not set), KDAS_ENOMEM, KDAS_ECANCELLED. Since 0.2. */
KDAS_API kdas_status kdas_profile_measure_roofline(kdas_context          *context,
                                                   kdas_profile_roofline *out);

KDAS_END
#endif /* KDAS_EXPERIMENTAL */
#endif
