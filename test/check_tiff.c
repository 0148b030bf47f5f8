/* check_tiff.c - TIFF files as data sets come with them: kinds of samples, packings, strips, tiles
 * and planes; frames and masks of a data set; files that are damaged or hostile. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "image/image.h"
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

/* ---- A writer of TIFF ------------------------------------------------------------------------ */

enum { RAW = 1, LZW = 5, DEFLATE = 8, PACKBITS = 32773 };
enum { WHITE_IS_0 = 0, BLACK_IS_0 = 1, RGB = 2, PALETTE = 3 };

typedef struct form {
    int         width, height, bits, samples, photometric, packing;
    bool        big, planes;
    int         rows;    /* in a strip, or of a tile if there is tile */
    int         tile;    /* its width; 0: strips                      */
    int         turn;    /* orientation; 0: no tag                    */
    int         extra;   /* samples that are not colours              */
    const char *refused; /* part of the sentence; NULL: it is read    */
} form;

typedef struct buffer {
    uint8_t bytes[1 << 16];
    size_t  n;
    bool    big;
} buffer;

static void put16(buffer *b, unsigned v)
{
    b->bytes[b->n++] = (uint8_t)(b->big ? v >> 8 : v);
    b->bytes[b->n++] = (uint8_t)(b->big ? v : v >> 8);
}

static void put32(buffer *b, unsigned v)
{
    put16(b, b->big ? v >> 16 : v & 0xFFFF);
    put16(b, b->big ? v & 0xFFFF : v >> 16);
}

/* Literal runs of up to 128. */
static void pack_bits(buffer *b, const uint8_t *from, size_t n)
{
    for (size_t at = 0; at < n; at += 100) {
        size_t run = KD_MIN(n - at, 100);

        b->bytes[b->n++] = (uint8_t)(run - 1);
        memcpy(b->bytes + b->n, from + at, run);
        b->n += run;
    }
}

/* Codes of 9 bits: the table is cleared before they would become longer. */
static void pack_lzw(buffer *b, const uint8_t *from, size_t n)
{
    uint32_t hold = 0;
    int      held = 0;

    for (size_t i = 0; i <= n; i++) {
        unsigned codes[2] = { 256, i < n ? from[i] : 257 };

        for (int k = i % 200 == 0 ? 0 : 1; k < 2; k++) {
            hold = hold << 9 | codes[k];
            for (held += 9; held >= 8; held -= 8)
                b->bytes[b->n++] = (uint8_t)(hold >> (held - 8));
        }
    }
    if (held) b->bytes[b->n++] = (uint8_t)(hold << (8 - held));
}

/* One stored block. */
static void pack_deflate(buffer *b, const uint8_t *from, size_t n)
{
    uint32_t low = 1, high = 0;

    memcpy(b->bytes + b->n, "\x78\x01\x01", 3);
    b->bytes[b->n + 3] = (uint8_t)n;
    b->bytes[b->n + 4] = (uint8_t)(n >> 8);
    b->bytes[b->n + 5] = (uint8_t)~n;
    b->bytes[b->n + 6] = (uint8_t)(~n >> 8);
    memcpy(b->bytes + b->n + 7, from, n);
    b->n += 7 + n;
    for (size_t i = 0; i < n; i++) {
        low  = (low + from[i]) % 65521;
        high = (high + low) % 65521;
    }
    for (int i = 24; i >= 0; i -= 8)
        b->bytes[b->n++] = (uint8_t)((high << 16 | low) >> i);
}

/* Sample s of pixel (x, y), by itself. */
static unsigned value(const form *f, int x, int y, int s)
{
    unsigned v = (unsigned)kd_test_byte(7 * x + 31 * y + 101 * s);

    return f->bits == 16 ? v << 8 | (unsigned)(x & 255) : v & ((1u << f->bits) - 1);
}

