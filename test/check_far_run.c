/* check_far_run.c - whole runs on a device with memory of its own: training with checkpoints and resume, what the
 * loader is asked for, segmentation, figures; always with the bits of the CPU. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/train_util.h"

/* ---- training ---- */

static kd_test_rig_options with_device(const char *device, int accumulate)
{
    kd_test_rig_options o = kd_test_alone();

    o.device               = device;
    o.distiller.accumulate = accumulate;
    return o;
}

/* An unbroken run on the CPU. */
static kd_test_rig whole_run(int accumulate)
{
    kd_test_rig_options o = with_device("cpu", accumulate);
    kd_test_training    s;

    kd_test_train_make(&s, &o, NULL);
    kd_assert_ok(kd_test_train(&s));
    kdas_loader_destroy(s.loader);
    kdas_dataset_destroy(s.frames);
    kdas_dataset_destroy(s.validation);
    return s.rig;
}

static const struct {
    int stop_at, cancel_at, stop_at_epoch, max_steps, accumulate;
} breaks[] = {
    { .accumulate = 1 },                                 /* unbroken                           */
    { .stop_at = 2, .accumulate = 1 },                   /* within an epoch, by the callback   */
    { .stop_at = 3, .accumulate = 2 },                   /* a micro-batch waits                */
    { .cancel_at = 1, .accumulate = 1 },                 /* by a cancel of the context         */
    { .stop_at = KD_TEST_BATCHES, .accumulate = 1 },     /* the epoch's steps done, not judged */
    { .stop_at_epoch = 1, .accumulate = 1 },             /* the epoch done                     */
    { .max_steps = 6, .accumulate = 1 },                 /* by the limit of steps              */
    { .stop_at = 2 * KD_TEST_BATCHES, .accumulate = 1 }, /* all steps done, not judged         */
};

START_TEST(a_run_far_away_broken_and_taken_up_gives_the_bits_of_the_cpu)
{
    kd_test_rig_options o      = with_device("far", breaks[_i].accumulate);
    kd_test_rig         whole  = whole_run(breaks[_i].accumulate);
    bool                broken = _i > 0 && !breaks[_i].max_steps;
    kd_test_training    s;

    kd_far.late = _i % 2;
    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.saw.stop_at       = breaks[_i].stop_at;
    s.saw.cancel_at     = breaks[_i].cancel_at;
    s.saw.stop_at_epoch = breaks[_i].stop_at_epoch;
    s.options.max_steps = breaks[_i].max_steps;
    kd_assert_status(kd_test_train(&s), broken ? KDAS_ECANCELLED : KDAS_OK);
    ck_assert_int_eq(kdas_loader_position(s.loader), s.saw.steps); /* none is lost for the host */
    if (s.saw.steps > 1) ck_assert_int_gt(kd_far.asyncs, 0);
    kd_test_train_finish(&s);
    kd_test_far_assert_empty();

    if (_i > 0) o.model.seed = 999;
    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.resume = 1;
    kd_assert_ok(kd_test_train(&s));
    kd_test_assert_same_weights(s.rig.student, whole.student);
    kd_test_train_finish(&s);
    kd_test_rig_finish(&whole);
    kd_test_far_assert_empty();
}
END_TEST

/* Batches of an epoch are uploaded ahead but for its first. */
START_TEST(a_run_uploads_ahead_within_its_epochs)
{
    kd_test_rig_options o = with_device("far", 1);
    kd_test_training    s;

    kd_test_train_make(&s, &o, NULL);
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(kd_far.asyncs, 2 * 2 * (KD_TEST_BATCHES - 1));
    kd_test_train_finish(&s);
    kd_test_far_assert_empty();
}
END_TEST

/* A checkpoint of one device goes on on the other. */
START_TEST(a_run_may_go_on_on_another_device)
{
    kd_test_rig_options near = with_device("cpu", 1), far = with_device("far", 1);
    kd_test_rig         whole = whole_run(1);
    kd_test_training    s;

    kd_test_train_make(&s, _i ? &near : &far, kd_test_path("out"));
    s.saw.stop_at = 3;
    kd_assert_status(kd_test_train(&s), KDAS_ECANCELLED);
    kd_test_train_finish(&s);
    kd_test_train_make(&s, _i ? &far : &near, kd_test_path("out"));
    s.options.resume = 1;
    kd_assert_ok(kd_test_train(&s));
    kd_test_assert_same_weights(s.rig.student, whole.student);
    kd_test_train_finish(&s);
    kd_test_rig_finish(&whole);
}
END_TEST

