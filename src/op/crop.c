/* crop.c - rows top .. top+height-1 and columns left .. left+width-1 of (N,H,W,C). */
#include "op/op_util.h"

static kdas_status crop_infer(kdas_node_desc *node)
{
    const kdas_crop_attr *a = node->attr;
    const kdas_desc      *x = &node->in[0];

    KD_RETURN(kd_op_check(node));
    if (a->top < 0 || a->left < 0 || a->height < 1 || a->width < 1 || a->top > x->dim[1] ||
        a->left > x->dim[2] || a->height > x->dim[1] - a->top || a->width > x->dim[2] - a->left)
        return kd_fail(KDAS_ESHAPE, "crop: %lldx%lld from (%lld,%lld) on is not inside %s",
                       (long long)a->height, (long long)a->width, (long long)a->top,
                       (long long)a->left, kd_dims_text(x));
    return kd_op_output(node, x->dim[0], a->height, a->width, x->dim[3]);
}

/* Offset in x of the first element of row r (over N and height) of the output. */
static int64_t row_start(const kdas_node_desc *node, int64_t r)
{
    const kdas_crop_attr *a = node->attr;
    const int64_t        *x = node->in[0].dim;
    int64_t               n = r / a->height, h = r % a->height;

    return ((n * x[1] + a->top + h) * x[2] + a->left) * x[3];
}

static kdas_status crop_forward(kdas_device *device, const kdas_call *call)
{
    const int64_t *out = call->node->out.dim;
    const float   *x   = call->in[0];
    float         *y   = call->out;
    int64_t        row = out[2] * out[3];

    (void)device;
    for (int64_t r = 0; r < out[0] * out[1]; r++)
        memcpy(y + r * row, x + row_start(call->node, r), (size_t)row * sizeof *x);
    return KDAS_OK;
}

static kdas_status crop_backward(kdas_device *device, const kdas_call *call)
{
    const int64_t *out = call->node->out.dim;
    const float   *dy  = call->dout;
    int64_t        row = out[2] * out[3];

    (void)device;
    for (int64_t r = 0; r < out[0] * out[1]; r++) {
        float *dx = (float *)call->din[0] + row_start(call->node, r);

        for (int64_t i = 0; i < row; i++)
            dx[i] += dy[r * row + i];
    }
    return KDAS_OK;
}

const kd_op kd_op_crop = {
    .name       = "crop",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_crop_attr),
    .infer      = crop_infer,
    .ref        = { .op = KDAS_OP_CROP, .forward = crop_forward, .backward = crop_backward },
};
