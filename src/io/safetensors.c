/* safetensors.c - reading safetensors files. Nothing in a header is believed: every number is
 * checked against the file before memory is taken for it. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "io/crc.h"
#include "io/safetensors.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are read and written as they lie in memory, which must be little-endian"
#endif

#define EXACT 9007199254740992.0 /* 2^53: up to here a JSON number says which integer it means */

struct text_pair {
    const char *key, *value;
};

struct kd_safetensors {
    kdas_context     *ctx;
    kd_file          *file;
    uint64_t          data;   /* where the tensors' bytes begin                    */
    char             *pool;   /* the header's text, then the strings taken from it */
    size_t            header; /* bytes of it                                       */
    size_t            used;   /* of pool                                           */
    kd_st_tensor     *tensor; /* by name                                           */
    int64_t           count;
    struct text_pair *text;
    int64_t           texts;
};

static const struct {
    const char *name;
    size_t      size;
} dtypes[KD_ST_DTYPES] = {
    [KD_ST_F32] = { "F32", 4 },   [KD_ST_F64] = { "F64", 8 }, [KD_ST_F16] = { "F16", 2 },
    [KD_ST_BF16] = { "BF16", 2 }, [KD_ST_I64] = { "I64", 8 }, [KD_ST_I32] = { "I32", 4 },
    [KD_ST_I16] = { "I16", 2 },   [KD_ST_I8] = { "I8", 1 },   [KD_ST_U64] = { "U64", 8 },
    [KD_ST_U32] = { "U32", 4 },   [KD_ST_U16] = { "U16", 2 }, [KD_ST_U8] = { "U8", 1 },
    [KD_ST_BOOL] = { "BOOL", 1 },
};

const char *kd_st_dtype_name(kd_st_dtype dtype) { return dtypes[dtype].name; }
size_t      kd_st_dtype_size(kd_st_dtype dtype) { return dtypes[dtype].size; }

int64_t kd_st_elements(int rank, const int64_t *dims)
{
    int64_t n = 1;

    for (int i = 0; i < rank; i++)
        if (dims[i] < 0 || __builtin_mul_overflow(n, dims[i], &n)) return -1;
    return n;
}

bool kd_st_is_utf8(const char *text, size_t n)
{
    static const uint32_t least[4] = { 1, 0x80, 0x800, 0x10000 }; /* below, a shorter form exists */
    const unsigned char  *p        = (const unsigned char *)text;

    for (size_t i = 0; i < n;) {
        uint32_t c     = p[i];
        size_t   more  = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : 4;
        uint32_t point = more ? c & (0x3Fu >> more) : c;

        if (more == 4 || more >= n - i) return false;
        for (size_t k = 1; k <= more; k++) {
            if (p[i + k] >> 6 != 2) return false;
            point = point << 6 | (p[i + k] & 0x3F);
        }
        if (point < least[more] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000))
            return false;
        i += more + 1;
    }
    return true;
}

/* ---- The header ------------------------------------------------------------------------------ */

static kdas_status bad(const kd_safetensors *f, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "'%s' is not a usable safetensors file: %s", kd_file_path(f->file),
                   why);
}

static kdas_status bad_tensor(const kd_safetensors *f, const char *name, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "tensor '%.200s' of '%s': %s", name, kd_file_path(f->file), why);
}

/* Other things that people call weights, by their first bytes. */
static const char *foreign(const unsigned char *head)
{
    if (memcmp(head, "PK\3\4", 4) == 0)
        return "it is a zip archive, as PyTorch saves; export it to safetensors";
    if (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5)
        return "it is a Python pickle, as PyTorch saves; export it to safetensors";
    if (memcmp(head, "\x89HDF", 4) == 0) return "it is an HDF5 file; export it to safetensors";
    return NULL;
}

