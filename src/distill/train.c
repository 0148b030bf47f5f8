/* train.c - the run: epochs of steps, validation, and the files that survive a kill. last.kdas
 * defines what is done. best.safetensors and log.csv are written before it; after a kill in between
 * they are made again with the same content. train.c calls train_log.c and train_resume.c, and they
 * include the header of the public functions here (kdas/train.h, by train.h) for the types of
 * options and reports. */
#include "base/process.h"
#include "base/text.h"
#include "distill/train.h"
#include <string.h>
#include "io/file.h"
#include "ranks/ranks.h"

typedef struct run {
    kdas_context      *ctx;
    kdas_distiller    *distiller;
    kdas_model        *student;
    kdas_loss         *loss;
    kdas_optim        *optim;
    kdas_loader       *loader;
    kdas_ranks        *ranks; /* of loader and distiller; NULL: alone. Rank 0 alone has files */
    kdas_dataset      *validation;
    kdas_train_options options;
    char              *last, *best; /* paths; NULL without an output folder */
    kdas_run_folder   *folder;      /* of both; held while it runs         */
    kd_train_log       log;
    kd_facts           facts;     /* what the run is of, where files are kept  */
    kd_train_manifest  manifest;  /* run.json, where files are kept            */
    kd_train_notes     notes;     /* of it, for the student's weights          */
    kdas_evaluator    *evaluator; /* of the validation set                     */
    kdas_model      *average; /* holds the average for validation; NULL: the student is validated */
    kdas_progress    progress;
    double           sum[KD_SUMS];
    int64_t          update;          /* the step of the last update; -1: not in this call         */
    double           update_sum[KD_SUMS]; /* as they were after it */
    bool             every;           /* step is an update */
    bool             undone;          /* a step has failed: the student is as that update left it  */
    kdas_step_report report;
    kdas_train_state state;
    int64_t          batches, steps; /* in an epoch; in the whole run                 */
    int64_t          batch;          /* done in the epoch under way                   */
    double           factor;         /* of the guidance as the host had it            */
    bool             held;           /* the host keeps the student's ranges           */
    bool             stop;           /* the host's callback has asked to              */
    bool             looks_ahead;    /* the next batch is uploaded during a step      */
    kdas_batch      *ahead;          /* which waits for its step; NULL: none          */
    kdas_batch      *now;            /* of the step under way; NULL: none             */
    double           started;        /* this call                                     */
    int64_t          steps_here;     /* steps and validations of this call, and their */
    int64_t          checks_here;    /* seconds: for the estimate of the time left    */
    double           step_seconds, check_seconds;
} run;

/* ---- what is asked for ---- */

/* Whether the networks take the size of validation, and those of the batches, at every scale. */
static kdas_status check_sizes(const run *r)
{
    const kdas_model *teacher = kd_train_reads_teacher(r->distiller, kdas_loader_dataset(r->loader))
                                    ? kdas_distiller_teacher(r->distiller)
                                    : NULL;
    int64_t           height, width;

    KD_RETURN(kdas_model_check_size(r->student, r->options.height, r->options.width));
    for (int32_t i = 0; kdas_loader_size(r->loader, i, &height, &width); i++) {
        KD_RETURN(kdas_model_check_size(r->student, height, width));
        if (teacher) KD_RETURN(kdas_model_check_size(teacher, height, width));
    }
    return KDAS_OK;
}

static int64_t run_step(const run *r) { return r->progress.epoch * r->batches + r->batch; }

/* After what may fail on one rank: all fail. */
static kdas_status together(const run *r, kdas_status st) { return kdas_ranks_vote(r->ranks, st); }

/* ---- files ---- */

static kdas_status save(run *r)
{
    kdas_record    record[KD_FACTS + 3];
    int64_t        count = r->facts.count;
    kd_train_saved saved = { r->distiller, r->loader,    r->validation, &r->options,
                             &r->facts,    &r->progress, r->steps };

    if (!r->last) return KDAS_OK;
    KD_RETURN(kd_train_folder_check(r->folder, r->options.out));
    KD_RETURN(kd_train_note(&r->notes, r->student));
    r->progress.position = run_step(r);
    memcpy(record, r->facts.record, sizeof r->facts.record);
    record[count++] = (kdas_record){ .name = "run.sums", .numbers = r->sum, .count = KD_SUMS };
    count += kd_train_manifest_records(&r->manifest, record + count);
    KD_RETURN(kdas_checkpoint_save_records(r->distiller, r->last, &r->progress, r->options.notes,
                                           record, count));
    return kd_train_manifest_save(&r->manifest, &saved);
}

