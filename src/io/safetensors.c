/* safetensors.c - reading safetensors files. A header is untrusted: every number is checked against
 * the file before memory is allocated for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/sizes.h"
#include "base/text.h"
#include "io/crc.h"
#include "io/json.h"
#include "io/kind.h"
#include "io/safetensors.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are read and written as they lie in memory, which must be little-endian"
#endif

/* More values than a file of KD_ST_MAX_TENSORS can have. */
#define MAX_VALUES ((size_t)KD_ST_MAX_TENSORS * 20)

#define BLANKS " \t\r\n" /* of JSON */

struct text_pair {
    const char *key, *value;
};

struct kd_safetensors {
    kdas_context     *ctx;
    kd_file          *file;
    uint64_t          data;   /* where the tensors' bytes begin                 */
    char             *header; /* its text; names and strings are decoded in it  */
    size_t            length; /* bytes of it                                    */
    kd_st_tensor     *tensor; /* by name                                        */
    int64_t           count;
    struct text_pair *text;
    int64_t           texts;
};

static const struct {
    const char *name;
    unsigned    bits;
} dtypes[KD_ST_DTYPES] = {
    [KD_ST_F32]         = { "F32", 32 },
    [KD_ST_F64]         = { "F64", 64 },
    [KD_ST_F16]         = { "F16", 16 },
    [KD_ST_BF16]        = { "BF16", 16 },
    [KD_ST_I64]         = { "I64", 64 },
    [KD_ST_I32]         = { "I32", 32 },
    [KD_ST_I16]         = { "I16", 16 },
    [KD_ST_I8]          = { "I8", 8 },
    [KD_ST_U64]         = { "U64", 64 },
    [KD_ST_U32]         = { "U32", 32 },
    [KD_ST_U16]         = { "U16", 16 },
    [KD_ST_U8]          = { "U8", 8 },
    [KD_ST_BOOL]        = { "BOOL", 8 },
    [KD_ST_F4]          = { "F4", 4 },
    [KD_ST_F6_E2M3]     = { "F6_E2M3", 6 },
    [KD_ST_F6_E3M2]     = { "F6_E3M2", 6 },
    [KD_ST_F8_E5M2]     = { "F8_E5M2", 8 },
    [KD_ST_F8_E4M3]     = { "F8_E4M3", 8 },
    [KD_ST_F8_E8M0]     = { "F8_E8M0", 8 },
    [KD_ST_F8_E4M3FNUZ] = { "F8_E4M3FNUZ", 8 },
    [KD_ST_F8_E5M2FNUZ] = { "F8_E5M2FNUZ", 8 },
    [KD_ST_C64]         = { "C64", 64 },
};

const char *kd_st_dtype_name(kd_st_dtype dtype) { return dtypes[dtype].name; }
size_t      kd_st_dtype_size(kd_st_dtype dtype) { return dtypes[dtype].bits / 8; }
bool        kd_st_is_number(kd_st_dtype dtype) { return dtype < KD_ST_F4; }

