/* check_ops.c - the ops' definitions, on the reference kernels: gradients against finite
 * differences, values against closed forms, and what kernels promise. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/op_run.h"

/* ---- Every op has a record, a reference and rows in the table ---- */

static const struct {
    int32_t     number;
    const char *name;
    bool        update;
} listed[] = {
#define OP(number, NAME, name)     { number, #name, false },
#define UPDATE(number, NAME, name) { number, #name, true },
#include <kdas/ops.def>
#undef OP
#undef UPDATE
};

START_TEST(every_op_has_a_record_and_a_case)
{
    int cases = 0;

    for (size_t i = 0; i < KD_COUNT(listed); i++) {
        const kd_op       *op   = kd_op_find(listed[i].number);
        const kdas_kernel *ref  = kd_op_reference(listed[i].number);
        int                rows = 0;

        ck_assert_str_eq(kd_op_name(listed[i].number), listed[i].name);
        ck_assert_msg(ref && ref->op == listed[i].number && ref->forward, "%s has no reference",
                      listed[i].name);
        ck_assert_int_eq(op == NULL, listed[i].update);
        if (op) ck_assert_str_eq(op->name, listed[i].name);
        for (int k = 0; k < kd_op_case_count; k++)
            rows += kd_op_cases[k].op == listed[i].number;
        ck_assert_msg(rows > 0, "%s has no row in op_cases.c", listed[i].name);
        cases += rows;
    }
    ck_assert_int_eq(cases, kd_op_case_count);
    ck_assert_ptr_null(kd_op_find(0));
    ck_assert_ptr_null(kd_update_find(KDAS_OP_CONV2D));
    ck_assert_str_eq(kd_op_name(12345), "?");
}
END_TEST

START_TEST(case_names_are_unique) /* values are drawn from them */
{
    for (int i = 0; i < kd_op_case_count; i++)
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(kd_op_cases[i].name, kd_op_cases[j].name);
}
END_TEST

/* ---- Gradients ---- */

/* The projection of out on dout: what finite differences differentiate. */
static double projection(kd_op_run *run)
{
    const float *out = run->out;
    double       sum = 0;

    kd_assert_ok(kd_op_forward(run));
    for (int64_t i = 0; i < kd_elements(&run->node.out); i++)
        sum += (double)out[i] * run->dout[i];
    return sum;
}

/* Slope of the projection between kept - step and kept + step, as they were rounded. */
static double slope(kd_op_run *run, float *x, float step)
{
    float  kept = *x, high = kept + step, low = kept - step;
    double up, down;

    *x   = high;
    up   = projection(run);
    *x   = low;
    down = projection(run);
    *x   = kept;
    return (up - down) / ((double)high - low);
}

/* Central differences, extrapolated to fourth order: the error falls with step^4, so that the
 * step can be wide enough for the rounding of f32 outputs. */
static double difference(kd_op_run *run, int input, int64_t i, float step)
{
    float *x = &run->in[input][i];

    return (4 * slope(run, x, step) - slope(run, x, 2 * step)) / 3;
}

static void check_gradient(kd_op_run *run, int input)
{
    const kd_op_case *c       = run->test;
    int64_t           n       = kd_elements(&run->node.in[input]);
    int64_t           samples = KD_MIN(n, c->large ? 6 : 20);
    double            largest = 0, tolerance = c->fd_tolerance > 0 ? c->fd_tolerance : 2e-4;
    float             step = c->step > 0 ? c->step : 0.03f;
    float            *want = malloc((size_t)n * sizeof *want);

    memcpy(want, run->din[input], (size_t)n * sizeof *want);
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t s = 0; s < samples; s++) {
        int64_t i =
            samples == n ? s : (int64_t)((kd_test_unit(c->name, s) * 0.5 + 0.5) * (double)n);
        double got = difference(run, input, i, step);

        ck_assert_msg(fabs(got - want[i]) <= tolerance * largest + 1e-9,
                      "%s: gradient %lld of input %d is %.7g, but differences give %.7g "
                      "(the largest is %.3g, error %.2g)",
                      c->name, (long long)i, input, want[i], got, largest,
                      fabs(got - want[i]) / largest);
    }
    free(want);
}

START_TEST(gradient_matches_finite_difference)
{
    const kd_op_case   *c       = &kd_op_cases[_i];
    const kd_op_options options = { .seed = 77 };
    kd_op_run           run;

    if (c->step < 0 || !c->wants) return; /* the table says why: no gradient, or kinks */
    kd_assert_ok(kd_op_run_case(&run, c, NULL, NULL, &options));
    for (int i = 0; i < run.node.inputs; i++)
        if (run.din[i] && !(c->twin && i == 1)) check_gradient(&run, i);
    kd_op_close(&run);
}
END_TEST

/* ---- What kernels promise ---- */

/* The runner itself fails on reads of what may not be read (they come out as NaN) and on stray
 * writes. */
