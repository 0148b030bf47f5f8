/* conv2d.c - cross-correlation with zero padding.
 * x (N,H,W,C), w (O,C,kh,kw), b (O) -> y (N,P,Q,O). */
#include "op/op_util.h"

static kdas_status conv2d_infer(kdas_node_desc *node)
{
    const kdas_conv_attr *attr = node->attr;
    const kdas_desc      *x = &node->in[0], *w = &node->in[1];
    int64_t               h, q;

    KD_RETURN(kd_op_check(node));
    if (attr->stride < 1 || attr->pad < 0 || attr->pad_end < 0)
        return kd_fail(KDAS_EINVAL, "conv2d: stride %d or padding %d and %d is out of range",
                       attr->stride, attr->pad, attr->pad_end);
    if (w->dim[1] != x->dim[3])
        return kd_fail(KDAS_ESHAPE, "conv2d: input %s does not fit weight %s", kd_dims_text(x),
                       kd_dims_text(w));
    KD_RETURN(kd_op_check_vectors(node, 2, 2, w->dim[0]));
    h = x->dim[1] + (int64_t)attr->pad + attr->pad_end - w->dim[2];
    q = x->dim[2] + (int64_t)attr->pad + attr->pad_end - w->dim[3];
    if (h < 0 || q < 0)
        return kd_fail(KDAS_ESHAPE, "conv2d: input %s is smaller than weight %s", kd_dims_text(x),
                       kd_dims_text(w));
    return kd_op_output(node, x->dim[0], h / attr->stride + 1, q / attr->stride + 1, w->dim[0]);
}

/* Short names for the sizes of a call. */
typedef struct conv_sizes {
    int64_t n, h, w, c, o, kh, kw, p, q, stride, pad;
} conv_sizes;

static conv_sizes sizes_of(const kdas_node_desc *node)
{
    const kdas_conv_attr *attr = node->attr;
    const int64_t        *x = node->in[0].dim, *k = node->in[1].dim, *y = node->out.dim;

    return (conv_sizes){ .n      = x[0],
                         .h      = x[1],
                         .w      = x[2],
                         .c      = x[3],
                         .o      = k[0],
                         .kh     = k[2],
                         .kw     = k[3],
                         .p      = y[1],
                         .q      = y[2],
                         .stride = attr->stride,
                         .pad    = attr->pad };
}

/* Offset in x of channel 0 of tap (i,j) for output (p,q) in image n; -1 in the padding. */
static int64_t tap(const conv_sizes *s, int64_t n, int64_t p, int64_t q, int64_t i, int64_t j)
{
    int64_t y = p * s->stride - s->pad + i, x = q * s->stride - s->pad + j;

    if (y < 0 || y >= s->h || x < 0 || x >= s->w) return -1;
    return ((n * s->h + y) * s->w + x) * s->c;
}

static double output_at(const conv_sizes *s, const float *x, const float *w, int64_t n, int64_t p,
                        int64_t q)
{
    double sum = 0;

    for (int64_t i = 0; i < s->kh; i++)
        for (int64_t j = 0; j < s->kw; j++) {
            int64_t at = tap(s, n, p, q, i, j);

            for (int64_t c = 0; at >= 0 && c < s->c; c++)
                sum += (double)x[at + c] * w[(c * s->kh + i) * s->kw + j];
        }
    return sum;
}

static kdas_status conv2d_forward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *w = call->in[1], *b = call->in[2];
    float       *y = call->out;
    conv_sizes   s = sizes_of(call->node);

    (void)device;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t p = 0; p < s.p; p++)
            for (int64_t q = 0; q < s.q; q++)
                for (int64_t o = 0; o < s.o; o++)
                    *y++ = (float)(output_at(&s, x, w + o * s.c * s.kh * s.kw, n, p, q) +
                                   (b ? b[o] : 0));
    return KDAS_OK;
}

static void backward_data(const conv_sizes *s, float *dx, const float *w, const float *dy)
{
    for (int64_t n = 0; n < s->n; n++)
        for (int64_t p = 0; p < s->p; p++)
            for (int64_t q = 0; q < s->q; q++, dy += s->o)
                for (int64_t i = 0; i < s->kh; i++)
                    for (int64_t j = 0; j < s->kw; j++) {
                        int64_t at = tap(s, n, p, q, i, j);

                        for (int64_t c = 0; at >= 0 && c < s->c; c++) {
                            double sum = 0;
                            for (int64_t o = 0; o < s->o; o++)
                                sum += (double)dy[o] * w[((o * s->c + c) * s->kh + i) * s->kw + j];
                            dx[at + c] += (float)sum;
                        }
                    }
}

static double weight_gradient(const conv_sizes *s, const float *x, const float *dy, int64_t o,
                              int64_t c, int64_t i, int64_t j)
{
    double sum = 0;

    for (int64_t n = 0; n < s->n; n++)
        for (int64_t p = 0; p < s->p; p++)
            for (int64_t q = 0; q < s->q; q++) {
                int64_t at = tap(s, n, p, q, i, j);

                if (at >= 0) sum += (double)x[at + c] * dy[((n * s->p + p) * s->q + q) * s->o + o];
            }
    return sum;
}

static kdas_status conv2d_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *w = call->in[1], *dy = call->dout;
    float       *dx = call->din[0], *dw = call->din[1], *db = call->din[2];
    conv_sizes   s    = sizes_of(call->node);
    int64_t      rows = kd_rows(&call->node->out);

    (void)device;
    if (dx) backward_data(&s, dx, w, dy);
    for (int64_t o = 0; dw && o < s.o; o++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t i = 0; i < s.kh; i++)
                for (int64_t j = 0; j < s.kw; j++)
                    *dw++ += (float)weight_gradient(&s, x, dy, o, c, i, j);
    for (int64_t o = 0; db && o < s.o; o++) {
        double sum = 0;
        for (int64_t r = 0; r < rows; r++)
            sum += dy[r * s.o + o];
        db[o] += (float)sum;
    }
    return KDAS_OK;
}

static int64_t conv2d_macs(const kdas_node_desc *node)
{
    return kd_rows(&node->out) * kd_elements(&node->in[1]);
}

static double conv2d_thop(const kdas_node_desc *node) { return (double)conv2d_macs(node); }

const kd_op kd_op_conv2d = {
    .name       = "conv2d",
    .min_inputs = 2,
    .max_inputs = 3,
    .attr_size  = sizeof(kdas_conv_attr),
    .infer      = conv2d_infer,
    .macs       = conv2d_macs,
    .thop       = conv2d_thop,
    .ref        = { .op       = KDAS_OP_CONV2D,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .forward  = conv2d_forward,
                    .backward = conv2d_backward },
};
