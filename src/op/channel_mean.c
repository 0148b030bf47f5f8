/* channel_mean.c - mean over the channels of each pixel: (N,H,W,C) -> (N,H,W,1). */
#include "op/op_util.h"

static kdas_status channel_mean_infer(kdas_node_desc *node)
{
    const int64_t *x = node->in[0].dim;

    KD_RETURN(kd_op_check(node));
    return kd_op_output(node, x[0], x[1], x[2], 1);
}

static kdas_status channel_mean_forward(kdas_device *device, const kdas_call *call)
{
    const float *x    = call->in[0];
    float       *y    = call->out;
    int64_t      rows = kd_rows(&call->node->out), channels = call->node->in[0].dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < channels; c++)
            sum += x[r * channels + c];
        y[r] = (float)(sum / (double)channels);
    }
    return KDAS_OK;
}

static kdas_status channel_mean_backward(kdas_device *device, const kdas_call *call)
{
    const float *dy   = call->dout;
    float       *dx   = call->din[0];
    int64_t      rows = kd_rows(&call->node->out), channels = call->node->in[0].dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < channels; c++)
            dx[r * channels + c] += dy[r] / (float)channels;
    return KDAS_OK;
}

const kd_op kd_op_channel_mean = {
    .name       = "channel_mean",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = channel_mean_infer,
    .ref        = { .op       = KDAS_OP_CHANNEL_MEAN,
                    .forward  = channel_mean_forward,
                    .backward = channel_mean_backward },
};
