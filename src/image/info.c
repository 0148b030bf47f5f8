/* info.c - JPEG, PNG and BMP files as containers: the header's content, and whether the file is
 * whole. (tiff.c reads what a TIFF says.) Files are decoded only after these checks, since decoders
 * fill missing parts with grey. */
#include <stdlib.h>
#include <string.h>
#include "io/crc.h"
#include "io/kind.h"
#include "image/image.h"

#define MAX_SEGMENTS 4096  /* of a JPEG before its frame header: more is no image */
#define MAX_CHUNKS   65536 /* of a PNG that are searched for EXIF                  */

static uint32_t be16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t be32(const uint8_t *p) { return be16(p) << 16 | be16(p + 2); }
static uint32_t le16(const uint8_t *p) { return (uint32_t)p[1] << 8 | p[0]; }
static uint32_t le32(const uint8_t *p) { return le16(p + 2) << 16 | le16(p); }

static kdas_status damaged(const char *path, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "'%s' is damaged: %s", path, why);
}

static kdas_status cut_off(const char *path, const char *kind)
{
    return kd_fail(KDAS_EFORMAT, "'%s' is cut off: the %s image ends early", path, kind);
}

/* ---- Which kind ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    size_t      at, size;
    const char *magic;
} others[] = {
    { "GIF", 0, 4, "GIF8" },  { "WebP", 8, 4, "WEBP" },      { "PSD", 0, 4, "8BPS" },
    { "HEIF", 4, 4, "ftyp" }, { "JPEG 2000", 4, 4, "jP  " }, { "DICOM", 128, 4, "DICM" },
};

static kdas_status unknown_kind(kd_file *file, const uint8_t *head, size_t n)
{
    const char *path = kd_file_path(file);

    if (n == 0) return kd_fail(KDAS_EFORMAT, "'%s' is empty", path);
    for (size_t i = 0; i < KD_COUNT(others); i++)
        if (others[i].at + others[i].size <= n &&
            memcmp(head + others[i].at, others[i].magic, others[i].size) == 0)
            return kd_fail(KDAS_EFORMAT,
                           "'%s' is a %s image; only JPEG, PNG, BMP and TIFF are read", path,
                           others[i].name);
    KD_RETURN(kd_kind_refuse(kd_kind_of_file(file), path, "a JPEG, PNG, BMP or TIFF image",
                             "only JPEG, PNG, BMP and TIFF are read"));
    return kd_fail(KDAS_EFORMAT, "'%s' is not a JPEG, PNG, BMP or TIFF image", path);
}

/* ---- Headers --------------------------------------------------------------------------------- */

