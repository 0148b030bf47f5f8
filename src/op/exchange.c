/* exchange.c - moments of a channel over the images of this process to those over the images of all processes that
 * train together. Graphs run it on the host (graph/exchange.c); here is what it is for a process alone: nothing changes. */
#include "op/op_util.h"

static kdas_status exchange_infer(kdas_node_desc *node)
{
    KD_RETURN(kd_infer_same(node));
    if (kd_rows(&node->out) == 1 && node->out.dim[3] % 2 == 1 && node->out.dim[3] >= 3)
        return KDAS_OK;
    return kd_fail(KDAS_ESHAPE, "exchange: %s is not 1x1x1x(2C+1)", kd_dims_text(&node->out));
}

static kdas_status exchange_forward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    memcpy(call->out, call->in[0], kd_bytes(&call->node->out));
    return KDAS_OK;
}

static kdas_status exchange_backward(kdas_device *device, const kdas_call *call)
{
    const float *dout = call->dout;
    float       *din  = call->din[0];

    (void)device;
    for (int64_t i = 0; i < kd_elements(&call->node->out); i++)
        din[i] += dout[i];
    return KDAS_OK;
}

const kd_op kd_op_exchange = {
    .name       = "exchange",
    .min_inputs = 1,
    .max_inputs = 1,
    .wide       = KDAS_NEEDS_IN(0) | KDAS_NEEDS_OUT,
    .infer      = exchange_infer,
    .ref        = { .op       = KDAS_OP_EXCHANGE,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_OUT,
                    .forward  = exchange_forward,
                    .backward = exchange_backward },
};
