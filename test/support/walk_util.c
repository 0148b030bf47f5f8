/* walk_util.c - see walk_util.h: the world of a walk, making and destroying handles. */
#include "support/walk_util.h"
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support/check_util.h"

/* ---- picking ---- */

int walk_pick(kd_test_walk *w, int n)
{
    if (!w->choice) return (int)kd_random_below(&w->r, n);
    if (!w->choices) return 0;
    w->choices--;
    return *w->choice++ * n / 256;
}

#define PICK(name, array, count)                                           \
    int name(kd_test_walk *w)                                              \
    {                                                                      \
        int at = walk_pick(w, count);                                      \
                                                                           \
        for (int i = 0; i < (count); i++)                                  \
            if (w->array[(at + i) % (count)].h) return (at + i) % (count); \
        return WALK_NONE;                                                  \
    }
PICK(walk_pick_model, model, WALK_MODELS)
PICK(walk_pick_batch, batch, WALK_BATCHES)
PICK(walk_pick_distiller, distiller, WALK_OF_EACH)
static PICK(pick_loss, loss, WALK_OF_EACH) static PICK(pick_optim, optim,
                                                       WALK_OF_EACH) static PICK(pick_segmenter,
                                                                                 segmenter,
                                                                                 WALK_OF_EACH)

/* A free slot of an array of `count`, or WALK_NONE. */
#define FREE_SLOT(array, count)                          \
    ({                                                   \
        int slot_ = WALK_NONE;                           \
        for (int i_ = 0; i_ < (count); i_++)             \
            if (!(array)[i_].h && slot_ < 0) slot_ = i_; \
        slot_;                                           \
    })

    /* ---- what is expected ---- */

    static void tell(const kd_test_walk *w, kdas_status wanted)
{
    printf("walk: seed %llu, call %ld must give %s, after %ld failures. The last calls:\n",
           (unsigned long long)w->seed, w->calls, kdas_status_name(wanted), w->fault.failures);
    for (long k = w->calls > WALK_LINES ? w->calls - WALK_LINES : 0; k < w->calls; k++)
        printf("%6ld  %s\n", k + 1, w->line[k % WALK_LINES]);
    fflush(stdout);
    ck_abort_msg("seed %llu, call %ld: %s; wanted %s; the last error: %s",
                 (unsigned long long)w->seed, w->calls, w->line[(w->calls - 1) % WALK_LINES],
                 kdas_status_name(wanted), kdas_last_error());
}

bool walk_expect(kd_test_walk *w, kdas_status got, kdas_status wanted, const char *format, ...)
{
    bool    refused = walk_disarm(w);
    char   *line    = w->line[w->calls++ % WALK_LINES];
    size_t  room    = sizeof w->line[0];
    va_list args;
    int     n;

    va_start(args, format);
    n = vsnprintf(line, room, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < room)
        snprintf(line + n, room - (size_t)n, ": %s", kdas_status_name(got));
    if (refused && got == KDAS_ENOMEM) {
        ck_assert_msg(strstr(kdas_last_error(), "memory") != NULL, "'%s' does not name memory",
                      kdas_last_error());
        w->fault.failed = true;
        w->fault.failures++;
        return false;
    }
    if (got != wanted) tell(w, wanted);
    w->fault.unharmed += refused;
    w->ok += got == KDAS_OK;
    return true;
}

/* ---- a model's values ---- */

void walk_lose(walk_model *m)
{
    m->values = m->differentiable = false;
    m->generation++;
}

void walk_change_batch(kd_test_walk *w, int batch)
{
    for (int i = 0; i < WALK_MODELS; i++)
        if (w->model[i].h && w->model[i].batch == batch) w->model[i].batch = WALK_NONE;
}

void walk_compiled(walk_model *m, kdas_mode mode, int64_t n, int64_t side)
{
    walk_program p = { mode, n, side, 0 };

    for (int i = 0; i < m->programs; i++)
        if (m->program[i].mode == mode && m->program[i].n == n && m->program[i].side == side)
            return;
    kd_assert_ok(kdas_model_memory(m->h, mode, n, side, side, &p.arena, NULL)); /* it is there */
    ck_assert_int_lt(m->programs, WALK_PROGRAMS);
    m->program[m->programs++] = p;
    if (p.arena <= m->arena) return;
    m->arena = p.arena;
    walk_lose(m);
}

void walk_ran(walk_model *m, int batch, kdas_mode mode, int64_t n, int64_t side, kdas_status st)
{
    walk_compiled(m, mode, n, side);
    walk_lose(m);
    m->batch  = batch;
    m->ran    = true;
    m->values = st == KDAS_OK;
    for (int i = 0; i < m->programs; i++) /* a trim gave memory back, a run takes it again */
        if (m->program[i].mode == mode && m->program[i].n == n && m->program[i].side == side &&
            m->program[i].arena > m->arena)
            m->arena = m->program[i].arena;
    m->differentiable = m->values && mode != KDAS_MODE_INFER;
}

