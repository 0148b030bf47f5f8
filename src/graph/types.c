/* types.c - which nodes of a graph compute in bf16, where the context asks for it.
 *
 * Products (convolutions, linear layers, attention) take their activations in bf16; other ops follow
 * what they are given: bf16 if all their activations are bf16 and the device has a kernel for it,
 * else f32. Between the two stands a CAST, one for each value at most. Parameters, statistics, losses
 * and everything that is read from outside stay f32. */
#include "graph/device.h"
#include "graph/graph_inside.h"

kd_node *kd_cast(kd_graph *g, kd_node *x, kdas_dtype dtype)
{
    kdas_cast_attr attr = { dtype };
    kd_node       *twin;

    if (!x || x->desc.out.dtype == (int32_t)dtype) return x;
    if (x->twin) return x->twin;
    twin = kd_apply(g, &kd_op_cast, &attr, 1, &x);
    if (twin) x->twin = twin;
    return twin;
}

static bool is_product(const kd_op *op)
{
    switch (op->ref.op) {
    case KDAS_OP_CONV2D:
    case KDAS_OP_DWCONV2D:
    case KDAS_OP_LINEAR:
    case KDAS_OP_ATTENTION: return true;
    default: return false;
    }
}

static bool is_activation(const kd_node *node) { return node && node->kind != KD_NODE_PARAM; }

/* What this op's activations would be by the rule above. */
static kdas_dtype wanted_type(const kd_op *op, int inputs, kd_node *const *in)
{
    if (is_product(op)) return KDAS_BF16;
    for (int i = 0; i < inputs; i++)
        if (is_activation(in[i]) && in[i]->desc.out.dtype != KDAS_BF16) return KDAS_F32;
    return KDAS_BF16;
}

/* Has the device itself a kernel for the node with activations in bf16? */
static bool can_half(const kd_graph *g, const kd_op *op, const void *attr, int inputs,
                     kd_node *const *in)
{
    kdas_node_desc d = { .op = op->ref.op, .inputs = op->max_inputs, .attr = attr };

    for (int i = 0; i < inputs; i++) {
        if (!in[i]) continue;
        d.in[i] = in[i]->desc.out;
        if (is_activation(in[i])) d.in[i].dtype = KDAS_BF16;
    }
    if (op->infer(&d) != KDAS_OK) return false; /* reported when the node is made */
    d.out.dtype = KDAS_BF16;
    return kd_device_kernel(g->ctx, &d, NULL) != NULL;
}

kdas_dtype kd_choose_type(kd_graph *g, const kd_op *op, const void *attr, int inputs, kd_node **in)
{
    kdas_dtype type = KDAS_F32;

    if (op->ref.op == KDAS_OP_CAST) return (kdas_dtype)((const kdas_cast_attr *)attr)->dtype;
    if (op->ref.op == KDAS_OP_RESHAPE) return (kdas_dtype)in[0]->desc.out.dtype;
    if (g->half) type = wanted_type(op, inputs, in);
    if (type == KDAS_BF16 && !can_half(g, op, attr, inputs, in)) type = KDAS_F32;
    for (int i = 0; i < inputs; i++)
        if (is_activation(in[i])) in[i] = kd_cast(g, in[i], type);
    return type;
}
