/* kdas/profile.h - experimental (KDAS_EXPERIMENTAL): where the time goes: seconds, operations and bytes of every node, and what the machine
 * could do at most. */
#ifndef KDAS_PROFILE_H
#define KDAS_PROFILE_H
#include <kdas/base.h>
#ifdef KDAS_EXPERIMENTAL
KDAS_BEGIN

/* What a node was doing. */
typedef enum kdas_profile_part {
    KDAS_PROFILE_FORWARD  = 0,
    KDAS_PROFILE_BACKWARD = 1,
    KDAS_PROFILE_PACK     = 2, /* bringing changed weights into the kernels' own layout        */
    KDAS_PROFILE_ZERO     = 3, /* clearing gradients before they are gathered                  */
    KDAS_PROFILE_UPDATE   = 4  /* work on flat blocks outside networks: optimizers, sums, norms */
} kdas_profile_part;

/* "forward", "backward", "pack", "zero", "update"; NULL for others. Static. Any thread. Since 0.2. */
KDAS_API const char *kdas_profile_part_name(kdas_profile_part part);

/* Switch the profile of a context on (non-zero) or off (0, as it starts). While it is on, every kernel that
 * runs on the context is timed, after the device has finished where it works asynchronously, and added
 * to its row. While it is off it costs one comparison a kernel. Rows stay when it is switched off. The first
 * run of a program with the profile on allocates its rows; later ones allocate nothing. KDAS_EINVAL,
 * KDAS_ENOMEM (then it is off). Since 0.2. */
KDAS_API kdas_status kdas_context_profile(kdas_context *context, int32_t on);

/* The sums of one node of one program in one part of its work, over all calls since the last reset. The
 * texts live as long as the context. */
typedef struct kdas_profile_row {
    size_t size; /* set it to sizeof before the call                                          */
    const char
        *program;   /* "polyp_pvt_b0 train 16x352x352", "loss.seg 16x352x352"; "" outside of one */
    const char *op; /* "conv2d", or the update's name, "adamw"                                   */
    const char
           *node; /* "backbone.block1.0.mlp.fc1.linear"; "" where there is none                */
    int32_t part; /* kdas_profile_part                                                     */
    int32_t precision; /* kdas_precision, of its first operand                                  */
    int64_t calls;
    double  seconds;
    /* Floating-point operations: of ops that multiply matrices or convolve two for each multiply-accumulate
     * of KDAS_COUNT_MACS forward, as many for each of the two gradients (of the data, of the weights) backward;
     * of other ops one for each number that comes out. What a kernel computes twice counts once. */
    double flop;
    /* Operands read and results written, each once, parameters too: what must pass between the memory
     * and the kernel if no cache helps and nothing is read twice. */
    double bytes;
} kdas_profile_row;

/* How many rows have had a call since the last reset; 0 for NULL. Since 0.2. */
KDAS_API int32_t kdas_profile_count(const kdas_context *context);
/* Row `i`, in the order of first calls. KDAS_EINVAL (NULL, or size not set), KDAS_ENOTFOUND past the last.
 * Since 0.2. */
KDAS_API kdas_status kdas_profile_at(const kdas_context *context, int32_t i, kdas_profile_row *out);
/* Forget what was summed. KDAS_EINVAL. Since 0.2. */
KDAS_API kdas_status kdas_profile_reset(kdas_context *context);

/* The machine's roofline: what it does at most, measured now on the context's device with its threads. */
typedef struct kdas_profile_roofline {
    size_t
        size; /* set it to sizeof before the call                                                */
    double
        gemm; /* operations a second of a large f32 matrix product, the better of two ways to it */
    double
        triad; /* bytes a second of y += a x over 256 MiB: x and y read, y written               */
    double gemm_bf16; /* as gemm, of a product in bf16, or f16 where that is what the context
                      computes in; 0: it computes in f32                                       */
} kdas_profile_roofline;

/* Measure for one or two seconds. It takes 256 MiB for its time; the profile does not see it. KDAS_EINVAL (NULL, or
 * size not set), KDAS_ENOMEM, KDAS_ECANCELLED. Since 0.2. */
KDAS_API kdas_status kdas_profile_measure_roofline(kdas_context          *context,
                                                   kdas_profile_roofline *out);

KDAS_END
#endif /* KDAS_EXPERIMENTAL */
#endif