/* Make and hold the folder, and check that a file can be made in it, so that a run fails at its
 * start and not at its end. */
static kdas_status open_folder(run *r)
{
    const char *dir    = r->options.out;
    kd_writer  *writer = NULL;

    if (!dir) return KDAS_OK;
    KD_RETURN(kdas_run_folder_open(&r->folder, r->ctx, dir));
    r->last = kd_path_join(r->ctx, dir, "last.kdas");
    r->best = kd_path_join(r->ctx, dir, "best.safetensors");
    if (!r->last || !r->best) return KDAS_ENOMEM;
    KD_RETURN(kd_train_manifest_init(&r->manifest, r->ctx, dir, r->distiller));
    KD_RETURN(kd_writer_open(&writer, r->ctx, r->last));
    kd_writer_discard(writer);
    return KDAS_OK;
}

static kdas_status open_log(run *r, int64_t epoch)
{
    char       *path;
    kdas_status st;

    if (!r->last) return KDAS_OK;
    path = kd_path_join(r->ctx, r->options.out, "log.csv");
    if (!path) return KDAS_ENOMEM;
    st = kd_train_log_init(&r->log, r->ctx, path, epoch);
    kd_free(r->ctx, path);
    return st;
}

/* Files from before 0.4 do not record the batches of an epoch. A mismatch is found here. */
static kdas_status check_position(const run *r, const kdas_progress *p, const char *path)
{
    int64_t batch = p->epoch > INT64_MAX / r->batches ? -1 : p->position - p->epoch * r->batches;

    if (batch >= 0 && batch <= r->batches) return KDAS_OK;
    return kd_fail(KDAS_EINVAL,
                   "'%s' stands at batch %lld after %lld epochs, but an epoch has %lld batches",
                   path, (long long)p->position, (long long)p->epoch, (long long)r->batches);
}

/* Read the checkpoint and compare it. */
static kdas_status read_checkpoint(run *r, kd_train_file *f, const char *path)
{
    KD_RETURN(kd_train_file_open(f, r->ctx, path, &r->facts));
    KD_RETURN(check_position(r, &f->progress, path));
    if (!r->last) return KDAS_OK;
    KD_RETURN(kd_train_manifest_resume(&r->manifest, f->checkpoint, path, &f->progress, r->batches));
    return open_log(r, f->progress.epoch);
}

/* Resume from the checkpoint. Restoring comes last, so a refused resume changes nothing. */
static kdas_status resume_from(run *r, kd_train_file *f, kd_train_copy *copy)
{
    const kdas_progress *p = &f->progress;

    KD_RETURN(kd_train_copy_open(copy, r->ctx, r->ranks, r->last));
    KD_RETURN(together(r, read_checkpoint(r, f, copy->fd >= 0 ? copy->path : r->last)));
    KD_RETURN(together(r, kd_train_file_restore(f, r->distiller, !r->last)));
    r->progress = *p;
    r->batch    = p->position - p->epoch * r->batches;
    memcpy(r->sum, f->sum, sizeof r->sum);
    if (r->last)
        kd_info(r->ctx, "resumed after epoch %lld, batch %lld", (long long)p->epoch,
                (long long)r->batch);
    return KDAS_OK;
}

/* Whether there is a checkpoint to go on from. */
static kdas_status find_checkpoint(run *r, bool *found)
{
    kd_path_kind kind = KD_PATH_NONE;

    *found = false;
    if (!r->options.resume || !r->last) return KDAS_OK;
    KD_RETURN(kd_look_at(&kind, r->last)); /* else a run would begin that overwrites the old one */
    *found = kind == KD_PATH_FILE;
    if (!*found) kd_info(r->ctx, "there is no '%s' to resume: the run begins", r->last);
    return KDAS_OK;
}

