/* check_checkpoint.c - a distiller's state in a file: what is saved comes back bit by bit, or not at
 * all. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/container.h"
#include "model/model.h"
#include "optim/optim.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/forge.h"
#include "support/run_util.h"

/* ---- the same bits ---- */

static const struct {
    const char *rule, *schedule;
    int         accumulate, before, after; /* steps before and after the checkpoint */
    int         precision;
} cases[] = {
    { "adamw", "constant", 1, 2, 2 },
    { "sgd", "poly", 1, 2, 2 },
    { "adamw", "cosine", 3, 4, 3 }, /* one micro-batch waits */
    { "adamw", "constant", 1, 2, 2, KDAS_PRECISION_BF16 },
    { "sgd", "poly", 3, 4, 3, KDAS_PRECISION_BF16 },
};

static kd_test_rig_options options_of(int i)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.optim.rule           = cases[i].rule;
    o.optim.schedule       = cases[i].schedule;
    o.optim.total          = 10;
    o.distiller.accumulate = cases[i].accumulate;
    o.precision            = (kdas_precision)cases[i].precision;
    return o;
}

START_TEST(a_resumed_run_gives_the_bits_of_an_unbroken_one)
{
    kd_test_rig_options o = options_of(_i);
    kd_test_rig         whole, part;
    double              last = 0;
    int                 t    = 0;

    if (o.precision != KDAS_PRECISION_F32 && !kd_test_can_half()) return;
    kd_test_rig_make(&whole, &o);
    for (t = 0; t < cases[_i].before + cases[_i].after; t++)
        last = kd_test_rig_step(&whole, t);

    kd_test_rig_make(&part, &o);
    for (t = 0; t < cases[_i].before; t++)
        kd_test_rig_step(&part, t);
    kd_assert_ok(kdas_checkpoint_save(part.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&part);

    o.model.seed = 12345; /* the file knows better */
    kd_test_rig_make(&part, &o);
    kd_assert_ok(kdas_checkpoint_load(part.distiller, kd_test_path("c.kdas"), NULL));
    for (; t < cases[_i].before + cases[_i].after - 1; t++)
        kd_test_rig_step(&part, t);
    ck_assert_double_eq(kd_test_rig_step(&part, t), last);
    ck_assert_int_eq(kdas_optim_updates(part.optim), kdas_optim_updates(whole.optim));
    ck_assert_double_eq(kdas_optim_lr(part.optim), kdas_optim_lr(whole.optim));
    kd_test_assert_same_weights(part.student, whole.student);
    kd_test_rig_finish(&part);
    kd_test_rig_finish(&whole);
}
END_TEST

START_TEST(a_load_drops_what_was_gathered_before_it)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         clean, dirty;

    o.distiller.accumulate = 2;
    kd_test_rig_make(&clean, &o);
    kd_test_rig_make(&dirty, &o);
    kd_assert_ok(kdas_checkpoint_save(clean.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_step(&dirty, 99); /* half an update */
    kd_assert_ok(kdas_checkpoint_load(dirty.distiller, kd_test_path("c.kdas"), NULL));
    for (int t = 0; t < 2; t++) {
        kd_test_rig_step(&clean, t);
        kd_test_rig_step(&dirty, t);
    }
    ck_assert_int_eq(kdas_optim_updates(dirty.optim), 1);
    kd_test_assert_same_weights(clean.student, dirty.student);
    kd_test_rig_finish(&clean);
    kd_test_rig_finish(&dirty);
}
END_TEST

/* ---- what travels beside the tensors ---- */

START_TEST(progress_comes_back_exactly)
{
    kd_test_rig_options o   = kd_test_rig_usual();
    kdas_progress       put = { .size       = sizeof put,
                                .epoch      = 3,
                                .position   = INT64_C(9007199254740991),
                                .seed       = UINT64_C(0xFFFFFFFFFFFFFFFE),
                                .best       = 0.1 + 0.2,
                                .best_epoch = 2 };
    kdas_progress       got = { .size = sizeof got };
    const char         *path;
    kd_test_rig         rig;

    path = kd_test_path("c.kdas");
    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, &put, "kdas-distill --x"));
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, path, &got));
    ck_assert(kd_test_same_bits(&put, &got, sizeof got));
    got.size = 0;
    kd_assert_status(kdas_checkpoint_load(rig.distiller, path, &got), KDAS_EINVAL);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(notes_are_kept_whatever_bytes_they_have)
{
    static const char *const notes[] = { "--out dir \"x\"\n", "caf\xC3\xA9", "caf\xE9" };
    static const char *const kept[]  = { "--out dir \"x\"\n", "caf\xC3\xA9", "caf?" };
    kd_test_rig_options      o       = kd_test_rig_usual();
    kd_container            *file;
    const char              *text;
    kd_test_rig              rig;

    kd_test_rig_make(&rig, &o);
    for (size_t i = 0; i < KD_COUNT(notes); i++) {
        kd_assert_ok(kdas_checkpoint_save(rig.distiller, kd_test_path("c.kdas"), NULL, notes[i]));
        kd_assert_ok(kd_container_open(&file, rig.ctx, kd_test_path("c.kdas")));
        kd_assert_ok(kd_container_get_text(file, "notes", &text));
        ck_assert_str_eq(text, kept[i]);
        kd_container_close(file);
    }
    kd_test_rig_finish(&rig);
}
END_TEST

