/* plan.c - memory planning: the liveness interval of every buffer, and its offset in one arena.
 * Time is counted in ticks (program_inside.h). A value is live from the op that writes it to its
 * last reader, including backward readers. A gradient is live from its first writer to the
 * backward of its own node. Saved data is live from forward to backward, and scratch for one
 * tick. Offsets are assigned greedily, largest buffer first: each gets the lowest offset that is
 * free during its interval. */
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

static void extend_interval(kd_program *p, int storage, int tick)
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

/* The last tick at which a node reads the value of `root`; -1: no reader. */
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

/* Is any node with this root read from outside of the program? */
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
            slot->value = new_storage(p, 0); /* caller-owned: kd_program_bind() */
        else if (runs(p, i) && in_place(p, i))
            slot->value = p->slot[p->slot[node->in[0]->id].root].value;
        else
            slot->value = new_storage(p, value_bytes(node));
        if (slot->value < 0) return KDAS_ENOMEM;
        last = last_read(p, i, &backward);
        extend_interval(p, slot->value, node->kind == KD_NODE_INPUT ? 0 : i);
        if (last >= 0) extend_interval(p, slot->value, last);
        if (kept(p, i) || (backward && p->graph->tape))
            extend_interval(p, slot->value, end_tick(p));
    }
    for (int i = 0; i < p->nodes; i++)
        p->slot[i].value = p->slot[p->slot[i].root].value;
    return KDAS_OK;
}

/* ---- gradients ---- */

/* The first node whose backward writes the gradient of `root`, and the index of its input; -1:
 * no such node. */
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
    for (int i = p->nodes - 1; i >= 0;
         i--) { /* consumers first: they write the gradients of their inputs */
        kd_node *node    = p->graph->node[i];
        kd_slot *slot    = &p->slot[i];
        bool     outside = kept(p, i);
        int      input   = 0;

        if (slot->root != i || !node->grad || node->kind == KD_NODE_PARAM) continue;
        slot->grad_writer = first_writer(p, i, &input);
        if (slot->grad_writer < 0 && (!outside || node->kind == KD_NODE_INPUT))
            continue; /* no gradient arrives */
        if (!outside && grad_in_place(p, slot->grad_writer, input))
            slot->grad = p->slot[slot->grad_writer].grad;
        else
            slot->grad = new_storage(p, value_bytes(node));
        if (slot->grad < 0) return KDAS_ENOMEM;
        if (slot->grad_writer >= 0) {
            extend_interval(p, slot->grad, backward_tick(p, slot->grad_writer));
            slot->zero_grad = !(p->slot[slot->grad_writer].kernel->flags & KDAS_KERNEL_SETS);
        }
        extend_interval(p, slot->grad, backward_tick(p, i));
        if (outside) { /* the caller writes it after forward, may read it after backward */
            extend_interval(p, slot->grad, p->nodes);
            extend_interval(p, slot->grad, end_tick(p));
            if (node->kind == KD_NODE_OP) slot->grad_writer = -1;
            if (node->kind == KD_NODE_OP) slot->zero_grad = false;
        }
    }
    for (int i = 0; i < p->nodes; i++)
        p->slot[i].grad = p->slot[p->slot[i].root].grad;
    return KDAS_OK;
}

/* Bit k: the gradient of input k already holds a value when node i's backward runs, which then
 * accumulates. The bit is always set for parameters. */
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
            first = first && seen[j] != seen[k]; /* add(x, x): the second accumulates */
        if (node->in[k]->kind == KD_NODE_PARAM || !first) add |= 1u << k;
    }
    return add;
}

/* ---- saved data and scratch of kernels ---- */

static kdas_status plan_kernel_memory(kd_program *p, int i)
{
    kd_slot *slot = &p->slot[i];

    if (slot->plan.saved) {
        if ((slot->saved = new_storage(p, slot->plan.saved)) < 0) return KDAS_ENOMEM;
        extend_interval(p, slot->saved, i);
        if (runs_backward(p, i))
            extend_interval(p, slot->saved, p->graph->tape ? end_tick(p) : backward_tick(p, i));
    }
    if (slot->plan.work_forward) {
        if ((slot->work_forward = new_storage(p, slot->plan.work_forward)) < 0) return KDAS_ENOMEM;
        extend_interval(p, slot->work_forward, i);
    }
    if (slot->plan.work_backward && runs_backward(p, i)) {
        if ((slot->work_backward = new_storage(p, slot->plan.work_backward)) < 0)
            return KDAS_ENOMEM;
        extend_interval(p, slot->work_backward, backward_tick(p, i));
    }
    return KDAS_OK;
}

/* ---- offset assignment ---- */

static int larger_first(const void *a, const void *b)
{
    const kd_storage *x = *(kd_storage *const *)a, *y = *(kd_storage *const *)b;

    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    /* a total order: the layout is the same on every machine */
    return x < y ? -1 : x > y;
}

/* First fit: give `s` the lowest offset where it overlaps no buffer with an overlapping
 * interval. Then insert it in `assigned`, which is sorted by offset. */
static void assign_offset(kd_storage *s, kd_storage **assigned, size_t *count)
{
    size_t at = 0, i;

    for (i = 0; i < *count; i++) {
        const kd_storage *o = assigned[i];

        if (o->last < s->first || o->first > s->last) continue;
        if (o->offset >= at + s->bytes) break;
        at = KD_MAX(at, o->offset + o->bytes);
    }
    s->offset = at;
    for (i = (*count)++; i > 0 && assigned[i - 1]->offset > at; i--)
        assigned[i] = assigned[i - 1];
    assigned[i] = s;
}

static kdas_status assign_offsets(kd_program *p)
{
    kd_storage **by_size = kd_calloc(p->ctx, 2 * p->storages + 1, sizeof *by_size);
    kd_storage **assigned;
    size_t       count = 0, used = 0;

    if (!by_size) return KDAS_ENOMEM;
    assigned = by_size + p->storages;
    for (size_t i = 0; i < p->storages; i++) {
        kd_storage *s = &p->storage[i];

        s->bytes = (s->bytes + KDAS_ALIGNMENT - 1) & ~(size_t)(KDAS_ALIGNMENT - 1);
        if (s->first <= s->last) by_size[used++] = s;
    }
    qsort(by_size, used, sizeof *by_size, larger_first);
    for (size_t i = 0; i < used; i++) {
        assign_offset(by_size[i], assigned, &count);
        p->arena_bytes = KD_MAX(p->arena_bytes, by_size[i]->offset + by_size[i]->bytes);
    }
    kd_free(p->ctx, by_size);
    return KDAS_OK;
}

kdas_status kd_plan(kd_program *p)
{
    KD_RETURN(plan_values(p));
    if (kd_has_backward(p)) KD_RETURN(plan_grads(p));
    for (int i = 0; i < p->nodes; i++) {
        if (!runs(p, i)) continue;
        if (runs_backward(p, i)) p->slot[i].add = add_bits(p, i);
        KD_RETURN(plan_kernel_memory(p, i));
    }
    return assign_offsets(p);
}