/* Begin, or resume if there is a checkpoint. */
static kdas_status resume(run *r)
{
    kd_train_file f    = { 0 };
    kd_train_copy copy = { .fd = -1 };
    bool          found;
    kdas_status   st;

    r->progress =
        (kdas_progress){ .size = sizeof r->progress, .seed = r->options.seed, .best = -1 };
    KD_RETURN(together(r, find_checkpoint(r, &found)));
    KD_RETURN(kdas_ranks_broadcast(r->ranks, &found, sizeof found, 0));
    if (!found) return together(r, open_log(r, 0));
    st = resume_from(r, &f, &copy);
    kd_train_file_close(&f);
    kd_train_copy_close(&copy);
    return st;
}

/* ---- progress reports to the host ---- */

static void count_left(run *r, kdas_train_state *s)
{
    double steps  = (double)(r->steps - run_step(r));
    double checks = r->validation ? (double)(r->steps / r->batches - r->progress.epoch) : 0;

    if (r->steps_here) s->seconds_left = steps * r->step_seconds / (double)r->steps_here;
    if (r->checks_here) s->seconds_left += checks * r->check_seconds / (double)r->checks_here;
}

static void tell(run *r, kdas_event event, int64_t epoch)
{
    kdas_train_state *s = &r->state;

    s->size    = sizeof *s;
    s->event   = event;
    s->epoch   = epoch;
    s->epochs  = r->options.epochs;
    s->batch   = event == KDAS_EVENT_EPOCH ? r->batches : r->batch;
    s->batches = r->batches;
    s->step    = run_step(r);
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

static void add_to_sums(run *r, int64_t images, double seconds, double waited)
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
static kdas_status next_batch(run *r, kdas_batch **batch)
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
static kdas_status look_ahead(run *r)
{
    if (!r->looks_ahead || r->batch + 1 >= r->batches || run_step(r) + 1 >= r->steps)
        return KDAS_OK;
    if (kdas_loader_next(r->loader, &r->ahead) != KDAS_OK || !r->ahead) return KDAS_OK;
    return kdas_batch_prefetch(r->ahead);
}

/* The loader stands where the steps do: on every rank at the same place, after steps that failed, too. */
static void forget_ahead(run *r)
{
    if (r->ranks) kdas_loader_seek(r->loader, run_step(r));
    if (!r->looks_ahead) return;
    if (r->now) kdas_batch_settle(r->now); /* its step may have been refused */
    if (!r->ahead) return;
    kdas_batch_settle(r->ahead);
    if (!r->ranks) kdas_loader_seek(r->loader, kdas_loader_position(r->loader) - 1);
    r->ahead = NULL;
}

/* The guidance ramps depend on the steps of all planned epochs, not on where this call begins and
 * ends. Without ramps the host's factor is used. */
static kdas_status set_ramp(run *r)
{
    double up = r->options.ramp_up, down = r->options.ramp_down;
    double at = (double)run_step(r) / (double)r->batches, end = (double)r->options.epochs;
    double factor = 1;

    if (up == 0 && down == 0) return KDAS_OK;
    if (up > 0) factor = KD_MIN(factor, at / up);
    if (down > 0) factor = KD_MIN(factor, (end - at) / down);
    return kdas_loss_set_guidance_factor(r->loss, r->factor * factor);
}

/* Whether ranges stay depends on the same. */
static kdas_status hold_ranges(run *r)
{
    double at   = (double)run_step(r) / (double)r->batches;
    bool   last = at >= (double)r->options.epochs - r->options.freeze_ranges;

    return r->options.freeze_ranges > 0 ? kdas_model_hold_ranges(r->student, r->held || last)
                                        : KDAS_OK;
}

/* Whether the host has asked to stop: KDAS_ECANCELLED. */
static kdas_status check_stop(const run *r)
{
    if (r->stop) return kd_fail(KDAS_ECANCELLED, "the host's progress callback asked to stop");
    return kd_check_cancel(r->ctx);
}

/* All that comes before a step; *images of all ranks. A stop, or a frame that cannot be read, on one of them is none's
 * step. */
static kdas_status begin_step(run *r, double *images)
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
    return kd_ranks_vote_sum(r->ranks, st, images, 1);
}

/* What a later failure may go back to. */
static void note_update(run *r)
{
    if (!r->report.updated && !r->report.skipped) return;
    r->update = run_step(r);
    memcpy(r->update_sum, r->sum, sizeof r->sum);
}

