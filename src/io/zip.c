/* zip.c - the directory of a zip archive (APPNOTE 6.3), and its entries by zlib. An archive is
 * untrusted: numbers are checked against the file before memory is taken for them. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "io/zip.h"

struct kd_zip {
    kdas_context *ctx;
    kd_file      *file;
    kd_zip_entry *entry; /* by name */
    int64_t       count;
    char         *names;
    uint64_t      directory; /* where the directory begins */
};

enum { END = 22, END64 = 56, LOCATOR = 20, ENTRY = 46, LOCAL = 30 }; /* bytes of the records */

#define MAX_COMMENT 65535u
#define MAX_RATIO   1032u /* deflate makes no more of a byte */

static uint32_t le16(const uint8_t *p) { return (uint32_t)p[1] << 8 | p[0]; }
static uint32_t le32(const uint8_t *p) { return le16(p + 2) << 16 | le16(p); }
static uint64_t le64(const uint8_t *p) { return (uint64_t)le32(p + 4) << 32 | le32(p); }

static kdas_status damaged(const kd_zip *z, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "'%s' is a damaged zip archive: %s", kd_file_path(z->file), why);
}

/* ---- The directory --------------------------------------------------------------------------- */

typedef struct directory {
    uint64_t at, bytes, entries;
} directory;

/* The record at the end, behind which there may be a comment. */
static kdas_status find_end(const kd_zip *z, uint8_t *tail, size_t n, size_t *at)
{
    for (size_t i = n >= END ? n - END + 1 : 0; i-- > 0;)
        if (memcmp(tail + i, "PK\5\6", 4) == 0 && i + END + le16(tail + i + 20) == n) {
            *at = i;
            return KDAS_OK;
        }
    return kd_fail(KDAS_EFORMAT,
                   "'%s' is a zip archive, as PyTorch saves, without its directory at the end: it "
                   "is cut off or damaged; fetch it again, or export it anew",
                   kd_file_path(z->file));
}

/* An archive with 64-bit sizes has a second record, which a locator before the first points at. */
static kdas_status take_end64(const kd_zip *z, const uint8_t *locator, directory *d)
{
    uint8_t  record[END64];
    uint64_t at = le64(locator + 8), size = kd_file_size(z->file);

    if (size < END64 || at > size - END64) return damaged(z, "its directory lies outside");
    KD_RETURN(kd_file_read(z->file, at, record, sizeof record));
    if (memcmp(record, "PK\6\6", 4) != 0) return damaged(z, "its directory is not where it says");
    *d = (directory){ le64(record + 48), le64(record + 40), le64(record + 32) };
    return KDAS_OK;
}

static kdas_status find_directory(kd_zip *z, directory *d)
{
    uint64_t    size = kd_file_size(z->file);
    size_t      n = (size_t)KD_MIN(size, (uint64_t)(MAX_COMMENT + END + LOCATOR)), at = 0;
    uint8_t    *tail = kd_alloc(z->ctx, n);
    kdas_status st;

    if (!tail) return KDAS_ENOMEM;
    KD_TRY(kd_file_read(z->file, size - n, tail, n));
    KD_TRY(find_end(z, tail, n, &at));
    *d = (directory){ le32(tail + at + 16), le32(tail + at + 12), le16(tail + at + 10) };
    if (at >= LOCATOR && memcmp(tail + at - LOCATOR, "PK\6\7", 4) == 0)
        KD_TRY(take_end64(z, tail + at - LOCATOR, d));
    if (d->at > size || d->bytes > size - d->at)
        st = damaged(z, "its directory lies outside");
    else if (d->entries > KD_ZIP_MAX_ENTRIES || d->bytes > KD_ZIP_MAX_DIRECTORY)
        st = damaged(z, "it has too many entries");
    else if (d->entries > d->bytes / ENTRY)
        st = damaged(z, "its directory is too short for its entries");
done:
    kd_free(z->ctx, tail);
    return st;
}

/* Sizes and places that do not fit 32 bits are in an extra field, in this order. */
static bool take_extra(kd_zip_entry *e, const uint8_t *extra, size_t n)
{
    uint64_t *const wide[3] = { &e->size, &e->packed, &e->header };
    bool            need    = false;

    for (int i = 0; i < 3; i++)
        need = need || *wide[i] == UINT32_MAX;
    for (size_t at = 0; need && at + 4 <= n;) {
        size_t length = le16(extra + at + 2), from = at + 4;

        if (length > n - at - 4) return false;
        if (le16(extra + at) != 1) {
            at += 4 + length;
            continue;
        }
        for (int i = 0; i < 3; i++) {
            if (*wide[i] != UINT32_MAX) continue;
            if (from + 8 > at + 4 + length) return false;
            *wide[i] = le64(extra + from);
            from += 8;
        }
        return true;
    }
    return !need;
}

