/* channel_max.c - the largest channel of each pixel: (N,H,W,C) -> (N,H,W,1). Of equal channels
 * the first receives the gradient. */
#include "op/op_util.h"

static kdas_status channel_max_infer(kdas_node_desc *node)
{
    const int64_t *x = node->in[0].dim;

    KD_RETURN(kd_op_check(node));
    return kd_op_output(node, x[0], x[1], x[2], 1);
}

/* A NaN counts as the largest. */
static int64_t find_largest(const float *x, int64_t n)
{
    int64_t best = 0;

    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best] || (isnan(x[i]) && !isnan(x[best]))) best = i;
    return best;
}

static kdas_status channel_max_forward(kdas_device *device, const kdas_call *call)
{
    const float *x    = call->in[0];
    float       *y    = call->out;
    int64_t      rows = kd_rows(&call->node->out), channels = call->node->in[0].dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += channels)
        y[r] = x[find_largest(x, channels)];
    return KDAS_OK;
}

static kdas_status channel_max_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *dy = call->dout;
    float       *dx   = call->din[0];
    int64_t      rows = kd_rows(&call->node->out), channels = call->node->in[0].dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += channels, dx += channels)
        dx[find_largest(x, channels)] += dy[r];
    return KDAS_OK;
}

const kd_op kd_op_channel_max = {
    .name       = "channel_max",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = channel_max_infer,
    .ref        = { .op       = KDAS_OP_CHANNEL_MAX,
                    .needs    = KDAS_NEEDS_IN(0),
                    .forward  = channel_max_forward,
                    .backward = channel_max_backward },
};