/* Rows of a block, each from a byte's start. Pixels beyond the picture are 0. */
static size_t block_rows(uint8_t *to, const form *f, int x0, int y0, int w, int h, int plane)
{
    size_t n = 0;

    for (int y = y0; y < y0 + h; y++) {
        unsigned hold = 0;
        int      held = 0;

        for (int x = x0; x < x0 + w; x++)
            for (int s = f->planes ? plane : 0; s < (f->planes ? plane + 1 : f->samples); s++) {
                bool     inside = x < f->width && y < f->height;
                unsigned v      = inside ? value(f, x, y, s) : 0;

                if (f->bits == 16) {
                    to[n++] = (uint8_t)(f->big ? v >> 8 : v);
                    to[n++] = (uint8_t)(f->big ? v : v >> 8);
                    continue;
                }
                hold = hold << f->bits | v;
                held += f->bits;
                if (held == 8) {
                    to[n++] = (uint8_t)hold;
                    hold = held = 0;
                }
            }
        if (held) to[n++] = (uint8_t)(hold << (8 - held));
    }
    return n;
}

static uint8_t palette_at(int c, unsigned v) { return kd_test_byte(500 + 3 * (int)v + c); }

static void put_block(buffer *b, const uint8_t *rows, size_t n, int packing)
{
    if (packing == PACKBITS)
        pack_bits(b, rows, n);
    else if (packing == LZW)
        pack_lzw(b, rows, n);
    else if (packing == DEFLATE)
        pack_deflate(b, rows, n);
    else {
        memcpy(b->bytes + b->n, rows, n);
        b->n += n;
    }
}

/* The blocks' offsets and sizes; how many there are. */
static int put_blocks(buffer *b, const form *f, unsigned *at, unsigned *size)
{
    static uint8_t rows[1 << 16];
    int            count = 0, w = f->tile ? f->tile : f->width;

    for (int plane = 0; plane < (f->planes ? f->samples : 1); plane++)
        for (int y = 0; y < f->height; y += f->rows)
            for (int x = 0; x < f->width; x += w) {
                int    h = f->tile ? f->rows : KD_MIN(f->rows, f->height - y);
                size_t n = block_rows(rows, f, x, y, w, h, plane);

                at[count] = (unsigned)b->n;
                put_block(b, rows, n, f->packing);
                size[count] = (unsigned)b->n - at[count];
                b->n += b->n & 1;
                count++;
            }
    return count;
}

typedef struct entry {
    unsigned        tag, type, count, value; /* where a value is alone */
    const unsigned *values;
} entry;

static void put_directory(buffer *b, entry *e, int entries)
{
    size_t directory;

    for (int i = 0; i < entries; i++) {
        size_t at = b->n;

        if (e[i].count * (e[i].type == 3 ? 2 : 4) <= 4) continue;
        for (unsigned k = 0; k < e[i].count; k++)
            e[i].type == 3 ? put16(b, e[i].values[k]) : put32(b, e[i].values[k]);
        e[i].value = (unsigned)at;
    }
    directory = b->n;
    put16(b, (unsigned)entries);
    for (int i = 0; i < entries; i++) {
        bool apart = e[i].count * (e[i].type == 3 ? 2 : 4) > 4;

        put16(b, e[i].tag);
        put16(b, e[i].type);
        put32(b, e[i].count);
        if (e[i].type == 3 && !apart) {
            put16(b, e[i].values ? e[i].values[0] : e[i].value);
            put16(b, e[i].values && e[i].count > 1 ? e[i].values[1] : 0);
        } else {
            put32(b, !apart && e[i].values ? e[i].values[0] : e[i].value);
        }
    }
    put32(b, 0);
    memcpy(b->bytes, b->big ? "MM\0*" : "II*\0", 4);
    entries = (int)b->n;
    b->n    = 4;
    put32(b, (unsigned)directory);
    b->n = (size_t)entries;
}

