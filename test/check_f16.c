/* check_f16.c - networks in f16 beside the same networks in f32, on a CPU made to have f16: what the engine
 * rounds, what the loss scale saves, and how a run finds its scale. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/files.h"
#include "support/half_device.h"
#include "support/run_util.h"
#include "support/thin.h"

#define SIDE 64
#define AREA (SIDE * SIDE)

typedef struct pair {
    kd_test_rig f32, f16;
} pair;

static void pair_make(pair *p, kd_test_rig_options o)
{
    kd_test_rig_make(&p->f32, &o);
    o.adapt = kd_test_half_device;
    kd_test_rig_make(&p->f16, &o);
}

static void pair_finish(pair *p)
{
    kd_test_rig_finish(&p->f32);
    kd_test_rig_finish(&p->f16);
}

static kdas_batch *draw(kdas_context *ctx, int t)
{
    kdas_batch *b;
    char        name[32];

    snprintf(name, sizeof name, "f16.%d", t);
    kd_assert_ok(kdas_batch_create(&b, ctx, 2, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), 2 * AREA * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), 2, SIDE, SIDE, name);
    return b;
}

static kdas_step_report step(kd_test_rig *rig, int t)
{
    kdas_step_report report = { .size = sizeof report };
    kdas_batch      *b      = draw(rig->ctx, t);

    kd_assert_ok(kdas_distiller_step(rig->distiller, b, &report));
    kdas_batch_destroy(b);
    return report;
}

/* |a - b| / |b|, norms over n numbers. */
static double apart(const float *a, const float *b, size_t n)
{
    double d = 0, s = 0;

    for (size_t i = 0; i < n; i++) {
        d += pow((double)a[i] - (double)b[i], 2);
        s += pow((double)b[i], 2);
    }
    return sqrt(d / s);
}

/* Each rounding is off by 2^-11 at most; a network adds some dozens of them. */
START_TEST(maps_are_those_of_f32_but_for_rounding)
{
    static float map[2][2 * AREA];
    pair         p;

    pair_make(&p, kd_test_rig_usual());
    ck_assert_int_eq(kdas_context_precision(p.f16.ctx), KDAS_PRECISION_F16);
    for (int i = 0; i < 2; i++) {
        kd_test_rig *rig = i ? &p.f16 : &p.f32;
        kdas_batch  *b   = draw(rig->ctx, 0);

        kd_assert_ok(kdas_model_forward(rig->student, KDAS_MODE_INFER, b));
        kd_assert_ok(kdas_model_read_output(rig->student, "P1", map[i]));
        kdas_batch_destroy(b);
    }
    ck_assert_double_gt(apart(map[1], map[0], 2 * AREA), 1e-6);
    ck_assert_double_lt(apart(map[1], map[0], 2 * AREA), 5e-3);
    pair_finish(&p);
}
END_TEST

/* The whole gradient of a step, from malloc, without the scale. */
static float *gradient(kd_test_rig *rig, size_t *n)
{
    kdas_batch *b   = draw(rig->ctx, 1);
    float      *all = calloc((size_t)kdas_model_parameters(rig->student), sizeof *all);

    *n = 0;
    kd_assert_ok(kdas_distiller_forward(rig->distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig->distiller, NULL));
    for (int32_t i = 0; i < kdas_model_tensors(rig->student); i++) {
        int64_t d[4];
        int32_t trainable;

        kdas_model_tensor(rig->student, i, NULL, d, &trainable);
        if (!trainable) continue;
        kd_assert_ok(kdas_model_read_gradient(rig->student, i, all + *n));
        *n += (size_t)(d[0] * d[1] * d[2] * d[3]);
    }
    for (size_t i = 0; i < *n; i++)
        all[i] /= (float)kdas_optim_loss_scale(rig->optim);
    kdas_batch_destroy(b);
    return all;
}

/* A loss of a hundred thousandth, as one over many more pixels would send it. With the scale what is left is the
 * rounding of activations, which batch statistics of few values magnify. */
START_TEST(the_scale_saves_gradients_that_f16_would_lose)
{
    kd_test_rig_options o = kd_test_rig_usual();
    double              off[2];

    o.loss.seg_weight = o.loss.guidance_weight = 1e-5f;
    for (int scaled = 0; scaled < 2; scaled++) {
        float *f32, *f16;
        size_t n;
        pair   p;

        o.optim.loss_scale = scaled ? 0 : 1; /* 0: what f16 has by itself */
        pair_make(&p, o);
        ck_assert_double_eq(kdas_optim_loss_scale(p.f32.optim), 1);
        ck_assert_double_eq(kdas_optim_loss_scale(p.f16.optim), scaled ? 65536 : 1);
        f32         = gradient(&p.f32, &n);
        f16         = gradient(&p.f16, &n);
        off[scaled] = apart(f16, f32, n);
        free(f32);
        free(f16);
        pair_finish(&p);
    }
    ck_assert_msg(off[1] < 0.08, "with the scale off by %g", off[1]);
    ck_assert_msg(off[0] > 0.5, "without it by %g, with it by %g", off[0], off[1]);
}
END_TEST

