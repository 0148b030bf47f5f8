/* check_updates.c - the UPDATE ops on flat blocks, on the reference kernels, against the formulas written down in double. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/op_run.h"

#define COUNT 33

static void run_update(int32_t op, const void *attr, void *const *in)
{
    kdas_node_desc node = { .op = op, .inputs = 4, .attr = attr };
    kdas_call      call = { .node = &node };

    for (int i = 0; i < 4; i++) {
        node.in[i] = (kdas_desc){ KDAS_F32, 1, { in[i] ? COUNT : 0, 1, 1, 1 } };
        call.in[i] = in[i];
    }
    kd_assert_ok(kd_update_find(op)->forward(NULL, &call));
}

START_TEST(adamw_follows_its_formula)
{
    kdas_adamw_attr a = { .lr           = 0.01f,
                          .beta1        = 0.9f,
                          .beta2        = 0.999f,
                          .eps          = 1e-8f,
                          .weight_decay = 0.1f,
                          .grad_scale   = 0.5f,
                          .clamp        = 0.4f };
    float           p[COUNT], g[COUNT], m[COUNT] = { 0 }, v[COUNT] = { 0 };
    double          dp[COUNT], dm[COUNT] = { 0 }, dv[COUNT] = { 0 };
    char            name[32];

    kd_test_fill(p, COUNT, "adamw.p", 1, 0);
    for (int i = 0; i < COUNT; i++)
        dp[i] = p[i];
    for (a.step = 1; a.step <= 20; a.step++) {
        snprintf(name, sizeof name, "adamw.g%d", (int)a.step);
        kd_test_fill(g, COUNT, name, 1.5, 0.2);
        run_update(KDAS_OP_ADAMW, &a, (void *[]){ p, g, m, v });
        for (int i = 0; i < COUNT; i++) {
            double d = fmin(fmax(0.5 * g[i], -(double)a.clamp), (double)a.clamp), mhat, vhat;

            dp[i] -= (double)a.lr * a.weight_decay * dp[i];
            dm[i] = (double)a.beta1 * dm[i] + (1 - (double)a.beta1) * d;
            dv[i] = (double)a.beta2 * dv[i] + (1 - (double)a.beta2) * d * d;
            mhat  = dm[i] / (1 - pow((double)a.beta1, (double)a.step));
            vhat  = dv[i] / (1 - pow((double)a.beta2, (double)a.step));
            dp[i] -= (double)a.lr * mhat / (sqrt(vhat) + (double)a.eps);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(p[i], dp[i], 2e-6);
        ck_assert_double_eq_tol(m[i], dm[i], 1e-6);
        ck_assert_double_eq_tol(v[i], dv[i], 1e-6 * dv[i] + 1e-9);
    }
}
END_TEST

/* nesterov, momentum */
static const struct {
    int   nesterov;
    float momentum;
} sgd_kinds[] = { { 0, 0 }, { 0, 0.9f }, { 1, 0.9f } };

START_TEST(sgd_follows_its_formula)
{
    bool          moment = sgd_kinds[_i].momentum > 0;
    kdas_sgd_attr a      = { .lr           = 0.05f,
                             .momentum     = sgd_kinds[_i].momentum,
                             .weight_decay = 0.01f,
                             .grad_scale   = 2,
                             .clamp        = 1,
                             .nesterov     = sgd_kinds[_i].nesterov };
    float         p[COUNT], g[COUNT], m[COUNT];
    double        dp[COUNT], dm[COUNT];
    char          name[32];

    kd_test_fill(p, COUNT, "sgd.p", 1, 0);
    kd_test_fill(m, COUNT, "sgd.left over from before", 1, 0); /* the first step does not read it */
    for (int i = 0; i < COUNT; i++)
        dp[i] = p[i];
    for (a.step = 1; a.step <= 10; a.step++) {
        snprintf(name, sizeof name, "sgd.g%d", (int)a.step);
        kd_test_fill(g, COUNT, name, 1, 0);
        run_update(KDAS_OP_SGD, &a, (void *[]){ p, g, moment ? m : NULL, NULL });
        for (int i = 0; i < COUNT; i++) {
            double d = fmin(fmax(2.0 * g[i], -1.0), 1.0) + (double)a.weight_decay * dp[i];

            dm[i] = a.step == 1 ? d : (double)a.momentum * dm[i] + d;
            if (moment) d = a.nesterov ? d + (double)a.momentum * dm[i] : dm[i];
            dp[i] -= (double)a.lr * d;
        }
    }
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(p[i], dp[i], 2e-6);
        if (moment) ck_assert_double_eq_tol(m[i], dm[i], 1e-5);
    }
}
END_TEST

