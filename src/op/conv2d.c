/* conv2d.c - cross-correlation with zero padding.
 * x (N,H,W,C), w (O,C/groups,kh,kw), b (O) -> y (N,P,Q,O). */
#include "op/integer.h"
#include "op/op_util.h"

static kdas_status conv2d_infer(kdas_node_desc *node)
{
    const kdas_conv_attr *attr = node->attr;
    const kdas_desc      *x = &node->in[0], *w = &node->in[1];
    int64_t               p, q;

    KD_RETURN(kd_op_check(node));
    KD_RETURN(kd_op_conv_sides(node, &p, &q));
    if (w->dim[0] % attr->groups || w->dim[1] * attr->groups != x->dim[3])
        return kd_fail(KDAS_ESHAPE, "conv2d: input %s does not fit weight %s in %d groups",
                       kd_dims_text(x), kd_dims_text(w), attr->groups);
    KD_RETURN(kd_op_check_vectors(node, 2, 2, w->dim[0]));
    KD_RETURN(kd_integer_check(node));
    return kd_op_output(node, x->dim[0], p, q, w->dim[0]);
}

/* Short names for the sizes of a call; c and o are those of one group. */
typedef struct conv_sizes {
    int64_t n, h, w, c, o, kh, kw, p, q, groups;
    int64_t stride, dilation, top, left;
} conv_sizes;

static conv_sizes sizes_of(const kdas_node_desc *node)
{
    const kdas_conv_attr *attr = node->attr;
    const int64_t        *x = node->in[0].dim, *k = node->in[1].dim, *y = node->out.dim;

    return (conv_sizes){ .n        = x[0],
                         .h        = x[1],
                         .w        = x[2],
                         .c        = k[1],
                         .o        = k[0] / attr->groups,
                         .kh       = k[2],
                         .kw       = k[3],
                         .p        = y[1],
                         .q        = y[2],
                         .groups   = attr->groups,
                         .stride   = attr->stride,
                         .dilation = attr->dilation,
                         .top      = attr->pad[0],
                         .left     = attr->pad[1] };
}

/* Offset in x of channel 0 of tap (i,j) for output (p,q) in image n; -1 in the padding. */
static int64_t tap(const conv_sizes *s, int64_t n, int64_t p, int64_t q, int64_t i, int64_t j)
{
    int64_t y = p * s->stride - s->top + i * s->dilation;
    int64_t x = q * s->stride - s->left + j * s->dilation;

    if (y < 0 || y >= s->h || x < 0 || x >= s->w) return -1;
    return ((n * s->h + y) * s->w + x) * s->c * s->groups;
}

/* The sum for one output channel; x begins with the first channel of its group. */
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
    if (kd_is_integer(call->node)) return kd_integer_conv2d(call);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t p = 0; p < s.p; p++)
            for (int64_t q = 0; q < s.q; q++)
                for (int64_t o = 0; o < s.o * s.groups; o++)
                    *y++ = kd_post((float)(output_at(&s, x + o / s.o * s.c,
                                                     w + o * s.c * s.kh * s.kw, n, p, q) +
                                           (b ? b[o] : 0)),
                                   call->node->post);
    return KDAS_OK;
}

/* dx[c] += the sum over the output channels of one group, at one tap. */
static void tap_gradient(const conv_sizes *s, float *dx, const float *w, const float *dy)
{
    int64_t taps = s->kh * s->kw;

    for (int64_t c = 0; c < s->c; c++) {
        double sum = 0;

        for (int64_t o = 0; o < s->o; o++)
            sum += (double)dy[o] * w[(o * s->c + c) * taps];
        dx[c] += (float)sum;
    }
}

static void backward_data(const conv_sizes *s, float *dx, const float *w, const float *dy)
{
    int64_t taps = s->kh * s->kw;

    for (int64_t n = 0; n < s->n; n++)
        for (int64_t p = 0; p < s->p; p++)
            for (int64_t q = 0; q < s->q; q++, dy += s->o * s->groups)
                for (int64_t t = 0; t < taps; t++) {
                    int64_t at = tap(s, n, p, q, t / s->kw, t % s->kw);

                    for (int64_t g = 0; at >= 0 && g < s->groups; g++)
                        tap_gradient(s, dx + at + g * s->c, w + g * s->o * s->c * taps + t,
                                     dy + g * s->o);
                }
}

/* o over all groups, c within its group. */
static double weight_gradient(const conv_sizes *s, const float *x, const float *dy, int64_t o,
                              int64_t c, int64_t i, int64_t j)
{
    double sum = 0;

    for (int64_t n = 0; n < s->n; n++)
        for (int64_t p = 0; p < s->p; p++)
            for (int64_t q = 0; q < s->q; q++) {
                int64_t at = tap(s, n, p, q, i, j);

                if (at < 0) continue;
                sum += (double)x[at + o / s->o * s->c + c] *
                       dy[((n * s->p + p) * s->q + q) * s->o * s->groups + o];
            }
    return sum;
}

static kdas_status conv2d_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *w = call->in[1], *dy = call->dout;
    float       *dx = call->din[0], *dw = call->din[1], *db = call->din[2];
    conv_sizes   s    = sizes_of(call->node);
    int64_t      rows = kd_rows(&call->node->out), outputs = call->node->out.dim[3];

    (void)device;
    if (dx) backward_data(&s, dx, w, dy);
    for (int64_t o = 0; dw && o < outputs; o++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t i = 0; i < s.kh; i++)
                for (int64_t j = 0; j < s.kw; j++)
                    *dw++ += (float)weight_gradient(&s, x, dy, o, c, i, j);
    for (int64_t o = 0; db && o < outputs; o++) {
        double sum = 0;
        for (int64_t r = 0; r < rows; r++)
            sum += dy[r * outputs + o];
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
    .max_inputs = 5,
    .optional   = 1u << 2 | 1u << KD_RANGE_X | 1u << KD_RANGE_OUT,
    .attr_size  = sizeof(kdas_conv_attr),
    .infer      = conv2d_infer,
    .macs       = conv2d_macs,
    .thop       = conv2d_thop,
    .ref        = { .op       = KDAS_OP_CONV2D,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .prepare  = kd_integer_prepare,
                    .forward  = conv2d_forward,
                    .backward = conv2d_backward },
};
