/* run.c - runs a program without allocations or lookups. The only nodes that are run otherwise than by their kernel are
 * those of exchange.c. */
#include <assert.h>
#include "base/process.h"
#include "graph/exchange.h"

static void *storage_memory(const kd_program *p, int storage)
{
    const kd_storage *s = storage < 0 ? NULL : &p->storage[storage];

    if (!s) return NULL;
    if (s->bound) return s->memory;
    return p->arena->memory + s->offset;
}

/* Operand k of node i if it is the weight or the bias of a layer that reads changed ones; else NULL. */
static void *changed_operand(const kd_program *p, int i, int k)
{
    const kd_slot *slot = &p->slot[i];

    if (k == 0) return NULL;
    if (slot->layer[0] >= 0) { /* weight and bias of the first layer, of the second ... */
        if (k > 2 * KD_BLOCK_LAYERS) return NULL;
        slot = &p->slot[slot->layer[(k - 1) / 2]];
        k    = 1 + (k - 1) % 2;
    }
    if (slot->fold < 0 || k > 2) return NULL;
    return k == 1 ? slot->pack->weight : slot->pack->bias;
}

static void *operand(const kd_program *p, int i, int k)
{
    const kd_node *in      = p->graph->node[i]->in[k];
    void          *changed = changed_operand(p, i, k);

    if (changed || !in) return changed;
    if (in->kind == KD_NODE_PARAM)
        return kd_params_values(p->graph->params) +
               kd_params_at(p->graph->params, in->param)->offset;
    return storage_memory(p, p->slot[in->id].value);
}

static void *operand_grad(const kd_program *p, int i, int k)
{
    const kd_node *node = p->graph->node[i], *in = node->in[k];

    if (!in || !(node->desc.wants >> k & 1)) return NULL;
    if (in->kind == KD_NODE_PARAM)
        return kd_params_grads(p->graph->params) +
               kd_params_at(p->graph->params, in->param)->offset;
    return storage_memory(p, p->slot[in->id].grad);
}

void kd_program_resolve(kd_program *p)
{
    if (p->arena_moves != p->arena->moves) kd_captures_drop(p);
    p->arena_moves = p->arena->moves;
    for (int i = 0; i < p->nodes; i++) {
        kd_slot   *slot = &p->slot[i];
        kdas_call *c    = &slot->forward;

        if (!slot->kernel) continue;
        c->node  = &p->graph->node[i]->desc;
        c->state = slot->plan.state;
        c->out   = storage_memory(p, slot->value);
        c->saved = storage_memory(p, slot->saved);
        c->work  = storage_memory(p, slot->work_forward);
        if (slot->draw >= 0) c->seed_at = p->device_seed + slot->draw;
        for (int k = 0; k < KDAS_MAX_INPUTS; k++)
            c->in[k] = operand(p, i, k);
        slot->backward = *c;
        c              = &slot->backward;
        c->dout        = storage_memory(p, slot->grad);
        c->work        = storage_memory(p, slot->work_backward);
        c->add         = slot->add;
        for (int k = 0; k < KDAS_MAX_INPUTS; k++)
            c->din[k] = operand_grad(p, i, k);
    }
}

/* ---- values and memory of the caller ---- */

float *kd_program_value(kd_program *p, const kd_node *node)
{
    return node && node->keep ? storage_memory(p, p->slot[node->id].value) : NULL;
}

float *kd_program_grad(kd_program *p, const kd_node *node)
{
    return node && node->keep ? storage_memory(p, p->slot[node->id].grad) : NULL;
}

static bool bind(kd_program *p, int storage, float *memory)
{
    kd_storage *s = storage < 0 ? NULL : &p->storage[storage];

    if (!s || !memory || (s->bound && s->memory == memory)) return false;
    s->bound  = true;
    s->memory = memory;
    return true;
}

void kd_program_bind(kd_program *p, const kd_node *input, float *value, float *grad)
{
    bool changed = bind(p, p->slot[input->id].value, value);

    changed |= bind(p, p->slot[input->id].grad, grad);
    if (changed) kd_program_resolve(p);
}

void kd_program_watch(kd_program *p, kd_watch_fn watch, void *user)
{
    p->watch      = watch;
    p->watch_user = user;
}

/* ---- running ---- */

typedef kdas_status (*kernel_fn)(kdas_device *device, const kdas_call *call);