/* ---- make ---- */

static void make_model(kd_test_walk *w)
{
    static const char *const names[] = { "lite_fpn0", "lite_fpn0", "polyp_pvt_b0", "no_such_net" };
    int slot = FREE_SLOT(w->model, WALK_MODELS), ctx = walk_pick(w, WALK_CONTEXTS),
        name             = walk_pick(w, 8);
    walk_model         m = { .ctx = ctx };
    kdas_model_options o;

    if (slot < 0) return;
    name = name < 4 ? name : name % 2;
    kdas_model_options_init(&o, sizeof o);
    o.trainable = m.trainable = walk_pick(w, 3) > 0;
    m.lite                    = name < 2;
    walk_expect(w, kdas_model_create(&m.h, w->ctx[ctx], names[name], &o),
                name == 3 ? KDAS_ENOTFOUND : KDAS_OK, "model %d = %s, context %d, trainable %d",
                slot, names[name], ctx, m.trainable);
    w->model[slot] = m;
}

static void make_loss(kd_test_walk *w)
{
    static const char *const presets[] = { "baseline", "kl", "attention", "feature", "kdas" };
    int slot = FREE_SLOT(w->loss, WALK_OF_EACH), ctx = walk_pick(w, WALK_CONTEXTS),
        preset          = walk_pick(w, 5);
    walk_loss         l = { .ctx = ctx };
    kdas_loss_options o;
    bool              bad = walk_pick(w, 8) == 0;

    if (slot < 0) return;
    kdas_loss_options_init(&o, sizeof o);
    kd_assert_ok(kdas_loss_options_preset(&o, presets[preset]));
    if (bad) o.tau = -1;
    walk_expect(w, kdas_loss_create(&l.h, w->ctx[ctx], &o), bad ? KDAS_EINVAL : KDAS_OK,
                "loss %d = %s, context %d%s", slot, presets[preset], ctx, bad ? ", tau -1" : "");
    l.maps        = l.h && kdas_loss_needs_teacher(l.h);
    l.features    = l.h && kdas_loss_needs_taps(l.h);
    w->loss[slot] = l;
}

static void make_optim(kd_test_walk *w)
{
    int        slot = FREE_SLOT(w->optim, WALK_OF_EACH), model = walk_pick_model(w);
    walk_optim o = { .model = model };

    if (slot < 0 || model < 0) return;
    walk_expect(w, kdas_optim_create(&o.h, w->model[model].h, NULL),
                w->model[model].trainable ? KDAS_OK : KDAS_ESTATE, "optimizer %d of model %d", slot,
                model);
    w->optim[slot] = o; /* its handle is NULL where it failed, as all handles below */
    if (o.h) w->model[model].users++;
}

/* What kdas_distiller_create() must say. */
static kdas_status distiller_status(const kd_test_walk *w, const walk_distiller *d)
{
    const walk_model *student = &w->model[d->student],
                     *teacher = d->teacher < 0 ? NULL : &w->model[d->teacher];
    const walk_loss  *loss    = &w->loss[d->loss];
    const walk_optim *optim   = &w->optim[d->optim];

    if (d->teacher == d->student) return KDAS_EINVAL;
    if (teacher && teacher->ctx != student->ctx) return KDAS_EINVAL;
    if (loss->ctx != student->ctx) return KDAS_EINVAL;
    if (optim->model != d->student) return KDAS_EINVAL;
    if (loss->features && (!teacher || optim->beside)) return KDAS_EINVAL;
    return KDAS_OK;
}

static void keep_taps(walk_model *m)
{
    bool any = false;

    for (int i = 0; i < WALK_TAPS; i++) {
        any |= !m->kept[i];
        m->kept[i] = true;
    }
    if (!any) return;
    m->programs = 0;
    walk_lose(m);
}

