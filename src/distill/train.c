/* train.c - the run: epochs of steps, validation, and the files that survive a kill. last.kdas
 * defines what is done. best.safetensors and log.csv are written before it; after a kill in between
 * they are made again with the same content. train.c calls train_log.c and train_resume.c, and they
 * include the header of the public functions here (kdas/train.h, by train.h) for the types of
 * options and reports. */
#include "base/process.h"
#include "distill/train.h"
#include <string.h>
#include "io/file.h"

typedef struct run {
    kdas_context      *ctx;
    kdas_distiller    *distiller;
    kdas_model        *student;
    kdas_loss         *loss;
    kdas_optim        *optim;
    kdas_loader       *loader;
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

/* ---- options ---- */

void kdas_train_options_init(kdas_train_options *options, size_t size)
{
    kdas_train_options defaults = { .size = size, .epochs = 20, .evaluate_ema = 1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

static kdas_status check_options(const kdas_train_options *o)
{
    if (o->epochs < 1 || o->epochs > INT32_MAX)
        return kd_fail(KDAS_EINVAL, "train: epochs is %lld, not 1 to %d", (long long)o->epochs,
                       INT32_MAX);
    if (o->max_steps < 0)
        return kd_fail(KDAS_EINVAL, "train: max_steps is %lld, below 0", (long long)o->max_steps);
    if (o->save_every < 0)
        return kd_fail(KDAS_EINVAL, "train: save_every is %lld, below 0", (long long)o->save_every);
    if (!(o->ramp_up >= 0 && o->ramp_up < 1e9))
        return kd_fail(KDAS_EINVAL, "train: ramp_up is %g, not from 0 to below 1e9", o->ramp_up);
    if (!(o->ramp_down >= 0 && o->ramp_down < 1e9))
        return kd_fail(KDAS_EINVAL, "train: ramp_down is %g, not from 0 to below 1e9",
                       o->ramp_down);
    if (!(o->freeze_ranges >= 0 && o->freeze_ranges < (double)o->epochs))
        return kd_fail(KDAS_EINVAL,
                       "train: freeze_ranges is %g, not from 0 to below the %lld epochs "
                       "(kdas_model_hold_ranges keeps ranges for a whole run)",
                       o->freeze_ranges, (long long)o->epochs);
    if (o->patience < 0)
        return kd_fail(KDAS_EINVAL, "train: patience is %lld, below 0", (long long)o->patience);
    return KDAS_OK;
}

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

/* ---- files ---- */

static kdas_status save(run *r)
{
    kdas_record    record[KD_FACTS + 4];
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
static kdas_status check_position(const run *r, const kdas_progress *p)
{
    int64_t batch = p->epoch > INT64_MAX / r->batches ? -1 : p->position - p->epoch * r->batches;

    if (batch >= 0 && batch <= r->batches) return KDAS_OK;
    return kd_fail(KDAS_EINVAL,
                   "'%s' stands at batch %lld after %lld epochs, but an epoch has %lld batches",
                   r->last, (long long)p->position, (long long)p->epoch, (long long)r->batches);
}

/* Resume from the checkpoint. Restoring comes last, so a refused resume changes nothing. */
static kdas_status resume_from(run *r, kd_train_file *f)
{
    const kdas_progress *p = &f->progress;

    KD_RETURN(kd_train_file_open(f, r->ctx, r->last, &r->facts));
    KD_RETURN(check_position(r, p));
    KD_RETURN(kd_train_manifest_resume(&r->manifest, f->checkpoint, r->last, p, r->batches));
    KD_RETURN(open_log(r, p->epoch));
    KD_RETURN(kd_train_file_restore(f, r->distiller));
    r->progress = *p;
    r->batch    = p->position - p->epoch * r->batches;
    memcpy(r->sum, f->sum, sizeof r->sum);
    kd_info(r->ctx, "resumed after epoch %lld, batch %lld", (long long)p->epoch,
            (long long)r->batch);
    return KDAS_OK;
}

/* Begin, or resume if there is a checkpoint. */
static kdas_status resume(run *r)
{
    kd_train_file f    = { 0 };
    kd_path_kind  kind = KD_PATH_NONE;
    kdas_status   st;

    r->progress =
        (kdas_progress){ .size = sizeof r->progress, .seed = r->options.seed, .best = -1 };
    if (!r->options.resume || !r->last) return open_log(r, 0);
    KD_RETURN(kd_look_at(&kind, r->last)); /* else a run would begin that overwrites the old one */
    if (kind != KD_PATH_FILE) {
        kd_info(r->ctx, "there is no '%s' to resume: the run begins", r->last);
        return open_log(r, 0);
    }
    st = resume_from(r, &f);
    kd_train_file_close(&f);
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

/* The loader stands where the steps do. */
static void forget_ahead(run *r)
{
    if (!r->looks_ahead) return;
    if (r->now) kdas_batch_settle(r->now); /* its step may have been refused */
    if (!r->ahead) return;
    kdas_batch_settle(r->ahead);
    kdas_loader_seek(r->loader, kdas_loader_position(r->loader) - 1);
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

static kdas_status step(run *r)
{
    double      start = kd_now(), waited = kdas_loader_waited(r->loader);
    kdas_batch *batch;
    kdas_status st;

    KD_RETURN(next_batch(r, &batch));
    r->now = batch;
    KD_RETURN(look_ahead(r));
    KD_RETURN(set_ramp(r));
    KD_RETURN(hold_ranges(r));
    waited    = kdas_loader_waited(r->loader) - waited;
    r->report = (kdas_step_report){ .size = sizeof r->report };
    KD_RETURN(kdas_context_hold(r->ctx)); /* half a step could not be resumed */
    st = kdas_distiller_step(r->distiller, batch, &r->report);
    kdas_context_release(r->ctx);
    if (st != KDAS_OK)
        return kd_fail_in(st, "epoch %lld, batch %lld", (long long)r->progress.epoch + 1,
                          (long long)r->batch + 1);
    r->now = NULL;
    r->batch++;
    add_to_sums(r, kdas_batch_count(batch), kd_now() - start, waited);
    return KDAS_OK;
}

/* Whether the host has asked to stop: KDAS_ECANCELLED. */
static kdas_status check_stop(const run *r)
{
    if (r->stop) return kd_fail(KDAS_ECANCELLED, "the host's progress callback asked to stop");
    return kd_check_cancel(r->ctx);
}

/* The rest of the epoch's steps, or as many as the run may still make. */
static kdas_status run_steps(run *r)
{
    while (r->batch < r->batches && run_step(r) < r->steps) {
        KD_RETURN(check_stop(r));
        KD_RETURN(step(r));
        tell(r, KDAS_EVENT_STEP, r->progress.epoch + 1);
        if (r->options.save_every && run_step(r) % r->options.save_every == 0 &&
            r->batch < r->batches)
            KD_RETURN(save(r));
    }
    return check_stop(r);
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

/* Validate the student, or its average, and keep it if it is the best. */
static kdas_status judge(run *r, kd_train_row *row)
{
    kdas_model *model = r->average ? r->average : r->student;

    KD_RETURN(kd_train_note(&r->notes, r->student));
    if (r->average) KD_RETURN(kdas_distiller_read_average(r->distiller, r->average));
    KD_RETURN(validate(r, model, row));
    KD_RETURN(kd_train_note_epoch(model, row->epoch, row->validation_dice));
    row->best = !r->validation || row->validation_dice > r->progress.best;
    if (!row->best || !r->best) return KDAS_OK;
    KD_RETURN(kd_train_folder_check(r->folder, r->options.out));
    return kdas_model_save(model, r->best);
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
    if (r->last) KD_RETURN(kd_train_log_add(&r->log, &row));
    if (r->batch == r->batches) {
        r->progress.epoch++;
        r->batch = 0;
        memset(r->sum, 0, sizeof r->sum);
    }
    KD_RETURN(save(r));
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
        KD_RETURN(check_stop(r));
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
    return kdas_evaluator_create(&r->evaluator, r->ctx);
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

static kdas_status start(run *r)
{
    r->batches     = kdas_loader_batches(r->loader);
    r->looks_ahead = kdas_loader_kept(r->loader) > 1 && kdas_loader_context(r->loader) == r->ctx;
    if (r->batches < 1) return kd_fail(KDAS_EINVAL, "train: an epoch of the loader has no batches");
    r->steps = r->options.epochs * r->batches;
    if (r->options.max_steps) r->steps = KD_MIN(r->steps, r->options.max_steps);
    KD_RETURN(check_teacher(r));
    KD_RETURN(open_folder(r));
    KD_RETURN(open_validation(r));
    KD_RETURN(open_average(r));
    if (r->last)
        KD_RETURN(kd_train_facts(&r->facts, r->distiller, r->loader, r->validation, &r->options));
    kd_train_notes_init(&r->notes, r->loader, r->validation, &r->options);
    KD_RETURN(resume(r));
    KD_RETURN(check_ranges(r));
    if (kd_train_reads_teacher(r->distiller, kdas_loader_dataset(r->loader)))
        kd_train_compare_teacher(kdas_distiller_teacher(r->distiller), r->loader);
    r->state.best_dice       = r->progress.best;
    r->state.best_epoch      = r->progress.best_epoch;
    r->state.validation_dice = r->state.validation_loss = -1;
    return kdas_loader_seek(r->loader, run_step(r));
}

/* A cancel between steps: keep what is done. */
static kdas_status save_cancelled(run *r)
{
    KD_RETURN(save(r));
    return kd_fail(KDAS_ECANCELLED, "stopped after step %lld of %lld", (long long)run_step(r),
                   (long long)r->steps);
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

static kdas_status train(run *r)
{
    kdas_status st;

    r->started = kd_now();
    r->student = kdas_distiller_student(r->distiller);
    r->loss    = kdas_distiller_loss(r->distiller);
    r->optim   = kdas_distiller_optim(r->distiller);
    r->ctx     = kdas_model_context(r->student);
    r->factor  = kdas_loss_guidance_factor(r->loss);
    r->held    = kdas_model_ranges_held(r->student);
    KD_RETURN(check_options(&r->options));
    KD_RETURN(take_size(r));
    KD_RETURN(check_sizes(r));
    st = start(r);
    if (st == KDAS_OK) {
        st = run_epochs(r);
        forget_ahead(r);
        if (st == KDAS_ECANCELLED) st = save_cancelled(r);
    }
    finish(r);
    return st;
}

kdas_status kdas_train(kdas_distiller *distiller, kdas_loader *loader, kdas_dataset *validation,
                       const kdas_train_options *options)
{
    run r = { .distiller = distiller, .loader = loader, .validation = validation };

    if (!distiller || !loader)
        return kd_fail(KDAS_EINVAL, "kdas_train: distiller or loader is NULL");
    KD_RETURN(kd_check_process(kdas_model_context(kdas_distiller_student(distiller))));
    kdas_train_options_init(&r.options, sizeof r.options);
    KD_RETURN(kd_take_options(&r.options, sizeof r.options, options, "kdas_train_options"));
    return train(&r);
}
