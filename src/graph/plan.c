/* plan.c - every buffer's life, and its place in one arena.
 *
 * A value lives from the op that writes it to its last reader, backward readers included; a gradient from
 * its first writer to the backward of its own node; saved data from forward to backward; scratch for one
 * tick. Storages are laid out largest first, each at the lowest place that is free during its life. */
#include <stdlib.h>
#include "graph/program_inside.h"

static int new_storage(kd_program *p, size_t bytes)
{
    if (kd_grow(p->ctx, (void **)&p->storage, &p->storage_capacity, p->storages + 1,
                sizeof *p->storage))
        return -2;
    p->storage[p->storages] = (kd_storage){ .bytes = bytes, .first = INT32_MAX, .last = -1 };
    return (int)p->storages++;
}

static void live(kd_program *p, int storage, int tick)
{
    kd_storage *s = &p->storage[storage];

    s->first = KD_MIN(s->first, tick);
    s->last  = KD_MAX(s->last, tick);
}

static int  end_tick(const kd_program *p) { return 2 * p->nodes + 1; }
static int  backward_tick(const kd_program *p, int i) { return 2 * p->nodes - i; }
static bool runs(const kd_program *p, int i) { return p->slot[i].kernel != NULL; }
static bool runs_backward(const kd_program *p, int i)
{
    return runs(p, i) && kd_has_backward(p) && p->graph->node[i]->desc.wants;
}

static size_t value_bytes(const kd_node *node) { return kd_bytes(&node->desc.out); }

/* ---- values ---- */

/* Last tick at which any node reads the value of `root`; -1: nobody. */
static int last_read(const kd_program *p, int root, bool *backward)
{
    int last = -1;

    *backward = false;
    for (int i = root; i < p->nodes; i++) {
        const kd_node *node = p->graph->node[i];
        const kd_slot *slot = &p->slot[i];

        if (!runs(p, i)) continue;
        if (i == root && runs_backward(p, i) && (slot->kernel->needs & KDAS_NEEDS_OUT)) {
            last      = KD_MAX(last, backward_tick(p, i));
            *backward = true;
        }
        for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
            if (!node->in[k] || p->slot[node->in[k]->id].root != root || i == root) continue;
            last = KD_MAX(last, i);
            if (runs_backward(p, i) && (slot->kernel->needs & KDAS_NEEDS_IN(k))) {
                last      = KD_MAX(last, backward_tick(p, i));
                *backward = true;
            }
        }
    }
    return last;
}

/* Any node with this root that is read from outside? */
static bool kept(const kd_program *p, int root)
{
    for (int i = root; i < p->nodes; i++)
        if (p->slot[i].root == root && p->graph->node[i]->keep) return true;
    return false;
}

static bool in_place(const kd_program *p, int i)
{
    const kd_node *node = p->graph->node[i];
    int            from;
    bool           backward;

    if (!(p->slot[i].kernel->flags & KDAS_KERNEL_INPLACE)) return false;
    from = p->slot[node->in[0]->id].root;
    return p->graph->node[from]->kind == KD_NODE_OP && !kept(p, from) &&
           last_read(p, from, &backward) == i && !backward &&
           value_bytes(p->graph->node[from]) == value_bytes(node);
}

static kdas_status plan_values(kd_program *p)
{
    for (int i = 0; i < p->nodes; i++) {
        kd_node *node = p->graph->node[i];
        kd_slot *slot = &p->slot[i];
        bool     backward;
        int      last;

        if (slot->root != i || node->kind == KD_NODE_PARAM || node->absorbed) continue;
        if (node->kind == KD_NODE_INPUT)
            slot->value = new_storage(p, 0); /* lent by the caller */
        else if (runs(p, i) && in_place(p, i))
            slot->value = p->slot[p->slot[node->in[0]->id].root].value;
        else
            slot->value = new_storage(p, value_bytes(node));
        if (slot->value < 0) return KDAS_ENOMEM;
        last = last_read(p, i, &backward);
        live(p, slot->value, node->kind == KD_NODE_INPUT ? 0 : i);
        if (last >= 0) live(p, slot->value, last);
        if (kept(p, i) || (backward && p->graph->tape)) live(p, slot->value, end_tick(p));
    }
    for (int i = 0; i < p->nodes; i++)
        p->slot[i].value = p->slot[p->slot[i].root].value;
    return KDAS_OK;
}

/* ---- gradients ---- */

/* The node whose backward writes the gradient of `root` first, with the input's number; -1: none. */
static int first_writer(const kd_program *p, int root, int *input)
{
    for (int i = p->nodes - 1; i > root; i--) {
        if (!runs_backward(p, i) || p->slot[i].grad < 0) continue;
        for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
            const kd_node *in = p->graph->node[i]->in[k];

            if (in && (p->graph->node[i]->desc.wants >> k & 1) && p->slot[in->id].root == root) {
                *input = k;
                return i;
            }
        }
    }
    return -1;
}

static bool grad_in_place(const kd_program *p, int writer, int input)
{
    const kd_slot *w    = &p->slot[writer];
    const uint32_t need = KDAS_KERNEL_INPLACE_BACKWARD | KDAS_KERNEL_SETS;

    return input == 0 && (w->kernel->flags & need) == need && !kept(p, writer) && w->grad >= 0 &&
           value_bytes(p->graph->node[writer]) == kd_bytes(&p->graph->node[writer]->desc.in[0]);
}

