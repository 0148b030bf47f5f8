/* drop_path.c - stochastic depth. In training each image is kept with probability 1-p and
 * divided by it, or set to 0. Otherwise the op does nothing. The choice is a pure function of
 * the seed. */
#include "op/op_util.h"

static kdas_status drop_path_infer(kdas_node_desc *node)
{
    const kdas_drop_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!(attr->p >= 0 && attr->p < 1))
        return kd_fail(KDAS_EINVAL, "drop_path: probability %g is not in [0, 1)", (double)attr->p);
    return KDAS_OK;
}

/* The factor of image n. */
static float factor_of(const kdas_call *call, int64_t n)
{
    float keep = 1 - ((const kdas_drop_attr *)call->node->attr)->p;

    if (!(call->node->flags & KDAS_NODE_TRAIN)) return 1;
    return kdas_unit(call->seed, (uint64_t)n) < keep ? 1 / keep : 0;
}

static kdas_status drop_path_forward(kdas_device *device, const kdas_call *call)
{
    const float *x    = call->in[0];
    float       *y    = call->out;
    int64_t      size = kd_image_elements(&call->node->out), n = call->node->out.dim[0] * size;

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * factor_of(call, i / size);
    return KDAS_OK;
}

static kdas_status drop_path_backward(kdas_device *device, const kdas_call *call)
{
    const float *dy   = call->dout;
    float       *dx   = call->din[0];
    int64_t      size = kd_image_elements(&call->node->out), n = call->node->out.dim[0] * size;

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * factor_of(call, i / size);
    return KDAS_OK;
}

const kd_op kd_op_drop_path = {
    .name       = "drop_path",
    .min_inputs = 1,
    .max_inputs = 1,
    .draws      = true,
    .attr_size  = sizeof(kdas_drop_attr),
    .infer      = drop_path_infer,
    .ref        = { .op       = KDAS_OP_DROP_PATH,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = drop_path_forward,
                    .backward = drop_path_backward },
};
