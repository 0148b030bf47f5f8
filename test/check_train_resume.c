/* check_train_resume.c - runs broken anywhere and taken up, with the bits of an unbroken one. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/train_util.h"

/* Two logs agree in all but what a clock says. */
static void assert_same_logs(const char *a, const char *b)
{
    static const char *const clocks[] = { "images_per_second", "seconds", "waited" };
    kd_test_table            ta, tb;

    kd_test_table_read(&ta, a);
    kd_test_table_read(&tb, b);
    ck_assert_int_eq(ta.lines, tb.lines);
    for (int i = 0; i < ta.lines; i++)
        for (int k = 0; k < ta.cells; k++) {
            bool clock = false;

            for (size_t c = 0; c < KD_COUNT(clocks); c++)
                clock |= strcmp(ta.cell[0][k], clocks[c]) == 0;
            if (!clock) ck_assert_str_eq(ta.cell[i][k], tb.cell[i][k]);
        }
    free(ta.text);
    free(tb.text);
}

static const struct {
    int stop_at, cancel_at, stop_at_epoch, max_steps, accumulate;
} breaks[] = {
    { .stop_at = 2 },                   /* within an epoch, by the callback    */
    { .stop_at = 3, .accumulate = 2 },  /* a micro-batch waits                 */
    { .cancel_at = 1 },                 /* by a cancel of the context          */
    { .stop_at = KD_TEST_BATCHES },     /* the epoch's steps done, not judged  */
    { .stop_at_epoch = 1 },             /* the epoch done                      */
    { .max_steps = 6 },                 /* by the limit of steps               */
    { .max_steps = KD_TEST_BATCHES },   /* by a limit that is an epoch's end   */
    { .stop_at = 2 * KD_TEST_BATCHES }, /* all steps done, not judged          */
};

START_TEST(a_broken_run_taken_up_gives_the_bits_of_an_unbroken_one)
{
    kd_test_rig_options o       = _i < 2 ? kd_test_rig_usual() : kd_test_alone();
    bool                limited = breaks[_i].max_steps > 0;
    kd_test_training    s;
    kd_test_rig         whole;

    o.optim.schedule       = "poly";
    o.optim.total          = 20;
    o.distiller.accumulate = KD_MAX(breaks[_i].accumulate, 1);
    kd_test_train_make(&s, &o, kd_test_path("whole"));
    kd_assert_ok(kd_test_train(&s));
    whole = s.rig;
    s.rig = (kd_test_rig){ 0 };
    kdas_loader_destroy(s.loader);
    kdas_dataset_destroy(s.frames);
    kdas_dataset_destroy(s.validation);

    kd_test_train_make(&s, &o, kd_test_path("part"));
    s.saw.stop_at       = breaks[_i].stop_at;
    s.saw.cancel_at     = breaks[_i].cancel_at;
    s.saw.stop_at_epoch = breaks[_i].stop_at_epoch;
    s.options.max_steps = breaks[_i].max_steps;
    kd_assert_status(kd_test_train(&s), limited ? KDAS_OK : KDAS_ECANCELLED);
    ck_assert_int_le(s.saw.steps, 2 * KD_TEST_BATCHES);
    kd_test_train_finish(&s);

    o.model.seed = 999; /* a fresh process: nothing but the files is left */
    kd_test_train_make(&s, &o, kd_test_path("part"));
    s.options.resume = 1;
    kd_assert_ok(kd_test_train(&s));
    kd_test_assert_same_weights(s.rig.student, whole.student);
    assert_same_logs(kd_test_path("part/log.csv"), kd_test_path("whole/log.csv"));
    kd_test_train_finish(&s);
    kd_test_rig_finish(&whole);
}
END_TEST

/* Cut off, or with a bit flipped; with the best weights beside it, and without. */
START_TEST(a_damaged_checkpoint_is_told_with_what_to_begin_from)
{
    kd_test_rig_options o    = kd_test_alone();
    const char         *last = kd_test_path("part/last.kdas");
    const char         *best = kd_test_path("part/best.safetensors");
    unsigned char      *bytes;
    size_t              n;
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("part"));
    kd_assert_ok(kd_test_train(&s));
    s.options.resume = 1;
    bytes            = kd_test_read(last, &n);
    bytes[n - 9] ^= 1;
    kd_test_write(last, bytes, _i == 0 ? n : _i == 1 ? n / 2 : 0);
    kd_assert_status(kd_test_train(&s), KDAS_EFORMAT);
    kd_assert_sentence("the run cannot go on from its checkpoint: ");
    kd_assert_sentence(last);
    kd_assert_sentence("in a new folder (--out), from the best weights so far: '");
    kd_assert_sentence(best);
    ck_assert(!strstr(kdas_last_error(), "fetch") && !strstr(kdas_last_error(), "renaming"));
    remove(best);
    kd_test_write(kd_test_path("part/last.kdas.old"), bytes, n);
    kd_assert_status(kd_test_train(&s), KDAS_EFORMAT);
    kd_assert_sentence("last.kdas.old' to last.kdas, or begin another in a new folder (--out)");
    ck_assert(!strstr(kdas_last_error(), "best.safetensors"));
    free(bytes);
    kd_test_train_finish(&s);
}
END_TEST

