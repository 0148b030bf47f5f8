/* train_resume.c - what defines a run: its data, their augmentation, its teacher, its ramps. They
 * are saved as records of last.kdas, and a resume compares them before it changes anything. train.c
 * calls this file; it includes train.h for the options, and calls nothing in train.c. */
#include <math.h>
#include <string.h>
#include "base/text.h"
#include "distill/train.h"
#include "io/file.h"

/* ---- what defines a run ---- */

bool kd_train_reads_teacher(const kdas_distiller *d, const kdas_dataset *frames)
{
    const kdas_loss *loss = kdas_distiller_loss(d);

    return kdas_distiller_teacher(d) &&
           (kdas_loss_needs_teacher(loss) || kdas_loss_needs_taps(loss) ||
            kdas_dataset_unlabelled(frames) > 0);
}

/* The teacher, if some term reads it. An unused teacher is not compared. */
static kdas_status add_teacher(kd_facts *facts, const kdas_distiller *d, const kdas_dataset *frames)
{
    const kdas_model *teacher = kdas_distiller_teacher(d);
    uint64_t          hash;

    if (!kd_train_reads_teacher(d, frames)) {
        kd_fact_text(facts, "run.teacher", "none");
        kd_fact_text(facts, "run.teacher_values", "none");
        return KDAS_OK;
    }
    KD_RETURN(kdas_model_hash(teacher, &hash));
    kd_fact_text(facts, "run.teacher", kdas_model_network(teacher));
    kd_fact_whole(facts, "run.teacher_values", hash, 16);
    return KDAS_OK;
}

static void add_augmentation(kd_facts *facts, const kdas_loader_options *o)
{
    kd_fact_number(facts, "run.augment", o->augment != 0);
    kd_fact_number(facts, "run.rotation", (double)o->rotation);
    kd_fact_number(facts, "run.scale_min", (double)o->scale_min);
    kd_fact_number(facts, "run.scale_max", (double)o->scale_max);
    kd_fact_number(facts, "run.crop", (double)o->crop);
    kd_fact_number(facts, "run.crop_aspect", (double)o->crop_aspect);
    kd_fact_number(facts, "run.brightness", (double)o->brightness);
    kd_fact_number(facts, "run.contrast", (double)o->contrast);
    kd_fact_number(facts, "run.saturation", (double)o->saturation);
    kd_fact_number(facts, "run.hue", (double)o->hue);
    kd_fact_number(facts, "run.blur", (double)o->blur);
    kd_fact_number(facts, "run.cutout", (double)o->cutout);
}

static kdas_status add_loader(kd_facts *facts, const kdas_loader *loader)
{
    double              scale[KD_FACT_NUMBERS] = { 1 };
    kdas_loader_options o;

    kdas_loader_options_init(&o, sizeof o);
    KD_RETURN(kdas_loader_get_options(loader, &o));
    for (int32_t i = 0; i < o.scale_count; i++)
        scale[i] = (double)o.scales[i];
    kd_fact_number(facts, "run.batch", (double)(o.batch * kdas_ranks_count(o.ranks)));
    kd_fact_number(facts, "run.ranks", kdas_ranks_count(o.ranks));
    kd_fact_number(facts, "run.height", (double)o.height);
    kd_fact_number(facts, "run.width", (double)o.width);
    kd_fact_numbers(facts, "run.scales", scale, KD_MAX(o.scale_count, 1));
    kd_fact_number(facts, "run.drop_last", o.drop_last != 0);
    kd_fact_number(facts, "run.batches", (double)kdas_loader_batches(loader));
    kd_fact_whole(facts, "run.loader_seed", o.seed, 10);
    kd_fact_number(facts, "run.shuffle", o.shuffle != 0);
    kd_fact_number(facts, "run.empty_share", (double)o.empty_share);
    add_augmentation(facts, &o);
    return KDAS_OK;
}