static kdas_status read_header(kd_safetensors *f)
{
    uint64_t      size = kd_file_size(f->file), n = 0;
    unsigned char head[8];

    if (size < sizeof head) return bad(f, "it is too short for a header");
    KD_RETURN(kd_file_read(f->file, 0, head, sizeof head));
    for (int i = 8; i-- > 0;)
        n = n << 8 | head[i];
    if (n > size - 8 || n > KD_ST_MAX_HEADER) {
        const char *kind = foreign(head);

        if (kind) return bad(f, kind);
        return kd_fail(KDAS_EFORMAT,
                       "'%s' is not a usable safetensors file: its header has %llu bytes by its "
                       "own account, the file has %llu, and at most %u are read",
                       kd_file_path(f->file), (unsigned long long)n, (unsigned long long)size,
                       KD_ST_MAX_HEADER);
    }
    f->header = (size_t)n;
    f->data   = 8 + n;
    f->pool   = kd_alloc(f->ctx, f->header + 1);
    if (!f->pool) return KDAS_ENOMEM;
    KD_RETURN(kd_file_read(f->file, 8, f->pool, f->header));
    f->pool[n] = 0;
    if (n == 0 || f->pool[0] != '{') return bad(f, "its header is not a JSON object");
    if (!kd_st_is_utf8(f->pool, f->header)) return bad(f, "its header is not UTF-8 text");
    if (strstr(f->pool, "\\u0000")) return bad(f, "a name in its header holds a NUL");
    return KDAS_OK;
}

/* More values than a file of KD_ST_MAX_TENSORS can have: refused before they become objects in
 * memory. */
static bool too_many_values(const kd_safetensors *f)
{
    size_t n = 0;

    for (size_t i = 0; i < f->header; i++)
        n += f->pool[i] == ',' || f->pool[i] == '{' || f->pool[i] == '[';
    return n > (size_t)KD_ST_MAX_TENSORS * 20;
}

/* cJSON's memory comes from malloc: its hooks are the whole process's, and thus the host's. */
static kdas_status parse_header(const kd_safetensors *f, cJSON **out)
{
    const char *end = NULL;
    cJSON      *json;
    locale_t    plain;

    if (too_many_values(f)) return bad(f, "its header lists too many tensors");
    plain = kd_locale_plain(); /* cJSON reads numbers by the locale */
    errno = 0;
    json  = cJSON_ParseWithLengthOpts(f->pool, f->header, &end, 0);
    kd_locale_back(plain);
    if (!json && errno == ENOMEM)
        return kd_fail(KDAS_ENOMEM, "out of memory: the header of '%s'", kd_file_path(f->file));
    if (!json)
        return kd_fail(KDAS_EFORMAT,
                       "'%s' is not a usable safetensors file: its header is not JSON at "
                       "byte %zu",
                       kd_file_path(f->file), end ? (size_t)(end - f->pool) : 0);
    while (*end == ' ' || *end == '\n' || *end == '\r' || *end == '\t')
        end++;
    if (end != f->pool + f->header) {
        cJSON_Delete(json);
        return bad(f, "something follows the JSON of its header");
    }
    *out = json;
    return KDAS_OK;
}

/* Strings are shorter than the JSON that they came from, so that the header's own buffer holds
 * them. */
static const char *keep(kd_safetensors *f, const char *text)
{
    size_t n  = strlen(text) + 1;
    char  *to = f->pool + f->used;

    memcpy(to, text, n);
    f->used += n;
    return to;
}

