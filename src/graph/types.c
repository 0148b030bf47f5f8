/* types.c - decides which nodes of a graph compute in 16 bits (bf16 or f16), if the context
 * requests it. Products (convolutions, linear layers, attention) take 16-bit activations.
 * Another op computes in 16 bits if all its activations have 16 bits and the device has a kernel
 * for it, else in f32; moments of a batch norm are f32 always (kd_op.wide). A CAST converts between the two, at most one per value. Parameters,
 * statistics, losses and all values read from outside stay f32.
 * It and graph.c call each other: adding a node chooses its type, which may add a CAST. */
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
    case KDAS_OP_DECONV2D:
    case KDAS_OP_DWCONV2D:
    case KDAS_OP_LINEAR:
    case KDAS_OP_ATTENTION: return true;
    default: return false;
    }
}

/* Whether input i of the op is of the node's type: parameters, and what is always f32, are not. */
static bool follows(const kd_op *op, const kd_node *in, int i)
{
    return in && in->kind != KD_NODE_PARAM && !(op->wide >> i & 1);
}

/* The type of this op's activations by the rule above. */
static kdas_dtype wanted_type(const kd_graph *g, const kd_op *op, int inputs, kd_node *const *in)
{
    if (is_product(op)) return g->type;
    for (int i = 0; i < inputs; i++)
        if (follows(op, in[i], i) && in[i]->desc.out.dtype != (int32_t)g->type) return KDAS_F32;
    return g->type;
}

/* Does the device have its own kernel for the node with activations in the graph's type? */
static bool can_follow(const kd_graph *g, const kd_op *op, const void *attr, int inputs,
                       kd_node *const *in)
{
    kdas_node_desc d = { .op = op->ref.op, .inputs = op->max_inputs, .attr = attr };

    for (int i = 0; i < inputs; i++) {
        if (!in[i]) continue;
        d.in[i] = in[i]->desc.out;
        if (follows(op, in[i], i)) d.in[i].dtype = g->type;
    }
    if (op->infer(&d) != KDAS_OK) return false; /* reported when the node is made */
    if (!(op->wide & KDAS_NEEDS_OUT)) d.out.dtype = g->type;
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
        if (in[i] && in[i]->kind != KD_NODE_PARAM)
            in[i] = kd_cast(g, in[i], follows(op, in[i], i) ? type : KDAS_F32);
    return op->wide & KDAS_NEEDS_OUT ? KDAS_F32 : type;
}
