/* check_yuv.c - YUV frames as RGB: judged by real numbers; vector code by the plain loop; other calls by what they
 * make of the same pixels as RGB8. */
#include <check.h>
#include <kdas/kdas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "image/yuv.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/yuv_util.h"

enum { KINDS = 3 };

static kd_test_memory memory;
static kdas_context   context, *ctx = &context;

static void setup(void) { kd_test_bare_context(ctx, &memory); }
static void teardown(void) { kd_test_assert_balanced(&memory); }

/* Narrower than a vector, as wide, wider; odd and even. */
static const int64_t sizes[][2] = { { 1, 1 },  { 2, 1 },  { 1, 4 },  { 3, 5 },
                                    { 17, 2 }, { 18, 3 }, { 19, 2 }, { 32, 4 },
                                    { 33, 7 }, { 34, 6 }, { 101, 3 } };

/* ---- Conversion ---- */

START_TEST(colours_that_everybody_knows_come_out)
{
    static const struct {
        kdas_matrix matrix;
        kdas_range  range;
        uint8_t     yuv[3], rgb[3];
    } known[] = {
        { KDAS_MATRIX_BT601, KDAS_RANGE_LIMITED, { 16, 128, 128 }, { 0, 0, 0 } },
        { KDAS_MATRIX_BT601, KDAS_RANGE_LIMITED, { 235, 128, 128 }, { 255, 255, 255 } },
        { KDAS_MATRIX_BT601, KDAS_RANGE_LIMITED, { 81, 90, 240 }, { 255, 0, 0 } },
        { KDAS_MATRIX_BT601, KDAS_RANGE_LIMITED, { 145, 54, 34 }, { 0, 255, 0 } },
        { KDAS_MATRIX_BT601, KDAS_RANGE_LIMITED, { 41, 240, 110 }, { 0, 0, 255 } },
        { KDAS_MATRIX_BT709, KDAS_RANGE_LIMITED, { 63, 102, 240 }, { 255, 0, 0 } },
        { KDAS_MATRIX_BT709, KDAS_RANGE_LIMITED, { 173, 42, 26 }, { 0, 255, 0 } },
        { KDAS_MATRIX_BT709, KDAS_RANGE_LIMITED, { 32, 240, 118 }, { 0, 0, 255 } },
        { KDAS_MATRIX_BT601, KDAS_RANGE_FULL, { 255, 128, 128 }, { 255, 255, 255 } },
        { KDAS_MATRIX_BT601, KDAS_RANGE_FULL, { 76, 85, 255 }, { 255, 0, 0 } },
        { KDAS_MATRIX_BT601, KDAS_RANGE_FULL, { 29, 255, 107 }, { 0, 0, 255 } },
        { KDAS_MATRIX_BT709, KDAS_RANGE_FULL, { 54, 99, 255 }, { 255, 0, 0 } },
    };

    for (size_t i = 0; i < KD_COUNT(known); i++) {
        kd_test_yuv f = kd_test_yuv_make(kd_test_yuv_kinds[_i], 1, 1, 0, false, KD_TEST_NOISE);
        uint8_t     rgb[3];

        f.view.matrix = known[i].matrix;
        f.view.range  = known[i].range;
        for (int c = 0; c < 3; c++) {
            int v = known[i].yuv[c];

            if (f.view.pixel == KDAS_PIXEL_P010) v = v == 255 ? 1023 : 4 * v;
            kd_test_yuv_put(&f.view, c, 0, 0, v);
        }
        kd_assert_ok(kdas_view_convert(&f.view, rgb, 0, KDAS_PIXEL_RGB8));
        for (int c = 0; c < 3; c++)
            ck_assert_msg(abs(rgb[c] - known[i].rgb[c]) <= 2, "colour %zu: %d %d %d", i, rgb[0],
                          rgb[1], rgb[2]);
        kd_test_yuv_free(&f);
    }
}
END_TEST

