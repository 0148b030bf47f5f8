/* check_checkpoint_refused.c - checkpoints that cannot be loaded or saved: of another run, damaged, or with numbers that no run
 * has. Each is refused by name, and nothing is changed. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/container.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/forge.h"
#include "support/run_util.h"
#include "support/thin.h"

/* Loading must fail, name `part`, and leave everything as it was. */
static void assert_refused(kd_test_rig *rig, const char *path, kdas_status status, const char *part)
{
    size_t        n;
    float        *before  = kd_test_weights(rig->student, &n), *after;
    int64_t       updates = kdas_optim_updates(rig->optim);
    double        lr      = kdas_optim_lr(rig->optim);
    kdas_progress p       = { .size = sizeof p, .epoch = -5 };

    kd_assert_status(kdas_checkpoint_load(rig->distiller, path, &p), status);
    if (part) kd_assert_sentence(part);
    after = kd_test_weights(rig->student, &n);
    ck_assert(kd_test_same_bits(before, after, n * sizeof *after));
    ck_assert_int_eq(kdas_optim_updates(rig->optim), updates);
    ck_assert_double_eq(kdas_optim_lr(rig->optim), lr);
    ck_assert_int_eq(p.epoch, -5);
    free(before);
    free(after);
}

START_TEST(a_checkpoint_of_another_run_is_refused_and_the_difference_named)
{
    kd_test_rig_options o = kd_test_rig_usual(), usual = o;
    const char         *part = NULL;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&rig);
    for (int i = 0; i < 8; i++) {
        o = usual;
        switch (i) {
        case 0: o.student = o.teacher = "polyp_pvt_b1", part = "polyp_pvt_b0"; break;
        case 1: o.optim.rule = "sgd", part = "adamw"; break;
        case 2: o.loss.seg = "structure", part = "bce_dice"; break;
        case 3: o.loss.guidance = "attention", part = "loss.guidance"; break;
        case 4: o.loss.sym = "sum", part = "loss.sym"; break;
        case 5: o.loss.axis = "row", part = "loss.axis"; break;
        case 6: o.loss.tau = 4, part = "loss.tau"; break;
        case 7: o.model.drop_path = 0, part = "drop_path"; break;
        }
        kd_test_rig_make(&rig, &o);
        assert_refused(&rig, kd_test_path("c.kdas"), KDAS_EINVAL, part);
        kd_test_rig_finish(&rig);
    }
}
END_TEST

START_TEST(waiting_micro_batches_need_the_same_accumulation)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;

    o.distiller.accumulate = 3;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&rig);
    o.distiller.accumulate = 2;
    kd_test_rig_make(&rig, &o);
    assert_refused(&rig, kd_test_path("c.kdas"), KDAS_EINVAL, "micro-batches");
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_damaged_file_is_refused_and_nothing_is_changed)
{
    kd_test_rig_options o    = kd_test_rig_usual();
    const char         *path = kd_test_path("c.kdas"), *bad = kd_test_path("bad.kdas");
    unsigned char      *bytes;
    size_t              n;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, NULL, NULL));
    kd_test_rig_step(&rig, 0);
    bytes = kd_test_read(path, &n);
    for (int i = 0; i < 4; i++) { /* cut off */
        kd_test_write(bad, bytes, n * (size_t)i / 4);
        assert_refused(&rig, bad, KDAS_EFORMAT, "bad.kdas");
    }
    for (int i = 0; i < 8; i++) { /* a bit flipped */
        size_t at = (n - 1) * (size_t)i / 7;

        bytes[at] ^= 0x10;
        kd_test_write(bad, bytes, n);
        assert_refused(&rig, bad, KDAS_EFORMAT, "bad.kdas");
        bytes[at] ^= 0x10;
    }
    free(bytes);
    kd_assert_ok(kdas_model_save(rig.student, bad)); /* weights alone */
    assert_refused(&rig, bad, KDAS_EFORMAT, "bad.kdas");
    assert_refused(&rig, kd_test_path("none.kdas"), KDAS_ENOTFOUND, "none.kdas");
    assert_refused(&rig, kd_test_path(NULL), KDAS_EIO, NULL); /* a folder */
    kd_test_rig_finish(&rig);
}
END_TEST

