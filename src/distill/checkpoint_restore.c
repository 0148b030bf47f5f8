/* checkpoint_restore.c - restore a distiller from a checkpoint. All of the file is read into host
 * memory and compared with the distiller's settings. Only then is the distiller changed. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "distill/checkpoint.h"
#include "base/process.h"
#include "distill/snapshot.h"

/* The content of a file, before it is checked. */
typedef struct content {
    kd_checkpoint_facts ours;
    kd_facts            theirs, defaults;
    kd_resume           resume;    /* the three above, compared    */
    kdas_optim_options  optim;     /* for the following updates    */
    kd_loss_scale       scale;     /* for the following updates    */
    double              was_scale; /* of the accumulated gradients */
    int64_t             updates, micro;
    uint64_t            seed, forwards;
    kd_share            share[KDAS_TERMS];
    bool                has_share;
    bool                has_average, average; /* in the file; and kept here too */
    kd_snapshot         state, feature;
    kd_model_facts      facts; /* of the student's weights */
} content;

/* ---- read and compare ---- */

/* A setting that is unset here is taken from the file. */
static void take_from_file(content *c, const char *name)
{
    const kdas_record *theirs = kd_fact_find(&c->theirs, name);

    for (int i = 0; theirs && i < c->ours.list.count; i++)
        if (strcmp(c->ours.list.record[i].name, name) == 0) c->ours.list.record[i] = *theirs;
}

static kdas_status get_facts(kd_container *c, const kdas_distiller *d, content *to)
{
    KD_RETURN(kd_checkpoint_facts_init(&to->ours, d));
    KD_RETURN(kd_checkpoint_read_facts(&to->theirs, c, &to->ours.list));
    kd_checkpoint_defaults(&to->defaults);
    to->optim = d->optim->options;
    KD_RETURN(kd_checkpoint_take_optim(&to->optim, &to->theirs, kd_container_path(c)));
    if (d->optim->options.total == 0) take_from_file(to, "optim.total");
    if (d->options.ema == 0) take_from_file(to, "average.decay");
    to->resume = (kd_resume){ .path         = kd_container_path(c),
                              .ours         = &to->ours.list,
                              .theirs       = &to->theirs,
                              .defaults     = &to->defaults,
                              .accumulating = to->micro > 0 };
    return kd_resume_check(&to->resume);
}

/* The file's momentum needs the optimizer state of that momentum, so there must be
 * room for it here. */
static kdas_status check_moments(const kd_container *c, const kdas_distiller *d, const content *to)
{
    const kdas_optim *optim = d->optim;

    if (optim->rule->slots(&to->optim) == optim->slots) return KDAS_OK;
    return kd_fail(KDAS_EINVAL,
                   "'%s' is of another run: its optim.momentum is %g, here it is %g: one of them "
                   "keeps state, the other none",
                   kd_container_path(c), (double)to->optim.momentum,
                   (double)optim->options.momentum);
}

static kdas_status get_counts(kd_container *c, content *to)
{
    int64_t micros = INT32_MAX; /* of an update */

    KD_RETURN(kd_checkpoint_get_count(c, "optim.updates", KD_MOST_COUNT, &to->updates));
    KD_RETURN(kd_container_get_u64(c, "random.seed", &to->seed)); /* any */
    KD_RETURN(kd_container_get_u64(c, "random.forwards", &to->forwards));
    if (to->forwards > KD_MOST_COUNT)
        return kd_fail(
            KDAS_EFORMAT, "record 'random.forwards' of checkpoint '%s' is %llu, not from 0 to %lld",
            kd_container_path(c), (unsigned long long)to->forwards, (long long)KD_MOST_COUNT);
    KD_RETURN(kd_checkpoint_get_count(c, "micro.accumulate", INT32_MAX, &micros));
    /* fewer than an update has: the last one would have made it */
    return kd_checkpoint_get_count(c, "micro", KD_MAX(micros, 1) - 1, &to->micro);
}

static kdas_status get_share(kd_container *c, const kdas_distiller *d, content *to)
{
    double              means[KDAS_TERM_ROOM][3];
    int64_t             dims[2] = { KDAS_TERMS, 3 };
    const kd_st_tensor *file    = kd_container_find(c, "share");

    if (!kd_share_on(d->loss) || !file) return KDAS_OK;
    /* A library with fewer or more terms may have written it: terms missing on one
     * side are ignored. */
    if (file->rank == 2 && file->dim[0] >= 1 && file->dim[0] <= KDAS_TERM_ROOM)
        dims[0] = file->dim[0];
    KD_RETURN(kd_container_get(c, "share", KD_ST_F64, 2, dims, means));
    for (int t = 0; t < KD_MIN(dims[0], KDAS_TERMS); t++) {
        const double *m = means[t];

        if (!(m[0] >= 0 && m[1] >= 0 && m[2] >= 0 && m[0] <= DBL_MAX && m[1] <= DBL_MAX &&
              m[2] <= 0x1p53 && m[2] == floor(m[2])))
            return kd_fail(
                KDAS_EFORMAT,
                "record 'share' of checkpoint '%s' has means of %g and %g after %g evaluations: "
                "means are finite and not below 0, evaluations from 0 to 2^53",
                kd_container_path(c), m[0], m[1], m[2]);
        to->share[t] = (kd_share){ m[0], m[1], (int64_t)m[2] };
    }
    to->has_share = true;
    return KDAS_OK;
}

