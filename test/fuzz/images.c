/* images.c - a file of any bytes as an image: every way in which one is read. Whatever a file is, all ways must agree
 * on whether it is one and of which size. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "fuzz/fuzz.h"
#include "image/image.h"
#include "support/check_util.h"
#include "support/pictures.h"

typedef struct tried {
    kdas_status st;
    int64_t     width, height;
} tried;

/* The ways agree, unless memory ran out in one of them. */
static void agree(const char *what, tried a, tried b)
{
    if (a.st == KDAS_ENOMEM || b.st == KDAS_ENOMEM) return;
    ck_assert_msg(a.st == b.st && a.width == b.width && a.height == b.height,
                  "%s: %s of %lld x %lld, then %s of %lld x %lld", what, kdas_status_name(a.st),
                  (long long)a.width, (long long)a.height, kdas_status_name(b.st),
                  (long long)b.width, (long long)b.height);
}

static tried take(kdas_image *image, kdas_status st, const char *path)
{
    tried     t    = { st, 0, 0 };
    kdas_view view = kdas_image_view(image);

    ck_assert_int_eq(image == NULL, !kd_fuzz_refused_well(st, KDAS_EUNSUPPORTED));
    if (st == KDAS_EFORMAT) kd_assert_sentence(path);
    t.width  = view.width;
    t.height = view.height;
    return t;
}

static tried load(kdas_context *ctx, const char *path, kdas_pixel pixel)
{
    kdas_image *image;
    kdas_status st = kdas_image_load(&image, ctx, path, pixel);
    tried       t  = take(image, st, path);

    kdas_image_destroy(image);
    return t;
}

/* A mask that is read is black and white. */
static tried load_mask(kdas_context *ctx, const char *path, kdas_mask_rule rule)
{
    kdas_image *image;
    kdas_status st = kdas_mask_load(&image, ctx, path, rule);
    tried       t  = take(image, st, path);
    uint8_t    *p  = kdas_image_pixels(image);

    for (int64_t i = 0; i < t.width * t.height; i++)
        ck_assert_msg(p[i] == 0 || p[i] == 255, "a mask with %d", p[i]);
    kdas_image_destroy(image);
    return t;
}

static void try_samples(kdas_context *ctx, const char *path, tried rgb)
{
    for (int labels = 0; labels < 2; labels++) {
        kd_image_info info     = { 0 };
        uint8_t      *samples  = NULL;
        int           channels = 0;
        kdas_status   st = kd_image_load_samples(&samples, &info, &channels, ctx, path, labels);

        if (kd_fuzz_refused_well(st, KDAS_EUNSUPPORTED)) {
            ck_assert(channels >= 1 && channels <= 4);
            agree("samples", rgb, (tried){ st, info.width, info.height });
        }
        kd_free(ctx, samples);
    }
}

static void try_grey16(kdas_context *ctx, const char *path, tried rgb)
{
    kd_image_info info    = { 0 };
    uint16_t     *samples = NULL;
    kdas_status   st      = kd_image_load_grey16(&samples, &info, ctx, path);

    if (kd_fuzz_refused_well(st, KDAS_EUNSUPPORTED))
        agree("16 bits", rgb, (tried){ st, info.width, info.height });
    kd_free(ctx, samples);
}