static kdas_status take_texts(kd_safetensors *f, const cJSON *object)
{
    const cJSON *item;

    if (cJSON_IsNull(object)) return KDAS_OK;
    if (!cJSON_IsObject(object)) return bad(f, "its __metadata__ is not an object");
    if (cJSON_GetArraySize(object) > KD_ST_MAX_TEXTS) return bad(f, "its __metadata__ is too long");
    if (f->text) return bad(f, "it has two __metadata__ objects");
    f->text = kd_calloc(f->ctx, (size_t)cJSON_GetArraySize(object), sizeof *f->text);
    if (!f->text) return KDAS_ENOMEM;
    cJSON_ArrayForEach(item, object)
    {
        if (!cJSON_IsString(item)) return bad(f, "its __metadata__ holds more than strings");
        if (kd_safetensors_text(f, item->string))
            return bad(f, "its __metadata__ names a string twice");
        f->text[f->texts].key   = keep(f, item->string);
        f->text[f->texts].value = keep(f, item->valuestring);
        f->texts++;
    }
    return KDAS_OK;
}

/* A whole number from 0 to 2^53, or -1. */
static int64_t whole(const cJSON *number)
{
    double v = cJSON_IsNumber(number) ? number->valuedouble : -1;

    if (!(v >= 0 && v <= EXACT)) return -1;
    return (double)(int64_t)v == v ? (int64_t)v : -1;
}

static kdas_status take_shape(kd_safetensors *f, kd_st_tensor *t, const cJSON *item)
{
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape"), *dim;

    if (!cJSON_IsArray(shape)) return bad_tensor(f, item->string, "it has no shape");
    cJSON_ArrayForEach(dim, shape)
    {
        if (t->rank == KD_ST_MAX_RANK)
            return bad_tensor(f, item->string, "it has more than 8 dimensions");
        t->dim[t->rank] = whole(dim);
        if (t->dim[t->rank++] < 0)
            return bad_tensor(f, item->string, "a dimension is not a whole number from 0 to 2^53");
    }
    t->count = kd_st_elements(t->rank, t->dim);
    if (t->count < 0 || t->count > INT64_MAX / 8)
        return bad_tensor(f, item->string, "its shape has more elements than can be counted");
    return KDAS_OK;
}

static kdas_status take_tensor(kd_safetensors *f, const cJSON *item)
{
    const cJSON  *type    = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON  *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    uint64_t      size    = kd_file_size(f->file) - f->data;
    kd_st_tensor *t       = &f->tensor[f->count];
    int64_t       begin, end;
    int           d = 0;

    if (!cJSON_IsObject(item)) return bad_tensor(f, item->string, "its entry is not an object");
    if (!cJSON_IsString(type)) return bad_tensor(f, item->string, "it has no dtype");
    while (d < KD_ST_DTYPES && strcmp(dtypes[d].name, type->valuestring) != 0)
        d++;
    if (d == KD_ST_DTYPES)
        return kd_fail(KDAS_EFORMAT, "tensor '%.200s' of '%s': dtype '%.40s' is not known",
                       item->string, kd_file_path(f->file), type->valuestring);
    t->dtype = (kd_st_dtype)d;
    KD_RETURN(take_shape(f, t, item));
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2)
        return bad_tensor(f, item->string, "its data_offsets are not two numbers");
    begin = whole(cJSON_GetArrayItem(offsets, 0));
    end   = whole(cJSON_GetArrayItem(offsets, 1));
    if (begin < 0 || end < begin)
        return bad_tensor(f, item->string, "its data_offsets are not two whole numbers in order");
    if ((uint64_t)end > size)
        return bad_tensor(f, item->string,
                          "its bytes lie past the end of the file, which may be cut off");
    t->bytes = (uint64_t)t->count * dtypes[d].size;
    if ((uint64_t)(end - begin) != t->bytes)
        return kd_fail(KDAS_EFORMAT,
                       "tensor '%.200s' of '%s': its shape needs %llu bytes, it has %lld",
                       item->string, kd_file_path(f->file), (unsigned long long)t->bytes,
                       (long long)(end - begin));
    t->offset = f->data + (uint64_t)begin;
    t->name   = keep(f, item->string);
    f->count++;
    return KDAS_OK;
}

static int by_offset(const void *a, const void *b)
{
    const kd_st_tensor *x = a, *y = b;

    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const kd_st_tensor *)a)->name, ((const kd_st_tensor *)b)->name);
}

