/* fuse.c - operator fusion by pattern matching. A chain of nodes becomes one fused node where
 * the backend has a kernel for it, so that intermediate values are not written to memory.
 * Reference kernels are not used for a fused node: they would run its parts one by one. The last
 * node of the chain becomes the fused op, with the operands of all. The others are marked
 * `absorbed` and stay in the list. So node numbers, and the random draws of a step, are the same
 * with and without fusion. Parameters stay nodes of their own and get their gradients as before. */
#include <assert.h>
#include <string.h>
#include "graph/program_inside.h"
#include "graph/settings.h"

enum { MAX_PATTERN = 8 };

/* One node of a pattern. Its first operand is the result of the node before it. Its second and
 * third are parameters. They become operands `weight` and `bias` of the fused node. */
typedef struct pattern_node {
    int32_t op;
    bool (*predicate)(const kd_node *node); /* an extra condition, or NULL */
    int weight, bias;
} pattern_node;

typedef struct pattern {
    const kd_op *op;
    /* The operand of the fused node that gets the other term of an addition at the end of the
     * chain. 0: no addition. */
    int          residual;
    bool         integer; /* only where the program computes with integers */
    int          count;
    pattern_node node[MAX_PATTERN]; /* from the last node to the first */
} pattern;

static bool is_3x3(const kd_node *node)
{
    const kdas_conv_attr *a = node->desc.attr;
    const kdas_desc      *w = &node->desc.in[1];

    return w->dim[2] == 3 && w->dim[3] == 3 && a->stride == 1 && a->pad[0] == 1 && a->pad[1] == 1 &&
           a->pad_end[0] == 1 && a->pad_end[1] == 1;
}

/* fc1, the depthwise filter, GELU and fc2, from the last to the first. */
/* clang-format off */
#define FEED_FORWARD                        \
    {                                       \
        { KDAS_OP_LINEAR, NULL, 5, 6 },     \
        { KDAS_OP_GELU, NULL, 0, 0 },       \
        { KDAS_OP_DWCONV2D, is_3x3, 3, 4 }, \
        { KDAS_OP_LINEAR, NULL, 1, 2 },     \
    }
/* The same with its values on grids; operands 8 to 11 are the ranges. */
#define FEED_FORWARD_ON_GRIDS               \
    {                                       \
        { KDAS_OP_LINEAR, NULL, 5, 6 },     \
        { KDAS_OP_QUANTIZE, NULL, 11, 0 },  \
        { KDAS_OP_GELU, NULL, 0, 0 },       \
        { KDAS_OP_QUANTIZE, NULL, 10, 0 },  \
        { KDAS_OP_DWCONV2D, is_3x3, 3, 4 }, \
        { KDAS_OP_QUANTIZE, NULL, 9, 0 },   \
        { KDAS_OP_LINEAR, NULL, 1, 2 },     \
        { KDAS_OP_QUANTIZE, NULL, 8, 0 },   \
    }
/* clang-format on */

/* Earlier rows are matched first. */
static const pattern patterns[] = {
    { &kd_op_mix_ffn, 7, true, 8, FEED_FORWARD_ON_GRIDS },
    { &kd_op_mix_ffn, 0, true, 8, FEED_FORWARD_ON_GRIDS },
    { &kd_op_mix_ffn, 7, false, 4, FEED_FORWARD },
    { &kd_op_mix_ffn, 0, false, 4, FEED_FORWARD },
};

/* A matched chain: its nodes from the last to the first, and the fused node's operands. */
typedef struct match {
    kd_node *node[MAX_PATTERN + 1];
    int      nodes;
    kd_node *in[KDAS_MAX_INPUTS];
} match;

/* The number of uses of each node as an operand. */
static int *count_uses(kd_program *p)
{
    int *uses = kd_calloc(p->ctx, (size_t)p->nodes + 1, sizeof *uses);

    for (int i = 0; uses && i < p->nodes; i++)
        for (int k = 0; k < KDAS_MAX_INPUTS; k++)
            if (p->graph->node[i]->in[k]) uses[p->graph->node[i]->in[k]->id]++;
    return uses;
}

/* Operand `k` of `node`, a parameter, becomes operand `to` of the fused node. 0: it must be
 * absent. */
static bool match_parameter(match *m, const kd_node *node, int k, int to)
{
    if (!node->in[k]) return true;
    if (to == 0 || node->in[k]->kind != KD_NODE_PARAM) return false;
    m->in[to] = node->in[k];
    return true;
}

static bool match_node(match *m, const pattern_node *l, kd_node *node)
{
    if (node->kind != KD_NODE_OP || node->op->ref.op != l->op) return false;
    if (l->predicate && !l->predicate(node)) return false;
    m->node[m->nodes++] = node;
    return match_parameter(m, node, 1, l->weight) && match_parameter(m, node, 2, l->bias);
}

/* The addition x + chain of equal shapes at the end of a pattern. */
static bool match_addition(match *m, const pattern *t, kd_node *node)
{
    if (node->kind != KD_NODE_OP || node->op->ref.op != KDAS_OP_ADD) return false;
    if (!kd_same_dims(&node->desc.in[0], &node->desc.in[1])) return false;
    m->node[m->nodes++] = node;
    m->in[t->residual]  = node->in[0];
    return true;
}

/* Does the pattern match the chain that ends at `last`? Values inside the chain must have no
 * other use. */
static bool match_pattern(match *m, const pattern *t, kd_node *last, const int *uses)
{
    kd_node *node = last;

    *m = (match){ .nodes = 0 };
    if (t->residual) {
        if (!match_addition(m, t, last)) return false;
        node = last->in[1];
    }
    for (int i = 0; i < t->count; i++, node = node->in[0]) {
        if (node != last && (node->keep || uses[node->id] != 1)) return false;
        if (!match_node(m, &t->node[i], node)) return false;
    }
    m->in[0] = node;
    return true;
}

/* Rewrite the last node as the fused one, if the backend has a kernel for that. */
static bool rewrite(kd_program *p, const pattern *t, match *m)
{
    kd_node *last = m->node[0], fused;

    assert(last); /* matched */
    fused    = *last;
    fused.op = t->op;
    memset(&fused.desc, 0, sizeof fused.desc);
    memset(fused.in, 0, sizeof fused.in);
    kd_connect(p->graph, &fused, KDAS_MAX_INPUTS, m->in);
    if (t->op->infer(&fused.desc) != KDAS_OK) return false;
    fused.desc.out.dtype = last->desc.out.dtype;
    if (!kd_device_kernel(p->ctx, &fused.desc, NULL)) return false;
    fused.rounded = false; /* an integer kernel rounds by itself */
    *last         = fused;
    for (int i = 1; i < m->nodes; i++) {
        m->node[i]->absorbed   = true;
        m->node[i]->desc.wants = 0;
        memset(m->node[i]->in, 0, sizeof m->node[i]->in);
    }
    return true;
}

kdas_status kd_fuse(kd_program *p)
{
    int *uses;

    if (kd_graph_settings_of(p->ctx)->unfused) return KDAS_OK;
    uses = count_uses(p);
    if (!uses) return KDAS_ENOMEM;
    for (int i = p->nodes - 1; i >= 0; i--)
        for (size_t k = 0; k < KD_COUNT(patterns); k++) {
            match m;

            if (p->graph->node[i]->absorbed) break;
            if (patterns[k].integer && !kd_has_integers(p)) continue;
            if (match_pattern(&m, &patterns[k], p->graph->node[i], uses) &&
                rewrite(p, &patterns[k], &m))
                break;
        }
    kd_free(p->ctx, uses);
    return KDAS_OK;
}
