/* checkpoint.c - the state of a distiller into a file: the student's tensors, the optimizer's
 * moments, gradients accumulated for the next update, counters, seeds, options, and the
 * host's own records. */
#include "distill/checkpoint.h"
#include "base/process.h"
#include <stdio.h>
#include <string.h>
#include "distill/snapshot.h"

/* What could not be read again is not written: the last good file stays. */
static kdas_status put_tensor(void *user, const char *record, int rank, const int64_t *dims,
                              float *host)
{
    float       bad;
    const char *range = kd_snapshot_fault(record, host, kd_st_elements(rank, dims), &bad);

    if (range)
        return kd_fail(KDAS_ENUMERIC,
                       "checkpoint: '%.200s' has the value %g, not %s: nothing is saved", record,
                       (double)bad, range);
    return kd_container_put(user, record, KD_ST_F32, rank, dims, host);
}

/* Whether a file has this fact. Features are left out if there are none, an average if it has not
 * begun. */
static bool is_written(const kdas_distiller *d, const char *name)
{
    if (strncmp(name, "feature.", 8) == 0) return d->feature != NULL;
    return strcmp(name, "average.decay") != 0 || d->average.begun;
}

/* What the student's weights know of themselves, and who wrote them. */
static kdas_status put_model_facts(kd_container_writer *w, const kdas_model *student)
{
    const kd_model_facts *facts = &student->facts;
    char                  name[sizeof KD_FACT_CHECKPOINT + KD_LONGEST_KEY];

    KD_RETURN(kd_container_put_text(w, KD_FACT_CHECKPOINT "version", kdas_version_string()));
    for (size_t i = 0; i < facts->count; i++) {
        snprintf(name, sizeof name, KD_FACT_CHECKPOINT "%s", facts->fact[i].key);
        KD_RETURN(kd_container_put_text(w, name, facts->fact[i].value));
    }
    return KDAS_OK;
}

static kdas_status put_facts(kd_container_writer *w, const kdas_distiller *d, const kd_facts *facts)
{
    for (int i = 0; i < facts->count; i++) {
        const kdas_record *r = &facts->record[i];

        if (!is_written(d, r->name)) continue;
        if (r->text)
            KD_RETURN(kd_container_put_text(w, r->name, r->text));
        else if (strcmp(r->name, "micro.accumulate") == 0) /* as it has been since 0.1 */
            KD_RETURN(kd_container_put_i64(w, r->name, (int64_t)r->numbers[0]));
        else
            KD_RETURN(kd_container_put_f64(w, r->name, r->numbers[0]));
    }
    return KDAS_OK;
}

/* `means` stays until the file is saved. */
static kdas_status put_share(kd_container_writer *w, const kdas_loss *loss,
                             double means[KDAS_TERMS][3])
{
    static const int64_t dims[2] = { KDAS_TERMS, 3 };

    if (!kd_share_on(loss)) return KDAS_OK;
    for (int t = 0; t < KDAS_TERMS; t++) {
        means[t][0] = loss->share[t].seg;
        means[t][1] = loss->share[t].term;
        means[t][2] = (double)loss->share[t].count;
    }
    return kd_container_put(w, "share", KD_ST_F64, 2, dims, means);
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
    KD_RETURN(kd_container_put_i64(w, "micro", kd_distiller_accumulated(d)));
    KD_RETURN(kd_container_put_i64(w, "progress.epoch", p->epoch));
    KD_RETURN(kd_container_put_i64(w, "progress.position", p->position));
    KD_RETURN(kd_container_put_u64(w, "progress.seed", p->seed));
    KD_RETURN(kd_container_put_f64(w, "progress.best", p->best));
    return kd_container_put_i64(w, "progress.best_epoch", p->best_epoch);
}

/* Notes are the host's bytes. Bytes that are not UTF-8 are replaced by '?', so that saving
 * does not fail. */
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

/* ---- the host's records ---- */

enum { MAX_RECORDS = 1000, MAX_NUMBERS = 1 << 20, MAX_NAME = 200 };

