/* train.c - the run: epochs of steps, validation, and the files that survive a kill. last.kdas
 * defines what is done. best.safetensors and log.csv are written before it; after a kill in between
 * they are made again with the same content. train.c calls train_log.c and train_resume.c, and they
 * include the header of the public functions here (kdas/train.h, by train.h) for the types of
 * options and reports. */
#include "base/process.h"
#include "base/text.h"
#include "distill/train_run.h"
#include <string.h>
#include "io/file.h"

/* ---- files ---- */

/* What waits for an update goes to rank 0; on failure it is dropped. Collective. */
static kdas_status gather(kd_run *r)
{
    kdas_status st = kdas_distiller_gather(r->distiller);

    r->undone = r->undone || st != KDAS_OK;
    return st;
}

static kdas_status save(kd_run *r)
{
    kdas_record    record[KD_FACTS + 4];
    int64_t        count = r->facts.count;
    kd_train_saved saved = { r->distiller, r->loader,    r->validation, &r->options,
                             &r->facts,    &r->progress, r->steps };

    KD_RETURN(gather(r));
    if (!r->last) return KDAS_OK;
    KD_RETURN(kd_train_folder_check(r->folder, r->options.out));
    KD_RETURN(kd_train_note(&r->notes, r->student));
    r->progress.position = kd_run_step(r);
    memcpy(record, r->facts.record, sizeof r->facts.record);
    record[count++] = (kdas_record){ .name = "run.sums", .numbers = r->sum, .count = KD_SUMS };
    count += kd_train_manifest_records(&r->manifest, record + count);
    KD_RETURN(kdas_checkpoint_save_records(r->distiller, r->last, &r->progress, r->options.notes,
                                           record, count));
    return kd_train_manifest_save(&r->manifest, &saved);
}

/* ---- progress reports to the host ---- */

static void count_left(kd_run *r, kdas_train_state *s)
{
    double steps  = (double)(r->steps - kd_run_step(r));
    double checks = r->validation ? (double)(r->steps / r->batches - r->progress.epoch) : 0;

    if (r->steps_here) s->seconds_left = steps * r->step_seconds / (double)r->steps_here;
    if (r->checks_here) s->seconds_left += checks * r->check_seconds / (double)r->checks_here;
}

static void tell(kd_run *r, kdas_event event, int64_t epoch)
{
    kdas_train_state *s = &r->state;

    s->size    = sizeof *s;
    s->event   = event;
    s->epoch   = epoch;
    s->epochs  = r->options.epochs;
    s->batch   = event == KDAS_EVENT_EPOCH ? r->batches : r->batch;
    s->batches = r->batches;
    s->step    = kd_run_step(r);
    s->steps   = r->steps;
    s->report  = &r->report;
    s->seconds = kd_now() - r->started;
    s->waited  = kdas_loader_waited(r->loader);
    s->skipped = kdas_optim_skipped(r->optim);
    count_left(r, s);
    if (s->stopped_early) s->seconds_left = 0;
    if (r->options.progress && r->options.progress(r->options.user, s) != 0) r->stop = true;
}

/* ---- a step ---- */

static void add_to_sums(kd_run *r, int64_t images, double seconds, double waited)
{
    double *sum = r->sum;

    sum[KD_SUM_TOTAL] += r->report.total;
    for (int t = 0; t < KDAS_TERMS; t++) {
        sum[KD_SUM_OF(t, KD_SUM_RAW)] += r->report.raw[t];
        sum[KD_SUM_OF(t, KD_SUM_WEIGHTED)] += r->report.weighted[t];
        sum[KD_SUM_OF(t, KD_SUM_GRADIENT)] += r->report.gradient[t];
    }
    sum[KD_SUM_STEPS] += 1;
    sum[KD_SUM_IMAGES] += (double)images;
    sum[KD_SUM_SECONDS] += seconds;
    sum[KD_SUM_WAITED] += waited;
    sum[KD_SUM_LR] = r->report.lr;
    r->step_seconds += seconds;
    r->steps_here++;
    r->state.mean_total        = sum[KD_SUM_TOTAL] / sum[KD_SUM_STEPS];
    r->state.images_per_second = sum[KD_SUM_IMAGES] / KD_MAX(sum[KD_SUM_SECONDS], 1e-9);
}