/* Each tensor begins where the one before ends, the last ends with the file, names differ. */
static kdas_status check_together(kd_safetensors *f)
{
    uint64_t at = f->data;

    qsort(f->tensor, (size_t)f->count, sizeof *f->tensor, by_offset);
    for (int64_t i = 0; i < f->count; i++) {
        const kd_st_tensor *t = &f->tensor[i];

        if (t->offset < at) return bad_tensor(f, t->name, "its bytes overlap another tensor's");
        if (t->offset > at) return bad_tensor(f, t->name, "bytes before it belong to no tensor");
        at += t->bytes;
    }
    if (at != kd_file_size(f->file)) return bad(f, "bytes at its end belong to no tensor");
    qsort(f->tensor, (size_t)f->count, sizeof *f->tensor, by_name);
    for (int64_t i = 1; i < f->count; i++)
        if (strcmp(f->tensor[i].name, f->tensor[i - 1].name) == 0)
            return bad_tensor(f, f->tensor[i].name, "the name is used twice");
    return KDAS_OK;
}

kdas_status kd_safetensors_open(kd_safetensors **out, kdas_context *ctx, const char *path)
{
    kdas_status     st   = KDAS_OK;
    cJSON          *json = NULL;
    const cJSON    *item;
    kd_safetensors *f = kd_calloc(ctx, 1, sizeof *f);

    *out = NULL;
    if (!f) return KDAS_ENOMEM;
    f->ctx = ctx;
    KD_TRY(kd_file_open(&f->file, ctx, path));
    KD_TRY(read_header(f));
    KD_TRY(parse_header(f, &json));
    f->tensor = kd_calloc(ctx, (size_t)cJSON_GetArraySize(json), sizeof *f->tensor);
    if (!f->tensor) {
        st = KDAS_ENOMEM;
        goto done;
    }
    cJSON_ArrayForEach(item, json)
    {
        if (strcmp(item->string, "__metadata__") == 0)
            KD_TRY(take_texts(f, item));
        else
            KD_TRY(take_tensor(f, item));
    }
    KD_TRY(check_together(f));
    *out = f;
    f    = NULL;
done:
    cJSON_Delete(json);
    kd_safetensors_close(f);
    return st;
}

void kd_safetensors_close(kd_safetensors *file)
{
    if (!file) return;
    kd_file_close(file->file);
    kd_free(file->ctx, file->pool);
    kd_free(file->ctx, file->tensor);
    kd_free(file->ctx, file->text);
    kd_free(file->ctx, file);
}

const char *kd_safetensors_path(const kd_safetensors *file) { return kd_file_path(file->file); }
int64_t     kd_safetensors_count(const kd_safetensors *file) { return file->count; }

const kd_st_tensor *kd_safetensors_at(const kd_safetensors *file, int64_t i)
{
    return i >= 0 && i < file->count ? &file->tensor[i] : NULL;
}

const kd_st_tensor *kd_safetensors_find(const kd_safetensors *file, const char *name)
{
    kd_st_tensor key = { .name = name };

    return bsearch(&key, file->tensor, (size_t)file->count, sizeof key, by_name);
}

const char *kd_safetensors_text(const kd_safetensors *file, const char *key)
{
    for (int64_t i = 0; i < file->texts; i++)
        if (strcmp(file->text[i].key, key) == 0) return file->text[i].value;
    return NULL;
}

/* ---- Elements -------------------------------------------------------------------------------- */

kdas_status kd_safetensors_read(kd_safetensors *file, const kd_st_tensor *tensor, void *to)
{
    return kd_file_read(file->file, tensor->offset, to, (size_t)tensor->bytes);
}

