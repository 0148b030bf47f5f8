/* sigmoid.c - 1 / (1 + exp(-x)). */
#include "op/op_util.h"

static kdas_status sigmoid_forward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0];
    float       *y = call->out;
    int64_t      n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)kd_sigmoid_of(x[i]);
    return KDAS_OK;
}

static kdas_status sigmoid_backward(kdas_device *device, const kdas_call *call)
{
    const float *y = call->out, *dy = call->dout;
    float       *dx = call->din[0];
    int64_t      n  = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * y[i] * (1 - y[i]);
    return KDAS_OK;
}

const kd_op kd_op_sigmoid = {
    .name       = "sigmoid",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = kd_infer_same,
    .ref        = { .op       = KDAS_OP_SIGMOID,
                    .needs    = KDAS_NEEDS_OUT,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = sigmoid_forward,
                    .backward = sigmoid_backward },
};