static const uint8_t png_magic[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n' };

/* Before or behind the pixels there may be a chunk of EXIF. What is damaged is found later. */
static kdas_status png_turn(int *turn, kd_file *file)
{
    uint64_t at = sizeof png_magic, size = kd_file_size(file);
    uint8_t  head[8], exif[1024];

    for (int i = 0; i < MAX_CHUNKS && at + 12 <= size; i++) {
        uint64_t length;

        KD_RETURN(kd_file_read(file, at, head, sizeof head));
        length = be32(head);
        if (length > size - at - 12 || memcmp(head + 4, "IEND", 4) == 0) break;
        if (memcmp(head + 4, "eXIf", 4) == 0) {
            size_t n = (size_t)KD_MIN(length, sizeof exif);

            KD_RETURN(kd_file_read(file, at + 8, exif, n));
            *turn = kd_exif_orientation(exif, n);
            break;
        }
        at += 12 + length;
    }
    return KDAS_OK;
}

static kdas_status png_header(kd_image_info *out, kd_file *file, const uint8_t *head, size_t n)
{
    const char      *path        = kd_file_path(file);
    static const int channels[7] = { 1, 0, 3, 3, 2, 0, 4 }; /* by colour type; 0: none such */

    if (n < 33) return cut_off(path, "PNG");
    if (be32(head + 8) != 13 || memcmp(head + 12, "IHDR", 4) != 0)
        return damaged(path, "it does not begin with IHDR");
    if (head[25] > 6 || !channels[head[25]]) return damaged(path, "no such PNG colour type");
    *out = (kd_image_info){ KD_IMAGE_PNG, be32(head + 16), be32(head + 20), channels[head[25]],
                            head[24] };
    return png_turn(&out->turn, file);
}

static kdas_status bmp_header(kd_image_info *out, const char *path, const uint8_t *head, size_t n)
{
    *out = (kd_image_info){ KD_IMAGE_BMP, 0, 0, 3, 8 };
    if (n < 26) return cut_off(path, "BMP");
    if (le32(head + 14) == 12) { /* the oldest header */
        out->width  = le16(head + 18);
        out->height = le16(head + 20);
        return KDAS_OK;
    }
    if (n < 34) return cut_off(path, "BMP");
    out->width  = (int32_t)le32(head + 18);
    out->height = llabs((int64_t)(int32_t)le32(head + 22)); /* negative: rows run downwards */
    if (out->width < 0) return damaged(path, "its width is negative");
    return KDAS_OK;
}

/* The orientation of a segment APP1 that is EXIF. */
static kdas_status jpeg_turn(int *turn, kd_file *file, uint64_t at, size_t n)
{
    uint8_t exif[6 + 1024];

    n = KD_MIN(n, sizeof exif);
    if (n < 6 || at + n > kd_file_size(file)) return KDAS_OK;
    KD_RETURN(kd_file_read(file, at, exif, n));
    if (memcmp(exif, "Exif\0\0", 6) == 0) *turn = kd_exif_orientation(exif + 6, n - 6);
    return KDAS_OK;
}

/* Read marker codes until the frame header; every segment but a few says how long it is. */
static kdas_status jpeg_header(kd_image_info *out, kd_file *file)
{
    const char *path = kd_file_path(file);
    uint64_t    at = 2, size = kd_file_size(file);
    uint8_t     s[10];
    int         turn = 0;

    for (int i = 0; i < MAX_SEGMENTS; i++) {
        if (at + 4 > size) return cut_off(path, "JPEG");
        KD_RETURN(kd_file_read(file, at, s, 4));
        if (s[0] != 0xFF || s[1] == 0xFF) {
            at++; /* bytes between segments fill up */
        } else if (s[1] == 0xC0 || s[1] == 0xC1 || s[1] == 0xC2) {
            if (at + sizeof s > size) return cut_off(path, "JPEG");
            KD_RETURN(kd_file_read(file, at, s, sizeof s));
            if (s[4] != 8)
                return kd_fail(KDAS_EFORMAT, "'%s': a JPEG of %d bits is not read", path, s[4]);
            *out = (kd_image_info){ KD_IMAGE_JPEG, be16(s + 7), be16(s + 5), s[9], 8, turn };
            if (s[9] == 1 || s[9] == 3 || s[9] == 4) return KDAS_OK;
            return damaged(path, "a JPEG has 1, 3 or 4 components");
        } else if (s[1] >= 0xC3 && s[1] <= 0xCF && s[1] != 0xC4 && s[1] != 0xC8 && s[1] != 0xCC) {
            return kd_fail(KDAS_EFORMAT, "'%s': a lossless or arithmetic-coded JPEG is not read",
                           path);
        } else if (s[1] == 0xD9 || s[1] == 0xDA || be16(s + 2) < 2) {
            return damaged(path, "the JPEG frame header is missing");
        } else {
            if (s[1] == 0xE1 && !turn)
                KD_RETURN(jpeg_turn(&turn, file, at + 4, (size_t)be16(s + 2) - 2));
            at += 2 + be16(s + 2);
        }
    }
    return damaged(path, "the JPEG frame header is missing");
}

static bool is_tiff(const uint8_t *head, size_t n)
{
    static const char magic[4][5] = { "II*\0", "MM\0*", "II+\0", "MM\0+" }; /* + has 64 bits */

    for (size_t i = 0; i < KD_COUNT(magic); i++)
        if (n >= 4 && memcmp(head, magic[i], 4) == 0) return true;
    return false;
}

static kdas_status check_size(const kd_image_info *info, const char *path)
{
    if (info->width < 1 || info->height < 1)
        return kd_fail(KDAS_EFORMAT, "'%s' has no pixels: it is %lldx%lld", path,
                       (long long)info->width, (long long)info->height);
    if (info->width > KDAS_IMAGE_MAX_SIDE || info->height > KDAS_IMAGE_MAX_SIDE ||
        info->width * info->height > KDAS_IMAGE_MAX_PIXELS)
        return kd_fail(KDAS_EFORMAT,
                       "'%s' is too large: %lldx%lld; sides are at most %d, pixels %d", path,
                       (long long)info->width, (long long)info->height, KDAS_IMAGE_MAX_SIDE,
                       KDAS_IMAGE_MAX_PIXELS);
    return KDAS_OK;
}

kdas_status kd_image_info_read(kd_image_info *out, kd_file *file)
{
    const char   *path = kd_file_path(file);
    uint8_t       head[132];
    size_t        n = (size_t)KD_MIN(kd_file_size(file), sizeof head);
    kd_image_info info;

    KD_RETURN(kd_file_read(file, 0, head, n));
    if (n >= 3 && head[0] == 0xFF && head[1] == 0xD8 && head[2] == 0xFF)
        KD_RETURN(jpeg_header(&info, file));
    else if (n >= 8 && memcmp(head, png_magic, sizeof png_magic) == 0)
        KD_RETURN(png_header(&info, file, head, n));
    else if (n >= 2 && head[0] == 'B' && head[1] == 'M')
        KD_RETURN(bmp_header(&info, path, head, n));
    else if (is_tiff(head, n))
        KD_RETURN(kd_tiff_info(&info, file));
    else
        return unknown_kind(file, head, n);
    KD_RETURN(check_size(&info, path));
    if (info.turn >= 5)
        info = (kd_image_info){ info.kind,     info.height, info.width,
                                info.channels, info.bits,   info.turn };
    *out = info;
    return KDAS_OK;
}

kdas_status kd_image_open(kd_file **out, kdas_context *ctx, const char *path)
{
    kdas_status st = kd_file_open(out, ctx, path);

    if (st != KDAS_EIO || !kd_is_folder(path)) return st;
    return kd_fail(st, "'%s' is a folder, not an image; give its files, as %s/*", path, path);
}

kdas_status kd_image_info_load(kd_image_info *out, kdas_context *ctx, const char *path)
{
    kdas_status st;
    kd_file    *file = NULL;

    KD_TRY(kd_image_open(&file, ctx, path));
    KD_TRY(kd_image_info_read(out, file));
done:
    kd_file_close(file);
    return st;
}

/* ---- Is it whole ----------------------------------------------------------------------------- */

/* From inside a scan's coded data to the marker that ends it. FF 00 is a data byte, FF D0..D7
 * restart. */
static size_t skip_scan(const uint8_t *bytes, size_t n, size_t at)
{
    while (at < n) {
        const uint8_t *mark = memchr(bytes + at, 0xFF, n - at);
        size_t         code;

        if (!mark) return n;
        at = code = (size_t)(mark - bytes);
        while (code < n && bytes[code] == 0xFF)
            code++;
        if (code == n) return n;
        if (bytes[code] != 0 && (bytes[code] < 0xD0 || bytes[code] > 0xD7)) return at;
        at = code + 1;
    }
    return n;
}

/* A segment's Huffman tables: for each, a byte, 16 counts of codes, and a symbol for each code.
 * Decoders fill arrays of 256 from them, some without counting. */
static bool huffman_fits(const uint8_t *table, size_t n)
{
    while (n >= 17) {
        size_t codes = 0;

        for (int i = 1; i <= 16; i++)
            codes += table[i];
        if (codes > 256 || codes > n - 17) return false;
        table += 17 + codes;
        n -= 17 + codes;
    }
    return n == 0;
}

/* A frame header: precision, height, width, how many components, then for each a byte, its sampling
 * factors, a byte. Factors that do not divide the largest make decoders read outside their rows. */
static bool sampling_fits(const uint8_t *frame, size_t n)
{
    int most_h = 1, most_v = 1;

    if (n < 6 || n != 6 + 3 * (size_t)frame[5]) return false;
    for (size_t i = 7; i < n; i += 3) {
        int h = frame[i] >> 4, v = frame[i] & 15;

        if (h < 1 || h > 4 || v < 1 || v > 4) return false;
        most_h = KD_MAX(most_h, h);
        most_v = KD_MAX(most_v, v);
    }
    for (size_t i = 7; i < n; i += 3)
        if (most_h % (frame[i] >> 4) || most_v % (frame[i] & 15)) return false;
    return true;
}

/* Every segment that the decoder can reach is checked here first. Both step from segment to segment
 * by the same lengths, and where they could differ the decoder fails. */
static kdas_status jpeg_whole(const char *path, const uint8_t *bytes, size_t n, size_t *end)
{
    size_t at      = 2;
    bool   huffman = false, quantiser = false, scan = false, progressive = false;
    int    components = 1, scanned = 0;

    while (at + 2 <= n) {
        size_t  mark = at, length;
        uint8_t code;

        if (bytes[at++] != 0xFF) continue;
        while (at < n && bytes[at] == 0xFF)
            at++;
        if (at == n) break;
        code = bytes[at++];
        if (code == 0xD9) {
            if (!huffman || !quantiser || !scan)
                return damaged(path, "JPEG tables or scans are missing");
            *end = mark;
            return KDAS_OK;
        }
        if (code == 1 || (code >= 0xD0 && code <= 0xD7)) continue;
        if (at + 2 > n) break;
        length = be16(bytes + at);
        if (length < 2) return damaged(path, "a JPEG segment has no length");
        if (length > n - at) break;
        if (code == 0xC4 && !huffman_fits(bytes + at + 2, length - 2))
            return damaged(path, "a Huffman table does not fit its segment");
        if (code >= 0xC0 && code <= 0xC2 && !sampling_fits(bytes + at + 2, length - 2))
            return damaged(path, "the sampling of its components cannot be");
        if (code >= 0xC0 && code <= 0xC2) {
            progressive = code == 0xC2;
            components  = bytes[at + 7];
        }
        if (code == 0xDA && length > 2) scanned += bytes[at + 2];
        huffman |= code == 0xC4;
        quantiser |= code == 0xDB;
        at += length;
        if (code == 0xDA) {
            scan = true;
            at   = skip_scan(bytes, n, at);
            if (at == n) break;
        }
    }
    /* The end marker alone may be missing: the decoder then finds out whether the pixels are all
     * there. Of a progressive JPEG nobody knows how many scans there were. */
    if (at < n || !scan || progressive || scanned < components || !huffman || !quantiser)
        return cut_off(path, "JPEG");
    for (*end = n; bytes[*end - 1] == 0xFF;)
        *end -= 1; /* half a marker */
    return KDAS_OK;
}

static kdas_status png_whole(const char *path, const uint8_t *bytes, size_t n, size_t *end)
{
    size_t at = sizeof png_magic;

    while (n - at >= 12) {
        size_t         length = be32(bytes + at);
        const uint8_t *type   = bytes + at + 4;

        if (length > n - at - 12) break;
        /* A capital first letter: the image cannot be shown without this chunk. */
        if (type[0] >= 'A' && type[0] <= 'Z' &&
            kd_crc32(0, type, length + 4) != be32(type + 4 + length))
            return kd_fail(KDAS_EFORMAT,
                           "'%s' is damaged: PNG chunk at byte %zu fails its checksum", path, at);
        at += length + 12;
        if (memcmp(type, "IEND", 4) == 0) {
            *end = at;
            return KDAS_OK;
        }
    }
    return cut_off(path, "PNG");
}

static kdas_status bmp_whole(const kd_image_info *info, const char *path, const uint8_t *bytes,
                             size_t n, size_t *end)
{
    bool    old    = le32(bytes + 14) == 12;
    int64_t bits   = le16(bytes + (old ? 24 : 28));
    int64_t row    = (info->width * bits + 31) / 32 * 4;
    int64_t packed = old ? 0 : le32(bytes + 30);

    if (packed != 0 && packed != 3)
        return kd_fail(KDAS_EFORMAT, "'%s': a compressed BMP is not read", path);
    /* The last row may lack the bytes that only pad it. */
    if ((info->height - 1) * row + (info->width * bits + 7) / 8 > (int64_t)n - le32(bytes + 10))
        return cut_off(path, "BMP");
    *end = n;
    return KDAS_OK;
}

kdas_status kd_image_check_whole(const kd_image_info *info, const char *path, const uint8_t *bytes,
                                 size_t n, size_t *end)
{
    switch (info->kind) {
    case KD_IMAGE_JPEG: return jpeg_whole(path, bytes, n, end);
    case KD_IMAGE_PNG: return png_whole(path, bytes, n, end);
    case KD_IMAGE_BMP: return bmp_whole(info, path, bytes, n, end);
    case KD_IMAGE_TIFF: *end = n; return KDAS_OK; /* its decoder says so */
    }
    return kd_fail(KDAS_EFORMAT, "'%s' is not a JPEG, PNG, BMP or TIFF image", path);
}
