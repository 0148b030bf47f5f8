/* checkpoint_open.c - read a checkpoint: the host's values and records. checkpoint_restore.c
 * restores a distiller from it. */
#include <stdlib.h>
#include <string.h>
#include "distill/checkpoint.h"

/* The host's name in a record's, or NULL: it is none of the host's. */
static const char *host_name(const char *record)
{
    size_t n = sizeof KD_HOST_PREFIX - 1;

    return strncmp(record, KD_HOST_PREFIX, n) == 0 && record[n] ? record + n : NULL;
}

/* ---- what is read at once ---- */

static kdas_status read_progress(kd_container *file, kdas_progress *p)
{
    *p = (kdas_progress){ .size = sizeof *p };
    KD_RETURN(kd_container_get_i64(file, "progress.epoch", &p->epoch));
    KD_RETURN(kd_container_get_i64(file, "progress.position", &p->position));
    KD_RETURN(kd_container_get_u64(file, "progress.seed", &p->seed));
    KD_RETURN(kd_container_get_f64(file, "progress.best", &p->best));
    KD_RETURN(kd_container_get_i64(file, "progress.best_epoch", &p->best_epoch));
    if (p->epoch < 0 || p->position < 0 || p->epoch > KD_MAX_COUNT || p->position > KD_MAX_COUNT)
        return kd_fail(KDAS_EFORMAT, "'%s': a count is below 0 or above 2^62",
                       kd_container_path(file));
    return KDAS_OK;
}

static kdas_status read_numbers(kdas_checkpoint *c, const kd_st_tensor *t)
{
    double      *numbers;
    kdas_record *r = &c->record[c->count];

    if (t->dtype != KD_ST_F64 || t->rank != 1 || t->count < 1)
        return kd_fail(KDAS_EFORMAT, "record '%.200s' of checkpoint '%s' is not a list of numbers",
                       t->name, kd_container_path(c->file));
    numbers = kd_alloc(c->ctx, (size_t)t->bytes);
    if (!numbers) return KDAS_ENOMEM;
    *r = (kdas_record){ .name = host_name(t->name), .numbers = numbers, .count = t->count };
    c->count++;
    return kd_container_get(c->file, t->name, t->dtype, t->rank, t->dim, numbers);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const kdas_record *)a)->name, ((const kdas_record *)b)->name);
}

static kdas_status read_records(kdas_checkpoint *c)
{
    const kd_st_tensor *t;
    const char         *text, *name;
    size_t              most = 0;

    for (int64_t i = 0; (t = kd_container_at(c->file, i)); i++)
        most += host_name(t->name) != NULL;
    for (int64_t i = 0; kd_container_text_at(c->file, i, &name); i++)
        most += host_name(name) != NULL;
    c->record = kd_calloc(c->ctx, most, sizeof *c->record);
    if (!c->record) return KDAS_ENOMEM;
    for (int64_t i = 0; (t = kd_container_at(c->file, i)); i++)
        if (host_name(t->name)) KD_RETURN(read_numbers(c, t));
    for (int64_t i = 0; (text = kd_container_text_at(c->file, i, &name)); i++)
        if (host_name(name))
            c->record[c->count++] = (kdas_record){ .name = host_name(name), .text = text };
    qsort(c->record, (size_t)c->count, sizeof *c->record, by_name);
    return KDAS_OK;
}

kdas_status kdas_checkpoint_open(kdas_checkpoint **out, kdas_context *context, const char *path)
{
    kdas_checkpoint *c;
    kdas_status      st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_checkpoint_open: out is NULL");
    *out = NULL;
    if (!context || !path)
        return kd_fail(KDAS_EINVAL, "kdas_checkpoint_open: context or path is NULL");
    c = kd_calloc(context, 1, sizeof *c);
    if (!c) return KDAS_ENOMEM;
    c->ctx = context;
    KD_TRY(kd_container_open(&c->file, context, path));
    st = read_progress(c->file, &c->progress);
    if (st == KDAS_ENOTFOUND) st = kd_fail(KDAS_EFORMAT, "%s", kdas_last_error());
    if (st == KDAS_OK) st = read_records(c);
    if (st == KDAS_OK) {
        *out = c;
        c    = NULL;
    }
done:
    kdas_checkpoint_destroy(c);
    return st;
}

void kdas_checkpoint_destroy(kdas_checkpoint *c)
{
    if (!c) return;
    for (int64_t i = 0; i < c->count; i++)
        kd_free(c->ctx, (void *)c->record[i].numbers);
    kd_free(c->ctx, c->record);
    kd_container_close(c->file);
    kd_free(c->ctx, c);
}

/* ---- looking ---- */

kdas_status kdas_checkpoint_progress(const kdas_checkpoint *c, kdas_progress *progress)
{
    if (!c) return kd_fail(KDAS_EINVAL, "kdas_checkpoint_progress: the checkpoint is NULL");
    return kd_give_options(progress, &c->progress, sizeof c->progress, "kdas_progress");
}

const char *kdas_checkpoint_notes(const kdas_checkpoint *c)
{
    const char *text;

    if (!c) return NULL;
    if (!kd_container_has_text(c->file, "notes")) return "";
    return kd_container_get_text(c->file, "notes", &text) == KDAS_OK ? text : "";
}

const kdas_record *kdas_checkpoint_find(const kdas_checkpoint *c, const char *name)
{
    kdas_record key = { .name = name };

    if (!c || !name || c->count == 0) return NULL;
    return bsearch(&key, c->record, (size_t)c->count, sizeof key, by_name);
}

const kdas_record *kdas_checkpoint_record(const kdas_checkpoint *c, int64_t i)
{
    return c && i >= 0 && i < c->count ? &c->record[i] : NULL;
}
