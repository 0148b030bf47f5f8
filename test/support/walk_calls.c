/* walk_calls.c - see walk_util.h: what a walk does with its handles but distillers, and which status each call must give. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support/check_util.h"
#include "support/walk_util.h"

/* ---- models ---- */

static void forward(kd_test_walk *w)
{
    int         i = walk_pick_model(w), k = walk_pick_batch(w), mode = walk_pick(w, 3);
    walk_model *m = &w->model[i < 0 ? 0 : i];
    walk_batch *b = &w->batch[k < 0 ? 0 : k];
    kdas_status wanted, got;

    if (i < 0 || k < 0) return;
    wanted = walk_size_status(b);
    if (!wanted && mode != KDAS_MODE_INFER && !m->trainable) wanted = KDAS_ESTATE;
    if (!wanted && w->cancelled[m->ctx]) wanted = KDAS_ECANCELLED;
    got = kdas_model_forward(m->h, (kdas_mode)mode, b->h);
    if (!walk_expect(w, got, wanted, "forward of model %d, mode %d, batch %d", i, mode, k)) {
        walk_look(m);
        ck_assert(!m->values);
        return;
    }
    if (wanted == KDAS_OK || wanted == KDAS_ECANCELLED)
        walk_ran(m, k, (kdas_mode)mode, b->n, b->side, got);
}

static void backward(kd_test_walk *w)
{
    static const float *const none[8];
    int                       i = walk_pick_model(w);
    walk_model               *m = &w->model[i < 0 ? 0 : i];
    kdas_status               wanted, got;

    if (i < 0) return;
    wanted = !m->values || !m->differentiable || m->batch < 0 ? KDAS_ESTATE
             : w->cancelled[m->ctx]                           ? KDAS_ECANCELLED
                                                              : KDAS_OK;
    got    = kdas_model_backward(m->h, none);
    if (!walk_expect(w, got, wanted, "backward of model %d", i)) wanted = KDAS_ECANCELLED;
    if (wanted != KDAS_ESTATE) m->differentiable = false;
    if (wanted == KDAS_ECANCELLED) m->spoilt = true;
}

static void read_value(kd_test_walk *w)
{
    static const char *const names[] = { "P1", "s8", "no_such" };
    static float             room[3 * 64 * 64 * 64];
    int                      i = walk_pick_model(w), name = walk_pick(w, 3);
    walk_model              *m      = &w->model[i < 0 ? 0 : i];
    kdas_status              wanted = KDAS_OK;

    if (i < 0 || (name == 1 && !m->lite)) return;
    if (!m->values || (name == 1 && !m->kept[0])) wanted = KDAS_ESTATE;
    if (m->values && name == 2) wanted = KDAS_ENOTFOUND;
    if (walk_expect(w, kdas_model_read_output(m->h, names[name], room), wanted,
                    "read %s of model %d", names[name], i) &&
        wanted == KDAS_OK) {
        int64_t dims[4];

        kd_assert_ok(kdas_model_tap_dims(m->h, names[name], dims));
        walk_note(w, room, (size_t)(dims[0] * dims[1] * dims[2] * dims[3]) * sizeof *room);
    }
}

static void add_gradient(kd_test_walk *w)
{
    static float room[3 * 64 * 64];
    int          i = walk_pick_model(w);
    walk_model  *m = &w->model[i < 0 ? 0 : i];

    if (i < 0) return;
    walk_expect(w, kdas_model_add_gradient(m->h, "P1", room),
                m->values && m->differentiable ? KDAS_OK : KDAS_ESTATE,
                "add a gradient to model %d", i);
}

static void memory(kd_test_walk *w)
{
    int         i = walk_pick_model(w), mode = walk_pick(w, 3);
    int64_t     n = 2 + walk_pick(w, 2), side = 32 * (1 + walk_pick(w, 2));
    walk_model *m = &w->model[i < 0 ? 0 : i];
    kdas_status wanted;

    if (i < 0) return;
    wanted = mode != KDAS_MODE_INFER && !m->trainable ? KDAS_ESTATE : KDAS_OK;
    if (!walk_expect(w, kdas_model_memory(m->h, (kdas_mode)mode, n, side, side, NULL, NULL), wanted,
                     "memory of model %d, mode %d, %d of side %d", i, mode, (int)n, (int)side))
        walk_look(m);
    else if (wanted == KDAS_OK)
        walk_compiled(m, (kdas_mode)mode, n, side);
}

static void trim(kd_test_walk *w)
{
    int         i    = walk_pick_model(w);
    bool        all  = walk_pick(w, 2);
    walk_model *m    = &w->model[i < 0 ? 0 : i];
    size_t      most = 0;

    if (i < 0) return;
    walk_expect(w, kdas_model_trim(m->h, all ? 0 : WALK_PROGRAMS), KDAS_OK, "trim model %d to %d",
                i, all ? 0 : WALK_PROGRAMS);
    if (all) m->programs = 0;
    for (int k = 0; k < m->programs; k++)
        if (m->program[k].arena > most) most = m->program[k].arena;
    if (!all && m->arena <= most) return;
    m->arena = 0;
    walk_lose(m);
}