START_TEST(a_step_that_fails_leaves_the_loader_at_the_batch_after_it)
{
    static const char *const devices[] = { "cpu", "far" };
    int64_t                  position[2];

    for (int i = 0; i < 2; i++) {
        kd_test_rig_options o = with_device(devices[i], 1);
        kd_test_training    s;

        kd_test_train_make(&s, &o, NULL);
        s.saw.poison_at = 2;
        kd_assert_status(kd_test_train(&s), KDAS_ENUMERIC);
        kd_assert_sentence("epoch 1, batch 3");
        position[i] = kdas_loader_position(s.loader);
        kd_test_train_finish(&s);
    }
    ck_assert_int_eq(position[0], position[1]);
    kd_test_far_assert_empty();
}
END_TEST

/* ---- the loader ---- */

/* A copy of what a batch holds. */
static float *images_of(kdas_batch *b, size_t *bytes)
{
    float *copy;

    *bytes = (size_t)(kdas_batch_count(b) * kdas_batch_height(b) * kdas_batch_width(b) * 3) *
             sizeof *copy;
    copy = malloc(*bytes);
    memcpy(copy, kdas_batch_images(b), *bytes);
    return copy;
}

START_TEST(a_batch_outlives_the_fetching_of_the_next)
{
    static const float  scales[] = { 1, 2 };
    kdas_context       *far = kd_test_device("far", NULL), *cpu = kd_test_device("cpu", NULL);
    kdas_scene_options  scenes;
    kdas_loader_options o;
    kdas_dataset       *frames[2];
    kdas_loader        *loader[2];
    kdas_batch         *now   = NULL, *next, *want;
    size_t              bytes = 0;
    float              *copy  = NULL;

    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 7;
    scenes.width = scenes.height = 40;
    kdas_loader_options_init(&o, sizeof o);
    o.batch  = 2;
    o.height = o.width = 32;
    o.workers          = _i % 3;
    o.ahead            = 1;
    if (_i >= 3) o.scales = scales;
    if (_i >= 3) o.scale_count = 2;
    kd_assert_ok(kdas_dataset_synthetic(&frames[0], far, &scenes));
    kd_assert_ok(kdas_dataset_synthetic(&frames[1], cpu, &scenes));
    for (int i = 0; i < 2; i++)
        kd_assert_ok(kdas_loader_create(&loader[i], frames[i], &o));
    for (int t = 0; t < 30; t++) {
        kd_assert_ok(kdas_loader_next(loader[0], &next));
        if (now) ck_assert(kd_test_same_bits(copy, kdas_batch_images(now), bytes));
        free(copy);
        copy = NULL;
        now  = next;
        kd_assert_ok(kdas_loader_next(loader[1], &want));
        ck_assert(!want == !now);
        if (!now) continue;
        copy = images_of(now, &bytes);
        ck_assert(kd_test_same_bits(copy, kdas_batch_images(want), bytes));
        if (t % 11 == 10) /* back and again */
            for (int i = 0; i < 2; i++)
                kd_assert_ok(kdas_loader_seek(loader[i], kdas_loader_position(loader[i]) - 1));
    }
    free(copy);
    for (int i = 0; i < 2; i++) {
        kdas_loader_destroy(loader[i]);
        kdas_dataset_destroy(frames[i]);
    }
    kdas_context_destroy(far);
    kdas_context_destroy(cpu);
    kd_test_far_assert_empty();
}
END_TEST

/* ---- segmentation and figures ---- */

enum { WIDE = 50, HIGH = 40 };