static kdas_status step(run *r)
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
static kdas_status run_steps(run *r)
{
    while (r->batch < r->batches && run_step(r) < r->steps) {
        KD_RETURN(step(r));
        tell(r, KDAS_EVENT_STEP, r->progress.epoch + 1);
        if (r->options.save_every && run_step(r) % r->options.save_every == 0 &&
            r->batch < r->batches)
            KD_RETURN(together(r, save(r)));
    }
    return together(r, check_stop(r));
}

/* ---- the end of an epoch ---- */

static kdas_status validate(run *r, kdas_model *model, kd_train_row *row)
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
static kdas_status keep_best(run *r, kdas_model *model, kd_train_row *row)
{
    KD_RETURN(kd_train_note_epoch(model, row->epoch, row->validation_dice));
    row->best = !r->validation || row->validation_dice > r->progress.best;
    if (!row->best || !r->best) return KDAS_OK;
    KD_RETURN(kd_train_folder_check(r->folder, r->options.out));
    return kdas_model_save(model, r->best);
}

/* Validate the student, or its average, and keep it if it is the best. */
static kdas_status judge(run *r, kd_train_row *row)
{
    kdas_model *model = r->average ? r->average : r->student;
    kdas_status st    = kd_train_note(&r->notes, r->student);

    if (st == KDAS_OK && r->average) st = kdas_distiller_read_average(r->distiller, r->average);
    KD_RETURN(together(r, st));
    KD_RETURN(validate(r, model, row));
    return together(r, keep_best(r, model, row));
}

/* Whether the epochs since the best one have reached the patience. */
static bool out_of_patience(const run *r)
{
    return r->options.patience > 0 && r->batch == 0 && r->progress.best_epoch > 0 &&
           r->progress.epoch - r->progress.best_epoch >= r->options.patience;
}

/* Validate, and log the epoch. An epoch cut short by the limit of steps is validated like a whole
 * one, and a later call can resume it. */
static kdas_status end_epoch(run *r)
{
    kd_train_row row = { .epoch           = r->progress.epoch + 1,
                         .step            = run_step(r),
                         .sum             = r->sum,
                         .validation_dice = -1,
                         .validation_loss = -1,
                         .loss_scale      = kdas_optim_loss_scale(r->optim),
                         .skipped         = kdas_optim_skipped(r->optim) };

    KD_RETURN(judge(r, &row));
    if (row.best) {
        r->progress.best       = row.validation_dice;
        r->progress.best_epoch = row.epoch;
    }
    KD_RETURN(together(r, r->last ? kd_train_log_add(&r->log, &row) : KDAS_OK));
    if (r->batch == r->batches) {
        r->progress.epoch++;
        r->batch = 0;
        memset(r->sum, 0, sizeof r->sum);
    }
    KD_RETURN(together(r, save(r)));
    r->state.validation_dice = row.validation_dice;
    r->state.validation_loss = row.validation_loss;
    r->state.best_dice       = r->progress.best;
    r->state.best_epoch      = r->progress.best_epoch;
    r->state.is_best         = row.best;
    r->state.stopped_early   = out_of_patience(r) && run_step(r) < r->steps;
    tell(r, KDAS_EVENT_EPOCH, row.epoch);
    return KDAS_OK;
}

static kdas_status run_epochs(run *r)
{
    if (run_step(r) >= r->steps && r->batch == 0) return KDAS_OK; /* all of it was done before */
    if (out_of_patience(r)) return KDAS_OK;
    for (;;) {
        KD_RETURN(run_steps(r));
        KD_RETURN(end_epoch(r));
        if (run_step(r) >= r->steps || out_of_patience(r)) return KDAS_OK;
        KD_RETURN(together(r, check_stop(r)));
    }
}

/* ---- start and end ---- */

static kdas_status open_validation(run *r)
{
    if (!r->validation && r->options.patience)
        return kd_fail(KDAS_EINVAL, "train: patience needs a validation set");
    if (!r->validation) return KDAS_OK;
    if (kdas_dataset_count(r->validation) == 0)
        return kd_fail(KDAS_EINVAL, "train: the validation set is empty");
    if (kdas_dataset_unlabelled(r->validation) > 0)
        return kd_fail(KDAS_EINVAL, "train: %lld frames of the validation set have no mask",
                       (long long)kdas_dataset_unlabelled(r->validation));
    KD_RETURN(kdas_evaluator_create(&r->evaluator, r->ctx));
    return kdas_evaluator_share(r->evaluator, r->ranks);
}

