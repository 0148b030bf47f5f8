/* quantize.c - x to the nearest of the 256 values of a range. x (N,H,W,C), range (2), state -> y. */
#include "base/grid.h"
#include "op/op_util.h"

static kdas_status quantize_infer(kdas_node_desc *node)
{
    const kdas_quantize_attr *attr = node->attr;
    const kdas_desc          *x    = &node->in[0];

    KD_RETURN(kd_op_check(node));
    KD_RETURN(kd_op_check_vectors(node, 1, 1, 2));
    if (!(attr->momentum >= 0 && attr->momentum <= 1))
        return kd_fail(KDAS_EINVAL, "quantize: momentum %g is not 0 to 1", (double)attr->momentum);
    return kd_op_output(node, x->dim[0], x->dim[1], x->dim[2], x->dim[3]);
}

/* The least and the largest of x; NaN if one of them is. */
static void extremes(const float *x, int64_t n, float *low, float *high)
{
    *low = *high = x[0];
    for (int64_t i = 1; i < n; i++) {
        if (x[i] < *low || isnan(x[i])) *low = x[i];
        if (x[i] > *high || isnan(x[i])) *high = x[i];
    }
}

static kdas_status quantize_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_quantize_attr *attr = call->node->attr;
    const float              *x    = call->in[0];
    float                    *y = call->out, *range = call->in[1];
    int64_t                   n = kd_elements(&call->node->out);
    float                     low, high;
    kd_grid                   g;

    (void)device;
    if ((call->node->flags & KDAS_NODE_TRAIN) && attr->momentum > 0) {
        extremes(x, n, &low, &high);
        if (attr->joins)
            kd_range_join(range, low, high);
        else
            kd_range_follow(range, low, high, attr->momentum);
    }
    g = kd_grid_of(range);
    if (call->node->out.dtype != KDAS_U8) {
        for (int64_t i = 0; i < n; i++)
            y[i] = kd_grid_round(&g, x[i]);
        return KDAS_OK;
    }
    if (g.scale == 0) return kd_fail(KDAS_ESTATE, "quantize: the range is empty");
    for (int64_t i = 0; i < n; i++)
        ((uint8_t *)call->out)[i] = kd_grid_number(&g, x[i]);
    return KDAS_OK;
}

static kdas_status quantize_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *dy = call->dout;
    float       *dx = call->din[0];
    kd_grid      g  = kd_grid_of(call->in[1]);

    (void)device;
    for (int64_t i = 0; i < kd_elements(&call->node->out); i++)
        if (kd_grid_holds(&g, x[i])) dx[i] += dy[i];
    return KDAS_OK;
}

const kd_op kd_op_quantize = {
    .name       = "quantize",
    .min_inputs = 2,
    .max_inputs = 2,
    .state      = 1u << 1,
    .attr_size  = sizeof(kdas_quantize_attr),
    .infer      = quantize_infer,
    .ref        = { .op       = KDAS_OP_QUANTIZE,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .forward  = quantize_forward,
                    .backward = quantize_backward },
};
