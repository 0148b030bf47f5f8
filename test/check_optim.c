/* check_optim.c - optimizers against plain double-precision rules: updates, decay by name, and what
 * becomes of gradients before. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/optim_util.h"

static const char *const devices[] = { "reference", "cpu" };

/* ---- the rules in double, one number at a time ---- */

typedef struct exact {
    double p, m, v;
} exact;

static void exact_adamw(exact *x, double g, const kdas_optim_options *o, double wd, double lr,
                        int t)
{
    x->p -= lr * wd * x->p;
    x->m = o->beta1 * x->m + (1 - (double)o->beta1) * g;
    x->v = o->beta2 * x->v + (1 - (double)o->beta2) * g * g;
    x->p -= lr * (x->m / (1 - pow(o->beta1, t))) / (sqrt(x->v / (1 - pow(o->beta2, t))) + o->eps);
}

static void exact_sgd(exact *x, double g, const kdas_optim_options *o, double wd, double lr, int t)
{
    g += wd * x->p;
    x->m = t == 1 ? g : o->momentum * x->m + g;
    x->p -= lr * (o->nesterov ? g + o->momentum * x->m : x->m);
}

typedef void (*exact_fn)(exact *, double, const kdas_optim_options *, double, double, int);

/* The norm of the gradients that kd_test_optim_gradients made, from host memory. */
static double exact_norm(kd_test_optim *s)
{
    float  g[KD_TEST_LARGEST];
    double sum = 0;

    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);

        if (e->init.kind != KD_TRAINABLE) continue;
        kd_assert_ok(kd_params_read_grad(s->params, i, g));
        for (int64_t k = 0; k < e->count; k++)
            sum += (double)g[k] * g[k];
    }
    return sqrt(sum);
}

static void exact_update(exact (*state)[KD_TEST_LARGEST], kd_test_optim *s,
                         const kdas_optim_options *o, exact_fn rule, int t)
{
    double clip = o->clip_norm > 0 ? fmin(1, o->clip_norm / exact_norm(s)) : 1;
    double lr   = kdas_schedule_lr(t - 1, o);
    float  g[KD_TEST_LARGEST];

    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);
        double wd               = o->no_decay && strstr(e->name, o->no_decay) ? 0 : o->weight_decay;

        if (e->init.kind != KD_TRAINABLE) continue;
        kd_assert_ok(kd_params_read_grad(s->params, i, g));
        for (int64_t k = 0; k < e->count; k++) {
            double d = clip * g[k];

            if (o->clamp > 0) d = fmax(fmin(d, o->clamp), -o->clamp);
            rule(&state[i][k], d, o, wd, lr, t);
        }
    }
}

/* Make `updates` updates in both precisions and compare every number. */
static void follow(const char *device, const kdas_optim_options *o, exact_fn rule, int updates)
{
    exact(*state)[KD_TEST_LARGEST] = calloc(KD_TEST_ENTRIES, sizeof *state);
    kd_test_optim s;
    float         got[KD_TEST_LARGEST], want[KD_TEST_LARGEST];

    kd_test_optim_make(&s, device, o);
    for (int i = 0; i < kd_params_count(s.params); i++) {
        kd_assert_ok(kd_params_read(s.params, i, got));
        for (int64_t k = 0; k < kd_params_at(s.params, i)->count; k++)
            state[i][k].p = got[k];
    }
    for (int t = 1; t <= updates; t++) {
        kd_test_optim_gradients(&s, t, 1);
        exact_update(state, &s, o, rule, t);
        kd_assert_ok(kdas_optim_step(s.optim));
        ck_assert_int_eq(kdas_optim_updates(s.optim), t);
    }
    for (int i = 0; i < kd_params_count(s.params); i++) {
        int64_t n = kd_params_at(s.params, i)->count;

        kd_assert_ok(kd_params_read(s.params, i, got));
        for (int64_t k = 0; k < n; k++)
            want[k] = (float)state[i][k].p;
        kd_assert_close(got, want, n, 2e-6 * sqrt(updates));
    }
    kd_test_optim_finish(&s);
    free(state);
}