/* How far bytes are from real numbers, at most. */
static double worst(const kdas_view *view)
{
    double  *want = kd_test_yuv_exact(view), far = 0;
    uint8_t *got = kd_test_yuv_bytes(view);

    for (int64_t i = 0; i < view->width * view->height * 3; i++)
        far = fmax(far, fabs(got[i] - want[i]));
    free(want);
    free(got);
    return far;
}

static void each_way(kdas_view *view, int way)
{
    view->matrix = way & 1 ? KDAS_MATRIX_BT709 : KDAS_MATRIX_BT601;
    view->range  = way & 2 ? KDAS_RANGE_FULL : KDAS_RANGE_LIMITED;
}

START_TEST(every_pixel_is_what_real_numbers_give_rounded)
{
    for (size_t i = 0; i < KD_COUNT(sizes); i++)
        for (int way = 0; way < 8; way++) {
            kd_test_yuv f = kd_test_yuv_make(kd_test_yuv_kinds[_i], sizes[i][0], sizes[i][1],
                                             way & 4 ? 7 : 0, way & 1, KD_TEST_NOISE);

            each_way(&f.view, way);
            ck_assert_double_le(worst(&f.view), 0.55);
            kd_test_yuv_free(&f);
        }
}
END_TEST

/* Every luma beside every fifth chroma, the ends too. */
START_TEST(no_triple_of_samples_is_far_off)
{
    enum { STEPS = 52, W = 128, H = 2 * STEPS * STEPS };
    int         scale = kd_test_yuv_kinds[_i % KINDS] == KDAS_PIXEL_P010 ? 4 : 1;
    kd_test_yuv f = kd_test_yuv_make(kd_test_yuv_kinds[_i % KINDS], W, H, 0, false, KD_TEST_NOISE);

    each_way(&f.view, _i / KINDS);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int pair = y / 2, odd = x % scale; /* lower bits of ten, for some */

            kd_test_yuv_put(&f.view, 0, x, y, (x / 2 * 4 + x % 2 + y % 2 * 2) * scale + odd);
            if (x % 2 || y % 2) continue;
            kd_test_yuv_put(&f.view, 1, x, y, pair % STEPS * 5 * scale);
            kd_test_yuv_put(&f.view, 2, x, y, pair / STEPS * 5 * scale);
        }
    ck_assert_double_le(worst(&f.view), 0.55);
    kd_test_yuv_free(&f);
}
END_TEST

/* Into rows with a fence behind them. */
START_TEST(vector_rows_give_the_plain_ones_bits)
{
    enum { FENCE = 64 };
    uint8_t row[2][3 * 101 + FENCE];

    for (size_t i = 0; i < KD_COUNT(sizes); i++)
        for (int way = 0; way < 4; way++) {
            int64_t     w = sizes[i][0], h = sizes[i][1];
            kd_test_yuv f =
                kd_test_yuv_make(kd_test_yuv_kinds[_i], w, h, way, way & 1, KD_TEST_NOISE);

            each_way(&f.view, way);
            for (int64_t y = 0; y < h; y++) {
                for (int vectors = 0; vectors < 2; vectors++) {
                    kd_yuv yuv;

                    kd_yuv_init(&yuv, &f.view, vectors && kd_has_avx2());
                    memset(row[vectors], 0x77, sizeof row[vectors]);
                    kd_yuv_row(&yuv, row[vectors], y, 0, w);
                    for (int k = 0; k < FENCE; k++)
                        ck_assert_uint_eq(row[vectors][3 * w + k], 0x77);
                }
                ck_assert_mem_eq(row[0], row[1], (size_t)(3 * w));
            }
            kd_test_yuv_free(&f);
        }
}
END_TEST

