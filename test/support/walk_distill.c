/* walk_distill.c - see walk_util.h: what a walk does with distillers, and which status each call must give. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support/check_util.h"
#include "support/walk_util.h"

/* ---- what a phase must give ---- */

static void drop_gathered(kd_test_walk *w, walk_distiller *d)
{
    if (d->micro && d->zeroed != w->model[d->student].zeroed) d->micro = 0;
}

static void abandon(kd_test_walk *w, walk_distiller *d)
{
    d->pending = false;
    d->micro   = 0;
    w->model[d->student].zeroed++;
    w->model[d->student].spoilt = false;
}

/* A forward: what it must give; the models' values follow. */
static kdas_status expect_forward(kd_test_walk *w, walk_distiller *d, const walk_batch *b)
{
    const walk_loss *l       = &w->loss[d->loss];
    walk_model      *student = &w->model[d->student],
               *teacher      = d->teacher < 0 ? NULL : &w->model[d->teacher];
    bool stop                = w->cancelled[student->ctx];
    int  batch = b >= w->batch && b < w->batch + WALK_BATCHES ? (int)(b - w->batch) : WALK_LOADERS;

    if (walk_size_status(b)) return walk_size_status(b);
    if (l->maps && !teacher && !d->given) return KDAS_ESTATE;
    if (l->maps && !teacher && d->given != b->n) return KDAS_ESHAPE;
    d->pending  = false;
    d->reads[0] = WALK_NONE;
    if (teacher && (l->maps || l->features)) {
        walk_ran(teacher, batch, KDAS_MODE_INFER, b->n, b->side, stop ? KDAS_ECANCELLED : KDAS_OK);
        d->reads[0] = teacher->generation;
        if (stop) return KDAS_ECANCELLED;
    }
    walk_ran(student, batch, KDAS_MODE_TRAIN, b->n, b->side, stop ? KDAS_ECANCELLED : KDAS_OK);
    d->reads[1] = student->generation;
    d->batch    = batch;
    d->pending  = !stop;
    if (!stop) d->given = 0;
    return stop ? KDAS_ECANCELLED : KDAS_OK;
}

static kdas_status expect_backward(kd_test_walk *w, walk_distiller *d)
{
    walk_model *student = &w->model[d->student];

    if (!d->pending || student->generation != d->reads[1] || !student->differentiable)
        return KDAS_ESTATE;
    if (student->batch != d->batch) return KDAS_ESTATE;
    if (d->reads[0] >= 0 && w->model[d->teacher].generation != d->reads[0]) return KDAS_ESTATE;
    if (w->cancelled[student->ctx]) {
        abandon(w, d);
        return KDAS_ECANCELLED;
    }
    drop_gathered(w, d);
    if (d->micro++ == 0) d->zeroed = student->zeroed;
    d->pending              = false;
    student->differentiable = false;
    return KDAS_OK;
}

static kdas_status expect_update(kd_test_walk *w, walk_distiller *d)
{
    walk_model *student = &w->model[d->student];

    drop_gathered(w, d);
    if (d->micro == 0) return KDAS_ESTATE;
    if (student->spoilt) { /* refused by the optimizer: all of it goes */
        abandon(w, d);
        return KDAS_ESTATE;
    }
    student->zeroed++;
    d->micro   = 0;
    d->pending = false;
    return KDAS_OK;
}

static kdas_status expect_step(kd_test_walk *w, walk_distiller *d, const walk_batch *b)
{
    kdas_status st = expect_forward(w, d, b);

    if (st == KDAS_OK) st = expect_backward(w, d);
    if (st == KDAS_OK && d->micro >= d->accumulate) st = expect_update(w, d);
    return st;
}

/* ---- distillers without memory ---- */

typedef enum walk_phase { FORWARD, BACKWARD, UPDATE, STEP } walk_phase;

static bool starved(kd_test_walk *w, kdas_status got, const char *what, int i)
{
    if (got != KDAS_ENOMEM || !walk_refused(w)) return false;
    walk_expect(w, got, KDAS_OK, "%s of distiller %d", what, i);
    return true;
}

/* What a phase without memory has left. A failed forward drops nothing but the forward before it; a failed backward or
 * update drops all that was gathered. `zeroed`: the student's count before the call. */
static void distiller_failed(kd_test_walk *w, walk_distiller *d, walk_phase phase, int batch,
                             uint64_t zeroed)
{
    walk_model *student = &w->model[d->student];
    bool        dropped = kdas_model_zeroed(student->h) != zeroed;

    ck_assert(!(phase == FORWARD && dropped));
    ck_assert(!((phase == BACKWARD || phase == UPDATE) && !dropped));
    walk_look_run(student, batch);
    if (d->teacher >= 0) walk_look_run(&w->model[d->teacher], batch);
    drop_gathered(w, d);
    d->pending = false;
    if (!dropped) return;
    if (d->micro > 0 || d->batch >= WALK_BATCHES) w->fault.differs = true;
    if (phase == BACKWARD && !w->cancelled[student->ctx] && d->micro == 0) w->fault.redo = d->batch;
    abandon(w, d);
}

/* A backward is made again after its forward. */
static void redo_forward(kd_test_walk *w, walk_distiller *d)
{
    int batch = w->fault.redo;

    if (!w->fault.again || batch < 0 || batch >= WALK_BATCHES) return;
    w->fault.redo = WALK_NONE;
    walk_disarm(w);
    kd_assert_ok(kdas_distiller_forward(d->h, w->batch[batch].h));
    ck_assert_int_eq(expect_forward(w, d, &w->batch[batch]), KDAS_OK);
    w->model[d->student].seen = kdas_model_generation(w->model[d->student].h);
    if (d->teacher >= 0) w->model[d->teacher].seen = kdas_model_generation(w->model[d->teacher].h);
    walk_arm(w);
}

