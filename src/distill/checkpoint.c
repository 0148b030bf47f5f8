/* checkpoint.c - the state of a distiller in a file: the student's tensors, the optimizer's
 * moments, gradients that wait for their update, counters, seeds and options. Loading reads all of
 * it into host memory and checks it before anything is changed. */
#include "base/process.h"
#include "distill/checkpoint.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "distill/distiller.h"
#include "distill/snapshot.h"
#include "io/container.h"
#include "optim/optim.h"

/* ---- the options that travel ---- */

typedef enum field_type { FLOAT32, INT32, INT64 } field_type;

typedef struct field {
    const char *name; /* of its record */
    size_t      offset;
    field_type  type;
} field;

#define OPTIM_FIELD(member, type)                                    \
    {                                                                \
        "optim." #member, offsetof(kdas_optim_options, member), type \
    }
static const field optim_fields[] = {
    OPTIM_FIELD(lr, FLOAT32),          OPTIM_FIELD(weight_decay, FLOAT32),
    OPTIM_FIELD(beta1, FLOAT32),       OPTIM_FIELD(beta2, FLOAT32),
    OPTIM_FIELD(eps, FLOAT32),         OPTIM_FIELD(momentum, FLOAT32),
    OPTIM_FIELD(nesterov, INT32),      OPTIM_FIELD(clamp, FLOAT32),
    OPTIM_FIELD(clip_norm, FLOAT32),   OPTIM_FIELD(warmup, INT64),
    OPTIM_FIELD(total, INT64),         OPTIM_FIELD(step_every, INT64),
    OPTIM_FIELD(step_factor, FLOAT32), OPTIM_FIELD(power, FLOAT32),
    OPTIM_FIELD(lr_min, FLOAT32),
};
/* Files of before 0.3 lack these; ours then hold. */
static const field later_optim_fields[] = { OPTIM_FIELD(loss_scale, FLOAT32),
                                            OPTIM_FIELD(loss_scale_every, INT32) };

/* A double holds every field without loss, whole numbers up to 2^53. */
static double get_field(const void *options, const field *f)
{
    const char *at = (const char *)options + f->offset;

    switch (f->type) {
    case FLOAT32: return *(const float *)at;
    case INT32: return *(const int32_t *)at;
    default: return (double)*(const int64_t *)at;
    }
}

/* False, and nothing set, where the value does not fit. */
static bool set_field(void *options, const field *f, double value)
{
    static const double most[] = { [FLOAT32] = FLT_MAX, [INT32] = INT32_MAX, [INT64] = 0x1p53 };
    char               *at     = (char *)options + f->offset;

    if (!(fabs(value) <= most[f->type])) return false;
    switch (f->type) {
    case FLOAT32: *(float *)at = (float)value; break;
    case INT32: *(int32_t *)at = (int32_t)value; break;
    case INT64: *(int64_t *)at = (int64_t)value; break;
    }
    return true;
}

/* What the networks compute in. */
static const char *precision_of(const kdas_distiller *d)
{
    switch (kdas_context_precision(d->ctx)) {
    case KDAS_PRECISION_BF16: return "bf16";
    case KDAS_PRECISION_F16: return "f16";
    case KDAS_PRECISION_TF32: return "tf32";
    default: return "f32";
    }
}

/* ---- save ---- */

static kdas_status put_tensor(void *user, const char *record, int rank, const int64_t *dims,
                              float *host)
{
    return kd_container_put(user, record, KD_ST_F32, rank, dims, host);
}

static kdas_status put_fields(kd_container_writer *w, const field *f, size_t count,
                              const void *options)
{
    for (size_t i = 0; i < count; i++)
        KD_RETURN(kd_container_put_f64(w, f[i].name, get_field(options, &f[i])));
    return KDAS_OK;
}