START_TEST(reference_keeps_its_promises)
{
    const kd_op_case   *c       = &kd_op_cases[_i];
    const kd_op_options inplace = { .inplace = true, .seed = 5 },
                        forward = { .forward_only = true, .seed = 5 };
    const kd_op_options plain   = { .seed = 5 };
    kd_op_run           a, b;
    char                why[300];

    kd_assert_ok(kd_op_run_case(&a, c, NULL, NULL, &plain));
    if (a.node.out.dtype == KDAS_F32)
        for (int64_t i = 0; a.call.out && i < kd_elements(&a.node.out); i++)
            ck_assert_msg(isfinite(((float *)a.out)[i]), "%s: out[%lld] is not finite", c->name,
                          (long long)i);
    for (int k = 0; k < KDAS_MAX_INPUTS; k++)
        for (int64_t i = 0; a.din[k] && i < kd_elements(&a.node.in[k]); i++)
            ck_assert_msg(isfinite(a.din[k][i]), "%s: gradient %lld of input %d is not finite",
                          c->name, (long long)i, k);
    kd_assert_ok(kd_op_run_case(&b, c, NULL, NULL, &inplace));
    ck_assert_msg(kd_op_same(&b, &a, -1, why, sizeof why), "%s in place: %s", c->name, why);
    kd_op_close(&b);
    kd_assert_ok(kd_op_run_case(&b, c, NULL, NULL, &forward));
    ck_assert(a.node.out.dtype == KDAS_F64 ||
              kd_test_same_bits(a.out, b.out, kd_op_bytes(&a.node.out)));
    kd_op_close(&b);
    kd_op_close(&a);
}
END_TEST

START_TEST(backward_adds_to_what_is_there)
{
    const kd_op_case   *c     = &kd_op_cases[_i];
    const kd_op_options plain = { .seed = 5 }, add = { .add = true, .seed = 5 };
    kd_op_run           a, b;
    char                name[200];

    if (!c->wants) return;
    kd_assert_ok(kd_op_run_case(&a, c, NULL, NULL, &plain));
    kd_assert_ok(kd_op_run_case(&b, c, NULL, NULL, &add));
    for (int k = 0; k < a.node.inputs; k++) {
        int64_t n = kd_elements(&a.node.in[k]);

        if (!a.din[k]) continue;
        snprintf(name, sizeof name, "%s.base%d", c->name, c->twin && k == 1 ? 0 : k);
        for (int64_t i = 0; i < n; i++)
            a.din[k][i] += (float)kd_test_unit(name, (uint64_t)i);
        kd_assert_close(b.din[k], a.din[k], n, 2e-6);
    }
    kd_op_close(&a);
    kd_op_close(&b);
}
END_TEST

/* ---- Closed forms ---- */

typedef struct closed_form {
    kd_op_case   test;
    const float *in[6];
    const float *out;
} closed_form;

/* Tables, read by rows. */
/* clang-format off */
#define D(...)            { .desc = { KDAS_F32, 4, { __VA_ARGS__ } } }
#define V(...)            (const float[]){ __VA_ARGS__ }
#define ATTR(member, ...) .attr.member = { __VA_ARGS__ }
#define CONV_ATTR(s, before, after) ATTR(conv, s, { before, before }, { after, after }, 1, 1)
#define FORM(NAME, text, attr_, shapes, values, result, ...) \
    { .test = { .name = text, .op = KDAS_OP_##NAME, .in = { OPEN shapes }, attr_, __VA_ARGS__ }, \
      .in = { OPEN values }, .out = result }
#define OPEN(...)         __VA_ARGS__
#define NONE              .attr.kl = { 1 }

static const float ones[12] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };

static const closed_form closed_forms[] = {
    FORM(CONV2D, "conv of ones counts what is inside", CONV_ATTR(1, 1, 1),
         (D(1, 3, 4, 1), D(1, 1, 3, 3), D(1, 1, 1, 1)), (ones, ones, V(10)),
         V(14, 16, 16, 14, 16, 19, 19, 16, 14, 16, 16, 14)),
    FORM(CONV2D, "conv correlates, does not flip", CONV_ATTR(1, 0, 0), (D(1, 2, 2, 1), D(1, 1, 2, 2)),
         (V(1, 2, 3, 4), V(1, 10, 100, 1000)), V(4321)),
    FORM(CONV2D, "conv weights are (O,C,kh,kw)", CONV_ATTR(2, 0, 0), (D(1, 1, 3, 2), D(2, 2, 1, 2)),
         (V(1, 2, 3, 4, 5, 6), V(1, 0, 0, 0, 0, 0, 0, 1)), V(1, 4)),
    FORM(CONV2D, "conv pads before and after by themselves", CONV_ATTR(2, 0, 1),
         (D(1, 2, 4, 1), D(1, 1, 3, 3)), (ones, ones), V(6, 4)),
    FORM(CONV2D, "conv, each group by itself", ATTR(conv, 1, { 0 }, { 0 }, 1, 2),
         (D(1, 1, 1, 4), D(2, 2, 1, 1)), (V(1, 2, 3, 4), V(1, 10, 100, 1000)), V(21, 4300)),
    FORM(CONV2D, "conv, taps two apart", ATTR(conv, 1, { 0 }, { 0 }, 2, 1),
         (D(1, 1, 5, 1), D(1, 1, 1, 3)), (V(1, 2, 3, 4, 5), V(1, 10, 100)), V(531)),
    FORM(CONV2D, "conv pads columns alone", ATTR(conv, 1, { 0, 1 }, { 0, 1 }, 1, 1),
         (D(1, 2, 2, 1), D(1, 1, 1, 3)), (V(1, 2, 3, 4), V(1, 10, 100)), V(210, 21, 430, 43)),
    FORM(CONV2D, "conv pads rows alone, and the end alone", ATTR(conv, 1, { 0, 0 }, { 1, 0 }, 1, 1),
         (D(1, 2, 2, 1), D(1, 1, 2, 1)), (V(1, 2, 3, 4), V(1, 10)), V(31, 42, 3, 4)),
    FORM(DECONV2D, "deconv puts its filter at each pixel", CONV_ATTR(2, 0, 0),
         (D(1, 1, 2, 1), D(1, 1, 2, 2)), (V(1, 2), V(1, 10, 100, 1000)),
         V(1, 10, 2, 20, 100, 1000, 200, 2000)),
    FORM(DECONV2D, "deconv weights are (C,O,kh,kw)", CONV_ATTR(1, 0, 0),
         (D(1, 1, 1, 2), D(2, 3, 1, 1), D(3, 1, 1, 1)),
         (V(1, 2), V(1, 10, 100, 1000, 10000, 100000), V(5, 6, 7)), V(2006, 20016, 200107)),
    FORM(DECONV2D, "deconv adds where filters overlap, and cuts the padding off",
         ATTR(conv, 2, { 0, 1 }, { 0, 1 }, 1, 1), (D(1, 1, 2, 1), D(1, 1, 1, 4)),
         (V(1, 2), V(1, 10, 100, 1000)), V(10, 102, 1020, 200)),
    FORM(DWCONV2D, "dwconv keeps channels apart", CONV_ATTR(1, 0, 0),
         (D(1, 1, 2, 2), D(2, 1, 1, 2), D(2, 1, 1, 1)),
         (V(1, 2, 3, 4), V(1, 10, 100, 1000), V(5, 6)), V(36, 4206)),
    FORM(LINEAR, "linear", NONE, (D(1, 1, 2, 2), D(2, 2, 1, 1), D(2, 1, 1, 1)),
         (V(1, 2, 3, 4), V(1, 10, 100, 1000), V(0.5f, -0.5f)), V(21.5f, 2099.5f, 43.5f, 4299.5f)),
    FORM(LAYER_NORM, "layer_norm of 1 3", ATTR(norm, 1e-12f, 0),
         (D(1, 1, 1, 2), D(2, 1, 1, 1), D(2, 1, 1, 1)), (V(1, 3), V(2, 3), V(10, 20)), V(8, 23)),
    FORM(BATCH_NORM, "batch_norm train moves the running ones", ATTR(norm, 1e-12f, 0.25f),
         (D(1, 1, 2, 1), D(1, 1, 1, 1), D(1, 1, 1, 1), D(1, 1, 1, 1), D(1, 1, 1, 1)),
         (V(1, 3), V(2), V(10), V(4), V(8)), V(8, 12), .flags = KDAS_NODE_TRAIN),
    FORM(BATCH_NORM, "batch_norm eval", ATTR(norm, 0.25f, 0.5f),
         (D(1, 1, 2, 1), D(1, 1, 1, 1), D(1, 1, 1, 1), D(1, 1, 1, 1), D(1, 1, 1, 1)),
         (V(1, 3), V(4), V(10), V(1), V(3.75f)), V(10, 14)),
    FORM(MOMENTS, "moments: means, biased variances, how many", NONE, (D(2, 1, 2, 2)),
         (V(1, 5, 2, 5, 3, 5, 6, 5)), V(3, 5, 3.5f, 0, 4)),
    FORM(EXCHANGE, "exchange of a process alone", NONE, (D(1, 1, 1, 3)), (V(3, 2, 8)), V(3, 2, 8)),
    FORM(APPLY_MOMENTS, "apply_moments moves the running ones, unbiased", ATTR(norm, 0.25f, 0.25f),
         (D(1, 1, 2, 1), D(1, 1, 1, 3), D(1, 1, 1, 1), D(1, 1, 1, 1), D(1, 1, 1, 1), D(1, 1, 1, 1)),
         (V(1, 3), V(2, 3.75f, 4), V(4), V(10), V(4), V(8)), V(8, 12), .flags = KDAS_NODE_TRAIN),
    FORM(STANDARDIZE, "standardize: unbiased, eps beside the deviation", ATTR(standardize, 1),
         (D(1, 1, 3, 2)), (V(1, 5, 2, 5, 3, 5)), V(-0.5f, 0, 0, 0, 0.5f, 0)),
    FORM(GELU, "gelu", NONE, (D(1, 1, 1, 5)), (V(-1, 0, 1, 2, 40)),
         V(-0.15865525f, 0, 0.84134475f, 1.95449974f, 40)),
    FORM(RELU, "relu form", NONE, (D(1, 1, 1, 3)), (V(-2, 0, 3)), V(0, 0, 3)),
    FORM(RELU6, "relu6 form", NONE, (D(1, 1, 1, 5)), (V(-2, 0, 3, 6, 7)), V(0, 0, 3, 6, 6)),
    FORM(SIGMOID, "sigmoid form", NONE, (D(1, 1, 1, 5)), (V(0, 1, -1, 1000, -1000)),
         V(0.5f, 0.73105858f, 0.26894142f, 1, 0)),
    FORM(ABS, "abs form", NONE, (D(1, 1, 1, 3)), (V(-2, 0, 3)), V(2, 0, 3)),
    FORM(SILU, "silu form", NONE, (D(1, 1, 1, 5)), (V(0, 1, -1, 1000, -1000)),
         V(0, 0.73105858f, -0.26894142f, 1000, 0)),
    FORM(LEAKY_RELU, "leaky_relu form", ATTR(leaky, 0.25f), (D(1, 1, 1, 3)), (V(-2, 0, 3)),
         V(-0.5f, 0, 3)),
    FORM(ELU, "elu form", ATTR(leaky, 2), (D(1, 1, 1, 4)), (V(-1, 0, 3, -1000)),
         V(-1.26424112f, 0, 3, -2)),
    FORM(DROPOUT, "dropout outside of training", ATTR(drop, 0.75f), (D(1, 1, 1, 3)), (V(1, 2, 3)),
         V(1, 2, 3)),
    FORM(RECOLOUR, "recolour form", ATTR(recolour, { 2, 0, 0 }, { 10, 2, 1 }, { 1, 0, -1 }),
         (D(1, 1, 2, 3)), (V(1, 2, 3, 4, 5, 6)), V(31, 2, 0, 61, 8, 3)),
    FORM(QUANTIZE, "quantize: 64 values for 1, ties to even", ATTR(quantize, 0.5f),
         (D(1, 1, 2, 4), D(2, 1, 1, 1)),
         (V(-1.5f, -1, -0.75f / 64, -0.5f / 64, 0, 1.5f / 64, 2.5f / 64, 5), V(-1, 191 / 64.0f)),
         V(-1, -1, -1 / 64.0f, 0, 0, 2 / 64.0f, 2 / 64.0f, 191 / 64.0f)),
    FORM(QUANTIZE, "quantize: the range grows to hold 0", ATTR(quantize, 0.5f),
         (D(1, 1, 1, 4), D(2, 1, 1, 1)), (V(-3, 0.4f / 51, 3.6f / 51, 6), V(2, 5)),
         V(0, 0, 4 / 51.0f, 5)),
    FORM(QUANTIZE, "quantize: an empty range rounds nothing", ATTR(quantize, 0.5f),
         (D(1, 1, 1, 3), D(2, 1, 1, 1)), (V(-0.123f, 0, 77.7f), V(0, 0)), V(-0.123f, 0, 77.7f)),
    FORM(QUANTIZE, "quantize train moves the range first", ATTR(quantize, 0.25f),
         (D(1, 1, 1, 4), D(2, 1, 1, 1)), (V(-4, 8, 1, 4), V(0, 4)),
         V(-42 * 6 / 255.0f, 213 * 6 / 255.0f, 42 * 6 / 255.0f, 4), .flags = KDAS_NODE_TRAIN),
    FORM(SUB, "sub a row", NONE, (D(1, 1, 2, 2), D(1, 1, 1, 2)), (V(1, 2, 3, 4), V(10, 20)),
         V(-9, -18, -7, -16)),
    FORM(MUL, "mul pixels", NONE, (D(1, 1, 2, 2), D(1, 1, 2, 1)), (V(1, 2, 3, 4), V(10, 100)),
         V(10, 20, 300, 400)),
    FORM(ADD, "add images", NONE, (D(2, 1, 1, 2), D(2, 1, 1, 1)), (V(1, 2, 3, 4), V(10, 20)),
         V(11, 12, 23, 24)),
    FORM(SCALE, "scale form", ATTR(scale, 2, 1), (D(1, 1, 1, 2)), (V(1, -3)), V(3, -5)),
    FORM(CONCAT, "concat form", NONE, (D(1, 1, 2, 1), D(1, 1, 2, 2)), (V(1, 2), V(3, 4, 5, 6)),
         V(1, 3, 4, 2, 5, 6)),
    FORM(SLICE, "slice form", ATTR(slice, 1, 2), (D(1, 1, 2, 3)), (V(1, 2, 3, 4, 5, 6)),
         V(2, 3, 5, 6)),
    FORM(CROP, "crop form", ATTR(crop, 1, 0, 1, 2), (D(1, 2, 3, 1)), (V(1, 2, 3, 4, 5, 6)),
         V(4, 5)),
    FORM(TRANSPOSE, "transpose form", NONE, (D(1, 1, 2, 3)), (V(1, 2, 3, 4, 5, 6)),
         V(1, 4, 2, 5, 3, 6)),
    FORM(RESHAPE, "reshape form", ATTR(dims, KDAS_F32, 4, { 1, 1, 2, 2 }), (D(1, 2, 2, 1)),
         (V(1, 2, 3, 4)), V(1, 2, 3, 4)),
    FORM(RESIZE, "resize, corners on corners", ATTR(resize, 1, 3, 1, 0), (D(1, 1, 2, 1)), (V(0, 1)),
         V(0, 0.5f, 1)),
    FORM(RESIZE, "resize, half-pixel centres", ATTR(resize, 1, 4, 0, 0), (D(1, 1, 2, 1)), (V(0, 1)),
         V(0, 0.25f, 0.75f, 1)),
    FORM(RESIZE, "resize, two rows", ATTR(resize, 3, 1, 1, 0), (D(1, 2, 2, 1)), (V(0, 1, 4, 5)),
         V(0, 2, 4)),
    FORM(POOL_AVG, "pool_avg, windows overlap", ATTR(pool, 1, 2, 0), (D(1, 1, 5, 1)),
         (V(0, 1, 2, 3, 7)), V(1, 4)),
    FORM(POOL_MAX, "pool_max form", NONE, (D(1, 2, 1, 2)), (V(1, 4, 3, 2)), V(3, 4)),
    FORM(WINDOW_MAX, "window_max leaves the last column out", ATTR(window, 2, 2), (D(1, 2, 3, 2)),
         (V(1, 8, 4, 2, 9, 9, 3, 5, 2, 6, 9, 9)), V(4, 8)),
    FORM(WINDOW_MAX, "window_max, rounded up", ATTR(window, 2, 2, 0, 1), (D(1, 3, 3, 1)),
         (V(1, 2, 3, 4, 5, 6, 7, 8, 9)), V(5, 6, 8, 9)),
    FORM(WINDOW_MAX, "window_max: the padding never wins", ATTR(window, 3, 2, 1), (D(1, 3, 3, 1)),
         (V(-1, -2, -3, -4, -5, -6, -7, -8, -9)), V(-1, -2, -4, -5)),
    FORM(WINDOW_AVG, "window_avg with its padding", ATTR(window, 3, 1, 1, 0, 1), (D(1, 1, 2, 1)),
         (V(9, 18)), V(3, 3)),
    FORM(WINDOW_AVG, "window_avg of pixels alone", ATTR(window, 3, 1, 1, 0, 0), (D(1, 1, 2, 1)),
         (V(9, 18)), V(13.5f, 13.5f)),
    FORM(WINDOW_AVG, "window_avg: what lies past the padding does not count",
         ATTR(window, 3, 2, 1, 1, 1), (D(1, 1, 4, 1)), (V(9, 18, 27, 36)), V(3, 9, 6)),
    FORM(WINDOW_AVG, "window_avg: no window begins in the padding after the image",
         ATTR(window, 2, 2, 1, 1, 0), (D(1, 1, 3, 1)), (V(1, 2, 4)), V(1, 3)),
    FORM(CHANNEL_MEAN, "channel_mean form", NONE, (D(1, 1, 2, 2)), (V(1, 4, 3, 2)), V(2.5f, 2.5f)),
    FORM(CHANNEL_MAX, "channel_max form", NONE, (D(1, 1, 2, 2)), (V(1, 4, 3, 2)), V(4, 3)),
    FORM(SOFTMAX, "softmax form", NONE, (D(1, 1, 1, 3)), (V(1000, 1000, -1000)), V(0.5f, 0.5f, 0)),
    FORM(ATTENTION, "attention of equal scores is the mean", ATTR(attention, 1, 1),
         (D(1, 1, 1, 2), D(1, 1, 2, 4)), (V(0, 0), V(5, 6, 1, 2, 7, 8, 3, 4)), V(2, 3)),
    FORM(ATTENTION, "attention, each head by itself", ATTR(attention, 2, 1),
         (D(1, 1, 1, 2), D(1, 1, 2, 4)), (V(100, 100), V(1, 0, 1, 2, 0, 1, 3, 4)), V(1, 4)),
    FORM(MATMUL, "matmul form", ATTR(matmul, 0, 0, 2), (D(1, 1, 2, 2), D(1, 1, 2, 1)),
         (V(1, 2, 3, 4), V(1, 10)), V(42, 86)),
    FORM(MATMUL, "matmul form, a transposed", ATTR(matmul, 1, 0, 1), (D(1, 1, 2, 2), D(1, 1, 2, 1)),
         (V(1, 2, 3, 4), V(1, 10)), V(31, 42)),
    FORM(CENTER, "center form", NONE, (D(1, 1, 2, 2)), (V(1, 3, 10, 20)), V(-1, 1, -5, 5)),
    FORM(MEAN, "mean form", NONE, (D(2, 1, 1, 2)), (V(1, 3, 10, 20)), V(8.5f)),
    FORM(BCE, "bce form", NONE, (D(2, 1, 1, 2), D(2, 1, 1, 2)),
         (V(0, 0, 1000, -1000), V(1, 0, 0, 0)), V(0.69314718f, 500)),
    FORM(BCE, "bce form, weighted", NONE, (D(1, 1, 1, 2), D(1, 1, 1, 2), D(1, 1, 1, 2)),
         (V(8, -1000), V(0, 1), V(3, 1)), V(0.75f * 8.00033541f + 250)),
    FORM(OVERLAP, "dice form", ATTR(overlap, 0, 1), (D(1, 1, 2, 1), D(1, 1, 2, 1)),
         (V(0, 0), V(1, 0)), V(1 / 3.0f)),
    FORM(OVERLAP, "jaccard form", ATTR(overlap, 1, 1), (D(1, 1, 2, 1), D(1, 1, 2, 1)),
         (V(0, 0), V(1, 0)), V(0.4f)),
    FORM(OVERLAP, "jaccard form, weighted", ATTR(overlap, 1, 1),
         (D(1, 1, 2, 1), D(1, 1, 2, 1), D(1, 1, 2, 1)), (V(0, 0), V(1, 0), V(2, 4)), V(0.6f)),
    FORM(BOUNDARY, "boundary form", ATTR(boundary, 3, 9), (D(1, 2, 2, 1)), (V(1, 1, 1, 1)),
         V(6, 6, 6, 6)),
    FORM(KL, "kl form", ATTR(kl, 2), (D(1, 1, 2, 1), D(1, 1, 2, 1)),
         (V(2 * 1.09861229f, 0), V(0, 0)), V(4 * 0.14384104f)),
    FORM(KL, "kl of a map with itself moved up", ATTR(kl, 1), (D(1, 1, 3, 1), D(1, 1, 3, 1)),
         (V(501, 502, 503), V(1, 2, 3)), V(0)),
    FORM(SQUARE_ERROR, "square_error form", NONE, (D(2, 1, 1, 2), D(2, 1, 1, 2)),
         (V(1, 2, 3, 4), V(0, 4, 3, 4)), V(2.5f, 0)),
};
/* clang-format on */

