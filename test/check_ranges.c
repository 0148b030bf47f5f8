/* check_ranges.c - histograms, and ranges of known distributions by each method. */
#define _GNU_SOURCE
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/backend.h>
#include "base/grid.h"
#include "quantize/histogram.h"
#include "support/check_util.h"

enum { VALUES = 200000 };
static float        values[VALUES];
static kd_histogram histogram;

static double uniform(uint64_t i) { return (kdas_unit(5, i) * 2 - 1) * 0.999999; }

/* Normal, by Box and Muller. */
static float normal(uint64_t i)
{
    double u = (kdas_unit(7, 2 * i) + 1e-12), v = kdas_unit(7, 2 * i + 1);

    return (float)(sqrt(-2 * log(u)) * cos(2 * M_PI * v));
}

static void count_values(void)
{
    kd_histogram_clear(&histogram);
    ck_assert(kd_histogram_add(&histogram, values, VALUES));
}

static void choose(float range[2], int method, float percentile, float floor)
{
    kd_range_rule rule = { method, percentile, floor };

    kd_choose_range(range, &histogram, &rule);
}

/* The mean square error of rounding the values themselves, not their bins. */
static double true_error(const float range[2])
{
    kd_grid g   = kd_grid_of(range);
    double  sum = 0;

    for (int i = 0; i < VALUES; i++) {
        double d = kd_grid_round(&g, values[i]) - (double)values[i];

        sum += d * d;
    }
    return sum / VALUES;
}

START_TEST(ranges_of_a_uniform_distribution)
{
    float range[2];

    for (int i = 0; i < VALUES; i++)
        values[i] = (float)(1 + 2 * uniform((uint64_t)i)); /* -1 to 3 */
    count_values();
    choose(range, KDAS_RANGE_MIN_MAX, 0, -INFINITY);
    ck_assert_float_eq(range[0], histogram.low);
    ck_assert_float_eq(range[1], histogram.high);
    choose(range, KDAS_RANGE_PERCENTILE, 99, -INFINITY); /* 1% is 0.04 of its width */
    ck_assert_float_eq_tol(range[0], -0.96f, 0.01f);
    ck_assert_float_eq_tol(range[1], 2.96f, 0.01f);
    choose(range, KDAS_RANGE_MSE, 0, -INFINITY); /* to cut off costs more than a finer grid gains */
    ck_assert_float_eq_tol(range[0], -1, 0.04f);
    ck_assert_float_eq_tol(range[1], 3, 0.08f);
}
END_TEST

/* The best ends for 8 bits are at 3.92 standard deviations (arXiv 1810.05723). */
START_TEST(ranges_of_a_normal_distribution)
{
    float range[2], best[2], whole[2];

    for (int i = 0; i < VALUES; i++)
        values[i] = normal((uint64_t)i);
    count_values();
    choose(whole, KDAS_RANGE_MIN_MAX, 0, -INFINITY);
    choose(best, KDAS_RANGE_MSE, 0, -INFINITY);
    ck_assert_float_eq_tol(best[0], -3.92f, 0.35f);
    ck_assert_float_eq_tol(best[1], 3.92f, 0.35f);
    ck_assert_double_lt(true_error(best), true_error(whole));
    choose(range, KDAS_RANGE_PERCENTILE, 99.9f, -INFINITY);
    ck_assert_float_eq_tol(range[0], -3.09f, 0.08f);
    ck_assert_float_eq_tol(range[1], 3.09f, 0.08f);
    ck_assert_double_lt(true_error(best), true_error(range));
}
END_TEST

START_TEST(one_value_far_away_is_cut_off_by_a_percentile)
{
    float range[2];

    for (int i = 0; i < VALUES; i++)
        values[i] = fabsf(normal((uint64_t)i));
    values[99] = 1000;
    count_values();
    choose(range, KDAS_RANGE_MIN_MAX, 0, -INFINITY);
    ck_assert_float_eq(range[0], 0);
    ck_assert_float_eq(range[1], 1000);
    choose(range, KDAS_RANGE_PERCENTILE, 99.99f, -INFINITY);
    ck_assert_float_lt(range[1], 5);
    ck_assert_double_eq_tol(kd_range_clipped(&histogram, range, -INFINITY), 1e-4, 5e-5);
}
END_TEST

