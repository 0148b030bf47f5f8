/* check_host.c - what a host's own loop stands on: cancels that wait, what things were made of, the maps of a
 * segmenter, the loss of validation frames; and such a loop, which does what kdas_train does. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/train_util.h"

/* ---- cancels that wait ---- */

static kdas_status step(kd_test_rig *rig)
{
    kdas_batch *batch;
    kdas_status st;

    kd_assert_ok(kdas_batch_create(&batch, rig->ctx, 1, 32, 32));
    st = kdas_distiller_step(rig->distiller, batch, NULL);
    kdas_batch_destroy(batch);
    return st;
}

START_TEST(a_cancel_waits_while_it_is_held)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    ck_assert_int_eq(kdas_context_cancelled(rig.ctx), 0);
    kd_assert_ok(kdas_context_hold(rig.ctx));
    kd_assert_ok(kdas_context_hold(rig.ctx));
    kdas_context_cancel(rig.ctx);
    ck_assert_int_eq(kdas_context_cancelled(rig.ctx), 0);
    kd_assert_ok(step(&rig));
    kd_assert_ok(kdas_context_release(rig.ctx)); /* the inner one */
    kd_assert_ok(step(&rig));
    ck_assert_int_eq(kdas_context_cancelled(rig.ctx), 0);
    kd_assert_ok(kdas_context_release(rig.ctx));
    ck_assert_int_eq(kdas_context_cancelled(rig.ctx), 1);
    kd_assert_status(step(&rig), KDAS_ECANCELLED);
    ck_assert_int_eq(kdas_optim_updates(rig.optim), 2);
    kd_assert_status(kdas_context_release(rig.ctx), KDAS_ESTATE);
    kd_assert_sentence("kdas_context_hold");
    kdas_context_resume(rig.ctx);
    ck_assert_int_eq(kdas_context_cancelled(rig.ctx), 0);
    kd_assert_ok(step(&rig));
    kd_test_rig_finish(&rig);
    ck_assert_int_eq(kdas_context_cancelled(NULL), 0);
    kd_assert_status(kdas_context_hold(NULL), KDAS_EINVAL);
    kd_assert_status(kdas_context_release(NULL), KDAS_EINVAL);
}
END_TEST

/* ---- what things were made of ---- */