/* The objective's members by their names; a text that is NULL is empty. */
static kdas_status put_loss(kd_container_writer *w, const kdas_loss *loss)
{
    kdas_loss_options o = loss->options;

    for (int i = 0; i < KD_LOSS_TEXTS; i++) {
        const char *text = *kd_loss_text(&o, i);

        KD_RETURN(kd_container_put_text(w, kd_loss_texts[i].name, text ? text : ""));
    }
    for (int i = 0; i < KD_LOSS_NUMBERS; i++)
        KD_RETURN(kd_container_put_f64(w, kd_loss_numbers[i].name, (double)*kd_loss_number(&o, i)));
    return KDAS_OK;
}

/* The running means behind a share: seg, term and count for each term. */
static const int64_t share_dims[] = { KDAS_TERMS, 3 };

/* `means` stays until the file is saved. */
static kdas_status put_share(kd_container_writer *w, const kdas_loss *loss,
                             double means[KDAS_TERMS][3])
{
    if (!kd_share_on(loss)) return KDAS_OK;
    for (int t = 0; t < KDAS_TERMS; t++) {
        means[t][0] = loss->share[t].seg;
        means[t][1] = loss->share[t].term;
        means[t][2] = (double)loss->share[t].count;
    }
    return kd_container_put(w, "share", KD_ST_F64, 2, share_dims, means);
}

static kdas_status put_options(kd_container_writer *w, const kdas_distiller *d)
{
    const kdas_optim_options *o = &d->optim->options;

    KD_RETURN(kd_container_put_text(w, "model", d->student->def->name));
    KD_RETURN(kd_container_put_f64(w, "model.drop_path", d->student->options.drop_path));
    KD_RETURN(kd_container_put_text(w, "precision", precision_of(d)));
    KD_RETURN(kd_container_put_text(w, "optim.rule", o->rule));
    KD_RETURN(kd_container_put_text(w, "optim.schedule", o->schedule));
    KD_RETURN(kd_container_put_text(w, "optim.no_decay", o->no_decay ? o->no_decay : ""));
    KD_RETURN(put_fields(w, optim_fields, KD_COUNT(optim_fields), o));
    KD_RETURN(put_fields(w, later_optim_fields, KD_COUNT(later_optim_fields), o));
    return put_loss(w, d->loss);
}

static kdas_status put_counts(kd_container_writer *w, const kdas_distiller *d,
                              const kdas_progress *p)
{
    KD_RETURN(kd_container_put_i64(w, "optim.updates", d->optim->updates));
    KD_RETURN(kd_container_put_f64(w, "scale.value", (double)d->optim->scale.value));
    KD_RETURN(kd_container_put_i64(w, "scale.good", d->optim->scale.good));
    KD_RETURN(kd_container_put_i64(w, "scale.skipped", d->optim->scale.skipped));
    KD_RETURN(kd_container_put_u64(w, "random.seed", d->student->options.seed));
    KD_RETURN(kd_container_put_u64(w, "random.forwards", d->student->forwards));
    KD_RETURN(kd_container_put_i64(w, "micro", d->micro));
    KD_RETURN(kd_container_put_i64(w, "micro.accumulate", d->options.accumulate));
    if (d->average.begun)
        KD_RETURN(kd_container_put_f64(w, "average.decay", (double)d->options.ema));
    KD_RETURN(kd_container_put_i64(w, "progress.epoch", p->epoch));
    KD_RETURN(kd_container_put_i64(w, "progress.position", p->position));
    KD_RETURN(kd_container_put_u64(w, "progress.seed", p->seed));
    KD_RETURN(kd_container_put_f64(w, "progress.best", p->best));
    return kd_container_put_i64(w, "progress.best_epoch", p->best_epoch);
}

/* Who teaches features to whom: without it, the file has none. */
static kdas_status put_feature(kd_container_writer *w, const kdas_distiller *d)
{
    char pairs[KD_FEATURE_PAIRS];

    if (!d->feature) return KDAS_OK;
    kd_feature_pairs(pairs, d->feature);
    KD_RETURN(kd_container_put_text(w, "feature.teacher", d->teacher->def->name));
    return kd_container_put_text(w, "feature.pairs", pairs);
}