START_TEST(closed_forms_hold)
{
    const closed_form *f = &closed_forms[_i];
    kd_op_run          run;

    kd_assert_ok(kd_op_open(&run, &f->test, NULL, NULL, NULL));
    for (int i = 0; i < run.node.inputs; i++)
        memcpy(run.in[i], f->in[i], kd_op_bytes(&run.node.in[i]));
    kd_assert_ok(kd_op_forward(&run));
    for (int64_t i = 0; i < kd_elements(&run.node.out); i++) {
        float got = ((float *)run.out)[i];

        ck_assert_msg(fabsf(got - f->out[i]) <= 2e-6f * fmaxf(1, fabsf(f->out[i])),
                      "%s: out[%lld] is %.8g, not %.8g", f->test.name, (long long)i, got,
                      f->out[i]);
    }
    if (f->test.op == KDAS_OP_BATCH_NORM && (f->test.flags & KDAS_NODE_TRAIN)) {
        ck_assert_float_eq_tol(run.in[3][0], 0.75f * 4 + 0.25f * 2, 1e-6f);
        ck_assert_float_eq_tol(run.in[4][0], 0.75f * 8 + 0.25f * 2, 1e-6f); /* unbiased: 2 */
    } else if (f->test.op == KDAS_OP_APPLY_MOMENTS) {
        ck_assert_float_eq_tol(run.in[4][0], 0.75f * 4 + 0.25f * 2, 1e-6f);
        ck_assert_float_eq_tol(run.in[5][0], 0.75f * 8 + 0.25f * 5, 1e-6f); /* 3.75 4/3 */
    } else if (f->test.op == KDAS_OP_BATCH_NORM) {
        ck_assert_float_eq(run.in[3][0], 1);
        ck_assert_float_eq(run.in[4][0], 3.75f);
    }
    kd_op_close(&run);
}
END_TEST

