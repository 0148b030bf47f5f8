/* check_guidance_run.c - share and ramps in steps and runs: on a device with memory of its own, through failures, in
 * checkpoints, resumed to the bit. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/distiller.h"
#include "io/container.h"
#include "loss/loss.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/train_util.h"
#include "graph/settings.h"

/* Guidance that would drive, held back. */
static kd_test_rig_options limited(void)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.loss.guidance_weight = 100;
    o.loss.share           = 0.5f;
    return o;
}

static void assert_same_state(const kd_test_rig *a, const kd_test_rig *b)
{
    kd_test_assert_same_weights(a->student, b->student);
    ck_assert_mem_eq(a->loss->share, b->loss->share, sizeof a->loss->share);
}

/* ---- steps ---- */

START_TEST(a_step_holds_each_term_to_its_share)
{
    kd_test_rig_options o = limited();
    kdas_step_report    r;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    r = kd_test_rig_report(&rig, 0);
    for (int t = KDAS_TERM_KD; t <= KDAS_TERM_SGM; t++)
        ck_assert_double_eq_tol(r.gradient[t], 0.5 * r.gradient[KDAS_TERM_SEG], 1e-9);
    kd_test_rig_report(&rig, 1);
    ck_assert_int_eq(rig.loss->share[KDAS_TERM_KD].count, 2);
    ck_assert_int_eq(rig.loss->share[KDAS_TERM_SGM].count, 2);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(norms_that_are_not_reported_limit_all_the_same)
{
    kd_test_rig_options o = limited();
    kdas_step_report    r;
    kd_test_rig         with, without;

    kd_test_rig_make(&with, &o);
    o.distiller.gradient_norms = 0;
    kd_test_rig_make(&without, &o);
    for (int t = 0; t < 3; t++) {
        kd_test_rig_report(&with, t);
        r = kd_test_rig_report(&without, t);
        for (int k = 0; k < KDAS_TERMS; k++)
            ck_assert(r.gradient[k] == 0);
    }
    assert_same_state(&with, &without);
    kd_test_rig_finish(&with);
    kd_test_rig_finish(&without);
}
END_TEST

static void step_in_silence(kd_test_rig *rig, int t)
{
    kdas_batch *b;
    char        name[32];

    snprintf(name, sizeof name, "batch.%d", t);
    kd_assert_ok(kdas_batch_create(&b, rig->ctx, 2, 32, 32));
    kd_test_fill(kdas_batch_images(b), 2 * 32 * 32 * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), 2, 32, 32, name);
    kd_assert_ok(kdas_distiller_step(rig->distiller, b, NULL));
    kdas_batch_destroy(b);
}