/* A cancel from another thread after a while. */
typedef struct alarm_clock {
    kdas_context *ctx;
    useconds_t    after; /* microseconds */
} alarm_clock;

static void *ring(void *user)
{
    const alarm_clock *clock = user;

    usleep(clock->after);
    kdas_context_cancel(clock->ctx);
    return NULL;
}

/* The cancel falls anywhere, within a step most likely; ever later, so that the run gets on. */
START_TEST(a_cancel_at_any_moment_leaves_whole_steps)
{
    kd_test_rig_options o     = kd_test_alone();
    alarm_clock         clock = { .after = 20000 };
    kdas_status         st;
    pthread_t           thread;
    kd_test_training    whole, s;

    kd_test_train_make(&whole, &o, NULL);
    kd_assert_ok(kd_test_train(&whole));
    kd_test_train_make(&s, &o, kd_test_path("part"));
    s.options.resume = 1;
    clock.ctx        = s.rig.ctx;
    do {
        clock.after += clock.after / 4;
        ck_assert_int_eq(pthread_create(&thread, NULL, ring, &clock), 0);
        st = kd_test_train(&s);
        pthread_join(thread, NULL);
        kdas_context_resume(s.rig.ctx);
        ck_assert(st == KDAS_OK || st == KDAS_ECANCELLED);
    } while (st != KDAS_OK);
    kd_test_assert_same_weights(s.rig.student, whole.rig.student);
    kd_test_train_finish(&whole);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_kill_between_the_files_of_an_epoch_leaves_no_trace)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_training    whole, s;

    kd_test_train_make(&whole, &o, kd_test_path("whole"));
    kd_assert_ok(kd_test_train(&whole));
    kd_test_train_make(&s, &o, kd_test_path("part"));
    snprintf(s.saw.copy_at_epoch[0], sizeof s.saw.copy_at_epoch[0], "%s",
             kd_test_path("part/last.kdas"));
    snprintf(s.saw.copy_at_epoch[1], sizeof s.saw.copy_at_epoch[1], "%s", kd_test_path("kept"));
    kd_assert_ok(kd_test_train(&s));
    kd_test_train_finish(&s);
    /* log.csv and best.safetensors are of epoch 2 already, last.kdas is of epoch 1 */
    kd_test_copy(kd_test_path("kept"), kd_test_path("part/last.kdas"));
    kd_test_train_make(&s, &o, kd_test_path("part"));
    s.options.resume = 1;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(s.saw.steps, KD_TEST_BATCHES);
    kd_test_assert_same_weights(s.rig.student, whole.rig.student);
    assert_same_logs(kd_test_path("part/log.csv"), kd_test_path("whole/log.csv"));
    kd_test_train_finish(&whole);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_run_that_is_complete_has_nothing_to_resume)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.epochs = 1;
    kd_assert_ok(kd_test_train(&s));
    s.options.resume = 1;
    s.saw.steps = s.saw.epochs = 0;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(s.saw.steps, 0);
    ck_assert_int_eq(s.saw.epochs, 0);
    s.options.epochs = 2; /* made longer */
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(s.saw.steps, KD_TEST_BATCHES);
    ck_assert_int_eq(s.saw.last_epoch.epoch, 2);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_checkpoint_of_another_seed_or_loader_is_refused)
{
    kd_test_rig_options o = kd_test_alone();
    kdas_loader_options l;
    kdas_loader        *other;
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.saw.stop_at = 3;
    kd_assert_status(kd_test_train(&s), KDAS_ECANCELLED);
    s.options.resume = 1;
    s.options.seed   = 6;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    kd_assert_sentence("seed");
    s.options.seed = 5;
    kdas_loader_options_init(&l, sizeof l);
    l.batch  = KD_TEST_FRAMES; /* one batch an epoch */
    l.height = l.width = 32;
    kd_assert_ok(kdas_loader_create(&other, s.frames, &l));
    kd_assert_status(kdas_train(s.rig.distiller, other, s.validation, &s.options), KDAS_EINVAL);
    kd_assert_sentence("batch size is 2, here it is 8");
    kdas_loader_destroy(other);
    kd_test_train_finish(&s);
}
END_TEST

