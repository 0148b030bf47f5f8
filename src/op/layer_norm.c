/* layer_norm.c - normalises each row over the last axis to mean 0 and variance 1, times g, plus
 * b. x (N,H,W,C), g (C), b (C). With z = (x - mean) / std and e = g dy: dx = (e - mean(e) - z
 * mean(e z)) / std. */
#include "op/op_util.h"

static kdas_status layer_norm_infer(kdas_node_desc *node)
{
    const kdas_norm_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!(attr->eps > 0))
        return kd_fail(KDAS_EINVAL, "layer_norm: eps %g is not positive", (double)attr->eps);
    return kd_op_check_vectors(node, 1, 2, node->out.dim[3]);
}

/* Mean and reciprocal standard deviation (biased variance) of a row. */
static void row_statistics(const float *x, int64_t n, double eps, double *mean, double *scale)
{
    double sum = 0, squares = 0;

    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - *mean) * (x[i] - *mean);
    *scale = 1 / sqrt(squares / (double)n + eps);
}

static kdas_status layer_norm_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_norm_attr *attr = call->node->attr;
    const float          *x = call->in[0], *g = call->in[1], *b = call->in[2];
    float                *y    = call->out;
    int64_t               rows = kd_rows(&call->node->out), n = call->node->out.dim[3];
    double                mean, scale;

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        row_statistics(x, n, attr->eps, &mean, &scale);
        for (int64_t i = 0; i < n; i++)
            y[i] = (float)((x[i] - mean) * scale * g[i] + b[i]);
    }
    return KDAS_OK;
}

static kdas_status layer_norm_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_norm_attr *attr = call->node->attr;
    const float          *x = call->in[0], *g = call->in[1], *dy = call->dout;
    float                *dx = call->din[0], *dg = call->din[1], *db = call->din[2];
    int64_t               rows = kd_rows(&call->node->out), n = call->node->out.dim[3];
    double                mean, scale;

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += n, dy += n) {
        double e_mean = 0, ez_mean = 0;

        row_statistics(x, n, attr->eps, &mean, &scale);
        for (int64_t i = 0; i < n; i++) {
            double z = (x[i] - mean) * scale, e = (double)g[i] * dy[i];

            e_mean += e / (double)n;
            ez_mean += e * z / (double)n;
            if (dg) dg[i] += (float)(dy[i] * z);
            if (db) db[i] += dy[i];
        }
        for (int64_t i = 0; dx && i < n; i++) {
            double z = (x[i] - mean) * scale, e = (double)g[i] * dy[i];

            dx[r * n + i] += (float)((e - e_mean - z * ez_mean) * scale);
        }
    }
    return KDAS_OK;
}

static double layer_norm_thop(const kdas_node_desc *node)
{
    return 4.0 * (double)kd_elements(&node->out);
}

static double layer_norm_fvcore(const kdas_node_desc *node)
{
    return 5.0 * (double)kd_elements(&node->out);
}

const kd_op kd_op_layer_norm = {
    .name       = "layer_norm",
    .min_inputs = 3,
    .max_inputs = 3,
    .attr_size  = sizeof(kdas_norm_attr),
    .infer      = layer_norm_infer,
    .thop       = layer_norm_thop,
    .fvcore     = layer_norm_fvcore,
    .ref        = { .op       = KDAS_OP_LAYER_NORM,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = layer_norm_forward,
                    .backward = layer_norm_backward },
};
