/* container.c - checkpoints as files of named records. */
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "io/container.h"

struct kd_container_writer {
    kdas_context *ctx;
    kd_st_writer *file;
    uint64_t     *used; /* hashes of the names so far */
    size_t        count, capacity;
};

struct kd_container {
    kdas_context   *ctx;
    kd_safetensors *file;
};

/* The container's own metadata keys. */
static const char *const reserved[] = { "format", "version", KD_ST_CHECKSUM_KEY };

static bool is_reserved(const char *name)
{
    for (size_t i = 0; i < KD_COUNT(reserved); i++)
        if (strcmp(name, reserved[i]) == 0) return true;
    return false;
}

/* ---- Writing --------------------------------------------------------------------------------- */

kdas_status kd_container_create(kd_container_writer **out, kdas_context *ctx)
{
    kdas_status          st;
    char                 version[16];
    kd_container_writer *w = kd_calloc(ctx, 1, sizeof *w);

    *out = NULL;
    if (!w) return KDAS_ENOMEM;
    w->ctx = ctx;
    snprintf(version, sizeof version, "%d", KD_CONTAINER_VERSION);
    KD_TRY(kd_st_writer_create(&w->file, ctx));
    KD_TRY(kd_st_writer_put_text(w->file, "format", KD_CONTAINER_FORMAT));
    KD_TRY(kd_st_writer_put_text(w->file, "version", version));
    *out = w;
    w    = NULL;
done:
    kd_container_discard(w);
    return st;
}

void kd_container_discard(kd_container_writer *writer)
{
    if (!writer) return;
    kd_st_writer_destroy(writer->file);
    kd_free(writer->ctx, writer->used);
    kd_free(writer->ctx, writer);
}

/* Make sure that no record has this name yet, and that note_name() cannot fail. */
static kdas_status check_name(kd_container_writer *w, const char *name)
{
    uint64_t hash;

    if (!name || !*name || is_reserved(name))
        return kd_fail(KDAS_EINVAL, "a record of a checkpoint cannot be named '%s'",
                       name ? name : "NULL");
    hash = kd_hash64(name);
    for (size_t i = 0; i < w->count; i++)
        if (w->used[i] == hash) /* by chance for one pair of names in 2^64 */
            return kd_fail(KDAS_EINVAL, "record '%.200s' of a checkpoint is put twice", name);
    return kd_grow(w->ctx, (void **)&w->used, &w->capacity, w->count + 1, sizeof *w->used);
}

static kdas_status note_name(kd_container_writer *w, const char *name)
{
    w->used[w->count++] = kd_hash64(name);
    return KDAS_OK;
}

kdas_status kd_container_put(kd_container_writer *writer, const char *name, kd_st_dtype dtype,
                             int rank, const int64_t *dims, const void *data)
{
    KD_RETURN(check_name(writer, name));
    KD_RETURN(kd_st_writer_put(writer->file, name, dtype, rank, dims, data));
    return note_name(writer, name);
}

static kdas_status put_scalar(kd_container_writer *w, const char *name, kd_st_dtype dtype,
                              const void *value)
{
    KD_RETURN(check_name(w, name));
    KD_RETURN(kd_st_writer_put_scalar(w->file, name, dtype, value));
    return note_name(w, name);
}

kdas_status kd_container_put_i64(kd_container_writer *writer, const char *name, int64_t value)
{
    return put_scalar(writer, name, KD_ST_I64, &value);
}

kdas_status kd_container_put_u64(kd_container_writer *writer, const char *name, uint64_t value)
{
    return put_scalar(writer, name, KD_ST_U64, &value);
}

kdas_status kd_container_put_f64(kd_container_writer *writer, const char *name, double value)
{
    return put_scalar(writer, name, KD_ST_F64, &value);
}

kdas_status kd_container_put_text(kd_container_writer *writer, const char *name, const char *text)
{
    KD_RETURN(check_name(writer, name));
    KD_RETURN(kd_st_writer_put_text(writer->file, name, text));
    return note_name(writer, name);
}

kdas_status kd_container_save(kd_container_writer *writer, const char *path)
{
    return kd_st_writer_save(writer->file, path, true);
}

/* ---- Reading --------------------------------------------------------------------------------- */

static kdas_status check_format(const kd_safetensors *file)
{
    const char *format  = kd_safetensors_text(file, "format");
    const char *version = kd_safetensors_text(file, "version");
    const char *path    = kd_safetensors_path(file);
    const char *end;
    int64_t     number;

    if (!format || strcmp(format, KD_CONTAINER_FORMAT) != 0)
        return kd_fail(KDAS_EFORMAT, "'%s' is not a libkdas checkpoint", path);
    if (!version || !kd_parse_whole(version, &end, &number) || number < 1 || *end)
        return kd_fail(KDAS_EFORMAT, "'%s' is a checkpoint without a version", path);
    if (number > KD_CONTAINER_VERSION)
        return kd_fail(KDAS_EFORMAT,
                       "'%s' needs a newer libkdas: it has version %lld, this one reads %d", path,
                       (long long)number, KD_CONTAINER_VERSION);
    return KDAS_OK;
}

