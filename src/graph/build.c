/* build.c - the ops as functions that add a node to a graph. A node is added only if all its
 * operands exist. A missing operand has already set the graph's error. */
#include "graph/build.h"

/* The first `needed` operands must not be NULL. Later ones are optional. */
static kd_node *node(kd_graph *g, const kd_op *op, const void *attr, int needed, int inputs,
                     kd_node *const *in)
{
    for (int i = 0; i < needed; i++)
        if (!in[i]) return NULL;
    return kd_apply(g, op, attr, inputs, in);
}

#define IN(...) \
    (kd_node *[]) { __VA_ARGS__ }

/* ---- With parameters ---- */

static kdas_conv_attr conv_attr(int stride, int pad, int pad_end)
{
    return (kdas_conv_attr){ .stride   = stride,
                             .pad      = { pad, pad },
                             .pad_end  = { pad_end, pad_end },
                             .dilation = 1,
                             .groups   = 1 };
}

kd_node *kd_conv2d_padded(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad,
                          int pad_end)
{
    return kd_conv2d_of(g, x, w, b, conv_attr(stride, pad, pad_end));
}

kd_node *kd_conv2d_of(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, kdas_conv_attr attr)
{
    return node(g, &kd_op_conv2d, &attr, 2, b ? 3 : 2, IN(x, w, b));
}

kd_node *kd_deconv2d(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad)
{
    kdas_conv_attr attr = conv_attr(stride, pad, pad);

    return node(g, &kd_op_deconv2d, &attr, 2, b ? 3 : 2, IN(x, w, b));
}

kd_node *kd_dwconv2d_padded(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad,
                            int pad_end)
{
    kdas_conv_attr attr = conv_attr(stride, pad, pad_end);

    return node(g, &kd_op_dwconv2d, &attr, 2, b ? 3 : 2, IN(x, w, b));
}

kd_node *kd_conv2d(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad)
{
    return kd_conv2d_padded(g, x, w, b, stride, pad, pad);
}

kd_node *kd_dwconv2d(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad)
{
    return kd_dwconv2d_padded(g, x, w, b, stride, pad, pad);
}

kd_node *kd_linear(kd_graph *g, kd_node *x, kd_node *w, kd_node *b)
{
    return node(g, &kd_op_linear, NULL, 2, b ? 3 : 2, IN(x, w, b));
}

kd_node *kd_layer_norm(kd_graph *g, kd_node *x, kd_node *gamma, kd_node *beta, float eps)
{
    kdas_norm_attr attr = { .eps = eps };

    return node(g, &kd_op_layer_norm, &attr, 3, 3, IN(x, gamma, beta));
}

kd_node *kd_batch_norm(kd_graph *g, kd_node *x, kd_node *gamma, kd_node *beta, kd_node *mean,
                       kd_node *var, float eps, float momentum)
{
    kdas_norm_attr attr = { .eps = eps, .momentum = momentum };

    return node(g, &kd_op_batch_norm, &attr, 5, 5, IN(x, gamma, beta, mean, var));
}

kd_node *kd_standardize(kd_graph *g, kd_node *x, float eps)
{
    kdas_standardize_attr attr = { .eps = eps };

    return node(g, &kd_op_standardize, &attr, 1, 1, IN(x));
}

kd_node *kd_moments(kd_graph *g, kd_node *x) { return node(g, &kd_op_moments, NULL, 1, 1, IN(x)); }

kd_node *kd_exchange(kd_graph *g, kd_node *moments)
{
    return node(g, &kd_op_exchange, NULL, 1, 1, IN(moments));
}

kd_node *kd_apply_moments(kd_graph *g, kd_node *x, kd_node *moments, kd_node *gamma, kd_node *beta,
                          kd_node *mean, kd_node *var, float eps, float momentum)
{
    kdas_norm_attr attr = { .eps = eps, .momentum = momentum };

    return node(g, &kd_op_apply_moments, &attr, 6, 6, IN(x, moments, gamma, beta, mean, var));
}

/* ---- Elementwise ---- */

kd_node *kd_gelu(kd_graph *g, kd_node *x) { return node(g, &kd_op_gelu, NULL, 1, 1, IN(x)); }
kd_node *kd_relu(kd_graph *g, kd_node *x) { return node(g, &kd_op_relu, NULL, 1, 1, IN(x)); }
kd_node *kd_relu6(kd_graph *g, kd_node *x) { return node(g, &kd_op_relu6, NULL, 1, 1, IN(x)); }
kd_node *kd_sigmoid(kd_graph *g, kd_node *x) { return node(g, &kd_op_sigmoid, NULL, 1, 1, IN(x)); }

