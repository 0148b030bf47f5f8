/* op_util.h - shape rules and loops that several op files share. */
#ifndef KD_OP_UTIL_H
#define KD_OP_UTIL_H
#include <math.h>
#include <string.h>
#include "op/op.h"

/* Every infer() starts with this check. The op of node->op must accept this number of inputs.
 * All are f32 with sides of at least 1. Absent inputs are at the end, except those marked
 * optional. Attributes are present if the op has any. (ops.c) */
kdas_status kd_op_check(const kdas_node_desc *node);
/* Every infer() ends with this call. It sets node->out to (n,h,w,c), and checks that the size
 * fits in memory. (ops.c) */
kdas_status kd_op_output(kdas_node_desc *node, int64_t n, int64_t h, int64_t w, int64_t c);
/* Check: inputs `first` .. `last` that are present have the shape of input 0. (ops.c) */
kdas_status kd_op_check_same(const kdas_node_desc *node, int first, int last);
/* Check: inputs `first` .. `last` that are present are vectors with one value for each of `n`
 * channels. (ops.c) */
kdas_status kd_op_check_vectors(const kdas_node_desc *node, int first, int last, int64_t n);

/* The output's sides of a convolution whose weight is kh x kw: the attributes are checked. (ops.c) */
kdas_status kd_op_conv_sides(const kdas_node_desc *node, int64_t *height, int64_t *width);

/* A window of WINDOW_MAX and WINDOW_AVG: the part inside x; bottom and right are one past the end. */
typedef struct kd_window {
    int64_t top, bottom, left, right;
    int64_t first; /* offset in x of its image */
    int64_t whole; /* pixels with the padding, without what lies beyond it */
} kd_window;

/* The shape rule of both. (window.c) */
kdas_status kd_infer_window(kdas_node_desc *node);
/* The window of output row r, over N and the output's sides. (window.c) */
kd_window kd_window_of(const kdas_node_desc *node, int64_t r);

/* out = in[0]'s shape. (ops.c) */
kdas_status kd_infer_same(kdas_node_desc *node);
/* Output of a loss: one value for each image. All operands have in[0]'s shape. (ops.c) */
kdas_status kd_infer_loss(kdas_node_desc *node);
/* Each axis of in[1] is in[0]'s or 1: any axis of (N,H,W,C) may be broadcast. (ops.c) */
kdas_status kd_infer_broadcast(kdas_node_desc *node);

/* A value with the activation `post` (kdas_post) applied; a NaN stays a NaN. */
static inline float kd_post(float v, int32_t post)
{
    if (post == KDAS_POST_NONE) return v;
    if (post == KDAS_POST_RELU6 && v > 6) return 6;
    return v < 0 ? 0 : v;
}

/* ---- Broadcasting: each axis of b is a's or 1 ---- */

/* The element of b that is paired with element i of a. */
static inline int64_t kd_broadcast_index(const kdas_desc *a, const kdas_desc *b, int64_t i)
{
    int64_t at = 0, step = 1;

    for (int k = KDAS_MAX_DIMS - 1; k >= 0; k--) {
        if (b->dim[k] > 1) at += step * (i % a->dim[k]);
        i /= a->dim[k];
        step *= b->dim[k];
    }
    return at;
}
/* db[j] += factor * sum of dy[i] times[i] over the elements i of a that are paired with j.
 * `times` NULL: ones. (ops.c) */
void kd_broadcast_reduce(const kdas_node_desc *node, double factor, const float *dy,
                         const float *times, float *db);

/* Elements of one image. */
static inline int64_t kd_image_elements(const kdas_desc *d)
{
    return d->dim[1] * d->dim[2] * d->dim[3];
}

static inline double kd_sigmoid_of(double x) { return 1 / (1 + exp(-x)); }

#endif
