/* cast.c - CAST: f32 to bf16 and back; the types are the operands', whatever `elem` is. */
#include "backend/cpu/simd/simd.h"

/* to = from, or to += from, each of its own type. */
#define MOVE(to_type, from_type)                                                          \
    do {                                                                                  \
        to_type         *t_ = to;                                                         \
        const from_type *f_ = from;                                                       \
        _Pragma("omp parallel for simd schedule(static)") for (int64_t i = 0; i < n; i++) \
            PUT(add, t_[i], num(f_[i]));                                                  \
    } while (0)

static kdas_status move(void *to, int32_t to_type, const void *from, int32_t from_type, int64_t n,
                        bool add)
{
    if (to_type == KDAS_BF16 && from_type == KDAS_BF16)
        MOVE(bf16, bf16);
    else if (to_type == KDAS_BF16)
        MOVE(bf16, float);
    else if (from_type == KDAS_BF16)
        MOVE(float, bf16);
    else
        MOVE(float, float);
    return KDAS_OK;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    return move(call->out, call->node->out.dtype, call->in[0], call->node->in[0].dtype,
                numel(&call->node->out), false);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    return move(call->din[0], call->node->in[0].dtype, call->dout, call->node->out.dtype,
                numel(&call->node->out), adds(call, 0));
}

const kd_cpu_kernel KD_SIMD(cast) = { .forward = forward, .backward = backward };