static kdas_status take_entries(kd_zip *z, const uint8_t *p, const directory *d)
{
    size_t at = 0, n = (size_t)d->bytes;
    char  *to = z->names;

    for (uint64_t i = 0; i < d->entries; i++) {
        kd_zip_entry *e = &z->entry[i];
        size_t        name, extra, comment;

        if (n - at < ENTRY || memcmp(p + at, "PK\1\2", 4) != 0)
            return damaged(z, "its directory has fewer entries than it says");
        name    = le16(p + at + 28);
        extra   = le16(p + at + 30);
        comment = le16(p + at + 32);
        if (n - at - ENTRY < name + extra + comment) return damaged(z, "its directory is cut off");
        *e = (kd_zip_entry){ .name   = to,
                             .flags  = (uint16_t)le16(p + at + 8),
                             .method = (uint16_t)le16(p + at + 10),
                             .crc    = le32(p + at + 16),
                             .packed = le32(p + at + 20),
                             .size   = le32(p + at + 24),
                             .header = le32(p + at + 42) };
        memcpy(to, p + at + ENTRY, name);
        to += name;
        *to++ = 0;
        if (!take_extra(e, p + at + ENTRY + name, extra))
            return damaged(z, "an entry's 64-bit size is missing");
        at += ENTRY + name + extra + comment;
        z->count++;
    }
    return KDAS_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const kd_zip_entry *)a)->name, ((const kd_zip_entry *)b)->name);
}

kdas_status kd_zip_open(kd_zip **out, kdas_context *ctx, kd_file *file)
{
    kd_zip     *z     = kd_calloc(ctx, 1, sizeof *z);
    uint8_t    *bytes = NULL;
    directory   d;
    kdas_status st;

    *out = NULL;
    if (!z) return KDAS_ENOMEM;
    z->ctx  = ctx;
    z->file = file;
    KD_TRY(find_directory(z, &d));
    st           = KDAS_ENOMEM;
    z->directory = d.at;
    z->entry     = kd_calloc(ctx, (size_t)d.entries, sizeof *z->entry);
    z->names     = kd_alloc(ctx, (size_t)(d.bytes + d.entries)); /* a NUL behind each name */
    bytes        = kd_alloc(ctx, (size_t)d.bytes);
    if (!z->entry || !z->names || !bytes) goto done;
    KD_TRY(kd_file_read(file, d.at, bytes, (size_t)d.bytes));
    KD_TRY(take_entries(z, bytes, &d));
    qsort(z->entry, (size_t)z->count, sizeof *z->entry, by_name);
    *out = z;
    z    = NULL;
done:
    kd_free(ctx, bytes);
    kd_zip_close(z);
    return st;
}

void kd_zip_close(kd_zip *zip)
{
    if (!zip) return;
    kd_free(zip->ctx, zip->entry);
    kd_free(zip->ctx, zip->names);
    kd_free(zip->ctx, zip);
}

int64_t kd_zip_count(const kd_zip *zip) { return zip->count; }

const kd_zip_entry *kd_zip_at(const kd_zip *zip, int64_t i)
{
    return i >= 0 && i < zip->count ? &zip->entry[i] : NULL;
}

const kd_zip_entry *kd_zip_find(const kd_zip *zip, const char *name)
{
    kd_zip_entry key = { .name = name };

    return bsearch(&key, zip->entry, (size_t)zip->count, sizeof key, by_name);
}

/* ---- Entries --------------------------------------------------------------------------------- */

static kdas_status bad_entry(const kd_zip *z, const kd_zip_entry *e, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "entry '%.200s' of the zip archive '%s': %s", e->name,
                   kd_file_path(z->file), why);
}