static void keep(kd_test_walk *w)
{
    int         i     = walk_pick_model(w);
    bool        known = walk_pick(w, 4) > 0;
    walk_model *m     = &w->model[i < 0 ? 0 : i];

    if (i < 0 || (known && !m->lite)) return;
    if (!walk_expect(w, kdas_model_keep_tap(m->h, known ? "s8" : "no_such"),
                     known ? KDAS_OK : KDAS_ENOTFOUND, "keep a tap of model %d", i)) {
        ck_assert_uint_eq(kdas_model_generation(m->h), m->seen);
        return;
    }
    if (!known || m->kept[0]) return;
    m->kept[0]  = true;
    m->programs = 0;
    walk_lose(m);
}

static void zero(kd_test_walk *w)
{
    int         i = walk_pick_model(w);
    walk_model *m = &w->model[i < 0 ? 0 : i];

    if (i < 0) return;
    if (!walk_expect(w, kdas_model_zero_gradients(m->h), m->trainable ? KDAS_OK : KDAS_ESTATE,
                     "zero the gradients of model %d", i))
        return;
    if (!m->trainable) return;
    m->spoilt = false;
    m->zeroed++;
}

static void copy(kd_test_walk *w)
{
    int      a = walk_pick_model(w), b = walk_pick_model(w);
    uint64_t before;

    if (a < 0 || b < 0) return;
    before = w->fault.k ? walk_weights(&w->model[a]) : 0;
    walk_arm(w);
    if (!walk_expect(w, kdas_model_copy(w->model[a].h, w->model[b].h),
                     w->model[a].lite == w->model[b].lite ? KDAS_OK : KDAS_EINVAL,
                     "copy model %d to model %d", b, a))
        ck_assert_uint_eq(walk_weights(&w->model[a]), before);
}

static void save_and_load(kd_test_walk *w)
{
    int      a = walk_pick_model(w), b = walk_pick_model(w);
    char     path[96];
    uint64_t before;

    if (a < 0 || b < 0) return;
    snprintf(path, sizeof path, "%s/w.safetensors", w->folder);
    if (!walk_expect(w, kdas_model_save(w->model[a].h, path), KDAS_OK, "save model %d", a)) {
        ck_assert_int_ne(access(path, F_OK), 0);
        return;
    }
    before = w->fault.k ? walk_weights(&w->model[b]) : 0;
    walk_arm(w);
    if (!walk_expect(w, kdas_model_load(w->model[b].h, path, NULL),
                     w->model[a].lite == w->model[b].lite ? KDAS_OK : KDAS_ENOTFOUND,
                     "load the file of model %d into model %d", a, b))
        ck_assert_uint_eq(walk_weights(&w->model[b]), before);
    remove(path);
}

/* ---- optimizers ---- */

static void optim_step(kd_test_walk *w)
{
    int         i = walk_pick(w, WALK_OF_EACH);
    walk_optim *o = &w->optim[i];

    if (!o->h) return;
    walk_expect(w, kdas_optim_step(o->h), w->model[o->model].spoilt ? KDAS_ESTATE : KDAS_OK,
                "step of optimizer %d", i);
}

/* ---- segmenters ---- */

static void segment(kd_test_walk *w)
{
    static uint8_t  pixels[40 * 50 * 3], out[40 * 50];
    kdas_view       view = { .data = pixels, .width = 40, .height = 50, .pixel = KDAS_PIXEL_RGB8 };
    int             i    = walk_pick(w, WALK_OF_EACH);
    walk_segmenter *s    = &w->segmenter[i];
    walk_model     *m    = s->h ? &w->model[s->model] : NULL;
    kdas_status     wanted, got;

    if (!s->h) return;
    if (walk_pick(w, 4) == 0) view.width = 0;
    wanted = !view.width ? KDAS_EINVAL : w->cancelled[m->ctx] ? KDAS_ECANCELLED : KDAS_OK;
    if (walk_pick(w, 8) == 0)
        got = kdas_segmenter_warm_up(s->h, view.height, view.width, view.pixel);
    else
        got = kdas_segmenter_mask(s->h, &view, out, 0);
    if (!walk_expect(w, got, wanted, "a frame through segmenter %d", i))
        walk_look_run(m, WALK_NONE);
    else if (wanted != KDAS_EINVAL)
        walk_ran(m, WALK_NONE, KDAS_MODE_INFER, 1, s->side, got);
}

/* ---- loaders ---- */

