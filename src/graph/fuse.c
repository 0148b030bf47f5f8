/* fuse.c - chains of nodes that become one node, where the backend has a kernel that does the work of all
 * of them and what lies between them need not be written to memory. The reference is never asked: what it
 * fuses it runs one by one.
 *
 * The last node of a chain takes the fused op and the operands of all; the others are marked `absorbed` and
 * stay in the list, so that a node's number, and with it the random draws of a step, is the same either
 * way. Parameters stay nodes of their own, and gradients reach them as before. */
#include <string.h>
#include "graph/program_inside.h"

enum { MAX_CHAIN = 6 };

/* One node of a chain: its first operand is what the node before it gives, the second and the third are
 * parameters, which become these operands of the fused node. */
typedef struct link {
    int32_t op;
    bool (*fits)(const kd_node *node); /* NULL: any */
    int weight, bias;
} link;

typedef struct pattern {
    const kd_op *op;
    /* Where the other term of an addition that ends the chain goes; 0: the chain ends before it. */
    int  residual;
    int  links;
    link chain[MAX_CHAIN]; /* from the last to the first */
} pattern;

static bool is_3x3(const kd_node *node)
{
    const kdas_conv_attr *a = node->desc.attr;
    const kdas_desc      *w = &node->desc.in[1];

    return w->dim[2] == 3 && w->dim[3] == 3 && a->stride == 1 && a->pad == 1 && a->pad_end == 1;
}

#define FEED_FORWARD                                                  \
    {                                                                 \
        { KDAS_OP_LINEAR, NULL, 5, 6 }, { KDAS_OP_GELU, NULL, 0, 0 }, \
            { KDAS_OP_DWCONV2D, is_3x3, 3, 4 },                       \
        {                                                             \
            KDAS_OP_LINEAR, NULL, 1, 2                                \
        }                                                             \
    }

/* Earlier rows are tried first. */
static const pattern patterns[] = {
    { &kd_op_mix_ffn, 7, 4, FEED_FORWARD },
    { &kd_op_mix_ffn, 0, 4, FEED_FORWARD },
};

/* A chain that was found: its nodes from the last to the first, and the fused node's operands. */
typedef struct match {
    kd_node *node[MAX_CHAIN + 1];
    int      nodes;
    kd_node *in[KDAS_MAX_INPUTS];
} match;

/* How many operands each node is. */
static int *count_readers(kd_program *p)
{
    int *readers = kd_calloc(p->ctx, (size_t)p->nodes + 1, sizeof *readers);

    for (int i = 0; readers && i < p->nodes; i++)
        for (int k = 0; k < KDAS_MAX_INPUTS; k++)
            if (p->graph->node[i]->in[k]) readers[p->graph->node[i]->in[k]->id]++;
    return readers;
}

/* Operand `k` of `node` goes to `to` of the fused one; 0: there is none. */
static bool take_parameter(match *m, const kd_node *node, int k, int to)
{
    if (!node->in[k]) return true;
    if (to == 0 || node->in[k]->kind != KD_NODE_PARAM) return false;
    m->in[to] = node->in[k];
    return true;
}

static bool take_link(match *m, const link *l, kd_node *node)
{
    if (node->kind != KD_NODE_OP || node->op->ref.op != l->op) return false;
    if (l->fits && !l->fits(node)) return false;
    m->node[m->nodes++] = node;
    return take_parameter(m, node, 1, l->weight) && take_parameter(m, node, 2, l->bias);
}

/* An addition x + chain of equal shapes. */
static bool take_addition(match *m, const pattern *t, kd_node *node)
{
    if (node->kind != KD_NODE_OP || node->op->ref.op != KDAS_OP_ADD) return false;
    if (!kd_same_dims(&node->desc.in[0], &node->desc.in[1])) return false;
    m->node[m->nodes++] = node;
    m->in[t->residual]  = node->in[0];
    return true;
}

/* Does the chain end at `last`? Nobody else may read what lies inside. */
static bool find(match *m, const pattern *t, kd_node *last, const int *readers)
{
    kd_node *node = last;

    *m = (match){ .nodes = 0 };
    if (t->residual) {
        if (!take_addition(m, t, last)) return false;
        node = last->in[1];
    }
    for (int i = 0; i < t->links; i++, node = node->in[0]) {
        if (node != last && (node->keep || readers[node->id] != 1)) return false;
        if (!take_link(m, &t->chain[i], node)) return false;
    }
    m->in[0] = node;
    return true;
}

/* Rewrite the last node, if the backend has a kernel for what it becomes. */
static bool rewrite(kd_program *p, const pattern *t, match *m)
{
    kd_node *last = m->node[0], fused = *last;

    fused.op = t->op;
    memset(&fused.desc, 0, sizeof fused.desc);
    memset(fused.in, 0, sizeof fused.in);
    kd_connect(p->graph, &fused, KDAS_MAX_INPUTS, m->in);
    if (t->op->infer(&fused.desc) != KDAS_OK) return false;
    fused.desc.out.dtype = last->desc.out.dtype;
    if (!kd_device_kernel(p->ctx, &fused.desc, NULL)) return false;
    *last = fused;
    for (int i = 1; i < m->nodes; i++) {
        m->node[i]->absorbed   = true;
        m->node[i]->desc.wants = 0;
        memset(m->node[i]->in, 0, sizeof m->node[i]->in);
    }
    return true;
}

kdas_status kd_fuse(kd_program *p)
{
    int *readers;

    if (p->ctx->unfused) return KDAS_OK;
    readers = count_readers(p);
    if (!readers) return KDAS_ENOMEM;
    for (int i = p->nodes - 1; i >= 0; i--)
        for (size_t k = 0; k < KD_COUNT(patterns); k++) {
            match m;

            if (p->graph->node[i]->absorbed) break;
            if (find(&m, &patterns[k], p->graph->node[i], readers) && rewrite(p, &patterns[k], &m))
                break;
        }
    kd_free(p->ctx, readers);
    return KDAS_OK;
}
