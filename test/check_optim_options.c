/* check_optim_options.c - optimizers made and restored: options and handles that are refused, and
 * memory. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/optim_util.h"

static const char *const devices[] = { "reference", "cpu" };

/* ---- arguments, memory ---- */

/* Set a member by its offset, and what the sentence must name. */
static const struct {
    size_t at;
    enum { FLOAT, WHOLE, SHORT, TEXT } type;
    double      value;
    const char *text, *named;
    int         status;
} refused[] = {
#define MEMBER(m) offsetof(kdas_optim_options, m)
    { MEMBER(rule), TEXT, 0, "lion", "lion", KDAS_ENOTFOUND },
    { MEMBER(rule), TEXT, 0, NULL, "rule", KDAS_EINVAL },
    { MEMBER(schedule), TEXT, 0, "zigzag", "zigzag", KDAS_ENOTFOUND },
    { MEMBER(schedule), TEXT, 0, NULL, "schedule", KDAS_EINVAL },
    { MEMBER(schedule), TEXT, 0, "poly", "total", KDAS_EINVAL },
    { MEMBER(lr), FLOAT, 0, NULL, "lr", KDAS_EINVAL },
    { MEMBER(lr), FLOAT, -1, NULL, "lr", KDAS_EINVAL },
    { MEMBER(lr), FLOAT, NAN, NULL, "lr", KDAS_EINVAL },
    { MEMBER(lr), FLOAT, INFINITY, NULL, "lr", KDAS_EINVAL },
    { MEMBER(weight_decay), FLOAT, -0.1, NULL, "weight_decay", KDAS_EINVAL },
    { MEMBER(weight_decay), FLOAT, INFINITY, NULL, "weight_decay", KDAS_EINVAL },
    { MEMBER(beta1), FLOAT, 1, NULL, "beta1", KDAS_EINVAL },
    { MEMBER(beta2), FLOAT, -0.5, NULL, "beta2", KDAS_EINVAL },
    { MEMBER(eps), FLOAT, 0, NULL, "eps", KDAS_EINVAL },
    { MEMBER(momentum), FLOAT, 1.5, NULL, "momentum", KDAS_EINVAL },
    { MEMBER(clamp), FLOAT, -1, NULL, "clamp", KDAS_EINVAL },
    { MEMBER(clip_norm), FLOAT, NAN, NULL, "clip_norm", KDAS_EINVAL },
    { MEMBER(warmup), WHOLE, -1, NULL, "warmup", KDAS_EINVAL },
    { MEMBER(total), WHOLE, -1, NULL, "total", KDAS_EINVAL },
    { MEMBER(step_every), WHOLE, 0, NULL, "step_every", KDAS_EINVAL },
    { MEMBER(step_factor), FLOAT, 0, NULL, "step_factor", KDAS_EINVAL },
    { MEMBER(power), FLOAT, -1, NULL, "power", KDAS_EINVAL },
    { MEMBER(lr_min), FLOAT, 1, NULL, "lr_min", KDAS_EINVAL },
    { MEMBER(loss_scale), FLOAT, 3, NULL, "loss_scale", KDAS_EINVAL },
    { MEMBER(loss_scale), FLOAT, 0.5, NULL, "loss_scale", KDAS_EINVAL },
    { MEMBER(loss_scale), FLOAT, -1024, NULL, "loss_scale", KDAS_EINVAL },
    { MEMBER(loss_scale), FLOAT, 0x1p25, NULL, "loss_scale", KDAS_EINVAL },
    { MEMBER(loss_scale), FLOAT, NAN, NULL, "loss_scale", KDAS_EINVAL },
    { MEMBER(loss_scale), FLOAT, INFINITY, NULL, "loss_scale", KDAS_EINVAL },
    { MEMBER(loss_scale_every), SHORT, -1, NULL, "loss_scale_every", KDAS_EINVAL },
    { MEMBER(size), WHOLE, 0, NULL, "size", KDAS_EINVAL },
};

START_TEST(options_out_of_range_are_refused_by_name)
{
    kdas_optim_options o      = kd_test_optim_options("adamw");
    char              *member = (char *)&o + refused[_i].at;
    float              number = (float)refused[_i].value;
    int64_t            whole  = refused[_i].type == FLOAT ? 0 : (int64_t)refused[_i].value;
    int32_t            small  = (int32_t)whole;
    kd_test_optim      s;

    kd_test_optim_params(&s, "reference", NULL);
    switch (refused[_i].type) {
    case FLOAT: memcpy(member, &number, sizeof number); break;
    case WHOLE: memcpy(member, &whole, sizeof whole); break;
    case SHORT: memcpy(member, &small, sizeof small); break;
    case TEXT: memcpy(member, &refused[_i].text, sizeof refused[_i].text); break;
    }
    s.optim = (kdas_optim *)&s;
    kd_assert_status(kd_optim_create_for(&s.optim, s.ctx, s.params, &o), refused[_i].status);
    ck_assert_ptr_null(s.optim);
    kd_assert_sentence(refused[_i].named);
    kd_test_optim_finish(&s);
}
END_TEST

