/* distiller.c - the step: teacher, student, objective, update. */
#include "base/process.h"
#include "distill/distiller.h"
#include "ranks/ranks.h"
#include <string.h>

void kdas_distiller_options_init(kdas_distiller_options *options, size_t size)
{
    kdas_distiller_options defaults = { .size = size, .accumulate = 1, .gradient_norms = 1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

static kdas_status check_options(const kdas_distiller_options *o)
{
    KD_RETURN(kd_check_reserved(o->reserved, "kdas_distiller_options"));
    if (o->accumulate < 1 || o->accumulate > 65536)
        return kd_fail(KDAS_EINVAL, "distiller: accumulate is %d, not 1 to 65536", o->accumulate);
    if (!(o->ema >= 0 && o->ema < 1))
        return kd_fail(KDAS_EINVAL, "distiller: ema is %g, not from 0 to below 1", (double)o->ema);
    return KDAS_OK;
}

static kdas_status check_parts(const kdas_model *teacher, const kdas_model *student,
                               const kdas_loss *loss, const kdas_optim *optim)
{
    if (!student || !loss || !optim)
        return kd_fail(KDAS_EINVAL, "kdas_distiller_create: student, loss or optim is NULL");
    KD_RETURN(kd_check_process(kdas_model_context(student)));
    if (teacher == student)
        return kd_fail(KDAS_EINVAL,
                       "a model cannot be its own teacher; make a second one and copy");
    if (kdas_optim_model(optim) != student) /* which is trainable, then */
        return kd_fail(KDAS_EINVAL, "the optimizer was made for another model than student '%s'",
                       kdas_model_network(student));
    return kdas_loss_check(loss, student, teacher, NULL, NULL);
}

static kdas_status create(kdas_distiller **out, kdas_model *teacher, kdas_model *student,
                          kdas_loss *loss, kdas_optim *optim, const kdas_distiller_options *o)
{
    kdas_distiller *d;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_distiller_create: out is NULL");
    KD_RETURN(check_parts(teacher, student, loss, optim));
    KD_RETURN(check_options(o));
    d = kd_calloc(kdas_model_context(student), 1, sizeof *d);
    if (!d) return KDAS_ENOMEM;
    d->ctx     = kdas_model_context(student);
    d->teacher = teacher;
    d->student = student;
    d->loss    = loss;
    d->optim   = optim;
    d->options = *o;
    *out       = d;
    KD_RETURN(kd_average_init(d));
    return kd_feature_create(d);
}

kdas_status kdas_distiller_create(kdas_distiller **out, kdas_model *teacher, kdas_model *student,
                                  kdas_loss *loss, kdas_optim *optim,
                                  const kdas_distiller_options *options)
{
    kdas_distiller_options o;
    kdas_status            st;

    if (out) *out = NULL;
    kdas_distiller_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_distiller_options"));
    st = student ? kd_ranks_check(o.ranks, kdas_model_context(student), "distiller") : KDAS_OK;
    if (st == KDAS_OK) st = create(out, teacher, student, loss, optim, &o);
    st = kd_ranks_step_create(out ? *out : NULL, o.ranks, st);
    if (st == KDAS_OK || !out) return st;
    kdas_distiller_destroy(*out);
    *out = NULL;
    return st;
}

void kdas_distiller_destroy(kdas_distiller *d)
{
    if (!d) return;
    kd_ranks_step_destroy(d);
    kd_feature_destroy(d);
    kd_average_finish(d);
    for (size_t i = 0; i < KD_COUNT(d->host_teacher.copy); i++)
        kd_free(d->ctx, d->host_teacher.copy[i].memory);
    kd_free(d->ctx, d);
}

/* ---- all or nothing ---- */

int32_t kd_distiller_accumulated(const kdas_distiller *d)
{
    return d->zeroed == kdas_model_zeroed(d->student) ? d->micro : 0;
}

static void count_accumulated(kdas_distiller *d) { d->micro = kd_distiller_accumulated(d); }

/* Set the mark before the first micro-batch of an update, and after a restore in the
 * middle of an update. */
static kdas_status ensure_mark(kdas_distiller *d)
{
    count_accumulated(d);
    if (d->micro > 0 && d->marked) return KDAS_OK;
    d->marked = false;
    KD_RETURN(kdas_loss_mark(d->loss));
    KD_RETURN(kdas_model_mark(d->student));
    d->marked = true;
    return KDAS_OK;
}

/* Go back to the mark and drop the gradients; the student is as its last update left
 * it. Returns `st`. */
kdas_status kd_distiller_abandon(kdas_distiller *d, kdas_status st)
{
    d->phase = KD_PHASE_IDLE;
    d->micro = 0;
    if (d->marked) {
        kdas_loss_rollback(d->loss);
        kdas_model_rollback(d->student);
    }
    kdas_model_zero_gradients(d->student);
    kd_feature_zero(d);
    if (d->over) kd_ranks_step_forget(d);
    return st;
}

/* ---- forward ---- */

/* The factor of a micro-batch's gradients: 1 / micro-batches for a mean, times the
 * optimizer's loss scale. Where other ranks have the rest of the micro-batch, also times this part. */
static float gradient_scale(const kdas_distiller *d)
{
    return 1.0f / (float)d->options.accumulate * (float)kdas_optim_loss_scale(d->optim);
}

/* `maps`: those of the host's own teacher; NULL: none are set. They are read unless there is a
 * teacher model. */
static kdas_loss_run_options run_options(const kdas_distiller *d, const kdas_maps *maps)
{
    kdas_loss_run_options o;

    kdas_loss_run_options_init(&o, sizeof o);
    o.scale          = gradient_scale(d) * (float)kd_ranks_step_part(d);
    o.gradient_norms = d->options.gradient_norms;
    o.teacher_maps   = d->teacher ? NULL : maps;
    return o;
}

/* Run both models on a batch. It is on the device already, or each model uploads it. */
static kdas_status run_models(kdas_distiller *d, kdas_batch *batch, kdas_step_report *r)
{
    bool   teaches = kdas_loss_reads_teacher(d->loss, batch) || kd_feature_wanted(d);
    double start = kd_now(), factor = kdas_loss_guidance_factor(d->loss);

    if (kdas_batch_context(batch) == d->ctx) KD_RETURN(kdas_batch_upload(batch));
    teaches = teaches && d->teacher;
    if (teaches) KD_RETURN(kdas_model_forward(d->teacher, KDAS_MODE_INFER, batch));
    r->seconds[KDAS_STEP_TEACHER] = kd_now() - start;
    KD_RETURN(ensure_mark(d));
    KD_RETURN(kdas_model_forward(d->student, KDAS_MODE_TRAIN, batch));
    r->seconds[KDAS_STEP_STUDENT] = kd_now() - start - r->seconds[KDAS_STEP_TEACHER];
    d->batch                      = batch;
    d->factor                     = factor;
    d->holds[0]                   = teaches ? kdas_model_generation(d->teacher) : 0;
    d->holds[1]                   = kdas_model_generation(d->student);
    return KDAS_OK;
}

/* On this rank. */
static kdas_status forward_here(kdas_distiller *d, kdas_batch *batch, kdas_step_report *r)
{
    kd_host_teacher      *t = &d->host_teacher;
    kdas_loss_run_options o;
    kdas_status           st;

    if (!batch) return kd_fail(KDAS_EINVAL, "distiller: the batch is NULL");
    o = run_options(d, t->fresh ? &t->copy[t->next].maps : NULL);
    KD_RETURN(kdas_loss_check(d->loss, d->student, d->teacher, batch, &o));
    d->phase = KD_PHASE_IDLE; /* from here on the forward before is gone, also on failure */
    KD_RETURN(kd_distiller_note(d, batch));
    st = run_models(d, batch, r);
    if (st != KDAS_OK) {
        kdas_batch_settle(batch);
        return st;
    }
    d->phase = KD_PHASE_FORWARD;
    t->taken = t->fresh;
    t->last  = t->next;
    t->fresh = false;
    return KDAS_OK;
}

/* All ranks' forwards have succeeded, or none counts. */
static kdas_status forward_together(kdas_distiller *d, kdas_batch *batch, kdas_status mine,
                                    bool read, bool last)
{
    kd_host_teacher *t  = &d->host_teacher;
    kdas_status      st = kd_ranks_step_forward(d, batch, mine, read, last);

    if (st == KDAS_OK) return st;
    if (mine == KDAS_OK) {
        d->phase = KD_PHASE_IDLE;
        t->fresh = t->taken;
        kdas_batch_settle(batch);
    }
    return kdas_ranks_broken(d->options.ranks) ? kd_distiller_abandon(d, st) : st;
}

/* `mine`: of the checks before. `read`: the caller reads a report. `last`: an update follows. */
static kdas_status forward(kdas_distiller *d, kdas_batch *batch, kdas_status mine, bool read,
                           bool last, kdas_step_report *r)
{
    kdas_status st = mine;

    if (d && d->over) kd_ranks_step_enter(d);
    if (st == KDAS_OK) st = forward_here(d, batch, r);
    return d && d->over ? forward_together(d, batch, st, read, last) : st;
}

static kdas_status check(const kdas_distiller *d)
{
    return d ? kd_check_process(d->ctx) : kd_fail(KDAS_EINVAL, "the distiller is NULL");
}

/* Of phases it is not known whether an update follows, nor whether a report is read. */
kdas_status kdas_distiller_forward(kdas_distiller *d, kdas_batch *batch)
{
    kdas_step_report r = { 0 };

    KD_RETURN(check(d));
    return forward(d, batch, KDAS_OK, true, false, &r);
}

/* ---- backward ---- */

/* Check that the models still hold the results of the forward. */
static kdas_status check_forward(const kdas_distiller *d)
{
    static const char gone[] =
        "%s '%s' has run since this forward, or its memory was taken by another "
        "size, a kept tap or a trim";

    if (d->phase != KD_PHASE_FORWARD) return kd_fail(KDAS_ESTATE, "backward comes after a forward");
    if (kdas_model_generation(d->student) != d->holds[1])
        return kd_fail(KDAS_ESTATE, gone, "student", kdas_model_network(d->student));
    if (kdas_model_batch(d->student) != d->batch)
        return kd_fail(KDAS_ESTATE, "the batch of this forward was changed or destroyed");
    if (d->holds[0] && kdas_model_generation(d->teacher) != d->holds[0])
        return kd_fail(KDAS_ESTATE, gone, "teacher", kdas_model_network(d->teacher));
    return KDAS_OK;
}

/* The objective and the features, under the guidance factor of the forward: if the factor is 0, no
 * teacher has run. `begun`: something may have changed. */
static kdas_status differentiate(kdas_distiller *d, bool read, kdas_loss_report *loss, bool *begun)
{
    const kd_host_teacher *t   = &d->host_teacher;
    double                 now = kdas_loss_guidance_factor(d->loss);
    kdas_loss_run_options  o   = run_options(d, t->taken ? &t->copy[t->last].maps : NULL);
    kdas_status            st;

    kdas_loss_set_guidance_factor(d->loss, d->factor);
    st     = kdas_loss_run(d->loss, d->student, d->holds[0] ? d->teacher : NULL, d->batch, &o,
                       read ? loss : NULL);
    *begun = st != KDAS_ESTATE; /* it checks before it changes anything */
    if (st == KDAS_OK) st = kd_feature_run(d, o.scale, read, loss);
    kdas_loss_set_guidance_factor(d->loss, now);
    return st;
}

static void put_loss(kdas_step_report *r, const kdas_loss_report *loss)
{
    r->total = loss->total;
    memcpy(r->raw, loss->raw, sizeof r->raw);
    memcpy(r->weighted, loss->weighted, sizeof r->weighted);
    memcpy(r->gradient, loss->gradient, sizeof r->gradient);
}

/* `read`: the caller reads the objective's report. */
static kdas_status backward_here(kdas_distiller *d, bool read, kdas_loss_report *loss, bool *begun)
{
    KD_RETURN(differentiate(d, read, loss, begun));
    return kdas_model_backward(d->student, NULL);
}

static kdas_status backward_together(kdas_distiller *d, kdas_loss_report *loss)
{
    bool        begun;
    kdas_status st = kd_ranks_step_begin(d, (double)gradient_scale(d));

    if (st == KDAS_OK) st = backward_here(d, kd_ranks_step_read(d), loss, &begun);
    return kd_ranks_step_end(d, st, loss);
}

/* After check_forward(). */
static kdas_status backward(kdas_distiller *d, bool read, kdas_step_report *r)
{
    kdas_loss_report loss  = { .size = sizeof loss };
    double           start = kd_now();
    bool             begun = true;
    kdas_status      st;

    st = d->over ? backward_together(d, &loss) : backward_here(d, read, &loss, &begun);
    if (!begun) return st;
    if (st != KDAS_OK) kd_distiller_abandon(d, st);
    kdas_batch_settle(d->batch);
    if (st != KDAS_OK) return st;
    count_accumulated(d);
    if (d->micro++ == 0) d->zeroed = kdas_model_zeroed(d->student);
    d->phase = KD_PHASE_BACKWARD;
    put_loss(r, &loss);
    r->seconds[KDAS_STEP_OBJECTIVE] = kd_now() - start;
    return KDAS_OK;
}

/* The settings of the last or next update. */
static void report_optim(const kdas_distiller *d, kdas_step_report *r)
{
    r->lr         = kdas_optim_lr(d->optim);
    r->loss_scale = kdas_optim_loss_scale(d->optim);
}

static kdas_status check_report(const kdas_distiller *d, const kdas_step_report *report)
{
    KD_RETURN(check(d));
    return report ? kd_check_report(&report->size, "kdas_step_report") : KDAS_OK;
}

static void give_report(kdas_step_report *to, kdas_step_report *r)
{
    if (!to) return;
    r->terms = KDAS_TERMS;
    r->parts = KDAS_STEP_PARTS;
    kd_give_options(to, r, sizeof *r, "kdas_step_report");
}

kdas_status kdas_distiller_backward(kdas_distiller *d, kdas_step_report *report)
{
    kdas_step_report r  = { 0 };
    kdas_status      st = check_report(d, report);

    if (st == KDAS_OK) st = check_forward(d);
    KD_RETURN(kd_ranks_step_vote(d, false, st));
    KD_RETURN(backward(d, report != NULL, &r));
    report_optim(d, &r);
    give_report(report, &r);
    return KDAS_OK;
}

/* ---- update ---- */

static kdas_status check_update(kdas_distiller *d)
{
    count_accumulated(d);
    return d->micro ? KDAS_OK : kd_fail(KDAS_ESTATE, "an update comes after a backward");
}

static kdas_status update_here(kdas_distiller *d, kdas_step_report *r)
{
    int64_t     skipped = kdas_optim_skipped(d->optim);
    kdas_status st      = d->over ? kd_ranks_step_average(d) : KDAS_OK;

    if (st == KDAS_OK) st = kdas_optim_step(d->optim);
    if (st != KDAS_OK) return kd_distiller_abandon(d, st);
    KD_RETURN(kdas_model_zero_gradients(d->student));
    KD_RETURN(kd_feature_zero(d));
    r->skipped = kdas_optim_skipped(d->optim) != skipped;
    if (!r->skipped) KD_RETURN(kd_average_update(d));
    d->micro   = 0;
    d->phase   = KD_PHASE_IDLE;
    r->updated = !r->skipped;
    return KDAS_OK;
}

/* All ranks have the same gradients, so that they decide alike. */
static kdas_status update_together(kdas_distiller *d, kdas_step_report *r)
{
    kdas_status st = kd_ranks_step_reduce(d);

    if (st != KDAS_OK) return kd_distiller_abandon(d, st);
    st = update_here(d, r);
    kd_ranks_step_forget(d);
    return kd_ranks_step_updated(d, st);
}

/* After check_update(). */
static kdas_status update(kdas_distiller *d, kdas_step_report *r)
{
    double start = kd_now();

    report_optim(d, r);
    KD_RETURN(d->over ? update_together(d, r) : update_here(d, r));
    r->seconds[KDAS_STEP_UPDATE] = kd_now() - start;
    return KDAS_OK;
}

kdas_status kdas_distiller_update(kdas_distiller *d, kdas_step_report *report)
{
    kdas_step_report r  = { 0 };
    kdas_status      st = check_report(d, report);

    if (st == KDAS_OK) st = check_update(d);
    KD_RETURN(kd_ranks_step_vote(d, true, st));
    KD_RETURN(update(d, &r));
    give_report(report, &r);
    return KDAS_OK;
}

/* ---- the whole step ---- */

static kdas_status step(kdas_distiller *d, kdas_batch *batch, kdas_status mine, bool read,
                        kdas_step_report *r)
{
    bool last = kd_distiller_accumulated(d) + 1 >= d->options.accumulate;

    KD_RETURN(forward(d, batch, mine, read, last, r));
    KD_RETURN(check_forward(d));
    KD_RETURN(backward(d, read, r));
    report_optim(d, r);
    return d->micro >= d->options.accumulate ? update(d, r) : KDAS_OK;
}

kdas_status kdas_distiller_step(kdas_distiller *d, kdas_batch *batch, kdas_step_report *report)
{
    kdas_step_report r  = { 0 };
    kdas_status      st = check_report(d, report);

    KD_RETURN(check(d));
    KD_RETURN(step(d, batch, st, report != NULL, &r));
    give_report(report, &r);
    return KDAS_OK;
}