/* A model to read the average into, if the average is validated or saved. Training
 * does not use it. */
static kdas_status open_average(run *r)
{
    kdas_distiller_options distiller;
    kdas_model_options     model;

    kdas_distiller_options_init(&distiller, sizeof distiller);
    KD_RETURN(kdas_distiller_get_options(r->distiller, &distiller));
    if (!r->options.evaluate_ema || distiller.ema == 0 || !(r->validation || r->best))
        return KDAS_OK;
    kdas_model_options_init(&model, sizeof model);
    model.trainable = 0;
    model.quantize  = kdas_model_quantized(r->student);
    model.wide      = kdas_model_wide(r->student);
    return kdas_model_create(&r->average, r->ctx, kdas_model_network(r->student), &model);
}

/* Ranges that nothing sets would leave a student that no integers compute. */
static kdas_status check_ranges(const run *r)
{
    int32_t all, empty;

    KD_RETURN(kdas_model_count_ranges(r->student, &all, &empty));
    if (!r->held || empty == 0) return KDAS_OK;
    return kd_fail(KDAS_ESTATE,
                   "train: %d of the %d ranges of student '%s' are empty, and training leaves "
                   "ranges as they are (range_momentum 0, or kdas_model_hold_ranges)",
                   empty, all, kdas_model_network(r->student));
}

/* Check before the first step that there is something to learn from. */
static kdas_status check_teacher(const run *r)
{
    const kdas_dataset *frames = kdas_loader_dataset(r->loader);

    if (kdas_distiller_teacher(r->distiller) || kdas_dataset_maps(frames) > 0) return KDAS_OK;
    if (kdas_dataset_unlabelled(frames) > 0)
        return kd_fail(KDAS_EINVAL, "train: there are frames without masks, and neither a teacher "
                                    "nor its maps to learn them from");
    return KDAS_OK;
}

/* What is opened and found before files are made. */
static kdas_status open_parts(run *r)
{
    if (r->batches < 1) return kd_fail(KDAS_EINVAL, "train: an epoch of the loader has no batches");
    KD_RETURN(check_teacher(r));
    KD_RETURN(open_validation(r));
    KD_RETURN(open_average(r));
    return r->options.out || r->ranks
               ? kd_train_facts(&r->facts, r->distiller, r->loader, r->validation, &r->options)
               : KDAS_OK;
}

static kdas_status start(run *r)
{
    r->batches     = kdas_loader_batches(r->loader);
    r->looks_ahead = kdas_loader_kept(r->loader) > 1 && kdas_loader_context(r->loader) == r->ctx;
    r->steps       = r->options.epochs * r->batches;
    if (r->options.max_steps) r->steps = KD_MIN(r->steps, r->options.max_steps);
    KD_RETURN(together(r, open_parts(r)));
    KD_RETURN(kd_train_agree(r->ranks, &r->facts, r->distiller, &r->options));
    KD_RETURN(together(r, open_folder(r)));
    kd_train_notes_init(&r->notes, r->loader, r->validation, &r->options);
    KD_RETURN(resume(r));
    KD_RETURN(together(r, check_ranges(r)));
    KD_RETURN(kd_train_agree_values(r->ranks, r->distiller));
    if (kd_train_reads_teacher(r->distiller, kdas_loader_dataset(r->loader)))
        kd_train_compare_teacher(kdas_distiller_teacher(r->distiller), r->loader);
    r->state.best_dice       = r->progress.best;
    r->state.best_epoch      = r->progress.best_epoch;
    r->state.validation_dice = r->state.validation_loss = -1;
    return together(r, kdas_loader_seek(r->loader, run_step(r)));
}

/* A cancel between steps: keep what is done. */
static kdas_status save_cancelled(run *r)
{
    KD_RETURN(together(r, save(r)));
    return kd_fail(KDAS_ECANCELLED, "stopped after step %lld of %lld", (long long)run_step(r),
                   (long long)r->steps);
}

/* A step that failed was undone, and with it those that have accumulated gradients for the same
 * update. Stand there; false if that is not in this epoch, or not known. */