static kdas_status plan_grads(kd_program *p)
{
    for (int i = p->nodes - 1; i >= 0; i--) { /* writers come before what they write to */
        kd_node *node    = p->graph->node[i];
        kd_slot *slot    = &p->slot[i];
        bool     outside = kept(p, i);
        int      input   = 0;

        if (slot->root != i || !node->grad || node->kind == KD_NODE_PARAM) continue;
        slot->grad_writer = first_writer(p, i, &input);
        if (slot->grad_writer < 0 && (!outside || node->kind == KD_NODE_INPUT))
            continue; /* none comes */
        if (!outside && grad_in_place(p, slot->grad_writer, input))
            slot->grad = p->slot[slot->grad_writer].grad;
        else
            slot->grad = new_storage(p, value_bytes(node));
        if (slot->grad < 0) return KDAS_ENOMEM;
        if (slot->grad_writer >= 0) {
            live(p, slot->grad, backward_tick(p, slot->grad_writer));
            slot->zero_grad = !(p->slot[slot->grad_writer].kernel->flags & KDAS_KERNEL_SETS);
        }
        live(p, slot->grad, backward_tick(p, i));
        if (outside) { /* the caller puts its share there first; afterwards it may look */
            live(p, slot->grad, p->nodes);
            live(p, slot->grad, end_tick(p));
            if (node->kind == KD_NODE_OP) slot->grad_writer = -1;
            if (node->kind == KD_NODE_OP) slot->zero_grad = false;
        }
    }
    for (int i = 0; i < p->nodes; i++)
        p->slot[i].grad = p->slot[p->slot[i].root].grad;
    return KDAS_OK;
}

/* Which inputs' gradients already hold something when node i's backward runs. Parameters always do. */
static uint32_t add_bits(const kd_program *p, int i)
{
    const kd_node *node = p->graph->node[i];
    uint32_t       add  = 0;
    int            seen[KDAS_MAX_INPUTS];

    for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
        const kd_slot *root;
        bool           first;

        seen[k] = -1;
        if (!node->in[k] || !(node->desc.wants >> k & 1)) continue;
        seen[k] = p->slot[node->in[k]->id].root;
        root    = &p->slot[seen[k]];
        first   = root->grad_writer == i && !root->zero_grad;
        for (int j = 0; j < k; j++)
            first = first && seen[j] != seen[k]; /* add(x, x): the second adds */
        if (node->in[k]->kind == KD_NODE_PARAM || !first) add |= 1u << k;
    }
    return add;
}

/* ---- what kernels ask for ---- */

static kdas_status plan_extra(kd_program *p, int i)
{
    kd_slot *slot = &p->slot[i];

    if (slot->plan.saved) {
        if ((slot->saved = new_storage(p, slot->plan.saved)) < 0) return KDAS_ENOMEM;
        live(p, slot->saved, i);
        if (runs_backward(p, i))
            live(p, slot->saved, p->graph->tape ? end_tick(p) : backward_tick(p, i));
    }
    if (slot->plan.work_forward) {
        if ((slot->work_forward = new_storage(p, slot->plan.work_forward)) < 0) return KDAS_ENOMEM;
        live(p, slot->work_forward, i);
    }
    if (slot->plan.work_backward && runs_backward(p, i)) {
        if ((slot->work_backward = new_storage(p, slot->plan.work_backward)) < 0)
            return KDAS_ENOMEM;
        live(p, slot->work_backward, backward_tick(p, i));
    }
    return KDAS_OK;
}

/* ---- places ---- */

static int larger_first(const void *a, const void *b)
{
    const kd_storage *x = *(kd_storage *const *)a, *y = *(kd_storage *const *)b;

    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : x > y; /* a total order, so that the layout is the same on every machine */
}

/* Insert `s` in `placed`, which is sorted by offset; its place is the first gap that is wide enough. */
static void place(kd_storage *s, kd_storage **placed, size_t *count)
{
    size_t at = 0, i;

    for (i = 0; i < *count; i++) {
        const kd_storage *o = placed[i];

        if (o->last < s->first || o->first > s->last) continue;
        if (o->offset >= at + s->bytes) break;
        at = KD_MAX(at, o->offset + o->bytes);
    }
    s->offset = at;
    for (i = (*count)++; i > 0 && placed[i - 1]->offset > at; i--)
        placed[i] = placed[i - 1];
    placed[i] = s;
}

static kdas_status place_all(kd_program *p)
{
    kd_storage **order  = kd_calloc(p->ctx, 2 * p->storages + 1, sizeof *order);
    kd_storage **placed = order + p->storages;
    size_t       count = 0, live_count = 0;

    if (!order) return KDAS_ENOMEM;
    for (size_t i = 0; i < p->storages; i++) {
        kd_storage *s = &p->storage[i];

        s->bytes = (s->bytes + KDAS_ALIGNMENT - 1) & ~(size_t)(KDAS_ALIGNMENT - 1);
        if (s->first <= s->last) order[live_count++] = s;
    }
    qsort(order, live_count, sizeof *order, larger_first);
    for (size_t i = 0; i < live_count; i++) {
        place(order[i], placed, &count);
        p->arena_bytes = KD_MAX(p->arena_bytes, order[i]->offset + order[i]->bytes);
    }
    kd_free(p->ctx, order);
    return KDAS_OK;
}

kdas_status kd_plan(kd_program *p)
{
    KD_RETURN(plan_values(p));
    if (kd_has_backward(p)) KD_RETURN(plan_grads(p));
    for (int i = 0; i < p->nodes; i++) {
        if (!runs(p, i)) continue;
        if (runs_backward(p, i)) p->slot[i].add = add_bits(p, i);
        KD_RETURN(plan_extra(p, i));
    }
    return place_all(p);
}