/* With a report and without, captured or not. */
START_TEST(far_away_steps_give_the_bits_of_the_cpu)
{
    kd_test_rig_options o = limited();
    kd_test_rig         near, far;

    o.distiller.accumulate = 1 + _i;
    kd_test_rig_make(&near, &o);
    o.device = "far";
    kd_test_rig_make(&far, &o);
    kd_graph_settings_change(far.ctx)->uncaptured = _i == 1;
    for (int t = 0; t < 4; t++) {
        if (t % 2) {
            step_in_silence(&near, t);
            step_in_silence(&far, t);
        } else {
            kdas_step_report a = kd_test_rig_report(&near, t), b = kd_test_rig_report(&far, t);

            ck_assert_mem_eq(a.raw, b.raw, sizeof a.raw);
            ck_assert_mem_eq(a.weighted, b.weighted, sizeof a.weighted);
            ck_assert_mem_eq(a.gradient, b.gradient, sizeof a.gradient);
        }
    }
    assert_same_state(&near, &far);
    kd_test_rig_finish(&near);
    kd_test_rig_finish(&far);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(a_step_that_fails_leaves_the_means_as_they_were)
{
    kd_test_rig_options o = limited();
    kdas_step_report    r = { .size = sizeof r };
    kd_share            before[KDAS_TERMS];
    const float         nan = NAN;
    kdas_batch         *b;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    memcpy(before, rig.loss->share, sizeof before);
    kd_assert_ok(kdas_batch_create(&b, rig.ctx, 2, 32, 32));
    kd_test_fill(kdas_batch_images(b), 2 * 32 * 32 * 3, "fail", 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), 2, 32, 32, "fail");
    /* the objective is done when the update finds what is no number among the gradients */
    kd_assert_ok(
        kd_device_upload(rig.ctx, kd_params_grads(rig.student->params) + 1000, &nan, sizeof nan));
    kd_assert_status(kdas_distiller_step(rig.distiller, b, &r), KDAS_ENUMERIC);
    ck_assert_mem_eq(before, rig.loss->share, sizeof before);
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
    ck_assert_int_eq(rig.loss->share[KDAS_TERM_KD].count, before[KDAS_TERM_KD].count + 1);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(under_factor_0_the_teacher_does_not_run)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_step_report    r;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_loss_set_guidance_factor(rig.loss, 0));
    r = kd_test_rig_report(&rig, 0);
    ck_assert_ptr_null(rig.teacher->current);
    ck_assert(r.raw[KDAS_TERM_KD] == 0 && r.raw[KDAS_TERM_SGM] == 0);
    ck_assert(r.total == r.weighted[KDAS_TERM_SEG]);
    kd_assert_ok(kdas_loss_set_guidance_factor(rig.loss, 1));
    r = kd_test_rig_report(&rig, 1);
    ck_assert_ptr_nonnull(rig.teacher->current);
    ck_assert_double_gt(r.raw[KDAS_TERM_KD], 0);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- checkpoints ---- */

static int  told;
static void count_told(void *user, kdas_log_level level, const char *text)
{
    (void)user, (void)level;
    told += strstr(text, "start anew") != NULL;
}

/* A copy of a checkpoint without one of its records, a tensor. */
static void leave_out(kdas_context *ctx, const char *from, const char *to, const char *record)
{
    static const char *const more[] = { "model", "precision", "optim.rule", "optim.schedule",
                                        "optim.no_decay" };
    kd_container            *file;
    kd_container_writer     *w;
    const char              *text;
    void                   **data;

    kd_assert_ok(kd_container_open(&file, ctx, from));
    kd_assert_ok(kd_container_create(&w, ctx));
    data = calloc((size_t)kd_container_count(file), sizeof *data);
    for (int64_t i = 0; i < kd_container_count(file); i++) {
        const kd_st_tensor *t = kd_container_at(file, i);

        if (strcmp(t->name, record) == 0) continue;
        data[i] = malloc(t->bytes + 1);
        kd_assert_ok(kd_container_get(file, t->name, t->dtype, t->rank, t->dim, data[i]));
        kd_assert_ok(kd_container_put(w, t->name, t->dtype, t->rank, t->dim, data[i]));
    }
    for (size_t i = 0; i < KD_COUNT(more) + KD_LOSS_TEXTS; i++) {
        const char *name = i < KD_COUNT(more) ? more[i] : kd_loss_texts[i - KD_COUNT(more)].name;

        if (strcmp(name, record) == 0) continue;
        kd_assert_ok(kd_container_get_text(file, name, &text));
        kd_assert_ok(kd_container_put_text(w, name, text));
    }
    kd_assert_ok(kd_container_save(w, to));
    for (int64_t i = 0; i < kd_container_count(file); i++)
        free(data[i]);
    free(data);
    kd_container_discard(w);
    kd_container_close(file);
}

