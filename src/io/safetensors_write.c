/* safetensors_write.c - writing safetensors files. */
#include <stdio.h>
#include <string.h>
#include "io/crc.h"
#include "io/safetensors.h"

struct entry {
    char         *name;
    uint64_t      hash;
    kd_st_dtype   dtype;
    int           rank;
    int64_t       dim[KD_ST_MAX_RANK];
    uint64_t      bytes;
    const void   *data;     /* the caller's, or NULL: */
    unsigned char value[8]; /* a scalar's own bytes */
};

struct pair {
    char *key, *value;
};

struct kd_st_writer {
    kdas_context *ctx;
    struct entry *entry;
    size_t        count, capacity;
    struct pair  *text;
    size_t        texts, text_capacity;
};

kdas_status kd_st_writer_create(kd_st_writer **out, kdas_context *ctx)
{
    *out = kd_calloc(ctx, 1, sizeof **out);
    if (!*out) return KDAS_ENOMEM;
    (*out)->ctx = ctx;
    return KDAS_OK;
}

void kd_st_writer_destroy(kd_st_writer *writer)
{
    if (!writer) return;
    for (size_t i = 0; i < writer->count; i++)
        kd_free(writer->ctx, writer->entry[i].name);
    for (size_t i = 0; i < writer->texts; i++) {
        kd_free(writer->ctx, writer->text[i].key);
        kd_free(writer->ctx, writer->text[i].value);
    }
    kd_free(writer->ctx, writer->entry);
    kd_free(writer->ctx, writer->text);
    kd_free(writer->ctx, writer);
}

/* ---- Entries --------------------------------------------------------------------------------- */

static kdas_status check_name(const kd_st_writer *w, const char *name, uint64_t hash)
{
    if (!name || !*name || strcmp(name, "__metadata__") == 0)
        return kd_fail(KDAS_EINVAL, "a tensor needs a name, and not '%s'", name ? name : "NULL");
    if (!kd_st_is_utf8(name, strlen(name)))
        return kd_fail(KDAS_EINVAL, "the name of tensor %zu is not UTF-8", w->count);
    for (size_t i = 0; i < w->count; i++)
        if (w->entry[i].hash == hash && strcmp(w->entry[i].name, name) == 0)
            return kd_fail(KDAS_EINVAL, "tensor '%.200s' is put twice", name);
    if (w->count >= KD_ST_MAX_TENSORS)
        return kd_fail(KDAS_EINVAL, "tensor '%.200s': a file holds at most %d", name,
                       KD_ST_MAX_TENSORS);
    return KDAS_OK;
}

/* Add an entry; the caller sets `data`. */
static kdas_status add(kd_st_writer *w, const char *name, kd_st_dtype dtype, int rank,
                       const int64_t *dims, const void *data)
{
    struct entry e = { .dtype = dtype, .rank = rank, .hash = name ? kd_hash64(name) : 0 };
    int64_t      elements;

    KD_RETURN(check_name(w, name, e.hash));
    if ((int)dtype < 0 || dtype >= KD_ST_DTYPES || rank < 0 || rank > KD_ST_MAX_RANK ||
        (rank && !dims))
        return kd_fail(KDAS_EINVAL, "tensor '%.200s': dtype %d or rank %d is out of range", name,
                       (int)dtype, rank);
    elements = kd_st_elements(rank, dims);
    if (elements < 0 || elements > INT64_MAX / 8)
        return kd_fail(KDAS_EINVAL, "tensor '%.200s': its dimensions are out of range", name);
    if (elements > 0 && !data) return kd_fail(KDAS_EINVAL, "tensor '%.200s' has no data", name);
    if (rank) memcpy(e.dim, dims, (size_t)rank * sizeof *dims);
    e.bytes = (uint64_t)elements * kd_st_dtype_size(dtype);
    KD_RETURN(kd_grow(w->ctx, (void **)&w->entry, &w->capacity, w->count + 1, sizeof *w->entry));
    e.name = kd_strdup(w->ctx, name);
    if (!e.name) return KDAS_ENOMEM;
    w->entry[w->count++] = e;
    return KDAS_OK;
}

kdas_status kd_st_writer_put(kd_st_writer *writer, const char *name, kd_st_dtype dtype, int rank,
                             const int64_t *dims, const void *data)
{
    KD_RETURN(add(writer, name, dtype, rank, dims, data));
    writer->entry[writer->count - 1].data = data;
    return KDAS_OK;
}

kdas_status kd_st_writer_put_scalar(kd_st_writer *writer, const char *name, kd_st_dtype dtype,
                                    const void *value)
{
    struct entry *e;

    KD_RETURN(add(writer, name, dtype, 0, NULL, value));
    e = &writer->entry[writer->count - 1];
    memcpy(e->value, value, (size_t)e->bytes);
    return KDAS_OK;
}

kdas_status kd_st_writer_put_text(kd_st_writer *writer, const char *key, const char *value)
{
    struct pair p;

    if (!key || !value || !kd_st_is_utf8(key, strlen(key)) || !kd_st_is_utf8(value, strlen(value)))
        return kd_fail(KDAS_EINVAL, "text '%.200s' is NULL or not UTF-8", key ? key : "NULL");
    if (writer->texts >= KD_ST_MAX_TEXTS)
        return kd_fail(KDAS_EINVAL, "text '%.200s': a file holds at most %d", key, KD_ST_MAX_TEXTS);
    for (size_t i = 0; i < writer->texts; i++)
        if (strcmp(writer->text[i].key, key) == 0)
            return kd_fail(KDAS_EINVAL, "text '%.200s' is put twice", key);
    KD_RETURN(kd_grow(writer->ctx, (void **)&writer->text, &writer->text_capacity,
                      writer->texts + 1, sizeof *writer->text));
    p.key   = kd_strdup(writer->ctx, key);
    p.value = kd_strdup(writer->ctx, value);
    if (!p.key || !p.value) {
        kd_free(writer->ctx, p.key);
        kd_free(writer->ctx, p.value);
        return KDAS_ENOMEM;
    }
    writer->text[writer->texts++] = p;
    return KDAS_OK;
}