/* Notes are the host's bytes: what is not UTF-8 is put as '?', so as not to lose a checkpoint. */
static kdas_status put_notes(kd_container_writer *w, kdas_context *ctx, const char *notes)
{
    char       *text = kd_strdup(ctx, notes ? notes : "");
    kdas_status st;

    if (!text) return KDAS_ENOMEM;
    if (!kd_st_is_utf8(text, strlen(text)))
        for (char *c = text; *c; c++)
            if ((unsigned char)*c >= 0x80) *c = '?';
    st = kd_container_put_text(w, "notes", text);
    kd_free(ctx, text);
    return st;
}

kdas_status kd_checkpoint_save(const kdas_distiller *d, const char *path,
                               const kdas_progress *progress, const char *notes, const double *sums,
                               int count)
{
    kd_container_writer *w = NULL;
    kdas_progress        p = { .size = sizeof p };
    kd_snapshot          s = { 0 }, feature = { 0 };
    double               share[KDAS_TERMS][3];
    kdas_status          st;

    KD_RETURN(kd_take_options(&p, sizeof p, progress, "kdas_progress"));
    KD_TRY(kd_snapshot_init(&s, d, d->micro > 0, d->average.begun));
    KD_TRY(kd_snapshot_download(&s));
    KD_TRY(kd_feature_settle(d));
    KD_TRY(kd_snapshot_init_feature(&feature, d, d->micro > 0));
    KD_TRY(kd_snapshot_download(&feature));
    KD_TRY(kd_snapshot_counters(&s, false));
    KD_TRY(kd_container_create(&w, d->ctx));
    KD_TRY(put_options(w, d));
    KD_TRY(put_share(w, d->loss, share));
    KD_TRY(put_feature(w, d));
    KD_TRY(put_counts(w, d, &p));
    KD_TRY(put_notes(w, d->ctx, notes));
    if (count) KD_TRY(kd_container_put(w, "sums", KD_ST_F64, 1, &(int64_t){ count }, sums));
    KD_TRY(kd_snapshot_tensors(&s, put_tensor, w));
    KD_TRY(kd_snapshot_tensors(&feature, put_tensor, w));
    KD_TRY(kd_container_save(w, path));
done:
    kd_container_discard(w);
    kd_snapshot_finish(&s);
    kd_snapshot_finish(&feature);
    return st;
}

kdas_status kdas_checkpoint_save(const kdas_distiller *distiller, const char *path,
                                 const kdas_progress *progress, const char *notes)
{
    if (!distiller || !path)
        return kd_fail(KDAS_EINVAL, "kdas_checkpoint_save: distiller or path is NULL");
    KD_RETURN(kd_check_process(distiller->ctx));
    return kd_checkpoint_save(distiller, path, progress, notes, NULL, 0);
}

/* ---- load ---- */

/* All that a file says, before any of it is believed. */
typedef struct content {
    kdas_optim_options optim;
    kdas_progress      progress;
    kd_loss_scale      scale;     /* to go on with */
    double             was_scale; /* that the gathered gradients have */
    int64_t            updates, micro, accumulate;
    uint64_t           seed, forwards;
    kd_share           share[KDAS_TERMS];
    bool               average; /* is there, and kept here too */
} content;

static kdas_status get_tensor(void *user, const char *record, int rank, const int64_t *dims,
                              float *host)
{
    return kd_container_get(user, record, KD_ST_F32, rank, dims, host);
}

static kdas_status get_fields(kd_container *c, const field *f, size_t count, void *options)
{
    for (size_t i = 0; i < count; i++) {
        double value;

        KD_RETURN(kd_container_get_f64(c, f[i].name, &value));
        if (!set_field(options, &f[i], value))
            return kd_fail(KDAS_EFORMAT, "'%s': %s cannot be %g", kd_container_path(c), f[i].name,
                           value);
    }
    return KDAS_OK;
}