/* Progress that could not be read again is not written. */
START_TEST(progress_out_of_range_is_not_saved)
{
    static const kdas_progress wrong[] = {
        { .epoch = -1 },      { .epoch = (INT64_C(1) << 53) + 1 },
        { .position = -1 },   { .position = INT64_MAX },
        { .best = NAN },      { .best = INFINITY },
        { .best_epoch = -1 }, { .best_epoch = INT64_C(1) << 62 },
    };
    kd_test_rig_options o    = kd_test_rig_usual();
    const char         *path = kd_test_path("c.kdas");
    kdas_progress       got  = { .size = sizeof got };
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    for (size_t i = 0; i < KD_COUNT(wrong); i++) {
        kdas_progress p = wrong[i];

        p.size = sizeof p;
        kd_assert_status(kdas_checkpoint_save(rig.distiller, path, &p, NULL), KDAS_EINVAL);
        kd_assert_sentence(p.epoch        ? "epoch"
                           : p.position   ? "position"
                           : p.best_epoch ? "best_epoch"
                                          : "best");
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
    }
    got.epoch = got.position = got.best_epoch = INT64_C(1) << 53;
    got.best                                  = -1e308;
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, &got, NULL));
    got.epoch = 0;
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, path, &got));
    ck_assert_int_eq(got.epoch, INT64_C(1) << 53);
    kd_test_rig_finish(&rig);
}
END_TEST

/* Tensors of the rig's student. */
#define WEIGHT   "Translayer2_1.conv.weight"
#define VARIANCE "Translayer2_1.bn.running_var"

