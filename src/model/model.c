/* model.c - making a model, and running its programs. */
#include <assert.h>
#include <string.h>
#include "base/process.h"
#include "model/over_ranks.h"
#include "ranks/ranks.h"

/* ---- make ---- */

#define USUAL_DROP_PATH 0.1f

void kdas_model_options_init(kdas_model_options *options, size_t size)
{
    kdas_model_options defaults = { .size           = size,
                                    .seed           = 1,
                                    .drop_path      = USUAL_DROP_PATH,
                                    .trainable      = 1,
                                    .range_momentum = 0.05f };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

kd_model_form kd_model_form_of(const kdas_model *m, kd_mode mode)
{
    return (kd_model_form){ .mode       = mode,
                            .drop_path  = m->options.drop_path,
                            .grids      = m->options.quantize == KDAS_QUANTIZE_INT8,
                            .momentum   = m->ranges_held ? 0 : m->options.range_momentum,
                            .wide       = m->options.wide,
                            .ranks      = m->options.ranks,
                            .kept       = m->kept,
                            .kept_count = m->kept_count };
}

/* Build the network once, at the smallest size, to learn its parameters and names. */
static kdas_status declare(kdas_model *m)
{
    int64_t       side = kd_model_side(m->def);
    kd_model_form form = kd_model_form_of(m, KD_INFER);

    form.drop_path = 0;
    KD_RETURN(kd_params_create(&m->params, m->ctx));
    KD_RETURN(
        kd_model_build(&m->shape, m->ctx, m->def, m->params, kd_desc(1, side, side, 3), &form));
    KD_RETURN(kd_model_check_wide(m));
    KD_RETURN(kd_params_seal(m->params, m->options.trainable));
    return kd_params_init(m->params, m->options.seed);
}

/* Say where a rate that the host chose drops nothing. */
static kdas_status tell_drop_path(kdas_model *m)
{
    float         rate  = m->options.drop_path;
    int64_t       side  = kd_model_side(m->def);
    bool          drops = false;
    kd_model_form form;
    kd_graph     *g;

    if (!m->options.trainable || rate <= 0 || rate == USUAL_DROP_PATH) return KDAS_OK;
    form = kd_model_form_of(m, KD_TRAIN);
    KD_RETURN(kd_model_build(&g, m->ctx, m->def, m->params, kd_desc(1, side, side, 3), &form));
    for (int i = 0; i < kd_graph_nodes(g) && !drops; i++) {
        const kd_node *node = kd_graph_node(g, i);

        drops = node->kind == KD_NODE_OP &&
                (node->op == &kd_op_drop_path || node->op == &kd_op_dropout);
    }
    kd_graph_destroy(g);
    if (!drops)
        kd_warn(m->ctx,
                "drop_path is %g, and '%s' has no layers that drop anything: it has no effect",
                (double)rate, m->def->name);
    return KDAS_OK;
}

kdas_status kd_model_create(kdas_model **out, kdas_context *ctx, const kd_model_def *def,
                            const kdas_model_options *options)
{
    kdas_model_options o;
    kdas_model        *m;
    kdas_status        st;

    *out = NULL;
    kdas_model_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_model_options"));
    KD_RETURN(kd_ranks_check(o.ranks, ctx, "kdas_model_options"));
    if (!(o.drop_path >= 0 && o.drop_path < 1))
        return kd_fail(KDAS_EINVAL, "model: drop_path is %g, not 0 to below 1",
                       (double)o.drop_path);
    KD_RETURN(kd_model_check_grids(&o, def));
    m = kd_calloc(ctx, 1, sizeof *m);
    if (!m) return KDAS_ENOMEM;
    m->ctx          = ctx;
    m->def          = def;
    m->options      = o;
    m->options.wide = NULL;
    m->arena        = kd_arena_create(ctx);
    st              = m->arena ? kd_model_keep_wide(m, o.wide) : KDAS_ENOMEM;
    if (st == KDAS_OK) st = declare(m);
    if (st == KDAS_OK) st = kd_model_check_rounds(m);
    if (st == KDAS_OK) st = tell_drop_path(m);
    if (st != KDAS_OK) {
        kdas_model_destroy(m);
        return st;
    }
    *out = m;
    return KDAS_OK;
}

kdas_status kdas_model_create(kdas_model **out, kdas_context *ctx, const char *name,
                              const kdas_model_options *options)
{
    const kd_model_def *def;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_model_create: out is NULL");
    *out = NULL;
    if (!ctx || !name) return kd_fail(KDAS_EINVAL, "kdas_model_create: context or name is NULL");
    KD_RETURN(kd_check_process(ctx));
    def = kd_model_def_find(name);
    return def ? kd_model_create(out, ctx, def, options) : KDAS_ENOTFOUND;
}

void kdas_model_destroy(kdas_model *m)
{
    if (!m) return;
    kd_reader_set(&m->reads, NULL);
    kd_model_programs_drop(m, 0);
    for (size_t i = 0; i < m->kept_count; i++)
        kd_free(m->ctx, m->kept[i]);
    kd_free(m->ctx, m->kept);
    kd_free(m->ctx, m->program);
    kd_device_unstage(m->ctx, &m->images);
    kd_device_unstage(m->ctx, &m->gradient);
    kd_model_state_finish(&m->before, m->ctx);
    kd_model_state_finish(&m->mark, m->ctx);
    kd_model_finish_ranks(m);
    kd_model_facts_clear(&m->facts, m->ctx);
    kd_model_sources_clear(m);
    kd_graph_destroy(m->shape);
    kd_arena_destroy(m->arena);
    kd_params_destroy(m->params);
    kd_free(m->ctx, (char *)m->options.wide);
    kd_free(m->ctx, m);
}

/* ---- run ---- */

/* A forward begins: whatever becomes of it, no backward can follow the one before. */
static void forget(kdas_model *m, kd_mode mode)
{
    m->current = NULL;
    m->mode    = mode;
    m->stamp   = (kd_stamp){ 0 };
    kd_reader_set(&m->reads, NULL);
    m->runs++;
}

static kdas_status make_ready(kd_program **p, kdas_model *m, kd_mode mode, float *images, int64_t n,
                              int64_t h, int64_t w)
{
    KD_RETURN(kd_params_check(m->params, m->def->name, mode != KD_INFER));
    KD_RETURN(kd_model_program_for(p, m, mode, n, h, w));
    kd_program_bind(*p, kd_find(kd_program_graph(*p), "image"), images, NULL);
    KD_RETURN(kd_model_prepare_ranks(m, mode));
    return mode == KD_TRAIN ? kd_model_state_keep(&m->before, m) : KDAS_OK;
}

kdas_status kd_model_run(kdas_model *m, kd_mode mode, float *images, int64_t n, int64_t h,
                         int64_t w)
{
    kd_program *p = NULL;
    kdas_status st;

    forget(m, mode);
    st = make_ready(&p, m, mode, images, n, h, w);
    KD_RETURN(kd_model_begin_forward(m, mode, st, h, w));
    assert(p); /* otherwise it gives st */
    st = kd_program_forward(p, (kd_mix64(m->options.seed) + m->forwards) ^ m->draws);
    st = kd_model_end_forward(m, mode, st);
    if (st != KDAS_OK) {
        if (mode == KD_TRAIN) kd_model_state_put_back(&m->before, m);
        return st;
    }
    m->current = p;
    if (mode == KD_TRAIN) {
        m->forwards++;
        kd_params_count_up(m->params);
    }
    return KDAS_OK;
}

uint64_t kdas_model_generation(const kdas_model *m)
{
    return m && m->current && kd_program_holds(m->current) ? m->runs : 0;
}

kdas_batch *kdas_model_batch(const kdas_model *m)
{
    return kdas_model_generation(m) ? kd_reader_batch(&m->reads) : NULL;
}

/* Check that nodes that are read or differentiated exist. */
kdas_status kd_model_check_values(const kdas_model *m)
{
    if (kdas_model_generation(m)) return KDAS_OK;
    if (m->runs == 0) return kd_fail(KDAS_ESTATE, "'%s' has had no forward yet", m->def->name);
    return kd_fail(KDAS_ESTATE,
                   "'%s' has no outputs: its last forward failed, or its memory was taken since by "
                   "another size, a kept tap or a trim",
                   m->def->name);
}

kdas_status kd_model_check_backward(const kdas_model *m)
{
    KD_RETURN(kd_model_check_values(m));
    KD_RETURN(kd_program_check_backward(m->current));
    if (!kd_reader_batch(&m->reads))
        return kd_fail(KDAS_ESTATE,
                       "the batch that the last forward of '%s' read was changed or destroyed",
                       m->def->name);
    if (kd_stamp_is_current(&m->stamp)) return KDAS_OK;
    return kd_fail(KDAS_ESTATE,
                   "'%s' has lost its images: another batch was uploaded in the place of the one "
                   "that its last forward read",
                   m->def->name);
}

const kd_node *kd_model_output_node(const kdas_model *m, int i, const char **name)
{
    const kd_node *node = NULL;
    const char *found = m->current ? kd_graph_output(kd_program_graph(m->current), i, &node) : NULL;

    if (name) *name = found;
    return found ? node : NULL;
}

/* ---- forward and backward for hosts ---- */

/* The images: on the device if the batch is there, else in the model's own memory. */
static kdas_status find_images(kd_batch_place *at, kdas_model *m, kdas_batch *batch)
{
    size_t n =
        (size_t)(kdas_batch_count(batch) * kdas_batch_height(batch) * kdas_batch_width(batch) * 3);

    KD_RETURN(kd_batch_find(at, m->ctx, batch));
    if (at->images) return KDAS_OK;
    return kd_device_stage(m->ctx, &m->images, &at->images, kdas_batch_images(batch),
                           n * sizeof(float));
}

kdas_status kdas_model_forward(kdas_model *m, kdas_mode mode, kdas_batch *batch)
{
    int64_t        n, h, w;
    kd_batch_place at;
    kdas_status    st;

    if (!m || !batch) return kd_fail(KDAS_EINVAL, "kdas_model_forward: model or batch is NULL");
    if (mode != KDAS_MODE_INFER && mode != KDAS_MODE_EVAL && mode != KDAS_MODE_TRAIN)
        return kd_fail(KDAS_EINVAL, "there is no mode %d", (int)mode);
    KD_RETURN(kd_check_process(m->ctx));
    n  = kdas_batch_count(batch);
    h  = kdas_batch_height(batch);
    w  = kdas_batch_width(batch);
    st = kd_check_size(m->def, n, h, w);
    if (st == KDAS_OK) st = kd_model_check_mode(m, (kd_mode)mode);
    if (st == KDAS_OK) {
        forget(m, (kd_mode)mode); /* staging may replace the images that it read */
        st = find_images(&at, m, batch);
    }
    if (st != KDAS_OK && mode == KDAS_MODE_TRAIN && m->options.ranks) forget(m, KD_TRAIN);
    if (st != KDAS_OK) return kd_model_begin_forward(m, (kd_mode)mode, st, h, w);
    KD_RETURN(kd_model_run(m, (kd_mode)mode, at.images, n, h, w));
    m->stamp = at.stamp;
    kd_reader_set(&m->reads, batch);
    return KDAS_OK;
}

int32_t kdas_model_outputs(const kdas_model *m)
{
    int32_t n = 0;

    while (m && kd_graph_output(m->shape, n, NULL))
        n++;
    return n;
}

int32_t kdas_model_maps(const kdas_model *m)
{
    const kd_node *node;
    int32_t        maps = 0;

    for (; m && kd_graph_output(m->shape, maps, &node); maps++)
        if (node->desc.out.dim[3] != 1) return 0;
    return maps;
}

const char *kdas_model_output(const kdas_model *m, int32_t i, int64_t *dims)
{
    const kd_node *node = m ? kd_model_output_node(m, i, NULL) : NULL;

    if (!node) return NULL;
    if (dims) memcpy(dims, node->desc.out.dim, sizeof node->desc.out.dim);
    return kd_graph_output(m->shape, i, NULL); /* the program may be dropped, this stays */
}

/* A kept node of the last forward. */
static kdas_status find_kept(const kd_node **out, const kdas_model *m, const char *name)
{
    const kd_node *node;

    if (!m || !name) return kd_fail(KDAS_EINVAL, "model or name is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    KD_RETURN(kd_model_check_values(m));
    node = kd_find(kd_program_graph(m->current), name);
    if (!node)
        return kd_fail(KDAS_ENOTFOUND, "'%s' has no output or tap '%.64s'", m->def->name, name);
    if (!node->keep)
        return kd_fail(KDAS_ESTATE, "tap '%s' is not kept; call kdas_model_keep_tap first", name);
    *out = node;
    return KDAS_OK;
}

static size_t node_bytes(const kd_node *node)
{
    return (size_t)kd_elements(&node->desc.out) * sizeof(float);
}

kdas_status kdas_model_read_output(const kdas_model *m, const char *name, float *to)
{
    const kd_node *node;

    if (!to) return kd_fail(KDAS_EINVAL, "kdas_model_read_output: to is NULL");
    KD_RETURN(find_kept(&node, m, name));
    return kd_device_download(m->ctx, to, kd_program_value(m->current, node), node_bytes(node));
}

static kdas_status put_gradients(kdas_model *m, const float *const *gradients)
{
    const kd_node *node;

    KD_RETURN(kd_model_check_backward(m));
    for (int i = 0; gradients && (node = kd_model_output_node(m, i, NULL)); i++)
        if (gradients[i])
            KD_RETURN(kd_device_upload(m->ctx, kd_program_grad(m->current, node), gradients[i],
                                       node_bytes(node)));
    return KDAS_OK;
}

kdas_status kdas_model_backward(kdas_model *m, const float *const *gradients)
{
    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_backward: the model is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    KD_RETURN(kd_model_begin_backward(m, put_gradients(m, gradients)));
    return kd_program_backward(m->current);
}

/* ---- taps ---- */

const char *kdas_model_tap(const kdas_model *m, int32_t i)
{
    return m && i >= 0 ? kd_graph_tap(m->shape, i, NULL) : NULL;
}

static bool is_tap(const kdas_model *m, const char *name)
{
    const char *tap;

    for (int i = 0; (tap = kd_graph_tap(m->shape, i, NULL)); i++)
        if (strcmp(tap, name) == 0) return true;
    return false;
}

kdas_status kdas_model_keep_tap(kdas_model *m, const char *name)
{
    char *copy;

    if (!m || !name) return kd_fail(KDAS_EINVAL, "kdas_model_keep_tap: model or name is NULL");
    if (!is_tap(m, name))
        return kd_fail(KDAS_ENOTFOUND, "'%s' has no tap '%.64s'", m->def->name, name);
    for (size_t i = 0; i < m->kept_count; i++)
        if (strcmp(m->kept[i], name) == 0) return KDAS_OK;
    KD_RETURN(
        kd_grow(m->ctx, (void **)&m->kept, &m->kept_capacity, m->kept_count + 1, sizeof *m->kept));
    copy = kd_strdup(m->ctx, name);
    if (!copy) return KDAS_ENOMEM;
    m->kept[m->kept_count++] = copy;
    kd_model_programs_drop(m, 0);
    return KDAS_OK;
}

kdas_status kdas_model_tap_dims(const kdas_model *m, const char *name, int64_t *dims)
{
    const kd_node *node;

    if (!dims) return kd_fail(KDAS_EINVAL, "kdas_model_tap_dims: dims is NULL");
    KD_RETURN(find_kept(&node, m, name));
    memcpy(dims, node->desc.out.dim, sizeof node->desc.out.dim);
    return KDAS_OK;
}

kdas_status kdas_model_add_gradient(kdas_model *m, const char *name, const float *gradient)
{
    const kd_node *node;
    float         *device, *to;

    if (!gradient) return kd_fail(KDAS_EINVAL, "kdas_model_add_gradient: gradient is NULL");
    KD_RETURN(find_kept(&node, m, name));
    KD_RETURN(kd_program_check_backward(m->current));
    to = kd_program_grad(m->current, node);
    if (!to) return kd_fail(KDAS_ESTATE, "'%s' takes no gradient", name);
    KD_RETURN(kd_device_stage(m->ctx, &m->gradient, &device, gradient, node_bytes(node)));
    return kd_device_add(m->ctx, to, device, kd_elements(&node->desc.out), 1);
}