static void keep_warning(void *user, kdas_log_level level, const char *text)
{
    char *said = user;

    if (level == KDAS_LOG_WARN) snprintf(said + strlen(said), 1024 - strlen(said), "%s\n", text);
}

START_TEST(the_optimizer_goes_on_as_it_was_and_says_so)
{
    char                warning[1024] = "";
    kd_test_rig_options o             = kd_test_rig_usual();
    kd_test_rig         rig;

    o.optim.schedule = "poly";
    o.optim.power    = 1;
    o.optim.total    = 10;
    o.log            = keep_warning;
    o.log_user       = warning;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    kd_assert_ok(kdas_optim_set_lr(rig.optim, 0.25f));
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, kd_test_path("c.kdas"), NULL, NULL));
    ck_assert_str_eq(warning, "");
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, kd_test_path("c.kdas"), NULL));
    ck_assert_str_eq(warning, ""); /* nothing differs */
    kd_test_rig_finish(&rig);

    o.optim.total = 20; /* a run made longer: the schedule stretches */
    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, kd_test_path("c.kdas"), NULL));
    ck_assert_double_eq_tol(kdas_optim_lr(rig.optim), 0.25 * 19 / 20, 1e-12);
    ck_assert_ptr_nonnull(strstr(warning, "optim.lr goes on at 0.25"));
    ck_assert_ptr_nonnull(strstr(warning, "optim.total is 20 from here on"));
    kd_test_rig_finish(&rig);
}
END_TEST

/* What is kept is f32: nothing is lost, and another processor can go on. */
START_TEST(a_run_may_go_on_in_another_precision_and_says_so)
{
    static const kdas_precision way[2] = { KDAS_PRECISION_F32, KDAS_PRECISION_BF16 };
    char                        warning[1024];
    kd_test_rig_options         o = kd_test_rig_usual();
    kd_test_rig                 from, to;

    if (!kd_test_can_half()) return;
    o.log      = keep_warning;
    o.log_user = warning;
    for (int i = 0; i < 2; i++) {
        o.precision  = way[i];
        o.model.seed = 1;
        kd_test_rig_make(&from, &o);
        kd_test_rig_step(&from, 0);
        kd_assert_ok(kdas_checkpoint_save(from.distiller, kd_test_path("c.kdas"), NULL, NULL));
        o.precision  = way[!i];
        o.model.seed = 2;
        kd_test_rig_make(&to, &o);
        *warning = '\0';
        kd_assert_ok(kdas_checkpoint_load(to.distiller, kd_test_path("c.kdas"), NULL));
        ck_assert_ptr_nonnull(strstr(warning, i ? "is 'f32' from" : "is 'bf16' from"));
        ck_assert_ptr_nonnull(strstr(warning, i ? "had 'bf16'" : "had 'f32'"));
        kd_test_assert_same_weights(to.student, from.student);
        ck_assert_int_eq(kdas_optim_updates(to.optim), 1);
        kd_test_rig_step(&to, 1);
        kd_test_rig_finish(&to);
        kd_test_rig_finish(&from);
    }
}
END_TEST

