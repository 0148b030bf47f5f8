/* graph.c - building: nodes, names, and the first error. */
#include <stdio.h>
#include <string.h>
#include "base/pool.h"
#include "base/text.h"
#include "graph/graph.h"
#include "graph/graph_inside.h"
#include "graph/settings.h"

kd_graph *kd_graph_create(kdas_context *ctx, kd_params *params, kd_mode mode)
{
    kd_graph *g = kd_calloc(ctx, 1, sizeof *g);

    if (!g) return NULL;
    g->ctx    = ctx;
    g->params = params;
    g->mode   = mode;
    g->type   = params ? ctx->type : KDAS_F32;
    kd_pool_init(&g->pool, ctx);
    return g;
}

void kd_graph_destroy(kd_graph *g)
{
    if (!g) return;
    kd_pool_finish(&g->pool);
    kd_free(g->ctx, g->node);
    kd_free(g->ctx, g->named);
    kd_free(g->ctx, g);
}

kd_mode kd_graph_mode(const kd_graph *g) { return g->mode; }
void    kd_graph_stay_f32(kd_graph *g) { g->type = KDAS_F32; }
void    kd_graph_keep_tape(kd_graph *g) { g->tape = true; }

void kd_graph_use_grids(kd_graph *g, float momentum, const char *wide)
{
    g->grids    = true;
    g->momentum = momentum;
    g->wide     = wide ? kd_pool_strdup(&g->pool, wide) : "";
    if (!g->wide) g->status = KDAS_ENOMEM;
}

void kd_graph_watch_grids(kd_graph *g)
{
    g->watched = true;
    kd_graph_stay_f32(g);
}

void kd_graph_use_ranks(kd_graph *g, kdas_ranks *ranks)
{
    bool alone = kdas_ranks_count(ranks) == 1;

    if (g->mode != KD_TRAIN) return;
    g->ranks     = alone ? NULL : ranks;
    g->exchanges = !alone || kd_graph_settings_of(g->ctx)->exchanges;
}

bool kd_graph_has_exchanges(const kd_graph *g) { return g->exchanges; }

