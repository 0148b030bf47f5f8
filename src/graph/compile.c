/* compile.c - from a graph to a program: fuse, fold, choose and prepare kernels, plan memory. */
#include <string.h>
#include "base/process.h"
#include "base/text.h"
#include "graph/exchange.h"

/* The host runs it, whatever the device (exchange.c): its kernel is only what the planner asks. */
static const kdas_kernel *exchange_kernel(const kd_node *node)
{
    static const kdas_kernel kernel = { .op    = KDAS_OP_EXCHANGE,
                                        .needs = KDAS_NEEDS_IN(0) | KDAS_NEEDS_OUT,
                                        .flags = KDAS_KERNEL_SETS };

    return node->op == &kd_op_exchange ? &kernel : NULL;
}

/* Ops that need no kernel: their value uses another node's memory. */
static bool is_alias(const kd_node *node)
{
    return node->kind == KD_NODE_OP && node->op->ref.op == KDAS_OP_RESHAPE;
}

static kdas_status choose_kernel(kd_program *p, int i)
{
    kd_node      *node = p->graph->node[i];
    kd_slot      *slot = &p->slot[i];
    kdas_context *ctx  = p->ctx;
    kdas_status   st;

    if (node->kind != KD_NODE_OP || node->absorbed || slot->root != i) return KDAS_OK;
    slot->kernel = exchange_kernel(node);
    if (slot->kernel) return KDAS_OK;
    slot->kernel = kd_device_kernel(ctx, &node->desc, &node->op->ref);
    if (!slot->kernel)
        return kd_fail(KDAS_EUNSUPPORTED, "device '%s' cannot run %s (%s)", ctx->backend->name,
                       node->op->name, node->name);
    if (node->desc.wants && !slot->kernel->backward)
        return kd_fail(KDAS_EUNSUPPORTED, "device '%s' has no gradient of %s (%s)",
                       ctx->backend->name, node->op->name, node->name);
    if (!slot->kernel->prepare) return KDAS_OK;
    st = slot->kernel->prepare(ctx->device, &node->desc, &slot->plan);
    if (st != KDAS_OK) {
        st = kd_fail_in(st, "%s", node->name);
        memset(&slot->plan, 0, sizeof slot->plan);
        return st;
    }
    return KDAS_OK;
}

static kd_pack **packs_of(const kd_program *p)
{
    return p->graph->params ? kd_params_packs(p->graph->params) : NULL;
}

/* What a fused block adds at its end; no pack depends on it. */
static bool is_residual(const kd_node *node, int k)
{
    return k == 7 && (node->desc.op == KDAS_OP_MIX_FFN || node->desc.op == KDAS_OP_INVERTED);
}

/* The pack of a node. It can be shared if it depends only on parameters, not if it depends on
 * caller-owned memory. */
static kd_pack describe_pack(const kd_program *p, int i)
{
    const kd_node *node = p->graph->node[i];
    const kd_slot *slot = &p->slot[i];
    kd_pack        pack = { .kernel = slot->kernel,
                            .key    = slot->plan.packed ? slot->plan.pack_key : 1,
                            .bytes  = slot->plan.packed,
                            .norm   = -1 };

    for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
        const kd_node *in = k ? node->in[k] : NULL;

        pack.param[k] = in && in->kind == KD_NODE_PARAM ? in->param : -1;
        if (in && in->kind != KD_NODE_PARAM && !is_residual(node, k)) pack.key = 0;
    }
    if (slot->fold >= 0) {
        const kd_fold   *fold = &p->fold[slot->fold];
        const kdas_desc *w    = &node->desc.in[fold->weight];

        if (fold->norm >= 0) pack.norm = p->graph->node[fold->norm]->in[1]->param;
        pack.rounded = node->rounded && !p->graph->watched;
        pack.weights = (size_t)kd_elements(w);
        pack.biases  = (size_t)w->dim[0];
    }
    for (int k = 0; k < KD_BLOCK_LAYERS && pack.norm < 0 && slot->layer[k] >= 0; k++) {
        int fold = p->slot[slot->layer[k]].fold;
        int norm = fold < 0 ? -1 : p->fold[fold].norm;

        if (norm >= 0) pack.norm = p->graph->node[norm]->in[1]->param;
    }
    pack.stats = pack.norm >= 0 || kd_has_integers(p); /* which pack ranges, too */
    return pack;
}

