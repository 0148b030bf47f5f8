/* cast.cu - CAST between f32, f16 and bf16: one code for all pairs of types, which are the operands'. */
#include "backend/cuda/wide.h"
/* after the types */
#include "backend/cuda/half.h"

enum { AS_F32, AS_BF16, AS_F16 }; /* as kdas_dtype has them */

typedef struct alignas(8) halves4 {
    uint16_t v[4];
} halves4;

static __device__ __forceinline__ quad load_as(const void *x, int type, int64_t i, const int width)
{
    const uint16_t *from = (const uint16_t *)x + i;
    quad            f    = { { 0, 0, 0, 0 } };
    halves4         h;

    if (type == AS_F32) return load_f((const float *)x + i, width);
    if (width == 4)
        h = *(const halves4 *)from;
    else
        h.v[0] = *from;
    EACH_VALUE(k, width) f.v[k] = type == AS_F16 ? from_f16(h.v[k]) : from_bf16(h.v[k]);
    return f;
}

static __device__ __forceinline__ void store_as(void *y, int type, int64_t i, quad f,
                                                const int width)
{
    uint16_t *to = (uint16_t *)y + i;
    halves4   h;

    if (type == AS_F32) {
        store_f((float *)y + i, f, width);
        return;
    }
    EACH_VALUE(k, width) h.v[k] = type == AS_F16 ? to_f16(f.v[k]) : to_bf16(f.v[k]);
    if (width == 4)
        *(halves4 *)to = h;
    else
        *to = h.v[0];
}

static __device__ __forceinline__ void cast(void *to, int to_type, const void *from, int from_type,
                                            int64_t groups, int add, const int width)
{
    EACH(j, groups)
    {
        int64_t i = j * width;
        quad    f = load_as(from, from_type, i, width), old;

        if (add) {
            old = load_as(to, to_type, i, width);
            EACH_VALUE(k, width) f.v[k] += old.v[k];
        }
        store_as(to, to_type, i, f, width);
    }
}

KERNEL(cast_accumulate)
(void *to, int to_type, const void *from, int from_type, int64_t groups, int add, int width)
{
    DISPATCH_WIDTH(width, cast, to, to_type, from, from_type, groups, add);
}

#ifdef KD_HOST

static_assert(AS_F32 == (int)KDAS_F32 && AS_BF16 == (int)KDAS_BF16 && AS_F16 == (int)KDAS_F16,
              "types");

static kdas_status launch_cast(kdas_device *device, void *to, int32_t to_type, const void *from,
                               int32_t from_type, int64_t n, int add)
{
    int width = width_of(n, to, from, NULL, NULL);

    return LAUNCH_EACH(device, cast_accumulate, n / width, to, to_type, from, from_type, n / width,
                       add, width);
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    return launch_cast(device, call->out, call->node->out.dtype, call->in[0],
                       call->node->in[0].dtype, elements(&call->node->out), 0);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    if (!call->din[0]) return KDAS_OK;
    return launch_cast(device, call->din[0], call->node->in[0].dtype, call->dout,
                       call->node->out.dtype, elements(&call->node->out), adds(call, 0));
}

KD_OP(cast, NULL, NULL, NULL, forward, backward)

#endif
