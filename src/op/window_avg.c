/* window_avg.c - the mean of each channel in a sliding window. The padding counts as zeros, or does not
 * count. */
#include "op/op_util.h"

/* What one pixel of the window counts. */
static double share_of(const kdas_node_desc *node, kd_window w)
{
    const kdas_window_attr *a = node->attr;

    return 1.0 / (double)(a->padded ? w.whole : (w.bottom - w.top) * (w.right - w.left));
}

static kdas_status window_avg_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node  = call->node;
    int64_t               width = node->in[0].dim[2], channels = node->out.dim[3];
    float                *y = call->out;

    (void)device;
    for (int64_t r = 0; r < kd_rows(&node->out); r++, y += channels) {
        kd_window    w = kd_window_of(node, r);
        const float *x = (const float *)call->in[0] + w.first;

        for (int64_t c = 0; c < channels; c++) {
            double sum = 0;

            for (int64_t i = w.top; i < w.bottom; i++)
                for (int64_t j = w.left; j < w.right; j++)
                    sum += x[(i * width + j) * channels + c];
            y[c] = (float)(sum * share_of(node, w));
        }
    }
    return KDAS_OK;
}

static kdas_status window_avg_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node  = call->node;
    int64_t               width = node->in[0].dim[2], channels = node->out.dim[3];
    const float          *dy = call->dout;

    (void)device;
    for (int64_t r = 0; r < kd_rows(&node->out); r++, dy += channels) {
        kd_window w     = kd_window_of(node, r);
        float    *dx    = (float *)call->din[0] + w.first;
        float     share = (float)share_of(node, w);

        for (int64_t i = w.top; i < w.bottom; i++)
            for (int64_t j = w.left; j < w.right; j++)
                for (int64_t c = 0; c < channels; c++)
                    dx[(i * width + j) * channels + c] += dy[c] * share;
    }
    return KDAS_OK;
}

/* thop counts one operation for each output. */
static double window_avg_thop(const kdas_node_desc *node)
{
    return (double)kd_elements(&node->out);
}

const kd_op kd_op_window_avg = {
    .name       = "window_avg",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_window_attr),
    .infer      = kd_infer_window,
    .thop       = window_avg_thop,
    .ref        = { .op       = KDAS_OP_WINDOW_AVG,
                    .forward  = window_avg_forward,
                    .backward = window_avg_backward },
};
