/* concat.c - concatenates 2 to 8 operands along C: (N,H,W,C0), (N,H,W,C1), .. ->
 * (N,H,W,C0+C1+..). */
#include "op/op_util.h"

static kdas_status concat_infer(kdas_node_desc *node)
{
    const kdas_desc *a        = &node->in[0];
    int64_t          channels = 0;

    KD_RETURN(kd_op_check(node));
    for (int i = 0; i < node->inputs; i++) {
        const kdas_desc *b = &node->in[i];

        if (!kd_present(b)) break;
        if (b->dim[0] != a->dim[0] || b->dim[1] != a->dim[1] || b->dim[2] != a->dim[2])
            return kd_fail(KDAS_ESHAPE, "concat: input %d is %s, but input 0 is %s", i,
                           kd_dims_text(b), kd_dims_text(a));
        channels += b->dim[3];
    }
    return kd_op_output(node, a->dim[0], a->dim[1], a->dim[2], channels);
}

static kdas_status concat_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    int64_t               rows = kd_rows(&node->out), channels = node->out.dim[3], at = 0;

    (void)device;
    for (int k = 0; k < node->inputs && kd_present(&node->in[k]); k++) {
        const float *x = call->in[k];
        float       *y = (float *)call->out + at;
        int64_t      c = node->in[k].dim[3];

        for (int64_t r = 0; r < rows; r++)
            memcpy(y + r * channels, x + r * c, (size_t)c * sizeof *x);
        at += c;
    }
    return KDAS_OK;
}

static kdas_status concat_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    int64_t               rows = kd_rows(&node->out), channels = node->out.dim[3], at = 0;

    (void)device;
    for (int k = 0; k < node->inputs && kd_present(&node->in[k]); k++) {
        const float *dy = (const float *)call->dout + at;
        float       *dx = call->din[k];
        int64_t      c  = node->in[k].dim[3];

        for (int64_t r = 0; dx && r < rows; r++)
            for (int64_t i = 0; i < c; i++)
                dx[r * c + i] += dy[r * channels + i];
        at += c;
    }
    return KDAS_OK;
}

const kd_op kd_op_concat = {
    .name       = "concat",
    .min_inputs = 2,
    .max_inputs = 8,
    .infer      = concat_infer,
    .ref        = { .op = KDAS_OP_CONCAT, .forward = concat_forward, .backward = concat_backward },
};
