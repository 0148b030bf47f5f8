/* add.c - a + b, b broadcast to a's (N,H,W,C). */
#include "op/op_util.h"

static kdas_status add_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_desc *as = &call->node->in[0], *bs = &call->node->in[1];
    const float     *a = call->in[0], *b = call->in[1];
    float           *y = call->out;
    int64_t          n = kd_elements(as);

    (void)device;
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[kd_broadcast_index(as, bs, i)];
    return KDAS_OK;
}

static kdas_status add_backward(kdas_device *device, const kdas_call *call)
{
    const float *dy = call->dout;
    float       *da = call->din[0], *db = call->din[1];
    int64_t      n = kd_elements(&call->node->out);

    (void)device;
    for (int64_t i = 0; da && i < n; i++)
        da[i] += dy[i];
    if (db) kd_broadcast_reduce(call->node, 1, dy, NULL, db);
    return KDAS_OK;
}

const kd_op kd_op_add = {
    .name       = "add",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer      = kd_infer_broadcast,
    .ref        = { .op       = KDAS_OP_ADD,
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = add_forward,
                    .backward = add_backward },
};