/* The loader marks the end of an epoch with NULL; epochs are counted here. */
static kdas_status next_batch(kd_run *r, kdas_batch **batch)
{
    *batch   = r->ahead;
    r->ahead = NULL;
    if (*batch) return KDAS_OK;
    KD_RETURN(kdas_loader_next(r->loader, batch));
    if (!*batch) KD_RETURN(kdas_loader_next(r->loader, batch));
    return *batch ? KDAS_OK : kd_fail(KDAS_ESTATE, "train: the loader gives no batches");
}

/* Fetch the batch of the epoch's next step and begin to upload it. An unreadable frame is reported
 * by that step, since the loader tries it again. */
static kdas_status look_ahead(kd_run *r)
{
    if (!r->looks_ahead || r->batch + 1 >= r->batches || kd_run_step(r) + 1 >= r->steps)
        return KDAS_OK;
    if (kdas_loader_next(r->loader, &r->ahead) != KDAS_OK || !r->ahead) return KDAS_OK;
    return kdas_batch_prefetch(r->ahead);
}

/* The loader stands where the steps do: on every rank at the same place, after steps that failed, too. */
static void forget_ahead(kd_run *r)
{
    if (r->ranks) kdas_loader_seek(r->loader, kd_run_step(r));
    if (!r->looks_ahead) return;
    if (r->now) kdas_batch_settle(r->now); /* its step may have been refused */
    if (!r->ahead) return;
    kdas_batch_settle(r->ahead);
    if (!r->ranks) kdas_loader_seek(r->loader, kdas_loader_position(r->loader) - 1);
    r->ahead = NULL;
}

/* The guidance ramps depend on the steps of all planned epochs, not on where this call begins and
 * ends. Without ramps the host's factor is used. */
static kdas_status set_ramp(kd_run *r)
{
    double up = r->options.ramp_up, down = r->options.ramp_down;
    double at = (double)kd_run_step(r) / (double)r->batches, end = (double)r->options.epochs;
    double factor = 1;

    if (up == 0 && down == 0) return KDAS_OK;
    if (up > 0) factor = KD_MIN(factor, at / up);
    if (down > 0) factor = KD_MIN(factor, (end - at) / down);
    return kdas_loss_set_guidance_factor(r->loss, r->factor * factor);
}

/* Whether ranges stay depends on the same. */
static kdas_status hold_ranges(kd_run *r)
{
    double at   = (double)kd_run_step(r) / (double)r->batches;
    bool   last = at >= (double)r->options.epochs - r->options.freeze_ranges;

    return r->options.freeze_ranges > 0 ? kdas_model_hold_ranges(r->student, r->held || last)
                                        : KDAS_OK;
}

/* Whether the host has asked to stop: KDAS_ECANCELLED. */
static kdas_status check_stop(const kd_run *r)
{
    if (r->stop) return kd_fail(KDAS_ECANCELLED, "the host's progress callback asked to stop");
    return kd_check_cancel(r->ctx);
}

/* All that comes before a step; *images of all ranks. A stop, or a frame that cannot be read, on one of them is none's
 * step. */
static kdas_status begin_step(kd_run *r, double *images)
{
    kdas_status st = check_stop(r);

    *images = 0;
    KD_TRY(st);
    KD_TRY(next_batch(r, &r->now));
    *images = (double)kdas_batch_count(r->now);
    KD_TRY(look_ahead(r));
    KD_TRY(set_ramp(r));
    KD_TRY(hold_ranges(r));
done:
    return kd_ranks_meet(r->ranks, KD_RANKS_AT_TRAIN, 0, st, images, 1);
}

/* What a later failure may go back to. */
static void note_update(kd_run *r)
{
    if (!r->report.updated && !r->report.skipped) return;
    r->update = kd_run_step(r);
    memcpy(r->update_sum, r->sum, sizeof r->sum);
}

static kdas_status step(kd_run *r)
{
    double      start = kd_now(), waited = kdas_loader_waited(r->loader), images;
    kdas_status st;

    KD_RETURN(begin_step(r, &images));
    waited    = kdas_loader_waited(r->loader) - waited;
    r->report = (kdas_step_report){ .size = sizeof r->report };
    KD_RETURN(kdas_context_hold(r->ctx)); /* half a step could not be resumed */
    st = kdas_distiller_step(r->distiller, r->now, &r->report);
    kdas_context_release(r->ctx);
    r->undone = st != KDAS_OK;
    if (st != KDAS_OK)
        return kd_fail_in(st, "epoch %lld, batch %lld", (long long)r->progress.epoch + 1,
                          (long long)r->batch + 1);
    r->now = NULL;
    r->batch++;
    add_to_sums(r, (int64_t)images, kd_now() - start, waited);
    note_update(r);
    return KDAS_OK;
}

