/* check_image.c - images: Pillow's resize bit by bit, files that come back as they were saved, and files
 * that lie, are cut off or altered, each with a sentence and without a crash. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/crc.h"
#include "io/image.h"
#include "io/safetensors.h"
#include "support/check_util.h"
#include "support/files.h"

static kd_test_memory memory;
static kdas_context   context, *ctx = &context;

static void setup(void)
{
    kd_test_folder_make();
    kd_test_bare_context(ctx, &memory);
}

static void teardown(void)
{
    kd_test_assert_balanced(&memory);
    kd_test_folder_remove();
}

/* Byte i of the pictures below; the script that asked Pillow used the same rule. */
static uint8_t value(int64_t i) { return (uint8_t)(i * 37 + i * i % 11 * 13); }

/* An image of those bytes. */
static kdas_image *picture(int64_t width, int64_t height, kdas_pixel pixel)
{
    kdas_image *image;

    kd_assert_ok(kdas_image_create(&image, ctx, width, height, pixel));
    for (int64_t i = 0; i < width * height * image->channels; i++)
        image->pixels[i] = value(i);
    return image;
}

/* A smooth colour ramp, as JPEG likes it. */
static kdas_image *ramp(int64_t width, int64_t height)
{
    kdas_image *image;

    kd_assert_ok(kdas_image_create(&image, ctx, width, height, KDAS_PIXEL_RGB8));
    for (int64_t i = 0; i < width * height; i++) {
        image->pixels[3 * i]     = (uint8_t)(255 * (i % width) / width);
        image->pixels[3 * i + 1] = (uint8_t)(255 * (i / width) / height);
        image->pixels[3 * i + 2] = 90;
    }
    return image;
}

static void save(const char *path, const kdas_image *image)
{
    kdas_view view = kdas_image_view(image);

    kd_assert_ok(kdas_image_save(ctx, path, &view));
}

/* ---- PNG and BMP files byte by byte ---- */

static size_t put32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
    return 4;
}

static size_t chunk(uint8_t *to, const char *type, const void *data, size_t n)
{
    put32(to, (uint32_t)n);
    memcpy(to + 4, type, 4);
    if (n) memcpy(to + 8, data, n);
    put32(to + 8 + n, kd_crc32(0, to + 4, n + 4));
    return n + 12;
}

/* A PNG of these raw rows (each begins with its filter's number), stored without compression. */
static size_t png(uint8_t *to, uint32_t width, uint32_t height, int bits, int colour,
                  const void *palette, size_t palette_bytes, const uint8_t *rows, size_t n)
{
    uint8_t  head[13] = { 0 }, *zip = malloc(n + 11);
    uint32_t a = 1, b = 0;
    size_t   at = 8;

    memcpy(to, "\x89PNG\r\n\x1A\n", 8);
    put32(head, width);
    put32(head + 4, height);
    head[8] = (uint8_t)bits;
    head[9] = (uint8_t)colour;
    at += chunk(to + at, "IHDR", head, sizeof head);
    if (palette_bytes) at += chunk(to + at, "PLTE", palette, palette_bytes);
    memcpy(zip, "\x78\x01\x01", 3);
    zip[3] = (uint8_t)n, zip[4] = (uint8_t)(n >> 8);
    zip[5] = (uint8_t)~n, zip[6] = (uint8_t)(~n >> 8);
    memcpy(zip + 7, rows, n);
    for (size_t i = 0; i < n; i++)
        a = (a + rows[i]) % 65521, b = (b + a) % 65521;
    put32(zip + 7 + n, b << 16 | a);
    at += chunk(to + at, "IDAT", zip, n + 11);
    free(zip);
    return at + chunk(to + at, "IEND", NULL, 0);
}

/* 3x2 pixels, 24 bits, lowest row first, rows padded to 12 bytes. */
static const uint8_t bmp[54 + 24] = { 'B', 'M', 78, 0,  0,  0,  0,  0,  0,  0,  54, 0, 0,  0, 40, 0,
                                      0,   0,   3,  0,  0,  0,  2,  0,  0,  0,  1,  0, 24, 0, 0,  0,
                                      0,   0,   0,  0,  0,  0,  0,  0,  0,  0,  0,  0, 0,  0, 0,  0,
                                      0,   0,   0,  0,  0,  0,  1,  2,  3,  4,  5,  6, 7,  8, 9,  0,
                                      0,   0,   11, 12, 13, 14, 15, 16, 17, 18, 19, 0, 0,  0 };

