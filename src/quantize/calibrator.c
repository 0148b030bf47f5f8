/* calibrator.c - ranges for the grids of a model, from frames. */
#include <math.h>
#include <string.h>
#include "base/grid.h"
#include "base/process.h"
#include "base/text.h"
#include "quantize/calibrator.h"

/* GELU of anything below is 0, but for 0.00013. */
#define GELU_FLOOR  (-4.0f)
#define MOST_PROBES 64

void kdas_calibrator_options_init(kdas_calibrator_options *options, size_t size)
{
    kdas_calibrator_options defaults = { .size         = size,
                                         .method       = KDAS_RANGE_MSE,
                                         .percentile   = 99.99f,
                                         .least_frames = 16,
                                         .probe_frames = 4,
                                         .wide_error   = 0.05f };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

static kdas_status check_options(const kdas_calibrator_options *o)
{
    if (o->method < KDAS_RANGE_MIN_MAX || o->method > KDAS_RANGE_MSE)
        return kd_fail(KDAS_EINVAL, "calibration: method is %d, not a kdas_range_method",
                       o->method);
    if (!(o->percentile > 50 && o->percentile <= 100))
        return kd_fail(KDAS_EINVAL, "calibration: percentile is %g, not above 50 to 100",
                       (double)o->percentile);
    if (o->least_frames < 1)
        return kd_fail(KDAS_EINVAL, "calibration: least_frames is %d, not 1 or more",
                       o->least_frames);
    if (o->probe_frames < 0 || o->probe_frames > MOST_PROBES)
        return kd_fail(KDAS_EINVAL, "calibration: probe_frames is %d, not 0 to %d", o->probe_frames,
                       MOST_PROBES);
    if (!(o->wide_error >= 0) || o->most_wide < 0)
        return kd_fail(KDAS_EINVAL, "calibration: wide_error %g or most_wide %d is negative",
                       (double)o->wide_error, o->most_wide);
    return KDAS_OK;
}

/* ---- layers and grids ---- */

static bool is_quantize(const kd_node *node)
{
    return node && node->kind == KD_NODE_OP && node->desc.op == KDAS_OP_QUANTIZE;
}

/* A node that reads a grid for its own sake. */
static bool is_layer(const kd_node *node)
{
    return node->kind == KD_NODE_OP && is_quantize(node->in[0]) &&
           (node->rounded || node->desc.op == KDAS_OP_GELU);
}

static int grid_of(const kdas_calibrator *c, const kd_node *quantize)
{
    int i = 0;

    while (i < c->grids && c->grid[i].param != quantize->in[1]->param)
        i++;
    return i;
}

/* A layer that a network runs twice, on two values, has one range for both. */
static kdas_status add_grid(kdas_calibrator *c, const kd_node *quantize)
{
    kd_calibrated_grid *g;

    if (grid_of(c, quantize) < c->grids) return KDAS_OK;
    g        = &c->grid[c->grids++];
    *g       = (kd_calibrated_grid){ .param = quantize->in[1]->param, .gelu = true };
    g->seen  = kd_alloc(c->ctx, sizeof *g->seen);
    g->fresh = kd_alloc(c->ctx, sizeof *g->fresh);
    if (!g->seen || !g->fresh) return KDAS_ENOMEM;
    kd_histogram_clear(g->seen);
    return KDAS_OK;
}

static bool has_layer(const kdas_calibrator *c, const kd_node *node)
{
    for (int i = 0; i < c->layers; i++)
        if (node->rounded && c->layer[i].weight == node->in[1]->param) return true;
    return false;
}

static kdas_status add_layer(kdas_calibrator *c, const kd_node *node)
{
    kd_layer_on_grid *l;

    if (has_layer(c, node)) return KDAS_OK;
    l  = &c->layer[c->layers++];
    *l = (kd_layer_on_grid){ .grid = grid_of(c, node->in[0]), .weight = -1 };
    if (node->rounded) l->weight = node->in[1]->param;
    if (node->desc.op != KDAS_OP_GELU) c->grid[l->grid].gelu = false;
    l->name = kd_model_layer_name(c->ctx, node);
    return l->name ? KDAS_OK : KDAS_ENOMEM;
}

static kdas_status list_layers(kdas_calibrator *c)
{
    const kd_graph *g     = c->net.shape;
    size_t          nodes = (size_t)kd_graph_nodes(g);

    c->grid  = kd_calloc(c->ctx, nodes, sizeof *c->grid);
    c->layer = kd_calloc(c->ctx, nodes, sizeof *c->layer);
    if (!c->grid || !c->layer) return KDAS_ENOMEM;
    for (size_t i = 0; i < nodes; i++) {
        const kd_node *node = kd_graph_node(g, (int)i);

        if (is_quantize(node)) KD_RETURN(add_grid(c, node));
        if (is_layer(node)) KD_RETURN(add_layer(c, node));
    }
    if (c->layers) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "calibration: no layer of '%s' is on a grid", c->model->def->name);
}

