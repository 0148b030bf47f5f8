/* check_loss.c - the objective: presets, gradients, warnings, and what is refused. The values themselves are
 * compared with golden ones by check_golden. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/run_util.h"

#define N     2
#define H     32
#define W     48
#define COUNT (N * H * W)

static kdas_context *ctx;
static float         s1[COUNT], s2[COUNT], t1[COUNT], t2[COUNT], y[COUNT], g1[COUNT], g2[COUNT];
static const float *const student_maps[] = { s1, s2 }, *const teacher_maps[] = { t1, t2 };
static float *const    gradients[] = { g1, g2 };
static const kdas_maps student     = { student_maps, 2, N, H, W },
                       teacher     = { teacher_maps, 2, N, H, W };

static void open_context(void)
{
    ctx = kd_test_device("cpu", NULL);
    kd_test_fill(s1, COUNT, "s1", 2, 0);
    kd_test_fill(s2, COUNT, "s2", 2, 0);
    kd_test_fill(t1, COUNT, "t1", 2, 0);
    kd_test_fill(t2, COUNT, "t2", 2, 0);
    kd_test_ellipses(y, N, H, W, "y");
}
static void close_context(void) { kdas_context_destroy(ctx); }

static kdas_loss_report evaluate(kdas_loss *loss)
{
    kdas_loss_report r = { .size = sizeof r };

    kd_assert_ok(kdas_loss_evaluate(loss, &student, &teacher, y, gradients, &r));
    return r;
}

static kdas_loss *make(const char *preset)
{
    kdas_loss_options o;
    kdas_loss        *loss;

    kdas_loss_options_init(&o, sizeof o);
    kd_assert_ok(kdas_loss_options_preset(&o, preset));
    kd_assert_ok(kdas_loss_create(&loss, ctx, &o));
    return loss;
}

static const char *const presets[] = { "paper", "baseline", "kl", "attention" };

START_TEST(gradient_matches_finite_difference)
{
    kdas_loss *loss   = make(presets[_i]);
    float     *maps[] = { s1, s2 }, copy[2][COUNT], h = 0.05f;

    evaluate(loss);
    memcpy(copy[0], g1, sizeof g1);
    memcpy(copy[1], g2, sizeof g2);
    for (int m = 0; m < 2; m++)
        for (int i = 11; i < COUNT; i += 977) {
            double above, below;
            float  keep = maps[m][i];

            maps[m][i] = keep + h;
            above      = evaluate(loss).total;
            maps[m][i] = keep - h;
            below      = evaluate(loss).total;
            maps[m][i] = keep;
            ck_assert_double_eq_tol((above - below) / (2 * (double)h), (double)copy[m][i], 2e-5);
        }
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(total_is_the_weighted_sum_of_its_terms)
{
    kdas_loss       *loss = make(presets[_i]);
    kdas_loss_report r    = evaluate(loss);
    double           sum  = 0;

    for (int t = 0; t < KDAS_TERMS; t++) {
        sum += r.weighted[t];
        ck_assert_int_eq(r.on[t], r.gradient[t] > 0);
        ck_assert(r.on[t] ? r.raw[t] > 0 : r.raw[t] == 0);
    }
    ck_assert_double_eq_tol(r.total, sum, 1e-12);
    ck_assert_double_eq_tol(r.weighted[KDAS_TERM_KD], (double)0.2f * r.raw[KDAS_TERM_KD], 1e-9);
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(gradient_norm_is_that_of_the_maps)
{
    kdas_loss       *loss    = make("baseline");
    kdas_loss_report r       = evaluate(loss);
    double           squares = 0;

    for (int i = 0; i < COUNT; i++)
        squares += (double)g1[i] * (double)g1[i] + (double)g2[i] * (double)g2[i];
    ck_assert_double_eq_tol(r.gradient[KDAS_TERM_SEG], sqrt(squares), 1e-6 * sqrt(squares));
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(student_equal_to_teacher_has_no_guidance)
{
    kdas_loss       *loss = make("paper");
    kdas_loss_report r    = { .size = sizeof r };

    kd_assert_ok(kdas_loss_evaluate(loss, &student, &student, y, gradients, &r));
    ck_assert_double_eq_tol(r.raw[KDAS_TERM_KD], 0, 1e-6);
    ck_assert_double_eq_tol(r.raw[KDAS_TERM_SGM], 0, 1e-6);
    kdas_loss_destroy(loss);
}
END_TEST

/* ---- A term that sends nothing ---- */

static int  warnings;
static char warning[256];
static void count_warnings(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    if (level != KDAS_LOG_WARN) return;
    warnings++;
    snprintf(warning, sizeof warning, "%s", text);
}

