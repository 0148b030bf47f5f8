/* check_schedule.c - learning rates against closed forms, and an optimizer that follows them. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include "support/check_util.h"
#include "support/optim_util.h"

START_TEST(a_constant_rate_stays)
{
    kdas_optim_options o = kd_test_optim_options("adamw");

    ck_assert_double_eq(kdas_schedule_lr(0, &o), (double)1e-4f);
    ck_assert_double_eq(kdas_schedule_lr(123456, &o), (double)1e-4f);
    ck_assert_double_eq(kdas_schedule_lr(7, NULL), (double)1e-4f);
}
END_TEST

START_TEST(a_step_schedule_drops_at_its_intervals)
{
    kdas_optim_options o = kd_test_optim_options("adamw");

    o.schedule    = "step";
    o.lr          = 1;
    o.step_every  = 10;
    o.step_factor = 0.5f;
    for (int64_t t = 0; t < 45; t++)
        ck_assert_double_eq(kdas_schedule_lr(t, &o), pow(0.5, (double)(t / 10)));
}
END_TEST

START_TEST(a_cosine_falls_from_the_base_to_the_least_and_stays_there)
{
    kdas_optim_options o = kd_test_optim_options("adamw");

    o.schedule = "cosine";
    o.lr       = 1;
    o.lr_min   = 0.25f;
    o.total    = 100;
    ck_assert_double_eq(kdas_schedule_lr(0, &o), 1);
    ck_assert_double_eq_tol(kdas_schedule_lr(50, &o), 0.625, 1e-12);
    ck_assert_double_eq_tol(kdas_schedule_lr(25, &o), 0.25 + 0.375 * (1 + sqrt(0.5)), 1e-12);
    ck_assert_double_eq_tol(kdas_schedule_lr(100, &o), 0.25, 1e-12);
    ck_assert_double_eq_tol(kdas_schedule_lr(1000, &o), 0.25, 1e-12);
}
END_TEST

START_TEST(a_poly_schedule_is_a_power_of_what_is_left)
{
    kdas_optim_options o = kd_test_optim_options("adamw");

    o.schedule = "poly";
    o.lr       = 1;
    o.power    = 2;
    o.total    = 100;
    for (int64_t t = 0; t <= 100; t += 10)
        ck_assert_double_eq_tol(kdas_schedule_lr(t, &o), (1 - t / 100.0) * (1 - t / 100.0), 1e-12);
    ck_assert_double_eq(kdas_schedule_lr(200, &o), 0);
    o.lr_min = 0.125f;
    ck_assert_double_eq(kdas_schedule_lr(99, &o), 0.125);
}
END_TEST

START_TEST(a_warm_up_rises_in_equal_steps_and_the_schedule_starts_at_its_end)
{
    kdas_optim_options o = kd_test_optim_options("adamw");

    o.lr     = 1;
    o.warmup = 8;
    for (int64_t t = 0; t < 8; t++)
        ck_assert_double_eq(kdas_schedule_lr(t, &o), (double)(t + 1) / 8);
    ck_assert_double_eq(kdas_schedule_lr(8, &o), 1);
    o.schedule = "poly";
    o.power    = 1;
    o.total    = 18;
    ck_assert_double_eq(kdas_schedule_lr(3, &o), 0.5);
    ck_assert_double_eq(kdas_schedule_lr(8, &o), 1);
    ck_assert_double_eq_tol(kdas_schedule_lr(13, &o), 0.5, 1e-12);
    ck_assert_double_eq_tol(kdas_schedule_lr(18, &o), 0, 1e-12);
}
END_TEST

START_TEST(a_schedule_of_nonsense_is_not_a_number)
{
    kdas_optim_options o = kd_test_optim_options("adamw");

    ck_assert_double_nan(kdas_schedule_lr(-1, &o));
    o.schedule = "cosine"; /* without a total */
    ck_assert_double_nan(kdas_schedule_lr(0, &o));
    ck_assert_double_nan(kdas_optim_lr(NULL));
}
END_TEST

START_TEST(the_optimizer_follows_the_schedule_and_a_new_base_rate)
{
    kdas_optim_options o = kd_test_optim_options("sgd");
    kd_test_optim      s;

    o.schedule = "poly";
    o.power    = 1;
    o.lr       = 1;
    o.total    = 4;
    kd_test_optim_make(&s, "reference", &o);
    for (int t = 0; t < 4; t++) {
        ck_assert_double_eq_tol(kdas_optim_lr(s.optim), 1 - t / 4.0, 1e-12);
        kd_assert_ok(kdas_optim_step(s.optim));
    }
    ck_assert_double_eq(kdas_optim_lr(s.optim), 0);
    s.optim->updates = 2;
    kd_assert_ok(kdas_optim_set_lr(s.optim, 3));
    ck_assert_double_eq_tol(kdas_optim_lr(s.optim), 1.5, 1e-12);
    kd_assert_status(kdas_optim_set_lr(s.optim, 0), KDAS_EINVAL);
    kd_assert_status(kdas_optim_set_lr(s.optim, NAN), KDAS_EINVAL);
    kd_assert_status(kdas_optim_set_lr(NULL, 1), KDAS_EINVAL);
    ck_assert_double_eq_tol(kdas_optim_lr(s.optim), 1.5, 1e-12);
    kd_test_optim_finish(&s);
}
END_TEST

static Suite *schedule_suite(void)
{
    Suite *s        = suite_create("schedule");
    TCase *schedule = tcase_create("schedule");

    tcase_add_test(schedule, a_constant_rate_stays);
    tcase_add_test(schedule, a_step_schedule_drops_at_its_intervals);
    tcase_add_test(schedule, a_cosine_falls_from_the_base_to_the_least_and_stays_there);
    tcase_add_test(schedule, a_poly_schedule_is_a_power_of_what_is_left);
    tcase_add_test(schedule, a_warm_up_rises_in_equal_steps_and_the_schedule_starts_at_its_end);
    tcase_add_test(schedule, a_schedule_of_nonsense_is_not_a_number);
    tcase_add_test(schedule, the_optimizer_follows_the_schedule_and_a_new_base_rate);
    suite_add_tcase(s, schedule);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(schedule_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