/* The layer that a range is named after, in `to`. */
static const char *range_owner(const kdas_calibrator *c, const kd_calibrated_grid *g)
{
    for (int i = 0; i < c->layers; i++)
        if (&c->grid[c->layer[i].grid] == g) return c->layer[i].name;
    return "";
}

/* ---- create ---- */

static kdas_status create(kdas_calibrator *c)
{
    KD_RETURN(kd_watched_create(&c->net, c->model));
    KD_RETURN(list_layers(c));
    c->wide = kd_strdup(c->ctx, kdas_model_wide(c->model));
    return c->wide ? KDAS_OK : KDAS_ENOMEM;
}

kdas_status kdas_calibrator_create(kdas_calibrator **out, kdas_model *model,
                                   const kdas_calibrator_options *options)
{
    kdas_calibrator_options o;
    kdas_calibrator        *c;
    kdas_status             st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_calibrator_create: out is NULL");
    *out = NULL;
    if (!model) return kd_fail(KDAS_EINVAL, "kdas_calibrator_create: the model is NULL");
    KD_RETURN(kd_check_process(model->ctx));
    kdas_calibrator_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_calibrator_options"));
    KD_RETURN(check_options(&o));
    if (kdas_model_quantized(model) == KDAS_QUANTIZE_NONE)
        return kd_fail(KDAS_EINVAL,
                       "calibration: '%s' is not on grids; make the model with "
                       "kdas_model_options.quantize = KDAS_QUANTIZE_INT8",
                       model->def->name);
    c = kd_calloc(model->ctx, 1, sizeof *c);
    if (!c) return KDAS_ENOMEM;
    c->ctx     = model->ctx;
    c->model   = model;
    c->options = o;
    st         = create(c);
    if (st != KDAS_OK) {
        kdas_calibrator_destroy(c);
        return st;
    }
    *out = c;
    return KDAS_OK;
}

void kdas_calibrator_destroy(kdas_calibrator *c)
{
    if (!c) return;
    for (int i = 0; i < c->grids; i++) {
        kd_free(c->ctx, c->grid[i].seen);
        kd_free(c->ctx, c->grid[i].fresh);
    }
    for (int i = 0; i < c->layers; i++)
        kd_free(c->ctx, c->layer[i].name);
    kd_free(c->ctx, c->grid);
    kd_free(c->ctx, c->layer);
    kd_free(c->ctx, c->probe.images);
    kd_free(c->ctx, c->wide);
    kd_watched_finish(&c->net);
    kd_free(c->ctx, c);
}

/* ---- add ---- */

typedef struct sight {
    kdas_calibrator *c;
    float           *copy; /* of a value on a device; grows */
    size_t           capacity;
} sight;

/* The values before a grid. */
static kdas_status look(void *user, const kd_node *node, const float *value)
{
    sight              *s = user;
    kd_calibrated_grid *g = &s->c->grid[grid_of(s->c, node)];
    int64_t             n = kd_elements(&node->desc.in[0]);

    if (!s->c->ctx->host_memory) {
        KD_RETURN(kd_grow(s->c->ctx, (void **)&s->copy, &s->capacity, (size_t)n, sizeof *s->copy));
        KD_RETURN(kd_device_download(s->c->ctx, s->copy, value, (size_t)n * sizeof *value));
        value = s->copy;
    }
    if (kd_histogram_add(g->fresh, value, n)) return KDAS_OK;
    return kd_fail(KDAS_ENUMERIC,
                   "calibration: the input of layer '%s' has a NaN or an infinity, made of finite "
                   "images: the network's weights are of no use",
                   range_owner(s->c, g));
}