/* The text of a record must be ours: KDAS_EINVAL says what differs. */
static kdas_status match_text(kd_container *c, const char *record, const char *ours)
{
    const char *theirs;

    KD_RETURN(kd_container_get_text(c, record, &theirs));
    if (strcmp(theirs, ours) == 0) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "'%s' is of another run: its %s is '%.64s', here it is '%s'",
                   kd_container_path(c), record, theirs, ours);
}

static kdas_status match_number(kd_container *c, const char *record, double ours)
{
    double theirs;

    KD_RETURN(kd_container_get_f64(c, record, &theirs));
    if (theirs == ours) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "'%s' is of another run: its %s is %g, here it is %g",
                   kd_container_path(c), record, theirs, ours);
}

/* Projections fit the taps that they were trained between. */
static kdas_status match_feature(kd_container *c, const kdas_distiller *d)
{
    bool theirs = kd_container_has_text(c, "feature.pairs"), ours = d->feature != NULL;
    char pairs[KD_FEATURE_PAIRS];

    if (theirs != ours)
        return kd_fail(KDAS_EINVAL, "'%s' is of another run: it was trained %s features, here %s",
                       kd_container_path(c), theirs ? "with" : "without",
                       ours ? "there are some" : "there are none");
    if (!ours) return KDAS_OK;
    kd_feature_pairs(pairs, d->feature);
    KD_RETURN(match_text(c, "feature.teacher", d->teacher->def->name));
    return match_text(c, "feature.pairs", pairs);
}

/* The objective must be the same. What a file of before 0.4 lacks was then as our defaults have it. */
static kdas_status match_loss(kd_container *c, const kdas_loss *loss)
{
    kdas_loss_options o = loss->options, defaults;

    kdas_loss_options_init(&defaults, sizeof defaults);
    for (int i = 0; i < KD_LOSS_TEXTS; i++) {
        const char *name = kd_loss_texts[i].name, *ours = *kd_loss_text(&o, i),
                   *usual = *kd_loss_text(&defaults, i);

        if (i < KD_LOSS_FIRST_TEXTS || kd_container_has_text(c, name))
            KD_RETURN(match_text(c, name, ours ? ours : ""));
        else if (strcmp(ours ? ours : "", usual ? usual : "") != 0)
            return kd_fail(KDAS_EINVAL, "'%s' is of another run: its %s is '%s', here it is '%s'",
                           kd_container_path(c), name, usual ? usual : "", ours ? ours : "");
    }
    for (int i = 0; i < KD_LOSS_NUMBERS; i++) {
        const char *name = kd_loss_numbers[i].name;
        double      ours = *kd_loss_number(&o, i), usual = *kd_loss_number(&defaults, i);

        if (i < KD_LOSS_FIRST_NUMBERS || kd_container_find(c, name))
            KD_RETURN(match_number(c, name, ours));
        else if (ours != usual)
            return kd_fail(KDAS_EINVAL, "'%s' is of another run: its %s is %g, here it is %g",
                           kd_container_path(c), name, usual, ours);
    }
    return KDAS_OK;
}

/* What must be as it was, since it cannot be restored or would change what the run means. */
static kdas_status match(kd_container *c, const kdas_distiller *d)
{
    KD_RETURN(match_text(c, "model", d->student->def->name));
    KD_RETURN(match_number(c, "model.drop_path", d->student->options.drop_path));
    KD_RETURN(match_text(c, "optim.rule", d->optim->options.rule));
    return match_loss(c, d->loss);
}

