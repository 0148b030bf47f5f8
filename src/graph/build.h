/* build.h - the ops as functions that add a node to a graph, for blocks, models and losses.
 * Activations are (N,H,W,C). A NULL operand gives NULL, so a chain needs no checks: the graph
 * keeps its first error. */
#ifndef KD_OP_BUILD_H
#define KD_OP_BUILD_H
#include "graph/graph.h"

/* ---- With parameters; `b` (the bias) may be NULL where it is last ---- */
kd_node *kd_conv2d(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad);
kd_node *kd_dwconv2d(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad);
/* Pads `pad` zeros before the first row and column, and `pad_end` after the last. */
kd_node *kd_conv2d_padded(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad,
                          int pad_end);
kd_node *kd_dwconv2d_padded(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad,
                            int pad_end);
/* With any attributes: groups, dilation, sides padded apart. */
kd_node *kd_conv2d_of(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, kdas_conv_attr attr);
kd_node *kd_deconv2d(kd_graph *g, kd_node *x, kd_node *w, kd_node *b, int stride, int pad);
kd_node *kd_linear(kd_graph *g, kd_node *x, kd_node *w, kd_node *b);
kd_node *kd_layer_norm(kd_graph *g, kd_node *x, kd_node *gamma, kd_node *beta, float eps);
kd_node *kd_batch_norm(kd_graph *g, kd_node *x, kd_node *gamma, kd_node *beta, kd_node *mean,
                       kd_node *var, float eps, float momentum);
kd_node *kd_standardize(kd_graph *g, kd_node *x, float eps); /* no parameters; over N,H,W */
/* A batch norm in three: the moments of x (1,1,1,2C+1), made those of all ranks, and applied. */
kd_node *kd_moments(kd_graph *g, kd_node *x);
kd_node *kd_exchange(kd_graph *g, kd_node *moments);
kd_node *kd_apply_moments(kd_graph *g, kd_node *x, kd_node *moments, kd_node *gamma, kd_node *beta,
                          kd_node *mean, kd_node *var, float eps, float momentum);

/* ---- Elementwise ---- */
kd_node *kd_gelu(kd_graph *g, kd_node *x);
kd_node *kd_relu(kd_graph *g, kd_node *x);
kd_node *kd_relu6(kd_graph *g, kd_node *x);
kd_node *kd_sigmoid(kd_graph *g, kd_node *x);
kd_node *kd_abs(kd_graph *g, kd_node *x);
kd_node *kd_silu(kd_graph *g, kd_node *x);
kd_node *kd_leaky_relu(kd_graph *g, kd_node *x, float slope);
kd_node *kd_elu(kd_graph *g, kd_node *x, float alpha);
/* Each axis of b is a's or 1. */
kd_node *kd_add(kd_graph *g, kd_node *a, kd_node *b);
kd_node *kd_sub(kd_graph *g, kd_node *a, kd_node *b);
kd_node *kd_mul(kd_graph *g, kd_node *a, kd_node *b);
kd_node *kd_scale(kd_graph *g, kd_node *x, float factor, float offset);
kd_node *kd_drop_path(kd_graph *g, kd_node *x, float p); /* whole images   */
kd_node *kd_dropout(kd_graph *g, kd_node *x, float p);   /* single elements */
/* x to the nearest of the 256 values of `range` (2), a buffer. */
kd_node *kd_quantize(kd_graph *g, kd_node *x, kd_node *range, float momentum);
kd_node *kd_recolour(kd_graph *g, kd_node *x, const kdas_recolour_attr *attr);

/* ---- Moving data ---- */
/* Along C, 2 or more. The op takes 8: of more, the first ones are joined by a CONCAT before. */
kd_node *kd_concat(kd_graph *g, int n, kd_node *const *nodes);
kd_node *kd_slice(kd_graph *g, kd_node *x, int64_t start, int64_t count);
kd_node *kd_crop(kd_graph *g, kd_node *x, int64_t top, int64_t left, int64_t height, int64_t width);
kd_node *kd_transpose(kd_graph *g, kd_node *x); /* (N,H,R,C) to (N,H,C,R) */
kd_node *kd_reshape(kd_graph *g, kd_node *x, int64_t n, int64_t h, int64_t w, int64_t c);
/* `counted`: the number of times thop counts the op. */
kd_node *kd_resize(kd_graph *g, kd_node *x, int64_t height, int64_t width, bool align, int counted);
kd_node *kd_pool_avg(kd_graph *g, kd_node *x, int64_t height, int64_t width, int64_t counted);
kd_node *kd_pool_max(kd_graph *g, kd_node *x); /* (N,1,1,C) */
/* Sliding windows, size x size; backend.h explains `ceil` and `padded`. */
kd_node *kd_window_max(kd_graph *g, kd_node *x, int size, int stride, int pad);
kd_node *kd_window_avg(kd_graph *g, kd_node *x, int size, int stride, int pad, bool ceil,
                       bool padded);
kd_node *kd_channel_mean(kd_graph *g, kd_node *x); /* (N,H,W,1) */
kd_node *kd_channel_max(kd_graph *g, kd_node *x);  /* (N,H,W,1) */

/* ---- Along the last axis, products ---- */
kd_node *kd_softmax(kd_graph *g, kd_node *x);
kd_node *kd_center(kd_graph *g, kd_node *x);
kd_node *kd_normalize(kd_graph *g, kd_node *x, float eps);
kd_node *kd_attention(kd_graph *g, kd_node *q, kd_node *kv, int heads, float scale);
kd_node *kd_matmul(kd_graph *g, kd_node *a, kd_node *b, bool transpose_a, bool transpose_b,
                   float alpha);

/* ---- Losses: one value for each image, (N,1,1,1); `w` (weights) may be NULL ---- */
kd_node *kd_bce(kd_graph *g, kd_node *p, kd_node *y, kd_node *w);
kd_node *kd_overlap(kd_graph *g, kd_node *p, kd_node *y, kd_node *w, bool jaccard, float smooth);
kd_node *kd_kl(kd_graph *g, kd_node *s, kd_node *t, float tau);
kd_node *kd_square_error(kd_graph *g, kd_node *a, kd_node *b);
kd_node *kd_boundary(kd_graph *g, kd_node *y, int window, float gain); /* weights, y's shape */
kd_node *kd_mean(kd_graph *g, kd_node *x);                             /* (1,1,1,1)          */

#endif
