/* inverted.c - for inference: an inverted residual block (op/inverted.c) as one node, where the backend has
 * a kernel for it. It runs after lower.c, when norms are folded into the block's layers and activations are
 * part of them, so that it matches three layers and an addition. The last node becomes the fused one. The
 * layers before it are absorbed, but keep their folds, and it reads the weights that those have changed. */
#include <string.h>
#include "graph/program_inside.h"
#include "graph/settings.h"

enum { RESIDUAL = 7 };

/* Threads that share the rows of a block widen those at their edges twice. With many threads and few rows
 * that costs more than a fused block saves. Two threads share channels instead. */
static bool has_rows(const kd_program *p, const kd_node *filter)
{
    const kdas_conv_attr *a       = filter->desc.attr;
    int64_t               rows    = filter->desc.out.dim[0] * filter->desc.out.dim[1];
    int64_t               twice   = filter->desc.in[1].dim[2] - a->stride;
    int                   threads = p->ctx->threads;

    return threads <= 2 || kd_graph_settings_of(p->ctx)->fuse_all ||
           rows * a->stride >= 4 * twice * threads;
}

/* A layer in its float form that runs. */
static bool is_layer(const kd_program *p, const kd_node *node, int32_t op)
{
    return node->kind == KD_NODE_OP && !node->absorbed && p->slot[node->id].root == node->id &&
           node->op->ref.op == op && node->desc.in[0].dtype != KDAS_U8 && !node->rounded &&
           node->in[1]->kind == KD_NODE_PARAM &&
           (!node->in[2] || node->in[2]->kind == KD_NODE_PARAM);
}

static kd_node *root_of(const kd_program *p, const kd_node *node)
{
    return p->graph->node[p->slot[node->id].root];
}

/* The layer that `node` reads, if nothing else reads that; else NULL. */
static kd_node *layer_before(const kd_program *p, const kd_node *node, int32_t op)
{
    kd_node *from = root_of(p, node->in[0]);

    return is_layer(p, from, op) && kd_reads_alone(p, node, from) ? from : NULL;
}

/* The addition that alone reads the block's result, and the place of its other operand; else NULL. */
static kd_node *addition_after(const kd_program *p, const kd_node *narrow, int *other)
{
    for (int i = narrow->id + 1; i < p->nodes; i++) {
        kd_node *add = p->graph->node[i];

        if (add->kind != KD_NODE_OP || add->absorbed || add->op->ref.op != KDAS_OP_ADD) continue;
        for (int k = 0; k < 2; k++)
            if (root_of(p, add->in[k]) == narrow && root_of(p, add->in[1 - k]) != narrow &&
                kd_same_dims(&add->desc.in[0], &add->desc.in[1]) &&
                add->desc.in[0].dtype == add->desc.in[1].dtype && kd_reads_alone(p, add, narrow)) {
                *other = 1 - k;
                return add;
            }
    }
    return NULL;
}

/* Make `last` the fused node, if the backend has a kernel for that. */
static kdas_status rewrite(kd_program *p, kd_node *const layer[KD_BLOCK_LAYERS], kd_node *last,
                           kd_node *residual)
{
    kdas_inverted_attr  attr  = { *(const kdas_conv_attr *)layer[1]->desc.attr,
                                  layer[0]->desc.post,
                                  layer[1]->desc.post,
                                  { 0, 0 } };
    kd_node             fused = *last;
    kdas_inverted_attr *copy;

    fused.op = &kd_op_inverted;
    memset(&fused.in, 0, sizeof fused.in);
    fused.desc       = (kdas_node_desc){ .op     = KDAS_OP_INVERTED,
                                         .inputs = kd_op_inverted.max_inputs,
                                         .attr   = &attr };
    fused.in[0]      = layer[0]->in[0];
    fused.desc.in[0] = layer[0]->desc.in[0];
    for (int i = 0; i < KD_BLOCK_LAYERS; i++)
        for (int k = 1; k <= 2; k++) {
            fused.in[2 * i + k]      = layer[i]->in[k];
            fused.desc.in[2 * i + k] = layer[i]->desc.in[k];
        }
    fused.in[RESIDUAL] = residual;
    if (residual) fused.desc.in[RESIDUAL] = residual->desc.out;
    if (kd_op_inverted.infer(&fused.desc) != KDAS_OK) return KDAS_OK;
    fused.desc.out.dtype = last->desc.out.dtype;
    if (!kd_device_kernel(p->ctx, &fused.desc, NULL)) return KDAS_OK;
    copy = kd_pool_alloc(&p->graph->pool, sizeof *copy);
    if (!copy) return KDAS_ENOMEM;
    *copy           = attr;
    fused.desc.attr = copy;
    for (int i = 0; i < KD_BLOCK_LAYERS; i++) {
        p->slot[last->id].layer[i] = layer[i]->id;
        layer[i]->absorbed         = layer[i] != last;
    }
    if (layer[2] == last && p->slot[last->id].fold >= 0)
        p->fold[p->slot[last->id].fold].weight = 5; /* its place in the fused node */
    *last = fused;
    return KDAS_OK;
}

/* The block that ends with layer `narrow`. */
static kdas_status fuse_block(kd_program *p, kd_node *narrow)
{
    kd_node *layer[KD_BLOCK_LAYERS] = { NULL, NULL, narrow }, *add;
    int      other                  = 0;

    if (narrow->desc.post != KDAS_POST_NONE) return KDAS_OK;
    layer[1] = layer_before(p, narrow, KDAS_OP_DWCONV2D);
    layer[0] = layer[1] ? layer_before(p, layer[1], KDAS_OP_LINEAR) : NULL;
    if (!layer[0] || !has_rows(p, layer[1])) return KDAS_OK;
    add = addition_after(p, narrow, &other);
    return add ? rewrite(p, layer, add, add->in[other]) : rewrite(p, layer, narrow, NULL);
}

kdas_status kd_fuse_blocks(kd_program *p)
{
    if (kd_graph_settings_of(p->ctx)->unfused) return KDAS_OK;
    for (int i = 0; i < p->nodes; i++)
        if (is_layer(p, p->graph->node[i], KDAS_OP_LINEAR))
            KD_RETURN(fuse_block(p, p->graph->node[i]));
    return KDAS_OK;
}