static const buffer *make(const form *f)
{
    static buffer   b;
    static unsigned at[512], size[512], map[3 * 256];
    unsigned        bits[8], extras[8] = { 2, 0 };
    entry           e[16];
    int             n = 0, blocks;

    b = (buffer){ .n = 8, .big = f->big };
    for (int i = 0; i < 8; i++)
        bits[i] = (unsigned)f->bits;
    for (int i = 0; i < 3 << f->bits && f->photometric == PALETTE; i++)
        map[i] = palette_at(i >> f->bits, (unsigned)i & ((1u << f->bits) - 1)) * 257u;
    blocks = put_blocks(&b, f, at, size);

    e[n++] = (entry){ 256, 3, 1, (unsigned)f->width, NULL };
    e[n++] = (entry){ 257, 3, 1, (unsigned)f->height, NULL };
    e[n++] = (entry){ 258, 3, (unsigned)f->samples, 0, bits };
    e[n++] = (entry){ 259, 3, 1, (unsigned)f->packing, NULL };
    e[n++] = (entry){ 262, 3, 1, (unsigned)f->photometric, NULL };
    if (!f->tile) e[n++] = (entry){ 273, 4, (unsigned)blocks, 0, at };
    if (f->turn) e[n++] = (entry){ 274, 3, 1, (unsigned)f->turn, NULL };
    e[n++] = (entry){ 277, 3, 1, (unsigned)f->samples, NULL };
    if (!f->tile) e[n++] = (entry){ 278, 3, 1, (unsigned)f->rows, NULL };
    if (!f->tile) e[n++] = (entry){ 279, 4, (unsigned)blocks, 0, size };
    e[n++] = (entry){ 284, 3, 1, f->planes ? 2 : 1, NULL };
    if (f->photometric == PALETTE) e[n++] = (entry){ 320, 3, 3u << f->bits, 0, map };
    if (f->tile) e[n++] = (entry){ 322, 3, 1, (unsigned)f->tile, NULL };
    if (f->tile) e[n++] = (entry){ 323, 3, 1, (unsigned)f->rows, NULL };
    if (f->tile) e[n++] = (entry){ 324, 4, (unsigned)blocks, 0, at };
    if (f->tile) e[n++] = (entry){ 325, 4, (unsigned)blocks, 0, size };
    if (f->extra) e[n++] = (entry){ 338, 3, (unsigned)f->extra, 0, extras };
    put_directory(&b, e, n);
    return &b;
}

static void write_form(const char *name, const form *f)
{
    const buffer *b = make(f);

    kd_test_write(kd_test_path(name), b->bytes, b->n);
}

/* ---- Kinds ----------------------------------------------------------------------------------- */

static const form forms[] = {
    { 37, 23, 8, 1, BLACK_IS_0, RAW, .rows = 23 },
    { 37, 23, 8, 1, BLACK_IS_0, PACKBITS, .rows = 5 },
    { 37, 23, 8, 1, BLACK_IS_0, LZW, .rows = 7 },
    { 37, 23, 8, 1, BLACK_IS_0, DEFLATE, .rows = 7 },
    { 37, 23, 8, 1, WHITE_IS_0, RAW, .rows = 4 },
    { 37, 23, 8, 3, RGB, RAW, .rows = 1 },
    { 37, 23, 8, 3, RGB, PACKBITS, .rows = 7, .big = true },
    { 37, 23, 8, 3, RGB, LZW, .rows = 23 },
    { 37, 23, 8, 3, RGB, DEFLATE, .rows = 6, .planes = true },
    { 37, 23, 8, 4, RGB, LZW, .rows = 9, .extra = 1 },
    { 37, 23, 8, 4, RGB, RAW, .rows = 9, .extra = 1, .planes = true },
    { 37, 23, 8, 2, BLACK_IS_0, LZW, .rows = 9, .extra = 1 },
    { 37, 23, 8, 5, RGB, RAW, .rows = 9, .extra = 2 },
    { 37, 23, 16, 1, BLACK_IS_0, RAW, .rows = 9 },
    { 37, 23, 16, 1, BLACK_IS_0, DEFLATE, .rows = 9, .big = true },
    { 37, 23, 16, 3, RGB, PACKBITS, .rows = 9, .big = true },
    { 37, 23, 16, 4, RGB, RAW, .rows = 9, .extra = 1 },
    { 37, 23, 1, 1, BLACK_IS_0, RAW, .rows = 23 },
    { 37, 23, 1, 1, WHITE_IS_0, PACKBITS, .rows = 9 },
    { 37, 23, 4, 1, BLACK_IS_0, RAW, .rows = 9 },
    { 37, 23, 8, 1, PALETTE, LZW, .rows = 9 },
    { 37, 23, 4, 1, PALETTE, RAW, .rows = 9 },
    { 37, 23, 1, 1, PALETTE, RAW, .rows = 9, .big = true },
    { 37, 23, 8, 1, BLACK_IS_0, RAW, .tile = 16, .rows = 16 },
    { 37, 23, 8, 3, RGB, LZW, .tile = 32, .rows = 16 },
    { 37, 23, 16, 3, RGB, DEFLATE, .tile = 16, .rows = 32, .planes = true },
    { 37, 23, 8, 3, RGB, RAW, .rows = 4, .turn = 6 },
    { 37, 23, 8, 1, BLACK_IS_0, LZW, .rows = 4, .turn = 3 },
    { 1, 1, 8, 1, BLACK_IS_0, RAW, .rows = 1 },
    { 37, 23, 8, 4, 5, RAW, .rows = 9, .refused = "colour space 5" },
    { 37, 23, 8, 1, BLACK_IS_0, 7, .rows = 9, .refused = "compression 7" },
    { 37, 23, 8, 2, RGB, RAW, .rows = 9, .refused = "TIFF" },
};