START_TEST(term_that_sends_nothing_is_reported_once)
{
    static float square[N * W * W], teacher_square[N * W * W], mask[N * W * W], g[N * W * W];
    const float *sm[] = { square }, *tm[] = { teacher_square };
    float       *gm[] = { g };
    kdas_maps    s = { sm, 1, N, W, W }, t = { tm, 1, N, W, W };
    kdas_context_options o;
    kdas_context        *logged;
    kdas_loss_options    lo;
    kdas_loss           *loss;
    kdas_loss_report     r = { .size = sizeof r };

    kd_test_fill(square, N * W * W, "square", 2, 0);
    kd_test_fill(teacher_square, N * W * W, "teacher", 2, 0);
    kdas_context_options_init(&o, sizeof o);
    o.log = count_warnings;
    kd_assert_ok(kdas_context_create(&logged, &o));
    kdas_loss_options_init(&lo, sizeof lo);
    kd_assert_ok(kdas_loss_options_preset(&lo, "published_code"));
    kd_assert_ok(kdas_loss_create(&loss, logged, &lo));
    kd_assert_ok(kdas_loss_evaluate(loss, &s, &t, mask, gm, &r));
    kd_assert_ok(kdas_loss_evaluate(loss, &s, &t, mask, gm, &r));
    ck_assert_int_eq(warnings, 1);
    ck_assert_ptr_nonnull(strstr(warning, "kd term"));
    ck_assert_int_eq(r.on[KDAS_TERM_KD], 1);
    ck_assert(r.gradient[KDAS_TERM_KD] == 0);
    ck_assert(r.gradient[KDAS_TERM_SGM] > 0);
    kdas_loss_destroy(loss);
    kdas_context_destroy(logged);
}
END_TEST

/* ---- Maps of other sizes, other axes ---- */

