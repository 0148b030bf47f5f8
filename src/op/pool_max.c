/* pool_max.c - the largest value of each channel in an image: (N,H,W,C) -> (N,1,1,C). Of equal
 * values the first in row order receives the gradient. */
#include "op/op_util.h"

static kdas_status pool_max_infer(kdas_node_desc *node)
{
    KD_RETURN(kd_op_check(node));
    return kd_op_output(node, node->in[0].dim[0], 1, 1, node->in[0].dim[3]);
}

/* Offset in x of the largest value of channel c of image n. A NaN counts as the largest. */
static int64_t find_largest(const kdas_node_desc *node, const float *x, int64_t n, int64_t c)
{
    int64_t channels = node->in[0].dim[3], size = kd_image_elements(&node->in[0]);
    int64_t best = n * size + c;

    for (int64_t i = best; i < (n + 1) * size; i += channels)
        if (x[i] > x[best] || (isnan(x[i]) && !isnan(x[best]))) best = i;
    return best;
}

static kdas_status pool_max_forward(kdas_device *device, const kdas_call *call)
{
    const float *x        = call->in[0];
    float       *y        = call->out;
    int64_t      channels = call->node->out.dim[3], n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[find_largest(call->node, x, i / channels, i % channels)];
    return KDAS_OK;
}

static kdas_status pool_max_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *dy = call->dout;
    float       *dx       = call->din[0];
    int64_t      channels = call->node->out.dim[3], n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[find_largest(call->node, x, i / channels, i % channels)] += dy[i];
    return KDAS_OK;
}

const kd_op kd_op_pool_max = {
    .name       = "pool_max",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = pool_max_infer,
    .ref        = { .op       = KDAS_OP_POOL_MAX,
                    .needs    = KDAS_NEEDS_IN(0),
                    .forward  = pool_max_forward,
                    .backward = pool_max_backward },
};
