/* check_quantized_training.c - training of models on 8-bit grids: gradients against those of the same network written out,
 * ranges, and the ways of both through accumulation, marks, averages and devices. check_quantized_run.c has runs and files. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/grid.h"
#include "model/model.h"
#include "nn/nn.h"
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/train_util.h"

/* ---- a network of two layers: a 3x3 convolution, a ReLU and a linear layer ---- */

enum { SIDE = 32, AREA = SIDE * SIDE, COLOURS = 3, HIDDEN = 4, TAPS = 9 };

static void build_two_layers(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *x = kd_conv_layer(g, "a", image, HIDDEN, 3, 1, 1, true, KD_STYLE_TORCH);

    (void)variant;
    (void)drop_path;
    kd_output(g, "P1", kd_conv_layer(g, "b", kd_relu(g, x), 1, 1, 1, 0, true, KD_STYLE_TORCH));
}

static const kd_model_def two_layers = { .name  = "two_layers",
                                         .rules = &kd_rules_common,
                                         .build = build_two_layers };

static kdas_model_options on_grids(float momentum)
{
    kdas_model_options o;

    kdas_model_options_init(&o, sizeof o);
    o.quantize       = KDAS_QUANTIZE_INT8;
    o.wide           = "";
    o.range_momentum = momentum;
    return o;
}

static kdas_model *make_two_layers(kdas_context *ctx, float momentum)
{
    kdas_model_options o = on_grids(momentum);
    kdas_model        *m;

    kd_assert_ok(kd_model_create(&m, ctx, &two_layers, &o));
    return m;
}

static void read_tensor(const kdas_model *m, const char *name, float *to)
{
    kd_assert_ok(kdas_model_read(m, kdas_model_find(m, name), to));
}

static void write_tensor(kdas_model *m, const char *name, const float *from)
{
    kd_assert_ok(kdas_model_write(m, kdas_model_find(m, name), from));
}

static void assert_range(const kdas_model *m, const char *name, float low, float high)
{
    float range[2];

    read_tensor(m, name, range);
    ck_assert_float_eq_tol(range[0], low, 1e-6f);
    ck_assert_float_eq_tol(range[1], high, 1e-6f);
}

/* ---- the same network, written out ---- */

typedef struct by_hand {
    float x[AREA * COLOURS], w[HIDDEN * COLOURS * TAPS], b[HIDDEN]; /* as they are computed with */
    float range[2], v[HIDDEN], c;
    float hidden[AREA * HIDDEN], rounded[AREA * HIDDEN], y[AREA];
    float dw[HIDDEN * COLOURS * TAPS], db[HIDDEN], dv[HIDDEN], dc;
} by_hand;

/* x at a tap of a pixel; 0 in the padding. */
static float at_tap(const by_hand *n, int pixel, int tap, int colour)
{
    int row = pixel / SIDE + tap / 3 - 1, column = pixel % SIDE + tap % 3 - 1;

    if (row < 0 || row >= SIDE || column < 0 || column >= SIDE) return 0;
    return n->x[(row * SIDE + column) * COLOURS + colour];
}

static void forward_by_hand(by_hand *n)
{
    kd_grid g = kd_grid_of(n->range);

    for (int p = 0; p < AREA; p++) {
        double y = n->c;

        for (int o = 0; o < HIDDEN; o++) {
            double sum = n->b[o];

            for (int i = 0; i < COLOURS; i++)
                for (int t = 0; t < TAPS; t++)
                    sum += (double)n->w[(o * COLOURS + i) * TAPS + t] * at_tap(n, p, t, i);
            n->hidden[p * HIDDEN + o]  = (float)sum;
            n->rounded[p * HIDDEN + o] = kd_grid_round(&g, fmaxf((float)sum, 0));
            y += (double)n->v[o] * n->rounded[p * HIDDEN + o];
        }
        n->y[p] = (float)y;
    }
}

/* Straight through: the roundings have the slope 1, that of activations inside its range alone. */
static void backward_by_hand(by_hand *n, const float *dy)
{
    kd_grid g = kd_grid_of(n->range);

    for (int p = 0; p < AREA; p++) {
        n->dc += dy[p];
        for (int o = 0; o < HIDDEN; o++) {
            float h = n->hidden[p * HIDDEN + o], d = dy[p] * n->v[o];

            n->dv[o] += dy[p] * n->rounded[p * HIDDEN + o];
            if (h <= 0 || !kd_grid_holds(&g, h)) continue;
            n->db[o] += d;
            for (int i = 0; i < COLOURS; i++)
                for (int t = 0; t < TAPS; t++)
                    n->dw[(o * COLOURS + i) * TAPS + t] += d * at_tap(n, p, t, i);
        }
    }
}