START_TEST(a_segmenter_far_away_gives_the_bits_of_the_cpu)
{
    static const char *const devices[] = { "cpu", "far" };
    static float             logits[2][4][WIDE * HIGH];
    static uint8_t           masks[2][4][WIDE * HIGH];

    for (int i = 0; i < 2; i++) {
        kdas_context          *ctx = kd_test_device(devices[i], NULL);
        kdas_model            *m;
        kdas_segmenter        *s;
        kdas_segmenter_options o;
        kdas_scene_options     scenes;

        kdas_scene_options_init(&scenes, sizeof scenes);
        scenes.width  = WIDE;
        scenes.height = HIGH;
        kdas_segmenter_options_init(&o, sizeof o);
        o.height = o.width = 64;
        o.smoothing        = 0.3f;
        kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
        kd_assert_ok(kdas_segmenter_create(&s, m, &o));
        for (int t = 0; t < 4; t++) {
            kdas_image *image, *mask;
            kdas_view   view;

            kd_assert_ok(kdas_scene_draw(&image, &mask, ctx, t, &scenes));
            view = kdas_image_view(image);
            kd_assert_ok(kdas_segmenter_logits(s, &view, logits[i][t]));
            kd_assert_ok(kdas_segmenter_mask(s, &view, masks[i][t], 0));
            kdas_image_destroy(image);
            kdas_image_destroy(mask);
        }
        if (i) ck_assert_int_ge(kd_far.launches, 6);
        kdas_segmenter_destroy(s);
        kdas_model_destroy(m);
        kdas_context_destroy(ctx);
    }
    ck_assert(kd_test_same_bits(logits[0], logits[1], sizeof logits[0]));
    ck_assert(kd_test_same_bits(masks[0], masks[1], sizeof masks[0]));
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(figures_far_away_are_those_of_the_cpu)
{
    static const char *const devices[] = { "cpu", "far" };
    double                   figure[2][KDAS_METRICS];

    for (int i = 0; i < 2; i++) {
        kdas_context      *ctx = kd_test_device(devices[i], NULL);
        kdas_model        *m;
        kdas_dataset      *frames;
        kdas_evaluator    *e;
        kdas_scene_options scenes;

        kdas_scene_options_init(&scenes, sizeof scenes);
        scenes.width = scenes.height = 48;
        scenes.count                 = 3;
        kd_assert_ok(kdas_dataset_synthetic(&frames, ctx, &scenes));
        kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
        kd_assert_ok(kdas_evaluator_create(&e, ctx));
        kd_assert_ok(kdas_evaluate(e, m, frames, 64, 64, 0));
        for (int k = 0; k < KDAS_METRICS; k++)
            kd_assert_ok(kdas_evaluator_get(e, -1, (kdas_metric)k, &figure[i][k]));
        kdas_evaluator_destroy(e);
        kdas_model_destroy(m);
        kdas_dataset_destroy(frames);
        kdas_context_destroy(ctx);
    }
    ck_assert(kd_test_same_bits(figure[0], figure[1], sizeof figure[0]));
    kd_test_far_assert_empty();
}
END_TEST

/* A model written by one device is read by the other. */
START_TEST(a_model_file_is_the_same_from_either_device)
{
    kdas_context      *far = kd_test_device("far", NULL), *cpu = kd_test_device("cpu", NULL);
    kdas_model_options o;
    kdas_model        *a, *b;

    kdas_model_options_init(&o, sizeof o);
    kd_assert_ok(kdas_model_create(&a, far, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_save(a, kd_test_path("far.safetensors")));
    o.seed = 2;
    kd_assert_ok(kdas_model_create(&b, cpu, "polyp_pvt_b0", &o));
    kd_assert_ok(kdas_model_load(b, kd_test_path("far.safetensors"), NULL));
    kd_test_assert_same_weights(a, b);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kdas_context_destroy(far);
    kdas_context_destroy(cpu);
}
END_TEST

static void start(void)
{
    kd_far = (kd_test_far){ 0 };
    kd_test_folder_make();
}

int main(void)
{
    Suite   *suite = suite_create("far_run");
    TCase   *train = tcase_create("training"), *rest = tcase_create("loader and figures");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_checked_fixture(train, start, kd_test_folder_remove);
    tcase_add_loop_test(train, a_run_far_away_broken_and_taken_up_gives_the_bits_of_the_cpu, 0,
                        KD_COUNT(breaks));
    tcase_add_test(train, a_run_uploads_ahead_within_its_epochs);
    tcase_add_loop_test(train, a_run_may_go_on_on_another_device, 0, 2);
    tcase_add_test(train, a_step_that_fails_leaves_the_loader_at_the_batch_after_it);
    suite_add_tcase(suite, train);
    tcase_add_checked_fixture(rest, start, kd_test_folder_remove);
    tcase_add_loop_test(rest, a_batch_outlives_the_fetching_of_the_next, 0, 6);
    tcase_add_test(rest, a_segmenter_far_away_gives_the_bits_of_the_cpu);
    tcase_add_test(rest, figures_far_away_are_those_of_the_cpu);
    tcase_add_test(rest, a_model_file_is_the_same_from_either_device);
    suite_add_tcase(suite, rest);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
