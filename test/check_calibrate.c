/* check_calibrate.c - a calibrated model and its file; simulation against integers. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "quantize/calibrator.h"
#include "support/calibrate_util.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/small_nets.h"
#include "support/thin.h"

/* The answer: the sum of a network's maps. */
static float *answer(kdas_model *m, kdas_batch *batch, int64_t *count)
{
    int64_t dims[4];
    float  *sum = NULL, *map;

    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, batch));
    for (int i = 0; kdas_model_output(m, i, dims); i++) {
        *count = dims[0] * dims[1] * dims[2];
        map    = malloc((size_t)*count * sizeof *map);
        kd_assert_ok(kdas_model_read_output(m, kdas_model_output(m, i, NULL), map));
        for (int64_t k = 0; sum && k < *count; k++)
            sum[k] += map[k];
        if (sum)
            free(map);
        else
            sum = map;
    }
    return sum;
}

static double probability(float logit) { return 1 / (1 + exp(-(double)logit)); }

/* As kdas_calibrated_layer.output_error has it. */
static double distance(const float *a, const float *b, int64_t n)
{
    double change = 0, square = 0;

    for (int64_t i = 0; i < n; i++) {
        double d = probability(a[i]) - probability(b[i]);

        change += d * d;
        square += probability(b[i]) * probability(b[i]);
    }
    return sqrt(change / square);
}

START_TEST(a_calibrated_model_is_saved_and_opened_with_the_same_bits)
{
    kdas_context    *ctx = kd_test_device("cpu", NULL);
    kdas_model      *m   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, NULL);
    kdas_model      *f   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_NONE, NULL), *opened;
    kdas_calibrator *c   = kd_test_calibrated(m, NULL, 64);
    kdas_batch      *b   = kd_test_batch(ctx, 2, 64, 77);
    struct stat      small, large;
    int64_t          n;
    float           *ours, *its;

    kd_test_folder_make();
    kd_assert_ok(kdas_model_save(m, kd_test_path("int8.safetensors")));
    kd_assert_ok(kdas_model_save(f, kd_test_path("f32.safetensors")));
    ck_assert_int_eq(stat(kd_test_path("int8.safetensors"), &small), 0);
    ck_assert_int_eq(stat(kd_test_path("f32.safetensors"), &large), 0);
    ck_assert_int_lt(small.st_size, (off_t)(0.3 * (double)large.st_size));
    kd_assert_ok(kdas_model_open(&opened, ctx, NULL, kd_test_path("int8.safetensors"), NULL, NULL));
    ck_assert_int_eq(kdas_model_quantized(opened), KDAS_QUANTIZE_INT8);
    ck_assert_str_eq(kdas_model_wide(opened), kdas_model_wide(m));
    ours = answer(m, b, &n);
    its  = answer(opened, b, &n);
    /* scales are found again from the rounded weights: the last bit of one may differ */
    ck_assert_double_lt(distance(its, ours, n), 1e-3);
    free(its);
    kd_assert_ok(kdas_model_save(opened, kd_test_path("again.safetensors")));
    kdas_model_destroy(opened);
    kd_assert_ok(
        kdas_model_open(&opened, ctx, NULL, kd_test_path("again.safetensors"), NULL, NULL));
    for (int32_t i = 0; i < kdas_model_tensors(m); i++) {
        const char *name = kdas_model_tensor(m, i, NULL, NULL, NULL);
        float       a[2], o[2];

        if (!kd_is_range_name(name)) continue;
        kd_assert_ok(kdas_model_read(m, i, a));
        kd_assert_ok(kdas_model_read(opened, kdas_model_find(opened, name), o));
        ck_assert(a[0] == o[0] && a[1] == o[1] && a[1] > a[0]);
    }
    free(ours);
    kdas_batch_destroy(b);
    kdas_model_destroy(opened);
    kdas_calibrator_destroy(c);
    kdas_model_destroy(f);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
    kd_test_folder_remove();
}
END_TEST

