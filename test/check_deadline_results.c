/* check_deadline_results.c - what a frame that is repeated for its deadline shows and leaves; counts, estimates and options.
 * Time is the test's own: see check_deadline.c. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/live_util.h"
#include "support/slow_device.h"

/* ---- what a repeated frame shows and leaves ---- */

/* The next frame is repeated: _i 0 given up, 1 at once. */
static void make_slow(kdas_segmenter *s, int how)
{
    if (how) {
        kd_test_live_take(30);
        kd_test_live_run(s, 30);
        while (kdas_segmenter_repeated(s) != KDAS_REPEAT_NONE)
            kd_test_live_run(s, 1);
    }
    kd_test_live_take(30);
}

START_TEST(each_form_of_result_is_repeated)
{
    static uint8_t mask[2][KD_TEST_LIVE_W * KD_TEST_LIVE_H],
        chance[2][KD_TEST_LIVE_W * KD_TEST_LIVE_H], drawn[KD_TEST_LIVE_W * KD_TEST_LIVE_H * 3],
        want[KD_TEST_LIVE_W * KD_TEST_LIVE_H * 3];
    static float    logits[2][KD_TEST_LIVE_W * KD_TEST_LIVE_H];
    kdas_segmenter *s = kd_test_live_open(1), *alone = kd_test_live_open(0);
    kdas_view       where = { mask[0], KD_TEST_LIVE_W, KD_TEST_LIVE_H, 0, KDAS_PIXEL_GREY8 };

    kd_assert_ok(kdas_segmenter_mask(alone, &kd_test_live.frames[0], mask[0], 0));
    kd_assert_ok(kdas_segmenter_probability(alone, &kd_test_live.frames[0], chance[0], 0));
    kd_assert_ok(kdas_segmenter_logits(alone, &kd_test_live.frames[0], logits[0]));
    make_slow(s, _i);
    kd_test_live_take(_i ? 30 : 0.5);
    do /* the last computed frame is frame 0 */
        kd_assert_ok(kdas_segmenter_mask(s, &kd_test_live.frames[0], mask[1], 0));
    while (kdas_segmenter_repeated(s) != KDAS_REPEAT_NONE);
    kd_test_live_take(30);
    kd_assert_ok(kdas_segmenter_mask(s, &kd_test_live.frames[1], mask[1], 0));
    ck_assert_int_eq(kdas_segmenter_repeated(s), _i ? KDAS_REPEAT_PREDICTED : KDAS_REPEAT_LATE);
    kd_assert_ok(kdas_segmenter_probability(s, &kd_test_live.frames[1], chance[1], 0));
    ck_assert_int_ne(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
    kd_assert_ok(kdas_segmenter_logits(s, &kd_test_live.frames[1], logits[1]));
    ck_assert_int_ne(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
    kd_assert_ok(
        kdas_segmenter_overlay(s, &kd_test_live.frames[1], drawn, 0, NULL)); /* on the new frame */
    ck_assert_int_ne(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
    kd_assert_ok(kdas_image_overlay(&kd_test_live.frames[1], &where, want, 0, NULL));
    ck_assert_mem_eq(mask[1], mask[0], sizeof mask[0]);
    ck_assert_mem_eq(chance[1], chance[0], sizeof chance[0]);
    ck_assert(kd_test_same_bits(logits[1], logits[0], sizeof logits[0]));
    ck_assert_mem_eq(drawn, want, sizeof want);
    ck_assert_ptr_nonnull(memchr(mask[0], 255, sizeof mask[0]));
    ck_assert_ptr_nonnull(memchr(mask[0], 0, sizeof mask[0]));
    kdas_segmenter_destroy(s);
    kdas_segmenter_destroy(alone);
}
END_TEST

/* Two segmenters see the same frames, but one of them a slow one more. */
START_TEST(a_repeated_frame_is_no_evidence)
{
    kdas_segmenter_options o = kd_test_live_options(1);
    static uint8_t         mask[2][KD_TEST_LIVE_W * KD_TEST_LIVE_H];
    static float           logits[2][KD_TEST_LIVE_W * KD_TEST_LIVE_H];
    kdas_segmenter        *s[2];

    o.smoothing  = 0.7f;
    o.hysteresis = kd_test_live.threshold / 2;
    for (int i = 0; i < 2; i++) {
        s[i] = kd_test_live_open_with(&o);
        kd_test_live_take(0.5);
        kd_assert_ok(kdas_segmenter_mask(s[i], &kd_test_live.frames[0], mask[i], 0));
        kd_assert_ok(kdas_segmenter_probability(s[i], &kd_test_live.frames[2], mask[i], 0));
        if (i == 1) {
            kd_test_live_take(30); /* the kept mask is not that of the last result */
            kd_assert_ok(kdas_segmenter_mask(s[i], &kd_test_live.frames[1], mask[i], 0));
            ck_assert_int_eq(kdas_segmenter_repeated(s[i]), KDAS_REPEAT_LATE);
            kd_assert_ok(kdas_segmenter_overlay(s[i], &kd_test_live.frames[1],
                                                kd_test_live.pixels[1], 0, NULL));
            ck_assert_int_eq(kdas_segmenter_repeated(s[i]), KDAS_REPEAT_LATE);
            kd_test_live_draw();
            kd_test_live_take(0.5);
        }
        kd_assert_ok(kdas_segmenter_mask(s[i], &kd_test_live.frames[1], mask[i], 0));
        ck_assert_int_eq(kdas_segmenter_repeated(s[i]), KDAS_REPEAT_NONE);
        kd_assert_ok(kdas_segmenter_logits(s[i], &kd_test_live.frames[0], logits[i]));
    }
    ck_assert_mem_eq(mask[1], mask[0], sizeof mask[0]);
    ck_assert(kd_test_same_bits(logits[1], logits[0], sizeof logits[0]));
    kdas_segmenter_destroy(s[0]);
    kdas_segmenter_destroy(s[1]);
}
END_TEST

START_TEST(maps_are_those_of_the_last_computed_frame)
{
    kdas_segmenter *s = kd_test_live_open(1);
    static float    before[KD_TEST_LIVE_SIDE * KD_TEST_LIVE_SIDE];
    int64_t         height, width;
    const float    *map;

    kd_test_live_run(s, 1);
    map = kdas_segmenter_map(s, 0, &height, &width);
    ck_assert_int_le(height * width, KD_TEST_LIVE_SIDE * KD_TEST_LIVE_SIDE);
    memcpy(before, map, (size_t)(height * width) * sizeof *map);
    kd_test_live_take(30);
    ck_assert_str_eq(kd_test_live_run(s, 1), "L");
    ck_assert(kd_test_same_bits(map, before, (size_t)(height * width) * sizeof *map));
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(nothing_is_allocated_for_a_repeated_frame)
{
    kdas_segmenter *s = kd_test_live_open(1);
    long            taken;

    kd_test_live_run(s, 30);
    taken = kd_test_live.meter.taken;
    kd_test_live_take(4);
    ck_assert_str_eq(kd_test_live_run(s, 20), "LLLLCLLLLCPPPPCPPPPC");
    ck_assert_int_eq(kd_test_live.meter.taken, taken);
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- a device that runs the network as one graph ---- */

static double ticking, tick; /* a clock that goes on whenever it is read */

static double read_ticking(void *user)
{
    (void)user;
    return ticking += tick;
}

/* Late before a launch, before a capture, and in the midst of one: nothing is broken by it. */
START_TEST(a_graph_is_given_up_before_it_is_launched)
{
    static const double    ticks[] = { 2, 0.1, 0.9 };
    kdas_segmenter_options o       = kd_test_live_options(1);
    static float    want[KD_TEST_LIVE_W * KD_TEST_LIVE_H], got[KD_TEST_LIVE_W * KD_TEST_LIVE_H];
    kdas_context   *far = kd_test_far_context(NULL, NULL, NULL);
    kdas_model     *net;
    kdas_segmenter *s;
    kdas_batch     *other;
    long            launches, captured;

    kd_assert_ok(kdas_model_create(&net, far, "lite_fpn0", NULL));
    kd_assert_ok(kdas_segmenter_create(&s, net, &o));
    kd_assert_ok(kdas_batch_create(&other, far, 2, 96, 96));
    kd_segmenter_set_clock(s, read_ticking, NULL);
    for (int i = 0; i < 6; i++)
        kd_assert_ok(kdas_segmenter_logits(s, &kd_test_live.frames[0], want));
    ck_assert_int_gt(kd_far.launches, 0);
    launches = kd_far.launches;
    if (_i > 0)
        kd_assert_ok(kdas_model_forward(net, KDAS_MODE_INFER, other)); /* graphs are dropped */
    captured = kd_far.captured;
    tick     = ticks[_i];
    kd_assert_ok(kdas_segmenter_logits(s, &kd_test_live.frames[1], got));
    ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_LATE);
    ck_assert_int_eq(kd_far.launches, launches);
    ck_assert_int_eq(kd_far.captured > captured, _i == 1);
    ck_assert(kd_test_same_bits(got, want, sizeof want));
    tick = 0;
    for (int i = 0; i < 3; i++) {
        kd_assert_ok(kdas_segmenter_logits(s, &kd_test_live.frames[1], got));
        ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
        ck_assert(!kd_test_same_bits(got, want, sizeof want));
        kd_assert_ok(kdas_segmenter_logits(s, &kd_test_live.frames[0], got));
        ck_assert(kd_test_same_bits(got, want, sizeof want));
    }
    ck_assert_int_gt(kd_far.launches, launches);
    kdas_segmenter_destroy(s);
    kdas_batch_destroy(other);
    kdas_model_destroy(net);
    kdas_context_destroy(far);
    kd_test_far_assert_empty();
}
END_TEST

/* ---- counts and options ---- */

START_TEST(frames_are_counted_and_estimated)
{
    kdas_segmenter    *s = kd_test_live_open(1);
    kdas_timing_report r = { .size = sizeof r };

    ck_assert_double_eq(kdas_segmenter_estimate(s, 0.5), 0);
    kd_test_live_take(30);
    ck_assert_str_eq(kd_test_live_run(s, 7), "CLLPPCP");
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, 2);
    ck_assert_int_eq(r.window, 2);
    ck_assert_int_eq(r.overrun, 2);
    ck_assert_int_eq(r.repeated, 5);
    ck_assert_int_eq(r.given_up, 2);
    ck_assert_double_gt(r.repeated_max, 1);
    ck_assert_double_le(r.repeated_max, 1 + 30 / (double)kd_test_live.steps);
    ck_assert_double_eq_tol(r.p50[KDAS_STAGE_WHOLE], 30, 1e-6);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.9), 30, 1e-6);
    kd_assert_ok(kdas_segmenter_timing_reset(s));
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames + r.overrun + r.repeated + r.given_up, 0);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.9), 30, 1e-6); /* of the machine */
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(an_estimate_is_a_share_of_the_last_sixteen_frames)
{
    kdas_segmenter    *s       = kd_test_live_open(0);
    static const float wrong[] = { 0, -1, 1.01f, NAN, INFINITY };

    for (int i = 1; i <= 20; i++) { /* 5 .. 20 count */
        kd_test_live_take(i);
        kd_test_live_run(s, 1);
    }
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 1e-9), 5, 1e-6);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.5), 12, 1e-6);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.9), 19, 1e-6);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 1), 20, 1e-6);
    for (size_t i = 0; i < KD_COUNT(wrong); i++)
        ck_assert(isnan(kdas_segmenter_estimate(s, (double)wrong[i])));
    ck_assert(isnan(kdas_segmenter_estimate(NULL, 0.5)));
    ck_assert_int_eq(kdas_segmenter_repeated(NULL), KDAS_REPEAT_NONE);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_frame_given_up_counts_as_longer_than_the_deadline)
{
    kdas_segmenter *s = kd_test_live_open(1);

    kd_test_live_run(s, 4);
    kd_test_live_take(30);
    ck_assert_str_eq(kd_test_live_run(s, 1), "L");
    ck_assert_double_gt(kdas_segmenter_estimate(s, 1), 1);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 1), 1, 1e-9);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.8), 0.5, 1e-6);
    kdas_segmenter_destroy(s);
}
END_TEST

