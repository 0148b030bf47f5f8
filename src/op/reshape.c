/* reshape.c - the same memory under other dims. The attribute is the new shape, a kdas_desc. A
 * program runs no kernel for it. These copies are for direct calls of the op. */
#include "op/op_util.h"

static kdas_status reshape_infer(kdas_node_desc *node)
{
    const kdas_desc *want = node->attr, *x = &node->in[0];

    KD_RETURN(kd_op_check(node));
    KD_RETURN(kd_op_output(node, want->dim[0], want->dim[1], want->dim[2], want->dim[3]));
    if (kd_elements(&node->out) != kd_elements(x))
        return kd_fail(KDAS_ESHAPE, "reshape: %s has %lld elements, %s has %lld", kd_dims_text(x),
                       (long long)kd_elements(x), kd_dims_text(want), (long long)kd_elements(want));
    return KDAS_OK;
}

static kdas_status reshape_forward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    memmove(call->out, call->in[0], (size_t)kd_elements(&call->node->out) * sizeof(float));
    return KDAS_OK;
}

static kdas_status reshape_backward(kdas_device *device, const kdas_call *call)
{
    const float *dy = call->dout;
    float       *dx = call->din[0];
    int64_t      n  = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i];
    return KDAS_OK;
}

const kd_op kd_op_reshape = {
    .name       = "reshape",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_desc),
    .infer      = reshape_infer,
    .ref        = { .op       = KDAS_OP_RESHAPE,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = reshape_forward,
                    .backward = reshape_backward },
};
