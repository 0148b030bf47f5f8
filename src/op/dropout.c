/* dropout.c - in training each element is kept with probability 1-p and divided by it, or set to 0.
 * Otherwise the op does nothing. The choice is a pure function of the seed. */
#include "op/op_util.h"

static kdas_status dropout_infer(kdas_node_desc *node)
{
    const kdas_drop_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!(attr->p >= 0 && attr->p < 1))
        return kd_fail(KDAS_EINVAL, "dropout: probability %g is not in [0, 1)", (double)attr->p);
    return KDAS_OK;
}

/* The factor of element i. */
static float factor_of(const kdas_call *call, int64_t i)
{
    float keep = 1 - ((const kdas_drop_attr *)call->node->attr)->p;

    if (!(call->node->flags & KDAS_NODE_TRAIN)) return 1;
    return kdas_unit(call->seed, (uint64_t)i) < keep ? 1 / keep : 0;
}

static kdas_status dropout_forward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0];
    float       *y = call->out;
    int64_t      n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * factor_of(call, i);
    return KDAS_OK;
}

static kdas_status dropout_backward(kdas_device *device, const kdas_call *call)
{
    const float *dy = call->dout;
    float       *dx = call->din[0];
    int64_t      n  = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * factor_of(call, i);
    return KDAS_OK;
}

const kd_op kd_op_dropout = {
    .name       = "dropout",
    .min_inputs = 1,
    .max_inputs = 1,
    .draws      = true,
    .attr_size  = sizeof(kdas_drop_attr),
    .infer      = dropout_infer,
    .ref        = { .op       = KDAS_OP_DROPOUT,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = dropout_forward,
                    .backward = dropout_backward },
};
