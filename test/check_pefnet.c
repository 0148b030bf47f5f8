/* check_pefnet.c - the network pefnet: its taps, initial values and gradients, positional tables at
 * other sizes, bf16. Its outputs are golden cases (golden/make_pefnet.py). */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/run_util.h"

enum { SIDE = 64, IMAGES = 2, PIXELS = SIDE * SIDE };

#define TABLE(i) "positional_embedding" i ".positional_embedding"

static kdas_context *ctx;

static void open_context(void) { ctx = kd_test_device("cpu", NULL); }
static void close_context(void) { kdas_context_destroy(ctx); }

static kdas_model *make(kdas_context *in)
{
    kdas_model *m;

    kd_assert_ok(kdas_model_create(&m, in, "pefnet", NULL));
    return m;
}

static kdas_batch *draw(kdas_context *in)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, in, IMAGES, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), IMAGES * PIXELS * 3, "image", 2, 0);
    return b;
}

static int32_t find(const kdas_model *m, const char *name, int64_t *count)
{
    int32_t i = kdas_model_find(m, name);
    int64_t dims[4];

    ck_assert_msg(i >= 0, "there is no %s", name);
    kdas_model_tensor(m, i, NULL, dims, NULL);
    *count = dims[0] * dims[1] * dims[2] * dims[3];
    return i;
}

static float *values_of(const kdas_model *m, const char *name, int64_t *count)
{
    int32_t i = find(m, name, count);
    float  *v = malloc((size_t)*count * sizeof *v);

    kd_assert_ok(kdas_model_read(m, i, v));
    return v;
}

/* ---- The network ---- */

START_TEST(taps_have_the_strides_they_are_named_for)
{
    static const struct {
        const char *name;
        int64_t     stride, channels;
    } taps[]      = { { "s2", 2, 16 },    { "s4", 4, 32 },     { "s8", 8, 48 },
                      { "s16", 16, 112 }, { "s32", 32, 1280 }, { "d16", 16, 112 },
                      { "d8", 8, 48 },    { "d4", 4, 32 },     { "d2", 2, 16 } };
    kdas_model *m = make(ctx);
    kdas_batch *b = draw(ctx);
    int64_t     dims[4];

    for (int i = 0; i < 9; i++) {
        ck_assert_str_eq(kdas_model_tap(m, i), taps[i].name);
        kd_assert_ok(kdas_model_keep_tap(m, taps[i].name));
    }
    ck_assert_ptr_null(kdas_model_tap(m, 9));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    for (int i = 0; i < 9; i++) {
        kd_assert_ok(kdas_model_tap_dims(m, taps[i].name, dims));
        ck_assert(dims[1] == SIDE / taps[i].stride && dims[3] == taps[i].channels);
    }
    ck_assert_str_eq(kdas_model_output(m, 0, dims), "P1");
    ck_assert(dims[1] == SIDE && dims[2] == SIDE && dims[3] == 1);
    ck_assert_ptr_null(kdas_model_output(m, 1, NULL));
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

/* Largest magnitude and deviation from 0 of a tensor's initial values. */
static void assert_spread(const kdas_model *m, const char *name, double most, double deviation)
{
    int64_t n;
    float  *v       = values_of(m, name, &n);
    double  largest = 0, squares = 0;

    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)v[i]));
        squares += (double)v[i] * (double)v[i];
    }
    ck_assert_msg(largest <= most * (1 + 1e-6) && largest > 0.98 * most, "%s: the largest is %g",
                  name, largest);
    ck_assert_msg(fabs(sqrt(squares / (double)n) - deviation) < 0.05 * deviation,
                  "%s: the deviation is %g, not %g", name, sqrt(squares / (double)n), deviation);
    free(v);
}

START_TEST(initial_values_are_those_of_keras)
{
    kdas_model *m = make(ctx);
    double      a;

    assert_spread(m, TABLE(""), 0.4, 0.2 * 0.8796); /* a normal one within two deviations */
    a = sqrt(6.0 / (16.0 * (1280 + 112)));
    assert_spread(m, "conv2d_transpose.weight", a, a / sqrt(3));
    a = sqrt(6.0 / (9.0 * (16 + 64)));
    assert_spread(m, "backbone.stack_1_block0_sortcut_conv.weight", a, a / sqrt(3));
    a = sqrt(6.0 / (9.0 * (576 + 1)));
    assert_spread(m, "backbone.stack_4_block0_MB_dw_.weight", a, a / sqrt(3));
    kdas_model_destroy(m);
}
END_TEST

/* ---- Gradients ---- */

/* sum of weight times P1, in double. With the batch's statistics, since the initial running ones let
 * little through so deep a network. */
static double value_of(kdas_model *m, kdas_batch *b, const float *weight)
{
    static float map[IMAGES * PIXELS];
    double       sum = 0;

    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    kd_assert_ok(kdas_model_read_output(m, "P1", map));
    for (int64_t i = 0; i < IMAGES * PIXELS; i++)
        sum += (double)map[i] * (double)weight[i];
    return sum;
}