static kdas_status add_options(kd_facts *facts, const kdas_train_options *o,
                               const kdas_distiller *d)
{
    kdas_distiller_options distiller;

    kdas_distiller_options_init(&distiller, sizeof distiller);
    KD_RETURN(kdas_distiller_get_options(d, &distiller));
    kd_fact_number(facts, "run.epochs", (double)o->epochs);
    kd_fact_number(facts, "run.max_steps", (double)o->max_steps);
    kd_fact_number(facts, "run.ramp_up", o->ramp_up);
    kd_fact_number(facts, "run.ramp_down", o->ramp_down);
    if (kdas_model_quantized(kdas_distiller_student(d)) != KDAS_QUANTIZE_NONE)
        kd_fact_number(facts, "run.freeze_ranges", o->freeze_ranges);
    kd_fact_number(facts, "run.ramp_epochs", o->ramp_down > 0 ? (double)o->epochs : 0);
    kd_fact_number(facts, "run.validation_height", (double)o->height);
    kd_fact_number(facts, "run.validation_width", (double)o->width);
    kd_fact_number(facts, "run.evaluate_ema", o->evaluate_ema && distiller.ema > 0);
    return KDAS_OK;
}

kdas_status kd_train_facts(kd_facts *facts, const kdas_distiller *d, const kdas_loader *loader,
                           const kdas_dataset *validation, const kdas_train_options *options)
{
    const kdas_dataset *frames = kdas_loader_dataset(loader);

    facts->count = facts->hashes = 0;
    kd_fact_whole(facts, "run.seed", options->seed, 10);
    kd_fact_whole(facts, "run.frames", kdas_dataset_hash(frames), 16);
    if (validation)
        kd_fact_whole(facts, "run.validation", kdas_dataset_hash(validation), 16);
    else
        kd_fact_text(facts, "run.validation", "none");
    KD_RETURN(add_teacher(facts, d, frames));
    KD_RETURN(add_loader(facts, loader));
    return add_options(facts, options, d);
}

/* ---- read them from its file ---- */

/* Records whose names `like` has. A list that is too long counts as missing. */
static void read_facts(kd_facts *facts, const kdas_checkpoint *c, const kd_facts *like,
                       uint64_t seed)
{
    facts->count = facts->hashes = 0;
    kd_fact_whole(facts, "run.seed", seed, 10); /* in the progress since 0.1 */
    for (int i = 0; i < like->count; i++) {
        const char        *name = like->record[i].name;
        const kdas_record *r    = kdas_checkpoint_find(c, name);

        if (!r || strcmp(name, "run.seed") == 0) continue;
        if (r->text)
            kd_fact_text(facts, name, r->text);
        else if (r->count <= KD_FACT_NUMBERS)
            kd_fact_numbers(facts, name, r->numbers, r->count);
    }
}

/* A sum that a run can have. Terms and totals are of any sign; the norms of gradients of f16 may have
 * overflowed. */
static bool is_sum(int i, double value)
{
    if (i >= KD_SUM_TERMS && (i - KD_SUM_TERMS) % KD_SUM_KINDS == KD_SUM_GRADIENT)
        return !(value < 0);
    if (!isfinite(value)) return false;
    if (i == KD_SUM_TOTAL || i >= KD_SUM_TERMS) return true;
    if (i == KD_SUM_STEPS || i == KD_SUM_IMAGES)
        return value >= 0 && value <= 0x1p53 && value == floor(value);
    return value >= 0;
}

/* The numbers that a run goes on from, but for those that are compared with ours. */
static kdas_status check_numbers(const kd_train_file *f, const char *path)
{
    const kdas_progress *p = &f->progress;

    if (p->epoch > INT32_MAX)
        return kd_fail(KDAS_EFORMAT, "checkpoint '%s': progress.epoch is %lld, not from 0 to %d",
                       path, (long long)p->epoch, INT32_MAX);
    if (!(p->best >= -1 && p->best <= 1))
        return kd_fail(
            KDAS_EFORMAT,
            "checkpoint '%s': progress.best is %g, not a Dice from 0 to 1, or -1 for none", path,
            p->best);
    if (p->best_epoch > p->epoch + 1) /* an epoch that was cut short can be the best, too */
        return kd_fail(KDAS_EFORMAT,
                       "checkpoint '%s': progress.best_epoch is %lld after %lld epochs", path,
                       (long long)p->best_epoch, (long long)p->epoch);
    for (int i = 0; i < KD_SUMS; i++)
        if (!is_sum(i, f->sum[i]))
            return kd_fail(KDAS_EFORMAT, "checkpoint '%s': number %d of run.sums cannot be %g",
                           path, i + 1, f->sum[i]);
    return KDAS_OK;
}