static kdas_status run_node(kd_program *p, int i, kdas_profile_part part, kernel_fn run,
                            const kdas_call *call)
{
    double      start = kd_profile_start(p->ctx);
    kdas_status st    = run(p->ctx->device, call);

    if (st == KDAS_OK && p->ctx->profiling) st = kd_profile_node(p, i, part, start);
    return st == KDAS_OK ? st : kd_fail_in(st, "%s", p->graph->node[i]->name);
}

static kdas_status zero_for(kd_program *p, int i, void *memory, const kdas_desc *desc)
{
    size_t bytes = kd_bytes(desc);
    double start = kd_profile_start(p->ctx);

    KD_RETURN(kd_device_zero(p->ctx, memory, bytes));
    return p->ctx->profiling ? kd_profile_node_zero(p, i, start, bytes) : KDAS_OK;
}

static kdas_status fold(kd_program *p)
{
    double start = kd_profile_start(p->ctx);

    if (!p->folds) return KDAS_OK;
    KD_RETURN(kd_fold_compute(p));
    if (!p->ctx->profiling) return KDAS_OK;
    return kd_profile_stop(p->ctx, start, p->label, "fold", "", KDAS_PROFILE_PACK, (kd_work){ 0 });
}

bool kd_pack_current(const kd_program *p, int i)
{
    const kd_pack   *pack   = p->slot[i].pack;
    const kd_params *params = p->graph->params;

    return !pack || (pack->version == kd_params_version(params) &&
                     (!pack->stats || pack->stats_version == kd_params_stats_version(params)));
}

/* A device that captures this packs everything, so that the graph is complete. Other devices
 * pack only what is outdated. */
static kdas_status pack_nodes(kd_program *p)
{
    for (int i = 0; i < p->nodes; i++) {
        const kdas_kernel *k    = p->slot[i].kernel;
        kdas_call          call = p->slot[i].forward;

        if (!k || !p->slot[i].plan.packed || (!p->capture && kd_pack_current(p, i))) continue;
        call.in[0] = call.out = call.saved = NULL; /* the graph outlives caller-owned memory */
        KD_RETURN(run_node(p, i, KDAS_PROFILE_PACK, k->pack, &call));
    }
    return KDAS_OK;
}

static bool all_current(const kd_program *p)
{
    for (int i = 0; i < p->nodes; i++)
        if (!kd_pack_current(p, i)) return false;
    return true;
}

static kdas_status pack(kd_program *p)
{
    kd_params *params = p->graph->params;
    uint64_t   version, stats;

    if (!params) return KDAS_OK;
    version = kd_params_version(params);
    stats   = p->folds || p->graph->grids ? kd_params_stats_version(params) : 0;
    if (p->version == version && p->stats_version == stats) return KDAS_OK;
    if (!all_current(p)) {
        KD_RETURN(fold(p));
        KD_RETURN(kd_capture_pack(p, pack_nodes));
    }
    for (int i = 0; i < p->nodes; i++)
        if (p->slot[i].pack) {
            p->slot[i].pack->version       = version;
            p->slot[i].pack->stats_version = kd_params_stats_version(params);
        }
    p->version       = version;
    p->stats_version = stats;
    return KDAS_OK;
}

/* Zero the gradients of outputs and kept taps, because the caller accumulates into them. */
static kdas_status clear_outside_grads(kd_program *p)
{
    for (int i = 0; i < p->nodes; i++) {
        const kd_node *node = p->graph->node[i];

        if (!node->keep || node->kind != KD_NODE_OP || p->slot[i].grad < 0) continue;
        KD_RETURN(zero_for(p, i, storage_memory(p, p->slot[i].grad), &node->desc.out));
    }
    return KDAS_OK;
}

static kdas_status forward_node(kd_program *p, int i)
{
    const kd_slot *slot = &p->slot[i];

    KD_RETURN(kd_check_stop(p->ctx));
    if (p->watch && p->graph->node[i]->desc.op == KDAS_OP_QUANTIZE)
        KD_RETURN(p->watch(p->watch_user, p->graph->node[i], slot->forward.in[0]));
    return run_node(p, i, KDAS_PROFILE_FORWARD, slot->kernel->forward, &slot->forward);
}