/* The next batch, and a step of each distiller on it; made again, it goes on with the one that failed. */
static void load(kd_test_walk *w)
{
    walk_loader *l = &w->loader;

    if (!l->h) return;
    if (walk_pick(w, 4) == 0) {
        int64_t at = walk_pick(w, 8) - 2;

        walk_expect(w, kdas_loader_seek(l->h, at), at < 0 ? KDAS_EINVAL : KDAS_OK, "seek to %d",
                    (int)at);
        return;
    }
    if (!w->fault.again || !l->got) {
        l->at  = 0;
        l->got = NULL;
        if (!walk_expect(w, kdas_loader_next(l->h, &l->got), KDAS_OK, "the loader's next batch"))
            return;
    }
    for (; l->got && l->at < WALK_OF_EACH; l->at++) {
        walk_distiller *d    = &w->distiller[l->at];
        walk_batch      from = { l->got, l->ctx, kdas_batch_count(l->got), 32 };

        if (!d->h || w->model[d->student].ctx != l->ctx) continue;
        walk_arm(w);
        if (!walk_step_on(w, l->at, &from, WALK_LOADERS, false)) return;
    }
    l->got = NULL;
}

/* ---- batches, the context, nothing at all ---- */

static void change_batch(kd_test_walk *w)
{
    int         k = walk_pick_batch(w);
    walk_batch *b = &w->batch[k < 0 ? 0 : k];
    int64_t     n = walk_pick(w, 4);

    if (k < 0) return;
    if (n > b->n || n < 1)
        walk_expect(w, kdas_batch_resize(b->h, n > b->n ? 9 : 0), KDAS_EINVAL, "resize batch %d",
                    k);
    else {
        if (walk_expect(w, kdas_batch_set_labelled(b->h, n, 1), n < b->n ? KDAS_OK : KDAS_EINVAL,
                        "label place %d of batch %d", (int)n, k) &&
            n < b->n)
            walk_change_batch(w, k);
    }
}

static void fill_place(kd_test_walk *w)
{
    static uint8_t pixels[40 * 50 * 3];
    kdas_view      view = { pixels, 40, 50, 0, KDAS_PIXEL_RGB8 };
    int            k    = walk_pick_batch(w);
    int64_t        i    = walk_pick(w, 4);
    kdas_status    wanted;

    if (k < 0) return;
    for (size_t at = 0; at < sizeof pixels; at++)
        pixels[at] = (uint8_t)(at * 7 + (size_t)i * 50);
    wanted = i < w->batch[k].n ? KDAS_OK : KDAS_EINVAL;
    if (walk_expect(w, kdas_batch_set(w->batch[k].h, i, &view, NULL), wanted,
                    "set place %d of batch %d", (int)i, k) &&
        wanted == KDAS_OK)
        walk_change_batch(w, k);
}

static void cancel(kd_test_walk *w)
{
    int i = walk_pick(w, WALK_CONTEXTS);

    if (w->cancelled[i] || walk_pick(w, 2)) {
        kdas_context_resume(w->ctx[i]);
        w->cancelled[i] = false;
        return;
    }
    kdas_context_cancel(w->ctx[i]);
    w->cancelled[i] = true;
    walk_expect(w, KDAS_OK, KDAS_OK, "cancel context %d", i);
}

static void pass_null(kd_test_walk *w)
{
    kdas_distiller *d;

    walk_expect(w, kdas_model_forward(NULL, KDAS_MODE_INFER, NULL), KDAS_EINVAL, "forward of NULL");
    walk_expect(w, kdas_distiller_step(NULL, NULL, NULL), KDAS_EINVAL, "step of NULL");
    walk_expect(w, kdas_distiller_create(&d, NULL, NULL, NULL, NULL, NULL), KDAS_EINVAL,
                "distiller of NULL");
    walk_expect(w, kdas_optim_step(NULL), KDAS_EINVAL, "optimizer NULL");
    walk_expect(w, kdas_loader_next(w->loader.h, NULL), KDAS_EINVAL, "next batch to NULL");
}

typedef void (*call_fn)(kd_test_walk *);

/* What runs a network, and what does not; the latter are called more often, since they take no time. */
static const call_fn runs[] = {
    forward,
    backward,
    segment,
    walk_distiller_forward,
    walk_distiller_backward,
    walk_distiller_backward,
    walk_distiller_update,
    walk_distiller_step,
    walk_checkpoint,
    save_and_load,
    load,
};
static const call_fn others[] = {
    read_value, add_gradient, memory,     trim,          keep,   zero,      copy,
    optim_step, change_batch, fill_place, walk_set_maps, cancel, pass_null,
};

void walk_call(kd_test_walk *w)
{
    if (walk_pick(w, 5) < 2)
        runs[walk_pick(w, KD_COUNT(runs))](w);
    else
        others[walk_pick(w, KD_COUNT(others))](w);
}