/* A progressive JPEG, 16x16 grey, 40 + 10 x + 2 y, made by libjpeg. */
static const uint8_t progressive[293] = {
    0xFF, 0xD8, 0xFF, 0xE0, 0x00, 0x10, 0x4A, 0x46, 0x49, 0x46, 0x00, 0x01, 0x01, 0x00, 0x00, 0x01,
    0x00, 0x01, 0x00, 0x00, 0xFF, 0xDB, 0x00, 0x43, 0x00, 0x0D, 0x09, 0x0A, 0x0B, 0x0A, 0x08, 0x0D,
    0x0B, 0x0A, 0x0B, 0x0E, 0x0E, 0x0D, 0x0F, 0x13, 0x20, 0x15, 0x13, 0x12, 0x12, 0x13, 0x27, 0x1C,
    0x1E, 0x17, 0x20, 0x2E, 0x29, 0x31, 0x30, 0x2E, 0x29, 0x2D, 0x2C, 0x33, 0x3A, 0x4A, 0x3E, 0x33,
    0x36, 0x46, 0x37, 0x2C, 0x2D, 0x40, 0x57, 0x41, 0x46, 0x4C, 0x4E, 0x52, 0x53, 0x52, 0x32, 0x3E,
    0x5A, 0x61, 0x5A, 0x50, 0x60, 0x4A, 0x51, 0x52, 0x4F, 0xFF, 0xC2, 0x00, 0x0B, 0x08, 0x00, 0x10,
    0x00, 0x10, 0x01, 0x01, 0x11, 0x00, 0xFF, 0xC4, 0x00, 0x15, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x04, 0xFF, 0xDA, 0x00,
    0x08, 0x01, 0x01, 0x00, 0x00, 0x00, 0x01, 0x85, 0x83, 0x18, 0xFF, 0xC4, 0x00, 0x16, 0x10, 0x00,
    0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x03, 0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x01, 0x05, 0x02, 0x92, 0x24, 0x89, 0x22,
    0x48, 0xFF, 0xC4, 0x00, 0x14, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x06, 0x3F,
    0x02, 0x1F, 0xFF, 0xC4, 0x00, 0x14, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x01,
    0x3F, 0x21, 0x00, 0x1F, 0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x00, 0x10, 0x5F, 0xFF,
    0xC4, 0x00, 0x15, 0x10, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x31, 0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x01, 0x3F, 0x10,
    0x82, 0x08, 0x20, 0xFF, 0xD9,
};

/* ---- Resize ---- */

/* What Pillow 9.4 makes of picture(): Image.fromarray(a).resize((w, h), Image.BILINEAR). */
static const struct {
    int64_t    from_width, from_height, width, height;
    kdas_pixel pixel;
    uint8_t    want[72];
} resized[] = {
    { 7, 5, 4, 3, KDAS_PIXEL_GREY8, { 62, 137, 191, 107, 97, 124, 140, 50, 64, 147, 127, 131 } },
    { 6, 4, 3, 6, KDAS_PIXEL_RGB8, { 98,  122, 172, 104, 102, 159, 151, 78,  141, 113, 84,
                                     112, 101, 78,  119, 162, 133, 130, 135, 51,  64,  100,
                                     64,  79,  162, 184, 123, 162, 74,  114, 109, 106, 82,
                                     121, 168, 141, 171, 156, 118, 138, 152, 86,  119, 151,
                                     105, 172, 232, 109, 165, 187, 89,  127, 138, 65 } },
    { 3,
      7,
      9,
      2,
      KDAS_PIXEL_GREY8,
      { 105, 105, 108, 111, 114, 132, 150, 167, 167, 151, 151, 127, 102, 78, 91, 105, 119, 119 } },
    { 9, 9, 1, 1, KDAS_PIXEL_GREY8, { 120 } },
};

START_TEST(resize_gives_pillows_bytes)
{
    kdas_image *in = picture(resized[_i].from_width, resized[_i].from_height, resized[_i].pixel),
               *out;
    kdas_view view = kdas_image_view(in);

    kd_assert_ok(kdas_image_resize(&out, ctx, &view, resized[_i].width, resized[_i].height));
    ck_assert_int_eq(out->pixel, resized[_i].pixel);
    ck_assert_mem_eq(out->pixels, resized[_i].want,
                     (size_t)(out->width * out->height * out->channels));
    kdas_image_destroy(in);
    kdas_image_destroy(out);
}
END_TEST

START_TEST(resize_of_floats_gives_pillows_floats)
{
    static const float want[12] = {
        0x1.f53924p-3f, 0x1.133c32p-1f, 0x1.807c18p-1f, 0x1.ad21d0p-2f,
        0x1.84e7c8p-2f, 0x1.f308a8p-2f, 0x1.1a1fd0p-1f, 0x1.952e3ep-3f,
        0x1.0138f4p-2f, 0x1.27ce92p-1f, 0x1.fd4dc2p-2f, 0x1.06eb0ep-1f
    };
    float     in[35], got[12];
    kdas_view view = { in, 7, 5, 0, KDAS_PIXEL_GREYF32 };

    for (int i = 0; i < 35; i++)
        in[i] = (float)value(i) / 255.0f;
    kd_assert_ok(kd_resize_floats(ctx, got, 4, 3, &view));
    ck_assert(kd_test_same_bits(got, want, sizeof want));
}
END_TEST