static const kd_op_case quantize_train = { .name  = "quantize",
                                           .op    = KDAS_OP_QUANTIZE,
                                           .flags = KDAS_NODE_TRAIN,
                                           .wants = 1,
                                           .attr  = { .quantize = { 0.25f } },
                                           .in    = { D(1, 1, 1, 4), D(2, 1, 1, 1) } };

/* Moves the range by a batch; gives the range that it becomes and the gradients of ones. */
static void follow(int32_t joins, const float *x, const float *range, float *moved, float *gradient)
{
    kd_op_case c = quantize_train;
    kd_op_run  run;

    c.attr.quantize.joins = joins;
    kd_assert_ok(kd_op_open(&run, &c, NULL, NULL, NULL));
    memcpy(run.in[0], x, 4 * sizeof *x);
    memcpy(run.in[1], range, 2 * sizeof *range);
    for (int i = 0; i < 4; i++)
        run.dout[i] = 1;
    kd_assert_ok(kd_op_forward(&run));
    kd_assert_ok(kd_op_backward(&run));
    memcpy(moved, run.in[1], 2 * sizeof *moved);
    memcpy(gradient, run.din[0], 4 * sizeof *gradient);
    kd_op_close(&run);
}

START_TEST(a_training_batch_moves_the_range_and_gradients_pass_inside_it)
{
    static const struct {
        float   x[4], range[2], moved[2], gradient[4];
        int32_t joins;
    } cases[] = {
        { { -4, 8, 1, 4 }, { 0, 4 }, { -1, 5 }, { 0, 0, 1, 1 } },
        { { -4, 8, 1, 4 }, { 0, 0 }, { -4, 8 }, { 1, 1, 1, 1 } },       /* empty: the batch's */
        { { -4, NAN, 1, 3 }, { 0, 4 }, { 0, 4 }, { 0, 0, 1, 1 } },      /* as it was */
        { { -4, INFINITY, 1, 3 }, { 0, 4 }, { 0, 4 }, { 0, 0, 1, 1 } }, /* as it was */
        { { NAN, 2, 1, 3 }, { 0, 0 }, { 0, 0 }, { 1, 1, 1, 1 } },
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0, 0 }, { 1, 1, 1, 1 } },
        { { -4, 8, 1, 3 }, { -5, 4 }, { -5, 8 }, { 1, 1, 1, 1 }, 1 },
        { { 2, 8, 4, 3 }, { 0, 0 }, { 2, 8 }, { 1, 1, 1, 1 }, 1 },
        { { -4, NAN, 1, 3 }, { 0, 4 }, { 0, 4 }, { 0, 0, 1, 1 }, 1 },
    };

    for (size_t k = 0; k < KD_COUNT(cases); k++) {
        float moved[2], gradient[4];

        follow(cases[k].joins, cases[k].x, cases[k].range, moved, gradient);
        for (int i = 0; i < 2; i++)
            ck_assert_float_eq_tol(moved[i], cases[k].moved[i], 1e-6f);
        for (int i = 0; i < 4; i++)
            ck_assert_float_eq(gradient[i], cases[k].gradient[i]);
    }
}
END_TEST