/* A run may resume in another precision, since all saved values are f32. The bits then differ. */
static bool same_precision(const content *c)
{
    const kdas_record *ours   = kd_fact_find(&c->ours.list, "precision"),
                      *theirs = kd_fact_find(&c->theirs, "precision");

    if (!theirs) theirs = kd_fact_find(&c->defaults, "precision");
    return strcmp(ours->text, theirs->text) == 0;
}

/* The saved loss scale is kept, unless it follows the precision and the precision has changed.
 * Files from before 0.3 have no loss scale. */
static kdas_status get_scale(kd_container *c, const kdas_distiller *d, content *to)
{
    int64_t good;

    kd_scale_start(&to->scale, &to->optim, d->ctx->type);
    to->was_scale = 1;
    if (!kd_container_find(c, "scale.value")) return KDAS_OK;
    KD_RETURN(kd_container_get_f64(c, "scale.value", &to->was_scale));
    KD_RETURN(kd_checkpoint_get_count(c, "scale.good", INT32_MAX - 1, &good));
    KD_RETURN(kd_checkpoint_get_count(c, "scale.skipped", KD_MOST_COUNT, &to->scale.skipped));
    if (!kd_scale_possible(to->was_scale))
        return kd_fail(KDAS_EFORMAT,
                       "record 'scale.value' of checkpoint '%s' is %g, not a power of two from 1 "
                       "to %g",
                       kd_container_path(c), to->was_scale, KD_SCALE_MOST);
    if (to->scale.every == 0 || (!same_precision(to) && to->optim.loss_scale == 0)) return KDAS_OK;
    to->scale.value = (float)to->was_scale;
    to->scale.good  = (int32_t)good;
    return KDAS_OK;
}

static kdas_status get_tensor(void *user, const char *record, int rank, const int64_t *dims,
                              float *host)
{
    const char *range;
    float       bad;

    KD_RETURN(kd_container_get(user, record, KD_ST_F32, rank, dims, host));
    range = kd_snapshot_fault(record, host, kd_st_elements(rank, dims), &bad);
    if (!range) return KDAS_OK;
    return kd_fail(KDAS_EFORMAT, "record '%.200s' of checkpoint '%s' has the value %g, not %s",
                   record, kd_container_path(user), (double)bad, range);
}

static bool is_gradient(const kd_block *b)
{
    return !strcmp(b->prefix, "gradient") || !strcmp(b->prefix, "feature.gradient");
}

/* Accumulated gradients keep the loss scale that they were computed with. */
static void rescale_gradients(kd_snapshot *s, const content *from)
{
    float factor = from->scale.value / (float)from->was_scale;

    for (int k = 0; k < s->blocks && factor != 1; k++)
        for (size_t i = 0; is_gradient(&s->block[k]) && i < s->block[k].bytes / sizeof(float); i++)
            s->block[k].host[i] *= factor;
}

static kdas_status get_tensors(kd_container *c, const kdas_distiller *d, content *to)
{
    const kd_param_entry *bad;

    KD_RETURN(kd_snapshot_init(&to->state, d, to->micro > 0, to->average));
    KD_RETURN(kd_snapshot_tensors(&to->state, get_tensor, c));
    bad = kd_snapshot_bad_counter(&to->state);
    if (bad)
        return kd_fail(KDAS_EFORMAT,
                       "record '%s.%.200s' of checkpoint '%s' is no number of batches, 0 to 2^53",
                       to->state.block[0].prefix, bad->name, kd_container_path(c));
    KD_RETURN(kd_snapshot_init_feature(&to->feature, d, to->micro > 0));
    KD_RETURN(kd_snapshot_tensors(&to->feature, get_tensor, c));
    rescale_gradients(&to->state, to);
    rescale_gradients(&to->feature, to);
    return KDAS_OK;
}

/* What the host has set on the student stays. */
static kdas_status get_model_facts(const kd_container *c, const kdas_distiller *d, content *to)
{
    KD_RETURN(kd_model_facts_read(&to->facts, d->ctx, kd_container_file(c), KD_FACT_CHECKPOINT));
    return kd_model_facts_add(&to->facts, d->ctx, &d->student->facts, true);
}

