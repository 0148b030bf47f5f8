/* batch_norm.c - normalises each channel over N, H and W: y = (x - mean) / sqrt(var + eps) g +
 * b. x (N,H,W,C), g, b, mean, var (C each). Training uses the batch statistics and moves the
 * running ones towards them. Otherwise the running statistics are used, and are constants in the
 * gradient. saved: for each channel the mean and the reciprocal standard deviation that forward
 * used. */
#include "op/op_util.h"

typedef struct channel_stat {
    double mean, scale;
} channel_stat;

static kdas_status batch_norm_infer(kdas_node_desc *node)
{
    const kdas_norm_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!(attr->eps > 0) || !(attr->momentum >= 0 && attr->momentum <= 1))
        return kd_fail(KDAS_EINVAL, "batch_norm: eps %g or momentum %g is out of range",
                       (double)attr->eps, (double)attr->momentum);
    return kd_op_check_vectors(node, 1, 4, node->out.dim[3]);
}

static kdas_status batch_norm_prepare(kdas_device *device, const kdas_node_desc *node,
                                      kdas_plan *plan)
{
    (void)device;
    plan->saved = (size_t)node->out.dim[3] * sizeof(channel_stat);
    return KDAS_OK;
}

/* Batch statistics of channel c. The running ones, *mean and *var, move by `momentum`. */
static channel_stat batch_statistics(const kdas_node_desc *node, const float *x, int64_t c,
                                     float *mean, float *var)
{
    const kdas_norm_attr *attr = node->attr;
    int64_t               rows = kd_rows(&node->out), channels = node->out.dim[3];
    double                m = 0, v = 0, momentum = attr->momentum, unbiased;

    for (int64_t r = 0; r < rows; r++)
        m += x[r * channels + c];
    m /= (double)rows;
    for (int64_t r = 0; r < rows; r++)
        v += (x[r * channels + c] - m) * (x[r * channels + c] - m);
    unbiased = v / (double)KD_MAX(rows - 1, 1);
    if (isfinite(m) && isfinite(unbiased)) { /* a bad batch must not spoil the statistics */
        *mean = (float)((1 - momentum) * *mean + momentum * m);
        *var  = (float)((1 - momentum) * *var + momentum * unbiased);
    }
    return (channel_stat){ m, 1 / sqrt(v / (double)rows + attr->eps) };
}

static kdas_status batch_norm_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const kdas_norm_attr *attr = node->attr;
    const float          *x = call->in[0], *g = call->in[1], *b = call->in[2];
    float                *mean = call->in[3], *var = call->in[4], *y = call->out;
    channel_stat         *stat = call->saved;
    int64_t               rows = kd_rows(&node->out), channels = node->out.dim[3];

    (void)device;
    for (int64_t c = 0; c < channels; c++)
        stat[c] = node->flags & KDAS_NODE_TRAIN
                      ? batch_statistics(node, x, c, &mean[c], &var[c])
                      : (channel_stat){ mean[c], 1 / sqrt((double)var[c] + attr->eps) };
    for (int64_t r = 0; r < rows; r++, x += channels, y += channels)
        for (int64_t c = 0; c < channels; c++)
            y[c] = (float)((x[c] - stat[c].mean) * stat[c].scale * g[c] + b[c]);
    return KDAS_OK;
}

/* With z = (x - mean) scale: dx = g scale (dy - mean(dy) - z mean(dy z)). Without the means when
 * the statistics are constants. */
static kdas_status batch_norm_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const float          *x = call->in[0], *g = call->in[1], *dy = call->dout;
    float                *dx = call->din[0], *dg = call->din[1], *db = call->din[2];
    const channel_stat   *stat = call->saved;
    int64_t               rows = kd_rows(&node->out), channels = node->out.dim[3];
    double                share = node->flags & KDAS_NODE_TRAIN ? 1.0 / (double)rows : 0;

    (void)device;
    for (int64_t c = 0; c < channels; c++) {
        double dy_sum = 0, dyz_sum = 0;

        for (int64_t i = c; i < rows * channels; i += channels) {
            dy_sum += dy[i];
            dyz_sum += dy[i] * (x[i] - stat[c].mean) * stat[c].scale;
        }
        for (int64_t i = c; dx && i < rows * channels; i += channels) {
            double z = (x[i] - stat[c].mean) * stat[c].scale;

            dx[i] += (float)(g[c] * stat[c].scale * (dy[i] - share * dy_sum - share * z * dyz_sum));
        }
        if (dg) dg[c] += (float)dyz_sum;
        if (db) db[c] += (float)dy_sum;
    }
    return KDAS_OK;
}

static double batch_norm_thop(const kdas_node_desc *node)
{
    return 4.0 * (double)kd_elements(&node->out);
}

static double batch_norm_fvcore(const kdas_node_desc *node)
{
    return 2.0 * (double)kd_elements(&node->out);
}

const kd_op kd_op_batch_norm = {
    .name       = "batch_norm",
    .min_inputs = 5,
    .max_inputs = 5,
    .state      = 1u << 3 | 1u << 4,
    .attr_size  = sizeof(kdas_norm_attr),
    .infer      = batch_norm_infer,
    .thop       = batch_norm_thop,
    .fvcore     = batch_norm_fvcore,
    .ref        = { .op       = KDAS_OP_BATCH_NORM,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .flags    = KDAS_KERNEL_INPLACE,
                    .prepare  = batch_norm_prepare,
                    .forward  = batch_norm_forward,
                    .backward = batch_norm_backward },
};
