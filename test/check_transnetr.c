/* check_transnetr.c - the network transnetr: who attends to whom, dropout, the group that never
 * runs; a step as student and as teacher. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/thin.h"

enum { SIDE = 256, PIXELS = SIDE * SIDE };

static kdas_context *ctx;

static void open_context(void) { ctx = kd_test_device("cpu", NULL); }
static void close_context(void) { kdas_context_destroy(ctx); }

static kdas_model *make(float dropout)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.drop_path = dropout;
    kd_assert_ok(kdas_model_create(&m, ctx, "transnetr", &o));
    return m;
}

/* Images `first` and following of an endless row. */
static kdas_batch *draw(int first, int count)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, count, SIDE, SIDE));
    for (int i = 0; i < count; i++) {
        char name[16];

        snprintf(name, sizeof name, "image %d", first + i);
        kd_test_fill(kdas_batch_images(b) + i * PIXELS * 3, PIXELS * 3, name, 2, 0);
    }
    kd_test_ellipses(kdas_batch_masks(b), count, SIDE, SIDE, "mask");
    return b;
}

/* P1 of images first .. first + count - 1, from malloc. */
static float *map_of(kdas_model *m, kdas_mode mode, int first, int count)
{
    kdas_batch *b   = draw(first, count);
    float      *map = malloc((size_t)count * PIXELS * sizeof *map);

    kd_assert_ok(kdas_model_forward(m, mode, b));
    kd_assert_ok(kdas_model_read_output(m, "P1", map));
    kdas_batch_destroy(b);
    return map;
}

