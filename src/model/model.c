/* model.c - making a model, and running its programs. */
#include <stdio.h>
#include <string.h>
#include "base/process.h"
#include "model/model.h"

/* ---- make ---- */

void kdas_model_options_init(kdas_model_options *options, size_t size)
{
    kdas_model_options defaults = { .size = size, .seed = 1, .drop_path = 0.1f, .trainable = 1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* Build the network once, at the smallest size, to learn its parameters and names. */
static kdas_status declare(kdas_model *m)
{
    KD_RETURN(kd_params_create(&m->params, m->ctx));
    KD_RETURN(kd_model_build(&m->shape, m->ctx, m->def, m->params, KD_INFER, kd_desc(1, 32, 32, 3),
                             0, NULL, 0));
    KD_RETURN(kd_params_seal(m->params, m->options.trainable));
    return kd_params_init(m->params, m->options.seed);
}

kdas_status kdas_model_create(kdas_model **out, kdas_context *ctx, const char *name,
                              const kdas_model_options *options)
{
    kdas_model_options  o;
    const kd_model_def *def;
    kdas_model         *m;
    kdas_status         st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_model_create: out is NULL");
    *out = NULL;
    if (!ctx || !name) return kd_fail(KDAS_EINVAL, "kdas_model_create: context or name is NULL");
    KD_RETURN(kd_check_process(ctx));
    kdas_model_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_model_options"));
    if (!(o.drop_path >= 0 && o.drop_path < 1))
        return kd_fail(KDAS_EINVAL, "model: drop_path is %g, not 0 to below 1",
                       (double)o.drop_path);
    def = kd_model_def_find(name);
    if (!def) return KDAS_ENOTFOUND;
    m = kd_calloc(ctx, 1, sizeof *m);
    if (!m) return KDAS_ENOMEM;
    m->ctx     = ctx;
    m->def     = def;
    m->options = o;
    m->arena   = kd_arena_create(ctx);
    st         = m->arena ? declare(m) : KDAS_ENOMEM;
    if (st != KDAS_OK) {
        kdas_model_destroy(m);
        return st;
    }
    *out = m;
    return KDAS_OK;
}

static void drop_programs(kdas_model *m)
{
    for (size_t i = 0; i < m->programs; i++)
        kd_program_destroy(m->program[i].program);
    m->programs = 0;
    m->current  = NULL;
}

void kdas_model_destroy(kdas_model *m)
{
    if (!m) return;
    drop_programs(m);
    for (size_t i = 0; i < m->kept_count; i++)
        kd_free(m->ctx, m->kept[i]);
    kd_free(m->ctx, m->kept);
    kd_free(m->ctx, m->program);
    kd_device_unstage(m->ctx, &m->images);
    kd_device_unstage(m->ctx, &m->gradient);
    kd_graph_destroy(m->shape);
    kd_arena_destroy(m->arena);
    kd_params_destroy(m->params);
    kd_free(m->ctx, m);
}

/* ---- programs ---- */

static const char *const mode_names[] = {
    [KD_INFER] = "infer", [KD_EVAL] = "eval", [KD_TRAIN] = "train"
};

kdas_status kd_model_program_for(kd_program **out, kdas_model *m, kd_mode mode, int64_t n,
                                 int64_t h, int64_t w)
{
    kd_graph   *g;
    kd_program *p;

    *out = NULL;
    for (size_t i = 0; i < m->programs; i++) {
        const kd_model_program *k = &m->program[i];

        if (k->mode == mode && k->n == n && k->h == h && k->w == w) {
            *out = k->program;
            return KDAS_OK;
        }
    }
    KD_RETURN(kd_check_size(n, h, w));
    if (mode != KD_INFER && !m->options.trainable)
        return kd_fail(KDAS_ESTATE, "model '%s' was made without gradients (trainable = 0)",
                       m->def->name);
    KD_RETURN(kd_grow(m->ctx, (void **)&m->program, &m->program_capacity, m->programs + 1,
                      sizeof *m->program));
    KD_RETURN(kd_model_build(&g, m->ctx, m->def, m->params, mode, kd_desc(n, h, w, 3),
                             m->options.drop_path, m->kept, m->kept_count));
    KD_RETURN(kd_program_create(&p, g, m->arena));
    kd_program_label(p, "%s %s %lldx%lldx%lld", m->def->name, mode_names[mode], (long long)n,
                     (long long)h, (long long)w);
    m->program[m->programs++] = (kd_model_program){ mode, n, h, w, p };
    *out                      = p;
    return KDAS_OK;
}

kdas_status kd_model_run(kdas_model *m, kd_mode mode, float *images, int64_t n, int64_t h,
                         int64_t w)
{
    kd_program *p;

    KD_RETURN(kd_model_program_for(&p, m, mode, n, h, w));
    kd_program_bind(p, kd_find(kd_program_graph(p), "image"), images, NULL);
    m->current = NULL;
    m->runs++;
    KD_RETURN(kd_program_forward(p, kd_mix64(m->options.seed) + m->forwards));
    m->current = p;
    if (mode == KD_TRAIN) {
        m->forwards++;
        kd_params_count_up(m->params);
    }
    return KDAS_OK;
}

const kd_node *kd_model_output_node(const kdas_model *m, int i, const char **name)
{
    const kd_node *node = NULL;
    const char *found = m->current ? kd_graph_output(kd_program_graph(m->current), i, &node) : NULL;

    if (name) *name = found;
    return found ? node : NULL;
}

/* ---- forward and backward for hosts ---- */

kdas_status kdas_model_forward(kdas_model *m, kdas_mode mode, kdas_batch *batch)
{
    int64_t n, h, w;
    float  *images;

    if (!m || !batch) return kd_fail(KDAS_EINVAL, "kdas_model_forward: model or batch is NULL");
    if (mode != KDAS_MODE_INFER && mode != KDAS_MODE_EVAL && mode != KDAS_MODE_TRAIN)
        return kd_fail(KDAS_EINVAL, "there is no mode %d", (int)mode);
    KD_RETURN(kd_check_process(m->ctx));
    n = kdas_batch_count(batch);
    h = kdas_batch_height(batch);
    w = kdas_batch_width(batch);
    KD_RETURN(kd_check_size(n, h, w));
    KD_RETURN(kd_device_stage(m->ctx, &m->images, &images, kdas_batch_images(batch),
                              (size_t)(n * h * w * 3) * sizeof *images));
    return kd_model_run(m, (kd_mode)mode, images, n, h, w);
}

int32_t kdas_model_outputs(const kdas_model *m)
{
    int32_t n = 0;

    while (m && kd_graph_output(m->shape, n, NULL))
        n++;
    return n;
}

const char *kdas_model_output(const kdas_model *m, int32_t i, int64_t *dims)
{
    const char    *name;
    const kd_node *node = m ? kd_model_output_node(m, i, &name) : NULL;

    if (!node) return NULL;
    if (dims) memcpy(dims, node->desc.out.dim, sizeof node->desc.out.dim);
    return name;
}

/* A node of the last forward that is kept. */
static kdas_status find_kept(const kd_node **out, const kdas_model *m, const char *name)
{
    const kd_node *node;

    if (!m || !name) return kd_fail(KDAS_EINVAL, "model or name is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    if (!m->current) return kd_fail(KDAS_ESTATE, "there was no forward yet");
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

kdas_status kdas_model_read_output(kdas_model *m, const char *name, float *to)
{
    const kd_node *node;

    if (!to) return kd_fail(KDAS_EINVAL, "kdas_model_read_output: to is NULL");
    KD_RETURN(find_kept(&node, m, name));
    return kd_device_download(m->ctx, to, kd_program_value(m->current, node), node_bytes(node));
}

kdas_status kdas_model_backward(kdas_model *m, const float *const *gradients)
{
    const kd_node *node;

    if (!m || !gradients)
        return kd_fail(KDAS_EINVAL, "kdas_model_backward: model or gradients is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    if (!m->current) return kd_fail(KDAS_ESTATE, "there was no forward yet");
    if (kd_graph_mode(kd_program_graph(m->current)) == KD_INFER)
        return kd_fail(KDAS_ESTATE, "a forward in mode INFER has no backward");
    for (int i = 0; (node = kd_model_output_node(m, i, NULL)); i++)
        if (gradients[i])
            KD_RETURN(kd_device_upload(m->ctx, kd_program_grad(m->current, node), gradients[i],
                                       node_bytes(node)));
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
    drop_programs(m);
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
    to = kd_program_grad(m->current, node);
    if (!to) return kd_fail(KDAS_ESTATE, "'%s' takes no gradient in mode INFER", name);
    KD_RETURN(kd_device_stage(m->ctx, &m->gradient, &device, gradient, node_bytes(node)));
    return kd_device_add(m->ctx, to, device, kd_elements(&node->desc.out), 1);
}

/* ---- look inside ---- */

static int64_t op_parameters(const kd_node *node)
{
    int64_t n = 0;

    for (int k = 0; k < KDAS_MAX_INPUTS; k++)
        if (node->in[k] && node->in[k]->kind == KD_NODE_PARAM && !(node->op->state >> k & 1))
            n += kd_elements(&node->in[k]->desc.out);
    return n;
}

kdas_status kdas_model_layer(kdas_model *m, int64_t height, int64_t width, int32_t i,
                             kdas_layer *out)
{
    kdas_layer  layer = { .size = sizeof layer };
    kd_graph   *g;
    kdas_status st = kd_fail(KDAS_ENOTFOUND, "there is no layer %d", i);

    if (!m || !out || out->size < sizeof out->size)
        return kd_fail(KDAS_EINVAL,
                       "kdas_model_layer: model or out is NULL, or its size is not set");
    KD_RETURN(kd_check_size(1, height, width));
    KD_RETURN(kd_model_build(&g, m->ctx, m->def, m->params, KD_INFER, kd_desc(1, height, width, 3),
                             0, NULL, 0));
    for (int k = 0; k < kd_graph_nodes(g) && i >= 0; k++) {
        const kd_node *node = kd_graph_node(g, k);

        if (node->kind != KD_NODE_OP || i-- > 0) continue;
        snprintf(m->layer_name, sizeof m->layer_name, "%s", node->name);
        layer.name       = m->layer_name;
        layer.op         = node->op->name;
        layer.parameters = op_parameters(node);
        layer.macs       = kd_node_cost(node, KDAS_COUNT_MACS);
        layer.thop       = kd_node_cost(node, KDAS_COUNT_THOP);
        memcpy(layer.dims, node->desc.out.dim, sizeof layer.dims);
        layer.size = out->size;
        memcpy(out, &layer, KD_MIN(layer.size, sizeof layer));
        st = KDAS_OK;
    }
    kd_graph_destroy(g);
    return st;
}

kdas_status kdas_model_memory(kdas_model *m, kdas_mode mode, int64_t count, int64_t height,
                              int64_t width, size_t *arena, size_t *packed)
{
    kd_program       *p;
    kd_program_memory use;

    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_memory: model is NULL");
    if (mode != KDAS_MODE_INFER && mode != KDAS_MODE_EVAL && mode != KDAS_MODE_TRAIN)
        return kd_fail(KDAS_EINVAL, "there is no mode %d", (int)mode);
    KD_RETURN(kd_check_process(m->ctx));
    KD_RETURN(kd_model_program_for(&p, m, (kd_mode)mode, count, height, width));
    use = kd_program_memory_use(p);
    if (arena) *arena = use.arena;
    if (packed) *packed = use.packed;
    return KDAS_OK;
}