static float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, bits;
    float    f = (float)(h & 0x3FF) * 0x1p-24f; /* a subnormal number */

    if (exponent == 0) return sign ? -f : f;
    bits = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | (uint32_t)(h & 0x3FF) << 13;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float bfloat_to_float(uint16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float    f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* n elements of type T at `from` (which may lie anywhere), each through `expression` of x. */
#define EACH(T, expression)                        \
    for (size_t i = 0; i < n; i++) {               \
        T x;                                       \
        memcpy(&x, from + i * sizeof x, sizeof x); \
        to[i] = (float)(expression);               \
    }                                              \
    break

static void to_floats(float *to, const unsigned char *from, size_t n, kd_st_dtype dtype)
{
    switch (dtype) {
    case KD_ST_F32: EACH(float, x);
    case KD_ST_F64: EACH(double, x);
    case KD_ST_F16: EACH(uint16_t, half_to_float(x));
    case KD_ST_BF16: EACH(uint16_t, bfloat_to_float(x));
    case KD_ST_I64: EACH(int64_t, x);
    case KD_ST_I32: EACH(int32_t, x);
    case KD_ST_I16: EACH(int16_t, x);
    case KD_ST_I8: EACH(int8_t, x);
    case KD_ST_U64: EACH(uint64_t, x);
    case KD_ST_U32: EACH(uint32_t, x);
    case KD_ST_U16: EACH(uint16_t, x);
    case KD_ST_U8: EACH(uint8_t, x);
    case KD_ST_BOOL: EACH(uint8_t, x != 0);
    case KD_ST_DTYPES: break;
    }
}

kdas_status kd_safetensors_read_float(kd_safetensors *file, const kd_st_tensor *tensor, float *to)
{
    unsigned char part[16384];
    size_t        size = dtypes[tensor->dtype].size;
    uint64_t      at   = tensor->offset;

    if (tensor->dtype == KD_ST_F32) return kd_safetensors_read(file, tensor, to);
    for (int64_t left = tensor->count; left > 0;) {
        size_t n = (size_t)KD_MIN(left, (int64_t)(sizeof part / size));

        KD_RETURN(kd_file_read(file->file, at, part, n * size));
        to_floats(to, part, n, tensor->dtype);
        at += n * size;
        to += n;
        left -= (int64_t)n;
    }
    return KDAS_OK;
}

/* ---- Checksum -------------------------------------------------------------------------------- */

/* CRC-32 of bytes `at` .. `end` of the file. */
static kdas_status crc_of(kd_safetensors *f, uint32_t *crc, uint64_t at, uint64_t end)
{
    unsigned char part[16384];

    while (at < end) {
        size_t n = (size_t)KD_MIN(end - at, sizeof part);

        KD_RETURN(kd_file_read(f->file, at, part, n));
        *crc = kd_crc32(*crc, part, n);
        at += n;
    }
    return KDAS_OK;
}

kdas_status kd_safetensors_verify(kd_safetensors *file)
{
    kdas_status st     = KDAS_OK;
    char       *header = kd_alloc(file->ctx, file->data + 1), *digits, digest[9];
    uint32_t    crc;

    if (!header) return KDAS_ENOMEM;
    KD_TRY(kd_file_read(file->file, 0, header, (size_t)file->data));
    header[file->data] = 0;

    digits = strstr(header + 8, KD_ST_CHECKSUM_MARK);
    if (!digits || strlen(digits += sizeof KD_ST_CHECKSUM_MARK - 1) < 8) {
        st = bad(file, "it has no checksum");
        goto done;
    }
    memcpy(digest, digits, 8);
    digest[8] = 0;
    memset(digits, '0', 8);
    crc = kd_crc32(0, header, (size_t)file->data);
    KD_TRY(crc_of(file, &crc, file->data, kd_file_size(file->file)));
    snprintf(header, 9, "%08x", (unsigned)crc);
    if (strcmp(header, digest) != 0) st = bad(file, "it is damaged, its checksum differs");
done:
    kd_free(file->ctx, header);
    return st;
}