bool kd_graph_has_grids(const kd_graph *g)
{
    size_t n = strlen(g->scope);

    if (!g->grids || !g->wide || n == 0) return false;
    for (const char *at = g->wide; (at = strstr(at, g->scope)); at += n)
        if ((at == g->wide || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return false;
    return true;
}

/* ---- errors ---- */

/* Store the current error message as the graph's, if it is the graph's first error. */
static kd_node *keep_error(kd_graph *g, kdas_status status)
{
    if (g->status == KDAS_OK) {
        g->status = status;
        snprintf(g->sentence, sizeof g->sentence, "%s%s%s", g->scope, g->scope[0] ? ": " : "",
                 kdas_last_error());
    }
    return NULL;
}

kd_node *kd_graph_fail(kd_graph *g, kdas_status status, const char *format, ...)
{
    char    text[400];
    va_list args;

    va_start(args, format);
    kd_vformat(text, sizeof text, format, args);
    va_end(args);
    return keep_error(g, kd_fail(status, "%s", text));
}

kdas_status kd_graph_status(const kd_graph *g)
{
    return g->status == KDAS_OK ? KDAS_OK : kd_fail(g->status, "%s", g->sentence);
}

/* ---- names ---- */

void kd_scope(kd_graph *g, const char *format, ...)
{
    size_t  used = strlen(g->scope);
    va_list args;

    if (g->depth >= KD_MAX_SCOPES) {
        kd_graph_fail(g, KDAS_EINVAL, "scopes are nested too deeply");
        return;
    }
    g->scope_end[g->depth++] = (uint16_t)used;
    if (used && used + 1 < sizeof g->scope) g->scope[used++] = '.';
    va_start(args, format);
    kd_vformat(g->scope + used, sizeof g->scope - used, format, args);
    va_end(args);
}

void kd_scope_end(kd_graph *g)
{
    if (g->depth > 0) g->scope[g->scope_end[--g->depth]] = 0;
}

static const char *full_name(kd_graph *g, const char *name)
{
    size_t n    = strlen(g->scope) + strlen(name) + 2;
    char  *text = kd_pool_alloc(&g->pool, n);

    if (text) snprintf(text, n, "%s%s%s", g->scope, g->scope[0] && name[0] ? "." : "", name);
    return text;
}

static kd_node *set_name(kd_graph *g, kd_name_kind kind, const char *name, kd_node *node, bool keep)
{
    if (!node) return NULL;
    if (kd_grow(g->ctx, (void **)&g->named, &g->named_capacity, g->named_count + 1,
                sizeof *g->named))
        return keep_error(g, KDAS_ENOMEM);
    g->named[g->named_count++] = (kd_named){ kind, kd_pool_strdup(&g->pool, name), node };
    if (!g->named[g->named_count - 1].name) return keep_error(g, KDAS_ENOMEM);
    if (keep) node->keep = true;
    return node;
}

kd_node *kd_find(const kd_graph *g, const char *name)
{
    for (size_t i = 0; i < g->named_count; i++)
        if (strcmp(g->named[i].name, name) == 0) return g->named[i].node;
    return NULL;
}

/* ---- nodes ---- */

static kd_node *new_node(kd_graph *g, kd_node_kind kind, const char *name)
{
    kd_node *node;

    if (g->status != KDAS_OK) return NULL;
    if (kd_grow(g->ctx, (void **)&g->node, &g->capacity, g->count + 1, sizeof *g->node) != KDAS_OK)
        return keep_error(g, KDAS_ENOMEM);
    node = kd_pool_alloc(&g->pool, sizeof *node);
    if (!node) return keep_error(g, KDAS_ENOMEM);
    node->kind = kind;
    node->id   = (int)g->count;
    node->name = full_name(g, name);
    if (!node->name) return keep_error(g, KDAS_ENOMEM);
    g->node[g->count++] = node;
    return node;
}

kd_node *kd_input(kd_graph *g, const char *name, kdas_desc desc, bool grad)
{
    kd_node *node = new_node(g, KD_NODE_INPUT, name);

    if (!node) return NULL;
    node->desc.out = desc;
    node->grad     = grad && g->mode != KD_INFER;
    return set_name(g, KD_NAME_INPUT, name, node, true);
}

kd_node *kd_param(kd_graph *g, const char *name, kd_init init, int rank, const int64_t *dims)
{
    kd_node *node = new_node(g, KD_NODE_PARAM, name);

    if (!node) return NULL;
    node->param = kd_params_declare(g->params, node->name, init, rank, dims);
    if (node->param < 0) return keep_error(g, (kdas_status)node->param);
    node->desc.out.dtype = KDAS_F32;
    node->desc.out.rank  = rank;
    for (int i = 0; i < KDAS_MAX_DIMS; i++)
        node->desc.out.dim[i] = i < rank ? dims[i] : 1;
    node->grad = init.kind == KD_TRAINABLE && g->mode != KD_INFER;
    return node;
}

void kd_connect(kd_graph *g, kd_node *node, int inputs, kd_node *const *in)
{
    kdas_node_desc *d = &node->desc;

    d->op     = node->op->ref.op;
    d->inputs = node->op->max_inputs;
    d->flags  = g->mode == KD_TRAIN ? KDAS_NODE_TRAIN : 0;
    for (int i = 0; i < inputs; i++) {
        if (!in[i]) continue;
        node->in[i] = in[i];
        d->in[i]    = in[i]->desc.out;
        if (!in[i]->reader) in[i]->reader = node->id;
        if (in[i]->grad && !((node->op->constant | node->op->state) >> i & 1)) d->wants |= 1u << i;
    }
    node->grad = d->wants != 0;
}

kd_node *kd_apply(kd_graph *g, const kd_op *op, const void *attr, int inputs,
                  kd_node *const *operands)
{
    kd_node    *node, *in[KDAS_MAX_INPUTS] = { 0 };
    kdas_dtype  type;
    kdas_status st;

    if (g->status != KDAS_OK) return NULL;
    for (int i = 0; i < KD_MIN(inputs, KDAS_MAX_INPUTS); i++)
        in[i] = operands[i];
    for (int i = 0; i < op->min_inputs; i++)
        if (i >= inputs || (!in[i] && !(op->optional >> i & 1)))
            return kd_graph_fail(g, KDAS_EINVAL, "%s: input %d is missing", op->name, i);
    if (inputs > op->max_inputs)
        return kd_graph_fail(g, KDAS_EINVAL, "%s: %d inputs are too many", op->name, inputs);
    type = kd_choose_type(g, op, attr, inputs, in);
    node = new_node(g, KD_NODE_OP, op->name);
    if (!node) return NULL;
    node->op = op;
    kd_connect(g, node, inputs, in);
    if (op->attr_size) {
        void *copy = kd_pool_alloc(&g->pool, op->attr_size);

        if (!copy) return keep_error(g, KDAS_ENOMEM);
        memcpy(copy, attr, op->attr_size);
        node->desc.attr = copy;
    }
    st                   = op->infer(&node->desc);
    node->desc.out.dtype = type;
    return st == KDAS_OK ? node : keep_error(g, st);
}

/* A layer that runs twice has one range, for all that it reads. */
static bool is_followed(const kd_graph *g, const kd_node *range)
{
    for (int i = 0; i < range->id; i++) {
        const kd_node *node = g->node[i];

        if (node->kind == KD_NODE_OP && node->op == &kd_op_quantize &&
            node->in[1]->param == range->param)
            return true;
    }
    return false;
}

kd_node *kd_on_grid(kd_graph *g, kd_node *x)
{
    static const int64_t two[] = { 2 };
    kdas_quantize_attr   attr  = { .momentum = g->momentum };
    kd_node             *in[2] = { x, NULL };

    if (!x || !kd_graph_has_grids(g)) return x;
    if (x->quantized) return x->quantized;
    in[1] = kd_param(g, "input_range", (kd_init){ KD_BUFFER, KD_INIT_ZERO, 0, false }, 1, two);
    if (in[1]) attr.joins = is_followed(g, in[1]);
    if (in[1]) x->quantized = kd_apply(g, &kd_op_quantize, &attr, 2, in);
    return x->quantized;
}

kd_node *kd_output(kd_graph *g, const char *name, kd_node *node)
{
    return set_name(g, KD_NAME_OUTPUT, name, kd_cast(g, node, KDAS_F32), true);
}

kd_node *kd_tap(kd_graph *g, const char *name, kd_node *node)
{
    bool keep = false;

    if (!node) return NULL;
    for (size_t i = 0; i < g->kept_count; i++)
        keep |= strcmp(g->kept[i], name) == 0;
    set_name(g, KD_NAME_TAP, name, keep ? kd_cast(g, node, KDAS_F32) : node, keep);
    return g->status == KDAS_OK ? node : NULL;
}

kdas_status kd_keep_tap(kd_graph *g, const char *name)
{
    char *copy = kd_pool_strdup(&g->pool, name);

    if (!copy || g->kept_count == KD_COUNT(g->kept))
        return copy ? kd_fail(KDAS_EINVAL, "too many taps are kept") : KDAS_ENOMEM;
    g->kept[g->kept_count++] = copy;
    return KDAS_OK;
}

int            kd_graph_nodes(const kd_graph *g) { return (int)g->count; }
const kd_node *kd_graph_node(const kd_graph *g, int i) { return g->node[i]; }

static const char *named(const kd_graph *g, kd_name_kind kind, int i, const kd_node **node)
{
    for (size_t k = 0; k < g->named_count; k++)
        if (g->named[k].kind == kind && i-- == 0) {
            if (node) *node = g->named[k].node;
            return g->named[k].name;
        }
    return NULL;
}

const char *kd_graph_output(const kd_graph *g, int i, const kd_node **node)
{
    return named(g, KD_NAME_OUTPUT, i, node);
}

const char *kd_graph_tap(const kd_graph *g, int i, const kd_node **node)
{
    return named(g, KD_NAME_TAP, i, node);
}
