/* profile.c - see profile.h.
 * It and device.c call each other: updates are timed, and so is clearing memory. */
#include "graph/profile.h"
#include "graph/program_inside.h"
#include "op/integer.h"

/* ---- what a node costs ---- */

static double bytes_of(const kdas_desc *d) { return kd_present(d) ? (double)kd_bytes(d) : 0; }

/* Inputs that a forward also writes: in training the `state` inputs of the op, for updates all
 * inputs but gradients. */
static uint32_t written_inputs(const kdas_node_desc *node)
{
    const kd_op *op = kd_op_find(node->op);

    if (op) return node->flags & KDAS_NODE_TRAIN ? op->state : 0;
    switch (node->op) {
    case KDAS_OP_ADAMW: return 1u << 0 | 1u << 2 | 1u << 3;
    case KDAS_OP_SGD: return 1u << 0 | 1u << 2;
    case KDAS_OP_AXPY:
    case KDAS_OP_LERP: return 1u << 0;
    default: return 0;
    }
}

static kd_work forward_work(const kdas_node_desc *node)
{
    const kd_op *op      = kd_op_find(node->op);
    uint32_t     written = written_inputs(node);
    kd_work      work    = { .bytes = bytes_of(&node->out) };

    for (int k = 0; k < node->inputs; k++)
        work.bytes += bytes_of(&node->in[k]) * (written >> k & 1 ? 2 : 1);
    if (op && op->macs)
        work.flop = 2 * (double)op->macs(node);
    else /* an update has no output of its own: count what it rewrites */
        work.flop = (double)kd_elements(op ? &node->out : &node->in[0]);
    return work;
}

/* Gradients of parameters accumulate, so they are read too. Other gradients are mostly set. */
static kd_work backward_work(const kdas_node_desc *node, const kdas_kernel *kernel)
{
    const kd_op *op   = kd_op_find(node->op);
    kd_work      work = { .bytes = bytes_of(&node->out) };

    if (kernel->needs & KDAS_NEEDS_OUT) work.bytes += bytes_of(&node->out);
    for (int k = 0; k < node->inputs; k++) {
        bool wanted = node->wants >> k & 1;

        if (kernel->needs & KDAS_NEEDS_IN(k)) work.bytes += bytes_of(&node->in[k]);
        if (wanted) work.bytes += bytes_of(&node->in[k]);
        if (op && op->macs)
            work.flop += wanted && k < 2 ? 2 * (double)op->macs(node) : 0;
        else
            work.flop += wanted ? (double)kd_elements(&node->in[k]) : 0;
    }
    return work;
}

kd_work kd_work_of(const kdas_node_desc *node, const kdas_kernel *kernel, kdas_profile_part part)
{
    kd_work work = { 0 };

    switch (part) {
    case KDAS_PROFILE_FORWARD:
    case KDAS_PROFILE_UPDATE: return forward_work(node);
    case KDAS_PROFILE_BACKWARD: return backward_work(node, kernel);
    default: return work;
    }
}

/* ---- timing outside programs ---- */

static kdas_status finished(kdas_context *ctx)
{
    return ctx->backend->sync ? ctx->backend->sync(ctx->device) : KDAS_OK;
}

kdas_status kd_profile_stop(kdas_context *ctx, double start, const char *program, const char *op,
                            const char *node, kdas_profile_part part, kd_work work)
{
    int32_t row;
    double  seconds;

    KD_RETURN(finished(ctx));
    seconds = kd_now() - start;
    KD_RETURN(kd_profile_row(&row, ctx, program, op, node, part, KDAS_PRECISION_F32));
    kd_profile_add(ctx, row, seconds, work.flop, work.bytes);
    return KDAS_OK;
}

kdas_status kd_profile_zero(kdas_context *ctx, const char *program, void *memory, size_t bytes)
{
    double start = kd_profile_start(ctx);

    KD_RETURN(kd_device_zero(ctx, memory, bytes));
    if (!ctx->profiling) return KDAS_OK;
    return kd_profile_stop(ctx, start, program, "zero", "", KDAS_PROFILE_ZERO,
                           (kd_work){ .bytes = (double)bytes });
}

/* ---- programs ---- */

static bool has_part(const kd_program *p, int i, kdas_profile_part part)
{
    const kdas_kernel *k = p->slot[i].kernel;

    switch (part) {
    case KDAS_PROFILE_FORWARD: return k != NULL;
    case KDAS_PROFILE_BACKWARD: return k && p->graph->node[i]->desc.wants;
    case KDAS_PROFILE_PACK: return k && k->pack;
    case KDAS_PROFILE_ZERO: return kd_has_backward(p) && p->graph->node[i]->kind == KD_NODE_OP;
    default: return false;
    }
}

/* Parameters read, and the packed copy written. A kernel without a packed copy costs nothing
 * here. */
static double pack_bytes(const kd_program *p, int i)
{
    const kd_node *node  = p->graph->node[i];
    double         bytes = (double)p->slot[i].plan.packed;

    for (int k = 0; bytes > 0 && k < KDAS_MAX_INPUTS; k++)
        if (node->in[k] && node->in[k]->kind == KD_NODE_PARAM) bytes += bytes_of(&node->desc.in[k]);
    return bytes;
}

static kdas_precision precision_of(const kd_node *node)
{
    if (kd_is_integer(&node->desc)) return KDAS_PRECISION_INT8;
    switch (node->desc.in[0].dtype) {
    case KDAS_BF16: return KDAS_PRECISION_BF16;
    case KDAS_F16: return KDAS_PRECISION_F16;
    default: return KDAS_PRECISION_F32;
    }
}

static kdas_status find_rows(kd_program *p, kd_profile_slot *slots)
{
    for (int i = 0; i < p->nodes; i++) {
        const kd_node *node = p->graph->node[i];

        for (int part = 0; part < KD_PROFILE_PARTS; part++) {
            slots[i].row[part] = -1;
            if (!has_part(p, i, (kdas_profile_part)part)) continue;
            KD_RETURN(kd_profile_row(&slots[i].row[part], p->ctx, p->label, node->op->name,
                                     node->name, (kdas_profile_part)part, precision_of(node)));
            slots[i].work[part] =
                kd_work_of(&node->desc, p->slot[i].kernel, (kdas_profile_part)part);
        }
        slots[i].work[KDAS_PROFILE_PACK].bytes = pack_bytes(p, i);
    }
    return KDAS_OK;
}

kdas_status kd_profile_program(kd_program *p)
{
    kd_profile_slot *slots;
    kdas_status      st;

    if (p->profile) return KDAS_OK;
    slots = kd_calloc(p->ctx, (size_t)p->nodes + 1, sizeof *slots);
    if (!slots) return KDAS_ENOMEM;
    st = find_rows(p, slots);
    if (st != KDAS_OK) {
        kd_free(p->ctx, slots);
        return st;
    }
    p->profile = slots;
    return KDAS_OK;
}

kdas_status kd_profile_node(kd_program *p, int i, kdas_profile_part part, double start)
{
    kd_work work = p->profile[i].work[part];

    KD_RETURN(finished(p->ctx));
    kd_profile_add(p->ctx, p->profile[i].row[part], kd_now() - start, work.flop, work.bytes);
    return KDAS_OK;
}

kdas_status kd_profile_node_zero(kd_program *p, int i, double start, size_t bytes)
{
    KD_RETURN(finished(p->ctx));
    kd_profile_add(p->ctx, p->profile[i].row[KDAS_PROFILE_ZERO], kd_now() - start, 0,
                   (double)bytes);
    return KDAS_OK;
}