/* gelu(-4) is -0.00013, and more negative values are nearer to 0. */
START_TEST(the_range_of_gelu_begins_at_the_floor)
{
    float range[2];

    for (int i = 0; i < VALUES; i++)
        values[i] = 5 * normal((uint64_t)i) - 3;
    count_values();
    for (int method = 0; method < 3; method++) {
        choose(range, method, 99.99f, -4);
        ck_assert_float_ge(range[0], -4);
        ck_assert_float_lt(range[0], -3.5f);
        ck_assert_float_gt(range[1], 8);
        ck_assert_double_lt(kd_range_clipped(&histogram, range, -4), 0.02);
    }
}
END_TEST

START_TEST(the_error_of_a_histogram_is_that_of_the_values)
{
    for (int k = 0; k < 4; k++) {
        const float ranges[][2] = { { -4, 4 }, { -1, 2 }, { 0, 3 }, { -0.3f, 9 } };
        double      error, square, sum = 0;

        for (int i = 0; i < VALUES; i++) {
            values[i] = i % 3 ? normal((uint64_t)i) : 0;
            sum += (double)values[i] * values[i];
        }
        count_values();
        kd_range_error(&error, &square, &histogram, ranges[k], -INFINITY);
        ck_assert_double_eq_tol(error / VALUES, true_error(ranges[k]),
                                0.03 * true_error(ranges[k]));
        ck_assert_double_eq_tol(square, sum, 1e-3 * sum);
    }
}
END_TEST

START_TEST(counts_depend_on_neither_order_nor_batches)
{
    static kd_histogram parts, part;

    for (int i = 0; i < VALUES; i++)
        values[i] = normal((uint64_t)i) * (float)pow(10, (double)(i / 20000) - 5);
    count_values();
    kd_histogram_clear(&parts);
    for (int k = 9; k >= 0; k--) {
        kd_histogram_clear(&part);
        ck_assert(kd_histogram_add(&part, values + k * 20000, 12345));
        ck_assert(kd_histogram_add(&part, values + k * 20000 + 12345, 20000 - 12345));
        kd_histogram_merge(&parts, &part);
    }
    ck_assert(kd_test_same_bits(&histogram, &parts, sizeof parts));
}
END_TEST

START_TEST(a_histogram_takes_zeros_and_refuses_what_is_not_finite)
{
    const float bad[] = { NAN, INFINITY, -INFINITY };

    memset(values, 0, sizeof values);
    count_values();
    ck_assert_float_eq(histogram.low, 0);
    ck_assert_float_eq(histogram.high, 0);
    ck_assert_uint_eq(histogram.zeros, VALUES);
    for (int i = 0; i < 3; i++) {
        values[777] = bad[i];
        kd_histogram_clear(&histogram);
        ck_assert(!kd_histogram_add(&histogram, values, VALUES));
    }
}
END_TEST

static Suite *ranges_suite(void)
{
    Suite *s = suite_create("ranges");
    TCase *t = tcase_create("ranges");

    tcase_add_test(t, ranges_of_a_uniform_distribution);
    tcase_add_test(t, ranges_of_a_normal_distribution);
    tcase_add_test(t, one_value_far_away_is_cut_off_by_a_percentile);
    tcase_add_test(t, the_range_of_gelu_begins_at_the_floor);
    tcase_add_test(t, the_error_of_a_histogram_is_that_of_the_values);
    tcase_add_test(t, counts_depend_on_neither_order_nor_batches);
    tcase_add_test(t, a_histogram_takes_zeros_and_refuses_what_is_not_finite);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(ranges_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