START_TEST(a_nan_gradient_passes_the_clamp)
{
    kdas_adamw_attr a        = { .lr         = 0.01f,
                                 .beta1      = 0.9f,
                                 .beta2      = 0.999f,
                                 .eps        = 1e-8f,
                                 .grad_scale = 1,
                                 .clamp      = 0.4f,
                                 .step       = 1 };
    float           p[COUNT] = { 0 }, g[COUNT] = { NAN }, m[COUNT] = { 0 }, v[COUNT] = { 0 };

    run_update(KDAS_OP_ADAMW, &a, (void *[]){ p, g, m, v });
    ck_assert(isnan(p[0]) && p[1] == 0);
}
END_TEST

START_TEST(sum_of_squares_is_exact_in_double)
{
    float          x[COUNT];
    double         sum = 0, out = -1;
    kdas_node_desc node = { .op     = KDAS_OP_SUM_SQUARES,
                            .inputs = 1,
                            .in     = { { KDAS_F32, 1, { COUNT, 1, 1, 1 } } } };
    kdas_call      call = { .node = &node, .in = { x }, .out = &out };

    kd_test_fill(x, COUNT, "sum", 1e5, 0);
    for (int i = 0; i < COUNT; i++)
        sum += (double)x[i] * x[i];
    kd_assert_ok(kd_update_find(KDAS_OP_SUM_SQUARES)->forward(NULL, &call));
    ck_assert_double_eq_tol(out, sum, 1e-14 * sum);
}
END_TEST

START_TEST(axpy_adds_a_multiple)
{
    kdas_scale_attr a        = { .factor = -2, .offset = 100 };
    float           y[COUNT] = { 1, 2 }, x[COUNT] = { 3, 0.5f };

    run_update(KDAS_OP_AXPY, &a, (void *[]){ y, x, NULL, NULL });
    ck_assert(y[0] == -5 && y[1] == 1 && y[2] == 0);
}
END_TEST

/* What an average rests on: where nothing changes it stays, and the first value is taken whole. */
START_TEST(lerp_keeps_what_is_equal_and_copies_onto_zeros)
{
    kdas_scale_attr a        = { .factor = 0.1f, .offset = 100 };
    float           x[COUNT] = { 0.3f, -7e-12f, 4 }, y[COUNT] = { 0.3f, -7e-12f, 2 };
    float           z[COUNT] = { 0 };

    run_update(KDAS_OP_LERP, &a, (void *[]){ y, x, NULL, NULL });
    ck_assert(y[0] == x[0] && y[1] == x[1] && y[3] == 0);
    ck_assert_double_eq_tol(y[2], 2.2, 2e-7);
    a.factor = 1;
    run_update(KDAS_OP_LERP, &a, (void *[]){ z, x, NULL, NULL });
    ck_assert_int_eq(memcmp(z, x, sizeof z), 0);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("updates");
    TCase   *updates = tcase_create("updates");
    SRunner *runner;
    int      failed;

    tcase_add_test(updates, adamw_follows_its_formula);
    tcase_add_loop_test(updates, sgd_follows_its_formula, 0, (int)KD_COUNT(sgd_kinds));
    tcase_add_test(updates, a_nan_gradient_passes_the_clamp);
    tcase_add_test(updates, sum_of_squares_is_exact_in_double);
    tcase_add_test(updates, axpy_adds_a_multiple);
    tcase_add_test(updates, lerp_keeps_what_is_equal_and_copies_onto_zeros);
    suite_add_tcase(suite, updates);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