/* Colour c of pixel (x, y) as stored, of 8 bits. */
static int want_at(const form *f, int x, int y, int c)
{
    bool     colours = f->photometric == RGB;
    unsigned v       = value(f, x, y, colours ? c : 0);

    if (f->photometric == PALETTE) return palette_at(c, v);
    if (f->bits == 16) v >>= 8;
    if (f->bits < 8) v = v * 255 / ((1u << f->bits) - 1);
    return (int)(f->photometric == WHITE_IS_0 ? 255 - v : v);
}

START_TEST(each_kind_of_tiff_is_read)
{
    const form   *f = &forms[_i];
    kd_image_info info;
    kdas_image   *rgb = NULL;
    kdas_view     v;

    if (!kd_has_tiff()) return;
    write_form("a.png", f); /* content decides */
    if (f->refused) {
        kd_assert_status(kdas_image_load(&rgb, kd_data_ctx, kd_test_path("a.png"), KDAS_PIXEL_RGB8),
                         KDAS_EFORMAT);
        kd_assert_sentence(f->refused);
        kd_assert_sentence("a.png");
        ck_assert_ptr_null(rgb);
        return;
    }
    kd_assert_ok(kd_image_info_load(&info, kd_data_ctx, kd_test_path("a.png")));
    kd_assert_ok(kdas_image_load(&rgb, kd_data_ctx, kd_test_path("a.png"), KDAS_PIXEL_RGB8));
    v = kdas_image_view(rgb);
    ck_assert(info.kind == KD_IMAGE_TIFF && info.width == v.width && info.height == v.height);
    ck_assert(v.width == (f->turn >= 5 ? f->height : f->width));
    for (int y = 0; y < v.height; y++)
        for (int x = 0; x < v.width; x++)
            for (int c = 0; c < 3; c++) {
                int sx = f->turn == 6 ? y : f->turn == 3 ? f->width - 1 - x : x;
                int sy = f->turn == 6 ? f->height - 1 - x : f->turn == 3 ? f->height - 1 - y : y;

                ck_assert_int_eq(kdas_image_pixels(rgb)[3 * (y * v.width + x) + c],
                                 want_at(f, sx, sy, c));
            }
    kdas_image_destroy(rgb);
}
END_TEST

START_TEST(grey_of_a_tiff_is_that_of_its_colours)
{
    for (size_t i = 0; i < KD_COUNT(forms) && kd_has_tiff(); i++) {
        kdas_image *rgb, *grey, *converted;
        kdas_view   v;

        if (forms[i].refused) continue;
        write_form("a.tif", &forms[i]);
        kd_assert_ok(kdas_image_load(&rgb, kd_data_ctx, kd_test_path("a.tif"), KDAS_PIXEL_RGB8));
        kd_assert_ok(kdas_image_load(&grey, kd_data_ctx, kd_test_path("a.tif"), KDAS_PIXEL_GREY8));
        v = kdas_image_view(rgb);
        kd_assert_ok(kdas_image_convert(&converted, kd_data_ctx, &v, KDAS_PIXEL_GREY8));
        ck_assert_mem_eq(kdas_image_pixels(grey), kdas_image_pixels(converted),
                         (size_t)(v.width * v.height));
        kdas_image_destroy(rgb);
        kdas_image_destroy(grey);
        kdas_image_destroy(converted);
    }
}
END_TEST