int64_t kd_st_elements(int rank, const int64_t *dims)
{
    int64_t n = -1;

    kd_product_of(&n, rank, dims);
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

static kdas_status read_header(kd_safetensors *f)
{
    uint64_t      size = kd_file_size(f->file), n = 0;
    unsigned char head[8];

    if (size < sizeof head) {
        KD_RETURN(kd_kind_refuse(kd_kind_of_file(f->file), kd_file_path(f->file),
                                 "a safetensors file", "give a safetensors file"));
        return bad(f, "it is too short for a header");
    }
    KD_RETURN(kd_file_read(f->file, 0, head, sizeof head));
    for (int i = 8; i-- > 0;)
        n = n << 8 | head[i];
    if (n > size - 8 || n > KD_ST_MAX_HEADER) {
        KD_RETURN(kd_kind_refuse(kd_kind_of_file(f->file), kd_file_path(f->file),
                                 "a safetensors file", "give a safetensors file"));
        return kd_fail(KDAS_EFORMAT,
                       "'%s' is not a usable safetensors file: its header has %llu bytes by its "
                       "own account, the file has %llu, and at most %u are read",
                       kd_file_path(f->file), (unsigned long long)n, (unsigned long long)size,
                       KD_ST_MAX_HEADER);
    }
    f->length = (size_t)n;
    f->data   = 8 + n;
    f->header = kd_alloc(f->ctx, f->length + 1);
    if (!f->header) return KDAS_ENOMEM;
    KD_RETURN(kd_file_read(f->file, 8, f->header, f->length));
    f->header[n] = 0;
    if (f->header[strspn(f->header, BLANKS)] != '{')
        return bad(f, "its header is not a JSON object");
    if (memchr(f->header, 0, f->length))
        return bad(f, "its header has a NUL, which JSON has not; save it anew without padding");
    if (!kd_st_is_utf8(f->header, f->length)) return bad(f, "its header is not UTF-8 text");
    return KDAS_OK;
}

static kdas_status take_texts(kd_safetensors *f, const kd_json *json, int object)
{
    if (kd_json_is_null(json, object)) return KDAS_OK;
    if (!kd_json_is_object(json, object)) return bad(f, "its __metadata__ is not an object");
    if (kd_json_size(json, object) > KD_ST_MAX_TEXTS) return bad(f, "its __metadata__ is too long");
    if (f->text) return bad(f, "it has two __metadata__ objects");
    f->text = kd_calloc(f->ctx, (size_t)kd_json_size(json, object), sizeof *f->text);
    if (!f->text) return KDAS_ENOMEM;
    for (int key = kd_json_first(json, object); key; key = kd_json_next(json, key)) {
        struct text_pair pair = { kd_json_text(json, key),
                                  kd_json_text(json, kd_json_value(json, key)) };

        if (!pair.value) return bad(f, "its __metadata__ holds more than strings");
        if (kd_safetensors_text(f, pair.key))
            return bad(f, "its __metadata__ names a string twice");
        f->text[f->texts++] = pair;
    }
    return KDAS_OK;
}

/* The members of a tensor's entry: items of the JSON, 0 where there is none. Other
 * members are ignored. */
typedef struct entry {
    int dtype, shape, offsets;
} entry;

static kdas_status take_entry(const kd_safetensors *f, const kd_json *json, const char *name,
                              int item, entry *out)
{
    *out = (entry){ 0 };
    if (!kd_json_is_object(json, item)) return bad_tensor(f, name, "its entry is not an object");
    for (int key = kd_json_first(json, item); key; key = kd_json_next(json, key)) {
        const char *text = kd_json_text(json, key);
        int        *to   = strcmp(text, "dtype") == 0          ? &out->dtype
                           : strcmp(text, "shape") == 0        ? &out->shape
                           : strcmp(text, "data_offsets") == 0 ? &out->offsets
                                                               : NULL;

        if (!to) continue;
        if (*to)
            return kd_fail(KDAS_EFORMAT, "tensor '%.200s' of '%s': its entry has two members '%s'",
                           name, kd_file_path(f->file), text);
        *to = kd_json_value(json, key);
    }
    return KDAS_OK;
}

static kdas_status take_dtype(const kd_safetensors *f, const kd_json *json, int item,
                              kd_st_tensor *t)
{
    const char *type = item ? kd_json_text(json, item) : NULL;
    int         d    = 0;

    if (!type) return bad_tensor(f, t->name, "it has no dtype");
    while (d < KD_ST_DTYPES && strcmp(dtypes[d].name, type) != 0)
        d++;
    if (d == KD_ST_DTYPES)
        return kd_fail(KDAS_EFORMAT, "tensor '%.200s' of '%s': dtype '%.40s' is not known", t->name,
                       kd_file_path(f->file), type);
    t->dtype = (kd_st_dtype)d;
    return KDAS_OK;
}

static kdas_status take_shape(const kd_safetensors *f, const kd_json *json, int item,
                              kd_st_tensor *t)
{
    if (!item || !kd_json_is_array(json, item)) return bad_tensor(f, t->name, "it has no shape");
    for (int dim = kd_json_first(json, item); dim; dim = kd_json_next(json, dim)) {
        if (t->rank == KD_ST_MAX_RANK)
            return bad_tensor(f, t->name, "it has more than 8 dimensions");
        t->dim[t->rank] = kd_json_whole(json, dim);
        if (t->dim[t->rank++] < 0)
            return bad_tensor(f, t->name, "a dimension is not a whole number from 0 to 2^53");
    }
    t->count = kd_st_elements(t->rank, t->dim);
    if (t->count < 0 || t->count > INT64_MAX / 8)
        return bad_tensor(f, t->name, "its shape has more elements than can be counted");
    return KDAS_OK;
}

static kdas_status take_offsets(const kd_safetensors *f, const kd_json *json, int item,
                                kd_st_tensor *t)
{
    uint64_t size = kd_file_size(f->file) - f->data;
    int64_t  begin, end;
    int      first;

    if (!item || !kd_json_is_array(json, item) || kd_json_size(json, item) != 2)
        return bad_tensor(f, t->name, "its data_offsets are not two numbers");
    first = kd_json_first(json, item);
    begin = kd_json_whole(json, first);
    end   = kd_json_whole(json, kd_json_next(json, first));
    if (begin < 0 || end < begin)
        return bad_tensor(f, t->name, "its data_offsets are not two whole numbers in order");
    if ((uint64_t)end > size)
        return bad_tensor(f, t->name,
                          "its bytes lie past the end of the file, which may be cut off");
    if (t->count % 8 * dtypes[t->dtype].bits % 8)
        return bad_tensor(f, t->name, "its elements do not fill whole bytes");
    t->bytes = (uint64_t)t->count / 8 * dtypes[t->dtype].bits +
               (uint64_t)t->count % 8 * dtypes[t->dtype].bits / 8;
    if ((uint64_t)(end - begin) != t->bytes)
        return kd_fail(
            KDAS_EFORMAT, "tensor '%.200s' of '%s': its shape needs %llu bytes, it has %lld",
            t->name, kd_file_path(f->file), (unsigned long long)t->bytes, (long long)(end - begin));
    t->offset = f->data + (uint64_t)begin;
    return KDAS_OK;
}

static kdas_status take_tensor(kd_safetensors *f, const kd_json *json, const char *name, int item)
{
    kd_st_tensor *t = &f->tensor[f->count];
    entry         members;

    KD_RETURN(take_entry(f, json, name, item, &members));
    t->name = name;
    KD_RETURN(take_dtype(f, json, members.dtype, t));
    KD_RETURN(take_shape(f, json, members.shape, t));
    KD_RETURN(take_offsets(f, json, members.offsets, t));
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

static kdas_status take_header(kd_safetensors *f)
{
    size_t      blank = strspn(f->header, BLANKS);
    kdas_status st;
    kd_json    *json;

    st = kd_json_parse(&json, f->ctx, f->header + blank, f->length - blank, MAX_VALUES);
    if (st != KDAS_OK)
        return kd_fail_in(st, "'%s' is not a usable safetensors file: its header",
                          kd_file_path(f->file));
    f->tensor = kd_calloc(f->ctx, (size_t)kd_json_size(json, 0), sizeof *f->tensor);
    if (!f->tensor) {
        st = KDAS_ENOMEM;
        goto done;
    }
    for (int key = kd_json_first(json, 0); key; key = kd_json_next(json, key)) {
        const char *name  = kd_json_text(json, key);
        int         value = kd_json_value(json, key);

        if (strcmp(name, "__metadata__") == 0)
            KD_TRY(take_texts(f, json, value));
        else
            KD_TRY(take_tensor(f, json, name, value));
    }
done:
    kd_json_free(json);
    return st;
}

kdas_status kd_safetensors_open(kd_safetensors **out, kdas_context *ctx, const char *path)
{
    kdas_status     st = KDAS_OK;
    kd_safetensors *f  = kd_calloc(ctx, 1, sizeof *f);

    *out = NULL;
    if (!f) return KDAS_ENOMEM;
    f->ctx = ctx;
    KD_TRY(kd_file_open(&f->file, ctx, path));
    KD_TRY(read_header(f));
    KD_TRY(take_header(f));
    KD_TRY(check_together(f));
    *out = f;
    f    = NULL;
done:
    kd_safetensors_close(f);
    return st;
}

void kd_safetensors_close(kd_safetensors *file)
{
    if (!file) return;
    kd_file_close(file->file);
    kd_free(file->ctx, file->header);
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

const char *kd_safetensors_text_at(const kd_safetensors *file, int64_t i, const char **key)
{
    if (i < 0 || i >= file->texts) return NULL;
    *key = file->text[i].key;
    return file->text[i].value;
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

void kd_st_to_float(float *to, const void *elements, size_t n, kd_st_dtype dtype)
{
    const unsigned char *from = elements;

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
    default: break;
    }
}

kdas_status kd_safetensors_read_float(kd_safetensors *file, const kd_st_tensor *tensor, float *to)
{
    unsigned char part[16384];
    size_t        size = kd_st_dtype_size(tensor->dtype);
    uint64_t      at   = tensor->offset;

    if (!kd_st_is_number(tensor->dtype))
        return kd_fail(KDAS_EFORMAT, "tensor '%.200s' of '%s' has the type %s, which is not read",
                       tensor->name, kd_file_path(file->file), kd_st_dtype_name(tensor->dtype));
    if (tensor->dtype == KD_ST_F32) return kd_safetensors_read(file, tensor, to);
    for (int64_t left = tensor->count; left > 0;) {
        size_t n = (size_t)KD_MIN(left, (int64_t)(sizeof part / size));

        KD_RETURN(kd_file_read(file->file, at, part, n * size));
        kd_st_to_float(to, part, n, tensor->dtype);
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
