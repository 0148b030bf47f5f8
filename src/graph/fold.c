/* fold.c - weights that are changed before a layer reads them: rounded to 8 bits, and for inference
 * with a batch norm folded into the convolution or linear layer before it, if only the norm reads
 * that layer's result. They are recomputed when parameters or running statistics change.
 * It and run.c call each other: a run folds stale weights, which are then packed like others. */
#include <math.h>
#include <string.h>
#include "base/grid.h"
#include "base/parallel.h"
#include "graph/program_inside.h"

static bool can_take_norm(const kd_node *node)
{
    return node->kind == KD_NODE_OP && !node->keep &&
           (node->op->ref.op == KDAS_OP_CONV2D || node->op->ref.op == KDAS_OP_DWCONV2D ||
            node->op->ref.op == KDAS_OP_LINEAR);
}

int kd_readers(const kd_program *p, const kd_node *of)
{
    int n = 0;

    for (int i = of->id + 1; i < p->nodes; i++)
        for (int k = 0; k < KDAS_MAX_INPUTS; k++)
            n += p->graph->node[i]->in[k] == of;
    return n;
}

static kdas_status add_fold(kd_program *p, kd_node *node, const kd_node *norm)
{
    const kdas_desc *w = &node->desc.in[1];

    KD_RETURN(kd_grow(p->ctx, (void **)&p->fold, &p->fold_capacity, p->folds + 1, sizeof *p->fold));
    p->fold[p->folds++] = (kd_fold){ .node = node->id, .norm = norm ? norm->id : -1, .weight = 1 };
    p->slot[node->id].fold = (int)p->folds - 1;
    if (norm) p->slot[norm->id].root = node->id;
    node->desc.in[2] = (kdas_desc){ KDAS_F32, 1, { w->dim[0], 1, 1, 1 } };
    return KDAS_OK;
}

kdas_status kd_fold_find(kd_program *p)
{
    for (int i = 0; i < p->nodes; i++) {
        kd_node *norm = p->graph->node[i];

        if (norm->kind != KD_NODE_OP || norm->op->ref.op != KDAS_OP_BATCH_NORM) continue;
        if (can_take_norm(norm->in[0]) && kd_readers(p, norm->in[0]) == 1)
            KD_RETURN(add_fold(p, norm->in[0], norm));
    }
    /* a reshape of a folded norm uses the same memory */
    for (int i = 0; i < p->nodes; i++)
        if (p->slot[i].root != i) p->slot[i].root = p->slot[p->slot[i].root].root;
    return KDAS_OK;
}

/* An integer kernel rounds by itself. */
kdas_status kd_fold_rounded(kd_program *p)
{
    for (int i = 0; i < p->nodes && !p->graph->watched; i++) {
        kd_node *node = p->graph->node[i];

        if (node->kind == KD_NODE_OP && node->rounded && !node->absorbed && p->slot[i].fold < 0 &&
            node->desc.in[0].dtype != KDAS_U8)
            KD_RETURN(add_fold(p, node, NULL));
    }
    return KDAS_OK;
}

/* Rows of weights times the norm's scale, and the biases that belong to them. */
static void apply_norm(float *w, float *b, const float *stat, int64_t co, int64_t row, float eps)
{
    for (int64_t o = 0; o < co; o++) {
        float scale = stat[o] / sqrtf(stat[3 * co + o] + eps);

        for (int64_t i = 0; i < row; i++)
            w[o * row + i] *= scale;
        b[o] = (b[o] - stat[2 * co + o]) * scale + stat[co + o];
    }
}

/* ---- Rounding, in parallel: training does it in each step ---- */

typedef struct rounding {
    float  *w;
    int64_t row; /* weights of an output channel */
} rounding;

static void round_rows(void *job, int64_t begin, int64_t end, int thread)
{
    const rounding *r = job;

    (void)thread;
    for (int64_t o = begin; o < end; o++)
        kd_weights_round(r->w + o * r->row, r->row);
}

static void round_weights(const kd_program *p, float *w, int64_t channels, int64_t row)
{
    enum { LEAST = 16384 }; /* weights that are worth a thread */
    rounding r = { w, row };

    kd_parallel_rows(p->ctx, channels, LEAST / row + 1, round_rows, &r);
}

/* Changes copies of the operands: in their place where the host can write there, else they are
 * uploaded. Runs when weights change. */
static kdas_status compute(kd_program *p, const kd_fold *f)
{
    const kd_node *node   = p->graph->node[f->node];
    const kd_node *norm   = f->norm < 0 ? NULL : p->graph->node[f->norm];
    kd_params     *params = p->graph->params;
    const kd_pack *pack   = p->slot[f->node].pack;
    bool           here   = p->ctx->host_memory;
    int64_t        co = node->desc.in[f->weight].dim[0], n = kd_elements(&node->desc.in[f->weight]);
    float         *stat = kd_alloc(p->ctx, (size_t)(4 * co + (here ? 0 : n + co)) * sizeof *stat);
    float         *w, *b;
    kdas_status    st = KDAS_OK;

    if (!stat) return KDAS_ENOMEM;
    w = here ? pack->weight : stat + 4 * co;
    b = here ? pack->bias : w + n;
    KD_TRY(kd_params_read(params, node->in[f->weight]->param, w));
    memset(b, 0, (size_t)co * sizeof *b);
    if (node->in[f->weight + 1]) KD_TRY(kd_params_read(params, node->in[f->weight + 1]->param, b));
    if (node->rounded && !p->graph->watched) round_weights(p, w, co, n / co);
    for (int i = 0; norm && i < 4; i++) /* gamma, beta, mean, var */
        KD_TRY(kd_params_read(params, norm->in[1 + i]->param, stat + i * co));
    if (norm) apply_norm(w, b, stat, co, n / co, ((const kdas_norm_attr *)norm->desc.attr)->eps);
    if (here) goto done;
    KD_TRY(kd_device_upload(p->ctx, pack->weight, w, (size_t)n * sizeof *w));
    KD_TRY(kd_device_upload(p->ctx, pack->bias, b, (size_t)co * sizeof *b));
done:
    kd_free(p->ctx, stat);
    return st;
}

kdas_status kd_fold_compute(kd_program *p)
{
    for (size_t i = 0; i < p->folds; i++)
        if (!kd_pack_current(p, p->fold[i].node)) KD_RETURN(compute(p, &p->fold[i]));
    return KDAS_OK;
}