/* The rest of the epoch's steps, or as many as the run may still make. */
static kdas_status run_steps(kd_run *r)
{
    while (r->batch < r->batches && kd_run_step(r) < r->steps) {
        KD_RETURN(step(r));
        tell(r, KDAS_EVENT_STEP, r->progress.epoch + 1);
        if (r->options.save_every && kd_run_step(r) % r->options.save_every == 0 &&
            r->batch < r->batches)
            KD_RETURN(kd_run_together(r, save(r)));
    }
    return kd_run_together(r, check_stop(r));
}

/* ---- the end of an epoch ---- */

static kdas_status validate(kd_run *r, kdas_model *model, kd_train_row *row)
{
    double start = kd_now();

    if (!r->validation) return KDAS_OK;
    kdas_evaluator_reset(r->evaluator);
    KD_RETURN(kdas_evaluate_loss(r->evaluator, model, r->validation, r->options.height,
                                 r->options.width, 0, r->loss, &row->validation_loss));
    KD_RETURN(kdas_evaluator_get(r->evaluator, -1, KDAS_METRIC_DICE_50, &row->validation_dice));
    r->check_seconds += kd_now() - start;
    r->checks_here++;
    return KDAS_OK;
}

/* The best so far is a file. */
static kdas_status keep_best(kd_run *r, kdas_model *model, kd_train_row *row)
{
    KD_RETURN(kd_train_note_epoch(model, row->epoch, row->validation_dice));
    row->best = !r->validation || row->validation_dice > r->progress.best;
    if (!row->best || !r->best) return KDAS_OK;
    KD_RETURN(kd_train_folder_check(r->folder, r->options.out));
    return kdas_model_save(model, r->best);
}

/* Validate the student, or its average, and keep it if it is the best. */
static kdas_status judge(kd_run *r, kd_train_row *row)
{
    kdas_model *model = r->average ? r->average : r->student;
    kdas_status st    = kd_train_note(&r->notes, r->student);

    if (st == KDAS_OK && r->average) st = kdas_distiller_read_average(r->distiller, r->average);
    KD_RETURN(kd_run_together(r, st));
    KD_RETURN(validate(r, model, row));
    return kd_run_together(r, keep_best(r, model, row));
}

/* Whether the epochs since the best one have reached the patience. */
static bool out_of_patience(const kd_run *r)
{
    return r->options.patience > 0 && r->batch == 0 && r->progress.best_epoch > 0 &&
           r->progress.epoch - r->progress.best_epoch >= r->options.patience;
}

/* Validate, and log the epoch. An epoch cut short by the limit of steps is validated like a whole
 * one, and a later call can resume it. */
static kdas_status end_epoch(kd_run *r)
{
    kd_train_row row = { .epoch           = r->progress.epoch + 1,
                         .step            = kd_run_step(r),
                         .sum             = r->sum,
                         .validation_dice = -1,
                         .validation_loss = -1,
                         .loss_scale      = kdas_optim_loss_scale(r->optim),
                         .skipped         = kdas_optim_skipped(r->optim) };

    KD_RETURN(
        gather(r)); /* else running statistics are each rank's own where an update is under way */
    KD_RETURN(judge(r, &row));
    if (row.best) {
        r->progress.best       = row.validation_dice;
        r->progress.best_epoch = row.epoch;
    }
    KD_RETURN(kd_run_together(r, r->last ? kd_train_log_add(&r->log, &row) : KDAS_OK));
    if (r->batch == r->batches) {
        r->progress.epoch++;
        r->batch = 0;
        memset(r->sum, 0, sizeof r->sum);
    }
    KD_RETURN(kd_run_together(r, save(r)));
    r->state.validation_dice = row.validation_dice;
    r->state.validation_loss = row.validation_loss;
    r->state.best_dice       = r->progress.best;
    r->state.best_epoch      = r->progress.best_epoch;
    r->state.is_best         = row.best;
    r->state.stopped_early   = out_of_patience(r) && kd_run_step(r) < r->steps;
    tell(r, KDAS_EVENT_EPOCH, row.epoch);
    return KDAS_OK;
}

