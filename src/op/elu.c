/* elu.c - x, or alpha (exp(x) - 1) where x is not above 0. */
#include "op/op_util.h"

static kdas_status elu_infer(kdas_node_desc *node)
{
    const kdas_leaky_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!isfinite(attr->slope))
        return kd_fail(KDAS_EINVAL, "elu: alpha %g is not finite", (double)attr->slope);
    return KDAS_OK;
}

static kdas_status elu_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_leaky_attr *attr = call->node->attr;
    const float           *x    = call->in[0];
    float                 *y    = call->out;
    int64_t                n    = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] > 0 ? x[i] : attr->slope * expm1f(x[i]);
    return KDAS_OK;
}

static kdas_status elu_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_leaky_attr *attr = call->node->attr;
    const float           *x    = call->in[0];
    const float           *dy   = call->dout;
    float                 *dx   = call->din[0];
    int64_t                n    = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += x[i] > 0 ? dy[i] : dy[i] * attr->slope * expf(x[i]);
    return KDAS_OK;
}

const kd_op kd_op_elu = {
    .name       = "elu",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_leaky_attr),
    .infer      = elu_infer,
    .ref        = { .op       = KDAS_OP_ELU,
                    .needs    = KDAS_NEEDS_IN(0),
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = elu_forward,
                    .backward = elu_backward },
};