static kdas_status check_images(const float *images, int64_t n, int64_t each)
{
    for (int64_t i = 0; i < n * each; i++)
        if (!isfinite(images[i]))
            return kd_fail(KDAS_ENUMERIC, "calibration: image %lld of the batch has %s",
                           (long long)(i / each), isnan(images[i]) ? "a NaN" : "an infinity");
    return KDAS_OK;
}

/* Keep the first frames. Reserves memory first, so that taking them cannot fail. */
static kdas_status reserve_probe(kdas_calibrator *c, int64_t h, int64_t w)
{
    if (c->probe.images || c->options.probe_frames == 0) return KDAS_OK;
    c->probe.images =
        kd_alloc(c->ctx, (size_t)(c->options.probe_frames * h * w * 3) * sizeof(float));
    if (!c->probe.images) return KDAS_ENOMEM;
    c->probe.height = h;
    c->probe.width  = w;
    return KDAS_OK;
}

static void keep_probes(kdas_calibrator *c, const float *images, int64_t n, int64_t h, int64_t w)
{
    kd_probe *p    = &c->probe;
    int64_t   each = h * w * 3, more = KD_MIN(n, c->options.probe_frames - p->count);

    if (more <= 0 || p->height != h || p->width != w) return;
    memcpy(p->images + p->count * each, images, (size_t)(more * each) * sizeof *images);
    p->count += more;
}

kdas_status kdas_calibrator_add(kdas_calibrator *c, kdas_batch *batch)
{
    sight        s = { .c = c };
    int64_t      n, h, w;
    const float *images;
    kdas_status  st;

    if (!c || !batch)
        return kd_fail(KDAS_EINVAL, "kdas_calibrator_add: calibrator or batch is NULL");
    KD_RETURN(kd_check_process(c->ctx));
    n      = kdas_batch_count(batch);
    h      = kdas_batch_height(batch);
    w      = kdas_batch_width(batch);
    images = kdas_batch_images(batch);
    KD_RETURN(kd_check_size(c->model->def, n, h, w));
    KD_RETURN(check_images(images, n, h * w * 3));
    KD_RETURN(reserve_probe(c, h, w));
    for (int i = 0; i < c->grids; i++)
        kd_histogram_clear(c->grid[i].fresh);
    st = kd_watched_run(&c->net, images, n, h, w, look, &s);
    kd_free(c->ctx, s.copy);
    if (st != KDAS_OK) return st;
    for (int i = 0; i < c->grids; i++)
        kd_histogram_merge(c->grid[i].seen, c->grid[i].fresh);
    keep_probes(c, images, n, h, w);
    c->frames += n;
    return KDAS_OK;
}

int64_t kdas_calibrator_frames(const kdas_calibrator *c) { return c ? c->frames : 0; }

/* ---- finish ---- */

static kdas_status choose_ranges(const kdas_calibrator *c, kd_calibrated_grid *grid)
{
    for (int i = 0; i < c->grids; i++) {
        kd_calibrated_grid *g    = &grid[i];
        const kd_histogram *h    = g->seen;
        kd_range_rule       rule = { c->options.method, c->options.percentile,
                               g->gelu ? GELU_FLOOR : -INFINITY };
        double              error, square;

        if (!(h->high > h->low))
            return kd_fail(KDAS_ENUMERIC,
                           "calibration: the input of layer '%s' is %g in all of the %lld frames: "
                           "it has no range; take other frames, or keep the layer wide",
                           range_owner(c, &c->grid[i]), (double)h->low, (long long)c->frames);
        kd_choose_range(g->range, h, &rule);
        if (kd_range_is_empty(g->range))
            return kd_fail(
                KDAS_ENUMERIC,
                "calibration: the values before layer '%s', %g to %g, have no range that "
                "can be divided; take other frames, or keep the layer wide",
                range_owner(c, &c->grid[i]), (double)h->low, (double)h->high);
        kd_range_error(&error, &square, h, g->range, rule.floor);
        g->error   = square > 0 ? sqrt(error / square) : 0;
        g->clipped = kd_range_clipped(h, g->range, rule.floor);
    }
    return KDAS_OK;
}