kd_node *kd_abs(kd_graph *g, kd_node *x) { return node(g, &kd_op_abs, NULL, 1, 1, IN(x)); }
kd_node *kd_silu(kd_graph *g, kd_node *x) { return node(g, &kd_op_silu, NULL, 1, 1, IN(x)); }

kd_node *kd_leaky_relu(kd_graph *g, kd_node *x, float slope)
{
    kdas_leaky_attr attr = { .slope = slope };

    return node(g, &kd_op_leaky_relu, &attr, 1, 1, IN(x));
}

kd_node *kd_elu(kd_graph *g, kd_node *x, float alpha)
{
    kdas_leaky_attr attr = { .slope = alpha };

    return node(g, &kd_op_elu, &attr, 1, 1, IN(x));
}

kd_node *kd_add(kd_graph *g, kd_node *a, kd_node *b)
{
    return node(g, &kd_op_add, NULL, 2, 2, IN(a, b));
}

kd_node *kd_sub(kd_graph *g, kd_node *a, kd_node *b)
{
    return node(g, &kd_op_sub, NULL, 2, 2, IN(a, b));
}

kd_node *kd_mul(kd_graph *g, kd_node *a, kd_node *b)
{
    return node(g, &kd_op_mul, NULL, 2, 2, IN(a, b));
}

kd_node *kd_scale(kd_graph *g, kd_node *x, float factor, float offset)
{
    kdas_scale_attr attr = { .factor = factor, .offset = offset };

    return node(g, &kd_op_scale, &attr, 1, 1, IN(x));
}

kd_node *kd_drop_path(kd_graph *g, kd_node *x, float p)
{
    kdas_drop_attr attr = { .p = p };

    return node(g, &kd_op_drop_path, &attr, 1, 1, IN(x));
}

kd_node *kd_dropout(kd_graph *g, kd_node *x, float p)
{
    kdas_drop_attr attr = { .p = p };

    return node(g, &kd_op_dropout, &attr, 1, 1, IN(x));
}

kd_node *kd_quantize(kd_graph *g, kd_node *x, kd_node *range, float momentum)
{
    kdas_quantize_attr attr = { .momentum = momentum };

    return node(g, &kd_op_quantize, &attr, 2, 2, IN(x, range));
}

kd_node *kd_recolour(kd_graph *g, kd_node *x, const kdas_recolour_attr *attr)
{
    return node(g, &kd_op_recolour, attr, 1, 1, IN(x));
}

/* ---- Moving data ---- */

enum { CONCAT_MOST = 8 }; /* inputs of the op */

kd_node *kd_concat(kd_graph *g, int n, kd_node *const *nodes)
{
    kd_node *in[CONCAT_MOST];
    int      first = n - CONCAT_MOST + 1; /* so many become one */

    if (n <= CONCAT_MOST) return node(g, &kd_op_concat, NULL, n, n, nodes);
    in[0] = kd_concat(g, first, nodes);
    for (int i = 1; i < CONCAT_MOST; i++)
        in[i] = nodes[first + i - 1];
    return node(g, &kd_op_concat, NULL, CONCAT_MOST, CONCAT_MOST, in);
}

kd_node *kd_slice(kd_graph *g, kd_node *x, int64_t start, int64_t count)
{
    kdas_slice_attr attr = { .start = start, .count = count };

    return node(g, &kd_op_slice, &attr, 1, 1, IN(x));
}

kd_node *kd_crop(kd_graph *g, kd_node *x, int64_t top, int64_t left, int64_t height, int64_t width)
{
    kdas_crop_attr attr = { .top = top, .left = left, .height = height, .width = width };

    return node(g, &kd_op_crop, &attr, 1, 1, IN(x));
}

kd_node *kd_transpose(kd_graph *g, kd_node *x)
{
    return node(g, &kd_op_transpose, NULL, 1, 1, IN(x));
}

kd_node *kd_reshape(kd_graph *g, kd_node *x, int64_t n, int64_t h, int64_t w, int64_t c)
{
    kdas_desc attr = kd_desc(n, h, w, c);

    return node(g, &kd_op_reshape, &attr, 1, 1, IN(x));
}