START_TEST(first_of_equal_ones_receives_the_gradient)
{
    const kd_op_case pool = {
        .name = "ties", .op = KDAS_OP_POOL_MAX, .wants = 1, .in = { D(1, 2, 2, 1) }
    };
    const kd_op_case channel = {
        .name = "ties", .op = KDAS_OP_CHANNEL_MAX, .wants = 1, .in = { D(1, 1, 1, 4) }
    };
    const kd_op_case        window   = { .name        = "ties",
                                         .op          = KDAS_OP_WINDOW_MAX,
                                         .wants       = 1,
                                         .attr.window = { .size = 2, .stride = 2 },
                                         .in          = { D(1, 2, 2, 1) } };
    const kd_op_case *const cases[]  = { &pool, &channel, &window };
    const float             values[] = { 1, 7, 7, 2 };
    kd_op_run               run;

    for (size_t k = 0; k < KD_COUNT(cases); k++) {
        kd_assert_ok(kd_op_open(&run, cases[k], NULL, NULL, NULL));
        memcpy(run.in[0], values, sizeof values);
        run.dout[0] = 3;
        kd_assert_ok(kd_op_forward(&run));
        kd_assert_ok(kd_op_backward(&run));
        ck_assert(run.din[0][0] == 0 && run.din[0][1] == 3 && run.din[0][2] == 0 &&
                  run.din[0][3] == 0);
        kd_op_close(&run);
    }
}
END_TEST