static kdas_status read_content(kd_container *c, const kdas_distiller *d, content *to)
{
    KD_RETURN(get_counts(c, to));
    KD_RETURN(get_facts(c, d, to));
    KD_RETURN(check_moments(c, d, to));
    KD_RETURN(get_share(c, d, to));
    KD_RETURN(get_scale(c, d, to));
    to->has_average = kd_container_find(c, "average.decay") != NULL;
    to->average     = to->has_average && d->options.ema > 0;
    KD_RETURN(get_model_facts(c, d, to));
    return get_tensors(c, d, to);
}

/* ---- put in place ---- */

/* Drop the gradients of an unfinished update, the student's and the projections'. */
static kdas_status drop_gradients(kdas_distiller *d)
{
    KD_RETURN(kdas_model_zero_gradients(d->student));
    return kd_feature_zero(d);
}

/* Everything has been read. The optimizer comes first, since only it allocates memory. */
static kdas_status commit(kdas_distiller *d, content *from)
{
    kd_snapshot *s = &from->state, *feature = &from->feature;

    kdas_status st;

    st = kd_optim_restore(d->optim, &from->optim, from->updates, &from->scale);
    if (st != KDAS_OK && st != KDAS_ENOMEM) return kd_fail_in(st, "'%s'", from->resume.path);
    if (st != KDAS_OK) return st;
    KD_RETURN(drop_gradients(d));
    KD_RETURN(kd_snapshot_upload(s));
    KD_RETURN(kd_snapshot_upload(feature));
    KD_RETURN(kd_snapshot_counters(s, true));
    if (feature->params) kd_params_touch(feature->params);
    kd_params_touch(d->student->params);
    kd_params_touch_stats(d->student->params);
    d->student->options.seed = from->seed;
    d->student->forwards     = from->forwards;
    kd_model_facts_take(d->student, &from->facts);
    d->sizes = (kd_sizes){ 0 };
    memcpy(d->loss->share, from->share, sizeof from->share);
    d->average.begun = from->average;
    d->micro         = (int32_t)from->micro;
    d->zeroed        = d->student->zeroed;
    d->phase         = KD_PHASE_IDLE;
    d->marked        = false;
    return kd_ranks_step_restored(d);
}

static void log_differences(const content *c, const kdas_distiller *d)
{
    const char *path = c->resume.path;

    kd_resume_log(&c->resume, d->ctx);
    if (kd_share_on(d->loss) && !c->has_share)
        kd_info(d->ctx,
                "'%s' knows no norms of the terms: the running means of the share start anew",
                path);
    if (c->has_average && d->options.ema == 0)
        kd_info(d->ctx, "the moving average in '%s' is left out (ema is 0)", path);
    if (!c->has_average && d->options.ema > 0 && c->updates > 0)
        kd_info(d->ctx, "'%s' has no moving average: it begins at the student", path);
}

static void content_destroy(content *c, kdas_context *ctx)
{
    kd_checkpoint_facts_finish(&c->ours);
    kd_snapshot_finish(&c->state);
    kd_snapshot_finish(&c->feature);
    kd_model_facts_clear(&c->facts, ctx);
    kd_free(ctx, c);
}

kdas_status kdas_checkpoint_restore(kdas_checkpoint *checkpoint, kdas_distiller *d)
{
    content    *from;
    kdas_status st;

    if (!checkpoint || !d)
        return kd_fail(KDAS_EINVAL, "kdas_checkpoint_restore: checkpoint or distiller is NULL");
    KD_RETURN(kd_check_process(d->ctx));
    from = kd_calloc(d->ctx, 1, sizeof *from);
    if (!from) return KDAS_ENOMEM;
    st = read_content(checkpoint->file, d, from);
    if (st == KDAS_ENOTFOUND) /* a record is missing: it is not a checkpoint of this kind */
        st = kd_fail(KDAS_EFORMAT, "%s", kdas_last_error());
    if (st == KDAS_OK) st = commit(d, from);
    if (st == KDAS_OK) log_differences(from, d);
    content_destroy(from, d->ctx);
    return st;
}

kdas_status kdas_checkpoint_load(kdas_distiller *distiller, const char *path,
                                 kdas_progress *progress)
{
    kdas_checkpoint *c = NULL;
    kdas_status      st;

    if (!distiller || !path)
        return kd_fail(KDAS_EINVAL, "kdas_checkpoint_load: distiller or path is NULL");
    if (progress) KD_RETURN(kd_check_report(&progress->size, "kdas_progress"));
    KD_RETURN(kdas_checkpoint_open(&c, distiller->ctx, path));
    st = kdas_checkpoint_restore(c, distiller);
    if (st == KDAS_OK && progress)
        st = kd_give_options(progress, &c->progress, sizeof c->progress, "kdas_progress");
    kdas_checkpoint_destroy(c);
    return st;
}