START_TEST(a_resumed_share_goes_on_with_the_same_bits)
{
    kd_test_rig_options o = limited();
    kd_test_rig         whole, part;

    o.distiller.accumulate = 1 + _i; /* 2: a micro-batch waits */
    kd_test_rig_make(&whole, &o);
    for (int t = 0; t < 5; t++)
        kd_test_rig_step(&whole, t);
    kd_test_rig_make(&part, &o);
    for (int t = 0; t < 3; t++)
        kd_test_rig_step(&part, t);
    kd_assert_ok(kdas_checkpoint_save(part.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&part);
    kd_test_rig_make(&part, &o);
    kd_test_rig_step(&part, 77); /* what it knew before is gone */
    kd_assert_ok(kdas_checkpoint_load(part.distiller, kd_test_path("c.kdas"), NULL));
    for (int t = 3; t < 5; t++)
        kd_test_rig_step(&part, t);
    assert_same_state(&whole, &part);
    kd_test_rig_finish(&whole);
    kd_test_rig_finish(&part);
}
END_TEST

START_TEST(a_file_without_means_starts_them_anew_and_says_so)
{
    kd_test_rig_options o    = limited();
    const char         *path = kd_test_path("c.kdas"), *bare = kd_test_path("bare.kdas");
    kd_test_rig         rig;

    o.log = count_told;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, NULL, NULL));
    leave_out(rig.ctx, path, bare, "share");
    told = 0;
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, path, NULL));
    ck_assert_int_eq(told, 0);
    ck_assert_int_eq(rig.loss->share[KDAS_TERM_KD].count, 1);
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, bare, NULL));
    ck_assert_int_eq(told, 1);
    ck_assert_int_eq(rig.loss->share[KDAS_TERM_KD].count, 0);
    rig.loss->share[KDAS_TERM_SGM].seg = NAN;
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, NULL, NULL));
    kd_assert_status(kdas_checkpoint_load(rig.distiller, path, NULL), KDAS_EFORMAT);
    kd_assert_sentence("share");
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_checkpoint_of_another_guidance_is_refused)
{
#define CHANGED(change, word)                                                           \
    o = kd_test_rig_usual();                                                            \
    change;                                                                             \
    kd_test_rig_make(&rig, &o);                                                         \
    kd_assert_status(kdas_checkpoint_load(rig.distiller, kd_test_path("c.kdas"), NULL), \
                     KDAS_EINVAL);                                                      \
    kd_assert_sentence(word);                                                           \
    if (_i) kd_assert_sentence("'logits', here it is 'probability'");                   \
    kd_test_rig_finish(&rig)
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, kd_test_path("c.kdas"), NULL, NULL));
    if (_i) { /* of before 0.4: what it lacks was as the defaults are */
        leave_out(rig.ctx, kd_test_path("c.kdas"), kd_test_path("d.kdas"), "loss.input");
        kd_test_copy(kd_test_path("d.kdas"), kd_test_path("c.kdas"));
        kd_assert_ok(kdas_checkpoint_load(rig.distiller, kd_test_path("c.kdas"), NULL));
    }
    kd_test_rig_finish(&rig);
    CHANGED(o.loss.input = "probability", "loss.input");
    if (_i) return;
    CHANGED(o.loss.similarity = "cosine", "loss.similarity");
    CHANGED(o.loss.distance = "pearson", "loss.distance");
    CHANGED(o.loss.share = 0.5f, "loss.share");
    CHANGED(o.loss.kd_weight = 0.5f, "loss.kd_weight");
    CHANGED(o.loss.sgm_weight = 0.5f, "loss.sgm_weight");
    CHANGED(o.loss.feature_weight = 0.5f, "loss.feature_weight");
    CHANGED(o.loss.feature_taps = "a:b", "loss.feature_taps");
}
END_TEST

/* ---- ramps in runs ---- */

typedef struct ramp_witness {
    const kdas_train_options *options;
    int                       stop_at, seen;
    double                    weight;
} ramp_witness;

