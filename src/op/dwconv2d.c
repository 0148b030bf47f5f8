/* dwconv2d.c - depthwise convolution: each channel has its own filter. x (N,H,W,C), w
 * (C,1,kh,kw), b (C) -> y (N,P,Q,C). */
#include "op/integer.h"
#include "op/op_util.h"

static kdas_status dwconv2d_infer(kdas_node_desc *node)
{
    const kdas_conv_attr *attr = node->attr;
    const kdas_desc      *x = &node->in[0], *w = &node->in[1];
    int64_t               p, q;

    KD_RETURN(kd_op_check(node));
    KD_RETURN(kd_op_conv_sides(node, &p, &q));
    if (attr->dilation != 1 || attr->groups != 1)
        return kd_fail(KDAS_EINVAL, "dwconv2d: dilation %d and %d groups; both must be 1",
                       attr->dilation, attr->groups);
    if (w->dim[0] != x->dim[3] || w->dim[1] != 1)
        return kd_fail(KDAS_ESHAPE, "dwconv2d: input %s does not fit weight %s", kd_dims_text(x),
                       kd_dims_text(w));
    KD_RETURN(kd_op_check_vectors(node, 2, 2, w->dim[0]));
    KD_RETURN(kd_integer_check(node));
    return kd_op_output(node, x->dim[0], p, q, x->dim[3]);
}

/* Offset in x of channel 0 of tap t for output row r (over N,P,Q); -1 in the padding. */
static int64_t tap(const kdas_node_desc *node, int64_t r, int64_t t)
{
    const kdas_conv_attr *attr = node->attr;
    const int64_t        *x = node->in[0].dim, *y = node->out.dim;
    int64_t               kw = node->in[1].dim[3];
    int64_t               n = r / (y[1] * y[2]), p = r / y[2] % y[1], q = r % y[2];
    int64_t               row = p * attr->stride - attr->pad[0] + t / kw;
    int64_t               col = q * attr->stride - attr->pad[1] + t % kw;

    if (row < 0 || row >= x[1] || col < 0 || col >= x[2]) return -1;
    return ((n * x[1] + row) * x[2] + col) * x[3];
}

static kdas_status dwconv2d_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const float          *x = call->in[0], *w = call->in[1], *b = call->in[2];
    float                *y = call->out;
    int64_t taps = node->in[1].dim[2] * node->in[1].dim[3], channels = node->out.dim[3];

    (void)device;
    if (kd_is_integer(call->node)) return kd_integer_dwconv2d(call);
    for (int64_t r = 0; r < kd_rows(&node->out); r++, y += channels) {
        for (int64_t c = 0; c < channels; c++)
            y[c] = b ? b[c] : 0;
        for (int64_t t = 0; t < taps; t++) {
            int64_t at = tap(node, r, t);

            for (int64_t c = 0; at >= 0 && c < channels; c++)
                y[c] += x[at + c] * w[c * taps + t];
        }
        for (int64_t c = 0; c < channels; c++)
            y[c] = kd_post(y[c], node->post);
    }
    return KDAS_OK;
}

/* Sum over outputs of x at tap t times dy, for channel c. With x NULL, the sum of dy. */
static double channel_sum(const kdas_node_desc *node, const float *x, const float *dy, int64_t c,
                          int64_t t)
{
    int64_t rows = kd_rows(&node->out), channels = node->out.dim[3];
    double  sum = 0;

    for (int64_t r = 0; r < rows; r++) {
        int64_t at = x ? tap(node, r, t) : 0;

        if (at >= 0) sum += (x ? (double)x[at + c] : 1) * dy[r * channels + c];
    }
    return sum;
}

static kdas_status dwconv2d_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const float          *x = call->in[0], *w = call->in[1], *dy = call->dout;
    float                *dx = call->din[0], *dw = call->din[1], *db = call->din[2];
    int64_t taps = node->in[1].dim[2] * node->in[1].dim[3], channels = node->out.dim[3];

    (void)device;
    for (int64_t r = 0; dx && r < kd_rows(&node->out); r++)
        for (int64_t t = 0; t < taps; t++) {
            int64_t at = tap(node, r, t);

            for (int64_t c = 0; at >= 0 && c < channels; c++)
                dx[at + c] += dy[r * channels + c] * w[c * taps + t];
        }
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t t = 0; dw && t < taps; t++)
            dw[c * taps + t] += (float)channel_sum(node, x, dy, c, t);
        if (db) db[c] += (float)channel_sum(node, NULL, dy, c, 0);
    }
    return KDAS_OK;
}

static int64_t dwconv2d_macs(const kdas_node_desc *node)
{
    return kd_elements(&node->out) * node->in[1].dim[2] * node->in[1].dim[3];
}

static double dwconv2d_thop(const kdas_node_desc *node) { return (double)dwconv2d_macs(node); }

const kd_op kd_op_dwconv2d = {
    .name       = "dwconv2d",
    .min_inputs = 2,
    .max_inputs = 5,
    .optional   = 1u << 2 | 1u << KD_RANGE_X | 1u << KD_RANGE_OUT,
    .attr_size  = sizeof(kdas_conv_attr),
    .infer      = dwconv2d_infer,
    .macs       = dwconv2d_macs,
    .thop       = dwconv2d_thop,
    .ref        = { .op       = KDAS_OP_DWCONV2D,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .prepare  = kd_integer_prepare,
                    .forward  = dwconv2d_forward,
                    .backward = dwconv2d_backward },
};
