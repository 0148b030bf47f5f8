/* slice.c - channels start .. start+count-1 of (N,H,W,C). */
#include "op/op_util.h"

static kdas_status slice_infer(kdas_node_desc *node)
{
    const kdas_slice_attr *attr = node->attr;
    const kdas_desc       *x    = &node->in[0];

    KD_RETURN(kd_op_check(node));
    if (attr->start < 0 || attr->count < 1 || attr->start > x->dim[3] ||
        attr->count > x->dim[3] - attr->start)
        return kd_fail(KDAS_ESHAPE, "slice: %s does not have %lld channels from %lld on",
                       kd_dims_text(x), (long long)attr->count, (long long)attr->start);
    return kd_op_output(node, x->dim[0], x->dim[1], x->dim[2], attr->count);
}

static kdas_status slice_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_slice_attr *attr = call->node->attr;
    const float           *x    = (const float *)call->in[0] + attr->start;
    float                 *y    = call->out;
    int64_t                rows = kd_rows(&call->node->out), channels = call->node->in[0].dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++)
        memcpy(y + r * attr->count, x + r * channels, (size_t)attr->count * sizeof *x);
    return KDAS_OK;
}

static kdas_status slice_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_slice_attr *attr = call->node->attr;
    const float           *dy   = call->dout;
    float                 *dx   = (float *)call->din[0] + attr->start;
    int64_t                rows = kd_rows(&call->node->out), channels = call->node->in[0].dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < attr->count; i++)
            dx[r * channels + i] += dy[r * attr->count + i];
    return KDAS_OK;
}

const kd_op kd_op_slice = {
    .name       = "slice",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_slice_attr),
    .infer      = slice_infer,
    .ref        = { .op = KDAS_OP_SLICE, .forward = slice_forward, .backward = slice_backward },
};
