/* softmax.c - exp(x) over its sum along the last axis. The largest x is subtracted first. */
#include "op/op_util.h"

static kdas_status softmax_forward(kdas_device *device, const kdas_call *call)
{
    const float *x    = call->in[0];
    float       *y    = call->out;
    int64_t      rows = kd_rows(&call->node->out), n = call->node->out.dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        double largest = x[0], sum = 0;

        for (int64_t i = 1; i < n; i++)
            largest = KD_MAX(largest, (double)x[i]);
        for (int64_t i = 0; i < n; i++)
            sum += exp(x[i] - largest);
        for (int64_t i = 0; i < n; i++) /* y may be x: this is the last read of x[i] */
            y[i] = (float)(exp(x[i] - largest) / sum);
    }
    return KDAS_OK;
}

/* dx = y (dy - sum(y dy)). */
static kdas_status softmax_backward(kdas_device *device, const kdas_call *call)
{
    const float *y = call->out, *dy = call->dout;
    float       *dx   = call->din[0];
    int64_t      rows = kd_rows(&call->node->out), n = call->node->out.dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, y += n, dy += n, dx += n) {
        double sum = 0;

        for (int64_t i = 0; i < n; i++)
            sum += (double)y[i] * dy[i];
        for (int64_t i = 0; i < n; i++)
            dx[i] += (float)(y[i] * (dy[i] - sum));
    }
    return KDAS_OK;
}

const kd_op kd_op_softmax = {
    .name       = "softmax",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = kd_infer_same,
    .ref        = { .op       = KDAS_OP_SOFTMAX,
                    .needs    = KDAS_NEEDS_OUT,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = softmax_forward,
                    .backward = softmax_backward },
};
