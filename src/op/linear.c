/* linear.c - y = x W^T + b over the last axis. x (N,H,W,C), W (O,C), b (O) -> y (N,H,W,O). */
#include "op/integer.h"
#include "op/op_util.h"

static kdas_status linear_infer(kdas_node_desc *node)
{
    const kdas_desc *x = &node->in[0], *w = &node->in[1];

    KD_RETURN(kd_op_check(node));
    if (w->dim[1] * w->dim[2] * w->dim[3] != x->dim[3])
        return kd_fail(KDAS_ESHAPE, "linear: input %s does not fit weight %s", kd_dims_text(x),
                       kd_dims_text(w));
    KD_RETURN(kd_op_check_vectors(node, 2, 2, w->dim[0]));
    KD_RETURN(kd_integer_check(node));
    return kd_op_output(node, x->dim[0], x->dim[1], x->dim[2], w->dim[0]);
}

static kdas_status linear_forward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *w = call->in[1], *b = call->in[2];
    float       *y    = call->out;
    int64_t      rows = kd_rows(&call->node->out);
    int64_t      ci = call->node->in[0].dim[3], co = call->node->out.dim[3];

    (void)device;
    if (kd_is_integer(call->node)) return kd_integer_linear(call);
    for (int64_t r = 0; r < rows; r++, x += ci, y += co)
        for (int64_t o = 0; o < co; o++) {
            double sum = b ? b[o] : 0;
            for (int64_t i = 0; i < ci; i++)
                sum += (double)x[i] * w[o * ci + i];
            y[o] = kd_post((float)sum, call->node->post);
        }
    return KDAS_OK;
}

static kdas_status linear_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *w = call->in[1], *dy = call->dout;
    float       *dx = call->din[0], *dw = call->din[1], *db = call->din[2];
    int64_t      rows = kd_rows(&call->node->out);
    int64_t      ci = call->node->in[0].dim[3], co = call->node->out.dim[3];

    (void)device;
    for (int64_t r = 0; dx && r < rows; r++)
        for (int64_t i = 0; i < ci; i++) {
            double sum = 0;
            for (int64_t o = 0; o < co; o++)
                sum += (double)dy[r * co + o] * w[o * ci + i];
            dx[r * ci + i] += (float)sum;
        }
    for (int64_t o = 0; dw && o < co; o++)
        for (int64_t i = 0; i < ci; i++) {
            double sum = 0;
            for (int64_t r = 0; r < rows; r++)
                sum += (double)dy[r * co + o] * x[r * ci + i];
            dw[o * ci + i] += (float)sum;
        }
    for (int64_t o = 0; db && o < co; o++) {
        double sum = 0;
        for (int64_t r = 0; r < rows; r++)
            sum += dy[r * co + o];
        db[o] += (float)sum;
    }
    return KDAS_OK;
}

static int64_t linear_macs(const kdas_node_desc *node)
{
    return kd_elements(&node->out) * node->in[0].dim[3];
}

static double linear_thop(const kdas_node_desc *node) { return (double)linear_macs(node); }

const kd_op kd_op_linear = {
    .name       = "linear",
    .min_inputs = 2,
    .max_inputs = 5,
    .optional   = 1u << 2 | 1u << KD_RANGE_X | 1u << KD_RANGE_OUT,
    .infer      = linear_infer,
    .macs       = linear_macs,
    .thop       = linear_thop,
    .ref        = { .op       = KDAS_OP_LINEAR,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .prepare  = kd_integer_prepare,
                    .forward  = linear_forward,
                    .backward = linear_backward },
};
