/* center.c - x minus its mean over the last axis. */
#include "op/op_util.h"

static double row_mean(const float *x, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

static kdas_status center_forward(kdas_device *device, const kdas_call *call)
{
    const float *x    = call->in[0];
    float       *y    = call->out;
    int64_t      rows = kd_rows(&call->node->out), n = call->node->out.dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        double mean = row_mean(x, n);

        for (int64_t i = 0; i < n; i++)
            y[i] = (float)(x[i] - mean);
    }
    return KDAS_OK;
}

/* The op is its own transpose, so the gradient is centered too. */
static kdas_status center_backward(kdas_device *device, const kdas_call *call)
{
    const float *dy   = call->dout;
    float       *dx   = call->din[0];
    int64_t      rows = kd_rows(&call->node->out), n = call->node->out.dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, dx += n, dy += n) {
        double mean = row_mean(dy, n);

        for (int64_t i = 0; i < n; i++)
            dx[i] += (float)(dy[i] - mean);
    }
    return KDAS_OK;
}

const kd_op kd_op_center = {
    .name       = "center",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = kd_infer_same,
    .ref        = { .op       = KDAS_OP_CENTER,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = center_forward,
                    .backward = center_backward },
};
