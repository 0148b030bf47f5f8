/* check_stats.c - what the programs say of several seeds. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "programs/distill/scores/stats.h"

static void ck_near(double a, double b) { ck_assert_double_lt(fabs(a - b), 1e-12); }

/* ---- Mean and spread ------------------------------------------------------------------------- */

START_TEST(spread_is_over_one_less_than_the_count)
{
    spread s = spread_of((double[]){ 1, 2, 4 }, 3);

    ck_assert_int_eq(s.count, 3);
    ck_near(s.mean, 7.0 / 3);
    ck_near(s.deviation, sqrt(7.0 / 3)); /* squares 16/9 + 1/9 + 25/9, over 2 */
}
END_TEST

START_TEST(one_value_has_no_spread)
{
    spread s = spread_of((double[]){ 0.5 }, 1);

    ck_near(s.mean, 0.5);
    ck_assert(isnan(s.deviation));
    ck_assert(isnan(spread_of(NULL, 0).mean));
}
END_TEST

START_TEST(a_figure_that_is_missing_is_missing_in_the_mean)
{
    ck_assert(isnan(spread_of((double[]){ 0.5, NAN, 0.7 }, 3).mean));
}
END_TEST

/* ---- Pairs ----------------------------------------------------------------------------------- */

START_TEST(pairs_take_out_what_both_share)
{
    /* The seeds differ by tenths, the rows by hundredths. */
    double a[] = { 0.31, 0.52, 0.73 }, b[] = { 0.30, 0.50, 0.70 };
    paired p = paired_of(a, b, 3);

    ck_near(p.difference.mean, 0.02);
    ck_near(p.difference.deviation, 0.01);
    ck_assert_int_eq(p.agree, 3);
}
END_TEST

START_TEST(agreement_counts_the_sign_of_the_mean)
{
    double zero[] = { 0, 0, 0, 0 };

    ck_assert_int_eq(paired_of((double[]){ 3, 2, -1, 0 }, zero, 4).agree, 2);
    ck_assert_int_eq(paired_of((double[]){ -3, -2, 1, 0 }, zero, 4).agree, 2);
    ck_assert_int_eq(paired_of(zero, zero, 4).agree, 4);
}
END_TEST

/* P(|t| > t95) = 0.05, by Simpson's rule over Student's density. */
START_TEST(the_quantiles_are_of_95_per_cent)
{
    int    n = _i, steps = 20000;
    double t = student_t(n), h = t / steps, sum = 0;
    double scale = exp(lgamma((n + 1) / 2.0) - lgamma(n / 2.0)) / sqrt(n * acos(-1.0));

    for (int k = 0; k <= steps; k++) {
        double x = k * h, weight = k == 0 || k == steps ? 1 : k % 2 ? 4 : 2;

        sum += weight * scale * pow(1 + x * x / n, -(n + 1) / 2.0);
    }
    /* The table has three digits; the density is at most 0.4 there. */
    ck_assert_double_lt(fabs(2 * sum * h / 3 - 0.95), 2 * 0.4 * 0.0005);
}
END_TEST

START_TEST(quantiles_end_at_thirty)
{
    ck_assert(student_t(30) == student_t(1000));
    ck_assert(isinf(student_t(0)));
}
END_TEST

START_TEST(a_difference_is_clear_above_the_quantile)
{
    double zero[] = { 0, 0, 0 };
    /* mean 0.04, deviation 0.01: 6.9 standard errors, above 4.303 */
    paired clear = paired_of((double[]){ 0.03, 0.04, 0.05 }, zero, 3);
    /* mean 0.02, deviation 0.01: 3.5 standard errors, all of one sign */
    paired unclear = paired_of((double[]){ 0.01, 0.02, 0.03 }, zero, 3);
    paired worse   = paired_of(zero, (double[]){ 0.03, 0.04, 0.05 }, 3);
    paired one     = paired_of((double[]){ 0.5 }, zero, 1);
    paired none    = paired_of(zero, zero, 3);

    ck_assert(paired_is_clear(&clear));
    ck_assert(!paired_is_clear(&unclear));
    ck_assert(paired_is_clear(&worse));
    ck_assert(!paired_is_clear(&one));
    ck_assert(!paired_is_clear(&none));
}
END_TEST

START_TEST(one_seed_that_disagrees_makes_it_unclear)
{
    double zero[10] = { 0 }, a[10];
    paired p;

    for (int i = 0; i < 10; i++)
        a[i] = 0.1;
    a[9] = -0.001; /* mean 0.09, 8.9 standard errors */
    p    = paired_of(a, zero, 10);
    ck_assert(fabs(p.difference.mean) > student_t(9) * p.difference.deviation / sqrt(10));
    ck_assert(!paired_is_clear(&p));
}
END_TEST

/* ---- The sentence ---------------------------------------------------------------------------- */

static const char *const names[] = { "baseline", "kl", "kdas" };