START_TEST(nan_is_not_hidden)
{
    static const int32_t ops[] = { KDAS_OP_RELU,     KDAS_OP_GELU,        KDAS_OP_SIGMOID,
                                   KDAS_OP_POOL_MAX, KDAS_OP_CHANNEL_MAX, KDAS_OP_SOFTMAX,
                                   KDAS_OP_MEAN,     KDAS_OP_RELU6,       KDAS_OP_ABS,
                                   KDAS_OP_SILU,     KDAS_OP_LEAKY_RELU,  KDAS_OP_ELU,
                                   KDAS_OP_QUANTIZE };

    for (size_t k = 0; k < KD_COUNT(ops); k++) {
        kd_op_case c = { .name = "nan", .op = ops[k], .in = { D(1, 1, 1, 3) } };
        kd_op_run  run;
        bool       seen = false;

        if (ops[k] == KDAS_OP_QUANTIZE)
            c.in[1] =
                (kd_test_operand){ { KDAS_F32, 1, { 2, 1, 1, 1 } }, KD_VALUES_RANGE, 1, 0, 1 };
        kd_assert_ok(kd_op_open(&run, &c, NULL, NULL, NULL));
        run.in[0][1] = NAN;
        kd_assert_ok(kd_op_forward(&run));
        for (int64_t i = 0; i < kd_elements(&run.node.out); i++)
            seen |= isnan(((float *)run.out)[i]);
        ck_assert_msg(seen, "%s turns NaN into a number", kd_op_name(ops[k]));
        kd_op_close(&run);
    }
}
END_TEST

