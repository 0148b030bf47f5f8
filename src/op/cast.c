/* cast.c - converts values to another dtype: f32 to bf16 or f16, or back. Rounds to nearest,
 * ties to even. */
#include "op/op_util.h"

static uint32_t bits_of(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* bf16: the upper 16 bits of a float. */
static uint16_t to_bf16(float f)
{
    uint32_t bits = bits_of(f), rest = bits & 0xffffu;

    bits >>= 16;
    if (isnan(f)) return (uint16_t)(bits | 0x40u); /* a quiet NaN, not infinity */
    return (uint16_t)(bits + (rest > 0x8000u || (rest == 0x8000u && (bits & 1u))));
}

/* f16: 5 bits of exponent, 10 of fraction. Below 2^-14 the step is 2^-24. From 65520 on the
 * result is infinity. */
static uint16_t to_f16(float f)
{
    uint32_t sign = bits_of(f) >> 16 & 0x8000u, bits = bits_of(f) & 0x7fffffffu;

    if (isnan(f)) return (uint16_t)(sign | 0x7e00u);
    if (bits >= bits_of(65520.0f)) return (uint16_t)(sign | 0x7c00u);
    if (bits < bits_of(0x1p-14f)) /* adding 0.5 leaves the multiple of 2^-24 in the low bits */
        return (uint16_t)(sign | (bits_of(float_of(bits) + 0.5f) - bits_of(0.5f)));
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | ((bits >> 13) - (112u << 10)));
}

static float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;

    if (rest >= 0x7c00u) return float_of(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest < 0x400u) return copysignf((float)rest * 0x1p-24f, float_of(sign | 0x3f800000u));
    return float_of(sign | (rest + (112u << 10)) << 13);
}

static float read_as(const void *x, int32_t dtype, int64_t i)
{
    if (dtype == KDAS_F32) return ((const float *)x)[i];
    if (dtype == KDAS_F16) return from_f16(((const uint16_t *)x)[i]);
    return float_of((uint32_t)((const uint16_t *)x)[i] << 16);
}

static void write_as(void *y, int32_t dtype, int64_t i, float f)
{
    if (dtype == KDAS_F32)
        ((float *)y)[i] = f;
    else
        ((uint16_t *)y)[i] = dtype == KDAS_F16 ? to_f16(f) : to_bf16(f);
}

static kdas_status cast_forward(kdas_device *device, const kdas_call *call)
{
    int32_t to = call->node->out.dtype, from = call->node->in[0].dtype;

    (void)device;
    for (int64_t i = 0; i < kd_elements(&call->node->out); i++)
        write_as(call->out, to, i, read_as(call->in[0], from, i));
    return KDAS_OK;
}

static kdas_status cast_backward(kdas_device *device, const kdas_call *call)
{
    int32_t to = call->node->in[0].dtype, from = call->node->out.dtype;

    (void)device;
    for (int64_t i = 0; i < kd_elements(&call->node->out); i++)
        write_as(call->din[0], to, i, read_as(call->din[0], to, i) + read_as(call->dout, from, i));
    return KDAS_OK;
}

static kdas_status cast_infer(kdas_node_desc *node)
{
    const kdas_cast_attr *a = node->attr;

    KD_RETURN(kd_op_check(node));
    if (a->dtype != KDAS_F32 && a->dtype != KDAS_BF16 && a->dtype != KDAS_F16)
        return kd_fail(KDAS_EINVAL, "cast: to type %d, which is not f32, bf16 or f16",
                       (int)a->dtype);
    node->out       = node->in[0];
    node->out.dtype = a->dtype;
    return KDAS_OK;
}

const kd_op kd_op_cast = {
    .name       = "cast",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_cast_attr),
    .infer      = cast_infer,
    .ref        = { .op = KDAS_OP_CAST, .forward = cast_forward, .backward = cast_backward },
};
