/* check_train.c - whole runs: what they tell, what they keep, and what ends them. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "support/check_util.h"
#include "support/files.h"
#include "support/train_util.h"

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

/* ---- a whole run ---- */

START_TEST(a_run_tells_its_steps_and_epochs_in_order)
{
    kd_test_rig_options    o = kd_test_rig_usual();
    kd_test_training       s;
    const kd_test_witness *w = &s.saw;

    kd_test_train_make(&s, &o, NULL);
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(w->steps, 2 * KD_TEST_BATCHES);
    ck_assert_int_eq(w->epochs, 2);
    ck_assert_int_eq(w->last_step.step, 2 * KD_TEST_BATCHES);
    ck_assert_int_eq(w->last_step.steps, 2 * KD_TEST_BATCHES);
    ck_assert_int_eq(w->last_step.batch, KD_TEST_BATCHES);
    ck_assert_int_eq(w->last_step.batches, KD_TEST_BATCHES);
    ck_assert_int_eq(w->last_step.epoch, 2);
    ck_assert_int_eq(w->last_step.epochs, 2);
    ck_assert_double_gt(w->last_step.images_per_second, 0);
    ck_assert_double_gt(w->last_step.seconds, 0);
    ck_assert_double_ge(w->last_step.waited, 0);
    for (int t = 0; t <= KDAS_TERM_SGM; t++)
        ck_assert_double_gt(w->report.raw[t], 0);
    ck_assert_int_eq(w->last_epoch.epoch, 2);
    ck_assert_double_ge(w->last_epoch.validation_dice, 0);
    ck_assert_double_gt(w->last_epoch.validation_loss, 0);
    ck_assert_double_ge(w->last_epoch.best_dice, w->last_epoch.validation_dice);
    ck_assert_int_eq(w->last_epoch.is_best, w->last_epoch.best_epoch == 2);
    ck_assert_double_eq(w->last_epoch.seconds_left, 0);
    ck_assert_int_eq(kdas_optim_updates(s.rig.optim), 2 * KD_TEST_BATCHES);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_run_leaves_four_files_and_a_line_for_each_epoch)
{
    kd_test_rig_options o   = kd_test_rig_usual();
    const char         *out = kd_test_path("deep/er");
    kd_test_training    s;
    kd_test_table       t;

    kd_test_train_make(&s, &o, out);
    s.options.epochs = 3;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(kd_test_entries(out), 4);
    ck_assert(is_there(kd_test_path("deep/er/run.json")));
    ck_assert(is_there(kd_test_path("deep/er/last.kdas")));
    ck_assert(is_there(kd_test_path("deep/er/best.safetensors")));
    kd_test_table_read(&t, kd_test_path("deep/er/log.csv"));
    ck_assert_int_eq(t.lines, 4);
    for (int i = 1; i < 4; i++) {
        double total = atof(kd_test_table_cell(&t, i, "total"));

        ck_assert_int_eq(atoi(kd_test_table_cell(&t, i, "epoch")), i);
        ck_assert_int_eq(atoi(kd_test_table_cell(&t, i, "step")), i * KD_TEST_BATCHES);
        ck_assert_double_eq_tol(atof(kd_test_table_cell(&t, i, "seg_weighted")) +
                                    atof(kd_test_table_cell(&t, i, "kd_weighted")) +
                                    atof(kd_test_table_cell(&t, i, "sgm_weighted")),
                                total, 1e-6 * total);
        ck_assert_double_gt(atof(kd_test_table_cell(&t, i, "kd_raw")), 0);
        ck_assert_double_gt(atof(kd_test_table_cell(&t, i, "sgm_gradient")), 0);
        ck_assert_double_eq_tol(atof(kd_test_table_cell(&t, i, "lr")), 1e-3, 1e-9);
        ck_assert_double_gt(atof(kd_test_table_cell(&t, i, "images_per_second")), 0);
    }
    ck_assert_double_eq_tol(atof(kd_test_table_cell(&t, 3, "validation_dice")),
                            s.saw.last_epoch.validation_dice, 1e-8);
    ck_assert_double_eq_tol(atof(kd_test_table_cell(&t, 3, "validation_loss")),
                            s.saw.last_epoch.validation_loss, 1e-6);
    free(t.text);
    kd_test_train_finish(&s);
}
END_TEST

