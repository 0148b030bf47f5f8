/* window.c - what WINDOW_MAX and WINDOW_AVG share: square windows that slide over an image. */
#include "op/op_util.h"

/* Windows along a side of n pixels. With `ceil` the last one may reach past the padding, but begins
 * inside the image or the padding before it (PyTorch's rule). */
static int64_t count_of(const kdas_window_attr *a, int64_t n)
{
    int64_t room = n + 2 * (int64_t)a->pad - a->size, count;

    if (room < 0) return a->ceil && room > -a->stride ? 1 : 0;
    count = (room + (a->ceil ? a->stride - 1 : 0)) / a->stride + 1;
    return a->ceil && (count - 1) * a->stride >= n + a->pad ? count - 1 : count;
}

kdas_status kd_infer_window(kdas_node_desc *node)
{
    const kdas_window_attr *a = node->attr;
    const kdas_desc        *x = &node->in[0];
    int64_t                 h, w;

    KD_RETURN(kd_op_check(node));
    if (a->size < 1 || a->size > 255 || a->stride < 1 || a->pad < 0 || a->pad > a->size / 2)
        return kd_fail(KDAS_EINVAL, "%s: size %d, stride %d or padding %d is out of range",
                       kd_op_name(node->op), a->size, a->stride, a->pad);
    h = count_of(a, x->dim[1]);
    w = count_of(a, x->dim[2]);
    if (h < 1 || w < 1)
        return kd_fail(KDAS_ESHAPE, "%s: input %s is smaller than its windows of %dx%d",
                       kd_op_name(node->op), kd_dims_text(x), a->size, a->size);
    return kd_op_output(node, x->dim[0], h, w, x->dim[3]);
}

kd_window kd_window_of(const kdas_node_desc *node, int64_t r)
{
    const kdas_window_attr *a  = node->attr;
    const int64_t          *in = node->in[0].dim, *out = node->out.dim;
    int64_t                 n = r / (out[1] * out[2]), i = r / out[2] % out[1], j = r % out[2];
    int64_t                 top = i * a->stride - a->pad, left = j * a->stride - a->pad;
    int64_t                 bottom = KD_MIN(top + a->size, in[1] + a->pad);
    int64_t                 right  = KD_MIN(left + a->size, in[2] + a->pad);

    return (kd_window){ .top    = KD_MAX(top, (int64_t)0),
                        .bottom = KD_MIN(bottom, in[1]),
                        .left   = KD_MAX(left, (int64_t)0),
                        .right  = KD_MIN(right, in[2]),
                        .first  = n * in[1] * in[2] * in[3],
                        .whole  = (bottom - top) * (right - left) };
}