static kdas_status get_share(kd_container *c, const kdas_distiller *d, content *to)
{
    double means[KDAS_TERMS][3];

    if (!kd_share_on(d->loss)) return KDAS_OK;
    if (!kd_container_find(c, "share")) {
        kd_info(d->ctx,
                "'%s' knows no norms of the terms: the running means of the share start anew",
                kd_container_path(c));
        return KDAS_OK;
    }
    KD_RETURN(kd_container_get(c, "share", KD_ST_F64, 2, share_dims, means));
    for (int t = 0; t < KDAS_TERMS; t++) {
        const double *m = means[t];

        if (!(m[0] >= 0 && m[1] >= 0 && m[2] >= 0 && m[0] <= DBL_MAX && m[1] <= DBL_MAX &&
              m[2] <= 0x1p53))
            return kd_fail(KDAS_EFORMAT,
                           "'%s': a share cannot have means of %g and %g after %g evaluations",
                           kd_container_path(c), m[0], m[1], m[2]);
        to->share[t] = (kd_share){ m[0], m[1], (int64_t)m[2] };
    }
    return KDAS_OK;
}

static kdas_status get_counts(kd_container *c, content *to)
{
    KD_RETURN(kd_container_get_i64(c, "optim.updates", &to->updates));
    KD_RETURN(kd_container_get_u64(c, "random.seed", &to->seed));
    KD_RETURN(kd_container_get_u64(c, "random.forwards", &to->forwards));
    KD_RETURN(kd_container_get_i64(c, "micro", &to->micro));
    KD_RETURN(kd_container_get_i64(c, "micro.accumulate", &to->accumulate));
    KD_RETURN(kd_container_get_i64(c, "progress.epoch", &to->progress.epoch));
    KD_RETURN(kd_container_get_i64(c, "progress.position", &to->progress.position));
    KD_RETURN(kd_container_get_u64(c, "progress.seed", &to->progress.seed));
    KD_RETURN(kd_container_get_f64(c, "progress.best", &to->progress.best));
    return kd_container_get_i64(c, "progress.best_epoch", &to->progress.best_epoch);
}

/* Fields that a file may lack as a whole; *to is then as it was. */
static kdas_status get_later_fields(kd_container *c, const field *f, size_t count, void *to)
{
    for (size_t i = 0; i < count; i++)
        if (kd_container_find(c, f[i].name)) KD_RETURN(get_fields(c, &f[i], 1, to));
    return KDAS_OK;
}

static void warn_of_fields(const kd_container *c, const kdas_distiller *d, const field *f,
                           size_t count, const kdas_optim_options *theirs)
{
    const kdas_optim_options *ours = &d->optim->options;

    for (size_t i = 0; i < count; i++)
        if (get_field(theirs, &f[i]) != get_field(ours, &f[i]))
            kd_warn(d->ctx, "%s goes on at %g, as '%s' has it, not at %g", f[i].name,
                    get_field(theirs, &f[i]), kd_container_path(c), get_field(ours, &f[i]));
}

/* The optimizer goes on as it was, said aloud where it was made otherwise. The length of the run
 * alone is the host's to change: a run may be made longer. */
static kdas_status get_optim(kd_container *c, const kdas_distiller *d, content *to)
{
    const kdas_optim_options *ours = &d->optim->options;
    const char               *no_decay;

    to->optim = *ours;
    KD_RETURN(get_fields(c, optim_fields, KD_COUNT(optim_fields), &to->optim));
    KD_RETURN(get_later_fields(c, later_optim_fields, KD_COUNT(later_optim_fields), &to->optim));
    KD_RETURN(kd_container_get_text(c, "optim.schedule", &to->optim.schedule));
    KD_RETURN(kd_container_get_text(c, "optim.no_decay", &no_decay));
    to->optim.no_decay = *no_decay ? no_decay : NULL;
    if (ours->total > 0) to->optim.total = ours->total;
    warn_of_fields(c, d, optim_fields, KD_COUNT(optim_fields), &to->optim);
    warn_of_fields(c, d, later_optim_fields, KD_COUNT(later_optim_fields), &to->optim);
    if (strcmp(to->optim.schedule, ours->schedule) != 0)
        kd_warn(d->ctx, "the schedule goes on as '%s', as '%s' has it, not '%s'",
                to->optim.schedule, kd_container_path(c), ours->schedule);
    return KDAS_OK;
}