/* Sums of the epoch under way. A library with fewer or more terms may have written them: the
 * terms are last. */
static void read_sums(kd_train_file *f)
{
    const kdas_record *r = kdas_checkpoint_find(f->checkpoint, "run.sums");
    int64_t            theirs;

    memset(f->sum, 0, sizeof f->sum);
    f->has_sums = r && r->numbers && r->count >= KD_SUM_TERMS + KD_SUM_KINDS;
    if (!f->has_sums) return;
    memcpy(f->sum, r->numbers, KD_SUM_TERMS * sizeof *f->sum);
    theirs = (r->count - KD_SUM_TERMS) / KD_SUM_KINDS;
    for (int64_t t = 0; t < KD_MIN(theirs, KDAS_TERMS); t++)
        memcpy(&f->sum[KD_SUM_OF(t, 0)], &r->numbers[KD_SUM_OF(t, 0)],
               KD_SUM_KINDS * sizeof *f->sum);
}

/* A file beside the checkpoint, if it is there; kd_free it. */
static char *beside(kdas_context *ctx, const char *path, const char *name)
{
    char *at = kd_printf(ctx, "%.*s%s", (int)(kd_path_base(path) - path), path, name);

    if (at && kd_is_file(at)) return at;
    kd_free(ctx, at);
    return NULL;
}

/* Say why the run cannot go on, and from what a new one can begin. */
static kdas_status refuse_damaged(kdas_context *ctx, const char *path)
{
    char  why[1024];
    char *old  = beside(ctx, path, "last.kdas.old");
    char *best = beside(ctx, path, "best.safetensors");

    kd_format(why, sizeof why, "%s", kdas_last_error());
    kd_fail(KDAS_EFORMAT,
            "the run cannot go on from its checkpoint: %s; %s%s%sbegin another in a new folder "
            "(--out)%s%s%s",
            why, old ? "take up the run before it by renaming '" : "", old ? old : "",
            old ? "' to last.kdas, or " : "", best ? ", from the best weights so far: '" : "",
            best ? best : "", best ? "' (--student-weights, kdas_model_load)" : "");
    kd_free(ctx, old);
    kd_free(ctx, best);
    return KDAS_EFORMAT;
}

kdas_status kd_train_file_open(kd_train_file *f, kdas_context *ctx, const char *path,
                               const kd_facts *ours)
{
    kdas_status st;

    f->progress = (kdas_progress){ .size = sizeof f->progress };
    st          = kdas_checkpoint_open(&f->checkpoint, ctx, path);
    if (st == KDAS_EFORMAT) return refuse_damaged(ctx, path);
    if (st != KDAS_OK) return st;
    KD_RETURN(kdas_checkpoint_progress(f->checkpoint, &f->progress));
    read_sums(f);
    if (check_numbers(f, path) != KDAS_OK) return refuse_damaged(ctx, path);
    read_facts(&f->facts, f->checkpoint, ours, f->progress.seed);
    f->resume = (kd_resume){ .path = path, .ours = ours, .theirs = &f->facts };
    return kd_resume_check(&f->resume);
}

kdas_status kd_train_file_restore(kd_train_file *f, kdas_distiller *d, bool quiet)
{
    kdas_context *ctx = kdas_model_context(kdas_distiller_student(d));

    kdas_status st = kdas_checkpoint_restore(f->checkpoint, d);

    if (st == KDAS_EFORMAT) return refuse_damaged(ctx, f->resume.path);
    if (st != KDAS_OK || quiet) return st;
    kd_resume_log(&f->resume, ctx);
    if (!f->has_sums)
        kd_info(ctx, "'%s' has no sums of the epoch under way: they begin here", f->resume.path);
    return KDAS_OK;
}

void kd_train_file_close(kd_train_file *f)
{
    kdas_checkpoint_destroy(f->checkpoint);
    f->checkpoint = NULL;
}