/* Between epochs, where the position alone would fit. */
START_TEST(a_checkpoint_of_longer_epochs_is_refused)
{
    kd_test_rig_options o = kd_test_alone();
    kdas_loader_options l;
    kdas_loader        *other;
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.epochs = 1;
    kd_assert_ok(kd_test_train(&s));
    s.options.resume = 1;
    s.options.epochs = KD_TEST_BATCHES + 1;
    kdas_loader_options_init(&l, sizeof l);
    l.batch  = KD_TEST_FRAMES / 2; /* two batches: 4 are two epochs, one was done */
    l.height = l.width = 32;
    kd_assert_ok(kdas_loader_create(&other, s.frames, &l));
    kd_assert_status(kdas_train(s.rig.distiller, other, s.validation, &s.options), KDAS_EINVAL);
    kd_assert_sentence("batch size is 2, here it is 4");
    kdas_loader_destroy(other);
    kd_test_train_finish(&s);
}
END_TEST

/* A checkpoint or log that cannot be looked at is not said to be missing, and no run begins over it. */
START_TEST(files_that_cannot_be_looked_at_are_not_replaced)
{
    static const char *const names[] = { "out/last.kdas", "out/log.csv" };
    kd_test_rig_options      o       = kd_test_alone();
    const char              *path    = kd_test_path(names[_i]);
    kd_test_training         s;
    struct stat              link;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.epochs = 1;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(remove(path), 0);
    ck_assert_int_eq(symlink(strrchr(path, '/') + 1, path), 0); /* it leads to itself */
    s.options.resume = 1;
    s.options.epochs = 2;
    kd_assert_status(kd_test_train(&s), KDAS_EIO);
    kd_assert_sentence(path);
    kd_assert_sentence(strerror(ELOOP));
    ck_assert(lstat(path, &link) == 0 && S_ISLNK(link.st_mode));
    ck_assert_int_eq(s.saw.steps, KD_TEST_BATCHES);
    kd_test_train_finish(&s);
}
END_TEST

/* Weights that have become NaN are found by the next step; a checkpoint comes before it. */
START_TEST(a_run_that_breaks_down_leaves_the_last_good_checkpoint)
{
    kd_test_rig_options o = kd_test_alone();
    kdas_progress       p = { .size = sizeof p };
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.save_every = 1;
    s.saw.poison_at      = 3;
    kd_assert_status(kd_test_train(&s), KDAS_ENUMERIC);
    kd_assert_sentence("nan, not finite: nothing is saved");
    kd_assert_ok(kdas_checkpoint_load(s.rig.distiller, kd_test_path("out/last.kdas"), &p));
    ck_assert_int_eq(p.position, 2);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(checkpoints_come_as_often_as_asked)
{
    kd_test_rig_options o = kd_test_alone();
    kdas_progress       p = { .size = sizeof p };
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.save_every = 3;
    s.options.notes      = "a note";
    s.saw.poison_at      = 4; /* so that the first epoch's validation is the run's end */
    kd_assert_status(kd_test_train(&s), KDAS_ENUMERIC);
    kd_assert_ok(kdas_checkpoint_load(s.rig.distiller, kd_test_path("out/last.kdas"), &p));
    ck_assert_int_eq(p.epoch, 0);
    ck_assert_int_eq(p.position, 3);
    ck_assert_uint_eq(p.seed, 5);
    ck_assert_int_eq(kdas_optim_updates(s.rig.optim), 3);
    kd_test_train_finish(&s);
}
END_TEST

static Suite *train_resume_suite(void)
{
    Suite *s     = suite_create("train_resume");
    TCase *taken = tcase_create("broken and taken up");

    tcase_add_checked_fixture(taken, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(taken, a_broken_run_taken_up_gives_the_bits_of_an_unbroken_one, 0,
                        KD_COUNT(breaks));
    tcase_add_loop_test(taken, a_damaged_checkpoint_is_told_with_what_to_begin_from, 0, 3);
    tcase_add_test(taken, a_cancel_at_any_moment_leaves_whole_steps);
    tcase_add_test(taken, a_kill_between_the_files_of_an_epoch_leaves_no_trace);
    tcase_add_test(taken, a_run_that_is_complete_has_nothing_to_resume);
    tcase_add_test(taken, a_checkpoint_of_another_seed_or_loader_is_refused);
    tcase_add_test(taken, a_checkpoint_of_longer_epochs_is_refused);
    tcase_add_test(taken, checkpoints_come_as_often_as_asked);
    tcase_add_loop_test(taken, files_that_cannot_be_looked_at_are_not_replaced, 0, 2);
    tcase_add_test(taken, a_run_that_breaks_down_leaves_the_last_good_checkpoint);
    suite_add_tcase(s, taken);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(train_resume_suite());
    int      failed;

    kd_test_thin_networks();
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
