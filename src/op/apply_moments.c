/* apply_moments.c - the second half of a batch norm: y = (x - mean) / sqrt(var + eps) g + b with the moments m, which
 * may be those of more images than x has. x (N,H,W,C), m (1,1,1,2C+1): means, biased variances, number of values; g, b
 * and the running statistics C each. In training the running ones move towards m. */
#include "op/op_util.h"

static kdas_status apply_moments_infer(kdas_node_desc *node)
{
    const kdas_norm_attr *attr     = node->attr;
    int64_t               channels = node->in[0].dim[3];

    KD_RETURN(kd_infer_same(node));
    if (!(attr->eps > 0) || !(attr->momentum >= 0 && attr->momentum <= 1))
        return kd_fail(KDAS_EINVAL, "apply_moments: eps %g or momentum %g is out of range",
                       (double)attr->eps, (double)attr->momentum);
    if (kd_rows(&node->in[1]) != 1 || node->in[1].dim[3] != 2 * channels + 1)
        return kd_fail(KDAS_ESHAPE, "apply_moments: %s are not the moments of %lld channels",
                       kd_dims_text(&node->in[1]), (long long)channels);
    return kd_op_check_vectors(node, 2, 5, channels);
}

/* A bad batch must not spoil the statistics. */
static void move_running(const kdas_node_desc *node, const float *m, float *mean, float *var)
{
    int64_t channels = node->out.dim[3];
    double  momentum = ((const kdas_norm_attr *)node->attr)->momentum, count = m[2 * channels];

    for (int64_t c = 0; c < channels; c++) {
        double unbiased = m[channels + c] * (count > 1 ? count / (count - 1) : 1);

        if (!isfinite(m[c]) || !isfinite(unbiased)) continue;
        mean[c] = (float)((1 - momentum) * mean[c] + momentum * m[c]);
        var[c]  = (float)((1 - momentum) * var[c] + momentum * unbiased);
    }
}

static double scale_of(const kdas_node_desc *node, const float *m, int64_t c)
{
    return 1 / sqrt((double)m[node->out.dim[3] + c] + ((const kdas_norm_attr *)node->attr)->eps);
}

static kdas_status apply_moments_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const float          *x = call->in[0], *m = call->in[1], *g = call->in[2], *b = call->in[3];
    float                *y    = call->out;
    int64_t               rows = kd_rows(&node->out), channels = node->out.dim[3];

    (void)device;
    for (int64_t c = 0; c < channels; c++) {
        double scale = scale_of(node, m, c);

        for (int64_t i = c; i < rows * channels; i += channels)
            y[i] = (float)(((double)x[i] - m[c]) * scale * g[c] + b[c]);
    }
    if (node->flags & KDAS_NODE_TRAIN) move_running(node, m, call->in[4], call->in[5]);
    return KDAS_OK;
}

/* With z = (x - mean) scale: dx = g scale dy, dmean = -g scale sum(dy), dvar = -g scale^2 sum(dy z) / 2. */
static kdas_status apply_moments_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const float          *x = call->in[0], *m = call->in[1], *g = call->in[2], *dy = call->dout;
    float                *dx = call->din[0], *dm = call->din[1], *dg = call->din[2];
    float                *db   = call->din[3];
    int64_t               rows = kd_rows(&node->out), channels = node->out.dim[3];

    (void)device;
    for (int64_t c = 0; c < channels; c++) {
        double dy_sum = 0, dyz_sum = 0, scale = scale_of(node, m, c);

        for (int64_t i = c; i < rows * channels; i += channels) {
            dy_sum += dy[i];
            dyz_sum += dy[i] * ((double)x[i] - m[c]) * scale;
            if (dx) dx[i] += (float)(g[c] * scale * dy[i]);
        }
        if (dm) dm[c] += (float)(-g[c] * scale * dy_sum);
        if (dm) dm[channels + c] += (float)(-g[c] * scale * scale * dyz_sum / 2);
        if (dg) dg[c] += (float)dyz_sum;
        if (db) db[c] += (float)dy_sum;
    }
    return KDAS_OK;
}

static double apply_moments_thop(const kdas_node_desc *node)
{
    return 4.0 * (double)kd_elements(&node->out);
}

static double apply_moments_fvcore(const kdas_node_desc *node)
{
    return 2.0 * (double)kd_elements(&node->out);
}

const kd_op kd_op_apply_moments = {
    .name       = "apply_moments",
    .min_inputs = 6,
    .max_inputs = 6,
    .state      = 1u << 4 | 1u << 5,
    .wide       = KDAS_NEEDS_IN(1),
    .attr_size  = sizeof(kdas_norm_attr),
    .infer      = apply_moments_infer,
    .thop       = apply_moments_thop,
    .fvcore     = apply_moments_fvcore,
    .ref        = { .op       = KDAS_OP_APPLY_MOMENTS,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1) | KDAS_NEEDS_IN(2),
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = apply_moments_forward,
                    .backward = apply_moments_backward },
};