static void assert_refused(const kdas_segmenter_options *o, const char *part)
{
    kdas_segmenter *s = (kdas_segmenter *)&s;

    kd_assert_status(kdas_segmenter_create(&s, kd_test_live.model, o), KDAS_EINVAL);
    ck_assert_ptr_null(s);
    kd_assert_sentence(part);
}

START_TEST(options_out_of_range_are_refused)
{
    static const double  bad[]    = { -1e-9, -1, NAN, INFINITY, 3600.1 };
    static const int32_t limits[] = { -1, 1001, INT32_MIN, INT32_MAX };
    kdas_segmenter      *s;

    for (size_t i = 0; i < KD_COUNT(bad); i++) {
        kdas_segmenter_options o = kd_test_live_options(bad[i]);

        assert_refused(&o, "frame_deadline");
    }
    for (size_t i = 0; i < KD_COUNT(limits); i++) {
        kdas_segmenter_options o = kd_test_live_options(1);

        o.repeat_limit = limits[i];
        assert_refused(&o, "repeat_limit");
    }
    {
        kdas_segmenter_options o = kd_test_live_options(3600), used = { .size = sizeof used };

        s = kd_test_live_open_with(&o);
        kd_assert_ok(kdas_segmenter_get_options(s, &used));
        ck_assert_double_eq(used.frame_deadline, 3600);
        ck_assert_int_eq(used.repeat_limit, 4);
        kdas_segmenter_destroy(s);
    }
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("deadline: results");
    TCase   *shown  = tcase_create("what a repeated frame shows and leaves");
    TCase   *counts = tcase_create("counts and options");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(shown, kd_test_live_setup, kd_test_live_teardown);
    tcase_add_loop_test(shown, each_form_of_result_is_repeated, 0, 2);
    tcase_add_test(shown, a_repeated_frame_is_no_evidence);
    tcase_add_test(shown, maps_are_those_of_the_last_computed_frame);
    tcase_add_test(shown, nothing_is_allocated_for_a_repeated_frame);
    tcase_add_loop_test(shown, a_graph_is_given_up_before_it_is_launched, 0, 3);
    suite_add_tcase(suite, shown);
    tcase_add_checked_fixture(counts, kd_test_live_setup, kd_test_live_teardown);
    tcase_add_test(counts, frames_are_counted_and_estimated);
    tcase_add_test(counts, an_estimate_is_a_share_of_the_last_sixteen_frames);
    tcase_add_test(counts, a_frame_given_up_counts_as_longer_than_the_deadline);
    tcase_add_test(counts, options_out_of_range_are_refused);
    suite_add_tcase(suite, counts);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
