/* onnx_call.h - what the ops of onnx_run.c share: a node while it runs. */
#ifndef KD_TEST_ONNX_CALL_H
#define KD_TEST_ONNX_CALL_H
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "support/onnx_run.h"

typedef kd_test_onnx_value value;
typedef kd_test_onnx_node  node;

/* A node while it runs: its inputs (NULL: absent), and its output, whose memory shape() takes. */
typedef struct call {
    const node  *n;
    const value *in[WALK_INPUTS];
    value        y;
} call;

/* Take memory for an output of this shape. */
static inline double *shape(call *c, int rank, const int64_t *dims)
{
    c->y.rank  = rank;
    c->y.count = 1;
    for (int i = 0; i < WALK_RANK; i++)
        c->y.count *= c->y.dim[i] = i < rank ? dims[i] : 1;
    c->y.v = calloc((size_t)c->y.count + 1, sizeof *c->y.v);
    return c->y.v;
}

static inline double *like(call *c, const value *x) { return shape(c, x->rank, x->dim); }

static inline int64_t whole(const call *c, const char *name, int64_t usual)
{
    const kd_test_onnx_attribute *a = kd_test_onnx_attribute_of(c->n, name);

    return a ? a->i : usual;
}

static inline const kd_test_onnx_attribute *list(const call *c, const char *name)
{
    const kd_test_onnx_attribute *a = kd_test_onnx_attribute_of(c->n, name);

    ck_assert_msg(a != NULL, "%s has no %s", c->n->name, name);
    return a;
}

static inline int axis_of(const value *x, int64_t axis)
{
    return (int)(axis < 0 ? axis + x->rank : axis);
}

/* Elements behind an axis. */
static inline int64_t behind(const value *x, int axis)
{
    int64_t n = 1;

    for (int i = axis + 1; i < x->rank; i++)
        n *= x->dim[i];
    return n;
}

/* Index of b's element for element i of y: axes are paired from the last on, and b's may be 1. `axes`: how many of the
 * last ones to leave out. */
static inline int64_t broadcast(const value *b, const value *y, int64_t i, int axes)
{
    int64_t at = 0, step = 1;

    for (int k = 1 + axes; k <= b->rank; k++) {
        int64_t j = i % y->dim[y->rank - k];

        i /= y->dim[y->rank - k];
        if (b->dim[b->rank - k] > 1) at += j * step;
        step *= b->dim[b->rank - k];
    }
    return at;
}

/* The shape of two values together, but for the last `axes`. Returns the rank. */
static inline int joined(const call *c, int64_t *dims, int axes)
{
    const value *a = c->in[0], *b = c->in[1];
    int          rank = a->rank > b->rank ? a->rank : b->rank;

    for (int k = 1 + axes; k <= rank; k++) {
        int64_t p = k <= a->rank ? a->dim[a->rank - k] : 1,
                q = k <= b->rank ? b->dim[b->rank - k] : 1;

        ck_assert_msg(p == q || p == 1 || q == 1, "%s: axes of %d and %d", c->n->name, (int)p,
                      (int)q);
        dims[rank - k] = p > q ? p : q;
    }
    return rank;
}

/* ---- onnx_products.c ---- */

void kd_test_onnx_matmul(call *c);
void kd_test_onnx_conv(call *c);
void kd_test_onnx_deconv(call *c);
void kd_test_onnx_pool(call *c);

#endif