/* A run may go on in another precision, since all that is kept is f32; but not with the same bits. */
static bool same_precision(kd_container *c, const kdas_distiller *d)
{
    const char *theirs, *ours = precision_of(d);

    if (kd_container_get_text(c, "precision", &theirs) != KDAS_OK) /* a file of 0.1 */
        theirs = "f32";
    else if (strcmp(theirs, ours) != 0)
        kd_warn(d->ctx, "the run goes on in %s; '%s' was made in %.64s", ours, kd_container_path(c),
                theirs);
    return strcmp(theirs, ours) == 0;
}

/* The loss scale goes on where it was, unless it is one that follows the precision, and that is another. A file
 * of before 0.3 had none. */
static kdas_status get_scale(kd_container *c, const kdas_distiller *d, content *to)
{
    bool    same = same_precision(c, d);
    int64_t good, skipped;

    kd_scale_start(&to->scale, &to->optim, d->ctx->type);
    to->was_scale = 1;
    if (!kd_container_find(c, "scale.value")) return KDAS_OK;
    KD_RETURN(kd_container_get_f64(c, "scale.value", &to->was_scale));
    KD_RETURN(kd_container_get_i64(c, "scale.good", &good));
    KD_RETURN(kd_container_get_i64(c, "scale.skipped", &skipped));
    if (!kd_scale_possible(to->was_scale) || good < 0 || good > INT32_MAX || skipped < 0)
        return kd_fail(KDAS_EFORMAT,
                       "'%s': a loss scale cannot be %g after %lld updates, %lld skipped",
                       kd_container_path(c), to->was_scale, (long long)good, (long long)skipped);
    to->scale.skipped = skipped;
    if (to->scale.every == 0 || (!same && to->optim.loss_scale == 0)) return KDAS_OK;
    to->scale.value = (float)to->was_scale;
    to->scale.good  = (int32_t)good;
    return KDAS_OK;
}

/* The average goes on where both have one, with the decay that it has here; else it begins with the next update. */
static kdas_status get_average(kd_container *c, const kdas_distiller *d, content *to)
{
    float  ours = d->options.ema;
    bool   kept = kd_container_find(c, "average.decay") != NULL;
    double theirs;

    to->average = kept && ours > 0;
    if (kept && ours == 0)
        kd_info(d->ctx, "the moving average in '%s' is left out (ema is 0)", kd_container_path(c));
    if (!kept && ours > 0 && to->updates > 0)
        kd_info(d->ctx, "'%s' has no moving average: it begins at the student",
                kd_container_path(c));
    if (!to->average) return KDAS_OK;
    KD_RETURN(kd_container_get_f64(c, "average.decay", &theirs));
    if (theirs != (double)ours)
        kd_warn(d->ctx, "the moving average goes on with a decay of %g; '%s' had %g", (double)ours,
                kd_container_path(c), theirs);
    return KDAS_OK;
}

static kdas_status check_counts(kd_container *c, const kdas_distiller *d, const content *to)
{
    if (to->micro < 0 || to->micro > INT32_MAX || to->updates < 0 || to->progress.epoch < 0 ||
        to->progress.position < 0)
        return kd_fail(KDAS_EFORMAT, "'%s': a count is below 0", kd_container_path(c));
    if (to->micro > 0 && to->accumulate != d->options.accumulate)
        return kd_fail(KDAS_EINVAL,
                       "'%s' waits with %lld of %lld micro-batches, here %d make an update",
                       kd_container_path(c), (long long)to->micro, (long long)to->accumulate,
                       d->options.accumulate);
    return KDAS_OK;
}

static bool is_gradient(const kd_block *b)
{
    return !strcmp(b->prefix, "gradient") || !strcmp(b->prefix, "feature.gradient");
}

/* Gradients that wait were gathered under the scale of their time. */
static void rescale_gradients(kd_snapshot *s, const content *from)
{
    float factor = from->scale.value / (float)from->was_scale;

    for (int k = 0; k < s->blocks && factor != 1; k++)
        for (size_t i = 0; is_gradient(&s->block[k]) && i < s->block[k].bytes / sizeof(float); i++)
            s->block[k].host[i] *= factor;
}

