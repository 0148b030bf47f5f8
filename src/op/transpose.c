/* transpose.c - swaps the last two axes: (N,H,R,C) -> (N,H,C,R). */
#include "op/op_util.h"

static kdas_status transpose_infer(kdas_node_desc *node)
{
    const int64_t *x = node->in[0].dim;

    KD_RETURN(kd_op_check(node));
    return kd_op_output(node, x[0], x[1], x[3], x[2]);
}

static kdas_status transpose_forward(kdas_device *device, const kdas_call *call)
{
    const int64_t *s = call->node->in[0].dim;
    const float   *x = call->in[0];
    float         *y = call->out;

    (void)device;
    for (int64_t m = 0; m < s[0] * s[1]; m++, x += s[2] * s[3], y += s[2] * s[3])
        for (int64_t r = 0; r < s[2]; r++)
            for (int64_t c = 0; c < s[3]; c++)
                y[c * s[2] + r] = x[r * s[3] + c];
    return KDAS_OK;
}

static kdas_status transpose_backward(kdas_device *device, const kdas_call *call)
{
    const int64_t *s  = call->node->in[0].dim;
    const float   *dy = call->dout;
    float         *dx = call->din[0];

    (void)device;
    for (int64_t m = 0; m < s[0] * s[1]; m++, dx += s[2] * s[3], dy += s[2] * s[3])
        for (int64_t r = 0; r < s[2]; r++)
            for (int64_t c = 0; c < s[3]; c++)
                dx[r * s[3] + c] += dy[c * s[2] + r];
    return KDAS_OK;
}

const kd_op kd_op_transpose = {
    .name       = "transpose",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = transpose_infer,
    .ref        = { .op       = KDAS_OP_TRANSPOSE,
                    .forward  = transpose_forward,
                    .backward = transpose_backward },
};