START_TEST(a_stream_that_does_not_say_is_709_from_720_rows_on)
{
    for (int64_t height = 719; height <= 720; height++)
        for (int matrix = KDAS_MATRIX_BT601; matrix <= KDAS_MATRIX_BT709; matrix++) {
            kd_test_yuv f = kd_test_yuv_make(KDAS_PIXEL_NV12, 8, height, 0, false, KD_TEST_WAVES);
            uint8_t    *as[2];
            bool        same = matrix == (height < 720 ? KDAS_MATRIX_BT601 : KDAS_MATRIX_BT709);

            f.view.matrix = (kdas_matrix)matrix;
            as[0]         = kd_test_yuv_bytes(&f.view);
            f.view.matrix = KDAS_MATRIX_AUTO;
            as[1]         = kd_test_yuv_bytes(&f.view);
            ck_assert_int_eq(!memcmp(as[0], as[1], (size_t)(8 * height * 3)), same);
            free(as[0]);
            free(as[1]);
            kd_test_yuv_free(&f);
        }
}
END_TEST

/* ---- Other kinds of pixels ---- */

static const kdas_pixel bytes[] = { KDAS_PIXEL_GREY8, KDAS_PIXEL_RGB8, KDAS_PIXEL_BGR8,
                                    KDAS_PIXEL_RGBA8, KDAS_PIXEL_BGRA8 };

START_TEST(pixels_of_all_kinds_are_made_of_those_as_rgb)
{
    enum { W = 523, H = 5, STRIDE = W * 4 + 3 }; /* more than a piece of the way there */
    static uint8_t out[STRIDE * H];
    kd_test_yuv    f    = kd_test_yuv_make(kd_test_yuv_kinds[_i], W, H, 3, true, KD_TEST_NOISE);
    uint8_t       *rgb  = kd_test_yuv_bytes(&f.view);
    kdas_view      view = { rgb, W, H, 0, KDAS_PIXEL_RGB8 };

    for (size_t k = 0; k < KD_COUNT(bytes); k++)
        for (int from = 0; from < 2; from++) {
            int  samples = kd_pixel_samples(bytes[k]);
            bool bgr     = kd_pixel_is_bgr(bytes[k]);

            memset(out, 0x11, sizeof out);
            kd_assert_ok(kdas_view_convert(from ? &view : &f.view, out + (H - 1) * STRIDE, -STRIDE,
                                           bytes[k]));
            for (int y = 0; y < H; y++)
                for (int x = 0; x < STRIDE; x++) {
                    int            got = out[(H - 1 - y) * STRIDE + x], c = x % samples;
                    const uint8_t *p = rgb + (y * W + x / samples) * 3;

                    if (x >= W * samples)
                        ck_assert_int_eq(got, 0x11);
                    else if (samples == 1)
                        ck_assert_double_le(fabs(got - .299 * p[0] - .587 * p[1] - .114 * p[2]),
                                            0.51);
                    else
                        ck_assert_int_eq(got, c == 3 ? 255 : p[bgr ? 2 - c : c]);
                }
        }
    free(rgb);
    kd_test_yuv_free(&f);
}
END_TEST

START_TEST(alpha_goes_along)
{
    static const uint8_t rgba[] = { 1, 2, 3, 4, 5, 6, 7, 8 }, bgra[] = { 3, 2, 1, 4, 7, 6, 5, 8 };
    kdas_view            view = { rgba, 2, 1, 0, KDAS_PIXEL_RGBA8 };
    uint8_t              out[8];
    kdas_image          *image;

    kd_assert_ok(kdas_view_convert(&view, out, 0, KDAS_PIXEL_BGRA8));
    ck_assert_mem_eq(out, bgra, 8);
    kd_assert_ok(kdas_view_convert(&view, out, 0, KDAS_PIXEL_RGBA8));
    ck_assert_mem_eq(out, rgba, 8);
    kd_assert_ok(kdas_view_convert(&view, out, 0, KDAS_PIXEL_RGB8));
    ck_assert_mem_eq(out, ((uint8_t[]){ 1, 2, 3, 5, 6, 7 }), 6);
    view = (kdas_view){ bgra, 2, 1, 0, KDAS_PIXEL_BGRA8 };
    kd_assert_ok(kdas_image_convert(&image, ctx, &view, KDAS_PIXEL_RGBA8));
    ck_assert_mem_eq(kdas_image_pixels(image), rgba, 8);
    kdas_image_destroy(image);
    view = (kdas_view){ rgba, 2, 1, 0, KDAS_PIXEL_GREY8 };
    kd_assert_ok(kdas_view_convert(&view, out, 0, KDAS_PIXEL_BGR8));
    ck_assert_mem_eq(out, ((uint8_t[]){ 1, 1, 1, 2, 2, 2 }), 6);
}
END_TEST