/* What a layer's row says is what a forward shows: a model in which all layers but one are wide. */
START_TEST(a_layer_alone_has_the_error_that_is_reported)
{
    enum { SIDE = 64 };
    kdas_context         *ctx  = kd_test_device("cpu", NULL);
    kdas_model           *m    = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, NULL);
    kdas_model           *f    = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_NONE, NULL), *one;
    kdas_calibrator      *c    = kd_test_calibrated(m, NULL, SIDE);
    kdas_batch           *b    = kd_test_batch(ctx, 4, SIDE, 0); /* the probes */
    const char           *name = "smooth.1.0";
    kdas_calibrated_layer l    = { .size = sizeof l };
    int64_t               n;
    float                *whole = answer(f, b, &n), *rounded = answer(m, b, &n), range[2];
    char                  wide[8192] = "backbone._conv_stem out";
    double                all, found = 0;

    kd_assert_ok(kdas_calibrator_error(c, &all, NULL));
    ck_assert_double_eq_tol(distance(rounded, whole, n), all, 0.02 * all);
    free(rounded);
    for (int32_t i = 0; i < kdas_calibrator_layers(c); i++) {
        kd_assert_ok(kdas_calibrator_layer(c, i, &l));
        ck_assert(l.output_error >= 0 && l.output_error < 1 && l.input_error > 0);
        ck_assert(l.weight_error > 0 && l.weight_error < 0.05);
        if (strcmp(l.name, name) == 0) {
            range[0] = l.low;
            range[1] = l.high;
            found    = l.output_error;
        } else {
            strcat(strcat(wide, " "), l.name);
        }
    }
    ck_assert_double_gt(found, 0);
    one = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, wide);
    kd_assert_ok(kdas_model_copy(one, f));
    kd_assert_ok(kdas_model_write(one, kdas_model_find(one, "smooth.1.0.input_range"), range));
    rounded = answer(one, b, &n);
    ck_assert_double_eq_tol(distance(rounded, whole, n), found, 0.02 * found);
    free(rounded);
    free(whole);
    kdas_batch_destroy(b);
    kdas_calibrator_destroy(c);
    kdas_model_destroy(one);
    kdas_model_destroy(f);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(the_worst_layers_become_wide)
{
    kdas_context           *ctx = kd_test_device("cpu", NULL);
    kdas_model             *m   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, NULL), *made;
    kdas_calibrator_options o;
    kdas_calibrator        *c;
    kdas_calibrated_layer   l     = { .size = sizeof l };
    double                  least = INFINITY, most = 0, all, with_wide;
    int                     wide = 0;

    kdas_calibrator_options_init(&o, sizeof o);
    o.most_wide  = 3;
    o.wide_error = 0;
    c            = kd_test_calibrated(m, &o, 64);
    for (int32_t i = 0; i < kdas_calibrator_layers(c); i++) {
        kd_assert_ok(kdas_calibrator_layer(c, i, &l));
        wide += l.wide;
        if (l.wide) ck_assert_ptr_nonnull(strstr(kdas_calibrator_wide(c), l.name));
        if (l.wide) least = fmin(least, l.output_error);
        if (!l.wide) most = fmax(most, l.output_error);
    }
    ck_assert_int_eq(wide, 3);
    ck_assert_double_ge(least, most);
    kd_assert_ok(kdas_calibrator_error(c, &all, &with_wide));
    ck_assert_double_lt(with_wide, all);
    kd_assert_ok(kdas_calibrator_make(&made, c));
    ck_assert_str_eq(kdas_model_wide(made), kdas_calibrator_wide(c));
    for (int32_t i = 0; i < kdas_model_tensors(made); i++) {
        float range[2];

        if (!kd_is_range_name(kdas_model_tensor(made, i, NULL, NULL, NULL))) continue;
        kd_assert_ok(kdas_model_read(made, i, range));
        ck_assert_float_gt(range[1], range[0]);
    }
    kdas_model_destroy(made);
    kdas_calibrator_destroy(c);
    o.wide_error = 0.9f; /* none is that bad */
    c            = kd_test_calibrated(m, &o, 64);
    ck_assert_str_eq(kdas_calibrator_wide(c), kdas_model_wide(m));
    kdas_calibrator_destroy(c);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* From theory, before any measurement: simulation and integers round to the same grids, so each is
 * within E of the network in f32, where E is the error that the calibrator reports; what is not on a
 * grid is in bf16 beside the integers, which the network without grids shows to be H. So they differ
 * by at most 2 E + H, and less where the roundings agree. */