/* ---- The header ------------------------------------------------------------------------------ */

/* The header is produced twice: once to measure it, once to write it. */
struct text {
    char  *to; /* NULL: measure */
    size_t n;
};

static void say_n(struct text *t, const char *s, size_t n)
{
    if (t->to) memcpy(t->to + t->n, s, n);
    t->n += n;
}

static void say(struct text *t, const char *s) { say_n(t, s, strlen(s)); }

static void say_number(struct text *t, uint64_t v)
{
    char digits[24];

    say_n(t, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)v));
}

static void say_string(struct text *t, const char *s)
{
    char escape[8];

    say_n(t, "\"", 1);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            say_n(t, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", c));
        else if (c < 0x20 || c == 0x7F)
            say_n(t, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        else
            say_n(t, s, 1);
    }
    say_n(t, "\"", 1);
}

static void say_texts(struct text *t, const kd_st_writer *w, bool checksum)
{
    if (!checksum && w->texts == 0) return;
    say(t, "\"__metadata__\":{");
    if (checksum) say(t, KD_ST_CHECKSUM_MARK "00000000\"");
    for (size_t i = 0; i < w->texts; i++) {
        say(t, checksum || i > 0 ? "," : "");
        say_string(t, w->text[i].key);
        say(t, ":");
        say_string(t, w->text[i].value);
    }
    say(t, w->count > 0 ? "}," : "}");
}

static void say_header(struct text *t, const kd_st_writer *w, bool checksum)
{
    uint64_t at = 0;

    say(t, "{");
    say_texts(t, w, checksum);
    for (size_t i = 0; i < w->count; i++) {
        const struct entry *e = &w->entry[i];

        say(t, i > 0 ? "," : "");
        say_string(t, e->name);
        say(t, ":{\"dtype\":\"");
        say(t, kd_st_dtype_name(e->dtype));
        say(t, "\",\"shape\":[");
        for (int d = 0; d < e->rank; d++) {
            say(t, d > 0 ? "," : "");
            say_number(t, (uint64_t)e->dim[d]);
        }
        say(t, "],\"data_offsets\":[");
        say_number(t, at);
        say(t, ",");
        say_number(t, at += e->bytes);
        say(t, "]}");
    }
    say(t, "}");
    while (t->n % 8)
        say(t, " ");
}

static const void *entry_data(const struct entry *e) { return e->data ? e->data : e->value; }

/* The checksum's digits come first in the metadata, so that no other text can be taken for them. */
static void fill_checksum(const kd_st_writer *w, char *header, size_t n)
{
    char    *digits = strstr(header + 8, KD_ST_CHECKSUM_MARK) + sizeof KD_ST_CHECKSUM_MARK - 1;
    char     text[9];
    uint32_t crc = kd_crc32(0, header, n);

    for (size_t i = 0; i < w->count; i++)
        crc = kd_crc32(crc, entry_data(&w->entry[i]), (size_t)w->entry[i].bytes);
    snprintf(text, sizeof text, "%08x", (unsigned)crc);
    memcpy(digits, text, 8);
}

/* The length and the header: what precedes the tensors' bytes. kd_free it; NULL with
 * the sentence set. */
static char *make_header(const kd_st_writer *w, bool checksum, size_t *n, kdas_status *st)
{
    struct text t = { 0 };
    uint64_t    length;
    char       *header;

    say_header(&t, w, checksum);
    length = t.n;
    *n     = t.n + sizeof length;
    *st    = KDAS_ENOMEM;
    if (length > KD_ST_MAX_HEADER) {
        *st = kd_fail(KDAS_EINVAL, "a header of %zu bytes could not be read again; at most %u are",
                      t.n, KD_ST_MAX_HEADER);
        return NULL;
    }
    header = kd_calloc(w->ctx, *n + 1, 1);
    if (!header) return NULL;
    memcpy(header, &length, sizeof length);
    t = (struct text){ .to = header + sizeof length };
    say_header(&t, w, checksum);
    if (checksum) fill_checksum(w, header, *n);
    return header;
}

kdas_status kd_st_writer_save(kd_st_writer *writer, const char *path, bool checksum)
{
    kdas_status st     = KDAS_OK;
    kd_writer  *file   = NULL;
    char       *header = NULL;
    size_t      n;

    for (size_t i = 0; checksum && i < writer->texts; i++)
        if (strcmp(writer->text[i].key, KD_ST_CHECKSUM_KEY) == 0)
            return kd_fail(KDAS_EINVAL, "text '" KD_ST_CHECKSUM_KEY "' is the file's own");
    header = make_header(writer, checksum, &n, &st);
    if (!header) return st;
    st = KDAS_OK;
    KD_TRY(kd_writer_open(&file, writer->ctx, path));
    KD_TRY(kd_writer_put(file, header, n));
    for (size_t i = 0; i < writer->count; i++)
        KD_TRY(kd_writer_put(file, entry_data(&writer->entry[i]), (size_t)writer->entry[i].bytes));
    st = kd_writer_commit(&file);
done:
    kd_writer_discard(file);
    kd_free(writer->ctx, header);
    return st;
}