/* ---- calls of distillers ---- */

static uint64_t zeroed_of(const kd_test_walk *w, const walk_distiller *d)
{
    return kdas_model_zeroed(w->model[d->student].h);
}

void walk_distiller_forward(kd_test_walk *w)
{
    int             i = walk_pick_distiller(w), k = walk_pick_batch(w);
    walk_distiller *d = &w->distiller[i < 0 ? 0 : i];
    uint64_t        zeroed;
    kdas_status     got;

    if (i < 0 || k < 0) return;
    zeroed = zeroed_of(w, d);
    got    = kdas_distiller_forward(d->h, w->batch[k].h);
    if (starved(w, got, "forward", i))
        distiller_failed(w, d, FORWARD, k, zeroed);
    else
        walk_expect(w, got, expect_forward(w, d, &w->batch[k]), "forward of distiller %d, batch %d",
                    i, k);
}

void walk_distiller_backward(kd_test_walk *w)
{
    int              i      = walk_pick_distiller(w);
    walk_distiller  *d      = &w->distiller[i < 0 ? 0 : i];
    bool             report = walk_pick(w, 2);
    kdas_step_report r      = { .size = sizeof r };
    uint64_t         zeroed;
    kdas_status      got;

    if (i < 0) return;
    redo_forward(w, d);
    zeroed = zeroed_of(w, d);
    got    = kdas_distiller_backward(d->h, report ? &r : NULL);
    if (starved(w, got, "backward", i)) {
        distiller_failed(w, d, BACKWARD, d->batch, zeroed);
        return;
    }
    walk_expect(w, got, expect_backward(w, d), "backward of distiller %d", i);
    walk_note(w, &r.total, sizeof r.total);
}

void walk_distiller_update(kd_test_walk *w)
{
    int             i = walk_pick_distiller(w);
    walk_distiller *d = &w->distiller[i < 0 ? 0 : i];
    uint64_t        zeroed;
    kdas_status     got;

    if (i < 0) return;
    zeroed = zeroed_of(w, d);
    got    = kdas_distiller_update(d->h, NULL);
    if (starved(w, got, "update", i))
        distiller_failed(w, d, UPDATE, WALK_NONE, zeroed);
    else
        walk_expect(w, got, expect_update(w, d), "update of distiller %d", i);
}

/* Returns whether it had memory. */
bool walk_step_on(kd_test_walk *w, int i, const walk_batch *b, int number, bool report)
{
    walk_distiller  *d      = &w->distiller[i];
    kdas_step_report r      = { .size = sizeof r };
    uint64_t         zeroed = zeroed_of(w, d);
    kdas_status      got    = kdas_distiller_step(d->h, b->h, report ? &r : NULL);

    if (starved(w, got, "step", i)) {
        distiller_failed(w, d, STEP, number, zeroed);
        return false;
    }
    walk_expect(w, got, expect_step(w, d, b), "step of distiller %d, batch %d", i, number);
    walk_note(w, &r.total, sizeof r.total);
    return true;
}

void walk_distiller_step(kd_test_walk *w)
{
    int i = walk_pick_distiller(w), k = walk_pick_batch(w);

    if (i < 0 || k < 0) return;
    walk_step_on(w, i, &w->batch[k], k, walk_pick(w, 2));
}

/* Maps of the host's teacher, for the next forward: a backward that is still to come reads its own. */
void walk_set_maps(kd_test_walk *w)
{
    static float       logits[3 * 64 * 64];
    const float *const map[] = { logits };
    int                i = walk_pick_distiller(w), n = 2 + walk_pick(w, 2);
    int64_t            side = 32 * (1 + walk_pick(w, 2));
    kdas_maps          maps = { map, 1, n, side, side };

    if (i < 0) return;
    kd_test_fill(logits, n * side * side, "maps", 3, n);
    if (walk_expect(w, kdas_distiller_set_teacher_maps(w->distiller[i].h, &maps), KDAS_OK,
                    "%d maps of side %d for distiller %d", n, (int)side, i))
        w->distiller[i].given = n;
}

void walk_checkpoint(kd_test_walk *w)
{
    int             i = walk_pick_distiller(w);
    kdas_progress   p = { .size = sizeof p };
    walk_distiller *d = &w->distiller[i < 0 ? 0 : i];
    char            path[96];
    uint64_t        before;

    if (i < 0) return;
    snprintf(path, sizeof path, "%s/%d.kdas", w->folder, i);
    if (walk_pick(w, 2)) {
        drop_gathered(w, d);
        if (walk_expect(w, kdas_checkpoint_save(d->h, path, &p, NULL), KDAS_OK,
                        "save a checkpoint of distiller %d", i))
            d->saved = d->micro;
        return;
    }
    before = w->fault.k ? walk_weights(&w->model[d->student]) : 0;
    walk_arm(w);
    if (!walk_expect(w, kdas_checkpoint_load(d->h, path, &p),
                     d->saved < 0 ? KDAS_ENOTFOUND : KDAS_OK, "load a checkpoint of distiller %d",
                     i)) {
        ck_assert_uint_eq(walk_weights(&w->model[d->student]), before);
        return;
    }
    if (d->saved < 0) return;
    w->model[d->student].zeroed++;
    w->model[d->student].spoilt = false;
    d->micro                    = d->saved;
    d->zeroed                   = w->model[d->student].zeroed;
    d->pending                  = false;
}