START_TEST(integers_give_the_maps_of_the_simulation)
{
    const char *const    names[] = { "lite_fpn0", "polyp_pvt_b0" };
    kdas_context_options o;
    kdas_context        *ctx = kd_test_device("cpu", NULL), *fast;
    kdas_model          *m, *f, *integers, *half;
    kdas_calibrator     *c;
    kdas_batch          *b, *there;
    int64_t              n;
    float               *simulated, *computed, *whole, *in_half;
    double               e;

    kdas_context_options_init(&o, sizeof o);
    o.precision = KDAS_PRECISION_INT8;
    o.threads   = 2;
    if (kdas_context_create(&fast, &o) == KDAS_EUNSUPPORTED) {
        printf("SKIP: no integers on this CPU\n");
        kdas_context_destroy(ctx);
        return;
    }
    m        = kd_test_grids_model(ctx, names[_i], KDAS_QUANTIZE_INT8, NULL);
    f        = kd_test_grids_model(ctx, names[_i], KDAS_QUANTIZE_NONE, NULL);
    c        = kd_test_calibrated(m, NULL, 64);
    integers = kd_test_grids_model(fast, names[_i], KDAS_QUANTIZE_INT8, NULL);
    half     = kd_test_grids_model(fast, names[_i], KDAS_QUANTIZE_NONE, NULL);
    kd_assert_ok(kdas_model_copy(integers, m));
    b         = kd_test_batch(ctx, 4, 64, 0);
    there     = kd_test_batch(fast, 4, 64, 0);
    simulated = answer(m, b, &n);
    whole     = answer(f, b, &n);
    computed  = answer(integers, there, &n);
    in_half   = answer(half, there, &n);
    kd_assert_ok(kdas_calibrator_error(c, &e, NULL));
    ck_assert_double_gt(e, 0);
    ck_assert_msg(distance(computed, simulated, n) <= 2 * e + distance(in_half, whole, n),
                  "%s: %.5f apart; E %.5f, H %.5f", names[_i], distance(computed, simulated, n), e,
                  distance(in_half, whole, n));
    ck_assert_double_gt(distance(computed, whole, n), 0); /* it was not computed in f32 */
    free(simulated);
    free(whole);
    free(computed);
    free(in_half);
    kdas_batch_destroy(b);
    kdas_batch_destroy(there);
    kdas_calibrator_destroy(c);
    kdas_model_destroy(m);
    kdas_model_destroy(f);
    kdas_model_destroy(integers);
    kdas_model_destroy(half);
    kdas_context_destroy(fast);
    kdas_context_destroy(ctx);
}
END_TEST

