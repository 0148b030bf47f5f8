/* check_evaluator.c - the evaluator: stated rules for masks and maps that are empty or full, sets,
 * logits, bad arguments, and memory that runs out. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/metric_util.h"

/* ---- empty and full ---- */

typedef enum fill { EMPTY, FULL, PART } fill;

/* A 5 x 4 image: a mask with a polyp of 3 x 2, with none, or polyp all over; a map likewise.
 * Figures in the order of kdas_metric; NaN: there is none; -1: not in question here. */
#define EM (20.0 / 19)
static const struct {
    fill   map, mask;
    double want[KDAS_METRICS];
} rules[] = {
    /* a polyp is there; the map is empty, full, right */
    { EMPTY,
      PART,
      { 6. / 13 / 256, .3 / 256, 0, -1, -1, .3, -1, 6. / 13, .3, 1. / 256, 1, 0, 0, 0, 0 } },
    { FULL, PART, { 6. / 13, .3, -1, -1, -1, .7, -1, 6. / 13, .3, 1, 1, 0, 0, 6. / 13, .3 } },
    { PART, PART, { -1, -1, 1, 1, -1, 0, EM, 1, 1, 1, 1, 255. / 256, 1, 1, 1 } },
    /* the truth is empty; the map is empty, full, in part */
    { EMPTY, EMPTY, { 0, 0, 0, 1, EM * 255 / 256, 0, EM, 0, 0, 0, 0, 0, 0, 1, 1 } },
    { FULL, EMPTY, { 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 } },
    { PART, EMPTY, { 0, 0, 0, .7, EM * .7 * 255 / 256, .3, EM * .7, 0, 0, 0, 0, 0, 0, 0, 0 } },
    /* the truth is full; the map is empty, full */
    { EMPTY,
      FULL,
      { 1. / 256, 1. / 256, 0, 0, EM / 256, 1, EM, 1, 1, 1. / 256, 1, NAN, NAN, 0, 0 } },
    { FULL, FULL, { 1, 1, 1, 1, EM, 0, EM, 1, 1, 1, 1, NAN, NAN, 1, 1 } },
};

static void make_fill(uint8_t *out, fill kind)
{
    for (int i = 0; i < 20; i++) {
        bool inside = i / 5 >= 1 && i / 5 <= 2 && i % 5 >= 1 && i % 5 <= 3;

        out[i] = kind == FULL || (kind == PART && inside) ? 255 : 0;
    }
}

START_TEST(empty_and_full_follow_the_stated_rules)
{
    uint8_t map[20], mask[20];

    make_fill(map, rules[_i].map);
    make_fill(mask, rules[_i].mask);
    kd_test_add(map, mask, 5, 4);
    ck_assert_int_eq(kdas_evaluator_empty(kd_eval), rules[_i].mask == EMPTY);
    for (int m = 0; m < KDAS_METRICS; m++)
        if (rules[_i].want[m] != -1) {
            kd_test_assert_figure(0, m, rules[_i].want[m], 1e-14);
            kd_test_assert_figure(-1, m, rules[_i].want[m], 1e-14);
        }
}
END_TEST

START_TEST(a_single_pixel_gives_figures)
{
    uint8_t on = 255, off = 0;

    kd_test_add(&on, &on, 1, 1);
    kd_test_add(&off, &on, 1, 1);
    kd_test_add(&on, &off, 1, 1);
    kd_test_add(&off, &off, 1, 1);
    for (int i = 0; i < 4; i++) {
        kd_test_assert_figure(i, KDAS_METRIC_MAE, i == 1 || i == 2, 0);
        kd_test_assert_figure(i, KDAS_METRIC_SM, i == 0 || i == 3, 0);
        kd_test_assert_figure(i, KDAS_METRIC_DICE_50, i == 0 || i == 3, 0);
        kd_test_assert_figure(i, KDAS_METRIC_WFM, i == 0, 1e-15);
        kd_test_assert_figure(i, KDAS_METRIC_MEAN_DICE, i == 0 ? 1 : i == 1 ? 1.0 / 256 : 0, 0);
    }
    ck_assert_int_eq(kdas_evaluator_empty(kd_eval), 2);
}
END_TEST

