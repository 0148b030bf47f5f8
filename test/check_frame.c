/* check_frame.c - the pixels' side of segmenting: the same bits from any number of threads and with or without
 * vector code, masks that are the logits' to the last pixel, and the clock that runs beside them. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "infer/frame.h"
#include "infer/timing.h"
#include "support/check_util.h"
#include "support/files.h"

enum { MAP_WIDTH = 24, MAP_HEIGHT = 16, INPUT_WIDTH = 96, INPUT_HEIGHT = 64 };

static kd_test_memory memory;
static kdas_context   context, *ctx = &context;
static float          map[MAP_HEIGHT * MAP_WIDTH];

static void setup(void)
{
    kd_test_bare_context(ctx, &memory);
    ctx->threads = 3;
}

static void teardown(void) { kd_test_assert_balanced(&memory); }

/* A trained network's map: a blob, flat and far from 0 inside and outside, with a slope between them. */
static void fill_map(const char *name, float height)
{
    for (int y = 0; y < MAP_HEIGHT; y++)
        for (int x = 0; x < MAP_WIDTH; x++) {
            double r = hypot(x - 9.3, 1.3 * (y - 7.6));

            map[y * MAP_WIDTH + x] =
                height * (float)(tanh(5 - r) + 0.02 * kd_test_unit(name, (uint64_t)(y * 99 + x)));
        }
}

static kd_frame *frame_for(int64_t width, int64_t height, bool keep)
{
    kd_frame_sizes sizes = { height, width, INPUT_HEIGHT, INPUT_WIDTH, MAP_HEIGHT, MAP_WIDTH };
    kd_frame      *f;

    kd_assert_ok(kd_frame_create(&f, ctx, &sizes, keep));
    return f;
}

/* Frames larger and smaller than the map, or than a vector; and what they are filled with. */
static const int64_t sizes[][2] = { { 640, 360 }, { 1, 1 },  { 24, 16 }, { 7, 90 },
                                    { 301, 5 },   { 12, 8 }, { 2, 3 } };

