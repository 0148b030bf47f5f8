/* train_start.c - how a run begins: its options and sizes, its folder and parts, what ranks agree on, and the checkpoint that
 * it goes on from. */
#include <string.h>
#include "distill/train_run.h"
#include "io/file.h"

/* ---- options and sizes ---- */

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
static kdas_status check_sizes(const kd_run *r)
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

/* The frames' size where the host has named none: the loader's. */
static kdas_status take_size(kd_run *r)
{
    kdas_loader_options loader;

    if (r->options.height != 0 || r->options.width != 0) return KDAS_OK;
    kdas_loader_options_init(&loader, sizeof loader);
    KD_RETURN(kdas_loader_get_options(r->loader, &loader));
    r->options.height = loader.height;
    r->options.width  = loader.width;
    return KDAS_OK;
}

kdas_status kd_run_check(kd_run *r)
{
    KD_RETURN(check_options(&r->options));
    KD_RETURN(take_size(r));
    return check_sizes(r);
}

/* Loader and distiller have the same ranks. */
kdas_status kd_run_take_ranks(kd_run *r)
{
    kdas_distiller_options distiller;
    kdas_loader_options    loader;

    kdas_distiller_options_init(&distiller, sizeof distiller);
    kdas_loader_options_init(&loader, sizeof loader);
    KD_RETURN(kdas_distiller_get_options(r->distiller, &distiller));
    r->ranks = distiller.ranks;
    if (!r->loader) return kd_fail(KDAS_EINVAL, "kdas_train: the loader is NULL");
    KD_RETURN(kdas_loader_get_options(r->loader, &loader));
    if (!r->ranks) r->ranks = loader.ranks; /* whose others wait */
    if (distiller.ranks != loader.ranks)
        return kd_fail(KDAS_EINVAL, "train: the loader's ranks are not those of the distiller%s",
                       !loader.ranks      ? ", it has none"
                       : !distiller.ranks ? ", which has none"
                                          : "");
    r->update = -1;
    r->every  = distiller.accumulate == 1;
    return KDAS_OK;
}

/* ---- files ---- */

/* Make and hold the folder, and check that a file can be made in it, so that a run fails at its
 * start and not at its end. */
static kdas_status open_folder(kd_run *r)
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

static kdas_status open_log(kd_run *r, int64_t epoch)
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
static kdas_status check_position(const kd_run *r, const kdas_progress *p, const char *path)
{
    int64_t batch = p->epoch > INT64_MAX / r->batches ? -1 : p->position - p->epoch * r->batches;

    if (batch >= 0 && batch <= r->batches) return KDAS_OK;
    return kd_fail(KDAS_EINVAL,
                   "'%s' stands at batch %lld after %lld epochs, but an epoch has %lld batches",
                   path, (long long)p->position, (long long)p->epoch, (long long)r->batches);
}

/* Read the checkpoint and compare it. */
static kdas_status read_checkpoint(kd_run *r, kd_train_file *f, const char *path)
{
    KD_RETURN(kd_train_file_open(f, r->ctx, path, &r->facts));
    KD_RETURN(check_position(r, &f->progress, path));
    if (!r->last) return KDAS_OK;
    KD_RETURN(
        kd_train_manifest_resume(&r->manifest, f->checkpoint, path, &f->progress, r->batches));
    return open_log(r, f->progress.epoch);
}

/* Resume from the checkpoint. Restoring comes last, so a refused resume changes nothing. */
static kdas_status resume_from(kd_run *r, kd_train_file *f, kd_train_copy *copy)
{
    const kdas_progress *p = &f->progress;

    KD_RETURN(kd_train_copy_open(copy, r->ctx, r->ranks, r->last));
    KD_RETURN(kd_run_together(r, read_checkpoint(r, f, copy->fd >= 0 ? copy->path : r->last)));
    KD_RETURN(kd_run_together(r, kd_train_file_restore(f, r->distiller, !r->last)));
    r->progress = *p;
    r->batch    = p->position - p->epoch * r->batches;
    memcpy(r->sum, f->sum, sizeof r->sum);
    if (r->last)
        kd_info(r->ctx, "resumed after epoch %lld, batch %lld", (long long)p->epoch,
                (long long)r->batch);
    return KDAS_OK;
}

/* Whether there is a checkpoint to go on from. */
static kdas_status find_checkpoint(kd_run *r, bool *found)
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
static kdas_status resume(kd_run *r)
{
    kd_train_file f    = { 0 };
    kd_train_copy copy = { .fd = -1 };
    bool          found;
    kdas_status   st;

    r->progress =
        (kdas_progress){ .size = sizeof r->progress, .seed = r->options.seed, .best = -1 };
    KD_RETURN(kd_run_together(r, find_checkpoint(r, &found)));
    KD_RETURN(kdas_ranks_broadcast(r->ranks, &found, sizeof found, 0));
    if (!found) return kd_run_together(r, open_log(r, 0));
    st = resume_from(r, &f, &copy);
    kd_train_file_close(&f);
    kd_train_copy_close(&copy);
    return st;
}

/* ---- parts ---- */

static kdas_status open_validation(kd_run *r)
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
static kdas_status open_average(kd_run *r)
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
static kdas_status check_ranges(const kd_run *r)
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
static kdas_status check_teacher(const kd_run *r)
{
    const kdas_dataset *frames = kdas_loader_dataset(r->loader);

    if (kdas_distiller_teacher(r->distiller) || kdas_dataset_maps(frames) > 0) return KDAS_OK;
    if (kdas_dataset_unlabelled(frames) > 0)
        return kd_fail(KDAS_EINVAL, "train: there are frames without masks, and neither a teacher "
                                    "nor its maps to learn them from");
    return KDAS_OK;
}

/* What is opened and found before files are made. */
static kdas_status open_parts(kd_run *r)
{
    if (r->batches < 1) return kd_fail(KDAS_EINVAL, "train: an epoch of the loader has no batches");
    KD_RETURN(check_teacher(r));
    KD_RETURN(open_validation(r));
    KD_RETURN(open_average(r));
    return r->options.out || r->ranks
               ? kd_train_facts(&r->facts, r->distiller, r->loader, r->validation, &r->options)
               : KDAS_OK;
}

kdas_status kd_run_start(kd_run *r)
{
    r->batches     = kdas_loader_batches(r->loader);
    r->looks_ahead = kdas_loader_kept(r->loader) > 1 && kdas_loader_context(r->loader) == r->ctx;
    r->steps       = r->options.epochs * r->batches;
    if (r->options.max_steps) r->steps = KD_MIN(r->steps, r->options.max_steps);
    KD_RETURN(kd_run_together(r, open_parts(r)));
    KD_RETURN(kd_train_agree(r->ranks, &r->facts, r->distiller, &r->options));
    KD_RETURN(kd_run_together(r, open_folder(r)));
    kd_train_notes_init(&r->notes, r->loader, r->validation, &r->options);
    KD_RETURN(resume(r));
    KD_RETURN(kd_run_together(r, check_ranges(r)));
    KD_RETURN(kd_train_agree_values(r->ranks, r->distiller));
    if (kd_train_reads_teacher(r->distiller, kdas_loader_dataset(r->loader)))
        kd_train_compare_teacher(kdas_distiller_teacher(r->distiller), r->loader);
    r->state.best_dice       = r->progress.best;
    r->state.best_epoch      = r->progress.best_epoch;
    r->state.validation_dice = r->state.validation_loss = -1;
    return kd_run_together(r, kdas_loader_seek(r->loader, kd_run_step(r)));
}

void kd_run_finish(kd_run *r)
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