START_TEST(handles_that_are_null_are_refused)
{
    kdas_optim *optim = (kdas_optim *)&optim;
    double      norm;

    kd_assert_status(kdas_optim_create(&optim, NULL, NULL), KDAS_EINVAL);
    ck_assert_ptr_null(optim);
    kd_assert_status(kdas_optim_create(NULL, NULL, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_optim_step(NULL), KDAS_EINVAL);
    kd_assert_status(kdas_optim_gradient_norm(NULL, &norm), KDAS_EINVAL);
    ck_assert_int_eq(kdas_optim_updates(NULL), 0);
    kdas_optim_destroy(NULL);
}
END_TEST

START_TEST(parameters_without_gradients_cannot_be_optimized)
{
    kdas_optim   *optim = (kdas_optim *)&optim;
    kd_test_optim s     = { .ctx = kd_test_device("reference", NULL) };

    kd_assert_ok(kd_params_create(&s.params, s.ctx));
    kd_params_declare(s.params, "w", (kd_init){ 0 }, 1, (int64_t[]){ 4 });
    kd_assert_ok(kd_params_seal(s.params, false));
    kd_assert_status(kd_optim_create_for(&optim, s.ctx, s.params, NULL), KDAS_ESTATE);
    ck_assert_ptr_null(optim);
    kd_test_optim_finish(&s);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    kdas_optim_options o      = kd_test_optim_options("adamw");
    kd_test_meter      memory = { 0 };
    kd_test_optim      s      = { 0 };
    kdas_status        st     = KDAS_ENOMEM;
    long               held;
    int                tries = 0;

    o.no_decay = "bias,gain";
    kd_test_optim_params(&s, devices[_i], &memory);
    for (; st != KDAS_OK; tries++) {
        held           = memory.taken - memory.given_back;
        memory.fail_at = memory.taken + 1 + tries;
        st             = kd_optim_create_for(&s.optim, s.ctx, s.params, &o);
        memory.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_ptr_null(s.optim);
        ck_assert_int_eq(memory.taken - memory.given_back, held);
    }
    ck_assert_int_ge(tries, 6); /* handle, names, ranges, two moments, the sum */
    kd_test_optim_finish(&s);
    kd_test_assert_given_back(&memory);
}
END_TEST

START_TEST(an_update_allocates_nothing)
{
    kd_test_meter memory = { 0 };
    kd_test_optim s;
    long          taken;

    kd_test_optim_params(&s, devices[_i], &memory);
    kd_assert_ok(kd_optim_create_for(&s.optim, s.ctx, s.params, NULL));
    kd_test_optim_gradients(&s, 1, 1);
    kd_assert_ok(kdas_optim_step(s.optim));
    taken = memory.taken;
    kd_assert_ok(kdas_optim_step(s.optim));
    ck_assert_int_eq(memory.taken, taken);
    kd_test_optim_finish(&s);
}
END_TEST

/* ---- restoring ---- */

START_TEST(an_optimizer_is_restored_whole_or_not_at_all)
{
    kdas_optim_options o = kd_test_optim_options("sgd");
    kd_test_optim      s;

    kd_test_optim_make(&s, "reference", &o);
    o.lr       = 0.5f;
    o.no_decay = "bias";
    kd_assert_ok(kd_optim_restore(s.optim, &o, 17, NULL));
    ck_assert_int_eq(kdas_optim_updates(s.optim), 17);
    ck_assert_double_eq(kdas_optim_lr(s.optim), 0.5);
    ck_assert_uint_eq(s.optim->ranges, 3);

    o.momentum = 0; /* other state blocks */
    kd_assert_status(kd_optim_restore(s.optim, &o, 1, NULL), KDAS_EINVAL);
    o    = kd_test_optim_options("adamw");
    o.lr = 0.1f;
    kd_assert_status(kd_optim_restore(s.optim, &o, 1, NULL), KDAS_EINVAL);
    kd_assert_sentence("adamw");
    o = kd_test_optim_options("sgd");
    kd_assert_status(kd_optim_restore(s.optim, &o, -1, NULL), KDAS_EINVAL);
    ck_assert_int_eq(kdas_optim_updates(s.optim), 17);
    ck_assert_double_eq(kdas_optim_lr(s.optim), 0.5);
    kd_test_optim_finish(&s);
}
END_TEST

static Suite *optim_options_suite(void)
{
    const int D    = KD_COUNT(devices);
    Suite    *s    = suite_create("optim_options");
    TCase    *rest = tcase_create("arguments and memory");

    tcase_add_loop_test(rest, options_out_of_range_are_refused_by_name, 0, KD_COUNT(refused));
    tcase_add_test(rest, handles_that_are_null_are_refused);
    tcase_add_test(rest, parameters_without_gradients_cannot_be_optimized);
    tcase_add_loop_test(rest, any_allocation_may_fail, 0, D);
    tcase_add_loop_test(rest, an_update_allocates_nothing, 0, D);
    tcase_add_test(rest, an_optimizer_is_restored_whole_or_not_at_all);
    suite_add_tcase(s, rest);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(optim_options_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