static uint8_t *noise(int64_t bytes)
{
    uint8_t *p = malloc((size_t)bytes);

    for (int64_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(127.5 + 127.5 * kd_test_unit("noise", (uint64_t)i));
    return p;
}

/* ---- in ---- */

START_TEST(neither_threads_nor_vectors_change_the_networks_input)
{
    int64_t width = sizes[_i][0], height = sizes[_i][1];
    enum { N = INPUT_HEIGHT * INPUT_WIDTH * 3 };
    static float want[N], got[N];

    for (int pixel = KDAS_PIXEL_GREY8; pixel <= KDAS_PIXEL_RGBF32; pixel++) {
        bool      floats = kd_pixel_is_float((kdas_pixel)pixel);
        int64_t   n      = width * height * kd_pixel_samples((kdas_pixel)pixel);
        uint8_t  *bytes  = noise(n); /* of exactly the size, so that a read past it is seen */
        float    *wide   = malloc((size_t)n * sizeof *wide);
        kdas_view view   = { floats ? (void *)wide : bytes, width, height, 0, (kdas_pixel)pixel };

        for (int64_t i = 0; i < n; i++)
            wide[i] = bytes[i] / 255.0f;
        for (int plain = 1; plain >= 0; plain--) {
            kd_frame *f;

            ctx->plain   = plain;
            ctx->threads = plain ? 1 : 3;
            f            = frame_for(width, height, false);
            memset(got, 0xff, sizeof got);
            kd_frame_input(f, plain ? want : got, &view);
            kd_frame_destroy(f);
        }
        ck_assert_msg(kd_test_same_bits(got, want, sizeof got), "pixel %d differs", pixel);
        free(bytes);
        free(wide);
    }
}
END_TEST

START_TEST(each_colour_is_set_around_0_by_its_own_mean_and_deviation)
{
    static const double mean[] = { .485, .456, .406 }, deviation[] = { .229, .224, .225 };
    static float        input[INPUT_HEIGHT * INPUT_WIDTH * 3];
    uint8_t             bgra[] = { 30, 20, 10, 77 };
    kdas_view           one    = { bgra, 1, 1, 0, KDAS_PIXEL_BGRA8 };
    kd_frame           *f      = frame_for(1, 1, false);

    kd_frame_input(f, input, &one);
    for (int i = 0; i < INPUT_HEIGHT * INPUT_WIDTH * 3; i++)
        ck_assert_double_eq_tol(input[i],
                                ((i % 3 + 1) * 10 / 255.0 - mean[i % 3]) / deviation[i % 3], 1e-6);
    kd_frame_destroy(f);
}
END_TEST

/* ---- out ---- */

static const float edges[] = { -INFINITY, -3, 0, 2.5f, INFINITY };

START_TEST(a_mask_is_where_the_logit_reaches_the_edge_exactly)
{
    int64_t  width = sizes[_i][0], height = sizes[_i][1], n = width * height;
    float   *logits = malloc((size_t)n * sizeof *logits);
    uint8_t *mask   = malloc((size_t)n);

    for (size_t e = 0; e < KD_COUNT(edges); e++)
        for (int steep = 0; steep < 2; steep++) {
            kd_frame *f = frame_for(width, height, false);

            fill_map("mask", steep ? 4000 : 4);
            kd_frame_logits(f, logits, map);
            memset(mask, 9, (size_t)n);
            kd_frame_mask(f, mask, 0, map, (kd_edges){ edges[e], edges[e] });
            for (int64_t i = 0; i < n; i++)
                ck_assert_int_eq(mask[i], logits[i] >= edges[e] ? 255 : 0);
            kd_frame_destroy(f);
        }
    free(logits);
    free(mask);
}
END_TEST

START_TEST(a_probability_is_the_logits_to_the_byte)
{
    int64_t  width = sizes[_i][0], height = sizes[_i][1], n = width * height;
    float   *logits = malloc((size_t)n * sizeof *logits);
    uint8_t *bytes  = malloc((size_t)n);

    for (float scale = 0.5f; scale < 100; scale *= 4) {
        kd_frame *f = frame_for(width, height, false);

        fill_map("probability", scale);
        kd_frame_logits(f, logits, map);
        kd_frame_probability(f, bytes, 0, map);
        for (int64_t i = 0; i < n; i++) {
            double exact = 255 / (1 + exp(-(double)logits[i]));

            ck_assert_double_le(fabs(bytes[i] - exact), 0.50002);
        }
        kd_frame_destroy(f);
    }
    free(logits);
    free(bytes);
}
END_TEST

START_TEST(every_byte_of_a_probability_comes_at_its_place)
{
    kd_frame *f = frame_for(MAP_WIDTH, MAP_HEIGHT, false);
    uint8_t   bytes[MAP_HEIGHT * MAP_WIDTH];
    int       seen[256] = { 0 };

    for (int round = 0; round < 60;
         round++) { /* of the map's own size: logits come out as they are */
        for (int i = 0; i < MAP_HEIGHT * MAP_WIDTH; i++)
            map[i] = -8 + 16.0f * (float)(i * 60 + round) / (MAP_HEIGHT * MAP_WIDTH * 60);
        kd_frame_probability(f, bytes, 0, map);
        for (int i = 0; i < MAP_HEIGHT * MAP_WIDTH; i++) {
            ck_assert_int_eq(bytes[i], (uint8_t)(255 / (1 + expf(-map[i])) + 0.5f));
            seen[bytes[i]]++;
        }
    }
    for (int b = 0; b < 256; b++)
        ck_assert_int_gt(seen[b], 0);
    kd_frame_destroy(f);
}
END_TEST

START_TEST(what_is_kept_stays_down_to_the_lower_edge)
{
    int64_t        width = sizes[_i][0], height = sizes[_i][1], n = width * height;
    const kd_edges e      = { 1, -1.5f };
    float         *logits = malloc((size_t)n * sizeof *logits);
    uint8_t       *was = calloc((size_t)n, 1), *mask = malloc((size_t)n);
    kd_frame      *f    = frame_for(width, height, true);
    int64_t        held = 0;

    for (int t = 0; t < 4; t++) {
        fill_map("kept", 2.0f - 1.5f * (float)(t % 3)); /* rises, sinks below both, is inverted */
        if (t == 3) {
            kd_frame_forget(f);
            memset(was, 0, (size_t)n);
        }
        kd_frame_logits(f, logits, map);
        memset(mask, 9, (size_t)n);
        kd_frame_mask(f, mask, 0, map, e);
        for (int64_t i = 0; i < n; i++) {
            int want = logits[i] >= e.on || (was[i] && logits[i] >= e.off) ? 255 : 0;

            ck_assert_int_eq(mask[i], want);
            held += want && logits[i] < e.on;
        }
        memcpy(was, mask, (size_t)n);
    }
    if (n > 100) ck_assert_int_gt(held, 0); /* the lower edge had a say */
    kd_frame_destroy(f);
    free(logits);
    free(was);
    free(mask);
}
END_TEST

START_TEST(threads_do_not_change_what_comes_out)
{
    enum { W = 640, H = 360 };
    const kd_edges e = { 0.5f, -0.5f };
    uint8_t       *mask[2], *overlay[2], *frame = noise(W * H * 3);
    float         *logits[2];
    kdas_view      view = { frame, W, H, 0, KDAS_PIXEL_RGB8 };

    fill_map("threads", 5);
    for (int i = 0; i < 2; i++) {
        kd_overlay o;
        kd_frame  *f;

        ctx->threads = i ? 3 : 1;
        f            = frame_for(W, H, false);
        mask[i]      = malloc(W * H);
        overlay[i]   = malloc(W * H * 3);
        logits[i]    = malloc(W * H * sizeof(float));
        kd_frame_mask(f, mask[i], 0, map, e);
        kd_frame_logits(f, logits[i], map);
        kd_assert_ok(kd_overlay_init(&o, &view, overlay[i], 0, NULL, "test"));
        kd_frame_overlay(f, &o, map, e);
        kd_frame_destroy(f);
    }
    ck_assert(kd_test_same_bits(mask[0], mask[1], W * H));
    ck_assert(kd_test_same_bits(logits[0], logits[1], W * H * sizeof(float)));
    ck_assert(kd_test_same_bits(overlay[0], overlay[1], W * H * 3));
    for (int i = 0; i < 2; i++) {
        free(mask[i]);
        free(overlay[i]);
        free(logits[i]);
    }
    free(frame);
}
END_TEST

/* ---- the clock ---- */

START_TEST(percentiles_are_those_of_the_last_frames)
{
    kd_timing          t;
    kdas_timing_report r = { .size = sizeof r };

    kd_assert_ok(kd_timing_init(&t, ctx));
    kd_timing_get(&t, &r);
    ck_assert_int_eq(r.frames, 0);
    ck_assert_int_eq(r.window, 0);
    ck_assert_double_eq(r.max[KDAS_STAGE_WHOLE], 0);
    for (int i = 1; i <= 200; i++) /* 1 .. 200 s in an order that is not theirs */
        kd_timing_add(&t, (double[]){ 0, 1, 1, 1 + i * 77 % 200 + (i == 200) * 200 });
    kd_timing_get(&t, &r);
    ck_assert_int_eq(r.frames, 200);
    ck_assert_int_eq(r.window, 200);
    ck_assert_double_eq(r.p50[KDAS_STAGE_OUTPUT], 100);
    ck_assert_double_eq(r.p99[KDAS_STAGE_OUTPUT], 198);
    ck_assert_double_eq(r.max[KDAS_STAGE_OUTPUT], 200);
    ck_assert_double_eq(r.last[KDAS_STAGE_OUTPUT], 200);
    ck_assert_double_eq(r.p50[KDAS_STAGE_INPUT], 1);
    ck_assert_double_eq(r.p50[KDAS_STAGE_NETWORK], 0);
    ck_assert_double_eq(r.max[KDAS_STAGE_WHOLE], 201);
    for (int i = 0; i < KDAS_TIMING_WINDOW + 10; i++) /* all of the former are forgotten */
        kd_timing_add(&t, (double[]){ 0, 0, 3, 3 });
    kd_timing_get(&t, &r);
    ck_assert_int_eq(r.frames, 200 + KDAS_TIMING_WINDOW + 10);
    ck_assert_int_eq(r.window, KDAS_TIMING_WINDOW);
    ck_assert_double_eq(r.max[KDAS_STAGE_WHOLE], 3);
    ck_assert_double_eq(r.p50[KDAS_STAGE_NETWORK], 3);
    ck_assert_double_eq(r.last[KDAS_STAGE_OUTPUT], 0);
    kd_timing_finish(&t);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("frame");
    TCase   *in     = tcase_create("in");
    TCase   *out    = tcase_create("out");
    SRunner *runner = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(in, setup, teardown);
    tcase_add_loop_test(in, neither_threads_nor_vectors_change_the_networks_input, 0,
                        KD_COUNT(sizes));
    tcase_add_test(in, each_colour_is_set_around_0_by_its_own_mean_and_deviation);
    suite_add_tcase(s, in);
    tcase_add_checked_fixture(out, setup, teardown);
    tcase_add_loop_test(out, a_mask_is_where_the_logit_reaches_the_edge_exactly, 0,
                        KD_COUNT(sizes));
    tcase_add_loop_test(out, a_probability_is_the_logits_to_the_byte, 0, KD_COUNT(sizes));
    tcase_add_test(out, every_byte_of_a_probability_comes_at_its_place);
    tcase_add_loop_test(out, what_is_kept_stays_down_to_the_lower_edge, 0, KD_COUNT(sizes));
    tcase_add_test(out, threads_do_not_change_what_comes_out);
    tcase_add_test(out, percentiles_are_those_of_the_last_frames);
    suite_add_tcase(s, out);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