START_TEST(a_loader_tells_what_it_was_made_of)
{
    float               scales[2] = { 1, 2 };
    kdas_loader_options o, got;
    kdas_loader        *loader;
    kd_test_rig_options r = kd_test_alone();
    kd_test_training    s;

    kd_test_train_make(&s, &r, NULL);
    ck_assert_ptr_eq(kdas_loader_dataset(s.loader), s.frames);
    ck_assert_int_eq(kdas_loader_kept(s.loader), 1);
    kdas_loader_options_init(&o, sizeof o);
    o.batch       = 3;
    o.height      = 64;
    o.width       = 32;
    o.scales      = scales;
    o.scale_count = 2;
    o.seed        = UINT64_MAX;
    o.blur        = 0.25f;
    o.workers     = 0;
    kd_assert_ok(kdas_loader_create(&loader, s.frames, &o));
    scales[0] = scales[1] = 9; /* they were copied */
    memset(&got, 0xAA, sizeof got);
    got.size = sizeof got;
    kd_assert_ok(kdas_loader_get_options(loader, &got));
    ck_assert_float_eq(got.scales[0], 1);
    ck_assert_float_eq(got.scales[1], 2);
    got.scales = o.scales;
    ck_assert(kd_test_same_bits(&got, &o, sizeof o));
    memset(&got, 0xAA, sizeof got);
    got.size = offsetof(kdas_loader_options, scale_min); /* an older program's */
    kd_assert_ok(kdas_loader_get_options(loader, &got));
    ck_assert_uint_eq(got.size, offsetof(kdas_loader_options, scale_min));
    ck_assert_uint_eq(got.seed, UINT64_MAX);
    ck_assert_uint_eq(*(unsigned char *)&got.scale_min, 0xAA);
    got.size = 0;
    kd_assert_status(kdas_loader_get_options(loader, &got), KDAS_EINVAL);
    kd_assert_status(kdas_loader_get_options(loader, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_loader_get_options(NULL, &got), KDAS_EINVAL);
    ck_assert_ptr_null(kdas_loader_dataset(NULL));
    ck_assert_int_eq(kdas_loader_kept(NULL), 0);
    kdas_loader_destroy(loader);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_distiller_tells_what_it_was_made_of)
{
    kd_test_rig_options    o = kd_test_rig_usual();
    kdas_distiller_options d = { .size = sizeof d };
    kdas_loss_options      l = { .size = sizeof l };
    kd_test_rig            rig;

    o.distiller.accumulate = 5;
    o.distiller.ema        = 0.5f;
    o.loss.guidance        = "kl";
    o.loss.tau             = 3;
    kd_test_rig_make(&rig, &o);
    ck_assert_ptr_eq(kdas_distiller_teacher(rig.distiller), rig.teacher);
    ck_assert_ptr_eq(kdas_distiller_student(rig.distiller), rig.student);
    ck_assert_ptr_eq(kdas_distiller_loss(rig.distiller), rig.loss);
    ck_assert_ptr_eq(kdas_distiller_optim(rig.distiller), rig.optim);
    kd_assert_ok(kdas_distiller_get_options(rig.distiller, &d));
    ck_assert(kd_test_same_bits(&d, &o.distiller, sizeof d));
    kd_assert_ok(kdas_loss_get_options(rig.loss, &l));
    ck_assert_str_eq(l.guidance, "kl");
    ck_assert_str_eq(l.seg, "bce_dice");
    ck_assert_ptr_null(l.feature_taps);
    ck_assert_float_eq(l.tau, 3);
    ck_assert_float_eq(l.share, KDAS_SHARE_OFF);
    ck_assert_double_eq(kdas_loss_guidance_factor(rig.loss), 1);
    kd_assert_ok(kdas_loss_set_guidance_factor(rig.loss, 0.25));
    ck_assert_double_eq(kdas_loss_guidance_factor(rig.loss), 0.25);
    ck_assert_str_eq(kdas_model_network(rig.student), "polyp_pvt_b0");
    ck_assert_ptr_eq(kdas_model_context(rig.student), rig.ctx);
    kd_test_rig_finish(&rig);
    ck_assert(isnan(kdas_loss_guidance_factor(NULL)));
    ck_assert_ptr_null(kdas_distiller_student(NULL));
    ck_assert_ptr_null(kdas_model_network(NULL));
}
END_TEST

/* ---- batches that wait ---- */

static kdas_batch *batch_of(const kd_test_rig *rig, const char *name)
{
    kdas_batch *batch;

    kd_assert_ok(kdas_batch_create(&batch, rig->ctx, 2, 32, 32));
    kd_test_fill(kdas_batch_images(batch), 2 * 32 * 32 * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(batch), 2, 32, 32, name);
    return batch;
}

/* What is written into its memory after it was settled is seen, which it would not be else. */
START_TEST(a_settled_batch_is_uploaded_anew)
{
    kd_test_rig_options o      = kd_test_alone();
    kdas_step_report    report = { .size = sizeof report };
    double              total[2];

    o.device = "far";
    for (int i = 0; i < 2; i++) {
        kd_test_rig rig;
        kdas_batch *batch;

        kd_far.late = false; /* what is uploaded ahead is what it was then */
        kd_test_rig_make(&rig, &o);
        batch = batch_of(&rig, i ? "first" : "second");
        if (i) {
            kd_assert_ok(kdas_batch_prefetch(batch));
            kd_assert_ok(kdas_batch_settle(batch));
            kd_test_fill(kdas_batch_images(batch), 2 * 32 * 32 * 3, "second", 1, 0);
            kd_test_ellipses(kdas_batch_masks(batch), 2, 32, 32, "second");
        }
        kd_assert_ok(kdas_distiller_step(rig.distiller, batch, &report));
        total[i] = report.total;
        kd_assert_ok(kdas_batch_settle(batch)); /* nothing waits: fine */
        kdas_batch_destroy(batch);
        kd_test_rig_finish(&rig);
    }
    ck_assert_double_eq(total[0], total[1]);
    kd_test_far_assert_empty();
    kd_assert_status(kdas_batch_settle(NULL), KDAS_EINVAL);
}
END_TEST

/* ---- figures and losses of frames ---- */

/* The same by the parts: a segmenter's maps, and an objective that is segmentation alone. */
static double mean_loss_by_parts(kd_test_training *s, const kdas_loss_options *options)
{
    kdas_segmenter_options so;
    kdas_segmenter        *segmenter;
    kdas_loss             *loss;
    kdas_batch            *batch;
    double                 sum = 0;

    kdas_segmenter_options_init(&so, sizeof so);
    so.height = 64;
    so.width  = 32;
    kd_assert_ok(kdas_segmenter_create(&segmenter, s->rig.student, &so));
    kd_assert_ok(kdas_loss_create(&loss, s->rig.ctx, options));
    kd_assert_ok(kdas_batch_create(&batch, s->rig.ctx, 1, 64, 32));
    for (int i = 0; i < 2; i++) {
        kdas_loss_report r      = { .size = sizeof r };
        float           *logits = malloc(60 * 48 * sizeof *logits);
        const float     *map[2];
        kdas_maps        maps = { map, 2, 1, 0, 0 };
        kdas_image      *image, *mask;
        kdas_view        pixels, truth;

        kd_assert_ok(kdas_dataset_get(&image, &mask, s->validation, i));
        pixels = kdas_image_view(image);
        truth  = kdas_image_view(mask);
        kd_assert_ok(kdas_segmenter_logits(segmenter, &pixels, logits));
        for (int k = 0; k < 2; k++)
            map[k] = kdas_segmenter_map(segmenter, k, &maps.height, &maps.width);
        ck_assert_int_eq(maps.height, 64);
        ck_assert_int_eq(maps.width, 32);
        ck_assert_ptr_null(kdas_segmenter_map(segmenter, 2, NULL, NULL));
        ck_assert_ptr_null(kdas_segmenter_map(segmenter, -1, NULL, NULL));
        ck_assert_ptr_eq(kdas_segmenter_map(segmenter, 0, NULL, NULL), map[0]);
        kd_assert_ok(kdas_batch_set(batch, 0, &pixels, &truth));
        kd_assert_ok(kdas_loss_evaluate(loss, &maps, NULL, kdas_batch_masks(batch), NULL, &r));
        sum += r.raw[KDAS_TERM_SEG];
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
        free(logits);
    }
    kdas_batch_destroy(batch);
    kdas_loss_destroy(loss);
    kdas_segmenter_destroy(segmenter);
    return sum / 2;
}

START_TEST(the_loss_of_frames_is_the_segmentation_term_of_any_objective)
{
    kd_test_rig_options o = kd_test_rig_usual(), alone = kd_test_alone();
    kdas_evaluator     *a, *b;
    double              mean = -7;
    double              dice[2];
    kd_test_training    s;

    o.loss.seg        = "structure";
    o.loss.seg_weight = 3;
    o.loss.share      = 0.5f;
    alone.loss.seg    = "structure";
    o.loss.feature    = "normalised";
    kd_test_train_make(&s, &o, NULL);
    kd_assert_ok(kdas_evaluator_create(&a, s.rig.ctx));
    kd_assert_ok(kdas_evaluator_create(&b, s.rig.ctx));
    kd_assert_ok(kdas_evaluate_loss(a, s.rig.student, s.validation, 64, 32, 2, s.rig.loss, &mean));
    kd_assert_ok(kdas_evaluate(b, s.rig.student, s.validation, 64, 32, 2));
    ck_assert_double_eq(mean, mean_loss_by_parts(&s, &alone.loss));
    ck_assert_int_eq(kdas_evaluator_count(a), 2);
    kd_assert_ok(kdas_evaluator_get(a, -1, KDAS_METRIC_DICE_50, &dice[0]));
    kd_assert_ok(kdas_evaluator_get(b, -1, KDAS_METRIC_DICE_50, &dice[1]));
    ck_assert_double_eq(dice[0], dice[1]);
    mean = -7;
    kd_assert_status(
        kdas_evaluate_loss(a, s.rig.student, s.validation, 64, 31, 0, s.rig.loss, &mean),
        KDAS_ESHAPE);
    kd_assert_status(kdas_evaluate_loss(a, s.rig.student, s.validation, 64, 32, 0, NULL, &mean),
                     KDAS_EINVAL);
    kd_assert_status(
        kdas_evaluate_loss(a, s.rig.student, s.validation, 64, 32, 0, s.rig.loss, NULL),
        KDAS_EINVAL);
    ck_assert_double_eq(mean, -7);
    kdas_evaluator_destroy(a);
    kdas_evaluator_destroy(b);
    kd_test_train_finish(&s);
}
END_TEST

/* ---- a loop of the host's own ---- */

/* As kdas_train makes it, by public calls alone; leaves a checkpoint after `stop` steps and ends there. */
static void own_loop(kd_test_training *s, const char *path, int64_t first, int64_t stop)
{
    bool        ahead = kdas_loader_kept(s->loader) > 1;
    kdas_batch *batch = NULL, *next = NULL;
    double      total = 0;

    kd_assert_ok(kdas_loader_seek(s->loader, first));
    for (int64_t at = first; at < stop; at++) {
        kdas_step_report r = { .size = sizeof r };

        batch = next;
        next  = NULL;
        if (!batch) kd_assert_ok(kdas_loader_next(s->loader, &batch));
        if (!batch) kd_assert_ok(kdas_loader_next(s->loader, &batch));
        if (ahead && at + 1 < stop) {
            kd_assert_ok(kdas_loader_next(s->loader, &next));
            if (next) kd_assert_ok(kdas_batch_prefetch(next));
        }
        kd_assert_ok(kdas_context_hold(s->rig.ctx));
        kd_assert_ok(kdas_distiller_step(s->rig.distiller, batch, &r));
        kd_assert_ok(kdas_context_release(s->rig.ctx));
        total += r.total;
    }
    kd_assert_ok(kdas_checkpoint_save_records(
        s->rig.distiller, path, &(kdas_progress){ .size = sizeof(kdas_progress), .position = stop },
        NULL, &(kdas_record){ "total", NULL, &total, 1 }, 1));
}

/* On a device that uploads ahead, too. */
START_TEST(a_loop_of_the_hosts_own_does_what_a_run_does)
{
    kd_test_rig_options o    = kd_test_rig_usual();
    const char         *path = kd_test_path("mine.kdas");
    kdas_train_state   *e;
    kdas_progress       p = { .size = sizeof p };
    kdas_checkpoint    *c;
    kdas_evaluator     *evaluator;
    kdas_model         *average;
    double              loss, dice;
    kd_test_training    run, mine;

    o.device        = _i ? "far" : "cpu";
    o.distiller.ema = 0.9f;
    kd_test_train_make(&run, &o, NULL);
    kd_assert_ok(kd_test_train(&run));
    kd_test_train_make(&mine, &o, NULL);
    own_loop(&mine, path, 0, 3);
    kd_test_train_finish(&mine);
    o.model.seed = 99;
    kd_test_train_make(&mine, &o, NULL);
    kd_assert_ok(kdas_checkpoint_open(&c, mine.rig.ctx, path));
    ck_assert_double_gt(kdas_checkpoint_find(c, "total")->numbers[0], 0);
    kd_assert_ok(kdas_checkpoint_progress(c, &p));
    kd_assert_ok(kdas_checkpoint_restore(c, mine.rig.distiller));
    kdas_checkpoint_destroy(c);
    own_loop(&mine, path, p.position, 2 * KD_TEST_BATCHES);
    kd_test_assert_same_weights(run.rig.student, mine.rig.student);

    e = &run.saw.last_epoch;
    kd_assert_ok(kdas_evaluator_create(&evaluator, mine.rig.ctx));
    kd_assert_ok(kdas_model_create(&average, mine.rig.ctx,
                                   kdas_model_network(kdas_distiller_student(mine.rig.distiller)),
                                   NULL));
    kd_assert_ok(kdas_distiller_read_average(mine.rig.distiller, average));
    kd_assert_ok(
        kdas_evaluate_loss(evaluator, average, mine.validation, 32, 32, 0, mine.rig.loss, &loss));
    kd_assert_ok(kdas_evaluator_get(evaluator, -1, KDAS_METRIC_DICE_50, &dice));
    ck_assert_double_eq(loss, e->validation_loss);
    ck_assert_double_eq(dice, e->validation_dice);
    kdas_evaluator_destroy(evaluator);
    kdas_model_destroy(average);
    kd_test_train_finish(&mine);
    kd_test_train_finish(&run);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("host");
    TCase   *asked  = tcase_create("what a host can ask");
    TCase   *loops  = tcase_create("a loop of its own");
    SRunner *runner = srunner_create(s);
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(asked, 120);
    tcase_add_test(asked, a_cancel_waits_while_it_is_held);
    tcase_add_test(asked, a_loader_tells_what_it_was_made_of);
    tcase_add_test(asked, a_distiller_tells_what_it_was_made_of);
    tcase_add_test(asked, a_settled_batch_is_uploaded_anew);
    tcase_add_test(asked, the_loss_of_frames_is_the_segmentation_term_of_any_objective);
    suite_add_tcase(s, asked);
    tcase_set_timeout(loops, 120);
    tcase_add_checked_fixture(loops, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(loops, a_loop_of_the_hosts_own_does_what_a_run_does, 0, 2);
    suite_add_tcase(s, loops);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
