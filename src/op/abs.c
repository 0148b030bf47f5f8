/* abs.c - |x|. At 0 there is no gradient. */
#include "op/op_util.h"

static kdas_status abs_forward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0];
    float       *y = call->out;
    int64_t      n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = fabsf(x[i]);
    return KDAS_OK;
}

static kdas_status abs_backward(kdas_device *device, const kdas_call *call)
{
    const float *x  = call->in[0];
    const float *dy = call->dout;
    float       *dx = call->din[0];
    int64_t      n  = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += x[i] > 0 ? dy[i] : x[i] < 0 ? -dy[i] : 0;
    return KDAS_OK;
}

const kd_op kd_op_abs = {
    .name       = "abs",
    .min_inputs = 1,
    .max_inputs = 1,

    .infer = kd_infer_same,
    .ref   = { .op       = KDAS_OP_ABS,
               .needs    = KDAS_NEEDS_IN(0),
               .flags    = KDAS_KERNEL_INPLACE,
               .forward  = abs_forward,
               .backward = abs_backward },
};
