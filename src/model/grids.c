/* grids.c - models on 8-bit grids: which layers are on them, and what a file says of it. */
#include <string.h>
#include "base/grid.h"
#include "base/process.h"
#include "model/model.h"

/* What stays wide by default, by the beginning of the network's name. The first layer sees three
 * colours, where rounding costs most and integers gain least; the last makes the logits. */
static const struct {
    const char *network, *wide;
} defaults[] = {
    { "lite_fpn", "backbone._conv_stem out" },
    { "polyp_pvt", "backbone.patch_embed1.proj out_CFM out_SAM" },
    { "pvt_v2", "patch_embed1.proj" },
};

const char *kdas_model_wide_layers(const char *network)
{
    if (!network || !kd_model_def_find(network)) return NULL;
    for (size_t i = 0; i < KD_COUNT(defaults); i++)
        if (strncmp(network, defaults[i].network, strlen(defaults[i].network)) == 0)
            return defaults[i].wide;
    return "";
}

kdas_status kd_model_check_grids(const kdas_model_options *o, const kd_model_def *def)
{
    if (o->quantize != KDAS_QUANTIZE_NONE && o->quantize != KDAS_QUANTIZE_INT8)
        return kd_fail(KDAS_EINVAL, "model: quantize is %d, not a kdas_quantize", o->quantize);
    if (!(o->range_momentum >= 0 && o->range_momentum <= 1))
        return kd_fail(KDAS_EINVAL, "model: range_momentum is %g, not 0 to 1",
                       (double)o->range_momentum);
    if (o->quantize == KDAS_QUANTIZE_NONE && o->wide && *o->wide)
        return kd_fail(KDAS_EINVAL, "'%s': wide layers are named, but no layer is on a grid",
                       def->name);
    return KDAS_OK;
}

kdas_status kd_model_grids_of(bool *out, const char *path, const char *fact)
{
    *out = fact != NULL;
    if (!fact || strcmp(fact, KD_GRIDS_INT8) == 0) return KDAS_OK;
    return kd_fail(KDAS_EFORMAT,
                   "'%s': its fact '" KD_FACT_GRIDS "' is '%.64s', which libkdas %s does not know: "
                   "of networks on grids it reads '" KD_GRIDS_INT8 "'",
                   path, fact, kdas_version_string());
}

kdas_status kd_model_keep_wide(kdas_model *m, const char *wide)
{
    if (m->options.quantize == KDAS_QUANTIZE_NONE) return KDAS_OK;
    if (!wide) wide = kdas_model_wide_layers(m->def->name);
    m->options.wide = kd_strdup(m->ctx, wide ? wide : "");
    return m->options.wide ? KDAS_OK : KDAS_ENOMEM;
}

/* Nodes are named by their layer and their op. */
static size_t layer_length(const kd_node *node)
{
    const char *end = strrchr(node->name, '.');

    return end ? (size_t)(end - node->name) : 0;
}

char *kd_model_layer_name(kdas_context *ctx, const kd_node *node)
{
    return kd_printf(ctx, "%.*s", (int)layer_length(node), node->name);
}

/* Whether it could be on a grid: of the same kinds as in kdas_quantize, also where the form of a
 * convolution has none. */
static bool is_layer(const kd_node *node)
{
    if (node->kind != KD_NODE_OP) return false;
    switch (node->desc.op) {
    case KDAS_OP_CONV2D:
    case KDAS_OP_DWCONV2D:
    case KDAS_OP_LINEAR:
    case KDAS_OP_GELU: return true;
    default: return false;
    }
}

static bool has_layer(const kd_graph *g, const char *name, size_t length)
{
    for (int i = 0; i < kd_graph_nodes(g); i++) {
        const kd_node *node = kd_graph_node(g, i);

        if (is_layer(node) && layer_length(node) == length &&
            strncmp(node->name, name, length) == 0)
            return true;
    }
    return false;
}

kdas_status kd_model_check_wide(const kdas_model *m)
{
    const char *at = m->options.wide;

    while (at && *at) {
        size_t n = strcspn(at, " ");

        if (n && !has_layer(m->shape, at, n))
            return kd_fail(KDAS_ENOTFOUND,
                           "'%s' has no layer '%.*s' that could be kept wide; its tensors tell the "
                           "names, without \".weight\"",
                           m->def->name, (int)KD_MIN(n, 128), at);
        at += n + (at[n] == ' ');
    }
    return KDAS_OK;
}

kdas_quantize kdas_model_quantized(const kdas_model *m)
{
    return m ? (kdas_quantize)m->options.quantize : KDAS_QUANTIZE_NONE;
}

const char *kdas_model_wide(const kdas_model *m)
{
    if (!m) return NULL;
    return m->options.wide ? m->options.wide : "";
}

bool kd_model_is_rounded(const kdas_model *m, int param)
{
    for (int i = 0; i < kd_graph_nodes(m->shape); i++) {
        const kd_node *node = kd_graph_node(m->shape, i);

        if (node->rounded && node->in[1]->param == param) return true;
    }
    return false;
}

kdas_status kd_model_check_rounds(const kdas_model *m)
{
    const char *wide   = kdas_model_wide(m);
    bool        rounds = m->options.quantize == KDAS_QUANTIZE_NONE;

    for (int i = 0; i < kd_graph_nodes(m->shape); i++)
        rounds |= kd_graph_node(m->shape, i)->rounded;
    if (rounds) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "'%s' has no layer that could be on a grid%s%s", m->def->name,
                   *wide ? " but for " : "", wide);
}

/* ---- ranges ---- */

kdas_status kdas_model_hold_ranges(kdas_model *m, int32_t held)
{
    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_hold_ranges: the model is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    if (m->ranges_held == (held != 0)) return KDAS_OK;
    m->ranges_held = held != 0;
    if (m->options.quantize != KDAS_QUANTIZE_NONE) kd_model_programs_drop(m, 0);
    return KDAS_OK;
}

int32_t kdas_model_ranges_held(const kdas_model *m)
{
    return m && m->options.quantize != KDAS_QUANTIZE_NONE &&
           (m->ranges_held || m->options.range_momentum == 0);
}

kdas_status kdas_model_count_ranges(const kdas_model *m, int32_t *all, int32_t *empty)
{
    int32_t ranges = 0, unset = 0;
    float   range[2];

    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_count_ranges: the model is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    for (int i = 0; i < kd_params_count(m->params); i++) {
        if (!kd_param_is_range(kd_params_at(m->params, i))) continue;
        KD_RETURN(kd_params_read(m->params, i, range));
        ranges++;
        unset += kd_range_is_empty(range);
    }
    if (all) *all = ranges;
    if (empty) *empty = unset;
    return KDAS_OK;
}