START_TEST(resize_gives_the_golden_bytes)
{
    const char     *path = kd_test_shared("fixtures/resize.safetensors");
    kd_safetensors *f;

    if (!path) return;
    kd_assert_ok(kd_safetensors_open(&f, ctx, path));
    for (int i = 0; i < 4; i++) {
        char                name[8];
        const kd_st_tensor *in, *out;
        uint8_t            *from, *want, *got;

        snprintf(name, sizeof name, "in%d", i);
        in = kd_safetensors_find(f, name);
        snprintf(name, sizeof name, "out%d", i);
        out = kd_safetensors_find(f, name);
        ck_assert(in && out && in->dtype == KD_ST_U8 && out->dtype == KD_ST_U8);
        from = malloc(in->bytes), want = malloc(out->bytes), got = malloc(out->bytes);
        kd_assert_ok(kd_safetensors_read(f, in, from));
        kd_assert_ok(kd_safetensors_read(f, out, want));
        kd_assert_ok(
            kd_resize_bytes(ctx, got, out->dim[1], out->dim[0],
                            &(kdas_view){ from, in->dim[1], in->dim[0], 0, KDAS_PIXEL_RGB8 }));
        ck_assert(kd_test_same_bits(got, want, out->bytes));
        free(from), free(want), free(got);
    }
    kd_safetensors_close(f);
}
END_TEST

START_TEST(resize_to_the_same_size_copies_and_constants_stay)
{
    kdas_image *in   = picture(31, 17, KDAS_PIXEL_RGB8), *out;
    kdas_view   view = kdas_image_view(in);

    kd_assert_ok(kdas_image_resize(&out, ctx, &view, 31, 17));
    ck_assert_mem_eq(out->pixels, in->pixels, 31 * 17 * 3);
    kdas_image_destroy(out);
    memset(in->pixels, 255, 31 * 17 * 3);
    kd_assert_ok(kdas_image_resize(&out, ctx, &view, 3, 97));
    for (int i = 0; i < 3 * 97 * 3; i++)
        ck_assert_int_eq(out->pixels[i], 255);
    kdas_image_destroy(in);
    kdas_image_destroy(out);
}
END_TEST

/* The longest axis that is allowed, to one pixel: 32769 weights that must neither overflow nor lose white. */
START_TEST(resize_of_the_longest_row_keeps_white)
{
    kdas_image *in, *out;
    kdas_view   view;

    kd_assert_ok(kdas_image_create(&in, ctx, KDAS_IMAGE_MAX_SIDE, 1, KDAS_PIXEL_GREY8));
    memset(in->pixels, 255, KDAS_IMAGE_MAX_SIDE);
    view = kdas_image_view(in);
    kd_assert_ok(kdas_image_resize(&out, ctx, &view, 1, 1));
    ck_assert_int_ge(out->pixels[0], 254);
    kdas_image_destroy(in);
    kdas_image_destroy(out);
}
END_TEST

START_TEST(resize_reads_strides_and_drops_alpha)
{
    uint8_t     wide[5][40], packed[5][7][3];
    kdas_image *got, *want;
    kdas_view   rgba = { wide, 7, 5, 40, KDAS_PIXEL_BGRA8 };
    kdas_view   rgb  = { packed, 7, 5, 0, KDAS_PIXEL_RGB8 };

    memset(wide, 99, sizeof wide);
    for (int i = 0; i < 35; i++)
        for (int c = 0; c < 3; c++)
            wide[i / 7][i % 7 * 4 + c] = packed[i / 7][i % 7][c] = value(3 * i + c);
    kd_assert_ok(kdas_image_resize(&got, ctx, &rgba, 4, 9));
    kd_assert_ok(kdas_image_resize(&want, ctx, &rgb, 4, 9));
    ck_assert_int_eq(got->pixel, KDAS_PIXEL_BGR8); /* its own order, without alpha */
    ck_assert_mem_eq(got->pixels, want->pixels, 4 * 9 * 3);
    kdas_image_destroy(got);
    kdas_image_destroy(want);
}
END_TEST

/* ---- Saving and loading ---- */

START_TEST(a_png_comes_back_exactly)
{
    static const kdas_pixel pixels[]   = { KDAS_PIXEL_GREY8, KDAS_PIXEL_RGB8 };
    static const int64_t    sizes[][2] = { { 1, 1 }, { 37, 23 }, { 300, 200 } };
    kdas_image             *in = picture(sizes[_i / 2][0], sizes[_i / 2][1], pixels[_i % 2]), *out;

    save(kd_test_path("x.png"), in);
    kd_assert_ok(kdas_image_load(&out, ctx, kd_test_path("x.png"), in->pixel));
    ck_assert_int_eq(out->width, in->width);
    ck_assert_int_eq(out->height, in->height);
    ck_assert(memcmp(out->pixels, in->pixels, (size_t)(in->width * in->height * in->channels)) ==
              0);
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
    kdas_image_destroy(in);
    kdas_image_destroy(out);
}
END_TEST

