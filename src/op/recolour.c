/* recolour.c - an image in a network's own colours: the order of its channels, and their scale and
 * offset. (N,H,W,3) -> (N,H,W,3). */
#include "op/op_util.h"

static kdas_status recolour_infer(kdas_node_desc *node)
{
    const kdas_recolour_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (node->in[0].dim[3] != 3)
        return kd_fail(KDAS_ESHAPE, "recolour: input %s does not have 3 channels",
                       kd_dims_text(&node->in[0]));
    for (int c = 0; c < 3; c++)
        if (attr->source[c] < 0 || attr->source[c] > 2 || !isfinite(attr->factor[c]) ||
            !isfinite(attr->offset[c]))
            return kd_fail(KDAS_EINVAL, "recolour: channel %d is %g times channel %d plus %g", c,
                           (double)attr->factor[c], attr->source[c], (double)attr->offset[c]);
    return KDAS_OK;
}

static kdas_status recolour_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_recolour_attr *attr = call->node->attr;
    const float              *x    = call->in[0];
    float                    *y    = call->out;
    int64_t                   rows = kd_rows(&call->node->out);

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += 3, y += 3)
        for (int c = 0; c < 3; c++)
            y[c] = attr->factor[c] * x[attr->source[c]] + attr->offset[c];
    return KDAS_OK;
}

static kdas_status recolour_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_recolour_attr *attr = call->node->attr;
    const float              *dy   = call->dout;
    float                    *dx   = call->din[0];
    int64_t                   rows = kd_rows(&call->node->out);

    (void)device;
    for (int64_t r = 0; r < rows; r++, dy += 3, dx += 3)
        for (int c = 0; c < 3; c++)
            dx[attr->source[c]] += attr->factor[c] * dy[c];
    return KDAS_OK;
}

const kd_op kd_op_recolour = {
    .name       = "recolour",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_recolour_attr),
    .infer      = recolour_infer,
    .ref = { .op = KDAS_OP_RECOLOUR, .forward = recolour_forward, .backward = recolour_backward },
};
