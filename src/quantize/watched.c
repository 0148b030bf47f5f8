/* watched.c - see watched.h. */
#include "quantize/watched.h"
#include <assert.h>
#include <math.h>
#include <string.h>
#include "base/grid.h"

static kdas_status copy_values(kd_watched *w, const kdas_model *m)
{
    w->values = kd_alloc(w->ctx, (size_t)kd_params_total(m->params) * sizeof *w->values);
    if (!w->values) return KDAS_ENOMEM;
    for (int i = 0; i < kd_params_count(w->params); i++) { /* of one graph: the same order */
        const kd_param_entry *e  = kd_params_at(w->params, i);
        float                *to = w->values + e->offset;

        if (e->init.kind == KD_COUNTER) continue;
        KD_RETURN(kd_params_read(m->params, i, to));
        if (kd_param_is_range(e)) to[0] = to[1] = 0;
        KD_RETURN(kd_params_write(w->params, i, to));
    }
    return KDAS_OK;
}

kdas_status kd_watched_create(kd_watched *w, const kdas_model *m)
{
    int64_t     side = kd_model_side(m->def);
    kdas_status st;

    *w = (kd_watched){ .ctx = m->ctx, .def = m->def, .form = kd_model_form_of(m, KD_INFER) };
    w->form.watched    = true;
    w->form.drop_path  = 0;
    w->form.kept_count = 0;
    w->maps            = kdas_model_maps(m);
    w->answer          = kdas_model_answer(m);
    w->arena           = kd_arena_create(w->ctx);
    if (!w->arena) return KDAS_ENOMEM;
    KD_TRY(kd_params_create(&w->params, w->ctx));
    KD_TRY(
        kd_model_build(&w->shape, w->ctx, w->def, w->params, kd_desc(1, side, side, 3), &w->form));
    KD_TRY(kd_params_seal(w->params, false));
    KD_TRY(copy_values(w, m));
done:
    if (st != KDAS_OK) kd_watched_finish(w);
    return st;
}

void kd_watched_finish(kd_watched *w)
{
    if (!w->ctx) return;
    kd_program_destroy(w->program);
    kd_graph_destroy(w->shape);
    kd_device_unstage(w->ctx, &w->images);
    if (w->arena) kd_arena_destroy(w->arena);
    kd_params_destroy(w->params);
    kd_free(w->ctx, w->values);
    memset(w, 0, sizeof *w);
}

/* ---- run ---- */

static kdas_status compile(kd_watched *w, int64_t n, int64_t height, int64_t width)
{
    kd_graph *g;

    if (w->program && w->n == n && w->h == height && w->w == width) return KDAS_OK;
    kd_program_destroy(w->program);
    w->program = NULL;
    KD_RETURN(
        kd_model_build(&g, w->ctx, w->def, w->params, kd_desc(n, height, width, 3), &w->form));
    KD_RETURN(kd_program_create(&w->program, g, w->arena));
    kd_program_label(w->program, "%s calibrate %lldx%lldx%lld", w->def->name, (long long)n,
                     (long long)height, (long long)width);
    w->n = n;
    w->h = height;
    w->w = width;
    return KDAS_OK;
}

kdas_status kd_watched_run(kd_watched *w, const float *images, int64_t n, int64_t height,
                           int64_t width, kd_watch_fn watch, void *user)
{
    float *device;

    KD_RETURN(compile(w, n, height, width));
    KD_RETURN(kd_device_stage(w->ctx, &w->images, &device, images,
                              (size_t)(n * height * width * 3) * sizeof *images));
    kd_program_bind(w->program, kd_find(kd_program_graph(w->program), "image"), device, NULL);
    kd_program_watch(w->program, watch, user);
    return kd_program_forward(w->program, 0);
}

/* The outputs of the answer, one after the other in `all` (NULL: only counted). */
static kdas_status read_outputs(kd_watched *w, float *all, int64_t *count, int64_t *largest)
{
    const kd_node *node;
    kd_graph      *g = kd_program_graph(w->program);

    *count = *largest = 0;
    for (int i = w->maps ? w->answer : 0; kd_graph_output(g, i, &node); i++) {
        int64_t n = kd_elements(&node->desc.out);

        if (all)
            KD_RETURN(kd_device_download(w->ctx, all + *count, kd_program_value(w->program, node),
                                         (size_t)n * sizeof *all));
        *count += n;
        *largest = KD_MAX(*largest, n);
    }
    return KDAS_OK;
}

kdas_status kd_watched_answer(kd_watched *w, float **out, int64_t *count)
{
    int64_t     largest, n;
    float      *all;
    kdas_status st;

    *out = NULL;
    KD_RETURN(read_outputs(w, NULL, &n, &largest));
    all = kd_alloc(w->ctx, (size_t)n * sizeof *all);
    if (!all) return KDAS_ENOMEM;
    st = read_outputs(w, all, &n, &largest);
    if (st != KDAS_OK) {
        kd_free(w->ctx, all);
        return st;
    }
    if (w->maps) { /* all of one size */
        assert(largest > 0);
        for (int64_t i = largest; i < n; i++)
            all[i % largest] += all[i];
        for (int64_t i = 0; i < largest; i++)
            all[i] = 1 / (1 + expf(-all[i]));
        n = largest;
    }
    *out   = all;
    *count = n;
    return KDAS_OK;
}

/* ---- ranges and weights ---- */

kdas_status kd_watched_set_range(kd_watched *w, int param, const float range[2])
{
    static const float none[2] = { 0 };

    return kd_params_write(w->params, param, range ? range : none);
}

kdas_status kd_watched_round(kd_watched *w, int param, double *error)
{
    const kd_param_entry *e      = kd_params_at(w->params, param);
    const float          *old    = w->values + e->offset;
    int64_t               row    = e->count / e->dim[0];
    float                *q      = kd_alloc(w->ctx, (size_t)e->count * sizeof *q);
    double                change = 0, square = 0;
    kdas_status           st;

    if (!q) return KDAS_ENOMEM;
    memcpy(q, old, (size_t)e->count * sizeof *q);
    for (int64_t o = 0; o < e->dim[0]; o++)
        kd_weights_round(q + o * row, row);
    for (int64_t i = 0; i < e->count; i++) {
        change += ((double)q[i] - old[i]) * ((double)q[i] - old[i]);
        square += (double)old[i] * old[i];
    }
    st = kd_params_write(w->params, param, q);
    if (st == KDAS_OK && error) *error = square > 0 ? sqrt(change / square) : 0;
    kd_free(w->ctx, q);
    return st;
}

kdas_status kd_watched_restore(kd_watched *w, int param)
{
    return kd_params_write(w->params, param, w->values + kd_params_at(w->params, param)->offset);
}