START_TEST(any_8_bit_view_is_saved_as_the_colours_it_shows)
{
    static const struct {
        kdas_pixel pixel;
        int        step, red, blue;
    } rows[]                         = { { KDAS_PIXEL_RGB8, 3, 0, 2 },
                                         { KDAS_PIXEL_BGR8, 3, 2, 0 },
                                         { KDAS_PIXEL_RGBA8, 4, 0, 2 },
                                         { KDAS_PIXEL_BGRA8, 4, 2, 0 } };
    static const char *const names[] = { "x.png", "x.jpg", "x.JPEG" };

    for (size_t r = 0; r < KD_COUNT(rows); r++) {
        uint8_t     data[4][50] = { { 0 } };
        kdas_image *image;
        kdas_view   view = { data, 8, 4, 50, rows[r].pixel };

        for (int i = 0; i < 32; i++) {
            uint8_t *p      = &data[i / 8][i % 8 * rows[r].step];
            p[rows[r].red]  = 200;
            p[1]            = 100;
            p[rows[r].blue] = 50;
        }
        kd_assert_ok(kdas_image_save(ctx, kd_test_path(names[_i]), &view));
        kd_assert_ok(kdas_image_load(&image, ctx, kd_test_path(names[_i]), KDAS_PIXEL_RGB8));
        for (int i = 0; i < 32; i++) { /* JPEG is not exact */
            ck_assert_int_le(abs(image->pixels[3 * i] - 200), _i ? 4 : 0);
            ck_assert_int_le(abs(image->pixels[3 * i + 1] - 100), _i ? 4 : 0);
            ck_assert_int_le(abs(image->pixels[3 * i + 2] - 50), _i ? 4 : 0);
        }
        kdas_image_destroy(image);
    }
    if (_i) { /* and by its bytes a JPEG */
        size_t         n;
        unsigned char *file = kd_test_read(kd_test_path(names[_i]), &n);

        ck_assert_mem_eq(file, "\xFF\xD8\xFF", 3);
        free(file);
    }
}
END_TEST

START_TEST(grey_of_colours_is_pillows_luma)
{
    /* Image.convert("L"): red, green, blue, white, black, and one of each */
    static const uint8_t want[6] = { 76, 150, 29, 255, 0, 18 };
    kdas_image          *image;
    const uint8_t        rgb[6][3] = { { 255, 0, 0 },     { 0, 255, 0 }, { 0, 0, 255 },
                                       { 255, 255, 255 }, { 0, 0, 0 },   { 10, 20, 30 } };

    kd_assert_ok(
        kdas_image_save(ctx, kd_test_path("x.png"), &(kdas_view){ rgb, 6, 1, 0, KDAS_PIXEL_RGB8 }));
    kd_assert_ok(kdas_image_load(&image, ctx, kd_test_path("x.png"), KDAS_PIXEL_GREY8));
    ck_assert_int_eq(kdas_image_view(image).pixel, KDAS_PIXEL_GREY8);
    ck_assert_mem_eq(image->pixels, want, 6);
    kdas_image_destroy(image);
}
END_TEST

/* PNG kinds beyond 8-bit grey and colour: 2x1 pixels each, the row as filed, and as grey. */
static const struct {
    int     bits, colour;
    uint8_t row[9], bytes;
    uint8_t want[2];
} kinds[] = {
    { 16, 0, { 0, 200, 99, 17, 255 }, 5, { 200, 17 } }, /* the upper byte counts */
    { 8, 4, { 0, 200, 9, 17, 0 }, 5, { 200, 17 } },     /* alpha does not */
    { 8, 6, { 0, 60, 60, 60, 5, 70, 70, 70, 0 }, 9, { 60, 70 } },
    { 1, 0, { 0, 0x80 }, 2, { 255, 0 } },
    { 4, 3, { 0, 0x10 }, 2, { 77, 33 } },     /* palette entries 1 and 0 */
    { 8, 0, { 1, 100, 5 }, 3, { 100, 105 } }, /* filter 1: differences */
};

START_TEST(each_kind_of_png_is_read)
{
    static const uint8_t palette[6] = { 33, 33, 33, 77, 77, 77 };
    uint8_t              file[256];
    kdas_image          *image;
    kd_image_info        info;
    size_t               n = png(file, 2, 1, kinds[_i].bits, kinds[_i].colour, palette,
                   kinds[_i].colour == 3 ? sizeof palette : 0, kinds[_i].row, kinds[_i].bytes);

    kd_test_write(kd_test_path("x.png"), file, n);
    kd_assert_ok(kdas_image_load(&image, ctx, kd_test_path("x.png"), KDAS_PIXEL_GREY8));
    ck_assert_mem_eq(image->pixels, kinds[_i].want, 2);
    kdas_image_destroy(image);
    kd_assert_ok(kd_image_info_load(&info, ctx, kd_test_path("x.png")));
    ck_assert(info.kind == KD_IMAGE_PNG && info.width == 2 && info.height == 1);
}
END_TEST