/* ---- Resize ---- */

/* Weights of a triangle over a line of `from` samples, for output i of `to`. */
static void triangle(double *w, int64_t from, int64_t to, int64_t i)
{
    double scale = (double)from / (double)to, support = fmax(scale, 1), sum = 0;

    for (int64_t k = 0; k < from; k++) {
        w[k] = fmax(0, 1 - fabs((double)k + 0.5 - ((double)i + 0.5) * scale) / support);
        sum += w[k];
    }
    for (int64_t k = 0; k < from; k++)
        w[k] /= sum;
}

/* (h,w,3) to (height,width,3) in real numbers. */
static double *resized(const double *rgb, int64_t w, int64_t h, int64_t width, int64_t height)
{
    double *rows   = calloc((size_t)(h * width * 3), sizeof *rows);
    double *out    = calloc((size_t)(height * width * 3), sizeof *out);
    double *weight = malloc((size_t)KD_MAX(w, h) * sizeof *weight);

    for (int64_t x = 0; x < width; x++) {
        triangle(weight, w, width, x);
        for (int64_t y = 0; y < h; y++)
            for (int64_t k = 0; k < 3 * w; k++)
                rows[(y * width + x) * 3 + k % 3] += weight[k / 3] * rgb[y * w * 3 + k];
    }
    for (int64_t y = 0; y < height; y++) {
        triangle(weight, h, height, y);
        for (int64_t k = 0; k < h; k++)
            for (int64_t x = 0; x < 3 * width; x++)
                out[y * width * 3 + x] += weight[k] * rows[k * width * 3 + x];
    }
    free(rows);
    free(weight);
    return out;
}

static const int64_t resizes[][4] = { { 301, 117, 96, 64 }, { 45, 31, 96, 64 },
                                      { 160, 90, 160, 90 }, { 64, 200, 64, 33 },
                                      { 5, 3, 32, 32 },     { 1, 1, 3, 2 } };

START_TEST(resized_frames_are_within_a_level_of_real_numbers)
{
    for (size_t i = 0; i < KD_COUNT(resizes); i++)
        for (int way = 0; way < 4; way++) {
            int64_t     w = resizes[i][0], h = resizes[i][1], n = resizes[i][2] * resizes[i][3] * 3;
            kd_test_yuv f = kd_test_yuv_make(kd_test_yuv_kinds[_i], w, h, 1, false, KD_TEST_NOISE);
            double     *exact, *want;
            kdas_image *image;

            each_way(&f.view, way);
            exact = kd_test_yuv_exact(&f.view);
            want  = resized(exact, w, h, resizes[i][2], resizes[i][3]);
            kd_assert_ok(kdas_image_resize(&image, ctx, &f.view, resizes[i][2], resizes[i][3]));
            ck_assert_int_eq(kdas_image_view(image).pixel, KDAS_PIXEL_RGB8);
            for (int64_t k = 0; k < n; k++)
                ck_assert_int_le(labs(kdas_image_pixels(image)[k] - lround(want[k])), 1);
            free(exact);
            free(want);
            kdas_image_destroy(image);
            kd_test_yuv_free(&f);
        }
}
END_TEST

/* ---- Other calls: what they make of the same pixels as RGB8 ---- */

