/* mean.c - the mean of all elements: (N,H,W,C) -> (1,1,1,1). */
#include "op/op_util.h"

static kdas_status mean_infer(kdas_node_desc *node)
{
    KD_RETURN(kd_op_check(node));
    return kd_op_output(node, 1, 1, 1, 1);
}

static kdas_status mean_forward(kdas_device *device, const kdas_call *call)
{
    const float *x   = call->in[0];
    int64_t      n   = kd_elements(&call->node->in[0]);
    double       sum = 0;

    (void)device;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    *(float *)call->out = (float)(sum / (double)n);
    return KDAS_OK;
}

static kdas_status mean_backward(kdas_device *device, const kdas_call *call)
{
    int64_t n     = kd_elements(&call->node->in[0]);
    float   share = (float)(*(const float *)call->dout / (double)n);
    float  *dx    = call->din[0];

    (void)device;
    for (int64_t i = 0; i < n; i++)
        dx[i] += share;
    return KDAS_OK;
}

const kd_op kd_op_mean = {
    .name       = "mean",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer      = mean_infer,
    .ref        = { .op = KDAS_OP_MEAN, .forward = mean_forward, .backward = mean_backward },
};