kd_node *kd_resize(kd_graph *g, kd_node *x, int64_t height, int64_t width, bool align, int counted)
{
    kdas_resize_attr attr = {
        .height = height, .width = width, .align = align, .counted = counted
    };

    return node(g, &kd_op_resize, &attr, 1, 1, IN(x));
}

kd_node *kd_pool_avg(kd_graph *g, kd_node *x, int64_t height, int64_t width, int64_t counted)
{
    kdas_pool_attr attr = { .height = height, .width = width, .counted = counted };

    return node(g, &kd_op_pool_avg, &attr, 1, 1, IN(x));
}

kd_node *kd_pool_max(kd_graph *g, kd_node *x)
{
    return node(g, &kd_op_pool_max, NULL, 1, 1, IN(x));
}

kd_node *kd_window_max(kd_graph *g, kd_node *x, int size, int stride, int pad)
{
    kdas_window_attr attr = { .size = size, .stride = stride, .pad = pad };

    return node(g, &kd_op_window_max, &attr, 1, 1, IN(x));
}

kd_node *kd_window_avg(kd_graph *g, kd_node *x, int size, int stride, int pad, bool ceil,
                       bool padded)
{
    kdas_window_attr attr = {
        .size = size, .stride = stride, .pad = pad, .ceil = ceil, .padded = padded
    };

    return node(g, &kd_op_window_avg, &attr, 1, 1, IN(x));
}

kd_node *kd_channel_mean(kd_graph *g, kd_node *x)
{
    return node(g, &kd_op_channel_mean, NULL, 1, 1, IN(x));
}

kd_node *kd_channel_max(kd_graph *g, kd_node *x)
{
    return node(g, &kd_op_channel_max, NULL, 1, 1, IN(x));
}

/* ---- Along the last axis, products ---- */

kd_node *kd_softmax(kd_graph *g, kd_node *x) { return node(g, &kd_op_softmax, NULL, 1, 1, IN(x)); }
kd_node *kd_center(kd_graph *g, kd_node *x) { return node(g, &kd_op_center, NULL, 1, 1, IN(x)); }

kd_node *kd_normalize(kd_graph *g, kd_node *x, float eps)
{
    kdas_normalize_attr attr = { .eps = eps };

    return node(g, &kd_op_normalize, &attr, 1, 1, IN(x));
}

kd_node *kd_attention(kd_graph *g, kd_node *q, kd_node *kv, int heads, float scale)
{
    kdas_attention_attr attr = { .heads = heads, .scale = scale };

    return node(g, &kd_op_attention, &attr, 2, 2, IN(q, kv));
}

kd_node *kd_matmul(kd_graph *g, kd_node *a, kd_node *b, bool transpose_a, bool transpose_b,
                   float alpha)
{
    kdas_matmul_attr attr = { .transpose_a = transpose_a,
                              .transpose_b = transpose_b,
                              .alpha       = alpha };

    return node(g, &kd_op_matmul, &attr, 2, 2, IN(a, b));
}

/* ---- Losses ---- */

kd_node *kd_bce(kd_graph *g, kd_node *p, kd_node *y, kd_node *w)
{
    return node(g, &kd_op_bce, NULL, 2, w ? 3 : 2, IN(p, y, w));
}

kd_node *kd_overlap(kd_graph *g, kd_node *p, kd_node *y, kd_node *w, bool jaccard, float smooth)
{
    kdas_overlap_attr attr = { .jaccard = jaccard, .smooth = smooth };

    return node(g, &kd_op_overlap, &attr, 2, w ? 3 : 2, IN(p, y, w));
}

kd_node *kd_kl(kd_graph *g, kd_node *s, kd_node *t, float tau)
{
    kdas_kl_attr attr = { .tau = tau };

    return node(g, &kd_op_kl, &attr, 2, 2, IN(s, t));
}

kd_node *kd_square_error(kd_graph *g, kd_node *a, kd_node *b)
{
    return node(g, &kd_op_square_error, NULL, 2, 2, IN(a, b));
}

kd_node *kd_boundary(kd_graph *g, kd_node *y, int window, float gain)
{
    kdas_boundary_attr attr = { .window = window, .gain = gain };

    return node(g, &kd_op_boundary, &attr, 1, 1, IN(y));
}

kd_node *kd_mean(kd_graph *g, kd_node *x) { return node(g, &kd_op_mean, NULL, 1, 1, IN(x)); }
