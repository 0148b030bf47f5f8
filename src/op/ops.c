/* ops.c - the list of ops by number, and the checks that shape rules share. A new op needs its
 * line in ops.def and no change here. */
#include <stdio.h>
#include "op/op_util.h"

const kd_op *kd_op_find(int32_t number)
{
    switch (number) {
#define OP(number, NAME, name) \
    case number:               \
        return &kd_op_##name;
#define UPDATE(number, NAME, name)
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    default: return NULL;
    }
}

const kdas_kernel *kd_update_find(int32_t number)
{
    switch (number) {
#define OP(number, NAME, name)
#define UPDATE(number, NAME, name) \
    case number:                   \
        return &kd_update_##name;
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    default: return NULL;
    }
}

const char *kd_op_name(int32_t number)
{
    switch (number) {
#define OP(number, NAME, name) \
    case number:               \
        return #name;
#define UPDATE(number, NAME, name) OP(number, NAME, name)
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    default: return "?";
    }
}

/* An error message names a few shapes at once, so each call takes the next buffer of a ring. */
const char *kd_dims_text(const kdas_desc *d)
{
    static _Thread_local char     text[8][96];
    static _Thread_local unsigned next;
    char                         *t = text[next++ % KD_COUNT(text)];

    snprintf(t, sizeof text[0], "%lldx%lldx%lldx%lld", (long long)d->dim[0], (long long)d->dim[1],
             (long long)d->dim[2], (long long)d->dim[3]);
    return t;
}

/* ---- Shape rules ---- */

/* Every side is at least 1. Together they are small enough that byte counts cannot overflow. */
static bool possible(const kdas_desc *d)
{
    int64_t left = INT64_MAX / 64;

    for (int k = 0; k < KDAS_MAX_DIMS; k++) {
        if (d->dim[k] < 1 || d->dim[k] > left) return false;
        left /= d->dim[k];
    }
    return true;
}

static kdas_status check_input(const kdas_node_desc *node, int i)
{
    int32_t dtype = node->in[i].dtype;

    if (dtype == KDAS_U8 && i == 0 &&
        (node->op == KDAS_OP_CONV2D || node->op == KDAS_OP_DWCONV2D || node->op == KDAS_OP_LINEAR))
        return KDAS_OK; /* an integer node */
    if (dtype != KDAS_F32 && dtype != KDAS_BF16 && dtype != KDAS_F16)
        return kd_fail(KDAS_EUNSUPPORTED, "%s: input %d is neither f32 nor bf16 nor f16",
                       kd_op_name(node->op), i);
    if (!possible(&node->in[i]))
        return kd_fail(KDAS_ESHAPE, "%s: input %d has an impossible shape %s", kd_op_name(node->op),
                       i, kd_dims_text(&node->in[i]));
    return KDAS_OK;
}

kdas_status kd_op_check(const kdas_node_desc *node)
{
    const kd_op *op      = kd_op_find(node->op);
    int          missing = -1;

    if (!op) return kd_fail(KDAS_EINVAL, "there is no op with number %d", (int)node->op);
    if (node->inputs < op->min_inputs || node->inputs > op->max_inputs)
        return kd_fail(KDAS_EINVAL, "%s: takes %d to %d inputs, not %d", op->name, op->min_inputs,
                       op->max_inputs, (int)node->inputs);
    if (op->attr_size && !node->attr)
        return kd_fail(KDAS_EINVAL, "%s: attributes are missing", op->name);
    for (int i = 0; i < node->inputs; i++) {
        bool present = kd_present(&node->in[i]);

        if (!present && missing < 0 && !(op->optional >> i & 1)) missing = i;
        if (missing >= 0 && (present || missing < op->min_inputs))
            return kd_fail(KDAS_EINVAL, "%s: input %d is missing", op->name, missing);
        if (present) KD_RETURN(check_input(node, i));
    }
    return KDAS_OK;
}

kdas_status kd_op_output(kdas_node_desc *node, int64_t n, int64_t h, int64_t w, int64_t c)
{
    node->out = kd_desc(n, h, w, c);
    if (!possible(&node->out))
        return kd_fail(KDAS_ESHAPE, "%s: the result of %s would have the impossible shape %s",
                       kd_op_name(node->op), kd_dims_text(&node->in[0]), kd_dims_text(&node->out));
    return KDAS_OK;
}

kdas_status kd_op_check_same(const kdas_node_desc *node, int first, int last)
{
    for (int i = first; i <= last; i++)
        if (kd_present(&node->in[i]) && !kd_same_dims(&node->in[i], &node->in[0]))
            return kd_fail(KDAS_ESHAPE, "%s: input %d is %s, but input 0 is %s",
                           kd_op_name(node->op), i, kd_dims_text(&node->in[i]),
                           kd_dims_text(&node->in[0]));
    return KDAS_OK;
}

