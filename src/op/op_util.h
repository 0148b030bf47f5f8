/* op_util.h - shape rules and loops that several op files share. */
#ifndef KD_OP_UTIL_H
#define KD_OP_UTIL_H
#include <math.h>
#include <string.h>
#include "op/op.h"

/* What every infer() starts with: the record of node->op wants this many inputs, all with sides
 * of at least 1, f32, absent ones at the end only, but for those marked optional; and attributes if it
 * has any. (ops.c) */
kdas_status kd_op_check(const kdas_node_desc *node);
/* What infer() ends with: set node->out to (n,h,w,c), a size that memory could have. (ops.c) */
kdas_status kd_op_output(kdas_node_desc *node, int64_t n, int64_t h, int64_t w, int64_t c);
/* Inputs `first` .. `last` that are present have the shape of input 0. (ops.c) */
kdas_status kd_op_check_same(const kdas_node_desc *node, int first, int last);
/* Inputs `first` .. `last` that are present are vectors with one value for each of `n`
 * channels. (ops.c) */
kdas_status kd_op_check_vectors(const kdas_node_desc *node, int first, int last, int64_t n);

/* out = in[0]'s shape. (ops.c) */
kdas_status kd_infer_same(kdas_node_desc *node);
/* One value for each image, from operands that all have in[0]'s shape: what losses give. (ops.c) */
kdas_status kd_infer_loss(kdas_node_desc *node);
/* in[1] has in[0]'s axes or 1: (N,H,W,C) with any of them broadcast. (ops.c) */
kdas_status kd_infer_broadcast(kdas_node_desc *node);

/* ---- Broadcasting: b has a's axes or 1 ---- */

/* The element of b that goes with element i of a. */
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
/* db[j] += factor * sum of dy[i] times[i] over the elements i of a that go with j; `times` NULL:
 * ones. (ops.c) */
void kd_broadcast_reduce(const kdas_node_desc *node, double factor, const float *dy,
                         const float *times, float *db);

/* Elements of one image. */
static inline int64_t kd_image_elements(const kdas_desc *d)
{
    return d->dim[1] * d->dim[2] * d->dim[3];
}

static inline double kd_sigmoid_of(double x) { return 1 / (1 + exp(-x)); }

#endif