/* A device whose memory the host cannot read gives the ranges of the CPU. */
START_TEST(a_far_device_has_the_same_ranges)
{
    kd_model_def def =
        kd_test_small_def("small", KD_TEST_SMALL(2, KD_TEST_USUAL_STRIDES), &kd_rules_common);
    const char *const  devices[] = { "cpu", "far" };
    float              ranges[2][64];
    int                count[2] = { 0 };
    kdas_model_options o;

    kdas_model_options_init(&o, sizeof o);
    o.quantize = KDAS_QUANTIZE_INT8;
    for (int d = 0; d < 2; d++) {
        kdas_context    *ctx = kd_test_device(devices[d], NULL);
        kdas_model      *m;
        kdas_calibrator *c;

        kd_assert_ok(kd_model_create(&m, ctx, &def, &o));
        c = kd_test_calibrated(m, NULL, 32);
        for (int32_t i = 0; i < kdas_model_tensors(m); i++)
            if (kd_is_range_name(kdas_model_tensor(m, i, NULL, NULL, NULL))) {
                kd_assert_ok(kdas_model_read(m, i, ranges[d] + count[d]));
                count[d] += 2;
            }
        kdas_calibrator_destroy(c);
        kdas_model_destroy(m);
        kdas_context_destroy(ctx);
    }
    ck_assert_int_gt(count[0], 8);
    ck_assert_int_eq(count[0], count[1]);
    ck_assert(kd_test_same_bits(ranges[0], ranges[1], (size_t)count[0] * sizeof(float)));
}
END_TEST

START_TEST(a_calibration_that_runs_out_of_memory_changes_nothing)
{
    kd_model_def def =
        kd_test_small_def("small", KD_TEST_SMALL(2, KD_TEST_USUAL_STRIDES), &kd_rules_common);
    kd_test_meter      meter = { 0 };
    kdas_context      *ctx   = kd_test_device("cpu", &meter);
    kdas_model_options o;
    kdas_model        *m, *made;
    kdas_calibrator   *c;
    kdas_batch        *b    = kd_test_batch(ctx, 16, 32, 0);
    bool               done = false;

    kdas_model_options_init(&o, sizeof o);
    o.quantize = KDAS_QUANTIZE_INT8;
    kd_assert_ok(kd_model_create(&m, ctx, &def, &o));
    for (long k = 1; !done; k++) {
        kdas_status st;
        float       range[2];
        int64_t     frames;

        meter.fail_at = meter.taken + meter.refused + k;
        meter.fail_to = 0;
        st            = kdas_calibrator_create(&c, m, NULL);
        frames        = 0;
        if (st == KDAS_OK) st = kdas_calibrator_add(c, b);
        if (c) frames = kdas_calibrator_frames(c);
        ck_assert_int_eq(frames, st == KDAS_OK ? 16 : 0);
        if (st == KDAS_OK) {
            st = kdas_calibrator_finish(c);
            kd_assert_ok(kdas_model_read(m, kdas_model_find(m, "level1.input_range"), range));
            if (st != KDAS_OK) ck_assert(range[0] == 0 && range[1] == 0);
        }
        if (st == KDAS_OK) st = kdas_calibrator_make(&made, c);
        if (st == KDAS_OK) kdas_model_destroy(made);
        done          = st == KDAS_OK;
        meter.fail_at = 0;
        if (!done) ck_assert_int_eq(st, KDAS_ENOMEM);
        kdas_calibrator_destroy(c);
        if (!done) { /* a finish that went through has set them */
            range[0] = range[1] = 0;
            for (int32_t i = 0; i < kdas_model_tensors(m); i++)
                if (kd_is_range_name(kdas_model_tensor(m, i, NULL, NULL, NULL)))
                    kd_assert_ok(kdas_model_write(m, i, range));
        }
    }
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}
END_TEST

static Suite *calibrate_suite(void)
{
    Suite *s = suite_create("calibrate");
    TCase *t = tcase_create("models");

    tcase_add_test(t, a_calibrated_model_is_saved_and_opened_with_the_same_bits);
    tcase_add_test(t, a_layer_alone_has_the_error_that_is_reported);
    tcase_add_test(t, the_worst_layers_become_wide);
    tcase_add_loop_test(t, integers_give_the_maps_of_the_simulation, 0, 2);
    tcase_add_test(t, a_far_device_has_the_same_ranges);
    tcase_add_test(t, a_calibration_that_runs_out_of_memory_changes_nothing);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(calibrate_suite());
    int      failed;

    kd_test_thin_networks();
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