kdas_status kd_op_check_vectors(const kdas_node_desc *node, int first, int last, int64_t n)
{
    for (int i = first; i <= last; i++)
        if (kd_present(&node->in[i]) && kd_elements(&node->in[i]) != n)
            return kd_fail(KDAS_ESHAPE, "%s: input %d is %s, but there are %lld channels",
                           kd_op_name(node->op), i, kd_dims_text(&node->in[i]), (long long)n);
    return KDAS_OK;
}

kdas_status kd_op_conv_sides(const kdas_node_desc *node, int64_t *height, int64_t *width)
{
    const kdas_conv_attr *a = node->attr;
    const kdas_desc      *x = &node->in[0], *w = &node->in[1];
    int64_t               room[2];

    if (a->stride < 1 || a->pad[0] < 0 || a->pad[1] < 0 || a->pad_end[0] < 0 || a->pad_end[1] < 0)
        return kd_fail(KDAS_EINVAL, "%s: stride %d or padding %d,%d and %d,%d is out of range",
                       kd_op_name(node->op), a->stride, a->pad[0], a->pad[1], a->pad_end[0],
                       a->pad_end[1]);
    if (a->dilation < 1 || a->groups < 1)
        return kd_fail(KDAS_EINVAL, "%s: dilation %d or %d groups is out of range",
                       kd_op_name(node->op), a->dilation, a->groups);
    for (int i = 0; i < 2; i++) {
        room[i] = x->dim[1 + i] + (int64_t)a->pad[i] + a->pad_end[i] -
                  ((w->dim[2 + i] - 1) * a->dilation + 1);
        if (room[i] < 0)
            return kd_fail(KDAS_ESHAPE, "%s: input %s is smaller than weight %s",
                           kd_op_name(node->op), kd_dims_text(x), kd_dims_text(w));
    }
    *height = room[0] / a->stride + 1;
    *width  = room[1] / a->stride + 1;
    return KDAS_OK;
}

kdas_status kd_infer_same(kdas_node_desc *node)
{
    const int64_t *d = node->in[0].dim;

    KD_RETURN(kd_op_check(node));
    return kd_op_output(node, d[0], d[1], d[2], d[3]);
}

kdas_status kd_infer_loss(kdas_node_desc *node)
{
    KD_RETURN(kd_op_check(node));
    KD_RETURN(kd_op_check_same(node, 1, node->inputs - 1));
    return kd_op_output(node, node->in[0].dim[0], 1, 1, 1);
}

kdas_status kd_infer_broadcast(kdas_node_desc *node)
{
    const kdas_desc *a = &node->in[0], *b = &node->in[1];

    KD_RETURN(kd_infer_same(node));
    for (int k = 0; k < KDAS_MAX_DIMS; k++)
        if (b->dim[k] != a->dim[k] && b->dim[k] != 1)
            return kd_fail(KDAS_ESHAPE, "%s: %s cannot be broadcast to %s", kd_op_name(node->op),
                           kd_dims_text(b), kd_dims_text(a));
    return KDAS_OK;
}

/* ---- Broadcasting ---- */

/* Sum over the block of a that starts at `from`. It has `count` elements along each axis. */
static double block_sum(const kdas_desc *a, const int64_t from[4], const int64_t count[4],
                        const float *dy, const float *times)
{
    double sum = 0;

    for (int64_t n = from[0]; n < from[0] + count[0]; n++)
        for (int64_t h = from[1]; h < from[1] + count[1]; h++)
            for (int64_t w = from[2]; w < from[2] + count[2]; w++)
                for (int64_t c = from[3]; c < from[3] + count[3]; c++) {
                    int64_t i = ((n * a->dim[1] + h) * a->dim[2] + w) * a->dim[3] + c;

                    sum += times ? (double)dy[i] * times[i] : dy[i];
                }
    return sum;
}

void kd_broadcast_reduce(const kdas_node_desc *node, double factor, const float *dy,
                         const float *times, float *db)
{
    const kdas_desc *a = &node->in[0], *b = &node->in[1];
    int64_t          from[KDAS_MAX_DIMS], count[KDAS_MAX_DIMS];

    for (int64_t j = 0; j < kd_elements(b); j++) {
        int64_t rest = j;

        for (int k = KDAS_MAX_DIMS - 1; k >= 0; k--) {
            bool one = b->dim[k] == 1; /* then b's element pairs with all of a's axis */

            from[k]  = one ? 0 : rest % b->dim[k];
            count[k] = one ? a->dim[k] : 1;
            rest /= b->dim[k];
        }
        db[j] += (float)(factor * block_sum(a, from, count, dy, times));
    }
}