START_TEST(adamw_follows_its_rule_in_double)
{
    kdas_optim_options o = kd_test_optim_options("adamw");

    o.lr           = 0.01f;
    o.weight_decay = 0.05f;
    follow(devices[_i], &o, exact_adamw, 50);
    o.no_decay = "bias";
    o.clamp    = 0;
    o.beta1    = 0.8f;
    o.schedule = "cosine";
    o.total    = 40;
    o.warmup   = 5;
    follow(devices[_i], &o, exact_adamw, 50);
}
END_TEST

START_TEST(sgd_follows_its_rule_in_double)
{
    kdas_optim_options o = kd_test_optim_options("sgd");

    o.lr           = 0.01f;
    o.weight_decay = 0.05f;
    follow(devices[_i], &o, exact_sgd, 50);
    o.nesterov = 1;
    follow(devices[_i], &o, exact_sgd, 50);
    o.nesterov = 0;
    o.momentum = 0;
    o.no_decay = "norm";
    follow(devices[_i], &o, exact_sgd, 50);
}
END_TEST

/* ---- decay by name ---- */

START_TEST(parameters_named_in_no_decay_keep_their_values_without_gradient)
{
    kdas_optim_options o = kd_test_optim_options("adamw");
    kd_test_optim      s;
    float              before[KD_TEST_LARGEST], after[KD_TEST_LARGEST];

    o.lr           = 0.5f;
    o.weight_decay = 0.5f;
    o.no_decay     = ",bias,,norm";
    kd_test_optim_make(&s, devices[_i], &o);
    kd_assert_ok(kdas_optim_step(s.optim)); /* gradients are zero */
    for (int i = 0; i < kd_params_count(s.params); i++) {
        const kd_param_entry *e    = kd_params_at(s.params, i);
        bool                  kept = strstr(e->name, "weight") == NULL;

        kd_test_fill(before, e->count, e->name, 1, 0);
        kd_assert_ok(kd_params_read(s.params, i, after));
        for (int64_t k = 0; k < e->count; k++)
            ck_assert_float_eq(after[k], kept ? before[k] : 0.75f * before[k]);
    }
    kd_test_optim_finish(&s);
}
END_TEST

START_TEST(ranges_cover_the_block_and_are_as_few_as_can_be)
{
    kdas_optim_options o = kd_test_optim_options("adamw");
    kd_test_optim      s;

    kd_test_optim_make(&s, "reference", &o);
    ck_assert_uint_eq(s.optim->ranges, 1); /* all decay: one call */
    ck_assert_int_eq(s.optim->range[0].count, kd_params_trainable(s.params));
    kd_test_optim_finish(&s);

    o.no_decay = "bias,gain"; /* weight | bias | weight | gain */
    kd_test_optim_make(&s, "reference", &o);
    ck_assert_uint_eq(s.optim->ranges, 4);
    for (size_t i = 0, at = 0; i < 4; at += (size_t)s.optim->range[i++].count) {
        ck_assert_int_eq(s.optim->range[i].first, (int64_t)at);
        ck_assert_int_eq(s.optim->range[i].decay, i % 2 == 0);
    }
    ck_assert_int_eq(s.optim->range[3].first + s.optim->range[3].count,
                     kd_params_trainable(s.params));
    kd_test_optim_finish(&s);

    o.no_decay = "weight,bias,norm";
    kd_test_optim_make(&s, "reference", &o);
    ck_assert_uint_eq(s.optim->ranges, 1);
    ck_assert(!s.optim->range[0].decay);
    kd_test_optim_finish(&s);
}
END_TEST