/* The gradient of the sum in value_of(), from malloc. */
static float *gradient_of(kdas_model *m, kdas_batch *b, const float *weight, const char *name,
                          int64_t *n)
{
    const float *gradients[1] = { weight };
    int32_t      i            = find(m, name, n);
    float       *g            = malloc((size_t)*n * sizeof *g);

    kd_assert_ok(kdas_model_zero_gradients(m));
    value_of(m, b, weight);
    kd_assert_ok(kdas_model_backward(m, gradients));
    kd_assert_ok(kdas_model_read_gradient(m, i, g));
    return g;
}

static double norm_of(const float *g, int64_t n)
{
    double squares = 0;

    for (int64_t k = 0; k < n; k++)
        squares += (double)g[k] * (double)g[k];
    return sqrt(squares);
}

/* Move a tensor along its own gradient, both ways, by a length: the sum changes by the length times
 * the gradient's. A small gradient needs a longer way to change the sum by more than its rounding. */
static void assert_slope(kdas_model *m, kdas_batch *b, const float *weight, const char *name)
{
    int64_t n;
    float  *v = values_of(m, name, &n), *g = gradient_of(m, b, weight, name, &n),
          *moved  = malloc((size_t)n * sizeof *moved);
    double length = norm_of(g, n), way_length = length < 1 ? 3e-2 : 3e-3,
           step = way_length / length, change[2];

    ck_assert_msg(length > 0, "%s has no gradient", name);
    for (int way = 0; way < 2; way++) {
        for (int64_t k = 0; k < n; k++)
            moved[k] = v[k] + (float)(way ? -step : step) * g[k];
        kd_assert_ok(kdas_model_write(m, kdas_model_find(m, name), moved));
        change[way] = value_of(m, b, weight);
    }
    kd_assert_ok(kdas_model_write(m, kdas_model_find(m, name), v));
    ck_assert_msg(fabs((change[0] - change[1]) / (2 * way_length * length) - 1) < 1e-2,
                  "%s: the slope is %g, the gradient %g", name,
                  (change[0] - change[1]) / (2 * way_length), length);
    free(v);
    free(g);
    free(moved);
}

START_TEST(gradients_are_the_slope_of_the_output)
{
    static const char *const names[] = { TABLE(""),
                                         TABLE("_4"),
                                         "conv2d.weight",
                                         "conv2d_27.bias",
                                         "conv2d_transpose_4.weight",
                                         "batch_normalization_31.weight",
                                         "backbone.post_conv.weight",
                                         "backbone.stack_5_block7_se_1_conv.weight",
                                         "backbone.stack_3_block0_MB_dw_.weight",
                                         "backbone.stack_2_block1_sortcut_conv.weight",
                                         "backbone.stem_bn.bias",
                                         "backbone.stem_conv.weight" };
    static float             weight[IMAGES * PIXELS];
    kdas_model              *m = make(ctx);
    kdas_batch              *b = draw(ctx);

    kd_test_fill(weight, IMAGES * PIXELS, "weight", 1, 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_slope(m, b, weight, names[i]);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

/* In bf16 too, a table is a parameter in f32 that becomes an activation. */
START_TEST(in_bf16_a_table_has_nearly_the_same_gradient)
{
    static float         weight[IMAGES * PIXELS];
    kdas_context_options o;
    kdas_context        *half;
    kdas_model          *m[2];
    float               *g[2];
    int64_t              n;

    if (!kd_test_can_half()) return;
    kdas_context_options_init(&o, sizeof o);
    o.precision = KDAS_PRECISION_BF16;
    kd_assert_ok(kdas_context_create(&half, &o));
    kd_test_fill(weight, IMAGES * PIXELS, "weight", 1, 0);
    for (int i = 0; i < 2; i++) {
        kdas_batch *b = draw(i ? half : ctx);

        m[i] = make(i ? half : ctx);
        g[i] = gradient_of(m[i], b, weight, TABLE("_3"), &n);
        kdas_batch_destroy(b);
    }
    for (int64_t k = 0; k < n; k++)
        g[1][k] -= g[0][k];
    ck_assert_double_lt(norm_of(g[1], n), 0.05 * norm_of(g[0], n));
    ck_assert_double_gt(norm_of(g[1], n), 0);
    for (int i = 0; i < 2; i++) {
        free(g[i]);
        kdas_model_destroy(m[i]);
    }
    kdas_context_destroy(half);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("pefnet");
    TCase   *all   = tcase_create("all");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(all, open_context, close_context);
    tcase_add_test(all, taps_have_the_strides_they_are_named_for);
    tcase_add_test(all, initial_values_are_those_of_keras);
    tcase_add_test(all, gradients_are_the_slope_of_the_output);
    tcase_add_test(all, in_bf16_a_table_has_nearly_the_same_gradient);
    suite_add_tcase(suite, all);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