static void run(const uint8_t *data, size_t size)
{
    kdas_context  *ctx  = kd_fuzz_begin();
    const char    *path = kd_fuzz_file(data, size);
    kd_image_info  info = { 0 };
    kdas_mask_rule rule = KDAS_MASK_AUTO;
    tried          header, rgb;

    header.st     = kd_image_info_load(&info, ctx, path);
    header.width  = info.width;
    header.height = info.height;
    kd_fuzz_refused_well(header.st, KDAS_EUNSUPPORTED);
    rgb = load(ctx, path, KDAS_PIXEL_RGB8);
    agree("grey", rgb, load(ctx, path, KDAS_PIXEL_GREY8));
    if (rgb.st == KDAS_OK) agree("header", rgb, header);
    if (header.st == KDAS_EFORMAT) ck_assert_int_ne(rgb.st, KDAS_OK);
    try_samples(ctx, path, rgb);
    try_grey16(ctx, path, rgb);
    for (int r = KDAS_MASK_BRIGHT; r <= KDAS_MASK_COLOUR; r++) {
        tried mask = load_mask(ctx, path, (kdas_mask_rule)r);

        if (r != KDAS_MASK_ALPHA) agree(kdas_mask_rule_name((kdas_mask_rule)r), rgb, mask);
        if (mask.st == KDAS_OK) agree("alpha", rgb, mask);
    }
    if (kd_fuzz_refused_well(kdas_mask_find_rule(ctx, &path, 1, &rule), KDAS_EUNSUPPORTED)) {
        ck_assert_int_ne(rule, KDAS_MASK_AUTO);
        agree("its own rule", load_mask(ctx, path, rule), load_mask(ctx, path, KDAS_MASK_AUTO));
    }
    kd_fuzz_end();
}

/* ---- seeds ---- */

static void seed_png(const char *name, int bits, int colour, int samples)
{
    uint8_t file[2048], rows[512], palette[3 * 16];
    int     row = (6 * samples * bits + 7) / 8;

    for (int i = 0; i < (int)sizeof palette; i++)
        palette[i] = kd_test_value(i);
    for (int y = 0; y < 5; y++)
        for (int x = 0; x <= row; x++)
            rows[y * (row + 1) + x] = (uint8_t)(x ? kd_test_value(y * row + x) : y % 5);
    kd_fuzz_seed(name, file,
                 kd_test_png(file, 6, 5, bits, colour, palette, colour == 3 ? sizeof palette : 0,
                             rows, (size_t)(5 * (row + 1))));
}

static void seed_saved(kdas_context *ctx, const char *name, kdas_pixel pixel)
{
    const char *path = kd_fuzz_path(name);
    kdas_image *image =
        pixel == KDAS_PIXEL_GREY8 ? kd_test_picture(ctx, 9, 7, pixel) : kd_test_ramp(ctx, 17, 9);

    kd_test_save(ctx, path, image);
    kd_fuzz_seed_file(name, path);
    kdas_image_destroy(image);
}

/* A TIFF of 4 x 3 pixels in one strip, or, if it is tiled, in one tile of 16 x 16. */
static void seed_tiff(const char *name, unsigned samples, unsigned photometric, unsigned bits,
                      unsigned packing, bool tiled)
{
    enum { RAW = 1, DEFLATE = 8, PACKBITS = 32773 };
    unsigned row = ((tiled ? 16 : 4) * samples * bits + 7) / 8, n = row * (tiled ? 16 : 3);
    uint8_t  pixels[2048], file[4096]                             = { 'I', 'I', 42, 0 };
    uLongf   size     = sizeof file - 256;
    unsigned tag[][4] = { { 256, 3, 1, 4 },
                          { 257, 3, 1, 3 },
                          { 258, 3, 1, bits },
                          { 259, 3, 1, packing },
                          { 262, 3, 1, photometric },
                          { tiled ? 324u : 273u, 4, 1, 8 },
                          { 274, 3, 1, 6 },
                          { 277, 3, 1, samples },
                          { tiled ? 322u : 278u, 3, 1, tiled ? 16 : 3 },
                          { tiled ? 323u : 279u, tiled ? 3 : 4, 1, tiled ? 16 : n },
                          { tiled ? 325u : 320u, tiled ? 4 : 3, tiled ? 1 : 3u << bits, n } };
    unsigned tags     = tiled || photometric == 3 ? 11 : 10;
    uint32_t at;

    for (unsigned i = 0; i < n; i++)
        pixels[i] = kd_test_value(i);
    if (packing == DEFLATE) {
        compress(file + 8, &size, pixels, n);
        n = (unsigned)size;
    } else if (packing == PACKBITS) {
        file[8] = (uint8_t)(n - 1); /* a literal run of up to 128 */
        memcpy(file + 9, pixels, n++);
    } else {
        memcpy(file + 8, pixels, n);
    }
    tag[tiled ? 10 : 9][3] = n;
    at                     = 8 + n + n % 2;
    memcpy(file + 4, &at, 4);
    if (!tiled) tag[10][3] = at + 2 + 12 * tags + 4; /* the palette, zeros */
    file[at++] = (uint8_t)tags;
    file[at++] = 0;
    for (unsigned i = 0; i < tags; i++, at += 12) {
        memcpy(file + at, &tag[i][0], 2);
        memcpy(file + at + 2, &tag[i][1], 2);
        memcpy(file + at + 4, &tag[i][2], 4);
        memcpy(file + at + 8, &tag[i][3], 4);
    }
    kd_fuzz_seed(name, file, at + 4 + (photometric == 3 ? 6u << bits : 0));
}