START_TEST(a_bmp_is_read_from_its_lowest_row)
{
    static const uint8_t want[18] = {
        13, 12, 11, 16, 15, 14, 19, 18, 17, 3, 2, 1, 6, 5, 4, 9, 8, 7
    };
    kdas_image   *image;
    kd_image_info info;

    kd_test_write(kd_test_path("x.bmp"), bmp, sizeof bmp - _i); /* a cut in the padding is none */
    kd_assert_ok(kdas_image_load(&image, ctx, kd_test_path("x.bmp"), KDAS_PIXEL_RGB8));
    ck_assert_mem_eq(image->pixels, want, 18);
    kdas_image_destroy(image);
    kd_assert_ok(kd_image_info_load(&info, ctx, kd_test_path("x.bmp")));
    ck_assert(info.kind == KD_IMAGE_BMP && info.width == 3 && info.height == 2);
}
END_TEST

START_TEST(a_progressive_jpeg_is_read)
{
    kdas_image   *image;
    kd_image_info info;

    kd_test_write(kd_test_path("x.png"), progressive, sizeof progressive); /* content decides */
    kd_assert_ok(kdas_image_load(&image, ctx, kd_test_path("x.png"), KDAS_PIXEL_GREY8));
    for (int i = 0; i < 256; i++)
        ck_assert_int_le(abs(image->pixels[i] - (40 + 10 * (i % 16) + 2 * (i / 16))), 6);
    kdas_image_destroy(image);
    kd_assert_ok(kd_image_info_load(&info, ctx, kd_test_path("x.png")));
    ck_assert(info.kind == KD_IMAGE_JPEG && info.channels == 1 && info.width == 16);
}
END_TEST

/* ---- Bad files ---- */

static void refused(const char *path, const char *sentence)
{
    kdas_image *image = (kdas_image *)&memory;

    kd_assert_status(kdas_image_load(&image, ctx, path, KDAS_PIXEL_RGB8), KDAS_EFORMAT);
    ck_assert_ptr_null(image);
    kd_assert_sentence(path);
    kd_assert_sentence(sentence);
}

#define SOF_(h, w) "\xFF\xD8\xFF\xC0\0\x11\x08" h w "\3\1\x22\0\2\x11\1\3\x11\1"
#define SOF(h, w)  SOF_(h, w) "\xFF\xD9"
#define SOF_ONLY   SOF_("\0\x10", "\0\x10")
#define FULL       "\xFF\xFF\xFF\xFF"
#define NONE       "\0\0\0\0"

static const struct {
    const char *data;
    size_t      n;
    const char *sentence;
} bad[] = {
    { "", 0, "is empty" },
    { "this is a text\n", 15, "not a JPEG, PNG or BMP image" },
    { "II*\0abcdef", 10, "TIFF" },
    { "MM\0*abcdef", 10, "TIFF" },
    { "GIF89a....", 10, "GIF" },
    { "RIFF\1\2\3\4WEBPVP8 ", 16, "WebP" },
    { "\xFF\xD8\xFF", 3, "cut off" },
    { "\xFF\xD8\xFF\xD9", 4, "cut off" },
    { "\xFF\xD8\xFF\xD9\0\0", 6, "frame header" },
    { "\xFF\xD8\xFF\xE0\0\0\0\0", 8, "frame header" },
    { "\xFF\xD8\xFF\xE0\0\2\0\0\0\0", 10, "cut off" },
    { "\xFF\xD8\xFF\xC0\0\x11\x08\0\1\0\1\3\1\x31\0\2\x21\1\3\x11\1\xFF\xD9", 23, "sampling" },
    { SOF_ONLY "\xFF\xC4\0\x13\0" FULL FULL FULL FULL "\xFF\xD9", 44, "Huffman table" },
    { SOF_ONLY "\xFF\xC4\0\x13\0" NONE NONE NONE "\0\0\0\5\xFF\xD9", 44, "Huffman table" },
    { SOF("\0\0", "\0\0"), 23, "no pixels: it is 0x0" },
    { SOF("\x75\x30", "\x75\x30"), 23, "too large: 30000x30000" },
    { SOF("\0\x10", "\0\x10"), 23, "tables or scans are missing" },
    { "\xFF\xD8\xFF\xC9\0\x11\x08\0\1\0\1\1\1\x11\0\xFF\xD9", 17, "arithmetic" },
    { "\xFF\xD8\xFF\xC0\0\x0B\x0C\0\1\0\1\1\1\x11\0\xFF\xD9", 17, "12 bits" },
    { "\x89PNG\r\n\x1A\n", 8, "cut off" },
    { "BM", 2, "cut off" },
};

START_TEST(what_is_no_image_is_told_by_name)
{
    kd_test_write(kd_test_path("x.png"), bad[_i].data, bad[_i].n);
    refused(kd_test_path("x.png"), bad[_i].sentence);
}
END_TEST

