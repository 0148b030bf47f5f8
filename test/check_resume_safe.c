/* check_resume_safe.c - a resume that is refused has changed nothing, whatever it is refused for; frames that moved; the
 * lengths of a schedule. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"
#include "support/forge.h"
#include "support/thin.h"
#include "support/told.h"

/* A run with all that there is to lose: projections, an average, shares, micro-batches that wait. */
static kd_test_told rich(void)
{
    kd_test_told t = kd_test_told_usual();

    t.rig.loss.feature         = "normalised";
    t.rig.loss.share           = 0.5f;
    t.rig.distiller.ema        = 0.9f;
    t.rig.distiller.accumulate = 3;
    t.frames.count             = 8; /* four batches: an update, and a batch that waits */
    t.train.max_steps          = 4;
    return t;
}

/* ---- nothing is changed ---- */

START_TEST(any_allocation_of_a_resume_may_fail)
{
    kd_test_meter  meter    = { 0 };
    kd_test_told   t        = rich();
    kdas_status    st       = KDAS_ENOMEM;
    int            failures = 0;
    unsigned char *state;
    size_t         n;
    kd_test_run    run;

    kd_test_run_whole(&t);
    t.rig.meter      = &meter;
    t.rig.model.seed = 99;
    t.train.resume   = 1;
    t.loader.workers = 0; /* whose memory would run out at other times */
    kd_test_run_make(&run, &t);
    kd_test_rig_step(&run.rig, 0); /* something to be dropped */
    state = kd_test_state(run.rig.distiller, &n);
    for (long k = 1; st != KDAS_OK; k += 1 + k / 12) {
        meter.fail_at = meter.taken + k;
        st            = kd_test_run_train(&run);
        meter.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        kd_test_assert_state(run.rig.distiller, state, n, kdas_last_error());
        failures++;
    }
    ck_assert_int_gt(failures, 30);
    ck_assert_int_eq(kdas_optim_updates(run.rig.optim), 1); /* the file's */
    ck_assert_int_gt(kd_test_said_count("I resumed after epoch 1", ""), 0);
    free(state);
    kd_test_run_finish(&run);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* What is refused last: after all records have been compared. */
static void make_refusal(int i, kdas_context *ctx)
{
    static const kd_test_edit far_on = { "progress.position", KD_FORGE_WHOLE, .whole = 9 };
    char                      last[600], kept[600];

    snprintf(last, sizeof last, "%s", kd_test_path("out/last.kdas"));
    snprintf(kept, sizeof kept, "%s", kd_test_path("kept.kdas"));
    rename(last, kept);
    switch (i) {
    case 0: kd_test_forge(ctx, kept, last, &far_on, 1); break;
    case 1:
        kd_test_forge(ctx, kept, last, &(kd_test_edit){ "average.backbone", KD_FORGE_DROP_ALL }, 1);
        break;
    case 2:
        kd_test_forge(ctx, kept, last, &(kd_test_edit){ "optim.eps", KD_FORGE_NUMBER, -1 }, 1);
        break;
    case 3: kd_test_write(last, "short", 5); break;
    default:
        rename(kept, last);
        ck_assert_int_eq(truncate(kd_test_path("out/log.csv"), (off_t)65 << 20), 0);
    }
}

/* Two that learn alike; one of them is asked in between to go on from what it must refuse. */
START_TEST(a_run_that_was_refused_goes_on_as_if_it_had_not_been_asked)
{
    static const struct {
        kdas_status status;
        const char *part;
    } refusals[]     = { { KDAS_EINVAL, "stands at batch 9 after 1 epochs" },
                         { KDAS_EFORMAT, "last.kdas" },
                         { KDAS_EFORMAT, "record 'optim.eps'" },
                         { KDAS_EFORMAT, "last.kdas" },
                         { KDAS_EFORMAT, "log.csv" } };
    kd_test_told   t = rich();
    kd_test_run    asked, twin;
    unsigned char *state;
    size_t         n;

    kd_test_run_whole(&t);
    t.rig.model.seed = 99;
    t.train.resume   = 1;
    kd_test_run_make(&asked, &t);
    kd_test_run_make(&twin, &t);
    make_refusal(_i, asked.rig.ctx);
    for (int step = 0; step < 4; step++) {
        kd_test_rig_step(&asked.rig, step);
        kd_test_rig_step(&twin.rig, step);
    }
    kd_test_said[0] = 0;
    kd_assert_status(kd_test_run_train(&asked), refusals[_i].status);
    kd_assert_sentence(refusals[_i].part);
    ck_assert_int_eq(kd_test_said_count("W ", ""), 0);
    for (int step = 4; step < 8; step++)
        ck_assert_double_eq(kd_test_rig_step(&asked.rig, step), kd_test_rig_step(&twin.rig, step));
    state = kd_test_state(twin.rig.distiller, &n);
    kd_test_assert_state(asked.rig.distiller, state, n, refusals[_i].part);
    free(state);
    kd_test_run_finish(&asked);
    kd_test_run_finish(&twin);
}
END_TEST

/* Numbers of the run itself that no run can have written. Each is named with the file, and nothing is changed. */
static const struct {
    kd_test_edit edit;
    const char  *part;
} lies[] = {
    { { "progress.epoch", KD_FORGE_WHOLE, .whole = INT64_C(1) << 62 }, "progress.epoch" },
    { { "progress.epoch", KD_FORGE_WHOLE, .whole = INT64_C(1) << 31 }, "progress.epoch" },
    { { "progress.position", KD_FORGE_WHOLE, .whole = INT64_C(1) << 53 }, "stands at batch" },
    { { "progress.best", KD_FORGE_NUMBER, NAN }, "progress.best" },
    { { "progress.best", KD_FORGE_NUMBER, INFINITY }, "progress.best" },
    { { "progress.best", KD_FORGE_NUMBER, 1.5 }, "progress.best" },
    { { "progress.best", KD_FORGE_NUMBER, -2 }, "progress.best" },
    { { "progress.best_epoch", KD_FORGE_WHOLE, .whole = 3 }, "progress.best_epoch" },
    { { "host.run.sums", KD_FORGE_NUMBER, NAN }, "run.sums" },
    { { "host.run.sums", KD_FORGE_NUMBER, INFINITY }, "run.sums" },
    { { "host.run.sums", KD_FORGE_NUMBER, -1 }, "run.sums" },
    { { "host.run.sums", KD_FORGE_NUMBER, 0.5 }, "run.sums" },
    { { "host.run.sums", KD_FORGE_NUMBER, 1e300 }, "run.sums" },
    { { "host.run.started", KD_FORGE_NUMBER, NAN }, "run.started" },
    { { "host.run.started", KD_FORGE_NUMBER, 1e300 }, "run.started" },
    { { "host.run.started", KD_FORGE_NUMBER, -5 }, "run.started" },
    { { "host.run.resumes", KD_FORGE_NUMBER, -1 }, "run.resumes" },
    { { "host.run.resumes", KD_FORGE_NUMBER, 1e18 }, "run.resumes" },
    { { "host.run.resumes", KD_FORGE_NUMBER, NAN }, "run.resumes" },
};

START_TEST(numbers_that_no_run_has_are_refused_by_name)
{
    kd_test_told   t = rich();
    char           last[600], kept[600];
    unsigned char *state, *log, *after;
    size_t         n, m, k;
    kd_test_run    run;

    snprintf(last, sizeof last, "%s", kd_test_path("out/last.kdas"));
    snprintf(kept, sizeof kept, "%s", kd_test_path("kept.kdas"));
    kd_test_run_whole(&t);
    t.train.resume    = 1;
    t.train.max_steps = 5;
    kd_test_run_whole(&t); /* so that there is a resume to tell of */
    rename(last, kept);
    log = kd_test_read(kd_test_path("out/log.csv"), &m);
    kd_test_run_make(&run, &t);
    state = kd_test_state(run.rig.distiller, &n);
    for (size_t i = 0; i < KD_COUNT(lies); i++) {
        kd_test_forge(run.rig.ctx, kept, last, &lies[i].edit, 1);
        ck_assert_int_ne(kd_test_run_train(&run), KDAS_OK);
        kd_assert_sentence(lies[i].part);
        kd_assert_sentence("out/last.kdas");
        kd_test_assert_state(run.rig.distiller, state, n, lies[i].part);
        after = kd_test_read(kd_test_path("out/log.csv"), &k);
        ck_assert(k == m && memcmp(log, after, m) == 0);
        free(after);
    }
    kd_test_forge(run.rig.ctx, kept, last, NULL, 0);
    kd_assert_ok(kd_test_run_train(&run)); /* an honest copy is taken */
    free(log);
    free(state);
    kd_test_run_finish(&run);
}
END_TEST

/* ---- what it was trained and judged by ---- */

enum { SCENES = 8 };

/* A folder's frames by two splits, trained for an epoch, or taken up. */
static kdas_status train_on_folder(bool resume, int *moved)
{
    kd_test_told  t = kd_test_told_usual();
    kd_test_run   run;
    kdas_dataset *all;
    kdas_status   st;

    kd_test_run_make(&run, &t);
    kdas_loader_destroy(run.loader);
    kdas_dataset_destroy(run.frames);
    kdas_dataset_destroy(run.validation);
    kd_assert_ok(kdas_dataset_open(&all, run.rig.ctx, kd_test_path("frames"), NULL));
    ck_assert_int_eq(kdas_dataset_count(all), SCENES);
    kd_assert_ok(kdas_dataset_split(&run.frames, &run.validation, all, 0.25, 3));
    kdas_dataset_destroy(all);
    kd_assert_ok(kdas_loader_create(&run.loader, run.frames, &t.loader));
    *moved = 0;
    for (int64_t i = 0; i < kdas_dataset_count(run.validation); i++)
        *moved += (int)(kdas_dataset_name(run.validation, i)[0] - 'a') << (8 * i);
    run.told.train.resume    = resume;
    run.told.train.max_steps = kdas_loader_batches(run.loader);
    st                       = kd_test_run_train(&run);
    kd_test_run_finish(&run);
    return st;
}

static void write_frame(const char *name, int salt)
{
    kdas_scene_options   o;
    kdas_image          *image, *mask;
    kdas_context        *ctx;
    kdas_context_options c;
    kdas_view            view;
    char                 file[64];

    kdas_context_options_init(&c, sizeof c);
    kd_assert_ok(kdas_context_create(&ctx, &c));
    kdas_scene_options_init(&o, sizeof o);
    o.width = o.height = 48;
    kd_assert_ok(kdas_scene_draw(&image, &mask, ctx, salt, &o));
    snprintf(file, sizeof file, "frames/images/%s.png", name);
    view = kdas_image_view(image);
    kd_assert_ok(kdas_image_save(ctx, kd_test_path(file), &view));
    snprintf(file, sizeof file, "frames/masks/%s.png", name);
    view = kdas_image_view(mask);
    kd_assert_ok(kdas_image_save(ctx, kd_test_path(file), &view));
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_context_destroy(ctx);
}

/* "a" goes, "z" comes: the split by place now holds out frames that were trained on. */
START_TEST(a_frame_that_was_exchanged_is_noticed)
{
    int first, then;

    kd_test_shell("mkdir -p '%s' '%s'", kd_test_path("frames/images"),
                  kd_test_path("frames/masks"));
    for (int i = 0; i < SCENES; i++)
        write_frame((char[]){ (char)('a' + i), 0 }, i);
    kd_assert_ok(train_on_folder(false, &first));
    kd_assert_ok(train_on_folder(true, &then));
    ck_assert_int_eq(first, then);
    unlink(kd_test_path("frames/images/a.png"));
    unlink(kd_test_path("frames/masks/a.png"));
    write_frame("z", 20);
    kd_assert_status(train_on_folder(true, &then), KDAS_EINVAL);
    ck_assert_int_ne(first, then); /* others are held out */
    kd_assert_sentence("training frames");
    kd_assert_sentence("what was trained on may be in the validation set");
}
END_TEST

START_TEST(a_validation_set_cannot_come_or_go)
{
    kd_test_told t = kd_test_told_usual();
    kd_test_run  run;

    t.unvalidated = _i;
    kd_test_run_whole(&t);
    t.unvalidated  = !_i;
    t.train.resume = 1;
    kd_test_run_make(&run, &t);
    kd_assert_status(kd_test_run_train(&run), KDAS_EINVAL);
    kd_assert_sentence("validation frames");
    kd_assert_sentence("'none'");
    kd_test_run_finish(&run);
}
END_TEST

/* Where nothing reads the teacher, it is no part of the run. */
START_TEST(a_teacher_that_stands_by_may_be_any)
{
    kd_test_told t = kd_test_told_usual();
    kd_test_run  run;

    kd_assert_ok(kdas_loss_options_preset(&t.rig.loss, "baseline"));
    kd_test_run_whole(&t);
    t.rig.teacher  = NULL;
    t.train.resume = 1;
    kd_test_run_make(&run, &t);
    kd_assert_ok(kd_test_run_train(&run));
    kd_test_run_finish(&run);
}
END_TEST

/* ---- the lengths of a schedule ---- */

/* A run of 40 updates that falls every 2 is made one of 4000 that falls every 200: the old lengths would have had it at
 * 1e-3 x 0.1^19 by update 39. */
START_TEST(a_run_made_longer_has_the_schedule_of_the_longer_one)
{
    kd_test_told t = kd_test_told_usual();
    kd_test_run  run;

    t.rig.optim.schedule   = "step";
    t.rig.optim.total      = 40;
    t.rig.optim.step_every = 2;
    t.rig.optim.warmup     = 1;
    t.train.epochs         = 2;
    t.train.max_steps      = 4;
    kd_test_run_whole(&t);
    t.rig.optim.total      = 4000;
    t.rig.optim.step_every = 200;
    t.rig.optim.warmup     = 100;
    t.train.resume         = 1;
    kd_test_run_make(&run, &t);
    kd_test_said[0] = 0;
    kd_assert_ok(kd_test_run_train(&run));
    ck_assert_int_eq(kdas_optim_updates(run.rig.optim), 4);
    for (int64_t i = 4; i < 6; i++) {
        ck_assert_double_eq(kdas_optim_lr(run.rig.optim), kdas_schedule_lr(i, &t.rig.optim));
        kd_test_rig_step(&run.rig, (int)i);
    }
    ck_assert_int_eq(kd_test_said_count("W optim.step_every is 200 from here on", "had 2"), 1);
    ck_assert_int_eq(kd_test_said_count("W optim.warmup is 100 from here on", "had 1"), 1);
    ck_assert_int_eq(kd_test_said_count("W ", ""),
                     2); /* not of the total, which steps do not read */
    kd_test_run_finish(&run);
}
END_TEST

/* A total of 0 says nothing: the file's holds. */
START_TEST(a_length_that_is_not_told_is_the_files)
{
    kd_test_told t = kd_test_told_usual(), told;
    kd_test_run  run;

    t.rig.optim.schedule = "poly";
    t.rig.optim.total    = 40;
    told                 = t;
    kd_test_run_whole(&t);
    t.rig.optim.schedule = "constant";
    t.rig.optim.total    = 0;
    t.train.resume       = 1;
    kd_test_run_make(&run, &t);
    kd_test_said[0] = 0;
    kd_assert_ok(kd_test_run_train(&run));
    ck_assert_double_eq(kdas_optim_lr(run.rig.optim), kdas_schedule_lr(2, &told.rig.optim));
    ck_assert_int_eq(kd_test_said_count("W optim.schedule goes on at 'poly'", "'constant'"), 1);
    ck_assert_int_eq(kd_test_said_count("W ", ""), 1);
    kd_test_run_finish(&run);
}
END_TEST

START_TEST(lengths_that_do_not_fit_are_refused)
{
    kd_test_told   t = kd_test_told_usual();
    unsigned char *state;
    size_t         n;
    kd_test_run    run;

    t.rig.optim.schedule = "cosine";
    t.rig.optim.total    = 40;
    kd_test_run_whole(&t);
    t.rig.optim.schedule = "constant";
    t.rig.optim.total    = 10;
    t.rig.optim.warmup   = 20; /* which the file's schedule does not have room for */
    t.train.resume       = 1;
    kd_test_run_make(&run, &t);
    state = kd_test_state(run.rig.distiller, &n);
    kd_assert_status(kd_test_run_train(&run), KDAS_EINVAL);
    kd_assert_sentence("warm-up");
    kd_test_assert_state(run.rig.distiller, state, n, "warm-up");
    free(state);
    kd_test_run_finish(&run);
}
END_TEST

/* With and without a momentum, SGD keeps other state: the file's options do not fit the optimizer here. */
START_TEST(state_that_the_optimizer_does_not_keep_is_refused)
{
    kd_test_told   t = kd_test_told_usual();
    unsigned char *state;
    size_t         n;
    kd_test_run    run;

    t.rig.optim.rule     = "sgd";
    t.rig.optim.momentum = _i ? 0.9f : 0;
    kd_test_run_whole(&t);
    t.rig.optim.momentum = _i ? 0 : 0.9f;
    t.train.resume       = 1;
    kd_test_run_make(&run, &t);
    state           = kd_test_state(run.rig.distiller, &n);
    kd_test_said[0] = 0;
    kd_assert_status(kd_test_run_train(&run), KDAS_EINVAL);
    kd_assert_sentence(_i ? "its optim.momentum is 0.9, here it is 0"
                          : "its optim.momentum is 0, here it is 0.9");
    ck_assert_int_eq(kd_test_said_count("W ", ""), 0);
    kd_test_assert_state(run.rig.distiller, state, n, "momentum");
    free(state);
    kd_test_run_finish(&run);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("resume_safe");
    TCase   *refuse = tcase_create("nothing is changed");
    TCase   *data   = tcase_create("data and schedule");
    SRunner *runner = srunner_create(s);
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(refuse, 300);
    tcase_set_timeout(data, 120);
    tcase_add_checked_fixture(refuse, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_checked_fixture(data, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(refuse, any_allocation_of_a_resume_may_fail);
    tcase_add_loop_test(refuse, a_run_that_was_refused_goes_on_as_if_it_had_not_been_asked, 0, 5);
    tcase_add_test(refuse, numbers_that_no_run_has_are_refused_by_name);
    suite_add_tcase(s, refuse);
    tcase_add_test(data, a_frame_that_was_exchanged_is_noticed);
    tcase_add_loop_test(data, a_validation_set_cannot_come_or_go, 0, 2);
    tcase_add_test(data, a_teacher_that_stands_by_may_be_any);
    tcase_add_test(data, a_run_made_longer_has_the_schedule_of_the_longer_one);
    tcase_add_test(data, a_length_that_is_not_told_is_the_files);
    tcase_add_test(data, lengths_that_do_not_fit_are_refused);
    tcase_add_loop_test(data, state_that_the_optimizer_does_not_keep_is_refused, 0, 2);
    suite_add_tcase(s, data);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