START_TEST(constant_regions_have_no_variance)
{
    /* Two polyps in opposite corners: two of the four regions hold no polyp, and map and mask are
     * constant there, so they count as alike whatever the map's value; the other two are not. */
    uint8_t map[64 * 64], mask[64 * 64] = { 0 };

    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 16; x++)
            mask[y * 64 + x] = mask[(63 - y) * 64 + 63 - x] = 255;
    for (int v = 1; v < 255; v++) {
        double p = v / 255.0, share = 512.0 / 4096;
        double q      = 1 - p;
        double object = share * 2 * p / (p * p + 1) + (1 - share) * 2 * q / (q * q + 1);

        memset(map, v, sizeof map);
        kd_test_add(map, mask, 64, 64);
        kd_test_assert_figure(v - 1, KDAS_METRIC_SM, 0.5 * object + 0.5 * 0.5, 1e-12);
    }
}
END_TEST

/* ---- sets ---- */

START_TEST(order_of_images_and_thread_count_do_not_matter)
{
    enum { W = 41, H = 37, N = 6 };
    uint8_t         map[N][W * H], mask[N][W * H];
    kdas_context   *other   = kd_test_context(2);
    kdas_evaluator *reverse = NULL;

    kd_assert_ok(kdas_evaluator_create(&reverse, other));
    for (int i = 0; i < N; i++) {
        char name[32];

        snprintf(name, sizeof name, "metric.order.%d", i);
        kd_test_pair(map[i], mask[i], W, H, name);
        kd_test_add(map[i], mask[i], W, H);
    }
    for (int i = N - 1; i >= 0; i--) {
        kdas_view p = kd_test_grey(map[i], W, H), g = kd_test_grey(mask[i], W, H);

        kd_assert_ok(kdas_evaluator_add(reverse, NULL, &p, &g));
    }
    for (int m = 0; m < KDAS_METRICS; m++) {
        kd_test_assert_figure(-1, m, kd_test_figure(reverse, -1, m), 1e-14);
        for (int i = 0; i < N; i++) /* one image: the same bits */
            kd_test_assert_figure(i, m, kd_test_figure(reverse, N - 1 - i, m), 0);
    }
    kdas_evaluator_destroy(reverse);
    kdas_context_destroy(other);
}
END_TEST

START_TEST(strides_are_honoured)
{
    enum { W = 30, H = 20, WIDE = 48 };
    uint8_t   map[W * H], mask[W * H], wide_map[WIDE * H], wide_mask[(WIDE + 1) * H];
    kdas_view p = { wide_map, W, H, WIDE, KDAS_PIXEL_GREY8 };
    kdas_view g = { wide_mask, W, H, WIDE + 1, KDAS_PIXEL_GREY8 };

    kd_test_pair(map, mask, W, H, "metric.stride");
    memset(wide_map, 99, sizeof wide_map);
    memset(wide_mask, 200, sizeof wide_mask);
    for (int y = 0; y < H; y++) {
        memcpy(wide_map + y * WIDE, map + y * W, W);
        memcpy(wide_mask + y * (WIDE + 1), mask + y * W, W);
    }
    kd_test_add(map, mask, W, H);
    kd_assert_ok(kdas_evaluator_add(kd_eval, NULL, &p, &g));
    for (int m = 0; m < KDAS_METRICS; m++)
        kd_test_assert_figure(1, m, kd_test_figure(kd_eval, 0, m), 0);
}
END_TEST

START_TEST(reset_forgets_everything)
{
    uint8_t map[20], mask[20];
    double  before[KDAS_METRICS], value;

    make_fill(map, FULL);
    make_fill(mask, PART);
    kd_test_add(map, mask, 5, 4);
    for (int m = 0; m < KDAS_METRICS; m++)
        before[m] = kd_test_figure(kd_eval, -1, m);
    make_fill(mask, EMPTY);
    kd_test_add(map, mask, 5, 4);
    kdas_evaluator_reset(kd_eval);
    ck_assert_int_eq(kdas_evaluator_count(kd_eval), 0);
    ck_assert_int_eq(kdas_evaluator_empty(kd_eval), 0);
    ck_assert_ptr_null(kdas_evaluator_name(kd_eval, 0));
    kd_assert_status(kdas_evaluator_get(kd_eval, -1, KDAS_METRIC_SM, &value), KDAS_ESTATE);
    make_fill(mask, PART);
    kd_test_add(map, mask, 5, 4);
    for (int m = 0; m < KDAS_METRICS; m++)
        kd_test_assert_figure(-1, m, before[m], 0);
}
END_TEST

/* ---- logits ---- */

