/* deconv2d.c - transposed convolution: each input pixel adds its multiple of the filters to the
 * output, at its position times the stride. x (N,H,W,C), w (C,O,kh,kw), b (O) -> y (N,P,Q,O). */
#include "op/op_util.h"

static kdas_status deconv2d_infer(kdas_node_desc *node)
{
    const kdas_conv_attr *a = node->attr;
    const kdas_desc      *x = &node->in[0], *w = &node->in[1];
    int64_t               side[2];

    KD_RETURN(kd_op_check(node));
    if (a->stride < 1 || a->pad[0] < 0 || a->pad[1] < 0 || a->pad_end[0] < 0 || a->pad_end[1] < 0)
        return kd_fail(KDAS_EINVAL,
                       "deconv2d: stride %d or padding %d,%d and %d,%d is out of range", a->stride,
                       a->pad[0], a->pad[1], a->pad_end[0], a->pad_end[1]);
    if (a->dilation != 1 || a->groups != 1)
        return kd_fail(KDAS_EINVAL, "deconv2d: dilation %d and %d groups; both must be 1",
                       a->dilation, a->groups);
    if (w->dim[0] != x->dim[3])
        return kd_fail(KDAS_ESHAPE, "deconv2d: input %s does not fit weight %s", kd_dims_text(x),
                       kd_dims_text(w));
    KD_RETURN(kd_op_check_vectors(node, 2, 2, w->dim[1]));
    for (int i = 0; i < 2; i++) {
        side[i] = (x->dim[1 + i] - 1) * a->stride - a->pad[i] - a->pad_end[i] + w->dim[2 + i];
        if (side[i] < 1)
            return kd_fail(KDAS_ESHAPE, "deconv2d: nothing is left of input %s with weight %s",
                           kd_dims_text(x), kd_dims_text(w));
    }
    return kd_op_output(node, x->dim[0], side[0], side[1], w->dim[1]);
}

/* Offset in y of channel 0 where tap t puts input row r (over N,H,W); -1 where it is cut off. */
static int64_t tap(const kdas_node_desc *node, int64_t r, int64_t t)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *x = node->in[0].dim, *y = node->out.dim;
    int64_t               kw = node->in[1].dim[3];
    int64_t               n = r / (x[1] * x[2]), i = r / x[2] % x[1], j = r % x[2];
    int64_t               row = i * a->stride - a->pad[0] + t / kw;
    int64_t               col = j * a->stride - a->pad[1] + t % kw;

    if (row < 0 || row >= y[1] || col < 0 || col >= y[2]) return -1;
    return ((n * y[1] + row) * y[2] + col) * y[3];
}

static kdas_status deconv2d_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const float          *x = call->in[0], *w = call->in[1], *b = call->in[2];
    float                *y    = call->out;
    int64_t               taps = node->in[1].dim[2] * node->in[1].dim[3];
    int64_t               ci = node->in[0].dim[3], co = node->out.dim[3];

    (void)device;
    for (int64_t i = 0; i < kd_elements(&node->out); i++)
        y[i] = b ? b[i % co] : 0;
    for (int64_t r = 0; r < kd_rows(&node->in[0]); r++, x += ci)
        for (int64_t t = 0; t < taps; t++) {
            int64_t at = tap(node, r, t);

            for (int64_t o = 0; at >= 0 && o < co; o++) {
                double sum = 0;

                for (int64_t c = 0; c < ci; c++)
                    sum += (double)x[c] * w[(c * co + o) * taps + t];
                y[at + o] += (float)sum;
            }
        }
    return KDAS_OK;
}

static void backward_data(const kdas_node_desc *node, float *dx, const float *w, const float *dy)
{
    int64_t taps = node->in[1].dim[2] * node->in[1].dim[3];
    int64_t ci = node->in[0].dim[3], co = node->out.dim[3];

    for (int64_t r = 0; r < kd_rows(&node->in[0]); r++, dx += ci)
        for (int64_t c = 0; c < ci; c++) {
            double sum = 0;

            for (int64_t t = 0; t < taps; t++) {
                int64_t at = tap(node, r, t);

                for (int64_t o = 0; at >= 0 && o < co; o++)
                    sum += (double)dy[at + o] * w[(c * co + o) * taps + t];
            }
            dx[c] += (float)sum;
        }
}

static double weight_gradient(const kdas_node_desc *node, const float *x, const float *dy,
                              int64_t c, int64_t o, int64_t t)
{
    int64_t ci  = node->in[0].dim[3];
    double  sum = 0;

    for (int64_t r = 0; r < kd_rows(&node->in[0]); r++) {
        int64_t at = tap(node, r, t);

        if (at >= 0) sum += (double)x[r * ci + c] * dy[at + o];
    }
    return sum;
}

static kdas_status deconv2d_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const float          *x = call->in[0], *w = call->in[1], *dy = call->dout;
    float                *dx = call->din[0], *dw = call->din[1], *db = call->din[2];
    int64_t               taps = node->in[1].dim[2] * node->in[1].dim[3];
    int64_t               ci = node->in[0].dim[3], co = node->out.dim[3];

    (void)device;
    if (dx) backward_data(node, dx, w, dy);
    for (int64_t c = 0; dw && c < ci; c++)
        for (int64_t o = 0; o < co; o++)
            for (int64_t t = 0; t < taps; t++)
                *dw++ += (float)weight_gradient(node, x, dy, c, o, t);
    for (int64_t o = 0; db && o < co; o++) {
        double sum = 0;

        for (int64_t r = 0; r < kd_rows(&node->out); r++)
            sum += dy[r * co + o];
        db[o] += (float)sum;
    }
    return KDAS_OK;
}

/* One product for each input pixel and tap. */
static int64_t deconv2d_macs(const kdas_node_desc *node)
{
    return kd_rows(&node->in[0]) * kd_elements(&node->in[1]);
}

/* thop counts output pixels, as if this were a convolution: stride^2 too many. */
static double deconv2d_thop(const kdas_node_desc *node)
{
    return (double)kd_rows(&node->out) * (double)kd_elements(&node->in[1]);
}

const kd_op kd_op_deconv2d = {
    .name       = "deconv2d",
    .min_inputs = 2,
    .max_inputs = 3,
    .attr_size  = sizeof(kdas_conv_attr),
    .infer      = deconv2d_infer,
    .macs       = deconv2d_macs,
    .thop       = deconv2d_thop,
    .ref        = { .op       = KDAS_OP_DECONV2D,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .forward  = deconv2d_forward,
                    .backward = deconv2d_backward },
};