START_TEST(alpha_of_a_tiff_comes_along_for_masks)
{
    for (size_t i = 0; i < KD_COUNT(forms) && kd_has_tiff(); i++) {
        const form   *f = &forms[i];
        kd_image_info info;
        uint8_t      *samples;
        int           channels, colours = f->photometric == RGB ? 3 : 1;

        if (f->refused || f->turn) continue;
        write_form("a.tif", f);
        kd_assert_ok(kd_image_load_samples(&samples, &info, &channels, kd_data_ctx,
                                           kd_test_path("a.tif"), false));
        ck_assert_int_eq(channels, f->photometric >= RGB ? 4 : 2);
        for (int p = 0; p < f->width * f->height; p++) {
            unsigned a = f->extra ? value(f, p % f->width, p / f->width, colours) : 255;

            ck_assert_int_eq(samples[p * channels + channels - 1],
                             f->extra && f->bits == 16 ? a >> 8 : a);
            ck_assert_int_eq(samples[p * channels], want_at(f, p % f->width, p / f->width, 0));
        }
        kd_free(kd_data_ctx, samples);
    }
}
END_TEST

START_TEST(a_dataset_of_tiff_files_is_read)
{
    static const form frame   = { 37, 23, 8, 3, RGB, LZW, .rows = 6 };
    static const form mask    = { 37, 23, 8, 1, BLACK_IS_0, PACKBITS, .rows = 6 };
    kdas_dataset     *dataset = NULL;
    kdas_image       *image, *truth;

    write_form("images/a.tif", &frame);
    write_form("masks/a.TIFF", &mask);
    if (!kd_has_tiff()) {
        kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), NULL),
                         KDAS_EUNSUPPORTED);
        kd_assert_sentence("images/a.tif");
        kd_assert_sentence("libtiff");
        return;
    }
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), NULL));
    kd_assert_ok(kdas_dataset_get(&image, &truth, dataset, 0));
    for (int p = 0; p < 37 * 23; p++) {
        ck_assert_int_eq(kdas_image_pixels(image)[3 * p + 2], want_at(&frame, p % 37, p / 37, 2));
        ck_assert_int_eq(kdas_image_pixels(truth)[p],
                         want_at(&mask, p % 37, p / 37, 0) > 127 ? 255 : 0);
    }
    kdas_image_destroy(image);
    kdas_image_destroy(truth);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Damage ---------------------------------------------------------------------------------- */

static int  kept_stderr;
static long printed(void)
{
    long n;

    fflush(stderr);
    n = lseek(2, 0, SEEK_END);
    dup2(kept_stderr, 2);
    close(kept_stderr);
    return n;
}

static void catch_stderr(void)
{
    FILE *to = tmpfile();

    fflush(stderr);
    kept_stderr = dup(2);
    dup2(fileno(to), 2);
    fclose(to);
}

/* Either it is read or it is refused by name; the same from memory and header. */
static void try_file(const uint8_t *bytes, size_t n)
{
    kdas_image *image = (kdas_image *)&image;
    kdas_status st;

    kd_test_write(kd_test_path("a.tif"), bytes, n);
    st = kdas_image_load(&image, kd_data_ctx, kd_test_path("a.tif"), KDAS_PIXEL_RGB8);
    ck_assert_int_eq(st == KDAS_OK, image != NULL);
    if (st != KDAS_OK) {
        ck_assert(st == KDAS_EFORMAT || st == KDAS_ENOMEM || st == KDAS_EUNSUPPORTED);
        kd_assert_sentence("a.tif");
    }
    kdas_image_destroy(image);
}

START_TEST(a_tiff_cut_off_is_refused_at_any_length)
{
    const buffer *b = make(&forms[_i]);
    kdas_image   *image;
    size_t        step, most = b->n - 4; /* the last bytes say that there is no other page */

    catch_stderr();
    for (size_t n = 0; n < most; n += step) {
        step = n > 20 && n + 240 < most ? 37 : 3;
        try_file(b->bytes, n);
        if (n < 8) continue;
        kd_assert_status(
            kdas_image_load(&image, kd_data_ctx, kd_test_path("a.tif"), KDAS_PIXEL_GREY8),
            kd_has_tiff() ? KDAS_EFORMAT : KDAS_EUNSUPPORTED);
    }
    ck_assert_int_eq(printed(), 0);
}
END_TEST