START_TEST(logits_become_the_map_that_a_file_would_hold)
{
    enum { W = 23, H = 31 };
    uint8_t   map[W * H], mask[W * H] = { 0 };
    float     logits[W * H];
    double    low = 1, high = 0;
    kdas_view g = kd_test_grey(mask, W, H);

    kd_test_pair(map, mask, W, H, "metric.logits");
    kd_test_fill(logits, W * H, "metric.logits.z", 6, -1);
    logits[5] = 300; /* saturates */
    logits[6] = -300;
    for (int i = 0; i < W * H; i++) {
        low  = fmin(low, 1 / (1 + exp(-(double)logits[i])));
        high = fmax(high, 1 / (1 + exp(-(double)logits[i])));
    }
    for (int i = 0; i < W * H; i++)
        map[i] = (uint8_t)((1 / (1 + exp(-(double)logits[i])) - low) / (high - low + 1e-8) * 255);
    kd_test_add(map, mask, W, H);
    kd_assert_ok(kdas_evaluator_add_logits(kd_eval, "z", logits, &g));
    for (int m = 0; m < KDAS_METRICS; m++)
        kd_test_assert_figure(1, m, kd_test_figure(kd_eval, 0, m), 0);

    for (int i = 0; i < W * H; i++)
        logits[i] = 2; /* no range: an empty map */
    kd_assert_ok(kdas_evaluator_add_logits(kd_eval, "flat", logits, &g));
    kd_test_assert_figure(2, KDAS_METRIC_DICE_50, 0, 0);
    kd_test_assert_figure(2, KDAS_METRIC_WFM, 0, 0);
}
END_TEST

START_TEST(logits_that_are_no_numbers_are_refused)
{
    static const float bad[]      = { NAN, INFINITY, -INFINITY };
    float              logits[20] = { 0 };
    uint8_t            mask[20]   = { 0 };
    kdas_view          g          = kd_test_grey(mask, 5, 4);

    make_fill(mask, PART);
    logits[13] = bad[_i];
    kd_assert_status(kdas_evaluator_add_logits(kd_eval, "frame7", logits, &g), KDAS_ENUMERIC);
    kd_assert_sentence("frame7");
    kd_assert_sentence("(3, 2)");
    ck_assert_int_eq(kdas_evaluator_count(kd_eval), 0);
}
END_TEST

/* ---- names and bad arguments ---- */

START_TEST(metric_names_lead_back_to_their_numbers)
{
    for (int m = 0; m < KDAS_METRICS; m++)
        ck_assert_int_eq(kdas_metric_find(kdas_metric_name(m)), m);
    ck_assert_str_eq(kdas_metric_name(KDAS_METRIC_SM), "Sm");
    ck_assert_ptr_null(kdas_metric_name(KDAS_METRICS));
    ck_assert_ptr_null(kdas_metric_name((kdas_metric)-1));
    ck_assert_int_eq(kdas_metric_find("meandice"), -1);
    ck_assert_int_eq(kdas_metric_find(NULL), -1);
}
END_TEST

START_TEST(image_names_are_copied)
{
    uint8_t   map[20] = { 0 }, mask[20] = { 0 };
    char      name[] = "first";
    kdas_view p = kd_test_grey(map, 5, 4), g = kd_test_grey(mask, 5, 4);

    make_fill(map, PART);
    make_fill(mask, PART);
    kd_assert_ok(kdas_evaluator_add(kd_eval, name, &p, &g));
    name[0] = 'x';
    kd_assert_ok(kdas_evaluator_add(kd_eval, NULL, &p, &g));
    ck_assert_str_eq(kdas_evaluator_name(kd_eval, 0), "first");
    ck_assert_str_eq(kdas_evaluator_name(kd_eval, 1), "");
    ck_assert_ptr_null(kdas_evaluator_name(kd_eval, 2));
    ck_assert_ptr_null(kdas_evaluator_name(kd_eval, -1));
}
END_TEST