START_TEST(teacher_maps_of_another_size_are_resized)
{
    static float     small[2][N * (H / 2) * (W / 2)];
    const float     *maps[] = { small[0], small[1] };
    kdas_maps        t      = { maps, 2, N, H / 2, W / 2 };
    kdas_loss       *loss   = make("kl");
    kdas_loss_report r      = { .size = sizeof r };

    for (int m = 0; m < 2; m++) /* a constant stays one, so that the value is known */
        for (int i = 0; i < N * (H / 2) * (W / 2); i++)
            small[m][i] = 3;
    for (int i = 0; i < COUNT; i++)
        t1[i] = t2[i] = -1;
    kd_assert_ok(kdas_loss_evaluate(loss, &student, &t, y, NULL, &r));
    ck_assert_double_eq_tol(r.raw[KDAS_TERM_KD], evaluate(loss).raw[KDAS_TERM_KD], 1e-6);
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(row_axis_is_the_mean_of_the_rows)
{
    kdas_loss_options o;
    kdas_loss        *loss;
    double            want = 0;

    kdas_loss_options_init(&o, sizeof o);
    o.guidance = "kl";
    o.axis     = "row";
    kd_assert_ok(kdas_loss_create(&loss, ctx, &o));
    for (int row = 0; row < 2 * N * H; row++) {
        const float *s = (row < N * H ? s1 : s2) + row % (N * H) * W,
                    *t = (row < N * H ? t1 : t2) + row % (N * H) * W;
        double zs = 0, zt = 0, kl = 0;

        for (int i = 0; i < W; i++) {
            zs += exp((double)s[i] / 2);
            zt += exp((double)t[i] / 2);
        }
        for (int i = 0; i < W; i++)
            kl += exp((double)t[i] / 2) / zt *
                  ((double)t[i] / 2 - log(zt) - (double)s[i] / 2 + log(zs));
        want += 4 * kl / (N * H);
    }
    ck_assert_double_eq_tol(evaluate(loss).raw[KDAS_TERM_KD], want, 1e-5 * want);
    kdas_loss_destroy(loss);
}
END_TEST

/* ---- What is refused ---- */

START_TEST(options_out_of_range_are_refused_with_their_name)
{
    kdas_loss_options o;
    kdas_loss        *loss;

#define REFUSED(change, status, word)                           \
    kdas_loss_options_init(&o, sizeof o);                       \
    change;                                                     \
    loss = (kdas_loss *)&o;                                     \
    kd_assert_status(kdas_loss_create(&loss, ctx, &o), status); \
    ck_assert_ptr_null(loss);                                   \
    kd_assert_sentence(word)
    REFUSED(o.tau = 0, KDAS_EINVAL, "tau");
    REFUSED(o.tau = NAN, KDAS_EINVAL, "tau");
    REFUSED(o.seg_weight = -1, KDAS_EINVAL, "seg_weight");
    REFUSED(o.guidance_weight = NAN, KDAS_EINVAL, "guidance_weight");
    REFUSED(o.seg = "focal", KDAS_ENOTFOUND, "focal");
    REFUSED(o.guidance = "crd", KDAS_ENOTFOUND, "crd");
    REFUSED(o.sym = "gram", KDAS_ENOTFOUND, "gram");
    REFUSED(o.axis = "time", KDAS_ENOTFOUND, "time");
    REFUSED(o.seg = NULL, KDAS_EINVAL, "NULL");
    REFUSED(o.size = 0, KDAS_EINVAL, "size");
    kd_assert_status(kdas_loss_options_preset(&o, "upstream"), KDAS_EINVAL); /* size is 0 */
    kdas_loss_options_init(&o, sizeof o);
    kd_assert_status(kdas_loss_options_preset(&o, "upstream"), KDAS_ENOTFOUND);
}
END_TEST

START_TEST(maps_that_do_not_fit_are_refused)
{
    kdas_loss        *loss = make("paper");
    kdas_loss_report  r    = { .size = sizeof r, .total = 7 };
    kdas_maps         few  = { teacher_maps, 2, N - 1, H, W };
    kdas_loss_options o;
    kdas_loss        *sum;

    kd_assert_status(kdas_loss_evaluate(loss, &student, NULL, y, NULL, &r), KDAS_EINVAL);
    kd_assert_status(kdas_loss_evaluate(loss, &student, &few, y, NULL, &r), KDAS_ESHAPE);
    kd_assert_status(kdas_loss_evaluate(loss, &student, &teacher, NULL, NULL, &r), KDAS_EINVAL);
    kdas_loss_destroy(loss);
    kdas_loss_options_init(&o, sizeof o);
    o.sym = "sum"; /* wants square maps */
    kd_assert_ok(kdas_loss_create(&sum, ctx, &o));
    kd_assert_status(kdas_loss_evaluate(sum, &student, &teacher, y, NULL, &r), KDAS_ESHAPE);
    kd_assert_sentence("32x48");
    kdas_loss_destroy(sum);
    ck_assert_double_eq(r.total, 7);
}
END_TEST

START_TEST(nan_in_a_map_is_a_status_that_names_the_term)
{
    kdas_loss       *loss = make("paper");
    kdas_loss_report r    = { .size = sizeof r, .total = 7 };

    s2[5] = NAN;
    kd_assert_status(kdas_loss_evaluate(loss, &student, &teacher, y, gradients, &r), KDAS_ENUMERIC);
    kd_assert_sentence("seg");
    ck_assert_double_eq(r.total, 7);
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(failing_allocations_leak_nothing)
{
    bool done = false;

    for (long k = 1; k < 2000 && !done; k++) {
        kd_test_meter    m    = { 0 };
        kdas_context    *c    = kd_test_device("cpu", &m);
        kdas_loss       *loss = NULL;
        kdas_loss_report r    = { .size = sizeof r };
        kdas_status      st;

        m.fail_at = m.taken + k;
        st        = kdas_loss_create(&loss, c, NULL);
        if (st == KDAS_OK) st = kdas_loss_evaluate(loss, &student, &teacher, y, gradients, &r);
        done = st == KDAS_OK;
        ck_assert(done || st == KDAS_ENOMEM);
        ck_assert(!done || k > 10);
        kdas_loss_destroy(loss);
        kdas_context_destroy(c);
        kd_test_assert_given_back(&m);
    }
    ck_assert(done);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("loss");
    TCase   *values = tcase_create("values"), *refused = tcase_create("refused");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(values, open_context, close_context);
    tcase_add_loop_test(values, gradient_matches_finite_difference, 0, 4);
    tcase_add_loop_test(values, total_is_the_weighted_sum_of_its_terms, 0, 4);
    tcase_add_test(values, gradient_norm_is_that_of_the_maps);
    tcase_add_test(values, student_equal_to_teacher_has_no_guidance);
    tcase_add_test(values, term_that_sends_nothing_is_reported_once);
    tcase_add_test(values, teacher_maps_of_another_size_are_resized);
    tcase_add_test(values, row_axis_is_the_mean_of_the_rows);
    suite_add_tcase(suite, values);
    tcase_add_checked_fixture(refused, open_context, close_context);
    tcase_add_test(refused, options_out_of_range_are_refused_with_their_name);
    tcase_add_test(refused, maps_that_do_not_fit_are_refused);
    tcase_add_test(refused, nan_in_a_map_is_a_status_that_names_the_term);
    tcase_add_test(refused, failing_allocations_leak_nothing);
    suite_add_tcase(suite, refused);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