static bool stand_at_update(run *r)
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
static kdas_status save_lost(run *r, kdas_status st)
{
    char why[512];

    if (!r->last || !kdas_ranks_broken(r->ranks)) return st;
    kd_format(why, sizeof why, "%s", kdas_last_error());
    if (!stand_at_update(r)) return kd_fail(st, "%s; 'last.kdas' is as it was last saved", why);
    if (save(r) != KDAS_OK) {
        char more[512];

        kd_format(more, sizeof more, "%s", kdas_last_error());
        return kd_fail(st, "%s; the run could not be saved: %s", why, more);
    }
    return kd_fail(st, "%s; the run is saved after step %lld of %lld, and can be resumed", why,
                   (long long)run_step(r), (long long)r->steps);
}

static void finish(run *r)
{
    if (r->options.ramp_up > 0 || r->options.ramp_down > 0)
        kdas_loss_set_guidance_factor(r->loss, r->factor);
    if (r->options.freeze_ranges > 0) kdas_model_hold_ranges(r->student, r->held);
    kd_train_log_finish(&r->log);
    kd_train_manifest_finish(&r->manifest);
    kdas_evaluator_destroy(r->evaluator);
    kdas_model_destroy(r->average);
    kdas_run_folder_destroy(r->folder);
    kd_free(r->ctx, r->last);
    kd_free(r->ctx, r->best);
}

/* The frames' size where the host has named none: the loader's. */
static kdas_status take_size(run *r)
{
    kdas_loader_options loader;

    if (r->options.height != 0 || r->options.width != 0) return KDAS_OK;
    kdas_loader_options_init(&loader, sizeof loader);
    KD_RETURN(kdas_loader_get_options(r->loader, &loader));
    r->options.height = loader.height;
    r->options.width  = loader.width;
    return KDAS_OK;
}

/* Where every step is an update, no gradients wait for one. */
static void note_start(run *r)
{
    if (!r->every) return;
    r->update = run_step(r);
    memcpy(r->update_sum, r->sum, sizeof r->sum);
}

static kdas_status check(run *r)
{
    KD_RETURN(kd_train_check_options(&r->options));
    KD_RETURN(take_size(r));
    return check_sizes(r);
}

static kdas_status train(run *r)
{
    kdas_status st;

    r->started = kd_now();
    r->loss    = kdas_distiller_loss(r->distiller);
    r->optim   = kdas_distiller_optim(r->distiller);
    r->factor  = kdas_loss_guidance_factor(r->loss);
    r->held    = kdas_model_ranges_held(r->student);
    KD_RETURN(together(r, check(r)));
    st = start(r);
    if (st == KDAS_OK) {
        note_start(r);
        st = run_epochs(r);
        if (st == KDAS_ECANCELLED) st = save_cancelled(r);
        if (st != KDAS_OK) st = save_lost(r, st);
        forget_ahead(r);
    }
    finish(r);
    return st;
}

/* Loader and distiller have the same ranks, of which the first alone has files. */
static kdas_status take_ranks(run *r)
{
    kdas_distiller_options distiller;
    kdas_loader_options    loader;

    kdas_distiller_options_init(&distiller, sizeof distiller);
    kdas_loader_options_init(&loader, sizeof loader);
    KD_RETURN(kdas_distiller_get_options(r->distiller, &distiller));
    KD_RETURN(kdas_loader_get_options(r->loader, &loader));
    if (distiller.ranks != loader.ranks)
        return kd_fail(KDAS_EINVAL, "train: the loader's ranks are not those of the distiller%s",
                       !loader.ranks      ? ", it has none"
                       : !distiller.ranks ? ", which has none"
                                          : "");
    r->ranks  = loader.ranks;
    r->update = -1;
    r->every  = distiller.accumulate == 1;
    if (kdas_ranks_rank(r->ranks) > 0) r->options.out = NULL;
    return KDAS_OK;
}

kdas_status kdas_train(kdas_distiller *distiller, kdas_loader *loader, kdas_dataset *validation,
                       const kdas_train_options *options)
{
    run r = { .distiller = distiller, .loader = loader, .validation = validation };

    if (!distiller || !loader)
        return kd_fail(KDAS_EINVAL, "kdas_train: distiller or loader is NULL");
    r.student = kdas_distiller_student(distiller);
    r.ctx     = kdas_model_context(r.student);
    KD_RETURN(kd_check_process(r.ctx));
    kdas_train_options_init(&r.options, sizeof r.options);
    KD_RETURN(kd_take_options(&r.options, sizeof r.options, options, "kdas_train_options"));
    KD_RETURN(take_ranks(&r));
    return train(&r);
}