static void make_distiller(kd_test_walk *w)
{
    int                    slot = FREE_SLOT(w->distiller, WALK_OF_EACH);
    walk_distiller         d    = { .teacher = walk_pick(w, 4) ? walk_pick_model(w) : WALK_NONE,
                                    .student = walk_pick_model(w),
                                    .loss    = pick_loss(w),
                                    .optim   = pick_optim(w),
                                    .saved   = WALK_NONE };
    kdas_distiller_options o;
    kdas_status            wanted;

    if (slot < 0 || d.student < 0 || d.loss < 0 || d.optim < 0) return;
    if (walk_pick(w, 4)) d.student = w->optim[d.optim].model; /* more often one that fits */
    wanted = distiller_status(w, &d);
    /* features are followed between networks with the same four taps */
    if (w->loss[d.loss].features && d.teacher >= 0 &&
        !(w->model[d.teacher].lite && w->model[d.student].lite))
        return;
    kdas_distiller_options_init(&o, sizeof o);
    o.accumulate = d.accumulate = 1 + walk_pick(w, 2);
    if (!walk_expect(w,
                     kdas_distiller_create(&d.h, d.teacher < 0 ? NULL : w->model[d.teacher].h,
                                           w->model[d.student].h, w->loss[d.loss].h,
                                           w->optim[d.optim].h, &o),
                     wanted, "distiller %d = teacher %d, student %d, loss %d, optimizer %d", slot,
                     d.teacher, d.student, d.loss, d.optim)) { /* taps may be kept */
        walk_look(&w->model[d.student]);
        if (d.teacher >= 0) walk_look(&w->model[d.teacher]);
    }
    if (!d.h) return;
    if (w->loss[d.loss].features) {
        keep_taps(&w->model[d.teacher]);
        keep_taps(&w->model[d.student]);
        w->optim[d.optim].beside = true;
    }
    w->distiller[slot] = d;
    if (d.teacher >= 0) w->model[d.teacher].users++;
    w->model[d.student].users++;
    w->loss[d.loss].users++;
    w->optim[d.optim].users++;
}

static void make_segmenter(kd_test_walk *w)
{
    int                    slot = FREE_SLOT(w->segmenter, WALK_OF_EACH), model = walk_pick_model(w);
    walk_segmenter         s = { .model = model, .side = 32 * (1 + walk_pick(w, 2)) };
    kdas_segmenter_options o;
    kdas_status            st;

    if (slot < 0 || model < 0) return;
    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = s.side;
    st                 = kdas_segmenter_create(&s.h, w->model[model].h, &o);
    if (walk_expect(w, st, w->cancelled[w->model[model].ctx] ? KDAS_ECANCELLED : KDAS_OK,
                    "segmenter %d of model %d, side %d", slot, model, (int)s.side))
        walk_ran(&w->model[model], WALK_NONE, KDAS_MODE_INFER, 1, s.side, st);
    else
        walk_look_run(&w->model[model], WALK_NONE);
    w->segmenter[slot] = s;
    if (s.h) w->model[model].users++;
}

static void make_batch(kd_test_walk *w)
{
    /* 0 is refused; not 1, whose maps of one pixel have no variance */
    static const int64_t counts[] = { 0, 2, 3 }, sides[] = { 32, 32, 64, 48 };
    int                  slot = FREE_SLOT(w->batch, WALK_BATCHES);
    walk_batch           b    = { .ctx  = walk_pick(w, WALK_CONTEXTS),
                                  .n    = counts[walk_pick(w, 3)],
                                  .side = sides[walk_pick(w, 4)] };

    if (slot < 0) return;
    walk_expect(w, kdas_batch_create(&b.h, w->ctx[b.ctx], b.n, b.side, b.side),
                b.n ? KDAS_OK : KDAS_EINVAL, "batch %d = %d of side %d, context %d", slot, (int)b.n,
                (int)b.side, b.ctx);
    w->batch[slot] = b;
    if (!b.h) return;
    kd_test_fill(kdas_batch_images(b.h), b.n * b.side * b.side * 3, "walk", 1, 0);
    kd_test_ellipses(kdas_batch_masks(b.h), b.n, b.side, b.side, "walk");
}

static void make_loader(kd_test_walk *w)
{
    walk_loader         l = { .ctx = walk_pick(w, WALK_CONTEXTS) };
    kdas_scene_options  scenes;
    kdas_loader_options o;

    if (w->loader.h) return;
    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 4;
    scenes.width = scenes.height = 40;
    kdas_loader_options_init(&o, sizeof o);
    o.batch  = 2;
    o.height = o.width = 32;
    o.workers          = walk_pick(w, 3);
    if (w->fault.on) o.workers = 0; /* whose allocations would fall into any call */
    if (!walk_expect(w, kdas_dataset_synthetic(&l.frames, w->ctx[l.ctx], &scenes), KDAS_OK,
                     "scenes, context %d", l.ctx))
        return;
    walk_arm(w);
    if (!walk_expect(w, kdas_loader_create(&l.h, l.frames, &o), KDAS_OK,
                     "loader, context %d, %d workers", l.ctx, o.workers)) {
        kdas_dataset_destroy(l.frames);
        return;
    }
    w->loader = l;
}

/* ---- destroy, what nobody uses ---- */

static void destroy_model(kd_test_walk *w)
{
    int i = walk_pick_model(w);

    if (i < 0 || w->model[i].users) return;
    kdas_model_destroy(w->model[i].h);
    walk_expect(w, KDAS_OK, KDAS_OK, "destroy model %d", i);
    w->model[i] = (walk_model){ 0 };
}