/* The model's parameters and the batch's images, rounded unless `wide`. */
static by_hand *take(const kdas_model *m, kdas_batch *batch, bool wide)
{
    by_hand *n = calloc(1, sizeof *n);
    float    range[2];
    kd_grid  g;

    read_tensor(m, "a.weight", n->w);
    read_tensor(m, "a.bias", n->b);
    read_tensor(m, "b.weight", n->v);
    read_tensor(m, "b.bias", &n->c);
    memcpy(n->x, kdas_batch_images(batch), sizeof n->x);
    if (wide) return n;
    read_tensor(m, "b.input_range", n->range);
    read_tensor(m, "a.input_range", range);
    g = kd_grid_of(range);
    for (int i = 0; i < AREA * COLOURS; i++)
        n->x[i] = kd_grid_round(&g, n->x[i]);
    for (int o = 0; o < HIDDEN; o++)
        kd_weights_round(n->w + o * COLOURS * TAPS, COLOURS * TAPS);
    kd_weights_round(n->v, HIDDEN);
    return n;
}

static void read_gradient(const kdas_model *m, const char *name, float *to)
{
    kd_assert_ok(kdas_model_read_gradient(m, kdas_model_find(m, name), to));
}

/* The largest error of the four gradients. */
static double gradient_error(const kdas_model *m, const by_hand *n)
{
    float  dw[HIDDEN * COLOURS * TAPS], db[HIDDEN], dv[HIDDEN], dc;
    double error;

    read_gradient(m, "a.weight", dw);
    read_gradient(m, "a.bias", db);
    read_gradient(m, "b.weight", dv);
    read_gradient(m, "b.bias", &dc);
    error = kd_test_rms_error(dw, n->dw, HIDDEN * COLOURS * TAPS);
    error = fmax(error, kd_test_rms_error(db, n->db, HIDDEN));
    error = fmax(error, kd_test_rms_error(dv, n->dv, HIDDEN));
    return fmax(error, fabs((double)(dc - n->dc)) / fabs((double)n->dc));
}

/* Ranges so wide that grids are coarse, one of them too narrow for its values, and a weight so large that the others of
 * its channel have few numbers left: without the roundings all would be otherwise. */
