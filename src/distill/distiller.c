/* distiller.c - the step: teacher, student, objective, update. */
#include <math.h>
#include <string.h>
#include "data/batch.h"
#include "distill/distiller.h"
#include "optim/optim.h"

void kdas_distiller_options_init(kdas_distiller_options *options, size_t size)
{
    kdas_distiller_options defaults = { .size = size, .accumulate = 1, .gradient_norms = 1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* Terms over maps need maps in both networks; features alone need none. */
static kdas_status check_models(const kdas_model *teacher, const kdas_model *student,
                                const kdas_loss *loss)
{
    bool guided = kdas_loss_needs_teacher(loss);

    if (kd_maps_of(student) == 0 &&
        (guided || loss->options.seg_weight > 0 || !kdas_loss_needs_taps(loss)))
        return kd_fail(KDAS_EINVAL,
                       "student '%s' has no one-channel maps: it can learn features alone, with "
                       "seg_weight 0 and guidance \"none\"",
                       student->def->name);
    if (teacher && guided && kd_maps_of(teacher) == 0)
        return kd_fail(KDAS_EINVAL,
                       "teacher '%s' has no one-channel maps for guidance \"%s\": it can give "
                       "features alone, with guidance \"none\"",
                       teacher->def->name, loss->options.guidance);
    return KDAS_OK;
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
    if (teacher == student)
        return kd_fail(KDAS_EINVAL,
                       "a model cannot be its own teacher; make a second one and copy");
    if ((teacher && teacher->ctx != student->ctx) || loss->ctx != student->ctx)
        return kd_fail(KDAS_EINVAL, "teacher, student and loss are not of one context");
    if (optim->params != student->params)
        return kd_fail(KDAS_EINVAL, "the optimizer was made for another model than student '%s'",
                       student->def->name);
    if (!student->options.trainable)
        return kd_fail(KDAS_ESTATE, "student '%s' was made without gradients (trainable = 0)",
                       student->def->name);
    kdas_distiller_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_distiller_options"));
    KD_RETURN(kd_check_reserved(o.reserved, "kdas_distiller_options"));
    if (o.accumulate < 1 || o.accumulate > 65536)
        return kd_fail(KDAS_EINVAL, "distiller: accumulate is %d, not 1 to 65536", o.accumulate);
    if (!(o.ema >= 0 && o.ema < 1))
        return kd_fail(KDAS_EINVAL, "distiller: ema is %g, not from 0 to below 1", (double)o.ema);
    KD_RETURN(check_models(teacher, student, loss));
    d = kd_calloc(student->ctx, 1, sizeof *d);
    if (!d) return KDAS_ENOMEM;
    d->ctx     = student->ctx;
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
    kd_upload_finish(d);
    kd_average_finish(d);
    kd_device_free(d->ctx, d->host_teacher.memory);
    kd_pseudo_finish(d);
    kd_model_state_finish(&d->mark.student, d->ctx);
    kd_free(d->ctx, d);
}

/* ---- all or nothing ---- */

/* Gradients that the host has zeroed are gathered no more. */
static void count_gathered(kdas_distiller *d)
{
    if (d->micro > 0 && d->zeroed != d->student->zeroed) d->micro = 0;
}

/* Before the first micro-batch of an update, and where the student comes from a checkpoint amid one. */
static kdas_status keep_mark(kdas_distiller *d)
{
    count_gathered(d);
    if (d->micro > 0 && d->mark.student.kept) return KDAS_OK;
    memcpy(d->mark.share, d->loss->share, sizeof d->mark.share);
    return kd_model_state_keep(&d->mark.student, d->student);
}

/* Go back to the mark and drop the gradients; the student is as its last update left it. Returns `st`. */
static kdas_status abandon(kdas_distiller *d, kdas_status st)
{
    d->phase = KD_PHASE_IDLE;
    d->micro = 0;
    memcpy(d->loss->share, d->mark.share, sizeof d->mark.share);
    kd_model_state_put_back(&d->mark.student, d->student);
    kdas_model_zero_gradients(d->student);
    kd_feature_zero(d);
    return st;
}

/* ---- forward ---- */

static kdas_status run_student(kdas_distiller *d, float *images, int64_t n, int64_t h, int64_t w)
{
    const kd_node *node;

    KD_RETURN(keep_mark(d));
    KD_RETURN(kd_model_run(d->student, KD_TRAIN, images, n, h, w));
    for (d->at.maps = 0; d->at.maps < kd_maps_of(d->student); d->at.maps++) {
        node                       = kd_model_output_node(d->student, d->at.maps, NULL);
        d->at.student[d->at.maps]  = kd_program_value(d->student->current, node);
        d->at.gradient[d->at.maps] = kd_program_grad(d->student->current, node);
        d->at.h                    = node->desc.out.dim[1];
        d->at.w                    = node->desc.out.dim[2];
    }
    return KDAS_OK;
}

static kdas_status forward(kdas_distiller *d, kdas_batch *batch, kdas_step_report *r)
{
    int64_t     n, h, w;
    kd_uploaded on;
    double      start = kd_now();

    if (!d || !batch) return kd_fail(KDAS_EINVAL, "distiller: distiller or batch is NULL");
    n = kdas_batch_count(batch);
    h = kdas_batch_height(batch);
    w = kdas_batch_width(batch);
    KD_RETURN(kd_check_size(n, h, w));
    d->phase  = KD_PHASE_IDLE;
    d->at.n   = n;
    d->factor = d->loss->factor;
    KD_RETURN(kd_upload_batch(d, batch, &on));
    d->at.mask   = on.masks;
    d->at.weight = on.weights;
    KD_RETURN(kd_teacher_run(d, batch, &on));
    r->seconds[KDAS_STEP_TEACHER] = kd_now() - start;
    KD_RETURN(run_student(d, on.images, n, h, w));
    r->seconds[KDAS_STEP_STUDENT] = kd_now() - start - r->seconds[KDAS_STEP_TEACHER];

    d->phase              = KD_PHASE_FORWARD;
    d->holds[1]           = kd_model_generation(d->student);
    d->host_teacher.fresh = false;
    return KDAS_OK;
}

kdas_status kdas_distiller_forward(kdas_distiller *d, kdas_batch *batch)
{
    kdas_step_report r = { 0 };

    return forward(d, batch, &r);
}

/* ---- backward ---- */

/* What the gradients of a micro-batch are multiplied by: a mean is wanted, and the optimizer's loss scale. */
static float gradient_scale(const kdas_distiller *d)
{
    return 1.0f / (float)d->options.accumulate * (float)kdas_optim_loss_scale(d->optim);
}

/* What a forward left in the models must still be there. */
static kdas_status check_forward(const kdas_distiller *d)
{
    static const char gone[] =
        "%s '%s' has run since this forward, or its memory was taken by another "
        "size or a kept tap";

    if (d->phase != KD_PHASE_FORWARD) return kd_fail(KDAS_ESTATE, "backward comes after a forward");
    if (kd_model_generation(d->student) != d->holds[1])
        return kd_fail(KDAS_ESTATE, gone, "student", d->student->def->name);
    if (d->holds[0] && kd_model_generation(d->teacher) != d->holds[0])
        return kd_fail(KDAS_ESTATE, gone, "teacher", d->teacher->def->name);
    return kd_program_check_backward(d->student->current);
}

/* The objective and the features, under the guidance factor of the forward: without it no teacher has run. */
static kdas_status differentiate(kdas_distiller *d, bool read, kdas_loss_report *loss)
{
    double      now = d->loss->factor;
    kdas_status st;

    d->loss->factor = d->factor;
    st              = kd_loss_run(d->loss, &d->at, gradient_scale(d), d->options.gradient_norms,
                     read ? loss : NULL);
    if (st == KDAS_OK) st = kd_feature_run(d, gradient_scale(d), read, loss);
    d->loss->factor = now;
    return st;
}

/* `read`: somebody will look at what the objective found. */
static kdas_status backward(kdas_distiller *d, bool read, kdas_step_report *r)
{
    kdas_loss_report loss  = { .size = sizeof loss };
    double           start = kd_now();
    kdas_status      st;

    KD_RETURN(check_forward(d));
    st = differentiate(d, read, &loss);
    if (st == KDAS_OK) st = kd_program_backward(d->student->current);
    if (st != KDAS_OK) return abandon(d, st);
    count_gathered(d);
    if (d->micro++ == 0) d->zeroed = d->student->zeroed;
    d->phase = KD_PHASE_BACKWARD;
    r->total = loss.total;
    memcpy(r->raw, loss.raw, sizeof r->raw);
    memcpy(r->weighted, loss.weighted, sizeof r->weighted);
    memcpy(r->gradient, loss.gradient, sizeof r->gradient);
    r->seconds[KDAS_STEP_OBJECTIVE] = kd_now() - start;
    return KDAS_OK;
}

/* What an update is, or will be, made with. */
static void look_at_optim(const kdas_distiller *d, kdas_step_report *r)
{
    r->lr         = kdas_optim_lr(d->optim);
    r->loss_scale = kdas_optim_loss_scale(d->optim);
}

static kdas_status check_report(const kdas_distiller *d, const kdas_step_report *report)
{
    if (!d) return kd_fail(KDAS_EINVAL, "the distiller is NULL");
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
    look_at_optim(d, &r);
    give_report(report, &r);
    return KDAS_OK;
}

/* ---- update ---- */

static kdas_status update(kdas_distiller *d, kdas_step_report *r)
{
    double  start   = kd_now();
    int64_t skipped = kdas_optim_skipped(d->optim);

    kdas_status st;

    count_gathered(d);
    if (d->micro == 0) return kd_fail(KDAS_ESTATE, "an update comes after a backward");
    look_at_optim(d, r);
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
    look_at_optim(d, r);
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
