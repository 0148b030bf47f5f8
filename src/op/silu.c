/* silu.c - x sigmoid(x), also called swish. */
#include "op/op_util.h"

static kdas_status silu_forward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0];
    float       *y = call->out;
    int64_t      n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(x[i] * kd_sigmoid_of(x[i]));
    return KDAS_OK;
}

static double slope_at(double x)
{
    double s = kd_sigmoid_of(x);

    return s * (1 + x * (1 - s));
}

static kdas_status silu_backward(kdas_device *device, const kdas_call *call)
{
    const float *x  = call->in[0];
    const float *dy = call->dout;
    float       *dx = call->din[0];
    int64_t      n  = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += (float)(dy[i] * slope_at(x[i]));
    return KDAS_OK;
}

const kd_op kd_op_silu = {
    .name       = "silu",
    .min_inputs = 1,
    .max_inputs = 1,

    .infer = kd_infer_same,
    .ref   = { .op       = KDAS_OP_SILU,
               .needs    = KDAS_NEEDS_IN(0),
               .flags    = KDAS_KERNEL_INPLACE,
               .forward  = silu_forward,
               .backward = silu_backward },
};