START_TEST(images_are_made_resized_and_saved_as_of_rgb)
{
    enum { W = 53, H = 37 };
    kd_test_yuv f    = kd_test_yuv_make(kd_test_yuv_kinds[_i], W, H, 5, true, KD_TEST_NOISE);
    uint8_t    *rgb  = kd_test_yuv_bytes(&f.view);
    kdas_view   view = { rgb, W, H, 0, KDAS_PIXEL_RGB8 };
    kdas_image *a, *b;

    for (int pixel = KDAS_PIXEL_GREY8; pixel <= KDAS_PIXEL_RGB8; pixel++) {
        kd_assert_ok(kdas_image_convert(&a, ctx, &f.view, (kdas_pixel)pixel));
        kd_assert_ok(kdas_image_convert(&b, ctx, &view, (kdas_pixel)pixel));
        ck_assert_int_eq(kdas_image_view(a).pixel, pixel);
        ck_assert_mem_eq(kdas_image_pixels(a), kdas_image_pixels(b), (size_t)(W * H * a->channels));
        kdas_image_destroy(a);
        kdas_image_destroy(b);
    }
    for (int plain = 0; plain < 2; plain++) {
        ctx->plain = plain;
        kd_assert_ok(kdas_image_resize(&a, ctx, &f.view, 24, 40));
        kd_assert_ok(kdas_image_resize(&b, ctx, &view, 24, 40));
        ck_assert_mem_eq(kdas_image_pixels(a), kdas_image_pixels(b), 24 * 40 * 3);
        kdas_image_destroy(a);
        kdas_image_destroy(b);
    }
    kd_assert_ok(kdas_image_save(ctx, kd_test_path("x.png"), &f.view));
    kd_assert_ok(kdas_image_load(&a, ctx, kd_test_path("x.png"), KDAS_PIXEL_RGB8));
    ck_assert_mem_eq(kdas_image_pixels(a), rgb, W * H * 3);
    kdas_image_destroy(a);
    free(rgb);
    kd_test_yuv_free(&f);
}
END_TEST

START_TEST(batches_take_them_as_rgb)
{
    enum { W = 53, H = 37, N = 32 * 32 * 3 };
    static uint8_t mask[W * H];
    kd_test_yuv    f     = kd_test_yuv_make(kd_test_yuv_kinds[_i], W, H, 2, false, KD_TEST_NOISE);
    uint8_t       *rgb   = kd_test_yuv_bytes(&f.view);
    kdas_view      view  = { rgb, W, H, 0, KDAS_PIXEL_RGB8 };
    kdas_view      truth = { mask, W, H, 0, KDAS_PIXEL_GREY8 };
    kdas_batch    *batch;

    memset(mask, 255, sizeof mask / 2);
    kd_assert_ok(kdas_batch_create(&batch, ctx, 2, 32, 32));
    kd_assert_ok(kdas_batch_set(batch, 0, &view, &truth));
    kd_assert_ok(kdas_batch_set(batch, 1, &f.view, &truth));
    ck_assert(kd_test_same_bits(kdas_batch_images(batch), kdas_batch_images(batch) + N,
                                N * sizeof(float)));
    ck_assert(kd_test_same_bits(kdas_batch_masks(batch), kdas_batch_masks(batch) + N / 3,
                                N / 3 * sizeof(float)));
    kd_assert_status(kdas_batch_set(batch, 0, &view, &f.view), KDAS_EINVAL);
    kd_assert_status(kdas_batch_set_teacher(batch, 0, &f.view), KDAS_EINVAL);
    kd_assert_status(kdas_batch_set_weights(batch, 0, &f.view), KDAS_EINVAL);
    kdas_batch_destroy(batch);
    free(rgb);
    kd_test_yuv_free(&f);
}
END_TEST

/* ---- What cannot be right, and memory that runs out ---- */

