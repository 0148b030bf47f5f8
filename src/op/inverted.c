/* inverted.c - an inverted residual block, for inference: narrow(filter(widen(x))) + residual. widen and
 * narrow are linear layers, filter a depthwise filter of F channels; the attributes name the activations
 * after widen and filter. x (N,H,W,C), W1 (F,C), [b1 (F)], Wd (F,1,k,k), [bd (F)], W2 (O,F), [b2 (O)],
 * [residual (N,P,Q,O)] -> y (N,P,Q,O). The reference runs the three ops in order, on its own scratch. */
#include "op/op_util.h"

enum { X, W1, B1, WD, BD, W2, B2, RESIDUAL };
enum { WIDEN, FILTER, NARROW, PARTS };

static const int32_t part_op[PARTS] = { KDAS_OP_LINEAR, KDAS_OP_DWCONV2D, KDAS_OP_LINEAR };

/* The three ops as separate nodes, with their shapes. */
static kdas_status split(const kdas_node_desc *node, kdas_node_desc part[PARTS])
{
    const kdas_inverted_attr *attr        = node->attr;
    const int32_t             post[PARTS] = { attr->widened, attr->filtered, KDAS_POST_NONE };
    kdas_desc                 x           = node->in[X];

    for (int i = 0; i < PARTS; i++) {
        part[i] = (kdas_node_desc){ .op     = part_op[i],
                                    .inputs = 3,
                                    .post   = post[i],
                                    .attr   = &attr->filter,
                                    .in     = { x, node->in[W1 + 2 * i], node->in[B1 + 2 * i] } };
        KD_RETURN(kd_op_find(part[i].op)->infer(&part[i]));
        x = part[i].out;
    }
    return KDAS_OK;
}

static kdas_status inverted_infer(kdas_node_desc *node)
{
    kdas_node_desc   part[PARTS];
    const kdas_desc *out = &part[NARROW].out;
    kdas_status      st;

    KD_RETURN(kd_op_check(node));
    if (node->wants) return kd_fail(KDAS_EUNSUPPORTED, "inverted: it has no gradient");
    if (node->post != KDAS_POST_NONE)
        return kd_fail(KDAS_EINVAL, "inverted: no activation can follow it");
    st = split(node, part);
    if (st != KDAS_OK) return kd_fail_in(st, "inverted");
    if (kd_present(&node->in[RESIDUAL]) && !kd_same_dims(&node->in[RESIDUAL], out))
        return kd_fail(KDAS_ESHAPE, "inverted: the residual is %s, but the result is %s",
                       kd_dims_text(&node->in[RESIDUAL]), kd_dims_text(out));
    return kd_op_output(node, out->dim[0], out->dim[1], out->dim[2], out->dim[3]);
}

/* Scratch holds the maps of F channels. */
static kdas_status inverted_prepare(kdas_device *device, const kdas_node_desc *node,
                                    kdas_plan *plan)
{
    kdas_node_desc part[PARTS];

    (void)device;
    KD_RETURN(split(node, part));
    plan->work_forward = kd_bytes(&part[WIDEN].out) + kd_bytes(&part[FILTER].out);
    return KDAS_OK;
}

static kdas_status inverted_forward(kdas_device *device, const kdas_call *call)
{
    const float   *residual = call->in[RESIDUAL];
    float         *y = call->out, *map[PARTS] = { call->work, NULL, y };
    void          *x = call->in[X];
    kdas_node_desc part[PARTS];

    KD_RETURN(split(call->node, part));
    map[FILTER] = map[WIDEN] + kd_elements(&part[WIDEN].out);
    for (int i = 0; i < PARTS; x = map[i++]) {
        kdas_call c = { .node = &part[i],
                        .in   = { x, call->in[W1 + 2 * i], call->in[B1 + 2 * i] },
                        .out  = map[i] };

        KD_RETURN(kd_op_find(part[i].op)->ref.forward(device, &c));
    }
    for (int64_t i = 0; residual && i < kd_elements(&call->node->out); i++)
        y[i] += residual[i];
    return KDAS_OK;
}

static int64_t inverted_macs(const kdas_node_desc *node)
{
    kdas_node_desc part[PARTS];
    int64_t        sum = 0;

    if (split(node, part) != KDAS_OK) return 0;
    for (int i = 0; i < PARTS; i++)
        sum += kd_op_find(part[i].op)->macs(&part[i]);
    return sum;
}

static double inverted_thop(const kdas_node_desc *node)
{
    kdas_node_desc part[PARTS];
    double         sum = 0;

    if (split(node, part) != KDAS_OK) return 0;
    for (int i = 0; i < PARTS; i++)
        sum += kd_op_find(part[i].op)->thop(&part[i]);
    return sum;
}

const kd_op kd_op_inverted = {
    .name       = "inverted",
    .min_inputs = 6,
    .max_inputs = 8,
    .optional   = 1u << B1 | 1u << BD | 1u << B2 | 1u << RESIDUAL,
    .attr_size  = sizeof(kdas_inverted_attr),
    .infer      = inverted_infer,
    .macs       = inverted_macs,
    .thop       = inverted_thop,
    .ref = { .op = KDAS_OP_INVERTED, .prepare = inverted_prepare, .forward = inverted_forward },
};