START_TEST(a_nan_is_the_largest_of_its_window)
{
    const kd_op_case c         = { .name        = "nan",
                                   .op          = KDAS_OP_WINDOW_MAX,
                                   .wants       = 1,
                                   .attr.window = { .size = 2, .stride = 2 },
                                   .in          = { D(1, 2, 4, 1) } };
    const float      values[8] = { 1, NAN, -INFINITY, -INFINITY, 3, 2, -INFINITY, -INFINITY };
    kd_op_run        run;

    kd_assert_ok(kd_op_open(&run, &c, NULL, NULL, NULL));
    memcpy(run.in[0], values, sizeof values);
    run.dout[0] = 3;
    run.dout[1] = 5;
    kd_assert_ok(kd_op_forward(&run));
    kd_assert_ok(kd_op_backward(&run));
    ck_assert(isnan(((float *)run.out)[0]) && ((float *)run.out)[1] == -INFINITY);
    for (int i = 0; i < 8; i++)
        ck_assert_float_eq(run.din[0][i], i == 1 ? 3 : i == 2 ? 5 : 0);
    kd_op_close(&run);
}
END_TEST

/* ---- Drop path and dropout ---- */

/* 2000 numbers are dropped or kept, for two seeds. */
static void check_drops(int32_t op, kd_test_operand x)
{
    const kd_op_case c = {
        .name = "drop", .op = op, .flags = KDAS_NODE_TRAIN, .attr.drop = { 0.3f }, .in = { x }
    };
    int   kept = 0, changed = 0;
    float first[2000];

    for (uint64_t seed = 1; seed <= 2; seed++) {
        const kd_op_options options = { .seed = seed };
        kd_op_run           run;
        const float        *out;

        kd_assert_ok(kd_op_open(&run, &c, NULL, NULL, &options));
        kd_test_fill(run.in[0], 2000, "drop", 1, 2);
        kd_assert_ok(kd_op_forward(&run));
        out = run.out;
        for (int i = 0; i < 2000; i++) {
            bool keep = kdas_unit(seed, (uint64_t)i) < 0.7f;

            ck_assert_float_eq_tol(out[i], keep ? run.in[0][i] / 0.7f : 0, 1e-6f);
            kept += keep;
            if (seed == 1) first[i] = out[i];
            changed += seed == 2 && (first[i] == 0) != (out[i] == 0);
        }
        kd_op_close(&run);
    }
    ck_assert_msg(abs(kept - 2800) < 150, "%d of 4000 were kept, about 2800 expected", kept);
    ck_assert_int_gt(changed, 500);
}

START_TEST(drop_path_is_a_pure_function_of_its_seed)
{
    check_drops(KDAS_OP_DROP_PATH, (kd_test_operand)D(2000, 1, 1, 1));
}
END_TEST

START_TEST(dropout_is_a_pure_function_of_its_seed)
{
    check_drops(KDAS_OP_DROPOUT, (kd_test_operand)D(2, 10, 4, 25));
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("ops");
    TCase   *table  = tcase_create("table");
    TCase   *cases  = tcase_create("cases");
    TCase   *forms  = tcase_create("forms");
    TCase   *all[]  = { table, cases, forms };
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_test(table, every_op_has_a_record_and_a_case);
    tcase_add_test(table, case_names_are_unique);
    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, gradient_matches_finite_difference, 0, kd_op_case_count);
    tcase_add_loop_test(cases, reference_keeps_its_promises, 0, kd_op_case_count);
    tcase_add_loop_test(cases, backward_adds_to_what_is_there, 0, kd_op_case_count);
    tcase_add_loop_test(forms, closed_forms_hold, 0, (int)KD_COUNT(closed_forms));
    tcase_add_test(forms, a_training_batch_moves_the_range_and_gradients_pass_inside_it);
    tcase_add_test(forms, first_of_equal_ones_receives_the_gradient);
    tcase_add_test(forms, nan_is_not_hidden);
    tcase_add_test(forms, a_nan_is_the_largest_of_its_window);
    tcase_add_test(forms, drop_path_is_a_pure_function_of_its_seed);
    tcase_add_test(forms, dropout_is_a_pure_function_of_its_seed);
    for (size_t i = 0; i < KD_COUNT(all); i++)
        suite_add_tcase(suite, all[i]);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
