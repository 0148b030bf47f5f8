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

kdas_status kdas_distiller_create(kdas_distiller **out, kdas_model *teacher, kdas_model *student,
                                  kdas_loss *loss, kdas_optim *optim,
                                  const kdas_distiller_options *options)
{
    kdas_distiller_options o;
    kdas_distiller        *d;
    kdas_status            st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_distiller_create: out is NULL");
    *out = NULL;
    if (!student || !loss || !optim)
        return kd_fail(KDAS_EINVAL, "kdas_distiller_create: student, loss or optim is NULL");
    KD_RETURN(kd_check_process(kdas_model_context(student)));
    if (teacher == student)
        return kd_fail(KDAS_EINVAL,
                       "a model cannot be its own teacher; make a second one and copy");
    if (kdas_optim_model(optim) != student) /* which is trainable, then */
        return kd_fail(KDAS_EINVAL, "the optimizer was made for another model than student '%s'",
                       kdas_model_network(student));
    KD_RETURN(kdas_loss_check(loss, student, teacher, NULL, NULL));
    kdas_distiller_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_distiller_options"));
    KD_RETURN(kd_check_reserved(o.reserved, "kdas_distiller_options"));
    if (o.accumulate < 1 || o.accumulate > 65536)
        return kd_fail(KDAS_EINVAL, "distiller: accumulate is %d, not 1 to 65536", o.accumulate);
    if (!(o.ema >= 0 && o.ema < 1))
        return kd_fail(KDAS_EINVAL, "distiller: ema is %g, not from 0 to below 1", (double)o.ema);
    KD_RETURN(kd_ranks_check(o.ranks, kdas_model_context(student), "distiller"));
    d = kd_calloc(kdas_model_context(student), 1, sizeof *d);
    if (!d) return KDAS_ENOMEM;
    d->ctx     = kdas_model_context(student);
    d->teacher = teacher;
    d->student = student;
    d->loss    = loss;
    d->optim   = optim;
    d->options = o;
    st         = kd_average_init(d);
    if (st == KDAS_OK) st = kd_feature_create(d);
    if (st == KDAS_OK)
        *out = d;
    else
        kdas_distiller_destroy(d);
    return st;
}

void kdas_distiller_destroy(kdas_distiller *d)
{
    if (!d) return;
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
static kdas_status abandon(kdas_distiller *d, kdas_status st)
{
    d->phase = KD_PHASE_IDLE;
    d->micro = 0;
    if (d->marked) {
        kdas_loss_rollback(d->loss);
        kdas_model_rollback(d->student);
    }
    kdas_model_zero_gradients(d->student);
    kd_feature_zero(d);
    return st;
}

/* ---- forward ---- */

/* The factor of a micro-batch's gradients: 1 / micro-batches for a mean, times the
 * optimizer's loss scale. */
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
    o.scale          = gradient_scale(d);
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

static kdas_status forward(kdas_distiller *d, kdas_batch *batch, kdas_step_report *r)
{
    kd_host_teacher      *t;
    kdas_loss_run_options o;
    kdas_status           st;

    if (!d || !batch) return kd_fail(KDAS_EINVAL, "distiller: distiller or batch is NULL");
    KD_RETURN(kd_check_process(d->ctx));
    t = &d->host_teacher;
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

kdas_status kdas_distiller_forward(kdas_distiller *d, kdas_batch *batch)
{
    kdas_step_report r = { 0 };

    return forward(d, batch, &r);
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
static kdas_status backward(kdas_distiller *d, bool read, kdas_step_report *r)
{
    kdas_loss_report loss  = { .size = sizeof loss };
    double           start = kd_now();
    bool             begun;
    kdas_status      st;

    KD_RETURN(check_forward(d));
    st = differentiate(d, read, &loss, &begun);
    if (!begun) return st;
    if (st == KDAS_OK) st = kdas_model_backward(d->student, NULL);
    if (st != KDAS_OK) abandon(d, st);
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
    if (!d) return kd_fail(KDAS_EINVAL, "the distiller is NULL");
    KD_RETURN(kd_check_process(d->ctx));
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
    kdas_step_report r = { 0 };

    KD_RETURN(check_report(d, report));
    KD_RETURN(backward(d, report != NULL, &r));
    report_optim(d, &r);
    give_report(report, &r);
    return KDAS_OK;
}

/* ---- update ---- */

static kdas_status update(kdas_distiller *d, kdas_step_report *r)
{
    double  start   = kd_now();
    int64_t skipped = kdas_optim_skipped(d->optim);

    kdas_status st;

    count_accumulated(d);
    if (d->micro == 0) return kd_fail(KDAS_ESTATE, "an update comes after a backward");
    report_optim(d, r);
    st = kdas_optim_step(d->optim);
    if (st != KDAS_OK) return abandon(d, st);
    KD_RETURN(kdas_model_zero_gradients(d->student));
    KD_RETURN(kd_feature_zero(d));
    r->skipped = kdas_optim_skipped(d->optim) != skipped;
    if (!r->skipped) KD_RETURN(kd_average_update(d));
    d->micro                     = 0;
    d->phase                     = KD_PHASE_IDLE;
    r->updated                   = !r->skipped;
    r->seconds[KDAS_STEP_UPDATE] = kd_now() - start;
    return KDAS_OK;
}

kdas_status kdas_distiller_update(kdas_distiller *d, kdas_step_report *report)
{
    kdas_step_report r = { 0 };

    KD_RETURN(check_report(d, report));
    KD_RETURN(update(d, &r));
    give_report(report, &r);
    return KDAS_OK;
}

/* ---- the whole step ---- */

static kdas_status step(kdas_distiller *d, kdas_batch *batch, bool read, kdas_step_report *r)
{
    KD_RETURN(forward(d, batch, r));
    KD_RETURN(backward(d, read, r));
    report_optim(d, r);
    return d->micro >= d->options.accumulate ? update(d, r) : KDAS_OK;
}

kdas_status kdas_distiller_step(kdas_distiller *d, kdas_batch *batch, kdas_step_report *report)
{
    kdas_step_report r = { 0 };

    KD_RETURN(check_report(d, report));
    KD_RETURN(step(d, batch, report != NULL, &r));
    give_report(report, &r);
    return KDAS_OK;
}