START_TEST(gaps_between_parameters_stay_zero)
{
    kdas_optim_options o = kd_test_optim_options("adamw");
    kd_test_optim      s;
    float             *block;
    int64_t            total, used = 0;

    kd_test_optim_make(&s, devices[_i], &o);
    for (int t = 1; t <= 3; t++) {
        kd_test_optim_gradients(&s, t, 1);
        kd_assert_ok(kdas_optim_step(s.optim));
    }
    total = kd_params_trainable(s.params);
    block = malloc((size_t)total * sizeof *block);
    kd_assert_ok(kd_device_download(s.ctx, block, kd_params_values(s.params),
                                    (size_t)total * sizeof *block));
    for (int i = 0; i < kd_params_count(s.params); i++) {
        const kd_param_entry *e = kd_params_at(s.params, i);

        if (e->init.kind != KD_TRAINABLE) continue;
        memset(block + e->offset, 0, (size_t)e->count * sizeof *block);
        used += e->count;
    }
    ck_assert_int_lt(used, total);
    for (int64_t k = 0; k < total; k++)
        ck_assert_float_eq(block[k], 0);
    free(block);
    kd_test_optim_finish(&s);
}
END_TEST

/* ---- gradients: norm, clip, clamp, scale ---- */

/* What an update subtracts from stem.weight with plain descent at rate 1, over its gradient. */
static void subtracted(float out[35], float g[35], const char *device, float clip_norm, float clamp)
{
    kdas_optim_options o = kd_test_optim_options("sgd");
    kd_test_optim      s;
    float              before[35];

    o.lr           = 1;
    o.momentum     = 0;
    o.weight_decay = 0;
    o.clip_norm    = clip_norm;
    o.clamp        = clamp;
    kd_test_optim_make(&s, device, &o);
    memset(before, 0, sizeof before);
    kd_assert_ok(kd_params_write(s.params, 0, before));
    kd_test_optim_gradients(&s, 1, 1);
    kd_assert_ok(kdas_optim_step(s.optim));
    kd_assert_ok(kd_params_read(s.params, 0, out));
    kd_assert_ok(kd_params_read_grad(s.params, 0, g));
    for (int k = 0; k < 35; k++)
        out[k] = -out[k];
    kd_test_optim_finish(&s);
}

START_TEST(the_norm_is_that_of_all_gradients)
{
    kdas_optim_options o = kd_test_optim_options("adamw");
    kd_test_optim      s;
    double             norm;

    kd_test_optim_make(&s, devices[_i], &o);
    kd_assert_ok(kdas_optim_gradient_norm(s.optim, &norm));
    ck_assert_double_eq(norm, 0);
    kd_test_optim_gradients(&s, 1, 3);
    kd_assert_ok(kdas_optim_gradient_norm(s.optim, &norm));
    ck_assert_double_eq_tol(norm, exact_norm(&s), 1e-6 * norm);
    kd_test_optim_finish(&s);
}
END_TEST

START_TEST(clipping_scales_all_gradients_to_the_norm_asked_for)
{
    float  step[35], g[35], free_step[35];
    double norm;

    subtracted(free_step, g, devices[_i], 0, 0);
    kd_assert_close(free_step, g, 35, 0);
    subtracted(step, g, devices[_i], 1e6f, 0); /* a limit that is not reached changes nothing */
    kd_assert_close(step, g, 35, 0);
    subtracted(step, g, devices[_i], 0.5f, 0);
    norm = g[0] / step[0] * 0.5;
    ck_assert_double_gt(norm, 10); /* of about 1100 numbers within +-1 */
    for (int k = 0; k < 35; k++)
        ck_assert_double_eq_tol(step[k], g[k] * 0.5 / norm, 1e-6);
}
END_TEST

START_TEST(the_clamp_holds_each_number_after_the_clip)
{
    float step[35], g[35], clipped[35];

    subtracted(step, g, devices[_i], 0, 0.25f);
    for (int k = 0; k < 35; k++)
        ck_assert_float_eq(step[k], fmaxf(fminf(g[k], 0.25f), -0.25f));
    subtracted(clipped, g, devices[_i], 5, 0);
    subtracted(step, g, devices[_i], 5, 0.1f);
    for (int k = 0; k < 35; k++)
        ck_assert_float_eq(step[k], fmaxf(fminf(clipped[k], 0.1f), -0.1f));
}
END_TEST