/* The JPEG with an orientation before its other segments. */
static void seed_exif(void)
{
    static const char exif[] = "\xFF\xE1\0\x22"
                               "Exif\0\0MM\0*\0\0\0\10\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0";
    uint8_t           file[sizeof kd_test_progressive + sizeof exif];

    memcpy(file, kd_test_progressive, 2);
    memcpy(file + 2, exif, sizeof exif - 1);
    memcpy(file + 1 + sizeof exif, kd_test_progressive + 2, sizeof kd_test_progressive - 2);
    kd_fuzz_seed("exif.jpg", file, sizeof kd_test_progressive + sizeof exif - 1);
}

static void seeds(void)
{
    kdas_context *ctx = kd_fuzz_begin();

    for (int bits = 1; bits <= 16; bits *= 2) {
        char name[32];

        snprintf(name, sizeof name, "grey%d.png", bits);
        seed_png(name, bits, 0, 1);
        snprintf(name, sizeof name, "palette%d.png", bits);
        if (bits <= 8) seed_png(name, bits, 3, 1);
    }
    seed_png("rgb8.png", 8, 2, 3);
    seed_png("rgb16.png", 16, 2, 3);
    seed_png("alpha8.png", 8, 4, 2);
    seed_png("alpha16.png", 16, 4, 2);
    seed_png("rgba8.png", 8, 6, 4);
    seed_png("rgba16.png", 16, 6, 4);
    seed_saved(ctx, "saved_grey.png", KDAS_PIXEL_GREY8);
    seed_saved(ctx, "saved_rgb.png", KDAS_PIXEL_RGB8);
    seed_saved(ctx, "saved_rgb.jpg", KDAS_PIXEL_RGB8);
    seed_saved(ctx, "saved_grey.jpg", KDAS_PIXEL_GREY8);
    kd_fuzz_seed("progressive.jpg", kd_test_progressive, sizeof kd_test_progressive);
    seed_exif();
    kd_fuzz_seed("24.bmp", kd_test_bmp, sizeof kd_test_bmp);
    seed_tiff("grey.tif", 1, 1, 8, 1, false);
    seed_tiff("grey1.tif", 1, 0, 1, 1, false);
    seed_tiff("grey16.tif", 1, 1, 16, 8, false);
    seed_tiff("rgb.tif", 3, 2, 8, 1, false);
    seed_tiff("rgba.tif", 4, 2, 8, 32773, false);
    seed_tiff("palette.tif", 1, 3, 4, 1, false);
    seed_tiff("tiled.tif", 1, 1, 8, 1, true);
    seed_tiff("tiled_rgb.tif", 3, 2, 8, 8, true);
    kd_fuzz_end();
}

const kd_fuzz_target kd_fuzz_images = { "images", run, kd_fuzz_mutate_png, seeds };
