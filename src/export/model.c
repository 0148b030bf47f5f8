/* model.c - a model as an ONNX file: options, the graph at the sizes that it is needed for, the
 * image's normalisation, outputs, metadata. */
#include <string.h>
#include "base/process.h"
#include "base/text.h"
#include "export/export.h"
#include "model/model.h"

#define PROBES 6

/* ---- Options --------------------------------------------------------------------------------- */

void kdas_onnx_options_init(kdas_onnx_options *options, size_t size)
{
    kdas_onnx_options defaults = { .size = size, .batch = 1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* The image that the graph is built for: a free axis has any size. */
static void base_image(const kdas_onnx_options *o, int64_t image[KD_FREE_AXES])
{
    image[0] = o->batch == KDAS_ONNX_FREE ? 1 : o->batch;
    image[1] = o->height == KDAS_ONNX_FREE ? 64 : o->height;
    image[2] = o->width == KDAS_ONNX_FREE ? 64 : o->width;
}

/* What the host leaves open is taken from the weights. */
static void settle_size(kdas_onnx_options *o, const kdas_model *m)
{
    int64_t height, width;

    kdas_model_input_size(m, &height, &width);
    if (o->height == 0) o->height = height;
    if (o->width == 0) o->width = width;
}

static unsigned free_axes(const kdas_onnx_options *o)
{
    return (o->batch == KDAS_ONNX_FREE ? KD_FREE_BATCH : 0) |
           (o->height == KDAS_ONNX_FREE ? KD_FREE_HEIGHT : 0) |
           (o->width == KDAS_ONNX_FREE ? KD_FREE_WIDTH : 0);
}

static kdas_status check_options(const kdas_model *m, const kdas_onnx_options *o)
{
    int64_t image[KD_FREE_AXES];

    if (o->input < KDAS_ONNX_NORMALISED || o->input > KDAS_ONNX_BYTES)
        return kd_fail(KDAS_EINVAL, "ONNX: there is no kind of input %d", o->input);
    if (o->layout < KDAS_ONNX_NCHW || o->layout > KDAS_ONNX_NHWC)
        return kd_fail(KDAS_EINVAL, "ONNX: there is no layout %d", o->layout);
    if (o->maps < KDAS_ONNX_SUM || o->maps > KDAS_ONNX_EACH)
        return kd_fail(KDAS_EINVAL, "ONNX: there is no way %d to give maps", o->maps);
    if (o->sigmoid && kdas_model_maps(m) == 0)
        return kd_fail(KDAS_EINVAL, "ONNX: the outputs of '%s' are features; a sigmoid is for maps",
                       m->def->name);
    if (m->def->rules->side && (o->height == KDAS_ONNX_FREE || o->width == KDAS_ONNX_FREE))
        return kd_fail(KDAS_ESHAPE,
                       "ONNX: '%s' takes images of %dx%d alone: height and width cannot be free",
                       m->def->name, m->def->rules->side, m->def->rules->side);
    base_image(o, image);
    return kd_check_size(m->def, image[0], image[1], image[2]);
}

/* ---- The graph at several sizes -------------------------------------------------------------- */

typedef struct builds {
    kd_graph *base;
    int64_t   image[KD_FREE_AXES];
    kd_probe  probe[PROBES];
    int       probes;
} builds;

static kdas_status build(kd_graph **out, const kdas_model *m, const int64_t image[KD_FREE_AXES])
{
    kd_model_form form = kd_model_form_of(m, KD_INFER);

    form.kept_count = 0;
    return kd_model_build(out, m->ctx, m->def, m->params, kd_desc(image[0], image[1], image[2], 3),
                          &form);
}

/* Build it with `steps` more of one free axis, or of all (axis -1). */
static kdas_status build_probe(builds *b, const kdas_model *m, unsigned axes, int axis, int steps)
{
    kd_probe *p = &b->probe[b->probes];

    memcpy(p->image, b->image, sizeof p->image);
    for (int k = 0; k < KD_FREE_AXES; k++)
        if ((axis < 0 || axis == k) && axes >> k & 1) p->image[k] += steps * (k == 0 ? 1 : 32);
    KD_RETURN(build(&p->graph, m, p->image));
    b->probes++;
    return KDAS_OK;
}

/* Two steps along each free size, one along a free batch, and one along all. */
static kdas_status build_all(builds *b, const kdas_model *m, const kdas_onnx_options *o)
{
    unsigned axes = free_axes(o);

    base_image(o, b->image);
    KD_RETURN(build(&b->base, m, b->image));
    for (int k = 0; k < KD_FREE_AXES; k++)
        for (int steps = 1; axes >> k & 1 && steps <= (k == 0 ? 1 : 2); steps++)
            KD_RETURN(build_probe(b, m, axes, k, steps));
    return axes & (axes - 1) ? build_probe(b, m, axes, -1, 1) : KDAS_OK;
}

static void builds_finish(builds *b)
{
    kd_graph_destroy(b->base);
    for (int p = 0; p < b->probes; p++)
        kd_graph_destroy(b->probe[p].graph);
}

/* ---- Outputs and metadata -------------------------------------------------------------------- */

static bool has_sum(const kdas_model *m, const kdas_onnx_options *o)
{
    return kdas_model_maps(m) > 0 && o->maps == KDAS_ONNX_SUM;
}

/* The first of the graph's outputs that the file has, or sums. */
static int first_output(const kdas_model *m, const kdas_onnx_options *o)
{
    return has_sum(m, o) ? kdas_model_answer(m) : 0;
}

static void need_outputs(kd_export *e, const kdas_model *m, const kdas_onnx_options *o)
{
    const kd_node *node;

    for (int i = first_output(m, o); kd_graph_output(e->graph, i, &node); i++)
        kd_export_need(e, node);
}

static void put_outputs(kd_export *e, const kdas_model *m, const kdas_onnx_options *o)
{
    bool           sum    = has_sum(m, o);
    int            answer = first_output(m, o);
    const kd_node *node;
    const char    *name, *x = NULL;

    kd_onnx_scope(e->file, "outputs");
    for (int i = answer; (name = kd_graph_output(e->graph, i, &node)); i++) {
        const char *y = kd_export_in(e, node, e->layout);

        if (!sum)
            kd_export_output(e, name, node, y, o->sigmoid);
        else
            x = i > answer ? kd_onnx_node(e->file, "Add", NAMES(x, y), NO_ATTRS) : y;
    }
    kd_graph_output(e->graph, 0, &node);
    if (sum) kd_export_output(e, o->sigmoid ? "probability" : "logits", node, x, o->sigmoid);
}

static void put_number(kd_export *e, const char *key, int64_t value)
{
    char text[24];

    if (value != KDAS_ONNX_FREE) kd_format(text, sizeof text, "%lld", (long long)value);
    kd_onnx_metadata(e->file, key, value == KDAS_ONNX_FREE ? "free" : text);
}

static void put_colours(kd_export *e, const char *key, const float value[3])
{
    char text[64];

    kd_format(text, sizeof text, "%g %g %g", (double)value[0], (double)value[1], (double)value[2]);
    kd_onnx_metadata(e->file, key, text);
}

static void put_metadata(kd_export *e, const kdas_model *m, const kdas_onnx_options *o)
{
    static const char *const input[] = { "normalised", "0..1", "0..255" };
    char                     text[32];
    const char              *output = kdas_model_maps(m) == 0 ? "features"
                                      : o->sigmoid            ? "probability"
                                                              : "logits";

    kd_onnx_metadata(e->file, "network", m->def->name);
    kd_onnx_metadata(e->file, "version", kdas_version_string());
    put_number(e, "batch", o->batch);
    put_number(e, "height", o->height);
    put_number(e, "width", o->width);
    kd_onnx_metadata(e->file, "layout", o->layout == KDAS_ONNX_NCHW ? "NCHW" : "NHWC");
    kd_onnx_metadata(e->file, "colour", "RGB");
    kd_onnx_metadata(e->file, "input", input[o->input]);
    put_colours(e, "mean", kd_export_mean);
    put_colours(e, "deviation", kd_export_deviation);
    kd_onnx_metadata(e->file, "output", output);
    if (m->options.quantize == KDAS_QUANTIZE_INT8 && !o->floats)
        kd_onnx_metadata(e->file, KD_FACT_GRIDS, KD_GRIDS_INT8);
    if (kdas_model_maps(m) == 0) return;
    kd_format(text, sizeof text, "%g", (double)kdas_model_threshold(m));
    kd_onnx_metadata(e->file, "threshold", text);
}

/* ---- The file -------------------------------------------------------------------------------- */

static kdas_status export(const kdas_model *m, const char *path, const kdas_onnx_options *o)
{
    kd_export   e = { .ctx = m->ctx, .layout = (kdas_onnx_layout)o->layout, .floats = o->floats };
    builds      b = { 0 };
    kdas_status st;

    KD_TRY(build_all(&b, m, o));
    e.graph = b.base;
    st      = KDAS_ENOMEM;
    e.value = kd_calloc(m->ctx, (size_t)kd_graph_nodes(b.base), sizeof *e.value);
    if (!e.value) goto done;
    KD_TRY(kd_export_extents(&e, b.image, b.probe, b.probes));
    KD_TRY(kd_onnx_create(&e.file, m->ctx, m->params, m->def->name));
    kd_export_image(&e, (kdas_onnx_input)o->input);
    need_outputs(&e, m, o);
    KD_TRY(kd_export_nodes(&e));
    put_outputs(&e, m, o);
    put_metadata(&e, m, o);
    KD_TRY(kd_onnx_status(e.file));
    KD_TRY(kd_onnx_save(e.file, path));
done:
    kd_onnx_destroy(e.file);
    kd_free(m->ctx, e.value);
    builds_finish(&b);
    return st;
}

kdas_status kdas_model_export_onnx(const kdas_model *m, const char *path,
                                   const kdas_onnx_options *options)
{
    kdas_onnx_options o;

    if (!m || !path) return kd_fail(KDAS_EINVAL, "kdas_model_export_onnx: model or path is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    kdas_onnx_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_onnx_options"));
    settle_size(&o, m);
    KD_RETURN(check_options(m, &o));
    KD_RETURN(kd_params_check(m->params, m->def->name, false));
    return export(m, path, &o);
}