static const char *verdict(const double *values, int rows, int seeds, int baseline)
{
    static char text[600];
    contest     c = { names, values, rows, seeds, baseline };

    contest_verdict(&c, text, sizeof text);
    return text;
}

static void ck_begins(const char *text, const char *with)
{
    ck_assert_msg(!strncmp(text, with, strlen(with)), "'%s' does not begin with '%s'", text, with);
}

START_TEST(a_row_that_is_ahead_is_named)
{
    double values[] = { 0.50, 0.60, 0.70, 0.51, 0.60, 0.71, 0.54, 0.64, 0.74 };

    ck_assert_str_eq(verdict(values, 3, 3, 0),
                     "kdas is ahead of baseline by 0.040 mean Dice (spread 0.000 over 3 seeds; all "
                     "3 agree).");
}
END_TEST

START_TEST(a_rival_that_is_not_behind_is_named_too)
{
    double values[] = { 0.50, 0.60, 0.70, 0.53, 0.64, 0.74, 0.54, 0.64, 0.74 };

    ck_assert(strstr(verdict(values, 3, 3, 0), ", but not clearly of kl (0.003, "));
}
END_TEST

START_TEST(a_spread_that_forbids_it_is_told)
{
    double      values[] = { 0.50, 0.60, 0.70, 0.50, 0.58, 0.70, 0.60, 0.59, 0.71 };
    const char *text     = verdict(values, 3, 3, 0);

    ck_begins(text, "No row is clearly ahead: kdas and baseline are 0.033 apart");
    ck_assert(strstr(text, "over 3 seeds (2 of 3 agree)."));
}
END_TEST

START_TEST(a_baseline_that_wins_is_compared_with_the_next)
{
    double values[] = { 0.60, 0.70, 0.80, 0.51, 0.61, 0.71, 0.50, 0.58, 0.70 };

    ck_begins(verdict(values, 3, 3, 0), "baseline is ahead of kl by 0.090 mean Dice");
}
END_TEST

START_TEST(without_a_baseline_the_first_two_are_compared)
{
    double values[] = { 0.60, 0.70, 0.80, 0.51, 0.61, 0.71, 0.50, 0.58, 0.70 };

    ck_begins(verdict(values, 3, 3, -1), "baseline is ahead of kl by");
}
END_TEST

START_TEST(one_seed_is_said_to_tell_nothing)
{
    const char *text = verdict((double[]){ 0.5, 0.7, 0.6 }, 3, 1, 0);

    ck_begins(text, "kl has the highest mean Dice, 0.700 (baseline: 0.500);");
    ck_assert(strstr(text, "one seed does not tell"));
}
END_TEST

START_TEST(a_single_row_has_no_rival)
{
    ck_assert_str_eq(verdict((double[]){ 0.5, 0.7 }, 1, 2, -1),
                     "baseline has a mean Dice of 0.600 (spread 0.141 over 2 seeds).");
    ck_assert_str_eq(verdict((double[]){ 0.5 }, 1, 1, 0), "baseline has a mean Dice of 0.500.");
}
END_TEST

START_TEST(a_sentence_stays_in_its_memory)
{
    double  values[] = { 0.50, 0.60, 0.70, 0.53, 0.64, 0.74, 0.54, 0.64, 0.74 };
    contest c        = { names, values, 3, 3, 0 };
    char    text[200];

    for (size_t size = 1; size < 140; size++) {
        memset(text, '#', sizeof text);
        contest_verdict(&c, text, size);
        ck_assert(memchr(text, '\0', size));
        ck_assert(text[size] == '#');
    }
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("stats");
    TCase   *numbers = tcase_create("numbers"), *words = tcase_create("words");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_test(numbers, spread_is_over_one_less_than_the_count);
    tcase_add_test(numbers, one_value_has_no_spread);
    tcase_add_test(numbers, a_figure_that_is_missing_is_missing_in_the_mean);
    tcase_add_test(numbers, pairs_take_out_what_both_share);
    tcase_add_test(numbers, agreement_counts_the_sign_of_the_mean);
    tcase_add_loop_test(numbers, the_quantiles_are_of_95_per_cent, 1, 31);
    tcase_add_test(numbers, quantiles_end_at_thirty);
    tcase_add_test(numbers, a_difference_is_clear_above_the_quantile);
    tcase_add_test(numbers, one_seed_that_disagrees_makes_it_unclear);
    suite_add_tcase(suite, numbers);
    tcase_add_test(words, a_row_that_is_ahead_is_named);
    tcase_add_test(words, a_rival_that_is_not_behind_is_named_too);
    tcase_add_test(words, a_spread_that_forbids_it_is_told);
    tcase_add_test(words, a_baseline_that_wins_is_compared_with_the_next);
    tcase_add_test(words, without_a_baseline_the_first_two_are_compared);
    tcase_add_test(words, one_seed_is_said_to_tell_nothing);
    tcase_add_test(words, a_single_row_has_no_rival);
    tcase_add_test(words, a_sentence_stays_in_its_memory);
    suite_add_tcase(suite, words);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