START_TEST(gradients_go_straight_through_the_roundings)
{
    static const float image[2] = { -16, 15.875f }, hidden[2] = { 0, 0.75f };
    kdas_context      *ctx   = kd_test_device("cpu", NULL);
    kdas_model        *m     = make_two_layers(ctx, 0);
    kdas_batch        *batch = kd_test_batch(ctx, 1, SIDE, 3);
    float              w[HIDDEN * COLOURS * TAPS], y[AREA], dy[AREA];
    const float       *gradients[] = { dy };
    by_hand           *want, *wide;

    read_tensor(m, "a.weight", w);
    w[5] = 4;
    write_tensor(m, "a.weight", w);
    write_tensor(m, "a.input_range", image);
    write_tensor(m, "b.input_range", hidden);
    kd_test_fill(dy, AREA, "dy", 1, 0.2);
    kd_assert_ok(kdas_model_forward(m, _i ? KDAS_MODE_TRAIN : KDAS_MODE_EVAL, batch));
    kd_assert_ok(kdas_model_read_output(m, "P1", y));
    kd_assert_ok(kdas_model_zero_gradients(m));
    kd_assert_ok(kdas_model_backward(m, gradients));
    want = take(m, batch, false);
    wide = take(m, batch, true);
    forward_by_hand(want);
    forward_by_hand(wide);
    backward_by_hand(want, dy);
    backward_by_hand(wide, dy);
    kd_assert_close(y, want->y, AREA, 1e-5);
    ck_assert_double_gt(kd_test_rms_error(y, wide->y, AREA), 0.05);
    ck_assert_double_lt(gradient_error(m, want), 1e-5);
    ck_assert_double_gt(gradient_error(m, wide), 0.05);
    free(want);
    free(wide);
    kdas_batch_destroy(batch);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- ranges ---- */

static void extremes(kdas_batch *batch, float *low, float *high)
{
    const float *x = kdas_batch_images(batch);

    *low = *high = x[0];
    for (int64_t i = 0; i < kdas_batch_count(batch) * AREA * COLOURS; i++) {
        *low  = fminf(*low, x[i]);
        *high = fmaxf(*high, x[i]);
    }
}

/* Forward a batch whose images are scaled. */
static void run_scaled(kdas_model *m, kdas_mode mode, int t, float by, float *low, float *high)
{
    kdas_batch *batch = kd_test_batch(kdas_model_context(m), 2, SIDE, t);

    for (int64_t i = 0; i < 2 * AREA * COLOURS; i++)
        kdas_batch_images(batch)[i] *= by;
    extremes(batch, low, high);
    kd_assert_ok(kdas_model_forward(m, mode, batch));
    kdas_batch_destroy(batch);
}

START_TEST(a_range_is_that_of_the_first_batch_and_then_their_moving_average)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *m   = make_two_layers(ctx, 0.25f);
    float         low[3], high[3], l, h;
    int32_t       all, empty;

    kd_assert_ok(kdas_model_count_ranges(m, &all, &empty));
    ck_assert(all == 2 && empty == 2);
    run_scaled(m, KDAS_MODE_TRAIN, 1, 1, &low[0], &high[0]);
    assert_range(m, "a.input_range", low[0], high[0]);
    kd_assert_ok(kdas_model_count_ranges(m, &all, &empty));
    ck_assert(all == 2 && empty == 0);
    run_scaled(m, KDAS_MODE_TRAIN, 2, 3, &low[1], &high[1]);
    l = 0.75f * low[0] + 0.25f * low[1];
    h = 0.75f * high[0] + 0.25f * high[1];
    assert_range(m, "a.input_range", l, h);
    run_scaled(m, KDAS_MODE_EVAL, 3, 9, &low[2], &high[2]); /* what is no training moves nothing */
    run_scaled(m, KDAS_MODE_INFER, 3, 9, &low[2], &high[2]);
    assert_range(m, "a.input_range", l, h);
    kd_assert_ok(kdas_model_hold_ranges(m, 1));
    ck_assert_int_eq(kdas_model_ranges_held(m), 1);
    run_scaled(m, KDAS_MODE_TRAIN, 3, 9, &low[2], &high[2]);
    assert_range(m, "a.input_range", l, h);
    kd_assert_ok(kdas_model_hold_ranges(m, 0));
    run_scaled(m, KDAS_MODE_TRAIN, 3, 9, &low[2], &high[2]);
    assert_range(m, "a.input_range", 0.75f * l + 0.25f * low[2], 0.75f * h + 0.25f * high[2]);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(a_rollback_takes_ranges_back)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *m   = make_two_layers(ctx, 0.5f);
    float         low, high, l, h, before[2], after[2];

    run_scaled(m, KDAS_MODE_TRAIN, 1, 1, &low, &high);
    read_tensor(m, "b.input_range", before);
    kd_assert_ok(kdas_model_mark(m));
    run_scaled(m, KDAS_MODE_TRAIN, 2, 5, &l, &h);
    read_tensor(m, "b.input_range", after);
    ck_assert(after[1] > before[1]);
    kd_assert_ok(kdas_model_rollback(m));
    assert_range(m, "a.input_range", low, high);
    assert_range(m, "b.input_range", before[0], before[1]);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- what is refused ---- */

START_TEST(what_has_no_layer_on_a_grid_is_refused)
{
    kdas_context      *ctx = kd_test_device("cpu", NULL);
    kdas_model_options o   = on_grids(0.1f);
    kdas_model        *m   = NULL;

    o.wide = "a b";
    kd_assert_status(kd_model_create(&m, ctx, &two_layers, &o), KDAS_EINVAL);
    kd_assert_sentence("'two_layers' has no layer that could be on a grid but for a b");
    o.wide = " b ";
    kd_assert_ok(kd_model_create(&m, ctx, &two_layers, &o));
    kdas_model_destroy(m);
    o.wide           = NULL;
    o.range_momentum = 1.5f;
    kd_assert_status(kd_model_create(&m, ctx, &two_layers, &o), KDAS_EINVAL);
    kd_assert_sentence("range_momentum is 1.5");
    kd_assert_status(kdas_model_hold_ranges(NULL, 1), KDAS_EINVAL);
    kd_assert_status(kdas_model_count_ranges(NULL, NULL, NULL), KDAS_EINVAL);
    ck_assert_int_eq(kdas_model_ranges_held(NULL), 0);
    kdas_context_destroy(ctx);
}
END_TEST

static kd_test_rig_options lite_on_grids(void)
{
    kd_test_rig_options o = kd_test_alone();

    o.student        = "lite_fpn0";
    o.model.quantize = KDAS_QUANTIZE_INT8;
    return o;
}

/* ---- steps ---- */

START_TEST(a_nan_in_rounded_weights_is_not_hidden)
{
    kd_test_rig_options o = lite_on_grids();
    kdas_step_report    r = { .size = sizeof r };
    kd_test_rig         rig;
    kdas_batch         *batch;
    const char         *name = "backbone._blocks.0._depthwise_conv.weight";
    float              *w;

    kd_test_rig_make(&rig, &o);
    batch = kd_test_batch(rig.ctx, 2, SIDE, 1);
    w     = malloc(32 * 9 * sizeof *w);
    read_tensor(rig.student, name, w);
    w[17] = NAN;
    write_tensor(rig.student, name, w);
    kd_assert_status(kdas_distiller_step(rig.distiller, batch, &r), KDAS_ENUMERIC);
    free(w);
    kdas_batch_destroy(batch);
    kd_test_rig_finish(&rig);
}
END_TEST

/* The same images twice move ranges to where they are, but for roundings, which move few values to the next step. */
START_TEST(gathered_micro_batches_make_the_update_of_one)
{
    kd_test_rig_options o = kd_test_alone(); /* batch norms of two pixels would make noise of it */
    kd_test_rig         one, two;
    size_t              n, m;
    float              *before, *a, *b;

    o.model.quantize  = KDAS_QUANTIZE_INT8;
    o.model.drop_path = 0;
    o.optim.rule      = "sgd"; /* Adam would divide noise by itself */
    kd_test_rig_make(&one, &o);
    o.distiller.accumulate = 2;
    kd_test_rig_make(&two, &o);
    before = kd_test_weights(one.student, &n);
    kd_test_rig_step(&one, 1);
    kd_test_rig_step(&two, 1);
    kd_test_rig_step(&two, 1);
    ck_assert_int_eq(kdas_optim_updates(two.optim), 1);
    a = kd_test_weights(one.student, &n);
    b = kd_test_weights(two.student, &m);
    ck_assert_uint_eq(n, m);
    for (int32_t t = 0, at = 0; t < kdas_model_tensors(one.student); t++) {
        int64_t     d[4], count;
        int32_t     trainable;
        const char *name = kdas_model_tensor(one.student, t, NULL, d, &trainable);
        double      error;

        count = d[0] * d[1] * d[2] * d[3];
        for (int64_t i = 0; trainable && i < count; i++) {
            a[at + i] -= before[at + i];
            b[at + i] -= before[at + i];
        }
        error = kd_test_rms_error(b + at, a + at, count);
        if (strstr(name, "input_range")) ck_assert_msg(error < 1e-3, "%s: %g", name, error);
        if (trainable && count > 256) ck_assert_msg(error < 0.05, "%s: %g", name, error);
        at += (int32_t)count;
    }
    free(before);
    free(a);
    free(b);
    kd_test_rig_finish(&one);
    kd_test_rig_finish(&two);
}
END_TEST

START_TEST(steps_in_bf16_are_near_those_in_f32)
{
    kd_test_rig_options o = lite_on_grids();
    kd_test_rig         f32, bf16;
    float               a[2], b[2];

    if (!kd_test_can_half()) return;
    kd_test_rig_make(&f32, &o);
    o.precision = KDAS_PRECISION_BF16;
    kd_test_rig_make(&bf16, &o);
    for (int t = 1; t <= 3; t++) {
        double want = kd_test_rig_step(&f32, t), got = kd_test_rig_step(&bf16, t);

        ck_assert_msg(fabs(got - want) < 0.05 * want, "step %d: %g, not %g", t, got, want);
    }
    read_tensor(f32.student, "backbone._blocks.2._project_conv.input_range", a);
    read_tensor(bf16.student, "backbone._blocks.2._project_conv.input_range", b);
    ck_assert_float_gt(a[1], 0.1f);
    ck_assert_float_eq_tol(a[1], b[1], 0.1f * a[1]);
    kd_test_rig_finish(&f32);
    kd_test_rig_finish(&bf16);
}
END_TEST

/* Memory that the host cannot read: weights are rounded on the way. */
START_TEST(a_device_apart_gives_the_same_bits)
{
    kd_test_rig_options o = lite_on_grids();
    kd_test_rig         near, far;

    kd_test_rig_make(&near, &o);
    o.device = "far";
    kd_test_rig_make(&far, &o);
    for (int t = 1; t <= 2; t++)
        ck_assert(kd_test_rig_step(&near, t) == kd_test_rig_step(&far, t));
    kd_test_assert_same_weights(near.student, far.student);
    kd_test_rig_finish(&near);
    kd_test_rig_finish(&far);
}
END_TEST

START_TEST(a_student_on_grids_learns)
{
    kd_test_rig_options o = lite_on_grids();
    kd_test_rig         rig;
    double              first, last = 0;

    kd_test_rig_make(&rig, &o);
    first = kd_test_rig_step(&rig, 1);
    for (int i = 0; i < 15; i++)
        last = kd_test_rig_step(&rig, 1);
    ck_assert_msg(last < 0.8 * first, "from %g to %g", first, last);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- average ---- */

/* Ranges are averaged like statistics: after the first update they are the student's. */
START_TEST(an_average_has_ranges_too)
{
    kd_test_rig_options o    = lite_on_grids();
    const char         *name = "backbone._blocks.2._project_conv.input_range";
    kd_test_rig         rig;
    kdas_model         *grids, *plain;
    kdas_model_options  frozen;
    float               first[2], second[2], got[2];

    o.distiller.ema = 0.9f;
    kd_test_rig_make(&rig, &o);
    kdas_model_options_init(&frozen, sizeof frozen);
    frozen.trainable = 0;
    kd_assert_ok(kdas_model_create(&plain, rig.ctx, o.student, &frozen));
    frozen.quantize = KDAS_QUANTIZE_INT8;
    kd_assert_ok(kdas_model_create(&grids, rig.ctx, o.student, &frozen));
    kd_test_rig_step(&rig, 1);
    read_tensor(rig.student, name, first);
    kd_test_rig_step(&rig, 2);
    read_tensor(rig.student, name, second);
    ck_assert(first[1] != second[1]);
    kd_assert_ok(kdas_distiller_read_average(rig.distiller, grids));
    read_tensor(grids, name, got);
    for (int i = 0; i < 2; i++) /* update 2: 1 - min(0.9, 3 / 12) of the way */
        ck_assert_float_eq_tol(got[i], 0.25f * first[i] + 0.75f * second[i], 1e-5f);
    kd_assert_ok(kdas_distiller_read_average(rig.distiller, plain));
    {
        float a[32], b[32];

        read_tensor(grids, "backbone._bn0.weight", a);
        read_tensor(plain, "backbone._bn0.weight", b);
        ck_assert(kd_test_same_bits(a, b, sizeof a));
    }
    kdas_model_destroy(grids);
    kdas_model_destroy(plain);
    kd_test_rig_finish(&rig);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("quantized training");
    TCase   *math   = tcase_create("gradients and ranges");
    TCase   *steps  = tcase_create("steps");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_loop_test(math, gradients_go_straight_through_the_roundings, 0, 2);
    tcase_add_test(math, a_range_is_that_of_the_first_batch_and_then_their_moving_average);
    tcase_add_test(math, a_rollback_takes_ranges_back);
    tcase_add_test(math, what_has_no_layer_on_a_grid_is_refused);
    tcase_set_timeout(steps, 120);
    tcase_add_test(steps, a_nan_in_rounded_weights_is_not_hidden);
    tcase_add_test(steps, gathered_micro_batches_make_the_update_of_one);
    tcase_add_test(steps, steps_in_bf16_are_near_those_in_f32);
    tcase_add_test(steps, a_device_apart_gives_the_same_bits);
    tcase_add_test(steps, a_student_on_grids_learns);
    tcase_add_test(steps, an_average_has_ranges_too);
    suite_add_tcase(suite, math);
    suite_add_tcase(suite, steps);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
