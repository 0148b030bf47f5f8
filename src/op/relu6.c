/* relu6.c - min(max(x, 0), 6), the activation of mobile networks. */
#include "op/op_util.h"

static kdas_status relu6_forward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0];
    float       *y = call->out;
    int64_t      n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] < 0 ? 0 : x[i] > 6 ? 6 : x[i]; /* a NaN stays a NaN */
    return KDAS_OK;
}

static kdas_status relu6_backward(kdas_device *device, const kdas_call *call)
{
    const float *y  = call->out;
    const float *dy = call->dout;
    float       *dx = call->din[0];
    int64_t      n  = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += y[i] > 0 && y[i] < 6 ? dy[i] : 0;
    return KDAS_OK;
}

const kd_op kd_op_relu6 = {
    .name       = "relu6",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = kd_infer_same,
    .ref        = { .op       = KDAS_OP_RELU6,
                    .needs    = KDAS_NEEDS_OUT,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = relu6_forward,
                    .backward = relu6_backward },
};
