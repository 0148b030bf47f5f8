/* check_image.c - images: Pillow's resize bit by bit, and files that come back as saved. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "image/image.h"
#include "io/safetensors.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/pictures.h"

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
    kdas_image *in = kd_test_picture(ctx, resized[_i].from_width, resized[_i].from_height,
                                     resized[_i].pixel),
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
        in[i] = (float)kd_test_value(i) / 255.0f;
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
    kdas_image *in   = kd_test_picture(ctx, 31, 17, KDAS_PIXEL_RGB8), *out;
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

/* The longest axis allowed, to one pixel: 32769 weights, which must not overflow or lose white. */
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
            wide[i / 7][i % 7 * 4 + c] = packed[i / 7][i % 7][c] = kd_test_value(3 * i + c);
    kd_assert_ok(kdas_image_resize(&got, ctx, &rgba, 4, 9));
    kd_assert_ok(kdas_image_resize(&want, ctx, &rgb, 4, 9));
    ck_assert_int_eq(got->pixel, KDAS_PIXEL_BGR8); /* its own order, without alpha */
    ck_assert_mem_eq(got->pixels, want->pixels, 4 * 9 * 3);
    kdas_image_destroy(got);
    kdas_image_destroy(want);
}
END_TEST

/* Reductions with many taps, enlargements, rows shorter than a vector, both at once. */
static const int64_t resizes[][4] = { { 1920, 20, 352, 11 }, { 640, 33, 352, 31 },
                                      { 9, 4, 200, 7 },      { 5, 3, 4, 2 },
                                      { 5000, 2, 2, 5 },     { 31, 300, 33, 1 },
                                      { 1, 1, 40, 40 },      { 352, 9, 352, 4 } };

START_TEST(vector_rows_give_the_plain_ones_bits)
{
    int64_t from_width = resizes[_i][0], from_height = resizes[_i][1];
    int64_t width = resizes[_i][2], height = resizes[_i][3];

    for (int pixel = KDAS_PIXEL_GREY8; pixel <= KDAS_PIXEL_BGRA8; pixel++) {
        int64_t   row    = from_width * kd_pixel_samples((kdas_pixel)pixel);
        int64_t   stride = row + pixel % 2 * 5, n = stride * (from_height - 1) + row;
        size_t    out  = (size_t)(width * height * kd_pixel_colours((kdas_pixel)pixel));
        uint8_t  *data = malloc((size_t)n), *got = malloc(out), *want = malloc(out);
        kdas_view view = { data, from_width, from_height, stride, (kdas_pixel)pixel };

        for (int64_t i = 0; i < n; i++) /* of exactly the size: a read past the end is seen */
            data[i] = i % 7 ? kd_test_value(i) : 255;
        context.plain = true;
        kd_assert_ok(kd_resize_bytes(ctx, want, width, height, &view));
        context.plain = false;
        kd_assert_ok(kd_resize_bytes(ctx, got, width, height, &view));
        ck_assert_msg(!memcmp(got, want, out), "pixel %d differs", pixel);
        free(data);
        free(got);
        free(want);
    }
}
END_TEST

/* ---- Saving and loading ---- */

START_TEST(a_png_comes_back_exactly)
{
    static const kdas_pixel pixels[]   = { KDAS_PIXEL_GREY8, KDAS_PIXEL_RGB8 };
    static const int64_t    sizes[][2] = { { 1, 1 }, { 37, 23 }, { 300, 200 } };
    kdas_image *in = kd_test_picture(ctx, sizes[_i / 2][0], sizes[_i / 2][1], pixels[_i % 2]), *out;

    kd_test_save(ctx, kd_test_path("x.png"), in);
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
    size_t               n =
        kd_test_png(file, 2, 1, kinds[_i].bits, kinds[_i].colour, palette,
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

    kd_test_write(kd_test_path("x.bmp"), kd_test_bmp,
                  sizeof kd_test_bmp - _i); /* a cut in the padding is none */
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

    kd_test_write(kd_test_path("x.png"), kd_test_progressive,
                  sizeof kd_test_progressive); /* content decides */
    kd_assert_ok(kdas_image_load(&image, ctx, kd_test_path("x.png"), KDAS_PIXEL_GREY8));
    for (int i = 0; i < 256; i++)
        ck_assert_int_le(abs(image->pixels[i] - (40 + 10 * (i % 16) + 2 * (i / 16))), 6);
    kdas_image_destroy(image);
    kd_assert_ok(kd_image_info_load(&info, ctx, kd_test_path("x.png")));
    ck_assert(info.kind == KD_IMAGE_JPEG && info.channels == 1 && info.width == 16);
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
        { NULL, 4, 4, 0, KDAS_PIXEL_RGB8 },         { data, 0, 4, 0, KDAS_PIXEL_RGB8 },
        { data, 4, -1, 0, KDAS_PIXEL_RGB8 },        { data, 4, 4, 11, KDAS_PIXEL_RGB8 },
        { data, 4, 4, -11, KDAS_PIXEL_RGB8 },       { data, 4, 4, 0, (kdas_pixel)0 },
        { data, 4, 4, 0, (kdas_pixel)99 },          { data, INT64_MAX, 2, 0, KDAS_PIXEL_RGB8 },
        { data, 4, 1, 0, KDAS_PIXEL_RGBF32 },       { data, 4, 1, -50, KDAS_PIXEL_RGBF32 },
        { data, 4, 4, INT64_MIN, KDAS_PIXEL_RGB8 }, { data, 4, 4, INT64_MAX, KDAS_PIXEL_RGB8 }
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
    tcase_add_loop_test(resize, vector_rows_give_the_plain_ones_bits, 0, KD_COUNT(resizes));
    suite_add_tcase(s, resize);

    tcase_add_checked_fixture(files, setup, teardown);
    tcase_add_loop_test(files, a_png_comes_back_exactly, 0, 6);
    tcase_add_loop_test(files, any_8_bit_view_is_saved_as_the_colours_it_shows, 0, 3);
    tcase_add_test(files, grey_of_colours_is_pillows_luma);
    tcase_add_loop_test(files, each_kind_of_png_is_read, 0, KD_COUNT(kinds));
    tcase_add_loop_test(files, a_bmp_is_read_from_its_lowest_row, 0, 4);
    tcase_add_test(files, a_progressive_jpeg_is_read);
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