static void assert_refused(const kdas_view *bad, const char *part)
{
    static uint8_t out[64 * 64 * 3];
    kdas_image    *image = (kdas_image *)out;

    memset(out, 9, sizeof out);
    kd_assert_status(kdas_view_convert(bad, out, 0, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_sentence(part);
    for (size_t i = 0; i < sizeof out; i++)
        ck_assert_uint_eq(out[i], 9);
    kd_assert_status(kdas_image_convert(&image, ctx, bad, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    ck_assert_ptr_null(image);
    kd_assert_status(kdas_image_resize(&image, ctx, bad, 4, 4), KDAS_EINVAL);
    kd_assert_status(kdas_image_save(ctx, kd_test_path("x.png"), bad), KDAS_EINVAL);
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
}

START_TEST(frames_that_make_no_sense_are_refused)
{
    enum { W = 21, H = 13 };
    int64_t     deep   = kd_test_yuv_kinds[_i] == KDAS_PIXEL_P010 ? 2 : 1;
    kd_test_yuv f      = kd_test_yuv_make(kd_test_yuv_kinds[_i], W, H, 0, false, KD_TEST_NOISE);
    int         planes = f.planes;
    kdas_view   bad;

#define REFUSED(part, member, value) \
    do {                             \
        bad        = f.view;         \
        bad.member = value;          \
        assert_refused(&bad, part);  \
    } while (0)
    REFUSED("no data", data, NULL);
    REFUSED("chroma[0]", chroma[0], NULL);
    if (planes == 3) REFUSED("chroma[1]", chroma[1], NULL);
    REFUSED("stride of", stride, W * deep - 1);
    REFUSED("stride of", stride, 1 - W * deep);
    REFUSED("stride of", stride, INT64_MIN);
    REFUSED("chroma_stride[0]", chroma_stride[0], f.row[1] - 1); /* 22 samples, rounded up */
    REFUSED("chroma_stride[0]", chroma_stride[0], 1 - f.row[1]);
    REFUSED("chroma_stride[0]", chroma_stride[0], INT64_MAX);
    if (planes == 3) REFUSED("chroma_stride[1]", chroma_stride[1], f.row[1] - 1);
    REFUSED("0x13", width, 0);
    REFUSED("21x-1", height, -1);
    REFUSED("16385", width, KDAS_IMAGE_MAX_SIDE + 1);
    REFUSED("3 is no kdas_matrix", matrix, (kdas_matrix)3);
    REFUSED("-1 is no kdas_matrix", matrix, (kdas_matrix)-1);
    REFUSED("2 is no kdas_range", range, (kdas_range)2);
    REFUSED("reserved", reserved, 1);
    REFUSED("11 is no kdas_pixel", pixel, (kdas_pixel)11);
#undef REFUSED
    bad           = f.view; /* what is not read may be anything */
    bad.chroma[1] = planes == 2 ? NULL : bad.chroma[1];
    if (planes == 2) bad.chroma_stride[1] = -1;
    ck_assert_double_le(worst(&bad), 0.55);
    kd_test_yuv_free(&f);
}
END_TEST

START_TEST(conversions_that_cannot_be_are_refused)
{
    enum { W = 20, H = 7 };
    static _Alignas(4) uint8_t out[W * H * 12];
    kd_test_yuv                f = kd_test_yuv_make(KDAS_PIXEL_I420, W, H, 0, false, KD_TEST_NOISE);
    kdas_view                  floats = { out, W, H, 0, KDAS_PIXEL_RGBF32 };
    kdas_image                *image;

    kd_assert_status(kdas_view_convert(NULL, out, 0, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_view_convert(&f.view, NULL, 0, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_view_convert(&floats, f.memory[0], 0, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    for (int pixel = KDAS_PIXEL_GREYF32; pixel <= KDAS_PIXEL_P010 + 1; pixel++)
        kd_assert_status(kdas_view_convert(&f.view, out, 0, (kdas_pixel)pixel), KDAS_EINVAL);
    kd_assert_status(kdas_view_convert(&f.view, out, 0, (kdas_pixel)0), KDAS_EINVAL);
    kd_assert_status(kdas_view_convert(&f.view, out, W * 3 - 1, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_sentence("59");
    for (int i = 0; i < 3; i++) { /* on any of the planes, their last row as well */
        kd_assert_status(kdas_view_convert(&f.view, f.memory[i], 0, KDAS_PIXEL_GREY8), KDAS_EINVAL);
        kd_assert_status(
            kdas_view_convert(&f.view, f.memory[i] + f.bytes[i] - 1, 0, KDAS_PIXEL_GREY8),
            KDAS_EINVAL);
        kd_assert_sentence("overlaps");
    }
    kd_assert_status(kdas_image_convert(NULL, ctx, &f.view, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_image_convert(&image, NULL, &f.view, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_image_convert(&image, ctx, NULL, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_image_convert(&image, ctx, &f.view, KDAS_PIXEL_BGR8), KDAS_EINVAL);
    kd_assert_status(kdas_image_convert(&image, ctx, &f.view, KDAS_PIXEL_NV12), KDAS_EINVAL);
    kd_test_yuv_free(&f);
}
END_TEST

static kdas_status use_all(const kdas_view *view)
{
    kdas_image *image = NULL;
    kdas_status st    = kdas_image_convert(&image, ctx, view, KDAS_PIXEL_RGB8);

    kdas_image_destroy(image);
    if (st == KDAS_OK) st = kdas_image_resize(&image, ctx, view, 5, 5);
    if (st != KDAS_OK) return st;
    kdas_image_destroy(image);
    return kdas_image_save(ctx, kd_test_path("x.png"), view);
}

START_TEST(any_allocation_may_fail)
{
    kd_test_yuv f  = kd_test_yuv_make(KDAS_PIXEL_NV12, 9, 9, 0, false, KD_TEST_NOISE);
    kdas_status st = KDAS_ENOMEM;
    int         failures;

    for (failures = 0; st != KDAS_OK; failures++) {
        memory.fail_at = memory.asked + failures + 1;
        st             = use_all(&f.view);
        memory.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        kd_test_assert_balanced(&memory);
    }
    ck_assert_int_gt(failures, 12);
    kd_test_yuv_free(&f);
}
END_TEST

int main(void)
{
    Suite   *s       = suite_create("yuv");
    TCase   *convert = tcase_create("conversion");
    TCase   *calls   = tcase_create("calls");
    SRunner *runner  = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(convert, setup, teardown);
    tcase_add_loop_test(convert, colours_that_everybody_knows_come_out, 0, KINDS);
    tcase_add_loop_test(convert, every_pixel_is_what_real_numbers_give_rounded, 0, KINDS);
    tcase_add_loop_test(convert, no_triple_of_samples_is_far_off, 0, 4 * KINDS);
    tcase_add_loop_test(convert, vector_rows_give_the_plain_ones_bits, 0, KINDS);
    tcase_add_test(convert, a_stream_that_does_not_say_is_709_from_720_rows_on);
    tcase_add_loop_test(convert, pixels_of_all_kinds_are_made_of_those_as_rgb, 0, KINDS);
    tcase_add_test(convert, alpha_goes_along);
    tcase_add_loop_test(convert, resized_frames_are_within_a_level_of_real_numbers, 0, KINDS);
    suite_add_tcase(s, convert);
    tcase_add_checked_fixture(calls, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_checked_fixture(calls, setup, teardown);
    tcase_add_loop_test(calls, images_are_made_resized_and_saved_as_of_rgb, 0, KINDS);
    tcase_add_loop_test(calls, batches_take_them_as_rgb, 0, KINDS);
    tcase_add_loop_test(calls, frames_that_make_no_sense_are_refused, 0, KINDS);
    tcase_add_test(calls, conversions_that_cannot_be_are_refused);
    tcase_add_test(calls, any_allocation_may_fail);
    suite_add_tcase(s, calls);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