START_TEST(a_whole_file_that_says_the_impossible_is_refused)
{
    static const char counter[] = "student.CFM.conv4.bn.num_batches_tracked";
    static const struct {
        kd_test_edit edit;
        kdas_status  status;
    } lies[] = {
        { { "optim.updates", KD_FORGE_WHOLE, .whole = -1 }, KDAS_EFORMAT },
        { { "micro", KD_FORGE_WHOLE, .whole = -1 }, KDAS_EFORMAT },
        { { "micro", KD_FORGE_WHOLE, .whole = INT64_MAX }, KDAS_EFORMAT },
        { { "progress.epoch", KD_FORGE_WHOLE, .whole = -1 }, KDAS_EFORMAT },
        { { "progress.position", KD_FORGE_WHOLE, .whole = -7 }, KDAS_EFORMAT },
        { { "optim.total", KD_FORGE_NUMBER, 1e300 }, KDAS_EFORMAT },
        { { "optim.nesterov", KD_FORGE_NUMBER, 1e10 }, KDAS_EFORMAT },
        { { "optim.lr", KD_FORGE_NUMBER, 1e39 }, KDAS_EFORMAT },
        { { "optim.lr", KD_FORGE_NUMBER, 0.0 / 0.0 }, KDAS_EFORMAT },
        { { "optim.lr", KD_FORGE_NUMBER, -1 }, KDAS_EFORMAT },
        { { "optim.lr", KD_FORGE_NUMBER, 1e-60 }, KDAS_EFORMAT },
        { { "optim.beta1", KD_FORGE_NUMBER, 1 }, KDAS_EFORMAT },
        { { "optim.beta1", KD_FORGE_NUMBER, 0.99999999999 }, KDAS_EFORMAT }, /* as a float, 1 */
        { { "optim.beta2", KD_FORGE_NUMBER, -0.5 }, KDAS_EFORMAT },
        { { "optim.eps", KD_FORGE_NUMBER, 0 }, KDAS_EFORMAT },
        { { "optim.momentum", KD_FORGE_NUMBER, 2 }, KDAS_EFORMAT },
        { { "optim.weight_decay", KD_FORGE_NUMBER, 1.0 / 0.0 }, KDAS_EFORMAT },
        { { "optim.clamp", KD_FORGE_NUMBER, -1 }, KDAS_EFORMAT },
        { { "optim.clip_norm", KD_FORGE_NUMBER, 0.0 / 0.0 }, KDAS_EFORMAT },
        { { "optim.nesterov", KD_FORGE_NUMBER, 0.5 }, KDAS_EFORMAT },
        { { "optim.warmup", KD_FORGE_NUMBER, -1 }, KDAS_EFORMAT },
        { { "optim.warmup", KD_FORGE_NUMBER, 0.5 }, KDAS_EFORMAT },
        { { "optim.step_every", KD_FORGE_NUMBER, 0 }, KDAS_EFORMAT },
        { { "optim.step_factor", KD_FORGE_NUMBER, 0 }, KDAS_EFORMAT },
        { { "optim.power", KD_FORGE_NUMBER, -2 }, KDAS_EFORMAT },
        { { "optim.lr_min", KD_FORGE_NUMBER, -1e-9 }, KDAS_EFORMAT },
        { { "optim.loss_scale", KD_FORGE_NUMBER, 3 }, KDAS_EFORMAT },
        { { "optim.loss_scale_every", KD_FORGE_NUMBER, -1 }, KDAS_EFORMAT },
        { { "optim.schedule", KD_FORGE_TEXT, .text = "zigzag" }, KDAS_ENOTFOUND },
        { { "optim.updates", KD_FORGE_WHOLE, .whole = (INT64_C(1) << 53) + 1 }, KDAS_EFORMAT },
        { { "random.forwards", KD_FORGE_WHOLE, .whole = -1 }, KDAS_EFORMAT }, /* 2^64 - 1 */
        { { "micro", KD_FORGE_WHOLE, .whole = 1 }, KDAS_EFORMAT }, /* an update is one of them */
        { { "micro.accumulate", KD_FORGE_WHOLE, .whole = -1 }, KDAS_EFORMAT },
        { { "micro.accumulate", KD_FORGE_WHOLE, .whole = INT64_C(1) << 31 }, KDAS_EFORMAT },
        { { "progress.epoch", KD_FORGE_WHOLE, .whole = INT64_C(1) << 62 }, KDAS_EFORMAT },
        { { "progress.position", KD_FORGE_WHOLE, .whole = INT64_MAX }, KDAS_EFORMAT },
        { { "progress.best", KD_FORGE_NUMBER, 0.0 / 0.0 }, KDAS_EFORMAT },
        { { "progress.best", KD_FORGE_NUMBER, 1.0 / 0.0 }, KDAS_EFORMAT },
        { { "progress.best", KD_FORGE_NUMBER, -1.0 / 0.0 }, KDAS_EFORMAT },
        { { "progress.best_epoch", KD_FORGE_WHOLE, .whole = -1 }, KDAS_EFORMAT },
        { { "progress.best_epoch", KD_FORGE_WHOLE, .whole = INT64_C(1) << 62 }, KDAS_EFORMAT },
        { { "student." WEIGHT, KD_FORGE_FLOAT, 0.0 / 0.0 }, KDAS_EFORMAT },
        { { "exp_avg." WEIGHT, KD_FORGE_FLOAT, 1.0 / 0.0 }, KDAS_EFORMAT },
        { { "exp_avg_sq." WEIGHT, KD_FORGE_FLOAT, -1e-20 }, KDAS_EFORMAT },
        { { "student." VARIANCE, KD_FORGE_FLOAT, -1 }, KDAS_EFORMAT },
        { { "scale.value", KD_FORGE_NUMBER, 0 }, KDAS_EFORMAT },
        { { "scale.value", KD_FORGE_NUMBER, 1.0 / 0.0 }, KDAS_EFORMAT },
        { { "scale.skipped", KD_FORGE_WHOLE, .whole = INT64_MAX }, KDAS_EFORMAT },
        { { "scale.good", KD_FORGE_WHOLE, .whole = INT64_C(1) << 31 }, KDAS_EFORMAT },
        { { "scale.value", KD_FORGE_NUMBER, 3 }, KDAS_EFORMAT },
        { { "scale.value", KD_FORGE_NUMBER, 0x1p25 }, KDAS_EFORMAT },
        { { "scale.value", KD_FORGE_NUMBER, 0.0 / 0.0 }, KDAS_EFORMAT },
        { { "scale.good", KD_FORGE_WHOLE, .whole = -1 }, KDAS_EFORMAT },
        { { "scale.skipped", KD_FORGE_WHOLE, .whole = -1 }, KDAS_EFORMAT },
        { { "scale.good", KD_FORGE_WHOLE, .whole = INT32_MAX }, KDAS_EFORMAT },
        { { "scale.skipped", KD_FORGE_WHOLE, .whole = INT64_MAX }, KDAS_EFORMAT },
        { { "micro", KD_FORGE_WHOLE, .whole = INT32_MAX }, KDAS_EFORMAT },
        { { "optim.updates", KD_FORGE_WHOLE, .whole = INT64_MAX }, KDAS_EFORMAT },
        { { "progress.epoch", KD_FORGE_WHOLE, .whole = INT64_MAX }, KDAS_EFORMAT },
        { { "progress.position", KD_FORGE_WHOLE, .whole = INT64_MAX }, KDAS_EFORMAT },
        { { counter, KD_FORGE_NUMBER, 1.0 / 0.0 }, KDAS_EFORMAT },
        { { counter, KD_FORGE_NUMBER, 0.0 / 0.0 }, KDAS_EFORMAT },
        { { counter, KD_FORGE_NUMBER, 1e30 }, KDAS_EFORMAT },
        { { counter, KD_FORGE_NUMBER, -1 }, KDAS_EFORMAT },
        { { "scale.good", KD_FORGE_DROP }, KDAS_EFORMAT },
        { { "progress.best", KD_FORGE_DROP }, KDAS_EFORMAT },
        { { "student.", KD_FORGE_DROP_ALL }, KDAS_EFORMAT },
    };
    kd_test_rig_options o    = kd_test_rig_usual();
    const char         *path = kd_test_path("c.kdas"), *bad = kd_test_path("bad.kdas");
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, NULL, NULL));
    kd_test_forge(rig.ctx, path, bad, NULL, 0);
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, bad, NULL)); /* honest */
    for (size_t i = 0; i < KD_COUNT(lies); i++) {
        kd_test_forge(rig.ctx, path, bad, &lies[i].edit, 1);
        assert_refused(&rig, bad, lies[i].status, "bad.kdas");
        if (lies[i].edit.what != KD_FORGE_DROP && lies[i].edit.what != KD_FORGE_DROP_ALL &&
            lies[i].edit.what != KD_FORGE_TEXT)
            kd_assert_sentence(lies[i].edit.record);
    }
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_file_of_before_the_loss_scale_starts_it_as_the_options_do)
{
    static const kd_test_edit later[] = { { "optim.loss_scale", KD_FORGE_DROP },
                                          { "optim.loss_scale_every", KD_FORGE_DROP },
                                          { "scale.", KD_FORGE_DROP_ALL } };
    kd_test_rig_options       o       = kd_test_rig_usual();
    const char               *path[2] = { kd_test_path("c.kdas"), kd_test_path("older.kdas") };
    kd_test_rig               rig;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path[0], NULL, NULL));
    kd_test_forge(rig.ctx, path[0], path[1], later, KD_COUNT(later));
    kd_test_rig_finish(&rig);
    o.optim.loss_scale = 512;
    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, path[1], NULL));
    ck_assert_int_eq(kdas_optim_updates(rig.optim), 1);
    ck_assert_double_eq(kdas_optim_loss_scale(rig.optim), 512);
    ck_assert_int_eq(kdas_optim_skipped(rig.optim), 0);
    kd_test_rig_step(&rig, 1);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_file_of_few_records_is_not_a_checkpoint_of_ours)
{
    kd_test_rig_options  o = kd_test_rig_usual();
    kd_container_writer *w;
    kd_test_rig          rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kd_container_create(&w, rig.ctx));
    kd_assert_ok(kd_container_put_text(w, "model", "polyp_pvt_b0"));
    kd_assert_ok(kd_container_save(w, kd_test_path("c.kdas")));
    kd_container_discard(w);
    assert_refused(&rig, kd_test_path("c.kdas"), KDAS_EFORMAT, "c.kdas");
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_named_and_the_old_file_stays)
{
    kd_test_rig_options o    = kd_test_rig_usual();
    const char         *path = kd_test_path("c.kdas");
    char                in_it[600];
    kdas_status         st;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    st = kdas_checkpoint_save(rig.distiller, kd_test_path("none/c.kdas"), NULL, NULL);
    ck_assert(st == KDAS_EIO || st == KDAS_ENOTFOUND);
    kd_assert_sentence("none/c.kdas");
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, NULL, NULL));
    snprintf(in_it, sizeof in_it, "%s/c.kdas", path); /* a file is no folder */
    kd_assert_status(kdas_checkpoint_save(rig.distiller, in_it, NULL, NULL), KDAS_EIO);
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, path, NULL));
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(arguments_that_are_null_are_refused)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_status(kdas_checkpoint_save(NULL, "x", NULL, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_checkpoint_save(rig.distiller, NULL, NULL, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_checkpoint_load(NULL, "x", NULL), KDAS_EINVAL);
    kd_assert_status(kdas_checkpoint_load(rig.distiller, NULL, NULL), KDAS_EINVAL);
    kd_test_rig_finish(&rig);
}
END_TEST
int main(void)
{
    Suite   *suite   = suite_create("checkpoint refused");
    TCase   *refused = tcase_create("refusals");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_checked_fixture(refused, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(refused, progress_out_of_range_is_not_saved);
    tcase_add_test(refused, a_checkpoint_of_another_run_is_refused_and_the_difference_named);
    tcase_add_test(refused, waiting_micro_batches_need_the_same_accumulation);
    tcase_add_test(refused, a_damaged_file_is_refused_and_nothing_is_changed);
    tcase_add_test(refused, a_whole_file_that_says_the_impossible_is_refused);
    tcase_add_test(refused, a_file_of_before_the_loss_scale_starts_it_as_the_options_do);
    tcase_add_test(refused, a_file_of_few_records_is_not_a_checkpoint_of_ours);
    tcase_add_test(refused, a_folder_that_is_not_there_is_named_and_the_old_file_stays);
    tcase_add_test(refused, arguments_that_are_null_are_refused);
    suite_add_tcase(suite, refused);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