static double difference(const float *a, const float *b, int64_t n)
{
    double worst = 0;

    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

static double range(const float *a, int64_t n)
{
    double low = INFINITY, high = -INFINITY;

    for (int64_t i = 0; i < n; i++) {
        low  = fmin(low, (double)a[i]);
        high = fmax(high, (double)a[i]);
    }
    return high - low;
}

/* ---- Attention ---- */

START_TEST(in_inference_the_answer_to_an_image_does_not_depend_on_its_batch)
{
    kdas_model *m    = make(0);
    float      *both = map_of(m, KDAS_MODE_INFER, 0, 2);

    for (int i = 0; i < 2; i++) {
        float *one = map_of(m, KDAS_MODE_INFER, i, 1), *eval = map_of(m, KDAS_MODE_EVAL, i, 1);
        double bound = 1e-4 * range(one, PIXELS);

        ck_assert_double_lt(difference(one, both + i * PIXELS, PIXELS), bound);
        ck_assert_double_lt(difference(one, eval, PIXELS), bound);
        free(one);
        free(eval);
    }
    free(both);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(in_training_an_image_attends_to_those_of_its_batch)
{
    kdas_model *m    = make(0);
    float      *pair = map_of(m, KDAS_MODE_EVAL, 0, 2), *other = map_of(m, KDAS_MODE_EVAL, 0, 3),
          *alone = map_of(m, KDAS_MODE_EVAL, 0, 1);

    ck_assert_double_gt(difference(pair, alone, PIXELS), 1e-3 * range(alone, PIXELS));
    ck_assert_double_gt(difference(pair, other, PIXELS), 1e-3 * range(alone, PIXELS));
    free(alone);
    free(other);
    free(pair);
    kdas_model_destroy(m);
}
END_TEST

/* ---- Dropout ---- */

/* What training writes for the images 0 and 1, and the gradient of one tensor for a weighted sum of
 * it. Both from malloc. */
static void train(float **map, float **gradient, int64_t *count, float dropout)
{
    const char  *name       = "r2.te.layers.0.self_attn.in_proj_weight";
    kdas_model  *m          = make(dropout);
    float       *weight     = malloc(2 * PIXELS * sizeof *weight);
    const float *weights[1] = { weight };
    int64_t      dims[4];
    int32_t      i = kdas_model_find(m, name);

    kd_test_fill(weight, 2 * PIXELS, "weight", 1, 0);
    *map = malloc(2 * PIXELS * sizeof **map);
    {
        kdas_batch *b = draw(0, 2);

        kd_assert_ok(kdas_model_zero_gradients(m));
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
        kd_assert_ok(kdas_model_read_output(m, "P1", *map));
        kd_assert_ok(kdas_model_backward(m, weights));
        kdas_batch_destroy(b);
    }
    kdas_model_tensor(m, i, NULL, dims, NULL);
    *count    = dims[0] * dims[1];
    *gradient = malloc((size_t)*count * sizeof **gradient);
    kd_assert_ok(kdas_model_read_gradient(m, i, *gradient));
    free(weight);
    kdas_model_destroy(m);
}

/* With dropout, attention is made of single products for each head. A rate that drops nothing shows
 * that they are the same attention. */
START_TEST(attention_with_dropout_is_the_same_attention)
{
    float  *map[3], *gradient[3];
    int64_t n = 0;

    train(&map[0], &gradient[0], &n, 0);
    train(&map[1], &gradient[1], &n, 1e-9f);
    train(&map[2], &gradient[2], &n, 0.1f);
    ck_assert_double_lt(difference(map[0], map[1], 2 * PIXELS), 1e-3 * range(map[0], 2 * PIXELS));
    ck_assert_double_lt(difference(gradient[0], gradient[1], n), 2e-2 * range(gradient[0], n));
    ck_assert_double_gt(difference(map[0], map[2], 2 * PIXELS), 1e-2 * range(map[0], 2 * PIXELS));
    ck_assert_double_gt(difference(gradient[0], gradient[2], n), 5e-2 * range(gradient[0], n));
    for (int i = 0; i < 3; i++) {
        free(map[i]);
        free(gradient[i]);
    }
}
END_TEST

/* ---- Steps ---- */

static double first_of(const kdas_model *m, const char *name)
{
    int32_t i = kdas_model_find(m, name);
    float  *v;
    double  x;
    int64_t dims[4];

    ck_assert_msg(i >= 0, "there is no %s", name);
    kdas_model_tensor(m, i, NULL, dims, NULL);
    v = malloc((size_t)(dims[0] * dims[1] * dims[2] * dims[3]) * sizeof *v);
    kd_assert_ok(kdas_model_read(m, i, v));
    x = (double)v[0];
    free(v);
    return x;
}

static kdas_step_report step(kd_test_rig *rig, const char *student, const char *teacher)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_step_report    r = { .size = sizeof r };
    kdas_batch         *b;

    o.student = student;
    o.teacher = teacher;
    kd_test_rig_make(rig, &o);
    kd_assert_ok(kdas_batch_create(&b, rig->ctx, 2, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), 2 * PIXELS * 3, "images", 2, 0);
    kd_test_ellipses(kdas_batch_masks(b), 2, SIDE, SIDE, "mask");
    kd_assert_ok(kdas_distiller_step(rig->distiller, b, &r));
    ck_assert(r.updated && isfinite(r.total) && r.raw[KDAS_TERM_KD] > 0);
    kdas_batch_destroy(b);
    return r;
}

START_TEST(a_student_trains_what_runs_and_nothing_else)
{
    static const char *const idle = "layer4.1.conv2.weight", *runs = "layer3.1.conv2.weight";
    kd_test_rig              rig;
    kdas_model_options       o = kd_test_rig_usual().model;
    kdas_model              *fresh;

    step(&rig, "transnetr", "polyp_pvt_b0");
    kd_assert_ok(kdas_model_create(&fresh, rig.ctx, "transnetr", &o));
    ck_assert(first_of(rig.student, idle) == first_of(fresh, idle));
    ck_assert(first_of(rig.student, runs) != first_of(fresh, runs));
    ck_assert(first_of(rig.student, "layer4.0.bn1.num_batches_tracked") == 0);
    ck_assert(first_of(rig.student, "layer4.0.bn1.running_var") == 1);
    ck_assert(first_of(rig.student, "layer3.0.bn1.num_batches_tracked") == 1);
    ck_assert(first_of(rig.student, "layer3.0.bn1.running_var") != 1);
    kdas_model_destroy(fresh);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_teacher_guides_another_network)
{
    kd_test_rig rig;

    ck_assert(step(&rig, "polyp_pvt_b0", "transnetr").gradient[KDAS_TERM_KD] > 0);
    kd_test_rig_finish(&rig);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("transnetr");
    TCase   *network = tcase_create("network"), *steps = tcase_create("steps");
    SRunner *runner;
    int      failed;

    kd_test_quick_values(true);
    tcase_add_checked_fixture(network, open_context, close_context);
    tcase_add_test(network, in_inference_the_answer_to_an_image_does_not_depend_on_its_batch);
    tcase_add_test(network, in_training_an_image_attends_to_those_of_its_batch);
    tcase_add_test(network, attention_with_dropout_is_the_same_attention);
    suite_add_tcase(suite, network);
    tcase_add_test(steps, a_student_trains_what_runs_and_nothing_else);
    tcase_add_test(steps, a_teacher_guides_another_network);
    suite_add_tcase(suite, steps);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