static bool is_name(const char *name)
{
    size_t n = name ? strlen(name) : 0;

    return n >= 1 && n <= MAX_NAME &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static kdas_status check_record(const kdas_record *r)
{
    if (!is_name(r->name))
        return kd_fail(KDAS_EINVAL,
                       "a record of a checkpoint cannot be named '%.200s': a name is 1 to %d "
                       "letters, digits, '.', '_' and '-'",
                       r->name ? r->name : "NULL", MAX_NAME);
    if (!r->text == !r->numbers)
        return kd_fail(KDAS_EINVAL, "record '%s' has %s: it is a text, or numbers", r->name,
                       r->text ? "both a text and numbers" : "neither a text nor numbers");
    if (r->numbers && (r->count < 1 || r->count > MAX_NUMBERS))
        return kd_fail(KDAS_EINVAL, "record '%s' has %lld numbers, not 1 to %d", r->name,
                       (long long)r->count, MAX_NUMBERS);
    if (r->text && r->count != 0)
        return kd_fail(KDAS_EINVAL, "record '%s' is a text: its count is %lld, not 0", r->name,
                       (long long)r->count);
    if (r->text && !kd_st_is_utf8(r->text, strlen(r->text)))
        return kd_fail(KDAS_EINVAL, "the text of record '%s' is not UTF-8", r->name);
    return KDAS_OK;
}

static kdas_status check_records(const kdas_record *records, int64_t count)
{
    if (count < 0 || count > MAX_RECORDS || (count && !records))
        return kd_fail(KDAS_EINVAL, "a checkpoint has 0 to %d records, not %lld%s", MAX_RECORDS,
                       (long long)count, records ? "" : " at NULL");
    for (int64_t i = 0; i < count; i++) {
        KD_RETURN(check_record(&records[i]));
        for (int64_t k = 0; k < i; k++)
            if (strcmp(records[k].name, records[i].name) == 0)
                return kd_fail(KDAS_EINVAL, "record '%s' of a checkpoint is put twice",
                               records[i].name);
    }
    return KDAS_OK;
}

static kdas_status put_records(kd_container_writer *w, const kdas_record *records, int64_t count)
{
    char name[MAX_NAME + sizeof KD_HOST_PREFIX];

    for (int64_t i = 0; i < count; i++) {
        const kdas_record *r = &records[i];

        snprintf(name, sizeof name, KD_HOST_PREFIX "%s", r->name);
        KD_RETURN(r->text ? kd_container_put_text(w, name, r->text)
                          : kd_container_put(w, name, KD_ST_F64, 1, &r->count, r->numbers));
    }
    return KDAS_OK;
}

/* ---- save ---- */

kdas_status kdas_checkpoint_save_records(const kdas_distiller *d, const char *path,
                                         const kdas_progress *progress, const char *notes,
                                         const kdas_record *records, int64_t count)
{
    kd_container_writer *w = NULL;
    kdas_progress        p = { .size = sizeof p };
    kd_snapshot          s = { 0 }, feature = { 0 };
    kd_checkpoint_facts  facts = { 0 };
    double               share[KDAS_TERMS][3];
    kdas_status          st;

    if (!d || !path) return kd_fail(KDAS_EINVAL, "checkpoint: distiller or path is NULL");
    KD_RETURN(kd_check_process(d->ctx));
    KD_RETURN(kd_ranks_step_check_save(d));
    KD_RETURN(kd_take_options(&p, sizeof p, progress, "kdas_progress"));
    if (kd_checkpoint_progress_fault(&p))
        return kd_fail(KDAS_EINVAL, "kdas_progress: %s", kd_checkpoint_progress_fault(&p));
    KD_RETURN(check_records(records, count));
    KD_TRY(kd_checkpoint_facts_init(&facts, d));
    KD_TRY(kd_snapshot_init(&s, d, kd_distiller_accumulated(d) > 0, d->average.begun));
    KD_TRY(kd_snapshot_download(&s));
    KD_TRY(kd_feature_settle(d));
    KD_TRY(kd_snapshot_init_feature(&feature, d, kd_distiller_accumulated(d) > 0));
    KD_TRY(kd_snapshot_download(&feature));
    KD_TRY(kd_snapshot_counters(&s, false));
    KD_TRY(kd_container_create(&w, d->ctx));
    KD_TRY(put_facts(w, d, &facts.list));
    KD_TRY(put_model_facts(w, d->student));
    KD_TRY(put_share(w, d->loss, share));
    KD_TRY(put_counts(w, d, &p));
    KD_TRY(put_notes(w, d->ctx, notes));
    KD_TRY(put_records(w, records, count));
    KD_TRY(kd_snapshot_tensors(&s, put_tensor, w));
    KD_TRY(kd_snapshot_tensors(&feature, put_tensor, w));
    KD_TRY(kd_container_save(w, path));
done:
    kd_container_discard(w);
    kd_snapshot_finish(&s);
    kd_snapshot_finish(&feature);
    kd_checkpoint_facts_finish(&facts);
    return st;
}

kdas_status kdas_checkpoint_save(const kdas_distiller *distiller, const char *path,
                                 const kdas_progress *progress, const char *notes)
{
    return kdas_checkpoint_save_records(distiller, path, progress, notes, NULL, 0);
}