static kdas_status run_epochs(kd_run *r)
{
    if (kd_run_step(r) >= r->steps && r->batch == 0) return KDAS_OK; /* all of it was done before */
    if (out_of_patience(r)) return KDAS_OK;
    for (;;) {
        KD_RETURN(run_steps(r));
        KD_RETURN(end_epoch(r));
        if (kd_run_step(r) >= r->steps || out_of_patience(r)) return KDAS_OK;
        KD_RETURN(kd_run_together(r, check_stop(r)));
    }
}

/* ---- start and end ---- */

/* A cancel between steps: keep what is done. */
static kdas_status save_cancelled(kd_run *r)
{
    KD_RETURN(kd_run_together(r, save(r)));
    return kd_fail(KDAS_ECANCELLED, "stopped after step %lld of %lld", (long long)kd_run_step(r),
                   (long long)r->steps);
}

/* A step that failed was undone, and with it those that have accumulated gradients for the same
 * update. Stand there; false if that is not in this epoch, or not known. */
static bool stand_at_update(kd_run *r)
{
    int64_t batch = r->update - r->progress.epoch * r->batches;

    if (!r->undone) return true;
    if (r->update < 0 || batch < 0) return false;
    r->batch = batch;
    if (batch == 0)
        memset(r->sum, 0, sizeof r->sum);
    else
        memcpy(r->sum, r->update_sum, sizeof r->sum);
    return true;
}

/* A rank is lost, and the others end: rank 0 keeps what is done. Returns `st`. */
static kdas_status save_lost(kd_run *r, kdas_status st)
{
    char why[512];

    if (!r->last || !kdas_ranks_broken(r->ranks)) return st;
    kd_format(why, sizeof why, "%s", kdas_last_error());
    gather(r); /* without the others that drops what waits */
    if (!stand_at_update(r)) return kd_fail(st, "%s; 'last.kdas' is as it was last saved", why);
    if (save(r) != KDAS_OK) {
        char more[512];

        kd_format(more, sizeof more, "%s", kdas_last_error());
        return kd_fail(st, "%s; the run could not be saved: %s", why, more);
    }
    return kd_fail(st, "%s; the run is saved after step %lld of %lld, and can be resumed", why,
                   (long long)kd_run_step(r), (long long)r->steps);
}

/* Where every step is an update, no gradients wait for one. */
static void note_start(kd_run *r)
{
    if (!r->every) return;
    r->update = kd_run_step(r);
    memcpy(r->update_sum, r->sum, sizeof r->sum);
}

/* The options, and whether the run can be made. `ranks` is set also on failure. */
static kdas_status take_options(kd_run *r, const kdas_train_options *options)
{
    kdas_status st = kd_run_take_ranks(r);

    kdas_train_options_init(&r->options, sizeof r->options);
    KD_RETURN(kd_take_options(&r->options, sizeof r->options, options, "kdas_train_options"));
    if (kdas_ranks_rank(r->ranks) > 0) r->options.out = NULL; /* the first alone has files */
    KD_RETURN(st);
    return kd_run_check(r);
}

static kdas_status train(kd_run *r, const kdas_train_options *options)
{
    kdas_status st = take_options(r, options);

    KD_RETURN(kd_ranks_meet(r->ranks, KD_RANKS_AT_TRAIN, 1, st, NULL, 0));

    r->started = kd_now();
    r->loss    = kdas_distiller_loss(r->distiller);
    r->optim   = kdas_distiller_optim(r->distiller);
    r->factor  = kdas_loss_guidance_factor(r->loss);
    r->held    = kdas_model_ranges_held(r->student);
    st         = kd_run_start(r);
    if (st == KDAS_OK) {
        note_start(r);
        st = run_epochs(r);
        if (st == KDAS_ECANCELLED) st = save_cancelled(r);
        if (st != KDAS_OK) st = save_lost(r, st);
        forget_ahead(r);
    }
    kd_run_finish(r);
    return st;
}

kdas_status kdas_train(kdas_distiller *distiller, kdas_loader *loader, kdas_dataset *validation,
                       const kdas_train_options *options)
{
    kd_run r = { .distiller = distiller, .loader = loader, .validation = validation };

    if (!distiller) return kd_fail(KDAS_EINVAL, "kdas_train: the distiller is NULL");
    r.student = kdas_distiller_student(distiller);
    r.ctx     = kdas_model_context(r.student);
    KD_RETURN(kd_check_process(r.ctx));
    return train(&r, options);
}
