/* buckets.c - see buckets.h. A backward runs from the last node to the first, so a bucket is final before the backward of the
 * nodes that come before all that read one of its parameters. Nodes are counted as the graph was built: fusion, which may
 * differ between sizes, moves neither the order of the buckets nor the node at which one is told. */
#include "graph/buckets.h"
#include <limits.h>
#include "graph/program_inside.h"

/* ---- the pieces ---- */

static bool is_param(const kd_node *node, int param)
{
    return node->kind == KD_NODE_PARAM && node->param == param && node->reader;
}

/* The first node that reads parameter `param`; INT_MAX: none. */
static int first_reader(const kd_graph *g, int param)
{
    int first = INT_MAX;

    for (int i = 0; i < kd_graph_nodes(g); i++)
        if (is_param(kd_graph_node(g, i), param))
            first = KD_MIN(first, kd_graph_node(g, i)->reader);
    return first;
}

static int64_t end_of(const kd_params *p, int next)
{
    for (int i = next; i < kd_params_count(p); i++)
        if (kd_params_at(p, i)->init.kind == KD_TRAINABLE) return kd_params_at(p, i)->offset;
    return kd_params_trainable(p);
}

/* Later layers first. */
static void sort(kd_bucket *bucket, int count)
{
    for (int i = 1; i < count; i++) {
        kd_bucket b = bucket[i];
        int       k = i;

        for (; k > 0 && (bucket[k - 1].reader < b.reader ||
                         (bucket[k - 1].reader == b.reader && bucket[k - 1].first < b.first));
             k--)
            bucket[k] = bucket[k - 1];
        bucket[k] = b;
    }
}

kdas_status kd_buckets_make(kd_buckets *out, kdas_context *ctx, kd_params *params,
                            const kd_graph *shape, int64_t most)
{
    kd_bucket *b = NULL;

    *out        = (kd_buckets){ .ctx = ctx, .params = params };
    out->bucket = kd_calloc(ctx, (size_t)kd_params_count(params) + 1, sizeof *out->bucket);
    if (!out->bucket) return KDAS_ENOMEM;
    for (int i = 0; i < kd_params_count(params); i++) { /* in the order of their offsets */
        const kd_param_entry *e   = kd_params_at(params, i);
        int64_t               end = end_of(params, i + 1);
        int                   reader;

        if (e->init.kind != KD_TRAINABLE) continue;
        reader = first_reader(shape, i);
        if (!b || end - b->first > most) {
            b  = &out->bucket[out->count++];
            *b = (kd_bucket){ .first = e->offset, .reader = INT_MAX };
        }
        b->count  = end - b->first;
        b->reader = KD_MIN(b->reader, reader);
    }
    sort(out->bucket, out->count);
    return KDAS_OK;
}

void kd_buckets_finish(kd_buckets *b)
{
    if (b->ctx) kd_free(b->ctx, b->bucket);
    *b = (kd_buckets){ 0 };
}

/* ---- a program's backward ---- */

static int bucket_of(const kd_buckets *b, int64_t offset)
{
    int i = 0;

    while (offset < b->bucket[i].first || offset >= b->bucket[i].first + b->bucket[i].count)
        i++;
    return i;
}

static void note_param(kd_program *p, const kd_buckets *b, const kd_node *node)
{
    const kd_param_entry *e = kd_params_at(p->graph->params, node->param);
    int                   at;

    if (e->init.kind != KD_TRAINABLE || !node->reader) return;
    at           = bucket_of(b, e->offset);
    p->final[at] = KD_MIN(p->final[at], node->reader);
}

kdas_status kd_program_watch_gradients(kd_program *p, const kd_gradient_watch *watch)
{
    const kd_buckets *b = watch ? watch->buckets : NULL;

    p->gradients = NULL;
    if (!watch || !p->ctx->host_memory || p->capture) return KDAS_OK;
    if (p->final_room < b->count) {
        kd_free(p->ctx, p->final);
        p->final_room = 0;
        p->final      = kd_alloc(p->ctx, (size_t)b->count * sizeof *p->final);
        if (!p->final) return KDAS_ENOMEM;
        p->final_room = b->count;
    }
    for (int i = 0; i < b->count; i++)
        p->final[i] = INT_MAX;
    for (int i = 0; i < p->nodes; i++)
        if (p->graph->node[i]->kind == KD_NODE_PARAM) note_param(p, b, p->graph->node[i]);
    p->told      = 0;
    p->gradients = watch;
    return KDAS_OK;
}

void kd_program_tell_gradients(kd_program *p, int i)
{
    const kd_gradient_watch *w = p->gradients;

    while (p->told < w->buckets->count && p->final[p->told] > i) {
        w->ready(w->user, p->told);
        p->told++;
    }
}