START_TEST(a_gradient_that_is_not_finite_is_named_and_changes_nothing)
{
    const float        bad[] = { NAN, INFINITY, -INFINITY };
    kdas_optim_options o     = kd_test_optim_options("adamw");
    kd_test_optim      s;
    float              before[KD_TEST_LARGEST], after[KD_TEST_LARGEST];
    double             norm = -1;

    kd_test_optim_make(&s, devices[_i], &o);
    kd_test_optim_gradients(&s, 1, 1);
    kd_assert_ok(kdas_optim_step(s.optim));
    kd_assert_ok(kd_params_read(s.params, 3, before));
    for (size_t k = 0; k < KD_COUNT(bad); k++) {
        const kd_param_entry *e = kd_params_at(s.params, 3); /* head.weight */

        kd_test_optim_gradients(&s, 2, 1);
        kd_assert_ok(kd_device_upload(s.ctx, kd_params_grads(s.params) + e->offset + 100, &bad[k],
                                      sizeof bad[k]));
        kd_assert_status(kdas_optim_step(s.optim), KDAS_ENUMERIC);
        kd_assert_sentence("head.weight");
        kd_assert_status(kdas_optim_gradient_norm(s.optim, &norm), KDAS_ENUMERIC);
        ck_assert_double_eq(norm, -1);
        kd_assert_ok(kd_params_read(s.params, 3, after));
        ck_assert(kd_test_same_bits(before, after, sizeof before));
        ck_assert_int_eq(kdas_optim_updates(s.optim), 1);
    }
    kd_test_optim_finish(&s);
}
END_TEST

START_TEST(gradients_that_are_huge_but_finite_are_taken)
{
    kdas_optim_options o = kd_test_optim_options("adamw");
    kd_test_optim      s;
    float              after[KD_TEST_LARGEST];
    double             norm;

    kd_test_optim_make(&s, devices[_i], &o);
    kd_test_optim_gradients(&s, 1, 1e30);
    kd_assert_ok(kdas_optim_gradient_norm(s.optim, &norm));
    ck_assert_double_eq_tol(norm / exact_norm(&s), 1, 1e-6);
    kd_assert_ok(kdas_optim_step(s.optim));
    kd_assert_ok(kd_params_read(s.params, 3, after));
    for (int k = 0; k < KD_TEST_LARGEST; k++)
        ck_assert(isfinite(after[k]));
    kd_test_optim_finish(&s);
}
END_TEST

static Suite *optim_suite(void)
{
    const int D     = KD_COUNT(devices);
    Suite    *s     = suite_create("optim");
    TCase    *rules = tcase_create("rules");
    TCase    *grads = tcase_create("gradients");

    tcase_add_loop_test(rules, adamw_follows_its_rule_in_double, 0, D);
    tcase_add_loop_test(rules, sgd_follows_its_rule_in_double, 0, D);
    tcase_add_loop_test(rules, parameters_named_in_no_decay_keep_their_values_without_gradient, 0,
                        D);
    tcase_add_test(rules, ranges_cover_the_block_and_are_as_few_as_can_be);
    tcase_add_loop_test(rules, gaps_between_parameters_stay_zero, 0, D);
    suite_add_tcase(s, rules);

    tcase_add_loop_test(grads, the_norm_is_that_of_all_gradients, 0, D);
    tcase_add_loop_test(grads, clipping_scales_all_gradients_to_the_norm_asked_for, 0, D);
    tcase_add_loop_test(grads, the_clamp_holds_each_number_after_the_clip, 0, D);
    tcase_add_loop_test(grads, a_gradient_that_is_not_finite_is_named_and_changes_nothing, 0, D);
    tcase_add_loop_test(grads, gradients_that_are_huge_but_finite_are_taken, 0, D);
    suite_add_tcase(s, grads);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(optim_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