/* ---- refusals ---- */

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

/* ---- memory ---- */

START_TEST(any_allocation_of_a_save_may_fail)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = kd_test_rig_usual();
    kdas_status         st    = KDAS_ENOMEM;
    kd_test_rig         rig;

    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    for (long k = 1; st != KDAS_OK; k += 1 + k / 4) {
        long held     = meter.taken - meter.given_back;
        meter.fail_at = meter.taken + k;
        st            = kdas_checkpoint_save(rig.distiller, kd_test_path("c.kdas"), NULL, "notes");
        meter.fail_at = 0;
        ck_assert_int_eq(meter.taken - meter.given_back, held);
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
    }
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

START_TEST(any_allocation_of_a_load_may_fail)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = kd_test_rig_usual();
    kdas_status         st    = KDAS_ENOMEM;
    size_t              n;
    float              *before, *after;
    kd_test_rig         rig;

    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0); /* the student has its facts, as it will have after the load */
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_step(&rig, 1);
    before = kd_test_weights(rig.student, &n);
    for (long k = 1; st != KDAS_OK; k += 1 + k / 4) {
        long held     = meter.taken - meter.given_back;
        meter.fail_at = meter.taken + k;
        st            = kdas_checkpoint_load(rig.distiller, kd_test_path("c.kdas"), NULL);
        meter.fail_at = 0;
        ck_assert_int_eq(meter.taken - meter.given_back, held);
        after = kd_test_weights(rig.student, &n);
        ck_assert_int_eq(kd_test_same_bits(before, after, n * sizeof *after), st != KDAS_OK);
        free(after);
        if (st != KDAS_OK) kd_assert_status(st, KDAS_ENOMEM);
    }
    free(before);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

static Suite *checkpoint_suite(void)
{
    Suite *s       = suite_create("checkpoint");
    TCase *bits    = tcase_create("what comes back");
    TCase *refused = tcase_create("refusals");
    TCase *memory  = tcase_create("memory");

    tcase_add_checked_fixture(bits, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(bits, a_resumed_run_gives_the_bits_of_an_unbroken_one, 0, KD_COUNT(cases));
    tcase_add_test(bits, a_load_drops_what_was_gathered_before_it);
    tcase_add_test(bits, progress_comes_back_exactly);
    tcase_add_test(bits, progress_out_of_range_is_not_saved);
    tcase_add_test(bits, notes_are_kept_whatever_bytes_they_have);
    tcase_add_test(bits, the_optimizer_goes_on_as_it_was_and_says_so);
    tcase_add_test(bits, a_run_may_go_on_in_another_precision_and_says_so);
    suite_add_tcase(s, bits);

    tcase_add_checked_fixture(refused, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(refused, a_checkpoint_of_another_run_is_refused_and_the_difference_named);
    tcase_add_test(refused, waiting_micro_batches_need_the_same_accumulation);
    tcase_add_test(refused, a_damaged_file_is_refused_and_nothing_is_changed);
    tcase_add_test(refused, a_whole_file_that_says_the_impossible_is_refused);
    tcase_add_test(refused, a_file_of_before_the_loss_scale_starts_it_as_the_options_do);
    tcase_add_test(refused, a_file_of_few_records_is_not_a_checkpoint_of_ours);
    tcase_add_test(refused, a_folder_that_is_not_there_is_named_and_the_old_file_stays);
    tcase_add_test(refused, arguments_that_are_null_are_refused);
    suite_add_tcase(s, refused);

    tcase_add_checked_fixture(memory, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(memory, any_allocation_of_a_save_may_fail);
    tcase_add_test(memory, any_allocation_of_a_load_may_fail);
    suite_add_tcase(s, memory);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(checkpoint_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
