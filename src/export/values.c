/* values.c - the values of a graph's nodes in the file, in one layout or both, and the walk over
 * the nodes. */
#include "export/export.h"
#include "export/proto.h"

kd_axes kd_axes_of(kdas_onnx_layout layout)
{
    return layout == KDAS_ONNX_NCHW ? (kd_axes){ 2, 3, 1 } : (kd_axes){ 1, 2, 3 };
}

const kd_extent *kd_export_extent(const kd_export *e, const kd_node *node)
{
    return e->value[node->id].extent;
}

kdas_onnx_layout kd_export_layout(const kd_export *e, const kd_node *node)
{
    node = kd_export_source(node);
    if (kd_export_is_grid(node)) return kd_export_layout(e, node->in[0]);
    return node->kind == KD_NODE_PARAM || e->value[node->id].name[KDAS_ONNX_NHWC] ? KDAS_ONNX_NHWC
                                                                                  : KDAS_ONNX_NCHW;
}

const char *kd_export_permute(kd_export *e, const char *x, int a, int b, int c, int d)
{
    return kd_onnx_node(e->file, "Transpose", NAMES(x), ATTRS(ATTR_INTS("perm", a, b, c, d)));
}

const char *kd_export_in(kd_export *e, const kd_node *node, kdas_onnx_layout layout)
{
    const char **name;

    node = kd_export_source(node);
    name = e->value[node->id].name;
    if (node->kind == KD_NODE_PARAM && !name[KDAS_ONNX_NHWC]) /* one that is an activation */
        name[KDAS_ONNX_NHWC] = kd_onnx_weight(e->file, node->param, 4, node->desc.out.dim, false);
    if (!name[layout] && kd_export_is_grid(node)) name[layout] = kd_export_on_grid(e, node, layout);
    if (!name[layout] && name[!layout])
        name[layout] = layout == KDAS_ONNX_NCHW ? kd_export_permute(e, name[!layout], 0, 3, 1, 2)
                                                : kd_export_permute(e, name[!layout], 0, 2, 3, 1);
    return name[layout];
}

void kd_export_set(kd_export *e, const kd_node *node, kdas_onnx_layout layout, const char *name)
{
    e->value[node->id].name[layout] = name;
}

/* Inputs stand before the nodes that read them. */
void kd_export_need(kd_export *e, const kd_node *node)
{
    e->value[node->id].needed = true;
    for (int i = node->id; i >= 0; i--) {
        const kd_node *made = kd_graph_node(e->graph, i);

        for (int k = 0; k < KDAS_MAX_INPUTS && e->value[i].needed; k++)
            if (made->in[k]) e->value[made->in[k]->id].needed = true;
    }
}

kdas_status kd_export_nodes(kd_export *e)
{
    for (int i = 0; i < kd_graph_nodes(e->graph); i++) {
        const kd_node *node = kd_graph_node(e->graph, i);
        kd_form        form;

        if (node->kind != KD_NODE_OP || !e->value[i].needed) continue;
        form = kd_form_of(node->op->ref.op);
        if (!form)
            return kd_fail(KDAS_EINVAL, "%s: the op '%s' has no form in ONNX (src/export/forms.c)",
                           node->name, node->op->name);
        kd_onnx_scope(e->file, node->name);
        form(e, node);
        KD_RETURN(kd_onnx_status(e->file));
        if (node != kd_export_source(node) || kd_export_is_grid(node)) continue; /* not here */
        if (!e->value[i].name[KDAS_ONNX_NCHW] && !e->value[i].name[KDAS_ONNX_NHWC])
            return kd_fail(KDAS_EINVAL, "%s: an input of the op '%s' has no value in the file",
                           node->name, node->op->name);
    }
    return KDAS_OK;
}