START_TEST(png_headers_that_lie_are_refused_before_memory_is_taken)
{
    static const struct {
        uint32_t    width, height;
        const char *sentence;
    } rows[] = { { 0, 0, "no pixels: it is 0x0" },
                 { 5, 0, "no pixels: it is 5x0" },
                 { 30000, 30000, "too large: 30000x30000" },
                 { 16384, 16384, "too large" },
                 { 0xFFFFFFFF, 1, "too large" } };
    uint8_t file[256];

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        long before = memory.asked;

        kd_test_write(
            kd_test_path("x.png"), file,
            png(file, rows[i].width, rows[i].height, 8, 0, NULL, 0, (uint8_t[2]){ 0 }, 2));
        refused(kd_test_path("x.png"), rows[i].sentence);
        ck_assert_int_le(memory.asked - before, 2); /* for the open file alone */
    }
    /* a size that is allowed, and not there */
    kd_test_write(kd_test_path("x.png"), file,
                  png(file, 8000, 8000, 8, 0, NULL, 0, (uint8_t[2]){ 0 }, 2));
    refused(kd_test_path("x.png"), "is damaged");
}
END_TEST

START_TEST(what_cannot_be_opened_is_told_by_name)
{
    kdas_image *image;

    kd_assert_status(kdas_image_load(&image, ctx, kd_test_path("none.png"), KDAS_PIXEL_RGB8),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("none.png");
    kd_assert_status(kdas_image_load(&image, ctx, kd_test_path(NULL), KDAS_PIXEL_RGB8), KDAS_EIO);
    kd_assert_sentence("a folder");
}
END_TEST

START_TEST(no_cut_goes_unnoticed)
{
    static const char *const names[] = { "x.png", "x.jpg", "x.bmp", "progressive.jpg" };
    const char              *path    = kd_test_path(names[_i]);
    kdas_image              *image   = ramp(24, 17);
    unsigned char           *file;
    size_t                   n;

    if (_i == 2)
        kd_test_write(path, bmp, sizeof bmp - 3); /* less the padding */
    else if (_i == 3)
        kd_test_write(path, progressive, sizeof progressive);
    else
        save(path, image);
    kdas_image_destroy(image);
    file = kd_test_read(path, &n);
    for (size_t i = 0; i < n; i++) {
        kd_test_write(path, file, i);
        refused(path, i >= 54 ? "cut off" : ""); /* sooner the header may be the culprit */
    }
    free(file);
}
END_TEST

START_TEST(a_cut_that_an_end_marker_hides_is_noticed)
{
    const char    *path  = kd_test_path("x.jpg");
    kdas_image    *image = ramp(200, 150);
    unsigned char *file;
    size_t         n;

    save(path, image);
    kdas_image_destroy(image);
    file = kd_test_read(path, &n);
    for (size_t cut = 640; cut < n - 8; cut += 97) { /* the tables end before */
        unsigned char kept[2] = { file[cut], file[cut + 1] };

        memcpy(file + cut, "\xFF\xD9", 2);
        kd_test_write(path, file, cut + 2);
        memcpy(file + cut, kept, 2);
        if (file[cut - 1] != 0xFF) refused(path, "end early");
    }
    kd_test_write(path, file, n); /* and whole it is read */
    kd_assert_ok(kdas_image_load(&image, ctx, path, KDAS_PIXEL_RGB8));
    kdas_image_destroy(image);
    free(file);
}
END_TEST

START_TEST(no_flipped_bit_of_a_png_goes_unnoticed)
{
    const char    *path  = kd_test_path("x.png");
    kdas_image    *image = ramp(12, 9);
    unsigned char *file;
    size_t         n;

    save(path, image);
    kdas_image_destroy(image);
    file = kd_test_read(path, &n);
    for (size_t i = 0; i < 8 * n; i++) {
        file[i / 8] ^= (unsigned char)(1 << i % 8);
        kd_test_write(path, file, n);
        file[i / 8] ^= (unsigned char)(1 << i % 8);
        refused(path, "");
    }
    free(file);
}
END_TEST

/* Give each chunk the checksum of what it now holds, so that an alteration reaches the decoder. */
static void mend_png(unsigned char *file, size_t n)
{
    for (size_t at = 8, length; at + 12 <= n; at += length + 12) {
        length = (size_t)file[at + 2] << 8 | file[at + 3];
        if (file[at] || file[at + 1] || length > n - at - 12) return;
        put32(file + at + 8 + length, kd_crc32(0, file + at + 4, length + 4));
    }
}

START_TEST(files_altered_at_random_never_crash_the_decoder)
{
    static const char *const names[] = { "x.png", "x.jpg", "x.bmp", "y.jpg" };
    const char              *path    = kd_test_path(names[_i]);
    kdas_image              *image   = ramp(40, 33);
    kd_random                r       = kd_random_make(7, (uint64_t)_i);
    unsigned char           *file, *copy;
    size_t                   n;
    int                      decoded = 0;

    if (_i == 2)
        kd_test_write(path, bmp, sizeof bmp);
    else if (_i == 3)
        kd_test_write(path, progressive, sizeof progressive);
    else
        save(path, image);
    kdas_image_destroy(image);
    file = kd_test_read(path, &n);
    copy = malloc(n);
    for (int i = 0; i < 3000; i++) {
        memcpy(copy, file, n);
        for (int64_t k = kd_random_below(&r, 4); k >= 0; k--)
            copy[kd_random_below(&r, (int64_t)n)] = (unsigned char)kd_random_below(&r, 256);
        if (_i == 0) mend_png(copy, n);
        kd_test_write(path, copy, n);
        if (kdas_image_load(&image, ctx, path, i % 2 ? KDAS_PIXEL_RGB8 : KDAS_PIXEL_GREY8) !=
            KDAS_OK) {
            ck_assert_ptr_null(image);
            kd_assert_sentence(path);
            continue;
        }
        decoded++;
        kdas_image_destroy(image);
    }
    ck_assert_int_gt(decoded, 50);
    free(file);
    free(copy);
}
END_TEST

START_TEST(real_oddities_give_an_image_or_a_sentence)
{
    static const struct {
        const char *name;
        int         width, height; /* 0: refused */
    } rows[] = { { "clinicdb_mask_rgb_nonbinary_1.png", 384, 288 },
                 { "colondb_mask_packbits_1.tiff", 0, 0 },
                 { "colondb_packbits_1.tiff", 0, 0 },
                 { "kvasir_mask_cju0u82z3cuma0835wlxrnrjv.jpg", 626, 546 },
                 { "kvasir_mask_cju15wdt3zla10801odjiw7sy.jpg", 622, 529 },
                 { "kvasir_mask_cju16ach3m1da0993r1dq3sn2.jpg", 616, 528 },
                 { "pvt_v2_b2.truncated.pth", 0, 0 } };

    if (!kd_test_shared("data/quirks")) return;
    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        kdas_image *image;
        char        path[256];

        snprintf(path, sizeof path, "../shared/data/quirks/%s", rows[i].name);
        if (!rows[i].width) {
            refused(path, strstr(path, ".tiff") ? "TIFF" : "not a JPEG, PNG or BMP");
            continue;
        }
        kd_assert_ok(kdas_image_load(&image, ctx, path, KDAS_PIXEL_GREY8));
        ck_assert_int_eq(image->width, rows[i].width);
        ck_assert_int_eq(image->height, rows[i].height);
        kdas_image_destroy(image);
    }
}
END_TEST

