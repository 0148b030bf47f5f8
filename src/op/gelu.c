/* gelu.c - x times the cumulative function of the normal distribution: x/2 (1 + erf(x / sqrt
 * 2)). */
#include "op/op_util.h"

static double normal_cdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
static double normal_pdf(double x) { return 0.39894228040143267794 * exp(-0.5 * x * x); }

static kdas_status gelu_forward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0];
    float       *y = call->out;
    int64_t      n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(x[i] * normal_cdf(x[i]));
    return KDAS_OK;
}

static kdas_status gelu_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *dy = call->dout;
    float       *dx = call->din[0];
    int64_t      n  = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += (float)(dy[i] * (normal_cdf(x[i]) + x[i] * normal_pdf(x[i])));
    return KDAS_OK;
}

const kd_op kd_op_gelu = {
    .name       = "gelu",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = kd_infer_same,
    .ref        = { .op       = KDAS_OP_GELU,
                    .needs    = KDAS_NEEDS_IN(0),
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = gelu_forward,
                    .backward = gelu_backward },
};
