/* networks.c - models by name, from models.def, and their cost. */
#include <string.h>
#include "graph/build.h"
#include "model/model.h"

static const kd_model_def defs[] = {
#define MODEL(name, function, variant, rules) { #name, variant, &kd_rules_##rules, function },
#include "model/models.def"
#undef MODEL
};

const kd_model_def *kd_model_def_at(int i)
{
    return i >= 0 && i < (int)KD_COUNT(defs) ? &defs[i] : NULL;
}

/* ---- Names ---- */

#define LONGEST_NAME 64

static char plain(char c)
{
    return c == '-' ? '_' : c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Letters to change, insert or remove until `a` is `b`; capitals and dashes are no difference. */
static size_t distance(const char *a, const char *b)
{
    size_t row[LONGEST_NAME + 1], n = strlen(b);

    if (n > LONGEST_NAME) return SIZE_MAX;
    for (size_t k = 0; k <= n; k++)
        row[k] = k;
    for (size_t i = 0; a[i]; i++) {
        size_t corner = row[0];

        row[0] = i + 1;
        for (size_t k = 0; k < n; k++) {
            size_t changed = corner + (plain(a[i]) != plain(b[k]));

            corner     = row[k + 1];
            row[k + 1] = KD_MIN(KD_MIN(row[k], row[k + 1]) + 1, changed);
        }
    }
    return row[n];
}

/* The network whose name is most like this one; NULL: none is, up to a third of its letters. */
static const char *nearest(const char *name)
{
    const char *best   = NULL;
    size_t      length = strlen(name), least = length / 3 + 1;

    if (length > LONGEST_NAME) return NULL;
    for (size_t i = 0; i < KD_COUNT(defs); i++) {
        size_t far = distance(name, defs[i].name);

        if (far >= least) continue;
        least = far;
        best  = defs[i].name;
    }
    return best;
}

const kd_model_def *kd_model_def_find(const char *name)
{
    const char *like;

    for (size_t i = 0; i < KD_COUNT(defs); i++)
        if (strcmp(defs[i].name, name) == 0) return &defs[i];
    like = nearest(name);
    kd_fail(KDAS_ENOTFOUND, "there is no model '%.64s'%s%s%s; kdas_model_name lists all", name,
            like ? "; the nearest name is '" : "", like ? like : "", like ? "'" : "");
    return NULL;
}

const char *kdas_model_name(int32_t i)
{
    const kd_model_def *def = kd_model_def_at(i);

    return def ? def->name : NULL;
}

kdas_status kd_model_build(kd_graph **out, kdas_context *ctx, const kd_model_def *def,
                           kd_params *params, kdas_desc image, const kd_model_form *form)
{
    kd_graph   *g  = kd_graph_create(ctx, params, form->mode);
    kd_node    *in = NULL;
    kdas_status st = KDAS_OK;

    *out = NULL;
    if (!g) return KDAS_ENOMEM;
    if (form->grids) kd_graph_use_grids(g, form->momentum, form->wide);
    if (form->watched) kd_graph_watch_grids(g);
    kd_graph_use_ranks(g, form->ranks);
    for (size_t i = 0; i < form->kept_count; i++)
        KD_TRY(kd_keep_tap(g, form->kept[i]));
    in = kd_input(g, "image", image, false);
    if (def->rules->colours) in = kd_recolour(g, in, def->rules->colours);
    def->build(g, in, def->variant, form->drop_path);
    KD_TRY(kd_graph_status(g));
    *out = g;
    g    = NULL;
done:
    kd_graph_destroy(g);
    return st;
}

kdas_status kdas_model_cost(kdas_context *ctx, const char *name, int64_t height, int64_t width,
                            kdas_count_rule rule, int64_t *parameters, double *operations)
{
    const kd_model_def *def;
    kd_params          *params = NULL;
    kd_graph           *g      = NULL;
    kdas_status         st;

    if (!ctx || !name) return kd_fail(KDAS_EINVAL, "kdas_model_cost: context or name is NULL");
    if (rule != KDAS_COUNT_MACS && rule != KDAS_COUNT_THOP && rule != KDAS_COUNT_FVCORE)
        return kd_fail(KDAS_EINVAL, "there is no counting rule %d", (int)rule);
    def = kd_model_def_find(name);
    if (!def) return KDAS_ENOTFOUND;
    KD_RETURN(kd_check_size(def, 1, height, width));
    KD_TRY(kd_params_create(&params, ctx));
    KD_TRY(
        kd_model_build(&g, ctx, def, params, kd_desc(1, height, width, 3), &(kd_model_form){ 0 }));
    if (parameters) *parameters = kd_params_numbers(params);
    if (operations) {
        *operations = 0;
        for (int i = 0; i < kd_graph_nodes(g); i++)
            *operations += kd_node_cost(kd_graph_node(g, i), rule);
    }
done:
    kd_graph_destroy(g);
    kd_params_destroy(params);
    return st;
}

double kd_node_cost(const kd_node *node, kdas_count_rule rule)
{
    if (node->kind != KD_NODE_OP) return 0;
    if (rule == KDAS_COUNT_THOP)
        return node->op->thop && !node->functional ? node->op->thop(&node->desc) : 0;
    if (rule == KDAS_COUNT_FVCORE && node->op->fvcore) return node->op->fvcore(&node->desc);
    return node->op->macs ? (double)node->op->macs(&node->desc) : 0;
}