kdas_status kd_zip_locate(kd_zip *z, const kd_zip_entry *e, uint64_t *at)
{
    uint64_t size = kd_file_size(z->file), begin;
    uint8_t  head[LOCAL];

    if (e->flags & 1) return bad_entry(z, e, "it is encrypted");
    if (e->method != KD_ZIP_STORED && e->method != KD_ZIP_DEFLATED)
        return bad_entry(z, e, "it is packed by a method that is not read; pack it with deflate");
    if (size < LOCAL || e->header > size - LOCAL) return bad_entry(z, e, "it lies outside");
    KD_RETURN(kd_file_read(z->file, e->header, head, sizeof head));
    if (memcmp(head, "PK\3\4", 4) != 0) return bad_entry(z, e, "it is not where it should be");
    begin = e->header + LOCAL + le16(head + 26) + le16(head + 28);
    if (begin > z->directory || e->packed > z->directory - begin)
        return bad_entry(z, e, "its bytes lie outside");
    if (e->method == KD_ZIP_STORED ? e->size != e->packed : e->size / MAX_RATIO > e->packed)
        return bad_entry(z, e, "its size cannot be true");
    if (e->method == KD_ZIP_DEFLATED && e->size > KD_ZIP_MAX_UNPACKED)
        return bad_entry(z, e, "it is too large to be unpacked; store it without compression");
    *at = begin;
    return KDAS_OK;
}

static kdas_status bad_checksum(const kd_zip *z, const kd_zip_entry *e)
{
    return bad_entry(z, e,
                     "its checksum differs: the file is damaged; fetch it again, or export "
                     "it anew");
}

kdas_status kd_zip_check_stored(kd_zip *z, const kd_zip_entry *e, uint64_t at)
{
    unsigned char part[16384];
    uLong         crc = crc32(0, NULL, 0);

    if (e->crc == 0) return KDAS_OK;
    for (uint64_t left = e->size; left > 0;) {
        size_t n = (size_t)KD_MIN(left, sizeof part);

        KD_RETURN(kd_file_read(z->file, at, part, n));
        crc = crc32(crc, part, (uInt)n);
        at += n;
        left -= n;
    }
    return (uint32_t)crc == e->crc ? KDAS_OK : bad_checksum(z, e);
}

static void *zlib_alloc(void *ctx, unsigned count, unsigned size)
{
    return kd_calloc(ctx, count, size);
}

static void zlib_free(void *ctx, void *memory) { kd_free(ctx, memory); }

typedef struct unpacker {
    z_stream      stream;
    unsigned char part[16384]; /* of the packed bytes */
} unpacker;

/* Decompress to exactly e->size bytes. */
static kdas_status inflate_entry(kd_zip *z, const kd_zip_entry *e, unpacker *u, uint64_t at,
                                 unsigned char *to)
{
    z_stream *s      = &u->stream;
    uint64_t  packed = e->packed, left = e->size;
    int       code = Z_OK;
    uLong     crc  = crc32(0, NULL, 0);

    while (code != Z_STREAM_END) {
        uInt room = (uInt)KD_MIN(left, (uint64_t)1 << 30);

        if (s->avail_in == 0 && packed > 0) {
            s->avail_in = (uInt)KD_MIN(packed, sizeof u->part);
            s->next_in  = u->part;
            KD_RETURN(kd_file_read(z->file, at, u->part, s->avail_in));
            at += s->avail_in;
            packed -= s->avail_in;
        }
        s->next_out  = to;
        s->avail_out = room;
        code         = inflate(s, Z_NO_FLUSH);
        room -= s->avail_out;
        crc = crc32(crc, to, room);
        to += room;
        left -= room;
        if (code == Z_MEM_ERROR) return KDAS_ENOMEM;
        if (code != Z_STREAM_END && code != Z_OK) break; /* Z_BUF_ERROR: it does not go on */
    }
    if (code != Z_STREAM_END || left > 0) return bad_entry(z, e, "its packed bytes are damaged");
    return (uint32_t)crc == e->crc ? KDAS_OK : bad_checksum(z, e);
}

kdas_status kd_zip_read(kd_zip *z, const kd_zip_entry *e, void *to)
{
    unpacker      u;
    unsigned char none;
    uint64_t      at;
    kdas_status   st;

    KD_RETURN(kd_zip_locate(z, e, &at));
    if (e->method == KD_ZIP_STORED) {
        KD_RETURN(kd_zip_check_stored(z, e, at));
        return kd_file_read(z->file, at, to, (size_t)e->size);
    }
    u.stream = (z_stream){ .zalloc = zlib_alloc, .zfree = zlib_free, .opaque = z->ctx };
    if (inflateInit2(&u.stream, -MAX_WBITS) != Z_OK)
        return kd_fail(KDAS_ENOMEM, "no memory to unpack '%s'", kd_file_path(z->file));
    st = inflate_entry(z, e, &u, at, e->size ? to : &none);
    inflateEnd(&u.stream);
    return st;
}
