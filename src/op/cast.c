/* cast.c - the same values in another dtype: f32 to bf16, its upper 16 bits rounded to nearest and ties to
 * even, or back. */
#include "op/op_util.h"

static float read_as(const void *x, int32_t dtype, int64_t i)
{
    uint32_t bits;
    float    f;

    if (dtype == KDAS_F32) return ((const float *)x)[i];
    bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void write_as(void *y, int32_t dtype, int64_t i, float f)
{
    uint32_t bits, rest;

    if (dtype == KDAS_F32) {
        ((float *)y)[i] = f;
        return;
    }
    memcpy(&bits, &f, sizeof bits);
    rest = bits & 0xffffu;
    bits >>= 16;
    if (isnan(f))
        bits |= 0x40u; /* quiet, and not infinity */
    else if (rest > 0x8000u || (rest == 0x8000u && (bits & 1u)))
        bits++;
    ((uint16_t *)y)[i] = (uint16_t)bits;
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
    if (a->dtype != KDAS_F32 && a->dtype != KDAS_BF16)
        return kd_fail(KDAS_EINVAL, "cast: to type %d, which is neither f32 nor bf16",
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
