/* lower.c - for inference: a layer applies the activation after it, where the backend's kernel can. With
 * integers, layers whose input is on a grid become integer nodes (kdas/backend.h) where the backend has
 * kernels for them.
 *
 * A QUANTIZE whose readers are all such layers gives numbers (U8) instead of values. If its own
 * operand is the result of an integer node, through a folded norm and a ReLU, and nothing else reads
 * that, the node gives the numbers itself: the QUANTIZE and the ReLU then do not run, and are
 * aliases of the node, as a folded norm is. */
#include "graph/program_inside.h"
#include "graph/settings.h"

enum { X_RANGE = 3, OUT_RANGE = 4 }; /* operands of an integer node */

static bool is_op(const kd_node *node, int32_t op)
{
    return node && node->kind == KD_NODE_OP && !node->absorbed && node->op->ref.op == op;
}

/* The node as an integer node that reads the numbers of `q`. */
static kdas_node_desc integer_form(const kd_node *node, const kd_node *q)
{
    kdas_node_desc d = node->desc;

    d.inputs      = node->op->max_inputs;
    d.in[0]       = q->desc.out;
    d.in[0].dtype = KDAS_U8;
    d.in[X_RANGE] = q->in[1]->desc.out;
    return d;
}

/* The backend's kernel alone: reference kernels are for tests. */
static bool has_kernel(const kd_program *p, const kdas_node_desc *desc)
{
    return kd_device_kernel(p->ctx, desc, NULL) != NULL;
}

static bool can_become_integer(const kd_program *p, const kd_node *node, const kd_node *q)
{
    kdas_node_desc d;

    if (!node->rounded || node->absorbed) return false;
    d = integer_form(node, q);
    return has_kernel(p, &d);
}

/* Visit the readers of q's value, past a cast. False as soon as `visit` is. */
typedef bool (*visit_fn)(kd_program *p, kd_node *reader, kd_node *q);

static bool each_reader(kd_program *p, const kd_node *of, kd_node *q, visit_fn visit)
{
    for (int i = of->id + 1; i < p->nodes; i++) {
        kd_node *reader = p->graph->node[i];

        for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
            if (reader->in[k] != of) continue;
            if (is_op(reader, KDAS_OP_CAST) ? !each_reader(p, reader, q, visit)
                                            : k != 0 || !visit(p, reader, q))
                return false;
        }
    }
    return !of->keep;
}

static bool reader_can(kd_program *p, kd_node *reader, kd_node *q)
{
    return reader->kind == KD_NODE_OP && can_become_integer(p, reader, q);
}

static bool reader_becomes(kd_program *p, kd_node *reader, kd_node *q)
{
    (void)p;
    reader->desc        = integer_form(reader, q);
    reader->in[0]       = q;
    reader->in[X_RANGE] = q->in[1];
    return true;
}

/* The twin of a QUANTIZE, a cast, has no reader any more: it does not run. */
static void drop_casts(kd_program *p, const kd_node *q)
{
    for (int i = q->id + 1; i < p->nodes; i++) {
        kd_node *cast = p->graph->node[i];

        if (is_op(cast, KDAS_OP_CAST) && cast->in[0] == q && !kd_readers(p, cast)) {
            cast->absorbed = true;
            cast->in[0]    = NULL;
        }
    }
}

static void give_numbers(kd_program *p, kd_node *q)
{
    kdas_node_desc d = q->desc;

    d.out.dtype = KDAS_U8;
    if (!has_kernel(p, &d) || !each_reader(p, q, q, reader_can)) return;
    q->desc.out.dtype = KDAS_U8;
    each_reader(p, q, q, reader_becomes);
    drop_casts(p, q);
}

/* ---- what follows a layer ---- */

static kd_node *root_of(const kd_program *p, const kd_node *node)
{
    return p->graph->node[p->slot[node->id].root];
}

static bool is_integer_node(const kd_node *node)
{
    return node->kind == KD_NODE_OP && node->rounded && node->desc.in[0].dtype == KDAS_U8;
}

static bool is_layer(const kd_node *node)
{
    return is_op(node, KDAS_OP_CONV2D) || is_op(node, KDAS_OP_DWCONV2D) ||
           is_op(node, KDAS_OP_LINEAR);
}

bool kd_reads_alone(const kd_program *p, const kd_node *reader, const kd_node *from)
{
    for (int i = 0; i < p->nodes; i++) {
        const kd_node *node = p->graph->node[i];

        if (p->slot[i].root == from->id && node->keep) return false;
        if (node == reader || p->slot[i].root == from->id) continue;
        for (int k = 0; k < KDAS_MAX_INPUTS; k++)
            if (node->in[k] && p->slot[node->in[k]->id].root == from->id) return false;
    }
    return true;
}

/* Let the layer that `node` reads do its work: then `node` is an alias of it. */
static void take_over(kd_program *p, kd_node *from, kd_node *node, const kdas_node_desc *desc)
{
    int old = p->slot[node->id].root;

    from->desc = *desc;
    for (int i = 0; i < p->nodes; i++)
        if (p->slot[i].root == old) p->slot[i].root = from->id;
}

/* Into the node before: what it reads has no other reader, and is not read from outside. */
static void absorb(kd_program *p, kd_node *node, int32_t post, kd_node *range)
{
    kd_node       *from = root_of(p, node->in[0]);
    kdas_node_desc d    = from->desc;

    if ((!is_integer_node(from) && (range || !is_layer(from))) || !kd_reads_alone(p, node, from))
        return;
    if (d.out.dtype == KDAS_U8 || (post != KDAS_POST_NONE && d.post != KDAS_POST_NONE)) return;
    if (post != KDAS_POST_NONE) d.post = post;
    if (range) {
        d.in[OUT_RANGE] = range->desc.out;
        d.out.dtype     = KDAS_U8;
    } else if (node->desc.out.dtype != d.out.dtype) {
        return;
    }
    if (!has_kernel(p, &d)) return;
    if (range) from->in[OUT_RANGE] = range;
    take_over(p, from, node, &d);
}

kdas_status kd_lower(kd_program *p)
{
    bool apart = kd_graph_settings_of(p->ctx)->unfused && !kd_has_integers(p);

    for (int i = 0; i < p->nodes && kd_has_integers(p); i++)
        if (is_op(p->graph->node[i], KDAS_OP_QUANTIZE)) give_numbers(p, p->graph->node[i]);
    for (int i = 0; i < p->nodes && !apart; i++) {
        kd_node *node = p->graph->node[i];

        if (is_op(node, KDAS_OP_RELU)) absorb(p, node, KDAS_POST_RELU, NULL);
        if (is_op(node, KDAS_OP_RELU6)) absorb(p, node, KDAS_POST_RELU6, NULL);
        if (is_op(node, KDAS_OP_QUANTIZE) && node->desc.out.dtype == KDAS_U8)
            absorb(p, node, KDAS_POST_NONE, node->in[1]);
    }
    return KDAS_OK;
}