/* Mark the layers with the largest errors. */
static int choose_wide(const kdas_calibrator *c, kd_layer_on_grid *layer)
{
    int chosen = 0;

    for (int i = 0; i < c->layers; i++)
        layer[i].wide = false;
    for (; chosen < c->options.most_wide; chosen++) {
        kd_layer_on_grid *worst = NULL;

        for (int i = 0; i < c->layers; i++)
            if (!layer[i].wide && layer[i].output_error > c->options.wide_error &&
                (!worst || layer[i].output_error > worst->output_error))
                worst = &layer[i];
        if (!worst) break;
        worst->wide = true;
    }
    return chosen;
}

/* kdas_calibrator_make() needs a layer with weights that stays on its grid. */
static kdas_status check_left(const kdas_calibrator *c, const kd_layer_on_grid *layer, int wide)
{
    for (int i = 0; i < c->layers; i++)
        if (!layer[i].wide && layer[i].weight >= 0) return KDAS_OK;
    return kd_fail(KDAS_EINVAL,
                   "calibration: nothing of '%s' would be left on grids: the output errors of %d of "
                   "its %d layers are above wide_error, %g, and most_wide, %d, lets all of them be "
                   "wide; raise the one or lower the other",
                   c->model->def->name, wide, c->layers, (double)c->options.wide_error,
                   c->options.most_wide);
}

/* The names of the model's wide layers and of those chosen. */
static char *wide_names(const kdas_calibrator *c, const kd_layer_on_grid *layer)
{
    const char *own  = kdas_model_wide(c->model);
    size_t      room = strlen(own) + 1, at;
    char       *names;

    for (int i = 0; i < c->layers; i++)
        room += strlen(layer[i].name) + 1;
    names = kd_alloc(c->ctx, room);
    if (!names) return NULL;
    at = strlen(own);
    memcpy(names, own, at + 1);
    for (int i = 0; i < c->layers; i++)
        if (layer[i].wide) {
            kd_format(names + at, room - at, "%s%s", at ? " " : "", layer[i].name);
            at += strlen(names + at);
        }
    return names;
}

static kdas_status write_ranges(const kdas_calibrator *c, const kd_calibrated_grid *grid)
{
    for (int i = 0; i < c->grids; i++)
        KD_RETURN(kd_params_write(c->model->params, grid[i].param, grid[i].range));
    return KDAS_OK;
}

static kdas_status find_all(kdas_calibrator *c, kd_calibrated_grid *grid, kd_layer_on_grid *layer)
{
    double      all, with_wide;
    char       *wide;
    int         chosen;
    kdas_status st;

    KD_RETURN(choose_ranges(c, grid));
    KD_RETURN(kd_measure_layers(c, layer, grid, &all));
    with_wide = all;
    chosen    = choose_wide(c, layer);
    KD_RETURN(check_left(c, layer, chosen));
    if (chosen) KD_RETURN(kd_measure_narrow(c, layer, grid, &with_wide));
    wide = wide_names(c, layer);
    if (!wide) return KDAS_ENOMEM;
    st = write_ranges(c, grid);
    if (st != KDAS_OK) {
        kd_free(c->ctx, wide);
        return st;
    }
    kd_free(c->ctx, c->wide);
    c->wide            = wide;
    c->error           = all;
    c->error_with_wide = with_wide;
    return KDAS_OK;
}

kdas_status kdas_calibrator_finish(kdas_calibrator *c)
{
    kd_calibrated_grid *grid;
    kd_layer_on_grid   *layer;
    kdas_status         st;

    if (!c) return kd_fail(KDAS_EINVAL, "kdas_calibrator_finish: the calibrator is NULL");
    KD_RETURN(kd_check_process(c->ctx));
    if (c->frames < c->options.least_frames)
        return kd_fail(KDAS_ESTATE, "calibration: %lld frame%s too few; least_frames is %d",
                       (long long)c->frames, c->frames == 1 ? " is" : "s are",
                       c->options.least_frames);
    grid  = kd_alloc(c->ctx, (size_t)c->grids * sizeof *grid);
    layer = kd_alloc(c->ctx, (size_t)c->layers * sizeof *layer);
    st    = grid && layer ? KDAS_OK : KDAS_ENOMEM;
    if (st == KDAS_OK) {
        memcpy(grid, c->grid, (size_t)c->grids * sizeof *grid);
        memcpy(layer, c->layer, (size_t)c->layers * sizeof *layer);
        st = find_all(c, grid, layer);
    }
    if (st == KDAS_OK) {
        memcpy(c->grid, grid, (size_t)c->grids * sizeof *grid);
        memcpy(c->layer, layer, (size_t)c->layers * sizeof *layer);
        c->finished = true;
    }
    kd_free(c->ctx, grid);
    kd_free(c->ctx, layer);
    return st;
}