START_TEST(views_that_do_not_fit_are_refused)
{
    uint8_t         map[40], mask[40] = { 0 };
    const kdas_view good = kd_test_grey(mask, 5, 4);
    const struct {
        kdas_view   view;
        kdas_status status;
    } bad[] = {
        { { NULL, 5, 4, 0, KDAS_PIXEL_GREY8 }, KDAS_EINVAL },
        { { map, 5, 4, 0, KDAS_PIXEL_RGB8 }, KDAS_EINVAL },
        { { map, 5, 4, 0, KDAS_PIXEL_GREYF32 }, KDAS_EINVAL },
        { { map, 0, 4, 0, KDAS_PIXEL_GREY8 }, KDAS_EINVAL },
        { { map, 5, -4, 0, KDAS_PIXEL_GREY8 }, KDAS_EINVAL },
        { { map, KDAS_IMAGE_MAX_SIDE + 1, 4, 0, KDAS_PIXEL_GREY8 }, KDAS_EINVAL },
        { { map, 5, 4, 4, KDAS_PIXEL_GREY8 }, KDAS_EINVAL },
        { { map, 5, 4, -4, KDAS_PIXEL_GREY8 }, KDAS_EINVAL },
        { { map, 4, 5, 0, KDAS_PIXEL_GREY8 }, KDAS_ESHAPE },
        { { map, 5, 3, 0, KDAS_PIXEL_GREY8 }, KDAS_ESHAPE },
    };

    make_fill(map, PART);
    make_fill(mask, PART);
    for (size_t i = 0; i < KD_COUNT(bad); i++) {
        kd_assert_status(kdas_evaluator_add(kd_eval, "frame7", &bad[i].view, &good), bad[i].status);
        kd_assert_sentence("frame7");
        kd_assert_status(kdas_evaluator_add(kd_eval, "frame8", &good, &bad[i].view), bad[i].status);
        kd_assert_sentence("frame8");
    }
    kd_assert_status(kdas_evaluator_add(kd_eval, "frame7", NULL, &good), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_add(kd_eval, "frame7", &good, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_add_logits(kd_eval, "frame9", NULL, &good), KDAS_EINVAL);
    kd_assert_sentence("frame9");
    ck_assert_int_eq(kdas_evaluator_count(kd_eval), 0);
}
END_TEST

START_TEST(null_handles_and_bad_numbers_are_refused)
{
    uint8_t         pixels[20] = { 0 };
    kdas_view       view       = kd_test_grey(pixels, 5, 4);
    kdas_evaluator *made       = kd_eval;
    float           z[20]      = { 0 };
    double          value      = 7;

    make_fill(pixels, PART);
    kd_assert_status(kdas_evaluator_create(NULL, kd_ctx), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_create(&made, NULL), KDAS_EINVAL);
    ck_assert_ptr_null(made);
    kd_assert_status(kdas_evaluator_add(NULL, "a", &view, &view), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_add_logits(NULL, "a", z, &view), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_get(NULL, -1, KDAS_METRIC_SM, &value), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_get(kd_eval, -1, KDAS_METRIC_SM, &value), KDAS_ESTATE);
    kd_test_add(pixels, pixels, 5, 4);
    kd_assert_status(kdas_evaluator_get(kd_eval, -1, KDAS_METRIC_SM, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_get(kd_eval, -1, KDAS_METRICS, &value), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_get(kd_eval, 1, KDAS_METRIC_SM, &value), KDAS_EINVAL);
    kd_assert_sentence("image 1");
    ck_assert_double_eq(value, 7); /* untouched */
    ck_assert_int_eq(kdas_evaluator_count(NULL), 0);
    ck_assert_int_eq(kdas_evaluator_empty(NULL), 0);
    ck_assert_ptr_null(kdas_evaluator_name(NULL, 0));
    kdas_evaluator_reset(NULL);
    kdas_evaluator_destroy(NULL);
}
END_TEST

/* ---- memory ---- */

/* Add images `from` .. 9 until one fails; more than the first growth of the list holds. Returns how
 * many are in. */
static int fill_up(kdas_evaluator *into, const uint8_t *map, const float *logits,
                   const uint8_t *mask, int from)
{
    kdas_view p = kd_test_grey(map, 5, 4), g = kd_test_grey(mask, 5, 4);
    int       i;

    for (i = from; i < 10; i++) {
        kdas_status st = i % 2 ? kdas_evaluator_add_logits(into, "z", logits, &g)
                               : kdas_evaluator_add(into, "p", &p, &g);

        if (st == KDAS_OK) continue;
        kd_assert_status(st, KDAS_ENOMEM);
        break;
    }
    ck_assert_int_eq(kdas_evaluator_count(into), i);
    return i;
}

START_TEST(a_rollback_gives_the_figures_at_the_mark)
{
    uint8_t map[20], mask[20];
    double  before[KDAS_METRICS];

    make_fill(map, FULL);
    make_fill(mask, PART);
    kd_assert_status(kdas_evaluator_rollback(kd_eval), KDAS_ESTATE);
    kd_assert_sentence("no mark");
    kd_test_add(map, mask, 5, 4);
    for (int m = 0; m < KDAS_METRICS; m++)
        before[m] = kd_test_figure(kd_eval, -1, m);
    kd_assert_ok(kdas_evaluator_mark(kd_eval));
    for (int twice = 0; twice < 2; twice++) {
        make_fill(mask, EMPTY);
        for (int i = 0; i < 20; i++) /* the list grows */
            kd_test_add(map, mask, 5, 4);
        ck_assert_int_eq(kdas_evaluator_empty(kd_eval), 20);
        kd_assert_ok(kdas_evaluator_rollback(kd_eval));
        ck_assert_int_eq(kdas_evaluator_count(kd_eval), 1);
        ck_assert_int_eq(kdas_evaluator_empty(kd_eval), 0);
        ck_assert_ptr_null(kdas_evaluator_name(kd_eval, 1));
        for (int m = 0; m < KDAS_METRICS; m++) {
            double now = kd_test_figure(kd_eval, -1, m);

            ck_assert(kd_test_same_bits(&now, &before[m], sizeof now));
        }
    }
    kdas_evaluator_reset(kd_eval);
    kd_assert_status(kdas_evaluator_rollback(kd_eval), KDAS_ESTATE);
    kd_assert_status(kdas_evaluator_mark(NULL), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_rollback(NULL), KDAS_EINVAL);
}
END_TEST

START_TEST(any_allocation_may_fail_and_nothing_is_half_added)
{
    uint8_t         map[20], mask[20];
    float           logits[20];
    kdas_evaluator *made;
    double          want     = 0, value;
    int             refusals = 0;

    make_fill(map, FULL);
    make_fill(mask, PART);
    kd_test_fill(logits, 20, "metric.memory", 3, 0);
    ck_assert_int_eq(fill_up(kd_eval, map, logits, mask, 0), 10);
    want = kd_test_figure(kd_eval, -1, KDAS_METRIC_MEAN_DICE);
    for (long k = 0;; k++) {
        long before = kd_test_heap.live;
        int  added;

        kd_test_heap.fail = k;
        if (kdas_evaluator_create(&made, kd_ctx) != KDAS_OK) {
            ck_assert_ptr_null(made);
            ck_assert_int_eq(kd_test_heap.live, before);
            refusals++;
            continue;
        }
        added = fill_up(made, map, logits, mask, 0);
        if (added < 10) { /* what went in is right, and the rest can follow */
            refusals++;
            fill_up(made, map, logits, mask, added);
        }
        kd_assert_ok(kdas_evaluator_get(made, -1, KDAS_METRIC_MEAN_DICE, &value));
        ck_assert_double_eq(value, want);
        for (int i = 0; i < 10; i++)
            ck_assert_str_eq(kdas_evaluator_name(made, i), i % 2 ? "z" : "p");
        kdas_evaluator_destroy(made);
        ck_assert_int_eq(kd_test_heap.live, before);
        if (kd_test_heap.fail >= 0) break; /* there was no allocation k */
    }
    ck_assert_int_gt(refusals, 20);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("evaluator");
    TCase   *tests = tcase_create("evaluator");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(tests, kd_test_evaluator_start, kd_test_evaluator_finish);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, empty_and_full_follow_the_stated_rules, 0, KD_COUNT(rules));
    tcase_add_test(tests, a_single_pixel_gives_figures);
    tcase_add_test(tests, constant_regions_have_no_variance);
    tcase_add_test(tests, order_of_images_and_thread_count_do_not_matter);
    tcase_add_test(tests, strides_are_honoured);
    tcase_add_test(tests, reset_forgets_everything);
    tcase_add_test(tests, logits_become_the_map_that_a_file_would_hold);
    tcase_add_loop_test(tests, logits_that_are_no_numbers_are_refused, 0, 3);
    tcase_add_test(tests, metric_names_lead_back_to_their_numbers);
    tcase_add_test(tests, image_names_are_copied);
    tcase_add_test(tests, views_that_do_not_fit_are_refused);
    tcase_add_test(tests, null_handles_and_bad_numbers_are_refused);
    tcase_add_test(tests, a_rollback_gives_the_figures_at_the_mark);
    tcase_add_test(tests, any_allocation_may_fail_and_nothing_is_half_added);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
