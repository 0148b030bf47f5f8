/* scale.c - x * factor + offset. */
#include "op/op_util.h"

static kdas_status scale_infer(kdas_node_desc *node)
{
    const kdas_scale_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!isfinite(attr->factor) || !isfinite(attr->offset))
        return kd_fail(KDAS_EINVAL, "scale: factor %g or offset %g is not finite",
                       (double)attr->factor, (double)attr->offset);
    return KDAS_OK;
}

static kdas_status scale_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_scale_attr *attr = call->node->attr;
    const float           *x    = call->in[0];
    float                 *y    = call->out;
    int64_t                n    = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * attr->factor + attr->offset;
    return KDAS_OK;
}

static kdas_status scale_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_scale_attr *attr = call->node->attr;
    const float           *dy   = call->dout;
    float                 *dx   = call->din[0];
    int64_t                n    = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * attr->factor;
    return KDAS_OK;
}

const kd_op kd_op_scale = {
    .name       = "scale",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_scale_attr),
    .infer      = scale_infer,
    .ref        = { .op       = KDAS_OP_SCALE,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = scale_forward,
                    .backward = scale_backward },
};
