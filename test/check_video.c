/* check_video.c - frames as decoders give them, to masks and overlays: what comes out is that of the same pixels as
 * RGB8, and a tint in the planes is judged by real numbers. */
#include <check.h>
#include <kdas/kdas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "image/overlay.h"
#include "infer/frame.h"
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/yuv_util.h"

enum { KINDS = 3, SIDE = 64, W = 91, H = 61 };

static kd_test_meter meter;
static kdas_context *ctx;
static kdas_model   *model;

static void setup(void)
{
    memset(&meter, 0, sizeof meter);
    ctx = kd_test_device("cpu", &meter);
}

static void setup_model(void)
{
    kdas_model_options o;

    setup();
    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&model, ctx, "polyp_pvt_b0", &o));
}

static void teardown(void)
{
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

static kdas_segmenter *open_segmenter(float threshold, float hysteresis)
{
    kdas_segmenter_options o;
    kdas_segmenter        *s;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    o.frame_height     = H;
    o.frame_width      = W;
    o.threshold        = threshold;
    o.hysteresis       = hysteresis;
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    return s;
}

/* A threshold with pixels of the frame on either side. */
static float middle(const kdas_view *frame)
{
    static float    z[W * H];
    kdas_segmenter *s   = open_segmenter(0.5f, 0);
    float           low = INFINITY, high = -INFINITY;

    kd_assert_ok(kdas_segmenter_logits(s, frame, z));
    kdas_segmenter_destroy(s);
    for (int i = 0; i < W * H; i++) {
        low  = fminf(low, z[i]);
        high = fmaxf(high, z[i]);
    }
    return 1 / (1 + expf(-(low + high) / 2));
}

/* ---- In ---- */

static const int64_t sizes[][2] = { { 640, 361 }, { 1, 1 },  { 24, 16 }, { 7, 90 },
                                    { 301, 5 },   { 12, 8 }, { 2, 3 },   { 97, 65 } };

START_TEST(neither_threads_nor_vectors_nor_the_way_there_change_the_networks_input)
{
    enum { N = SIDE * SIDE * 3 };
    static float   want[N], got[N];
    int64_t        width = sizes[_i][0], height = sizes[_i][1];
    kd_frame_sizes of = { height, width, SIDE, SIDE, SIDE, SIDE };

    for (int kind = 0; kind < KINDS; kind++) {
        kd_test_yuv f =
            kd_test_yuv_make(kd_test_yuv_kinds[kind], width, height, 0, false, KD_TEST_NOISE);
        uint8_t  *rgb  = kd_test_yuv_bytes(&f.view);
        kdas_view view = { rgb, width, height, 0, KDAS_PIXEL_RGB8 };

        for (int way = 0; way < 4; way++) {
            kd_frame *frame;

            ctx->plain   = way < 2;
            ctx->threads = way % 2 ? 3 : 1;
            kd_assert_ok(kd_frame_create(&frame, ctx, &of, false));
            if (way == 0) kd_frame_input(frame, want, &view);
            memset(got, 0xff, sizeof got);
            kd_frame_input(frame, got, &f.view);
            kd_frame_destroy(frame);
            ck_assert(kd_test_same_bits(got, want, sizeof got));
        }
        free(rgb);
        kd_test_yuv_free(&f);
    }
}
END_TEST

START_TEST(each_call_says_of_a_frame_what_it_says_of_its_rgb)
{
    static float   z[2][W * H];
    static uint8_t bytes[2][W * H], drawn[2][W * H * 3];
    bool           turned = _i / KINDS;
    kd_test_yuv f = kd_test_yuv_make(kd_test_yuv_kinds[_i % KINDS], W, H, 3, turned, KD_TEST_NOISE);
    uint8_t    *rgb     = kd_test_yuv_bytes(&f.view);
    kdas_view   view[2] = { { rgb, W, H, 0, KDAS_PIXEL_RGB8 }, f.view };
    kdas_segmenter *s   = open_segmenter(middle(&view[0]), 0);

    for (int i = 0; i < 2; i++)
        kd_assert_ok(kdas_segmenter_logits(s, &view[i], z[i]));
    ck_assert(kd_test_same_bits(z[0], z[1], sizeof z[0]));
    for (int i = 0; i < 2; i++)
        kd_assert_ok(kdas_segmenter_mask(s, &view[i], bytes[i], 0));
    ck_assert_mem_eq(bytes[0], bytes[1], sizeof bytes[0]);
    ck_assert(memchr(bytes[0], 0, W * H) && memchr(bytes[0], 255, W * H));
    for (int i = 0; i < 2; i++)
        kd_assert_ok(kdas_segmenter_probability(s, &view[i], bytes[i], 0));
    ck_assert_mem_eq(bytes[0], bytes[1], sizeof bytes[0]);
    for (int i = 0; i < 2; i++)
        kd_assert_ok(kdas_segmenter_overlay(s, &view[i], drawn[i], 0, NULL));
    ck_assert_mem_eq(drawn[0], drawn[1], sizeof drawn[0]);
    ck_assert_mem_ne(drawn[0], rgb, sizeof drawn[0]);
    kdas_segmenter_destroy(s);
    free(rgb);
    kd_test_yuv_free(&f);
}
END_TEST

START_TEST(nothing_is_allocated_after_opening)
{
    static float    z[W * H];
    static uint8_t  out[W * H * 3];
    kdas_segmenter *s = open_segmenter(0.5f, 0.4f);

    for (int kind = 0; kind < KINDS; kind++) {
        kd_test_yuv f = kd_test_yuv_make(kd_test_yuv_kinds[kind], W, H, 0, false, KD_TEST_WAVES);
        long        taken = meter.taken;

        kd_assert_ok(kdas_segmenter_logits(s, &f.view, z));
        kd_assert_ok(kdas_segmenter_mask(s, &f.view, out, 0));
        kd_assert_ok(kdas_segmenter_probability(s, &f.view, out, 0));
        kd_assert_ok(kdas_segmenter_overlay(s, &f.view, out, 0, NULL));
        kd_assert_ok(kdas_segmenter_overlay(s, &f.view, f.memory[0], 0, NULL));
        ck_assert_int_eq(meter.taken, taken);
        kd_test_yuv_free(&f);
    }
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- Overlays ---- */

/* Runs, lone pixels, whole blocks, the edges, and values that are no 0 or 255. */
static void fill_mask(uint8_t *mask, int64_t width, int64_t height)
{
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            bool block = x / 8 % 2 && y / 8 % 2, lone = (x * 7 + y * 13) % 11 == 0;
            bool edge = x >= width - 3 || y >= height - 2;

            mask[y * width + x] = block || lone ? 255 : edge ? 128 : (uint8_t)(x % 128);
        }
}

/* The share of a sample's pixels that the mask has. */
static double share_of(const uint8_t *mask, const kdas_view *v, int component, int64_t x, int64_t y)
{
    int64_t step = component ? 2 : 1;
    int     in = 0, all = 0;

    for (int64_t j = y; j < KD_MIN(y + step, v->height); j++)
        for (int64_t i = x; i < KD_MIN(x + step, v->width); i++, all++)
            in += mask[j * v->width + i] >= 128;
    return (double)in / all;
}

/* Every sample of a frame that was drawn on beside what it was. */
static void assert_tinted(const kdas_view *now, const kdas_view *was, const uint8_t *mask,
                          const kdas_overlay_options *o)
{
    double  colour[3];
    int64_t changed = 0;

    kd_test_yuv_of(colour, was, o->colour);
    for (int c = 0; c < 3; c++)
        for (int64_t y = 0; y < was->height; y += c ? 2 : 1)
            for (int64_t x = 0; x < was->width; x += c ? 2 : 1) {
                double part = share_of(mask, was, c, x, y) * o->opacity;
                int    old = kd_test_yuv_get(was, c, x, y), new = kd_test_yuv_get(now, c, x, y);

                changed += new != old;
                if (part == 0) ck_assert_int_eq(new, old);
                /* the sample, the colour's and opacity's 255ths are rounded */
                ck_assert_double_le(fabs(new - (old + part * (colour[c] - old))),
                                    1.02 + fabs(colour[c] - old) / 510);
            }
    ck_assert_int_eq(changed > 0, o->opacity > 0);
}

static kdas_overlay_options tint(float opacity)
{
    kdas_overlay_options o;

    kdas_overlay_options_init(&o, sizeof o);
    memcpy(o.colour, (uint8_t[]){ 40, 200, 90 }, 3);
    o.opacity = opacity;
    return o;
}

static const int64_t drawn_on[][2] = { { 64, 48 }, { 33, 17 }, { 1, 1 }, { 2, 5 }, { 19, 2 } };
static const float   opacities[]   = { 0, 0.275f, 0.6f, 1 };

START_TEST(a_tint_is_drawn_into_the_planes)
{
    int64_t  w = drawn_on[_i][0], h = drawn_on[_i][1];
    uint8_t *mask = malloc((size_t)(w * h));

    fill_mask(mask, w, h);
    for (int way = 0; way < 4 * KINDS; way++)
        for (size_t k = 0; k < KD_COUNT(opacities); k++) {
            kd_test_yuv was =
                kd_test_yuv_make(kd_test_yuv_kinds[way % KINDS], w, h, 0, false, KD_TEST_NOISE);
            kdas_view            where = { mask, w, h, 0, KDAS_PIXEL_GREY8 };
            kdas_overlay_options o     = tint(opacities[k]);
            kd_test_yuv          now;

            was.view.range  = way / KINDS % 2 ? KDAS_RANGE_FULL : KDAS_RANGE_LIMITED;
            was.view.matrix = way / KINDS / 2 ? KDAS_MATRIX_BT709 : KDAS_MATRIX_BT601;
            now             = kd_test_yuv_copy(&was, 5, way % 2);
            kd_assert_ok(
                kdas_image_overlay(&now.view, &where, (void *)now.view.data, now.view.stride, &o));
            assert_tinted(&now.view, &was.view, mask, &o);
            for (int i = 0; i < now.planes; i++) /* the rubbish between the rows */
                for (size_t at = (size_t)now.row[i]; at < now.bytes[i]; at++)
                    if (at % (size_t)(now.row[i] + 5) >= (size_t)now.row[i])
                        ck_assert_uint_eq(now.memory[i][at], 0xA5);
            kd_test_yuv_free(&was);
            kd_test_yuv_free(&now);
        }
    free(mask);
}
END_TEST

START_TEST(words_of_ten_bits_keep_what_lies_below_them_where_nothing_is_drawn)
{
    enum { N = 40 * 20 };
    kd_test_yuv f       = kd_test_yuv_make(KDAS_PIXEL_P010, 40, 20, 0, false, KD_TEST_NOISE);
    uint8_t     mask[N] = { 0 }, before[N * 2];
    kdas_view   where   = { mask, 40, 20, 0, KDAS_PIXEL_GREY8 };

    for (int i = 0; i < N; i++) {
        f.memory[0][2 * i] |= 0x2B;
        if (i < N / 2) f.memory[1][2 * i] |= 0x15;
    }
    memset(mask, 255, 40 * 10);
    memcpy(before, f.memory[0], sizeof before);
    kd_assert_ok(kdas_image_overlay(&f.view, &where, f.memory[0], 0, NULL));
    ck_assert_mem_ne(f.memory[0], before, 40 * 10 * 2);
    ck_assert_mem_eq(f.memory[0] + 40 * 10 * 2, before + 40 * 10 * 2, 40 * 10 * 2);
    for (int i = 40 * 5; i < 40 * 10; i++)
        ck_assert_uint_eq(f.memory[1][2 * i] & 0x3F, 0x15);
    kd_test_yuv_free(&f);
}
END_TEST

START_TEST(of_memory_elsewhere_an_overlay_is_the_tinted_rgb)
{
    enum { STRIDE = W * 3 + 4 };
    static uint8_t       mask[W * H], want[STRIDE * H], got[STRIDE * H];
    kd_test_yuv          f = kd_test_yuv_make(kd_test_yuv_kinds[_i], W, H, 1, true, KD_TEST_NOISE);
    kd_test_yuv          was   = kd_test_yuv_copy(&f, 1, true);
    uint8_t             *rgb   = kd_test_yuv_bytes(&f.view);
    kdas_view            view  = { rgb, W, H, 0, KDAS_PIXEL_RGB8 };
    kdas_view            where = { mask, W, H, 0, KDAS_PIXEL_GREY8 };
    kdas_overlay_options o     = tint(0.4f);

    fill_mask(mask, W, H);
    memset(want, 0x44, sizeof want);
    memset(got, 0x44, sizeof got);
    kd_assert_ok(kdas_image_overlay(&view, &where, want, STRIDE, &o));
    kd_assert_ok(kdas_image_overlay(&f.view, &where, got, STRIDE, &o));
    ck_assert_mem_eq(got, want, sizeof got);
    for (int i = 0; i < f.planes; i++)
        ck_assert_mem_eq(f.memory[i], was.memory[i], f.bytes[i]);
    free(rgb);
    kd_test_yuv_free(&f);
    kd_test_yuv_free(&was);
}
END_TEST

START_TEST(a_tint_in_the_planes_looks_like_one_in_rgb)
{
    static uint8_t       mask[W * H], want[W * H * 3];
    kd_test_yuv          f = kd_test_yuv_make(kd_test_yuv_kinds[_i], W, H, 0, false, KD_TEST_WAVES);
    kdas_view            where = { mask, W, H, 0, KDAS_PIXEL_GREY8 };
    kdas_overlay_options o     = tint(0.4f);
    uint8_t             *got;

    memset(mask, 255, sizeof mask);
    kd_assert_ok(kdas_image_overlay(&f.view, &where, want, 0, &o));
    kd_assert_ok(kdas_image_overlay(&f.view, &where, f.memory[0], 0, &o));
    got = kd_test_yuv_bytes(&f.view);
    for (int i = 0; i < W * H * 3; i++) /* a level of luma and of chroma, rounded */
        ck_assert_int_le(abs(got[i] - want[i]), 3);
    free(got);
    kd_test_yuv_free(&f);
}
END_TEST

/* The segmenter's overlay in the planes is its mask by kdas_image_overlay, with a past or without one. */
START_TEST(a_segmenter_draws_its_mask_into_the_planes)
{
    static uint8_t mask[W * H];
    kd_test_yuv f = kd_test_yuv_make(kd_test_yuv_kinds[_i % KINDS], W, H, 2, true, KD_TEST_NOISE);
    float       threshold = middle(&f.view);
    kdas_segmenter *s     = open_segmenter(threshold, _i < KINDS ? 0 : 0.9f * threshold);
    kdas_view       where = { mask, W, H, 0, KDAS_PIXEL_GREY8 };
    kd_test_yuv     want  = kd_test_yuv_copy(&f, 2, true);

    kd_assert_ok(kdas_segmenter_mask(s, &f.view, mask, 0));
    ck_assert(memchr(mask, 0, W * H) && memchr(mask, 255, W * H));
    kd_assert_ok(
        kdas_image_overlay(&want.view, &where, (void *)want.view.data, want.view.stride, NULL));
    kd_assert_ok(kdas_segmenter_reset(s));
    kd_assert_ok(kdas_segmenter_overlay(s, &f.view, (void *)f.view.data, f.view.stride, NULL));
    for (int i = 0; i < f.planes; i++)
        ck_assert_mem_eq(f.memory[i], want.memory[i], f.bytes[i]);
    kdas_segmenter_destroy(s);
    kd_test_yuv_free(&f);
    kd_test_yuv_free(&want);
}
END_TEST

START_TEST(threads_do_not_change_what_is_drawn)
{
    enum { MAP = 16, WIDE = 641, HIGH = 363 };
    kd_frame_sizes of = { HIGH, WIDE, SIDE, SIDE, MAP, MAP };
    float          map[MAP * MAP];
    kd_test_yuv    f = kd_test_yuv_make(kd_test_yuv_kinds[_i], WIDE, HIGH, 0, false, KD_TEST_WAVES);
    kd_test_yuv    drawn[2];

    for (int i = 0; i < MAP * MAP; i++)
        map[i] = 3 - (float)hypot(i % MAP - 7.3, i / MAP - 8.1);
    for (int i = 0; i < 2; i++) {
        kd_frame  *frame;
        kd_overlay o;

        ctx->threads = i ? 3 : 1;
        drawn[i]     = kd_test_yuv_copy(&f, 0, false);
        kd_assert_ok(kd_frame_create(&frame, ctx, &of, i));
        kd_assert_ok(
            kd_overlay_init(&o, &drawn[i].view, drawn[i].memory[0], 0, NULL, "an overlay"));
        kd_frame_overlay(frame, &o, map, (kd_edges){ 0.5f, 0.5f });
        kd_frame_destroy(frame);
    }
    for (int i = 0; i < f.planes; i++) {
        ck_assert_mem_eq(drawn[0].memory[i], drawn[1].memory[i], f.bytes[i]);
        ck_assert_mem_ne(drawn[0].memory[i], f.memory[i], f.bytes[i]);
    }
    for (int i = 0; i < 2; i++)
        kd_test_yuv_free(&drawn[i]);
    kd_test_yuv_free(&f);
}
END_TEST

/* ---- What cannot be right ---- */

START_TEST(frames_that_do_not_fit_are_refused_and_leave_all_as_it_was)
{
    static float    z[W * H];
    static uint8_t  out[W * H * 3];
    kd_test_yuv     f   = kd_test_yuv_make(kd_test_yuv_kinds[_i], W, H, 0, false, KD_TEST_NOISE);
    kd_test_yuv     was = kd_test_yuv_copy(&f, 0, false);
    kdas_segmenter *s   = open_segmenter(0.5f, 0);
    kdas_view       bad[6];

    memset(z, 0x77, sizeof z);
    memset(out, 0x77, sizeof out);
    for (int i = 0; i < 6; i++)
        bad[i] = f.view;
    bad[0].data             = NULL;
    bad[1].chroma[0]        = NULL;
    bad[2].stride           = W * (_i == 2 ? 2 : 1) - 1;
    bad[3].chroma_stride[0] = (W + 1) / 2 - 1;
    bad[4].pixel            = (kdas_pixel)77;
    bad[5].width            = W - 2;
    for (int i = 0; i < 6; i++) {
        kdas_status want = i == 5 ? KDAS_ESHAPE : KDAS_EINVAL;

        kd_assert_status(kdas_segmenter_logits(s, &bad[i], z), want);
        kd_assert_status(kdas_segmenter_mask(s, &bad[i], out, 0), want);
        kd_assert_status(kdas_segmenter_probability(s, &bad[i], out, 0), want);
        kd_assert_status(kdas_segmenter_overlay(s, &bad[i], out, 0, NULL), want);
        if (i != 0) /* in place */
            kd_assert_status(kdas_segmenter_overlay(s, &bad[i], f.memory[0], bad[i].stride, NULL),
                             want);
    }
    kd_assert_sentence("89x61");
    for (int i = 0; i < f.planes; i++) /* RGB over a part of it */
        kd_assert_status(kdas_segmenter_overlay(s, &f.view, f.memory[i] + 1, 0, NULL), KDAS_EINVAL);
    kd_assert_sentence("overlaps");
    kd_assert_status(kdas_segmenter_overlay(s, &f.view, f.memory[1], 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_overlay(s, &f.view, f.memory[0], W * 3, NULL), KDAS_EINVAL);
    kd_assert_sentence("273");
    kd_assert_status(kdas_segmenter_overlay(s, &f.view, out, W * 3 - 1, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_overlay(s, &f.view, NULL, 0, NULL), KDAS_EINVAL);
    for (size_t i = 0; i < sizeof out; i++)
        ck_assert_uint_eq(out[i], 0x77);
    for (size_t i = 0; i < sizeof z; i++)
        ck_assert_uint_eq(((uint8_t *)z)[i], 0x77);
    for (int i = 0; i < f.planes; i++)
        ck_assert_mem_eq(f.memory[i], was.memory[i], f.bytes[i]);
    kdas_segmenter_destroy(s);
    kd_test_yuv_free(&f);
    kd_test_yuv_free(&was);
}
END_TEST

START_TEST(a_frame_is_no_mask)
{
    static uint8_t  grey[W * H], out[W * H];
    kd_test_yuv     f    = kd_test_yuv_make(KDAS_PIXEL_I420, W, H, 0, false, KD_TEST_NOISE);
    kdas_view       view = { grey, W, H, 0, KDAS_PIXEL_GREY8 };
    kdas_evaluator *e;

    kd_assert_status(kdas_image_overlay(&view, &f.view, out, 0, NULL), KDAS_EINVAL);
    kd_assert_ok(kdas_evaluator_create(&e, ctx));
    kd_assert_status(kdas_evaluator_add(e, "x", &view, &f.view), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_add(e, "x", &f.view, &view), KDAS_EINVAL);
    kdas_evaluator_destroy(e);
    kd_test_yuv_free(&f);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("video");
    TCase   *pixels = tcase_create("pixels");
    TCase   *calls  = tcase_create("calls");
    SRunner *runner = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(pixels, setup, teardown);
    tcase_add_loop_test(pixels,
                        neither_threads_nor_vectors_nor_the_way_there_change_the_networks_input, 0,
                        KD_COUNT(sizes));
    tcase_add_loop_test(pixels, a_tint_is_drawn_into_the_planes, 0, KD_COUNT(drawn_on));
    tcase_add_test(pixels, words_of_ten_bits_keep_what_lies_below_them_where_nothing_is_drawn);
    tcase_add_loop_test(pixels, of_memory_elsewhere_an_overlay_is_the_tinted_rgb, 0, KINDS);
    tcase_add_loop_test(pixels, a_tint_in_the_planes_looks_like_one_in_rgb, 0, KINDS);
    tcase_add_loop_test(pixels, threads_do_not_change_what_is_drawn, 0, KINDS);
    tcase_add_test(pixels, a_frame_is_no_mask);
    suite_add_tcase(s, pixels);
    tcase_add_checked_fixture(calls, setup_model, teardown);
    tcase_add_loop_test(calls, each_call_says_of_a_frame_what_it_says_of_its_rgb, 0, 2 * KINDS);
    tcase_add_loop_test(calls, a_segmenter_draws_its_mask_into_the_planes, 0, 2 * KINDS);
    tcase_add_test(calls, nothing_is_allocated_after_opening);
    tcase_add_loop_test(calls, frames_that_do_not_fit_are_refused_and_leave_all_as_it_was, 0,
                        KINDS);
    suite_add_tcase(s, calls);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
