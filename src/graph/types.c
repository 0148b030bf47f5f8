/* types.c - which nodes of a graph compute in 16 bits (bf16 or f16), where the context asks for it.
 *
 * Products (convolutions, linear layers, attention) take their activations in 16 bits; other ops follow
 * what they are given: 16 bits if all their activations have them and the device has a kernel for it,
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
static kdas_dtype wanted_type(const kd_graph *g, const kd_op *op, int inputs, kd_node *const *in)
{
    if (is_product(op)) return g->type;
    for (int i = 0; i < inputs; i++)
        if (is_activation(in[i]) && in[i]->desc.out.dtype != (int32_t)g->type) return KDAS_F32;
    return g->type;
}

/* Has the device itself a kernel for the node with activations in the graph's type? */
static bool can_follow(const kd_graph *g, const kd_op *op, const void *attr, int inputs,
                       kd_node *const *in)
{
    kdas_node_desc d = { .op = op->ref.op, .inputs = op->max_inputs, .attr = attr };

    for (int i = 0; i < inputs; i++) {
        if (!in[i]) continue;
        d.in[i] = in[i]->desc.out;
        if (is_activation(in[i])) d.in[i].dtype = g->type;
    }
    if (op->infer(&d) != KDAS_OK) return false; /* reported when the node is made */
    d.out.dtype = g->type;
    return kd_device_kernel(g->ctx, &d, NULL) != NULL;
}

kdas_dtype kd_choose_type(kd_graph *g, const kd_op *op, const void *attr, int inputs, kd_node **in)
{
    kdas_dtype type = KDAS_F32;

    if (op->ref.op == KDAS_OP_CAST) return (kdas_dtype)((const kdas_cast_attr *)attr)->dtype;
    if (op->ref.op == KDAS_OP_RESHAPE) return (kdas_dtype)in[0]->desc.out.dtype;
    if (g->type != KDAS_F32) type = wanted_type(g, op, inputs, in);
    if (type != KDAS_F32 && !can_follow(g, op, attr, inputs, in)) type = KDAS_F32;
    for (int i = 0; i < inputs; i++)
        if (is_activation(in[i])) in[i] = kd_cast(g, in[i], type);
    return type;
}
