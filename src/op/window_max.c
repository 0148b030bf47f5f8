/* window_max.c - the largest value of each channel in a sliding window. Of equal values the first in
 * row order receives the gradient. */
#include "op/op_util.h"

/* Offset in x of the largest value of channel c in window w. A NaN counts as the largest. */
static int64_t find_largest(const kdas_node_desc *node, const float *x, kd_window w, int64_t c)
{
    int64_t width = node->in[0].dim[2], channels = node->in[0].dim[3], best = -1;

    for (int64_t i = w.top; i < w.bottom; i++)
        for (int64_t j = w.left; j < w.right; j++) {
            int64_t at = w.first + (i * width + j) * channels + c;

            if (best < 0 || x[at] > x[best] || (isnan(x[at]) && !isnan(x[best]))) best = at;
        }
    return best;
}

static kdas_status window_max_forward(kdas_device *device, const kdas_call *call)
{
    const float *x        = call->in[0];
    float       *y        = call->out;
    int64_t      channels = call->node->out.dim[3], n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[find_largest(call->node, x, kd_window_of(call->node, i / channels), i % channels)];
    return KDAS_OK;
}

static kdas_status window_max_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *dy = call->dout;
    float       *dx       = call->din[0];
    int64_t      channels = call->node->out.dim[3], n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++) {
        kd_window w = kd_window_of(call->node, i / channels);

        dx[find_largest(call->node, x, w, i % channels)] += dy[i];
    }
    return KDAS_OK;
}

const kd_op kd_op_window_max = {
    .name       = "window_max",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_window_attr),
    .infer      = kd_infer_window,
    .ref        = { .op       = KDAS_OP_WINDOW_MAX,
                    .needs    = KDAS_NEEDS_IN(0),
                    .forward  = window_max_forward,
                    .backward = window_max_backward },
};
