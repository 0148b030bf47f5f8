/* check_grids.c - 8-bit grids of ranges and of weights: their values, and which ranges have none. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/backend.h>
#include "base/base.h"
#include "base/grid.h"

START_TEST(a_grid_holds_zero_and_its_ends)
{
    const float ranges[][2] = { { -1, 1 }, { 0, 6 }, { 2, 3 }, { -4, -1 }, { -0.17f, 5.3f } };

    for (size_t i = 0; i < KD_COUNT(ranges); i++) {
        kd_grid g = kd_grid_of(ranges[i]);

        ck_assert_float_eq(kd_grid_round(&g, 0), 0);
        ck_assert_int_eq(kd_grid_number(&g, -1e30f), 0);
        ck_assert_int_eq(kd_grid_number(&g, 1e30f), 255);
        ck_assert_int_ge(g.zero, 0);
        ck_assert_int_le(g.zero, 255);
        for (int n = 0; n < 256; n++)
            ck_assert_int_eq(kd_grid_number(&g, (float)(n - g.zero) * g.scale), n);
    }
}
END_TEST

START_TEST(an_empty_range_has_no_grid)
{
    const float ranges[][2] = { { 0, 0 },        { 0, 1e-45f },     { 0, 1e-40f },
                                { 0, INFINITY }, { -3e38f, 3e38f }, { NAN, 1 },
                                { 3, -3 },       { 2, 1 },          { -1, -2 } };

    for (size_t i = 0; i < KD_COUNT(ranges); i++) {
        kd_grid g = kd_grid_of(ranges[i]);
        float   followed[2], joined[2];

        ck_assert_float_eq(g.scale, 0);
        ck_assert_float_eq(kd_grid_round(&g, 1.25f), 1.25f);
        ck_assert(kd_range_is_empty(ranges[i]));
        memcpy(followed, ranges[i], sizeof followed);
        memcpy(joined, ranges[i], sizeof joined);
        kd_range_follow(followed, -1, 2, 0.05f);
        kd_range_join(joined, -1, 2);
        ck_assert(followed[0] == -1 && followed[1] == 2 && joined[0] == -1 && joined[1] == 2);
    }
}
END_TEST

START_TEST(rounded_weights_round_to_themselves)
{
    float  w[37], again[37];
    int8_t q[37];
    float  scale;

    for (int i = 0; i < 37; i++)
        w[i] = 3 * (2 * kdas_unit(99, 7 + (uint64_t)i) - 1);
    scale = kd_weights_to_grid(q, w, 37, 1, NULL);
    kd_weights_round(w, 37);
    for (int i = 0; i < 37; i++)
        ck_assert_float_eq(w[i], (float)q[i] * scale);
    memcpy(again, w, sizeof w);
    kd_weights_round(again, 37);
    ck_assert_int_eq(kd_weights_to_grid(q, again, 37, 1, NULL) > 0, 1);
    for (int i = 0; i < 37; i++)
        ck_assert_float_eq_tol(again[i], w[i], 1e-6f);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("grids");
    TCase   *t     = tcase_create("grids");
    SRunner *runner;
    int      failed;

    tcase_add_test(t, a_grid_holds_zero_and_its_ends);
    tcase_add_test(t, an_empty_range_has_no_grid);
    tcase_add_test(t, rounded_weights_round_to_themselves);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