START_TEST(a_run_follows_that_of_f32)
{
    double start, worst = 0;
    pair   p;

    pair_make(&p, kd_test_rig_usual());
    start = step(&p.f32, 0).total;
    step(&p.f16, 0);
    for (int t = 1; t < 8; t++)
        worst = fmax(worst, fabs(step(&p.f32, t).total - step(&p.f16, t).total));
    ck_assert_msg(worst < 0.02 * start, "%g of %g apart", worst, start);
    ck_assert_int_eq(kdas_optim_updates(p.f16.optim) + kdas_optim_skipped(p.f16.optim), 8);
    pair_finish(&p);
}
END_TEST

START_TEST(a_scale_that_is_too_large_comes_down_until_updates_are_made)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_step_report    r;
    kd_test_rig         rig;
    double              scale = 0x1p24;
    int                 t;

    o.adapt            = kd_test_half_device;
    o.optim.loss_scale = 0x1p24f;
    o.loss.seg_weight  = 1024; /* which no f16 could have at that scale */
    kd_test_rig_make(&rig, &o);
    for (t = 0; t < 24; t++) {
        r = step(&rig, t);
        ck_assert_double_eq(r.loss_scale, scale);
        ck_assert_int_eq(r.updated, !r.skipped);
        ck_assert(isfinite(r.gradient[KDAS_TERM_SEG])); /* the objective is in f32 */
        if (r.updated) break;
        scale /= 2;
    }
    ck_assert_int_gt(t, 2);
    ck_assert(r.updated);
    ck_assert_int_eq(kdas_optim_skipped(rig.optim), t);
    ck_assert_int_eq(kdas_optim_updates(rig.optim), 1);
    kd_test_rig_finish(&rig);
}
END_TEST

static void keep_warning(void *user, kdas_log_level level, const char *text)
{
    if (level == KDAS_LOG_WARN) snprintf(user, 1024, "%s", text);
}

START_TEST(a_resumed_run_gives_the_bits_of_an_unbroken_one)
{
    char                warning[1024] = "";
    kd_test_rig_options o             = kd_test_rig_usual();
    kd_test_rig         whole, part;

    o.log                    = keep_warning;
    o.log_user               = warning;
    o.adapt                  = kd_test_half_device;
    o.optim.loss_scale_every = 2;
    kd_test_rig_make(&whole, &o);
    kd_test_rig_make(&part, &o);
    for (int t = 0; t < 3; t++) {
        step(&whole, t);
        step(&part, t);
    }
    kd_assert_ok(kdas_checkpoint_save(part.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&part);
    kd_test_rig_make(&part, &o);
    kd_assert_ok(kdas_checkpoint_load(part.distiller, kd_test_path("c.kdas"), NULL));
    ck_assert_str_eq(warning, "");
    for (int t = 3; t < 6; t++)
        ck_assert_double_eq(step(&whole, t).total, step(&part, t).total);
    ck_assert_double_eq(kdas_optim_loss_scale(whole.optim), kdas_optim_loss_scale(part.optim));
    kd_test_assert_same_weights(whole.student, part.student);
    kd_test_rig_finish(&part);
    kd_test_rig_finish(&whole);
    o.adapt = NULL;
    kd_test_rig_make(&part, &o);
    kd_assert_ok(kdas_checkpoint_load(part.distiller, kd_test_path("c.kdas"), NULL));
    ck_assert_ptr_nonnull(strstr(warning, "precision is 'f32' from here on"));
    ck_assert_ptr_nonnull(strstr(warning, "had 'f16'"));
    kd_test_rig_finish(&part);
}
END_TEST

START_TEST(its_profile_says_f16)
{
    kd_test_rig_options o    = kd_test_rig_usual();
    kdas_profile_row    row  = { .size = sizeof row };
    int                 half = 0, fused = 0, full = 0;
    kd_test_rig         rig;

    o.adapt = kd_test_half_device;
    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_context_profile(rig.ctx, 1));
    step(&rig, 0);
    for (int32_t i = 0; i < kdas_profile_count(rig.ctx); i++) {
        kd_assert_ok(kdas_profile_at(rig.ctx, i, &row));
        ck_assert_int_ne(row.precision, KDAS_PRECISION_BF16);
        half += row.precision == KDAS_PRECISION_F16;
        full += row.precision == KDAS_PRECISION_F32;
        fused += row.precision == KDAS_PRECISION_F16 && !strcmp(row.op, "mix_ffn");
    }
    ck_assert_int_gt(half, 100);
    ck_assert_int_gt(full, 10);
    ck_assert_int_gt(fused, 4);
    kd_test_rig_finish(&rig);
}
END_TEST

static Suite *f16_suite(void)
{
    Suite *s = suite_create("f16");
    TCase *t = tcase_create("beside f32");

    tcase_add_checked_fixture(t, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(t, maps_are_those_of_f32_but_for_rounding);
    tcase_add_test(t, the_scale_saves_gradients_that_f16_would_lose);
    tcase_add_test(t, a_run_follows_that_of_f32);
    tcase_add_test(t, a_scale_that_is_too_large_comes_down_until_updates_are_made);
    tcase_add_test(t, a_resumed_run_gives_the_bits_of_an_unbroken_one);
    tcase_add_test(t, its_profile_says_f16);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(f16_suite());
    int      failed;

    kd_test_thin_networks();
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