static kdas_status make_packs(kd_program *p)
{
    for (int i = 0; i < p->nodes; i++) {
        kd_slot *slot = &p->slot[i];
        kd_pack  wanted;

        if (!slot->plan.packed && slot->fold < 0) continue;
        wanted = describe_pack(p, i);
        KD_RETURN(kd_pack_take(&slot->pack, p->ctx, packs_of(p), &wanted));
        slot->forward.packed = slot->pack->memory;
        p->packed_bytes += slot->pack->bytes;
    }
    return KDAS_OK;
}

static kdas_status compile(kd_program *p)
{
    kd_graph *g = p->graph;

    KD_RETURN(kd_graph_status(g));
    p->nodes = (int)g->count;
    p->slot  = kd_calloc(p->ctx, g->count + 1, sizeof *p->slot);
    if (!p->slot) return KDAS_ENOMEM;
    for (int i = 0; i < p->nodes; i++) {
        kd_slot *s = &p->slot[i];

        s->root  = is_alias(g->node[i]) ? p->slot[g->node[i]->in[0]->id].root : i;
        s->value = s->grad = s->saved = s->packed = s->work_forward = s->work_backward = -1;
        s->grad_writer = s->fold = s->draw = -1;
        for (int k = 0; k < KD_BLOCK_LAYERS; k++)
            s->layer[k] = -1;
    }
    KD_RETURN(kd_fuse(p));
    if (g->mode == KD_INFER) KD_RETURN(kd_fold_find(p));
    if (g->mode == KD_INFER) KD_RETURN(kd_lower(p));
    if (g->mode == KD_INFER) KD_RETURN(kd_fuse_blocks(p));
    KD_RETURN(kd_fold_rounded(p));
    for (int i = 0; i < p->nodes; i++)
        KD_RETURN(choose_kernel(p, i));
    KD_RETURN(make_packs(p));
    KD_RETURN(kd_plan(p));
    KD_RETURN(kd_exchanges_create(p));
    KD_RETURN(kd_captures_create(p));
    KD_RETURN(kd_arena_reserve(p->arena, p->arena_bytes));
    kd_program_resolve(p);
    return KDAS_OK;
}

kdas_status kd_program_create(kd_program **out, kd_graph *g, kd_arena *arena)
{
    kd_program *p;
    kdas_status st;

    *out = NULL;
    if (!g) return KDAS_ENOMEM;
    p = kd_calloc(g->ctx, 1, sizeof *p);
    if (!p) {
        kd_graph_destroy(g);
        return KDAS_ENOMEM;
    }
    p->ctx   = g->ctx;
    p->graph = g;
    p->arena = arena;
    kd_process_enter();
    st = compile(p);
    kd_process_leave();
    if (st != KDAS_OK) {
        kd_program_destroy(p);
        return st;
    }
    *out = p;
    return KDAS_OK;
}

void kd_program_destroy(kd_program *p)
{
    if (!p) return;
    kd_captures_destroy(p);
    kd_exchanges_destroy(p);
    for (int i = 0; p->slot && i < p->nodes; i++) {
        if (p->slot[i].kernel) kd_device_release(p->ctx, p->slot[i].kernel, p->slot[i].plan.state);
        kd_pack_release(p->ctx, packs_of(p), p->slot[i].pack);
    }
    if (p->arena->values_of == p) p->arena->forward_of = p->arena->values_of = NULL;
    kd_free(p->ctx, p->fold);
    kd_free(p->ctx, p->storage);
    kd_free(p->ctx, p->slot);
    kd_free(p->ctx, p->profile);
    kd_free(p->ctx, p->final);
    kd_graph_destroy(p->graph);
    kd_free(p->ctx, p);
}

kd_graph *kd_program_graph(kd_program *p) { return p->graph; }

void kd_program_label(kd_program *p, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    kd_vformat(p->label, sizeof p->label, format, args);
    va_end(args);
}

kd_program_memory kd_program_memory_use(const kd_program *p)
{
    kd_program_memory m = { .arena = p->arena_bytes, .packed = p->packed_bytes };

    for (size_t i = 0; i < p->storages; i++)
        if (p->storage[i].first <= p->storage[i].last) m.unshared += p->storage[i].bytes;
    return m;
}