static void destroy_loss(kd_test_walk *w)
{
    int i = pick_loss(w);

    if (i < 0 || w->loss[i].users) return;
    kdas_loss_destroy(w->loss[i].h);
    walk_expect(w, KDAS_OK, KDAS_OK, "destroy loss %d", i);
    w->loss[i] = (walk_loss){ 0 };
}

static void destroy_optim(kd_test_walk *w)
{
    int i = pick_optim(w);

    if (i < 0 || w->optim[i].users) return;
    w->model[w->optim[i].model].users--;
    kdas_optim_destroy(w->optim[i].h);
    walk_expect(w, KDAS_OK, KDAS_OK, "destroy optimizer %d", i);
    w->optim[i] = (walk_optim){ 0 };
}

static void destroy_distiller(kd_test_walk *w)
{
    int            i = walk_pick_distiller(w);
    walk_distiller d;
    char           path[96];

    if (i < 0) return;
    d = w->distiller[i];
    kdas_distiller_destroy(d.h);
    snprintf(path, sizeof path, "%s/%d.kdas", w->folder, i);
    unlink(path);
    walk_expect(w, KDAS_OK, KDAS_OK, "destroy distiller %d", i);
    if (d.teacher >= 0) w->model[d.teacher].users--;
    w->model[d.student].users--;
    w->loss[d.loss].users--;
    w->optim[d.optim].users--;
    if (w->loss[d.loss].features) w->optim[d.optim].beside = false;
    w->distiller[i] = (walk_distiller){ 0 };
}

static void destroy_segmenter(kd_test_walk *w)
{
    int i = pick_segmenter(w);

    if (i < 0) return;
    w->model[w->segmenter[i].model].users--;
    kdas_segmenter_destroy(w->segmenter[i].h);
    walk_expect(w, KDAS_OK, KDAS_OK, "destroy segmenter %d", i);
    w->segmenter[i] = (walk_segmenter){ 0 };
}

static void destroy_batch(kd_test_walk *w)
{
    int i = walk_pick_batch(w);

    if (i < 0) return;
    kdas_batch_destroy(w->batch[i].h);
    walk_expect(w, KDAS_OK, KDAS_OK, "destroy batch %d", i);
    walk_change_batch(w, i);
    w->batch[i] = (walk_batch){ 0 };
}

static void destroy_loader(kd_test_walk *w)
{
    if (!w->loader.h) return;
    kdas_loader_destroy(w->loader.h);
    kdas_dataset_destroy(w->loader.frames);
    walk_expect(w, KDAS_OK, KDAS_OK, "destroy loader");
    w->loader = (walk_loader){ 0 };
}

static void (*const makers[])(kd_test_walk *)     = { make_model, make_loss,      make_optim,
                                                      make_batch, make_distiller, make_segmenter,
                                                      make_loader };
static void (*const destroyers[])(kd_test_walk *) = { destroy_distiller, destroy_segmenter,
                                                      destroy_optim,     destroy_loss,
                                                      destroy_batch,     destroy_loader,
                                                      destroy_model };

/* ---- the walk ---- */

void kd_test_walk_begin(kd_test_walk *w, uint64_t seed)
{
    *w = (kd_test_walk){ .r = kd_random_make(seed, 0), .seed = seed };
    for (int i = 0; i < WALK_CONTEXTS; i++)
        w->ctx[i] = kd_test_device("cpu", &w->meter[i]);
    snprintf(w->folder, sizeof w->folder, "/tmp/kdas-walk-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(w->folder));
}

void kd_test_walk_step(kd_test_walk *w)
{
    int what = walk_pick(w, 100);

    for (int i = 0; i < WALK_MODELS; i++)
        if (w->model[i].h) w->model[i].seen = kdas_model_generation(w->model[i].h);
    if (what < 20)
        makers[walk_pick(w, KD_COUNT(makers))](w);
    else if (what < 26)
        destroyers[walk_pick(w, KD_COUNT(destroyers))](w);
    else
        walk_call(w);
}

void kd_test_walk_end(kd_test_walk *w)
{
    for (size_t k = 0; k < KD_COUNT(destroyers); k++)
        for (int i = 0; i < 64; i++)
            destroyers[k](w);
    for (int i = 0; i < WALK_CONTEXTS; i++) {
        kdas_context_destroy(w->ctx[i]);
        kd_test_assert_given_back(&w->meter[i]);
    }
    ck_assert_int_eq(rmdir(w->folder), 0);
    if (w->choice || w->calls < 300) return;
    ck_assert_msg(w->ok > (w->calls - w->fault.failures) / 3,
                  "only %ld of %ld calls were to succeed", w->ok, w->calls);
}