static int watch_ramp(void *user, const kdas_train_state *s)
{
    ramp_witness *w  = user;
    double        at = (double)(s->step - 1) / KD_TEST_BATCHES, up, down;

    if (s->event != KDAS_EVENT_STEP) return 0;
    w->seen++;
    up   = w->options->ramp_up > 0 ? fmin(1, at / w->options->ramp_up) : 1;
    down = w->options->ramp_down > 0
               ? fmin(1, ((double)w->options->epochs - at) / w->options->ramp_down)
               : 1;
    ck_assert_double_eq_tol(s->report->weighted[KDAS_TERM_KD],
                            w->weight * fmin(up, down) * s->report->raw[KDAS_TERM_KD], 1e-9);
    ck_assert_int_eq(s->report->raw[KDAS_TERM_KD] > 0, s->step > 1);
    return w->stop_at == s->step;
}

static void make_ramp(kd_test_training *s, ramp_witness *w, const char *out)
{
    kd_test_rig_options o = kd_test_rig_usual();

    kd_test_train_make(s, &o, out);
    s->options.ramp_up   = 0.75;
    s->options.ramp_down = 1.1;
    s->options.progress  = watch_ramp;
    s->options.user      = w;
    *w = (ramp_witness){ .options = &s->options, .weight = (double)o.loss.guidance_weight };
}

START_TEST(guidance_rises_and_falls_and_a_resumed_run_goes_on_in_it)
{
    kd_test_training whole, part;
    ramp_witness     w;

    make_ramp(&part, &w, kd_test_path("part"));
    w.stop_at = 2 + 3 * _i;
    kd_assert_status(kd_test_train(&part), KDAS_ECANCELLED);
    kd_test_train_finish(&part);
    make_ramp(&part, &w, kd_test_path("part"));
    part.options.resume = 1;
    kd_assert_ok(kd_test_train(&part));
    ck_assert_int_eq(w.seen, 2 * KD_TEST_BATCHES - 2 - 3 * _i);
    make_ramp(&whole, &w, NULL);
    kd_assert_ok(kd_test_train(&whole));
    ck_assert_int_eq(w.seen, 2 * KD_TEST_BATCHES);
    ck_assert(whole.rig.loss->factor == 1); /* the host's, as it was */
    kd_test_assert_same_weights(whole.rig.student, part.rig.student);
    kd_test_train_finish(&whole);
    kd_test_train_finish(&part);
}
END_TEST

START_TEST(ramps_out_of_range_are_refused)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_training    s;

    kd_test_train_make(&s, &o, NULL);
    s.options.ramp_up = -1;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    kd_assert_sentence("ramp_up");
    s.options.ramp_up   = 0;
    s.options.ramp_down = NAN;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    kd_assert_sentence("ramp_down");
    kd_test_train_finish(&s);
}
END_TEST

static Suite *guidance_run_suite(void)
{
    Suite *s     = suite_create("guidance_run");
    TCase *steps = tcase_create("steps"), *files = tcase_create("files and runs");

    tcase_add_test(steps, a_step_holds_each_term_to_its_share);
    tcase_add_test(steps, norms_that_are_not_reported_limit_all_the_same);
    tcase_add_loop_test(steps, far_away_steps_give_the_bits_of_the_cpu, 0, 2);
    tcase_add_test(steps, a_step_that_fails_leaves_the_means_as_they_were);
    tcase_add_test(steps, under_factor_0_the_teacher_does_not_run);
    suite_add_tcase(s, steps);
    tcase_add_checked_fixture(files, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(files, a_resumed_share_goes_on_with_the_same_bits, 0, 2);
    tcase_add_test(files, a_file_without_means_starts_them_anew_and_says_so);
    tcase_add_loop_test(files, a_checkpoint_of_another_guidance_is_refused, 0, 2);
    tcase_add_loop_test(files, guidance_rises_and_falls_and_a_resumed_run_goes_on_in_it, 0, 2);
    tcase_add_test(files, ramps_out_of_range_are_refused);
    suite_add_tcase(s, files);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(guidance_run_suite());
    int      failed;

    kd_test_thin_networks();
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
