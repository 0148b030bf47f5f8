/* check_calibrate_refused.c - what cannot be calibrated, or run with integers, is refused with a sentence. */
#include <check.h>
#include <kdas/infer.h>
#include <kdas/metric.h>
#include <kdas/train.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "quantize/calibrator.h"
#include "support/calibrate_util.h"
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/small_nets.h"

START_TEST(wide_names_must_be_layers)
{
    kdas_context      *ctx = kd_test_device("cpu", NULL);
    kdas_model_options o;
    kdas_model        *m;
    const char *const  bad[] = { "nothing", "out lateral", "backbone", "out.weight",
                                 "backbone._bn0" };

    kdas_model_options_init(&o, sizeof o);
    o.quantize = KDAS_QUANTIZE_INT8;
    for (size_t i = 0; i < KD_COUNT(bad); i++) {
        const char *last = strrchr(bad[i], ' ');

        o.wide = bad[i];
        kd_assert_status(kdas_model_create(&m, ctx, "lite_fpn0", &o), KDAS_ENOTFOUND);
        kd_assert_sentence(last ? last + 1 : bad[i]);
        ck_assert_ptr_null(m);
    }
    o.wide = "out \x1b[31mred\n\x7f\xc2\x9b"; /* a sentence is one line, which a terminal obeys in nothing */
    kd_assert_status(kdas_model_create(&m, ctx, "lite_fpn0", &o), KDAS_ENOTFOUND);
    kd_assert_sentence("no layer '?[31mred?\?\?\?'");
    o.wide = "  out   lateral.3 ";
    kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", &o));
    ck_assert_int_eq(kdas_model_find(m, "lateral.3.input_range"), -1);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(every_network_has_the_layers_that_it_keeps_wide)
{
    kdas_context      *ctx = kd_test_device("cpu", NULL);
    kdas_model_options o;
    const char        *name;

    kdas_model_options_init(&o, sizeof o);
    o.quantize  = KDAS_QUANTIZE_INT8;
    o.trainable = 0;
    for (int i = 0; (name = kdas_model_name(i)); i++) {
        kdas_model *m;

        if (!*kdas_model_wide_layers(name)) continue;
        kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
        kdas_model_destroy(m);
    }
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(what_cannot_be_calibrated_is_refused)
{
    kd_model_def def =
        kd_test_small_def("small", KD_TEST_SMALL(1, KD_TEST_USUAL_STRIDES), &kd_rules_common);
    kdas_context           *ctx = kd_test_device("cpu", NULL);
    kdas_model_options      mo;
    kdas_calibrator_options o;
    kdas_calibrated_layer   l = { .size = sizeof l };
    kdas_calibrator        *c;
    kdas_model             *m, *f, *made;
    kdas_batch             *b       = kd_test_batch(ctx, 16, 32, 0);
    float                   bias[4] = { NAN, 0, 0, 0 }, was[4], zeros[36 * 4] = { 0 };
    int32_t                 at;

    kdas_model_options_init(&mo, sizeof mo);
    kd_assert_ok(kd_model_create(&f, ctx, &def, &mo));
    mo.quantize = KDAS_QUANTIZE_INT8;
    kd_assert_ok(kd_model_create(&m, ctx, &def, &mo));

    kd_assert_status(kdas_calibrator_create(&c, f, NULL), KDAS_EINVAL);
    kd_assert_sentence("'small' is not on grids");
    kdas_calibrator_options_init(&o, sizeof o);
    o.method = 3;
    kd_assert_status(kdas_calibrator_create(&c, m, &o), KDAS_EINVAL);
    kd_assert_sentence("method is 3");
    kdas_calibrator_options_init(&o, sizeof o);
    o.percentile = 50;
    kd_assert_status(kdas_calibrator_create(&c, m, &o), KDAS_EINVAL);
    kd_assert_sentence("percentile");
    kdas_calibrator_options_init(&o, sizeof o);
    o.probe_frames = 65;
    kd_assert_status(kdas_calibrator_create(&c, m, &o), KDAS_EINVAL);
    ck_assert_ptr_null(c);

    kd_assert_ok(kdas_calibrator_create(&c, m, NULL));
    kd_assert_status(kdas_calibrator_finish(c), KDAS_ESTATE);
    kd_assert_sentence("0 frames are too few; least_frames is 16");
    kd_assert_status(kdas_calibrator_make(&made, c), KDAS_ESTATE);
    kd_assert_status(kdas_calibrator_layer(c, 0, &l), KDAS_ESTATE);
    kd_assert_status(kdas_calibrator_error(c, NULL, NULL), KDAS_ESTATE);
    kdas_batch_images(b)[3 * 32 * 32 * 3 + 7] = NAN;
    kd_assert_status(kdas_calibrator_add(c, b), KDAS_ENUMERIC);
    kd_assert_sentence("image 3 of the batch has a NaN");
    ck_assert_int_eq(kdas_calibrator_frames(c), 0);
    kdas_batch_images(b)[3 * 32 * 32 * 3 + 7] = 0;
    kdas_calibrator_destroy(c);

    at = kdas_model_find(m, "norm.weight"); /* a network that makes NaN of finite images */
    kd_assert_ok(kdas_model_read(m, at, was));
    kd_assert_ok(kdas_model_write(m, at, bias));
    kd_assert_ok(kdas_calibrator_create(&c, m, NULL));
    kd_assert_status(kdas_calibrator_add(c, b), KDAS_ENUMERIC);
    kd_assert_sentence("layer 'level1' has a NaN");
    ck_assert_int_eq(kdas_calibrator_frames(c), 0);
    kdas_calibrator_destroy(c);

    /* a dead layer: its result, the next one's input, is 0 everywhere */
    memset(bias, 0, sizeof bias);
    kd_assert_ok(kdas_model_write(m, at, was));
    kd_assert_ok(kdas_model_write(m, kdas_model_find(m, "level2.weight"), zeros));
    kd_assert_ok(kdas_model_write(m, kdas_model_find(m, "level2.bias"), bias));
    kd_assert_ok(kdas_calibrator_create(&c, m, NULL));
    kd_assert_ok(kdas_calibrator_add(c, b));
    kd_assert_status(kdas_calibrator_finish(c), KDAS_ENUMERIC);
    kd_assert_sentence("layer 'level3' is 0 in all of the 16 frames");
    ck_assert(kd_test_range_is_empty(m, "level1.input_range"));
    kdas_calibrator_destroy(c);
    kdas_batch_destroy(b);
    kdas_model_destroy(f);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* A network without a layer on a grid could be neither made nor told from one of floats. */
START_TEST(a_calibration_that_would_leave_nothing_on_grids_is_refused)
{
    kdas_context           *ctx = kd_test_device("cpu", NULL);
    kdas_model             *m   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, NULL);
    kdas_model             *made;
    kdas_batch             *b          = kd_test_batch(ctx, 16, 32, 0);
    char                    wide[8192] = "backbone._conv_stem out";
    kdas_calibrator_options o;
    kdas_calibrator        *c;
    int32_t                 layers;

    for (int32_t i = 0; i < kdas_model_tensors(m); i++) { /* but a few */
        const char *name = kdas_model_tensor(m, i, NULL, NULL, NULL);
        size_t      end  = strlen(wide);

        if (kd_is_range_name(name) && strncmp(name, "smooth.0.0.", 11) != 0 &&
            strncmp(name, "smooth.1.0.", 11) != 0)
            snprintf(wide + end, sizeof wide - end, " %.*s",
                     (int)(strlen(name) - strlen(KD_RANGE_SUFFIX)), name);
    }
    kdas_model_destroy(m);
    m = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, wide);
    kdas_calibrator_options_init(&o, sizeof o);
    o.wide_error = 0;
    kd_assert_ok(kdas_calibrator_create(&c, m, NULL));
    layers = kdas_calibrator_layers(c);
    kdas_calibrator_destroy(c);
    ck_assert(layers > 1 && layers < 9);
    for (o.most_wide = layers; o.most_wide >= layers - 1; o.most_wide--) {
        kd_assert_ok(kdas_calibrator_create(&c, m, &o));
        kd_assert_ok(kdas_calibrator_add(c, b));
        if (o.most_wide < layers) {
            kd_assert_ok(kdas_calibrator_finish(c));
            kd_assert_ok(kdas_calibrator_make(&made, c));
            kdas_model_destroy(made);
        } else {
            kd_assert_status(kdas_calibrator_finish(c), KDAS_EINVAL);
            kd_assert_sentence("nothing of 'lite_fpn0' would be left on grids");
            kd_assert_sentence("lets all of them be wide");
            ck_assert(kd_test_range_is_empty(m, "smooth.1.0.input_range"));
            kd_assert_status(kdas_calibrator_make(&made, c), KDAS_ESTATE);
        }
        kdas_calibrator_destroy(c);
    }
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(empty_ranges_are_refused_by_integers)
{
    kdas_context_options o;
    kdas_context        *ctx;
    kdas_model          *m;
    kdas_segmenter      *segmenter;
    kdas_dataset        *frames;
    kdas_evaluator      *set;
    kdas_scene_options   scenes;
    kdas_batch          *b;

    kdas_context_options_init(&o, sizeof o);
    o.precision = KDAS_PRECISION_INT8;
    if (kdas_context_create(&ctx, &o) == KDAS_EUNSUPPORTED) return;
    m = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, NULL);
    b = kd_test_batch(ctx, 1, 64, 0);
    kd_assert_status(kdas_model_forward(m, KDAS_MODE_INFER, b), KDAS_ESTATE);
    kd_assert_sentence("range");
    kd_assert_sentence("backbone._blocks.0._depthwise_conv"); /* the first layer that needs one */
    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 2;
    kd_assert_ok(kdas_dataset_synthetic(&frames, ctx, &scenes));
    kd_assert_ok(kdas_evaluator_create(&set, ctx));
    kd_assert_status(kdas_evaluate(set, m, frames, 64, 64, 0), KDAS_ESTATE);
    kd_assert_sentence("backbone._blocks.0._depthwise_conv");
    if (kdas_segmenter_create(&segmenter, m, NULL) == KDAS_OK) {
        static uint8_t rgb[64 * 64 * 3];
        static float   logits[64 * 64];
        kdas_view      view = {
                 .data = rgb, .width = 64, .height = 64, .stride = 64 * 3, .pixel = KDAS_PIXEL_RGB8
        };

        kd_assert_status(kdas_segmenter_logits(segmenter, &view, logits), KDAS_ESTATE);
        kdas_segmenter_destroy(segmenter);
    }
    kd_assert_sentence("backbone._blocks.0._depthwise_conv");
    kdas_evaluator_destroy(set);
    kdas_dataset_destroy(frames);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

static Suite *refused_suite(void)
{
    Suite *s = suite_create("calibrate: refused");
    TCase *t = tcase_create("refusals");

    tcase_add_test(t, wide_names_must_be_layers);
    tcase_add_test(t, every_network_has_the_layers_that_it_keeps_wide);
    tcase_add_test(t, what_cannot_be_calibrated_is_refused);
    tcase_add_test(t, a_calibration_that_would_leave_nothing_on_grids_is_refused);
    tcase_add_test(t, empty_ranges_are_refused_by_integers);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(refused_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