/* An EXCHANGE, after nodes that have returned `st`. */
static kdas_status run_exchange(kd_program *p, int i, kdas_profile_part part, const kdas_call *call,
                                kdas_status st, bool *all)
{
    double start = kd_profile_start(p->ctx);

    st = part == KDAS_PROFILE_FORWARD ? kd_exchange_forward(p, i, st, all)
                                      : kd_exchange_backward(p, i, call, st, all);
    if (st == KDAS_OK && p->ctx->profiling) st = kd_profile_node(p, i, part, start);
    return st == KDAS_OK || *all ? st : kd_fail_in(st, "%s", p->graph->node[i]->name);
}

/* After a failure nodes do not run, but the next exchange does: see exchange.h. */
static kdas_status run_forward(kd_program *p)
{
    kdas_status st  = KDAS_OK;
    bool        all = false;

    if (p->exchanges) p->exchanges->begun = true;
    for (int i = 0; i < p->nodes && !all && (st == KDAS_OK || p->exchanges); i++) {
        if (!p->slot[i].kernel) continue;
        if (kd_is_exchange(p, i))
            st = run_exchange(p, i, KDAS_PROFILE_FORWARD, NULL, st, &all);
        else if (st == KDAS_OK)
            st = forward_node(p, i);
    }
    KD_RETURN(st);
    return kd_has_backward(p) ? clear_outside_grads(p) : KDAS_OK;
}

static kdas_status forward(kd_program *p, uint64_t seed)
{
    KD_RETURN(pack(p));
    KD_RETURN(kd_program_seed(p, seed));
    KD_RETURN(p->watch ? run_forward(p) : kd_capture_run(p, KD_CAPTURE_FORWARD, run_forward));
    if (p->graph->mode == KD_TRAIN && p->graph->params) kd_params_touch_stats(p->graph->params);
    return KDAS_OK;
}

/* With exchanges a failure before the nodes is told at the first of them. */
static kdas_status tell_early(kd_program *p, bool backward, kdas_status st)
{
    if (st == KDAS_OK || !p->exchanges || p->exchanges->begun) return st;
    return kd_exchange_decline(p, backward, st);
}

static kdas_status forward_all(kd_program *p, uint64_t seed)
{
    kdas_status st;

    KD_RETURN(kd_arena_reserve(p->arena, p->arena_bytes)); /* lost if another growth failed */
    if (p->arena_moves != p->arena->moves) kd_program_resolve(p);
    if (p->ctx->profiling) KD_RETURN(kd_profile_program(p));
    KD_RETURN(kd_device_enter(p->ctx));
    p->arena->forward_of = p->arena->values_of = NULL;
    st                                         = forward(p, seed);
    kd_device_leave(p->ctx);
    if (st == KDAS_OK) p->arena->forward_of = p->arena->values_of = p;
    return st;
}

kdas_status kd_program_forward(kd_program *p, uint64_t seed)
{
    KD_RETURN(kd_check_process(p->ctx));
    if (p->exchanges) p->exchanges->begun = false;
    return tell_early(p, false, forward_all(p, seed));
}

bool kd_program_holds(const kd_program *p) { return p->arena->values_of == p; }

/* Zero the gradients for which node i is the first to accumulate. */
static kdas_status clear_grads(kd_program *p, int i)
{
    const kd_node *node = p->graph->node[i];

    for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
        const kd_slot *root;

        if (!node->in[k] || !(node->desc.wants >> k & 1)) continue;
        root = &p->slot[p->slot[node->in[k]->id].root];
        if (root->grad_writer != i || !root->zero_grad) continue;
        KD_RETURN(zero_for(p, i, storage_memory(p, root->grad), &node->desc.in[k]));
    }
    return KDAS_OK;
}

static kdas_status backward_node(kd_program *p, int i)
{
    const kd_slot *slot = &p->slot[i];

    KD_RETURN(kd_check_cancel(p->ctx));
    KD_RETURN(clear_grads(p, i));
    return run_node(p, i, KDAS_PROFILE_BACKWARD, slot->kernel->backward, &slot->backward);
}