/* ---- Calls that cannot be right, memory and disks that fail ---- */

START_TEST(arguments_out_of_range_are_refused)
{
    uint8_t         data[64] = { 0 };
    kdas_image     *image;
    const char     *path   = kd_test_path("x.png");
    const kdas_view good   = { data, 4, 4, 0, KDAS_PIXEL_RGB8 };
    const kdas_view bads[] = {
        { NULL, 4, 4, 0, KDAS_PIXEL_RGB8 },   { data, 0, 4, 0, KDAS_PIXEL_RGB8 },
        { data, 4, -1, 0, KDAS_PIXEL_RGB8 },  { data, 4, 4, 11, KDAS_PIXEL_RGB8 },
        { data, 4, 4, -12, KDAS_PIXEL_RGB8 }, { data, 4, 4, 0, (kdas_pixel)0 },
        { data, 4, 4, 0, (kdas_pixel)99 },    { data, INT64_MAX, 2, 0, KDAS_PIXEL_RGB8 },
        { data, 4, 1, 0, KDAS_PIXEL_RGBF32 }
    };

    for (size_t i = 0; i < KD_COUNT(bads); i++) {
        kd_assert_status(kdas_image_resize(&image, ctx, &bads[i], 2, 2), KDAS_EINVAL);
        ck_assert_ptr_null(image);
        kd_assert_status(kdas_image_save(ctx, path, &bads[i]), KDAS_EINVAL);
    }
    kd_assert_status(kdas_image_resize(&image, ctx, &good, 0, 2), KDAS_EINVAL);
    kd_assert_status(kdas_image_resize(&image, ctx, &good, 2, KDAS_IMAGE_MAX_SIDE + 1),
                     KDAS_EINVAL);
    kd_assert_status(kdas_image_resize(&image, ctx, NULL, 2, 2), KDAS_EINVAL);
    kd_assert_status(kdas_image_resize(&image, NULL, &good, 2, 2), KDAS_EINVAL);
    kd_assert_status(kdas_image_resize(NULL, ctx, &good, 2, 2), KDAS_EINVAL);
    kd_assert_status(kdas_image_save(ctx, NULL, &good), KDAS_EINVAL);
    kd_assert_status(kdas_image_save(NULL, path, &good), KDAS_EINVAL);
    kd_assert_status(kdas_image_create(&image, ctx, 4, 4, KDAS_PIXEL_BGR8), KDAS_EINVAL);
    kd_assert_status(kdas_image_create(&image, ctx, 4, 0, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_image_create(NULL, ctx, 4, 4, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_image_load(&image, ctx, path, KDAS_PIXEL_RGBA8), KDAS_EINVAL);
    kd_assert_status(kdas_image_load(&image, ctx, NULL, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_image_load(NULL, ctx, path, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kdas_image_destroy(NULL);
    ck_assert_ptr_null(kdas_image_pixels(NULL));
    ck_assert_ptr_null(kdas_image_view(NULL).data);
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
}
END_TEST

START_TEST(saving_where_nothing_can_be_is_refused_by_name)
{
    const uint8_t   data[3] = { 1, 2, 3 };
    const kdas_view view    = { data, 1, 1, 0, KDAS_PIXEL_RGB8 };

    kd_assert_status(kdas_image_save(ctx, kd_test_path("none/x.png"), &view), KDAS_EIO);
    kd_assert_sentence("none/x.png");
    kd_assert_status(kdas_image_save(ctx, kd_test_path(NULL), &view), KDAS_EIO);
}
END_TEST

/* Save, load and resize with request k of each failing; 1 once none of them reached k. */
static bool with_failing_memory(const char *path, kdas_pixel pixel, const kdas_view *view, int k)
{
    kdas_image *image = NULL;
    kdas_status st;
    bool        done = true;

    for (int call = 0; call < 3; call++) {
        kd_test_bare_context(ctx, &memory);
        memory.fail_at = k;
        st             = call == 0   ? kdas_image_save(ctx, path, view)
                         : call == 1 ? kdas_image_load(&image, ctx, path, pixel)
                                     : kdas_image_resize(&image, ctx, view, 7, 50);
        kd_assert_status(st, memory.asked < k ? KDAS_OK : KDAS_ENOMEM);
        done = done && st == KDAS_OK;
        if (call > 0) ck_assert_int_eq(image == NULL, st != KDAS_OK);
        if (call > 0) kdas_image_destroy(image);
        kd_test_assert_balanced(&memory);
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1); /* no temporary file */
    }
    return done;
}

START_TEST(each_allocation_that_fails_is_survived)
{
    static const char *const names[] = { "x.png", "x.jpg" };
    const char              *path    = kd_test_path(names[_i]);
    uint8_t                  data[20][40][4];
    kdas_view                view = { data, 40, 20, 0, KDAS_PIXEL_BGRA8 };
    int                      k    = 1;

    for (size_t i = 0; i < sizeof data; i++)
        ((uint8_t *)data)[i] =
            (uint8_t)(i * i >> 7); /* repeats little: the PNG writer asks often */
    kd_assert_ok(kdas_image_save(ctx, path, &view));
    while (!with_failing_memory(path, KDAS_PIXEL_GREY8, &view, k))
        k++;
    ck_assert_int_gt(k, 10);
}
END_TEST

static Suite *image_suite(void)
{
    Suite *s      = suite_create("image");
    TCase *resize = tcase_create("resize"), *files = tcase_create("files"),
          *misuse = tcase_create("misuse");

    tcase_add_checked_fixture(resize, setup, teardown);
    tcase_add_loop_test(resize, resize_gives_pillows_bytes, 0, KD_COUNT(resized));
    tcase_add_test(resize, resize_of_floats_gives_pillows_floats);
    tcase_add_test(resize, resize_gives_the_golden_bytes);
    tcase_add_test(resize, resize_to_the_same_size_copies_and_constants_stay);
    tcase_add_test(resize, resize_of_the_longest_row_keeps_white);
    tcase_add_test(resize, resize_reads_strides_and_drops_alpha);
    suite_add_tcase(s, resize);

    tcase_add_checked_fixture(files, setup, teardown);
    tcase_add_loop_test(files, a_png_comes_back_exactly, 0, 6);
    tcase_add_loop_test(files, any_8_bit_view_is_saved_as_the_colours_it_shows, 0, 3);
    tcase_add_test(files, grey_of_colours_is_pillows_luma);
    tcase_add_loop_test(files, each_kind_of_png_is_read, 0, KD_COUNT(kinds));
    tcase_add_loop_test(files, a_bmp_is_read_from_its_lowest_row, 0, 4);
    tcase_add_test(files, a_progressive_jpeg_is_read);
    tcase_add_loop_test(files, what_is_no_image_is_told_by_name, 0, KD_COUNT(bad));
    tcase_add_test(files, png_headers_that_lie_are_refused_before_memory_is_taken);
    tcase_add_test(files, what_cannot_be_opened_is_told_by_name);
    tcase_add_loop_test(files, no_cut_goes_unnoticed, 0, 4);
    tcase_add_test(files, a_cut_that_an_end_marker_hides_is_noticed);
    tcase_add_test(files, no_flipped_bit_of_a_png_goes_unnoticed);
    tcase_add_loop_test(files, files_altered_at_random_never_crash_the_decoder, 0, 4);
    tcase_add_test(files, real_oddities_give_an_image_or_a_sentence);
    suite_add_tcase(s, files);

    tcase_add_checked_fixture(misuse, setup, teardown);
    tcase_add_test(misuse, arguments_out_of_range_are_refused);
    tcase_add_test(misuse, saving_where_nothing_can_be_is_refused_by_name);
    tcase_add_loop_test(misuse, each_allocation_that_fails_is_survived, 0, 2);
    suite_add_tcase(s, misuse);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(image_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
