/* layers.c - the layers of a network at a size, listed from one graph. The list owns copies of
 * its names. */
#include <string.h>
#include "model/model.h"

struct kdas_layers {
    kdas_context *ctx;
    int32_t       count;
    kdas_layer   *layer; /* their names are in `names` */
    char         *names;
};

static int64_t op_parameters(const kd_node *node)
{
    int64_t n = 0;

    for (int k = 0; k < KDAS_MAX_INPUTS; k++)
        if (node->in[k] && node->in[k]->kind == KD_NODE_PARAM && !(node->op->state >> k & 1))
            n += kd_elements(&node->in[k]->desc.out);
    return n;
}

static kdas_status make_room(kdas_layers *l, const kd_graph *g)
{
    size_t count = 0, bytes = 0;

    for (int k = 0; k < kd_graph_nodes(g); k++) {
        const kd_node *node = kd_graph_node(g, k);

        if (node->kind != KD_NODE_OP) continue;
        count++;
        bytes += strlen(node->name) + 1;
    }
    l->layer = kd_calloc(l->ctx, count, sizeof *l->layer);
    l->names = l->layer ? kd_alloc(l->ctx, bytes) : NULL;
    return l->names ? KDAS_OK : KDAS_ENOMEM;
}

static void fill(kdas_layers *l, const kd_graph *g)
{
    char *name = l->names;

    for (int k = 0; k < kd_graph_nodes(g); k++) {
        const kd_node *node = kd_graph_node(g, k);
        kdas_layer    *to   = &l->layer[l->count];

        if (node->kind != KD_NODE_OP) continue;
        strcpy(name, node->name);
        *to = (kdas_layer){ .size       = sizeof *to,
                            .name       = name,
                            .op         = node->op->name,
                            .parameters = op_parameters(node),
                            .macs       = kd_node_cost(node, KDAS_COUNT_MACS),
                            .thop       = kd_node_cost(node, KDAS_COUNT_THOP),
                            .fvcore     = kd_node_cost(node, KDAS_COUNT_FVCORE) };
        memcpy(to->dims, node->desc.out.dim, sizeof to->dims);
        name += strlen(name) + 1;
        l->count++;
    }
}

kdas_status kdas_layers_create(kdas_layers **out, const kdas_model *model, int64_t height,
                               int64_t width)
{
    kdas_layers  *l = NULL;
    kd_graph     *g = NULL;
    kd_model_form form;
    kdas_status   st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_layers_create: out is NULL");
    *out = NULL;
    if (!model) return kd_fail(KDAS_EINVAL, "kdas_layers_create: the model is NULL");
    KD_RETURN(kd_check_size(model->def, 1, height, width));
    form            = kd_model_form_of(model, KD_INFER);
    form.drop_path  = 0;
    form.kept_count = 0;
    KD_RETURN(kd_model_build(&g, model->ctx, model->def, model->params,
                             kd_desc(1, height, width, 3), &form));
    st = KDAS_ENOMEM;
    l  = kd_calloc(model->ctx, 1, sizeof *l);
    if (!l) goto done;
    l->ctx = model->ctx;
    KD_TRY(make_room(l, g));
    fill(l, g);
    *out = l;
    l    = NULL;
done:
    kdas_layers_destroy(l);
    kd_graph_destroy(g);
    return st;
}

void kdas_layers_destroy(kdas_layers *l)
{
    if (!l) return;
    kd_free(l->ctx, l->layer);
    kd_free(l->ctx, l->names);
    kd_free(l->ctx, l);
}

int32_t kdas_layers_count(const kdas_layers *l) { return l ? l->count : 0; }

kdas_status kdas_layers_at(const kdas_layers *l, int32_t i, kdas_layer *out)
{
    if (!l || !out) return kd_fail(KDAS_EINVAL, "kdas_layers_at: layers or out is NULL");
    KD_RETURN(kd_check_report(&out->size, "kdas_layer"));
    if (i < 0 || i >= l->count)
        return kd_fail(KDAS_ENOTFOUND, "there is no layer %d of %d", i, l->count);
    return kd_give_options(out, &l->layer[i], sizeof *out, "kdas_layer");
}