static kdas_status run_backward(kd_program *p)
{
    kdas_status st  = KDAS_OK;
    bool        all = false;

    if (p->exchanges) p->exchanges->begun = true;
    for (int i = p->nodes - 1; i >= 0 && !all && (st == KDAS_OK || p->exchanges); i--) {
        const kd_slot *slot = &p->slot[i];

        if (p->gradients) kd_program_tell_gradients(p, i);
        if (!slot->kernel || !p->graph->node[i]->desc.wants || !slot->backward.dout) continue;
        if (kd_is_exchange(p, i))
            st = run_exchange(p, i, KDAS_PROFILE_BACKWARD, &slot->backward, st, &all);
        else if (st == KDAS_OK)
            st = backward_node(p, i);
    }
    return st;
}

kdas_status kd_program_check_backward(const kd_program *p)
{
    if (!kd_has_backward(p)) return kd_fail(KDAS_ESTATE, "a forward for inference has no backward");
    if (p->arena->forward_of != p)
        return kd_fail(KDAS_ESTATE, "backward comes after a forward, once");
    return KDAS_OK;
}

static kdas_status ready_for_backward(kd_program *p)
{
    KD_RETURN(kd_program_check_backward(p));
    return p->ctx->profiling ? kd_profile_program(p) : KDAS_OK;
}

static kdas_status backward_all(kd_program *p)
{
    kdas_status st;

    KD_RETURN(ready_for_backward(p));
    KD_RETURN(kd_device_enter(p->ctx));
    p->arena->forward_of = NULL; /* gradients overwrite values of the forward */
    st                   = kd_capture_run(p, KD_CAPTURE_BACKWARD, run_backward);
    kd_device_leave(p->ctx);
    if (st != KDAS_OK && p->graph->params) kd_params_spoil_grads(p->graph->params);
    if (st == KDAS_OK && p->graph->tape) p->arena->forward_of = p;
    return st;
}

kdas_status kd_program_backward(kd_program *p)
{
    if (p->exchanges) p->exchanges->begun = false;
    return tell_early(p, true, backward_all(p));
}

/* ---- backward of one output ---- */

/* Decide which gradients node i accumulates into and which it sets. The first writer may differ
 * from the planned one. */
static kdas_status set_or_add(kd_program *p, int i, kdas_call *call)
{
    const kd_node *node = p->graph->node[i];

    call->add = 0;
    for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
        const kd_node *in = node->in[k];
        kd_slot       *root;
        bool           sets = p->slot[i].kernel->flags & KDAS_KERNEL_SETS;

        if (!in || !call->din[k]) continue;
        root = &p->slot[p->slot[in->id].root];
        if (in->kind == KD_NODE_PARAM || root->grad_written || !sets) call->add |= 1u << k;
        if (in->kind != KD_NODE_PARAM && !root->grad_written && !sets)
            KD_RETURN(zero_for(p, i, call->din[k], &node->desc.in[k]));
        root->grad_written = true;
    }
    return KDAS_OK;
}

/* A node's gradient is written only if the output depends on the node. */
static kdas_status run_backward_of(kd_program *p, int output)
{
    for (int i = 0; i < p->nodes; i++)
        p->slot[i].grad_written = i == p->slot[output].root;
    for (int i = p->nodes - 1; i >= 0; i--) {
        const kd_node *node = p->graph->node[i];
        kd_slot       *slot = &p->slot[i];
        kdas_call      call = slot->backward;
        bool           all;

        if (node->kind == KD_NODE_INPUT && slot->grad >= 0 && !slot->grad_written)
            KD_RETURN(
                kd_device_zero(p->ctx, storage_memory(p, slot->grad), kd_bytes(&node->desc.out)));
        if (!slot->kernel || !slot->grad_written || !node->desc.wants || !call.dout) continue;
        KD_RETURN(kd_check_cancel(p->ctx));
        KD_RETURN(set_or_add(p, i, &call));
        if (kd_is_exchange(p, i))
            KD_RETURN(run_exchange(p, i, KDAS_PROFILE_BACKWARD, &call, KDAS_OK, &all));
        else
            KD_RETURN(run_node(p, i, KDAS_PROFILE_BACKWARD, slot->kernel->backward, &call));
    }
    return KDAS_OK;
}

kdas_status kd_program_backward_of(kd_program *p, const kd_node *output)
{
    kdas_status st;

    assert(p->graph->tape && output->keep);
    KD_RETURN(ready_for_backward(p));
    KD_RETURN(kd_device_enter(p->ctx));
    st = run_backward_of(p, output->id);
    kd_device_leave(p->ctx);
    return st;
}
