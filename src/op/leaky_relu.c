/* leaky_relu.c - x, or slope x where x is not above 0. */
#include "op/op_util.h"

static kdas_status leaky_relu_infer(kdas_node_desc *node)
{
    const kdas_leaky_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!isfinite(attr->slope))
        return kd_fail(KDAS_EINVAL, "leaky_relu: slope %g is not finite", (double)attr->slope);
    return KDAS_OK;
}

static kdas_status leaky_relu_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_leaky_attr *attr = call->node->attr;
    const float           *x    = call->in[0];
    float                 *y    = call->out;
    int64_t                n    = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] > 0 ? x[i] : attr->slope * x[i];
    return KDAS_OK;
}

static kdas_status leaky_relu_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_leaky_attr *attr = call->node->attr;
    const float           *x    = call->in[0];
    const float           *dy   = call->dout;
    float                 *dx   = call->din[0];
    int64_t                n    = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += x[i] > 0 ? dy[i] : attr->slope * dy[i];
    return KDAS_OK;
}

const kd_op kd_op_leaky_relu = {
    .name       = "leaky_relu",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_leaky_attr),
    .infer      = leaky_relu_infer,
    .ref        = { .op       = KDAS_OP_LEAKY_RELU,
                    .needs    = KDAS_NEEDS_IN(0),
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = leaky_relu_forward,
                    .backward = leaky_relu_backward },
};
