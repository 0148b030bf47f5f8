/* standardize.c - normalises each channel over N, H and W to mean 0 and deviation 1: y = (x -
 * mean) / (std + eps), with std^2 = sum (x - mean)^2 / (M - 1) over the M values of a channel.
 * std is 0 where M is 1. saved: for each channel r = 1 / (std + eps) and k = (std + eps) / ((M -
 * 1) std), 0 where std is 0. */
#include "op/op_util.h"

typedef struct channel_stat {
    double r, k;
} channel_stat;

static kdas_status standardize_infer(kdas_node_desc *node)
{
    const kdas_standardize_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!(attr->eps > 0 && isfinite(attr->eps)))
        return kd_fail(KDAS_EINVAL, "standardize: eps %g is not positive", (double)attr->eps);
    return KDAS_OK;
}

static kdas_status standardize_prepare(kdas_device *device, const kdas_node_desc *node,
                                       kdas_plan *plan)
{
    (void)device;
    plan->saved = (size_t)node->out.dim[3] * sizeof(channel_stat);
    return KDAS_OK;
}

static kdas_status standardize_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_standardize_attr *attr = call->node->attr;
    const float                 *x    = call->in[0];
    float                       *y    = call->out;
    channel_stat                *stat = call->saved;
    int64_t rows = kd_rows(&call->node->out), channels = call->node->out.dim[3];

    (void)device;
    for (int64_t c = 0; c < channels; c++) {
        double mean = 0, squares = 0, std;

        for (int64_t r = 0; r < rows; r++)
            mean += x[r * channels + c];
        mean /= (double)rows;
        for (int64_t r = 0; r < rows; r++)
            squares += (x[r * channels + c] - mean) * (x[r * channels + c] - mean);
        std       = sqrt(squares / (double)KD_MAX(rows - 1, 1));
        stat[c].r = 1 / (std + attr->eps);
        stat[c].k = std > 0 ? (std + attr->eps) / ((double)(rows - 1) * std) : 0;
        for (int64_t r = 0; r < rows; r++)
            y[r * channels + c] = (float)((x[r * channels + c] - mean) * stat[c].r);
    }
    return KDAS_OK;
}

/* dx = r (dy - mean(dy) - y k sum(dy y)). */
static kdas_status standardize_backward(kdas_device *device, const kdas_call *call)
{
    const float        *y = call->out, *dy = call->dout;
    float              *dx   = call->din[0];
    const channel_stat *stat = call->saved;
    int64_t             rows = kd_rows(&call->node->out), channels = call->node->out.dim[3];

    (void)device;
    for (int64_t c = 0; c < channels; c++) {
        double dy_sum = 0, dy_y = 0;

        for (int64_t i = c; i < rows * channels; i += channels) {
            dy_sum += dy[i];
            dy_y += (double)dy[i] * y[i];
        }
        for (int64_t i = c; i < rows * channels; i += channels)
            dx[i] += (float)(stat[c].r * (dy[i] - dy_sum / (double)rows - y[i] * stat[c].k * dy_y));
    }
    return KDAS_OK;
}

const kd_op kd_op_standardize = {
    .name       = "standardize",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_standardize_attr),
    .infer      = standardize_infer,
    .ref        = { .op       = KDAS_OP_STANDARDIZE,
                    .needs    = KDAS_NEEDS_OUT,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .prepare  = standardize_prepare,
                    .forward  = standardize_forward,
                    .backward = standardize_backward },
};