/* ---- results ---- */

static kdas_status check_finished(const kdas_calibrator *c)
{
    if (c->finished) return KDAS_OK;
    return kd_fail(KDAS_ESTATE, "calibration: call kdas_calibrator_finish first");
}

/* A grid of the new model is named after another layer where the first reader is wide. */
static kdas_status give_ranges(kdas_model *to, const kdas_calibrator *c)
{
    for (int i = 0; i < c->layers; i++) {
        char *name = kd_printf(c->ctx, "%s" KD_RANGE_SUFFIX, c->layer[i].name);
        int   k;

        if (!name) return KDAS_ENOMEM;
        k = kd_params_find(to->params, name);
        kd_free(c->ctx, name);
        if (k >= 0) KD_RETURN(kd_params_write(to->params, k, c->grid[c->layer[i].grid].range));
    }
    return KDAS_OK;
}

kdas_status kdas_calibrator_make(kdas_model **out, const kdas_calibrator *c)
{
    kdas_model_options options;
    kdas_model        *m = NULL;
    kdas_status        st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_calibrator_make: out is NULL");
    *out = NULL;
    if (!c) return kd_fail(KDAS_EINVAL, "kdas_calibrator_make: the calibrator is NULL");
    KD_RETURN(kd_check_process(c->ctx));
    KD_RETURN(check_finished(c));
    options      = c->model->options;
    options.size = sizeof options;
    options.wide = c->wide;
    KD_TRY(kd_model_create(&m, c->ctx, c->model->def, &options));
    KD_TRY(kdas_model_copy(m, c->model));
    KD_TRY(give_ranges(m, c));
    *out = m;
    m    = NULL;
done:
    kdas_model_destroy(m);
    return st;
}

const char *kdas_calibrator_wide(const kdas_calibrator *c) { return c ? c->wide : NULL; }
int32_t     kdas_calibrator_layers(const kdas_calibrator *c) { return c ? c->layers : 0; }

kdas_status kdas_calibrator_layer(const kdas_calibrator *c, int32_t i, kdas_calibrated_layer *out)
{
    const kd_layer_on_grid   *l;
    const kd_calibrated_grid *g;
    kdas_calibrated_layer     mine;

    if (!c || !out) return kd_fail(KDAS_EINVAL, "kdas_calibrator_layer: calibrator or out is NULL");
    KD_RETURN(kd_check_report(&out->size, "kdas_calibrated_layer"));
    if (i < 0 || i >= c->layers)
        return kd_fail(KDAS_ENOTFOUND, "there is no layer %d of %d", i, c->layers);
    KD_RETURN(check_finished(c));
    l    = &c->layer[i];
    g    = &c->grid[l->grid];
    mine = (kdas_calibrated_layer){ .size         = sizeof mine,
                                    .name         = l->name,
                                    .grid         = range_owner(c, g),
                                    .low          = g->range[0],
                                    .high         = g->range[1],
                                    .wide         = l->wide,
                                    .clipped      = g->clipped,
                                    .input_error  = g->error,
                                    .weight_error = l->weight_error,
                                    .output_error = l->output_error };
    return kd_give_options(out, &mine, sizeof mine, "kdas_calibrated_layer");
}

kdas_status kdas_calibrator_error(const kdas_calibrator *c, double *all, double *with_wide)
{
    if (!c) return kd_fail(KDAS_EINVAL, "kdas_calibrator_error: the calibrator is NULL");
    KD_RETURN(check_finished(c));
    if (all) *all = c->error;
    if (with_wide) *with_wide = c->error_with_wide;
    return KDAS_OK;
}