START_TEST(altered_bytes_do_no_harm_and_print_nothing)
{
    const buffer *b    = make(&forms[_i]);
    uint8_t      *copy = malloc(b->n);
    size_t        tail = b->n < 400 ? b->n : 400; /* the directory is at the end */

    catch_stderr();
    for (int64_t k = 0; k < 100; k++) {
        memcpy(copy, b->bytes, b->n);
        for (int i = 0; i < 1 + k % 3; i++) {
            uint64_t r = kd_mix64((uint64_t)(k * 8 + i));

            copy[k % 4 ? b->n - 1 - r % tail : r % b->n] = (uint8_t)(r >> 40);
        }
        try_file(copy, b->n);
    }
    free(copy);
    ck_assert_int_eq(printed(), 0);
}
END_TEST

START_TEST(a_picture_too_large_is_refused_before_memory_is_taken)
{
    static const form f = { 37, 23, 8, 1, BLACK_IS_0, RAW, .rows = 23 };
    const buffer     *b = make(&f);
    uint8_t           copy[2048];
    size_t            directory;

    ck_assert_uint_le(b->n, sizeof copy);
    memcpy(copy, b->bytes, b->n);
    directory               = copy[4] | (size_t)copy[5] << 8;
    copy[directory + 2 + 8] = copy[directory + 2 + 9] = 0xFF; /* the width, 65535 */
    try_file(copy, b->n);
    if (kd_has_tiff()) kd_assert_sentence("too large");
    ck_assert_int_le(kd_data_memory.taken, 8);
    memcpy(copy, b->bytes, b->n);
    copy[directory + 2 + 8] = 0;
    try_file(copy, b->n);
}
END_TEST

/* Within the limits, but its bytes cannot hold so many pixels. */
START_TEST(a_picture_that_its_file_cannot_hold_is_refused_before_memory_is_taken)
{
    static const int packings[] = { RAW, PACKBITS, LZW, DEFLATE };
    form             f          = { 37, 23, 8, 3, RGB, packings[_i], .rows = 23 };
    const buffer    *b          = make(&f);
    uint8_t         *copy       = malloc(b->n);
    size_t           directory;

    memcpy(copy, b->bytes, b->n);
    directory                    = copy[4] | (size_t)copy[5] << 8;
    copy[directory + 2 + 9]      = 0x3F; /* 16165 x 4119 */
    copy[directory + 2 + 12 + 9] = 0x10;
    kd_data_memory.taken = kd_data_memory.given_back = 0;
    try_file(copy, b->n);
    if (kd_has_tiff()) kd_assert_sentence("too short for its size");
    ck_assert_int_le(kd_data_memory.taken, 4);
    free(copy);
}
END_TEST

START_TEST(memory_that_runs_out_leaves_nothing)
{
    for (size_t k = 0; k < KD_COUNT(forms) && kd_has_tiff(); k += 5) {
        kdas_image *image = NULL;

        if (forms[k].refused) continue;
        write_form("a.tif", &forms[k]);
        for (long i = 1;; i++) {
            kdas_status st;

            kd_data_memory.taken   = 0;
            kd_data_memory.fail_at = i;
            st = kdas_image_load(&image, kd_data_ctx, kd_test_path("a.tif"), KDAS_PIXEL_GREY8);
            if (st == KDAS_OK) break;
            kd_assert_status(st, KDAS_ENOMEM);
            ck_assert_ptr_null(image);
        }
        kdas_image_destroy(image);
    }
    kd_data_memory.fail_at = 0;
    kd_data_memory.taken = kd_data_memory.given_back = 0;
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("tiff");
    TCase   *tc     = tcase_create("tiff");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_loop_test(tc, each_kind_of_tiff_is_read, 0, KD_COUNT(forms));
    tcase_add_test(tc, grey_of_a_tiff_is_that_of_its_colours);
    tcase_add_test(tc, alpha_of_a_tiff_comes_along_for_masks);
    tcase_add_test(tc, a_dataset_of_tiff_files_is_read);
    tcase_add_loop_test(tc, a_tiff_cut_off_is_refused_at_any_length, 0, KD_COUNT(forms));
    tcase_add_loop_test(tc, altered_bytes_do_no_harm_and_print_nothing, 0, KD_COUNT(forms));
    tcase_add_test(tc, a_picture_too_large_is_refused_before_memory_is_taken);
    tcase_add_loop_test(tc, a_picture_that_its_file_cannot_hold_is_refused_before_memory_is_taken,
                        0, 4);
    tcase_add_test(tc, memory_that_runs_out_leaves_nothing);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
