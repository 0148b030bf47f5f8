/* check_deadline.c - frames that cannot be done in time: which are repeated, and what is never repeated. Time is the test's
 * own: it passes while kernels run, as fast as a test says. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/live_util.h"
#include "support/slow_device.h"

/* ---- which frames are repeated ---- */

START_TEST(without_a_deadline_all_frames_are_computed)
{
    kdas_segmenter *s = kd_test_live_open(0);

    kd_test_live_take(1000);
    ck_assert_str_eq(kd_test_live_run(s, 8), "CCCCCCCC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(frames_in_time_are_computed)
{
    kdas_segmenter *s = kd_test_live_open(1);

    kd_test_live_take(0.99);
    ck_assert_str_eq(kd_test_live_run(s, 40), "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_machine_that_is_too_slow_computes_every_fifth_frame)
{
    kdas_segmenter *s = kd_test_live_open(1);

    kd_test_live_take(30);
    ck_assert_str_eq(kd_test_live_run(s, 16), "CLLPPCPPPPCPPPPC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(the_limit_of_repeated_frames_is_an_option)
{
    static const char *const want[]  = { "CLCPCPCP", "CLLCPPCP", "CLLPPPPP" };
    static const int         limit[] = { 1, 2, 1000 };
    kdas_segmenter_options   o       = kd_test_live_options(1);
    kdas_segmenter          *s;

    o.repeat_limit = limit[_i];
    s              = kd_test_live_open_with(&o);
    kd_test_live_take(30);
    ck_assert_str_eq(kd_test_live_run(s, 8), want[_i]);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(one_slow_frame_is_given_up_and_the_next_is_computed)
{
    kdas_segmenter *s = kd_test_live_open(1);

    kd_test_live_run(s, 5);
    kd_test_live_take(4);
    ck_assert_str_eq(kd_test_live_run(s, 1), "L");
    kd_test_live_take(0.5);
    ck_assert_str_eq(kd_test_live_run(s, 6), "CCCCCC");
    kdas_segmenter_destroy(s);
}
END_TEST

/* The step that runs when the time is over is the last: a quarter of a network that takes four times as long. */
START_TEST(a_late_frame_stops_at_the_next_step)
{
    kdas_segmenter *s = kd_test_live_open(1);
    long            before;

    kd_test_live_run(s, 5);
    kd_test_live_take(4);
    before = kd_test_slow_time.kernels;
    ck_assert_str_eq(kd_test_live_run(s, 1), "L");
    ck_assert_int_ge(kd_test_slow_time.kernels - before, kd_test_live.steps / 4);
    ck_assert_int_le(kd_test_slow_time.kernels - before, kd_test_live.steps / 4 + 1);
    kdas_segmenter_destroy(s);
}
END_TEST

/* Nine of the last sixteen must be slow before frames are repeated at once. */
START_TEST(a_machine_that_becomes_slow_is_noticed)
{
    kdas_segmenter *s = kd_test_live_open(1);

    kd_test_live_run(s, 30);
    kd_test_live_take(4);
    ck_assert_str_eq(kd_test_live_run(s, 20), "LLLLCLLLLCPPPPCPPPPC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_machine_that_was_busy_is_used_again_at_once)
{
    kdas_segmenter *s = kd_test_live_open(1);

    kd_test_live_run(s, 30);
    kd_test_live_take(4);
    kd_test_live_run(s, 40);
    ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE); /* four are repeated now */
    kd_test_live_take(0.5);
    ck_assert_str_eq(kd_test_live_run(s, 12), "PPPPCCCCCCCC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(no_rhythm_of_slow_frames_starves_or_is_late)
{
    kdas_segmenter    *s      = kd_test_live_open(1);
    kdas_timing_report r      = { .size = sizeof r };
    int                in_row = 0, computed = 0, late = 0;

    for (int i = 0; i < 600; i++) {
        double seconds = 0.2 + pow(kd_test_unit("busy", (uint64_t)(i / (1 + i % 7))) + 1, 2);
        double begun   = kd_test_slow_time.now;
        char   word;

        kd_test_live_take(seconds);
        word   = *kd_test_live_run(s, 1);
        in_row = word == 'C' ? 0 : in_row + 1;
        ck_assert_int_le(in_row, 4);
        computed += word == 'C';
        if (kd_test_slow_time.now - begun > 1 + kd_test_slow_time.step) {
            ck_assert_int_eq(word, 'C'); /* only one that had to be computed */
            late++;
        }
    }
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, computed);
    ck_assert_int_eq(r.repeated, 600 - computed);
    ck_assert_int_ge(r.overrun, late);
    ck_assert_int_gt(computed, 120);
    ck_assert_int_gt(r.given_up, 0);
    ck_assert_int_gt(r.repeated, r.given_up);
    ck_assert_double_le(r.repeated_max, 1 + 4.2 / (double)kd_test_live.steps);
    kdas_segmenter_destroy(s);
}
END_TEST

/* What writing takes is kept free, since a repeated frame is written, too. */
START_TEST(time_for_the_output_is_reserved)
{
    kd_deadline d = { .seconds = 1, .limit = 4 };

    ck_assert_double_eq(kd_deadline_stop(&d), 1);
    for (int i = 0; i < 5; i++)
        kd_deadline_computed(&d, 0.5, 0.125);
    kd_deadline_computed(&d, 0.9, 0.75); /* one alone changes nothing */
    ck_assert_double_eq(kd_deadline_stop(&d), 1 - 0.125);
    kd_deadline_given_up(&d);
    ck_assert_double_eq(kd_deadline_stop(&d), 1 - 0.125);
}
END_TEST

/* ---- what is never repeated ---- */

START_TEST(a_first_frame_is_computed_to_its_end)
{
    kdas_segmenter_options o = kd_test_live_options(1);
    kdas_segmenter        *s;
    kdas_view              lower = kd_test_live.frames[0];
    static uint8_t         mask[KD_TEST_LIVE_W * KD_TEST_LIVE_H];

    lower.height   = KD_TEST_LIVE_H - 10;
    o.frame_height = o.frame_width = 0;
    o.repeat_limit                 = 1000;
    s                              = kd_test_live_open_with(&o);
    kd_test_live_take(30);
    ck_assert_str_eq(kd_test_live_run(s, 3), "CLL");
    kd_assert_ok(kdas_segmenter_reset(s));
    ck_assert_str_eq(kd_test_live_run(s, 3), "CPP");
    kd_assert_ok(kdas_segmenter_mask(s, &lower, mask, 0)); /* of a new size */
    ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
    ck_assert_str_eq(kd_test_live_run(s, 3), "CLL");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(new_weights_take_effect_at_once)
{
    kdas_segmenter *s = kd_test_live_open(1);
    static float    values[1 << 16];
    int64_t         dims[4];
    int32_t         rank, count = 1;

    ck_assert_ptr_nonnull(kdas_model_tensor(kd_test_live.model, 0, &rank, dims, NULL));
    for (int i = 0; i < rank; i++)
        count *= (int32_t)dims[i];
    ck_assert_int_le(count, (int)KD_COUNT(values));
    kd_test_live_take(30);
    ck_assert_str_eq(kd_test_live_run(s, 3), "CLL");
    kd_assert_ok(kdas_model_read(kd_test_live.model, 0, values));
    kd_assert_ok(kdas_model_write(kd_test_live.model, 0, values));
    ck_assert_str_eq(kd_test_live_run(s, 3), "CPP");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_cancel_is_no_repeated_frame)
{
    kdas_segmenter *s = kd_test_live_open(1);
    static uint8_t  mask[KD_TEST_LIVE_W * KD_TEST_LIVE_H];

    kd_test_live_run(s, 30);
    kd_test_live_take(4);
    kd_test_slow_time.cancel_at = kd_test_slow_time.kernels + 1; /* before it is late */
    kd_assert_status(kdas_segmenter_mask(s, &kd_test_live.frames[0], mask, 0), KDAS_ECANCELLED);
    kdas_context_resume(kd_test_live.ctx);
    ck_assert_str_eq(kd_test_live_run(s, 20),
                     "LLLLCLLLLCPPPPCPPPPC"); /* as if it had not been there */
    kdas_context_cancel(kd_test_live.ctx);
    kd_assert_status(kdas_segmenter_mask(s, &kd_test_live.frames[0], mask, 0),
                     KDAS_ECANCELLED); /* would be P */
    kdas_context_resume(kd_test_live.ctx);
    ck_assert_str_eq(kd_test_live_run(s, 5), "PPPPC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_frame_that_is_refused_is_no_repeated_frame)
{
    kdas_segmenter *s   = kd_test_live_open(1);
    kdas_view       bad = kd_test_live.frames[0];
    static uint8_t  mask[KD_TEST_LIVE_W * KD_TEST_LIVE_H];

    kd_test_live_take(30);
    ck_assert_str_eq(kd_test_live_run(s, 3), "CLL");
    bad.width--;
    kd_assert_status(kdas_segmenter_mask(s, &bad, mask, 0), KDAS_ESHAPE);
    kd_assert_status(kdas_segmenter_mask(s, NULL, mask, 0), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_mask(s, &kd_test_live.frames[0], mask, 1), KDAS_EINVAL);
    ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_LATE); /* the last successful one */
    ck_assert_str_eq(kd_test_live_run(s, 4), "PPCP");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_frame_given_up_leaves_no_sentence)
{
    kdas_segmenter *s = kd_test_live_open(1);

    kd_test_live_run(s, 5);
    kd_assert_status(kdas_segmenter_reset(NULL), KDAS_EINVAL);
    kd_test_live_take(4);
    ck_assert_str_eq(kd_test_live_run(s, 1), "L");
    kd_assert_sentence("kdas_segmenter_reset");
    ck_assert_int_eq(kdas_context_cancelled(kd_test_live.ctx), 0);
    kdas_segmenter_destroy(s);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("deadline");
    TCase   *which = tcase_create("which frames are repeated");
    TCase   *never = tcase_create("what is never repeated");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(which, kd_test_live_setup, kd_test_live_teardown);
    tcase_add_test(which, without_a_deadline_all_frames_are_computed);
    tcase_add_test(which, frames_in_time_are_computed);
    tcase_add_test(which, a_machine_that_is_too_slow_computes_every_fifth_frame);
    tcase_add_loop_test(which, the_limit_of_repeated_frames_is_an_option, 0, 3);
    tcase_add_test(which, one_slow_frame_is_given_up_and_the_next_is_computed);
    tcase_add_test(which, a_late_frame_stops_at_the_next_step);
    tcase_add_test(which, a_machine_that_becomes_slow_is_noticed);
    tcase_add_test(which, a_machine_that_was_busy_is_used_again_at_once);
    tcase_add_test(which, no_rhythm_of_slow_frames_starves_or_is_late);
    tcase_add_test(which, time_for_the_output_is_reserved);
    suite_add_tcase(suite, which);
    tcase_add_checked_fixture(never, kd_test_live_setup, kd_test_live_teardown);
    tcase_add_test(never, a_first_frame_is_computed_to_its_end);
    tcase_add_test(never, new_weights_take_effect_at_once);
    tcase_add_test(never, a_cancel_is_no_repeated_frame);
    tcase_add_test(never, a_frame_that_is_refused_is_no_repeated_frame);
    tcase_add_test(never, a_frame_given_up_leaves_no_sentence);
    suite_add_tcase(suite, never);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