/* Everything has been read: put it in place. */
static kdas_status commit(kdas_distiller *d, const content *from, kd_snapshot *s,
                          const kd_snapshot *feature)
{
    KD_RETURN(kd_optim_restore(d->optim, &from->optim, from->updates, &from->scale));
    if (from->micro == 0) KD_RETURN(kdas_model_zero_gradients(d->student));
    KD_RETURN(kd_feature_zero(d));
    KD_RETURN(kd_snapshot_upload(s));
    KD_RETURN(kd_snapshot_upload(feature));
    KD_RETURN(kd_snapshot_counters(s, true));
    if (feature->params) kd_params_touch(feature->params);
    kd_params_touch(d->student->params);
    kd_params_touch_stats(d->student->params);
    d->student->options.seed = from->seed;
    d->student->forwards     = from->forwards;
    memcpy(d->loss->share, from->share, sizeof from->share);
    d->average.begun = from->average;
    d->micro         = (int32_t)from->micro;
    d->phase         = KD_PHASE_IDLE;
    return KDAS_OK;
}

static kdas_status read_content(kd_container *c, const kdas_distiller *d, content *to)
{
    *to = (content){ .progress = { .size = sizeof to->progress } };
    KD_RETURN(match(c, d));
    KD_RETURN(match_feature(c, d));
    KD_RETURN(get_counts(c, to));
    KD_RETURN(check_counts(c, d, to));
    KD_RETURN(get_optim(c, d, to));
    KD_RETURN(get_share(c, d, to));
    KD_RETURN(get_average(c, d, to));
    return get_scale(c, d, to);
}

/* A record that is missing from a whole file: it is not a checkpoint of this kind. */
static kdas_status as_format(kdas_status st)
{
    return st == KDAS_ENOTFOUND ? kd_fail(KDAS_EFORMAT, "%s", kdas_last_error()) : st;
}

kdas_status kd_checkpoint_load(kdas_distiller *d, const char *path, kdas_progress *progress,
                               double *sums, int count)
{
    kd_container *c = NULL;
    kd_snapshot   s = { 0 }, feature = { 0 };
    content       from;
    kdas_status   st;

    if (progress && progress->size < sizeof progress->size)
        return kd_fail(KDAS_EINVAL, "kdas_progress: size is not set");
    KD_TRY(kd_container_open(&c, d->ctx, path));
    KD_TRY(as_format(read_content(c, d, &from)));
    KD_TRY(kd_snapshot_init(&s, d, from.micro > 0, from.average));
    KD_TRY(as_format(kd_snapshot_tensors(&s, get_tensor, c)));
    KD_TRY(kd_snapshot_init_feature(&feature, d, from.micro > 0));
    KD_TRY(as_format(kd_snapshot_tensors(&feature, get_tensor, c)));
    rescale_gradients(&s, &from);
    rescale_gradients(&feature, &from);
    KD_TRY(commit(d, &from, &s, &feature));
    if (count) memset(sums, 0, (size_t)count * sizeof *sums);
    if (count && kd_container_find(c, "sums"))
        kd_container_get(c, "sums", KD_ST_F64, 1, &(int64_t){ count }, sums);
    if (progress) {
        from.progress.size = progress->size;
        memcpy(progress, &from.progress, KD_MIN(progress->size, sizeof from.progress));
    }
done:
    kd_container_close(c);
    kd_snapshot_finish(&s);
    kd_snapshot_finish(&feature);
    return st;
}

kdas_status kdas_checkpoint_load(kdas_distiller *distiller, const char *path,
                                 kdas_progress *progress)
{
    if (!distiller || !path)
        return kd_fail(KDAS_EINVAL, "kdas_checkpoint_load: distiller or path is NULL");
    KD_RETURN(kd_check_process(distiller->ctx));
    return kd_checkpoint_load(distiller, path, progress, NULL, 0);
}
