/* cast.c - CAST: f32 to bf16 and back. The types are those of the operands, in every copy; `elem` is not used. */
#include "backend/cpu/simd/simd.h"

/* name(): to = from, or to += from, each of its own type. */
#define DEFINE_MOVE(name, to_type, from_type)                                             \
    static void name(to_type *to, const from_type *from, int64_t n, bool add)             \
    {                                                                                     \
        _Pragma("omp parallel for simd schedule(static)") for (int64_t i = 0; i < n; i++) \
            accumulate(to[i], num(from[i]), add);                                         \
    }
DEFINE_MOVE(move_bf16_bf16, bf16, bf16)
DEFINE_MOVE(move_bf16_f32, bf16, float)
DEFINE_MOVE(move_f32_bf16, float, bf16)
DEFINE_MOVE(move_f32_f32, float, float)
#undef DEFINE_MOVE

static kdas_status move(void *to, int32_t to_type, const void *from, int32_t from_type, int64_t n,
                        bool add)
{
    if (to_type == KDAS_BF16 && from_type == KDAS_BF16)
        move_bf16_bf16(to, from, n, add);
    else if (to_type == KDAS_BF16)
        move_bf16_f32(to, from, n, add);
    else if (from_type == KDAS_BF16)
        move_f32_bf16(to, from, n, add);
    else
        move_f32_f32(to, from, n, add);
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