/* The segmentation term of a model on the validation frames, through public calls. */
static double validation_loss_of(kd_test_training *s, kdas_model *model)
{
    float             map[2][32 * 32];
    const float      *maps[2] = { map[0], map[1] };
    kdas_maps         student = { maps, 2, 1, 32, 32 };
    kdas_loss_report  report  = { .size = sizeof report };
    kdas_loss_options o;
    kdas_loss        *loss;
    kdas_batch       *batch;
    kdas_image       *image, *mask;
    double            sum = 0;

    kdas_loss_options_init(&o, sizeof o);
    kd_assert_ok(kdas_loss_options_preset(&o, "baseline"));
    kd_assert_ok(kdas_loss_create(&loss, s->rig.ctx, &o));
    kd_assert_ok(kdas_batch_create(&batch, s->rig.ctx, 1, 32, 32));
    for (int i = 0; i < 3; i++) {
        kdas_view pixels, truth;

        kd_assert_ok(kdas_dataset_get(&image, &mask, s->validation, i));
        pixels = kdas_image_view(image);
        truth  = kdas_image_view(mask);
        kd_assert_ok(kdas_batch_set(batch, 0, &pixels, &truth));
        kd_assert_ok(kdas_model_forward(model, KDAS_MODE_INFER, batch));
        kd_assert_ok(kdas_model_read_output(model, "P1", map[0]));
        kd_assert_ok(kdas_model_read_output(model, "P2", map[1]));
        kd_assert_ok(
            kdas_loss_evaluate(loss, &student, NULL, kdas_batch_masks(batch), NULL, &report));
        sum += report.total;
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_batch_destroy(batch);
    kdas_loss_destroy(loss);
    return sum / 3;
}

START_TEST(validation_chooses_the_best_student_and_its_file_holds_it)
{
    kd_test_rig_options o = kd_test_alone();
    kdas_evaluator     *evaluator;
    kdas_model         *best;
    double              dice;
    kd_test_training    s;

    o.optim.lr = 0.003f;
    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.epochs = 4;
    kd_assert_ok(kd_test_train(&s));
    kd_assert_ok(kdas_model_create(&best, s.rig.ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_load(best, kd_test_path("out/best.safetensors"), NULL));
    kd_assert_ok(kdas_evaluator_create(&evaluator, s.rig.ctx));
    kd_assert_ok(kdas_evaluate(evaluator, best, s.validation, 32, 32, 0));
    ck_assert_int_eq(kdas_evaluator_count(evaluator), 3);
    kd_assert_ok(kdas_evaluator_get(evaluator, -1, KDAS_METRIC_DICE_50, &dice));
    ck_assert_double_eq(dice, s.saw.last_epoch.best_dice);
    ck_assert_int_ge(s.saw.last_epoch.best_epoch, 1);
    ck_assert_double_eq_tol(validation_loss_of(&s, s.rig.student), s.saw.last_epoch.validation_loss,
                            1e-5);
    kdas_evaluator_destroy(evaluator);
    kdas_model_destroy(best);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(without_validation_the_last_epoch_is_the_best)
{
    kd_test_rig_options o = kd_test_alone();
    kdas_model         *best;
    kd_test_table       t;
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    kd_assert_ok(kdas_train(s.rig.distiller, s.loader, NULL, &s.options));
    ck_assert_int_eq(s.saw.last_epoch.is_best, 1);
    ck_assert_int_eq(s.saw.last_epoch.best_epoch, 2);
    ck_assert_double_eq(s.saw.last_epoch.validation_dice, -1);
    kd_assert_ok(kdas_model_create(&best, s.rig.ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_load(best, kd_test_path("out/best.safetensors"), NULL));
    kd_test_assert_same_weights(best, s.rig.student);
    kd_test_table_read(&t, kd_test_path("out/log.csv"));
    ck_assert_str_eq(kd_test_table_cell(&t, 2, "validation_dice"), "");
    free(t.text);
    kdas_model_destroy(best);
    kd_test_train_finish(&s);
}
END_TEST

/* Any allocation of an evaluation fails, also when frames have been added. */
START_TEST(an_evaluation_that_fails_adds_nothing)
{
    kd_test_rig_options o     = kd_test_alone();
    kd_test_meter       meter = { 0 };
    kdas_status         st    = KDAS_ENOMEM;
    kdas_evaluator     *e;
    kd_test_training    s;
    double              before, after, loss = 7;
    int                 late = 0;

    o.meter = &meter;
    kd_test_train_make(&s, &o, NULL);
    kd_assert_ok(kdas_evaluator_create(&e, s.rig.ctx));
    kd_assert_ok(kdas_evaluate(e, s.rig.student, s.validation, 64, 32, 1));
    kd_assert_ok(kdas_evaluator_get(e, -1, KDAS_METRIC_WFM, &before));
    for (long k = 1; st != KDAS_OK; k++) {
        meter.fail_at = meter.taken + k;
        st            = k % 2
                            ? kdas_evaluate(e, s.rig.student, s.validation, 64, 32, 0)
                            : kdas_evaluate_loss(e, s.rig.student, s.validation, 64, 32, 0, s.rig.loss, &loss);
        meter.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        late += strstr(kdas_last_error(), "frame") != NULL;
        ck_assert_int_eq(kdas_evaluator_count(e), 1);
        ck_assert_double_eq(loss, 7);
        kd_assert_ok(kdas_evaluator_get(e, -1, KDAS_METRIC_WFM, &after));
        ck_assert(kd_test_same_bits(&before, &after, sizeof before));
    }
    ck_assert_int_gt(late, 8);
    ck_assert_int_eq(kdas_evaluator_count(e), 1 + kdas_dataset_count(s.validation));
    kdas_evaluator_destroy(e);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(an_evaluation_is_each_frame_segmented_at_its_own_size)
{
    kd_test_rig_options    o = kd_test_alone();
    kdas_segmenter_options so;
    kdas_segmenter        *segmenter;
    kdas_evaluator        *all, *one;
    kd_test_training       s;

    kd_test_train_make(&s, &o, NULL);
    kd_assert_ok(kdas_evaluator_create(&all, s.rig.ctx));
    kd_assert_ok(kdas_evaluator_create(&one, s.rig.ctx));
    kd_assert_ok(kdas_evaluate(all, s.rig.student, s.validation, 64, 32, 2));
    ck_assert_int_eq(kdas_evaluator_count(all), 2);
    kdas_segmenter_options_init(&so, sizeof so);
    so.height = 64;
    so.width  = 32;
    kd_assert_ok(kdas_segmenter_create(&segmenter, s.rig.student, &so));
    for (int i = 0; i < 2; i++) {
        float       logits[48 * 60];
        kdas_image *image, *mask;
        kdas_view   pixels, truth;

        kd_assert_ok(kdas_dataset_get(&image, &mask, s.validation, i));
        pixels = kdas_image_view(image);
        truth  = kdas_image_view(mask);
        kd_assert_ok(kdas_segmenter_logits(segmenter, &pixels, logits));
        kd_assert_ok(kdas_evaluator_add_logits(one, NULL, logits, &truth));
        ck_assert_str_eq(kdas_evaluator_name(all, i), kdas_dataset_name(s.validation, i));
        for (int m = 0; m < KDAS_METRICS; m++) {
            double a, b;

            kd_assert_ok(kdas_evaluator_get(all, i, (kdas_metric)m, &a));
            kd_assert_ok(kdas_evaluator_get(one, i, (kdas_metric)m, &b));
            ck_assert(kd_test_same_bits(&a, &b, sizeof a));
        }
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_segmenter_destroy(segmenter);
    kdas_evaluator_destroy(all);
    kdas_evaluator_destroy(one);
    kd_test_train_finish(&s);
}
END_TEST

/* ---- what goes wrong ---- */

START_TEST(a_loss_that_is_not_finite_ends_the_run_with_the_last_good_files)
{
    kd_test_rig_options o = kd_test_alone();
    size_t              n, m;
    unsigned char      *before, *after;
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.epochs = 1;
    kd_assert_ok(kd_test_train(&s));
    before           = kd_test_read(kd_test_path("out/last.kdas"), &n);
    s.options.epochs = 2;
    s.options.resume = 1;
    s.saw.poison_at  = KD_TEST_BATCHES + 2;
    kd_assert_status(kd_test_train(&s), KDAS_ENUMERIC);
    kd_assert_sentence("epoch 2, batch 3");
    after = kd_test_read(kd_test_path("out/last.kdas"), &m);
    ck_assert_uint_eq(n, m);
    ck_assert(kd_test_same_bits(before, after, n));
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 4);
    free(before);
    free(after);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_folder_that_cannot_be_written_is_found_before_the_first_step)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_training    s;

    kd_test_write(kd_test_path("file"), "x", 1);
    kd_test_train_make(&s, &o, kd_test_path("file/out"));
    kd_assert_status(kd_test_train(&s), KDAS_EIO);
    kd_assert_sentence("file");
    s.options.out = kd_test_path("file");
    kd_assert_status(kd_test_train(&s), KDAS_EIO);
    s.options.out = "/proc/nothing/here";
    kd_assert_status(kd_test_train(&s), KDAS_EIO);
    ck_assert_int_eq(s.saw.steps, 0);
    kd_test_train_finish(&s);
}
END_TEST

/* Files may not grow past a megabyte: the first checkpoint cannot be written. */
START_TEST(a_full_disk_ends_the_run_and_leaves_nothing_half_written)
{
    kd_test_rig_options o     = kd_test_alone();
    struct rlimit       limit = { 1 << 20, 1 << 20 };
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.save_every = 1;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    kd_assert_status(kd_test_train(&s), KDAS_EIO);
    kd_assert_sentence("last.kdas");
    ck_assert_int_eq(s.saw.steps, 1);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 0);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_checkpoint_that_is_damaged_is_not_passed_over)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.saw.stop_at = 1;
    kd_assert_status(kd_test_train(&s), KDAS_ECANCELLED);
    kd_test_write(kd_test_path("out/last.kdas"), "short", 5);
    s.options.resume = 1;
    kd_assert_status(kd_test_train(&s), KDAS_EFORMAT);
    kd_assert_sentence("last.kdas");
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(options_out_of_range_are_refused)
{
    kd_test_rig_options o = kd_test_alone();
    kdas_evaluator     *evaluator;
    kd_test_training    s;

    kd_test_train_make(&s, &o, NULL);
    s.options.epochs = 0;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    s.options.epochs    = 1;
    s.options.max_steps = -1;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    s.options.max_steps  = 0;
    s.options.save_every = -1;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    s.options.save_every = 0;
    s.options.height     = 33;
    s.options.width      = 32;
    kd_assert_status(kd_test_train(&s), KDAS_ESHAPE);
    s.options.height = 32;
    s.options.width  = 0; /* one side alone */
    kd_assert_status(kd_test_train(&s), KDAS_ESHAPE);
    s.options.size = 0;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    kd_assert_status(kdas_train(NULL, s.loader, NULL, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_train(s.rig.distiller, NULL, NULL, NULL), KDAS_EINVAL);
    ck_assert_int_eq(s.saw.steps, 0);

    kd_assert_ok(kdas_evaluator_create(&evaluator, s.rig.ctx));
    kd_assert_status(kdas_evaluate(NULL, s.rig.student, s.frames, 32, 32, 0), KDAS_EINVAL);
    kd_assert_status(kdas_evaluate(evaluator, NULL, s.frames, 32, 32, 0), KDAS_EINVAL);
    kd_assert_status(kdas_evaluate(evaluator, s.rig.student, NULL, 32, 32, 0), KDAS_EINVAL);
    kd_assert_status(kdas_evaluate(evaluator, s.rig.student, s.frames, 32, 32, -1), KDAS_EINVAL);
    kd_assert_status(kdas_evaluate(evaluator, s.rig.student, s.frames, 32, 31, 0), KDAS_ESHAPE);
    ck_assert_int_eq(kdas_evaluator_count(evaluator), 0);
    kdas_evaluator_destroy(evaluator);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(any_allocation_of_a_run_may_fail)
{
    kd_test_meter       meter    = { 0 };
    kd_test_rig_options o        = kd_test_alone();
    kdas_status         st       = KDAS_ENOMEM;
    int                 failures = 0;
    kd_test_training    s;

    o.meter = &meter;
    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.epochs = 1;
    for (long k = 1; st != KDAS_OK; k += 1 + k / 3) {
        meter.fail_at = meter.taken + k;
        st            = kd_test_train(&s);
        meter.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        failures++;
    }
    ck_assert_int_gt(failures, 10);
    kd_test_train_finish(&s);
    kd_test_assert_given_back(&meter);
}
END_TEST

static Suite *train_suite(void)
{
    Suite *s     = suite_create("train");
    TCase *whole = tcase_create("whole runs");
    TCase *wrong = tcase_create("what goes wrong");

    tcase_add_checked_fixture(whole, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(whole, a_run_tells_its_steps_and_epochs_in_order);
    tcase_add_test(whole, a_run_leaves_four_files_and_a_line_for_each_epoch);
    tcase_add_test(whole, validation_chooses_the_best_student_and_its_file_holds_it);
    tcase_add_test(whole, without_validation_the_last_epoch_is_the_best);
    tcase_add_test(whole, an_evaluation_that_fails_adds_nothing);
    tcase_add_test(whole, an_evaluation_is_each_frame_segmented_at_its_own_size);
    suite_add_tcase(s, whole);

    tcase_add_checked_fixture(wrong, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(wrong, a_loss_that_is_not_finite_ends_the_run_with_the_last_good_files);
    tcase_add_test(wrong, a_folder_that_cannot_be_written_is_found_before_the_first_step);
    tcase_add_test(wrong, a_full_disk_ends_the_run_and_leaves_nothing_half_written);
    tcase_add_test(wrong, a_checkpoint_that_is_damaged_is_not_passed_over);
    tcase_add_test(wrong, options_out_of_range_are_refused);
    tcase_add_test(wrong, any_allocation_of_a_run_may_fail);
    suite_add_tcase(s, wrong);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(train_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
