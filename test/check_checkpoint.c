/* check_checkpoint.c - a distiller's state in a file: what is saved comes back bit by bit. What is
 * refused: check_checkpoint_refused.c. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/container.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/thin.h"

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
    Suite *s      = suite_create("checkpoint");
    TCase *bits   = tcase_create("what comes back");
    TCase *memory = tcase_create("memory");

    tcase_add_checked_fixture(bits, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(bits, a_resumed_run_gives_the_bits_of_an_unbroken_one, 0, KD_COUNT(cases));
    tcase_add_test(bits, a_load_drops_what_was_gathered_before_it);
    tcase_add_test(bits, progress_comes_back_exactly);
    tcase_add_test(bits, notes_are_kept_whatever_bytes_they_have);
    tcase_add_test(bits, the_optimizer_goes_on_as_it_was_and_says_so);
    tcase_add_test(bits, a_run_may_go_on_in_another_precision_and_says_so);
    suite_add_tcase(s, bits);

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

    kd_test_thin_networks();
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