/* A forged file could have a text and a tensor of one name. */
static kdas_status check_names(const kd_safetensors *file)
{
    const char *name;

    for (int64_t i = 0; kd_safetensors_text_at(file, i, &name); i++)
        if (kd_safetensors_find(file, name))
            return kd_fail(KDAS_EFORMAT, "'%s' has two records '%.200s'", kd_safetensors_path(file),
                           name);
    return KDAS_OK;
}

/* A file of no bytes is no file of another kind: the disk was full, or the machine lost its power. */
static kdas_status refuse_empty(kdas_context *ctx, const char *path)
{
    kd_file    *file = NULL;
    kdas_status st   = kd_file_open(&file, ctx, path);

    if (st == KDAS_OK && kd_file_size(file) == 0)
        st = kd_fail(KDAS_EFORMAT, "'%s' is empty: it was not written to its end", path);
    kd_file_close(file);
    return st;
}

kdas_status kd_container_open(kd_container **out, kdas_context *ctx, const char *path)
{
    kdas_status   st;
    kd_container *c = kd_calloc(ctx, 1, sizeof *c);

    *out = NULL;
    if (!c) return KDAS_ENOMEM;
    c->ctx = ctx;
    KD_TRY(refuse_empty(ctx, path));
    KD_TRY(kd_safetensors_open(&c->file, ctx, path));
    KD_TRY(check_format(c->file));
    KD_TRY(kd_safetensors_verify(c->file));
    KD_TRY(check_names(c->file));
    *out = c;
    c    = NULL;
done:
    kd_container_close(c);
    return st;
}

void kd_container_close(kd_container *container)
{
    if (!container) return;
    kd_safetensors_close(container->file);
    kd_free(container->ctx, container);
}

const kd_safetensors *kd_container_file(const kd_container *c) { return c->file; }
const char           *kd_container_path(const kd_container *container)
{
    return kd_safetensors_path(container->file);
}

const kd_st_tensor *kd_container_find(const kd_container *container, const char *name)
{
    return kd_safetensors_find(container->file, name);
}

int64_t kd_container_count(const kd_container *container)
{
    return kd_safetensors_count(container->file);
}

const kd_st_tensor *kd_container_at(const kd_container *container, int64_t i)
{
    return kd_safetensors_at(container->file, i);
}

const char *kd_container_text_at(const kd_container *container, int64_t i, const char **name)
{
    return kd_safetensors_text_at(container->file, i, name);
}

static kdas_status missing(const kd_container *c, const char *name)
{
    return kd_fail(KDAS_ENOTFOUND, "checkpoint '%s' has no record '%.200s'", kd_container_path(c),
                   name);
}

/* "F32 3x4", "I64 scalar". */
static void say_kind(char *to, size_t size, kd_st_dtype dtype, int rank, const int64_t *dims)
{
    size_t n = (size_t)snprintf(to, size, "%s%s", kd_st_dtype_name(dtype), rank ? " " : " scalar");

    for (int i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(to + n, size - n, "%s%lld", i ? "x" : "", (long long)dims[i]);
}

kdas_status kd_container_get(kd_container *container, const char *name, kd_st_dtype dtype, int rank,
                             const int64_t *dims, void *to)
{
    const kd_st_tensor *t = kd_container_find(container, name);
    char                has[200], wanted[200];

    if (!t) return missing(container, name);
    if (t->dtype == dtype && t->rank == rank &&
        (rank == 0 || memcmp(t->dim, dims, (size_t)rank * sizeof *dims) == 0))
        return kd_safetensors_read(container->file, t, to);
    say_kind(has, sizeof has, t->dtype, t->rank, t->dim);
    say_kind(wanted, sizeof wanted, dtype, rank, dims);
    return kd_fail(KDAS_ESHAPE, "record '%.200s' of checkpoint '%s' is %s, not %s", name,
                   kd_container_path(container), has, wanted);
}

static kdas_status get_scalar(kd_container *c, const char *name, kd_st_dtype dtype, void *out)
{
    const kd_st_tensor *t = kd_container_find(c, name);

    if (!t) return missing(c, name);
    if (t->dtype != dtype || t->rank != 0)
        return kd_fail(KDAS_EFORMAT, "record '%.200s' of checkpoint '%s' is not one %s number",
                       name, kd_container_path(c), kd_st_dtype_name(dtype));
    return kd_safetensors_read(c->file, t, out);
}

kdas_status kd_container_get_i64(kd_container *container, const char *name, int64_t *out)
{
    return get_scalar(container, name, KD_ST_I64, out);
}

kdas_status kd_container_get_u64(kd_container *container, const char *name, uint64_t *out)
{
    return get_scalar(container, name, KD_ST_U64, out);
}

kdas_status kd_container_get_f64(kd_container *container, const char *name, double *out)
{
    return get_scalar(container, name, KD_ST_F64, out);
}

bool kd_container_has_text(const kd_container *container, const char *name)
{
    return !is_reserved(name) && kd_safetensors_text(container->file, name);
}

kdas_status kd_container_get_text(kd_container *container, const char *name, const char **out)
{
    const char *text = is_reserved(name) ? NULL : kd_safetensors_text(container->file, name);

    if (!text) return missing(container, name);
    *out = text;
    return KDAS_OK;
}
