/* check_map_pairs.c - which map of the teacher guides which of the student, for any numbers of maps. */
#include <check.h>
#include <string.h>
#include "loss/loss.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/small_nets.h"

enum { SIDE = 32, AREA = SIDE * SIDE, HALF = AREA / 4, COUNTS = 3, MOST = 4 };

static const char *const pairs[] = { "deep", "spread", "answer" };

/* By hand: the teacher's map, from 0, for each map of the student. */
static const struct {
    int teacher, student, deep[MOST], spread[MOST];
} want[COUNTS * COUNTS] = {
    { 1, 1, { 0 }, { 0 } }, { 1, 2, { 0, 0 }, { 0, 0 } }, { 1, 4, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } },
    { 2, 1, { 1 }, { 1 } }, { 2, 2, { 0, 1 }, { 0, 1 } }, { 2, 4, { 0, 0, 0, 1 }, { 0, 0, 1, 1 } },
    { 4, 1, { 3 }, { 3 } }, { 4, 2, { 2, 3 }, { 0, 3 } }, { 4, 4, { 0, 1, 2, 3 }, { 0, 1, 2, 3 } },
};

START_TEST(maps_are_paired_as_the_table_has_them)
{
    for (int i = 0; i < want[_i].student; i++) {
        ck_assert_int_eq(kd_paired_map(KD_PAIR_DEEP, want[_i].teacher, want[_i].student, i),
                         want[_i].deep[i]);
        ck_assert_int_eq(kd_paired_map(KD_PAIR_SPREAD, want[_i].teacher, want[_i].student, i),
                         want[_i].spread[i]);
    }
}
END_TEST

/* Guidance alone. */
static kdas_loss *make_loss(kdas_context *ctx, const char *pair)
{
    kdas_loss_options o;
    kdas_loss        *loss;

    kdas_loss_options_init(&o, sizeof o);
    o.guidance   = "kl";
    o.axis       = "pixel";
    o.seg_weight = 0;
    o.pair       = pair;
    kd_assert_ok(kdas_loss_create(&loss, ctx, &o));
    return loss;
}

static float student[MOST][AREA], teacher[MOST][HALF], masks[AREA];

static void fill(void)
{
    static const char *const name[] = { "a", "b", "c", "d", "e", "f", "g", "h" };

    for (int i = 0; i < MOST; i++) {
        kd_test_fill(student[i], AREA, name[i], 2, 0);
        kd_test_fill(teacher[i], HALF, name[4 + i], 2, 0);
    }
}

static double evaluate(kdas_loss *loss, int maps, const float *const *s, int of,
                       const float *const *t, float *const *gradients)
{
    kdas_loss_report r = { .size = sizeof r };

    kd_assert_ok(kdas_loss_evaluate(loss, &(kdas_maps){ s, maps, 1, SIDE, SIDE },
                                    &(kdas_maps){ t, of, 1, SIDE / 2, SIDE / 2 }, masks, gradients,
                                    &r));
    return r.raw[KDAS_TERM_KD];
}

/* One pair after the other, with maps that the test chooses. */
START_TEST(the_term_is_the_sum_of_the_pairs)
{
    static float  sum[HALF], got[MOST][AREA], one[AREA];
    kdas_context *ctx = kd_test_device("cpu", NULL);
    const int     T = want[_i].teacher, S = want[_i].student;
    const float  *s[MOST], *t[MOST];
    float        *g[MOST], *alone[1] = { one };

    fill();
    memset(sum, 0, sizeof sum);
    for (int i = 0; i < MOST; i++) {
        s[i] = student[i];
        t[i] = teacher[i];
        g[i] = got[i];
        for (int k = 0; i < T && k < HALF; k++)
            sum[k] += teacher[i][k];
    }
    for (size_t p = 0; p < KD_COUNT(pairs); p++) {
        kdas_loss *loss  = make_loss(ctx, pairs[p]);
        double     total = evaluate(loss, S, s, T, t, g), parts = 0;

        for (int i = 0; i < S; i++) {
            const float *by = p == 0   ? teacher[want[_i].deep[i]]
                              : p == 1 ? teacher[want[_i].spread[i]]
                                       : sum;

            parts += evaluate(loss, 1, &s[i], 1, &by, alone);
            kd_assert_close(got[i], one, AREA, 1e-5);
        }
        ck_assert_double_eq_tol(total, parts, 1e-5 * parts);
        kdas_loss_destroy(loss);
    }
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(far_away_pairs_have_the_bits_of_the_cpu)
{
    static float g[2][MOST][AREA];
    double       value[2];
    const int    T = want[_i].teacher, S = want[_i].student;
    const float *s[MOST], *t[MOST];

    fill();
    for (size_t p = 0; p < KD_COUNT(pairs); p++) {
        for (int far = 0; far < 2; far++) {
            kdas_context *ctx  = kd_test_device(far ? "far" : "cpu", NULL);
            kdas_loss    *loss = make_loss(ctx, pairs[p]);
            float        *to[MOST];

            for (int i = 0; i < MOST; i++) {
                s[i]  = student[i];
                t[i]  = teacher[i];
                to[i] = g[far][i];
            }
            value[far] = evaluate(loss, S, s, T, t, to);
            kdas_loss_destroy(loss);
            kdas_context_destroy(ctx);
        }
        ck_assert(value[0] == value[1]);
        ck_assert(kd_test_same_bits(g[0], g[1], (size_t)S * sizeof g[0][0]));
    }
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(other_ways_to_pair_are_refused)
{
    kdas_context     *ctx = kd_test_device("cpu", NULL);
    kdas_loss        *loss;
    kdas_loss_options o;
    char              text[200];

    kdas_loss_options_init(&o, sizeof o);
    ck_assert_str_eq(o.pair, "deep");
    o.pair = "all";
    kd_assert_status(kdas_loss_create(&loss, ctx, &o), KDAS_ENOTFOUND);
    kd_assert_sentence("there is no way to pair maps 'all'");
    o.pair = NULL;
    kd_assert_status(kdas_loss_create(&loss, ctx, &o), KDAS_EINVAL);
    o.pair = "answer";
    kd_assert_ok(kdas_loss_options_describe(&o, text, sizeof text));
    ck_assert_str_eq(text, "paper with pair answer");
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- models ---- */

static const kd_model_rules last = { .last = true };

static kd_test_rig_options options_of(const char *pair)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.loss.guidance = "kl";
    o.loss.axis     = "pixel";
    o.loss.pair     = pair;
    return o;
}

/* The kd term that a step has, of the maps that both networks then hold, by their definition. */
static double term_of(kd_test_rig *rig, const char *pair)
{
    static float     s[MOST][AREA], t[MOST + 1][AREA];
    const float     *of_student[MOST], *of_teacher[MOST];
    int              maps = kdas_model_maps(rig->student), of = kdas_model_maps(rig->teacher);
    kdas_loss       *loss = make_loss(rig->ctx, strcmp(pair, "answer") ? pair : "deep");
    kdas_loss_report r    = { .size = sizeof r };

    memset(t[MOST], 0, sizeof t[MOST]);
    for (int i = 0; i < maps; i++) {
        kd_assert_ok(
            kdas_model_read_output(rig->student, kdas_model_output(rig->student, i, NULL), s[i]));
        of_student[i] = s[i];
    }
    for (int i = 0; i < of; i++) {
        kd_assert_ok(
            kdas_model_read_output(rig->teacher, kdas_model_output(rig->teacher, i, NULL), t[i]));
        of_teacher[i] = t[i];
        for (int k = 0; i >= kdas_model_answer(rig->teacher) && k < AREA; k++)
            t[MOST][k] += t[i][k];
    }
    if (!strcmp(pair, "answer")) {
        of            = 1;
        of_teacher[0] = t[MOST];
    }
    kd_assert_ok(kdas_loss_evaluate(loss, &(kdas_maps){ of_student, maps, 1, SIDE, SIDE },
                                    &(kdas_maps){ of_teacher, of, 1, SIDE, SIDE }, masks, NULL,
                                    &r));
    kdas_loss_destroy(loss);
    return r.raw[KDAS_TERM_KD];
}

START_TEST(any_number_of_maps_teaches_any_other)
{
    kd_model_def s = kd_test_small_def(
        "student", KD_TEST_SMALL(want[_i].student, KD_TEST_USUAL_STRIDES), &kd_rules_common);

    for (size_t p = 0; p < KD_COUNT(pairs); p++)
        for (int only = 0; only < 2; only++) {
            kd_model_def t =
                kd_test_small_def("teacher", KD_TEST_SMALL(want[_i].teacher, KD_TEST_USUAL_STRIDES),
                                  only ? &last : &kd_rules_common);
            kd_test_rig_options o = options_of(pairs[p]);
            kdas_step_report    r = { .size = sizeof r };
            kd_test_rig         rig;
            kdas_batch         *b;
            double              term;

            kd_assert_ok(kd_test_small_rig(&rig, &s, &t, &o));
            b = kd_test_small_batch(rig.ctx, 1, SIDE, "b");
            kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
            term = term_of(&rig, pairs[p]);
            kd_assert_ok(kdas_distiller_backward(rig.distiller, &r));
            ck_assert_double_eq_tol(r.raw[KDAS_TERM_KD], term, 1e-5 * term);
            kd_assert_ok(kdas_distiller_update(rig.distiller, &r));
            ck_assert(r.updated);
            kdas_batch_destroy(b);
            kd_test_rig_finish(&rig);
        }
}
END_TEST

START_TEST(frames_without_a_mask_learn_the_answer)
{
    static float answer[AREA], other[AREA];
    kd_model_def s = kd_test_small_def("student", KD_TEST_SMALL(1, KD_TEST_USUAL_STRIDES),
                                       &kd_rules_common),
                 t = kd_test_small_def("teacher", KD_TEST_SMALL(3, KD_TEST_USUAL_STRIDES), &last);
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_step_report    r = { .size = sizeof r }, given = { .size = sizeof given };
    kd_test_rig         rig;
    kdas_batch         *b;

    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    kd_assert_ok(kd_test_small_rig(&rig, &s, &t, &o));
    b = kd_test_small_batch(rig.ctx, 1, SIDE, "b");
    kd_assert_ok(kdas_batch_set_labelled(b, 0, 0));
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_model_read_output(rig.teacher, "P3", answer));
    kd_assert_ok(kdas_model_read_output(rig.teacher, "P1", other));
    ck_assert(!kd_test_same_bits(answer, other, sizeof answer));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, &r));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);

    o = kd_test_rig_usual(); /* the same with the last map as a teacher of the host's */
    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    kd_assert_ok(kd_test_small_rig(&rig, &s, NULL, &o));
    b = kd_test_small_batch(rig.ctx, 1, SIDE, "b");
    kd_assert_ok(kdas_batch_set_labelled(b, 0, 0));
    kd_assert_ok(kdas_distiller_set_teacher_maps(
        rig.distiller, &(kdas_maps){ (const float *[]){ answer }, 1, 1, SIDE, SIDE }));
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, &given));
    ck_assert(given.raw[KDAS_TERM_SEG] == r.raw[KDAS_TERM_SEG]);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("map pairs");
    TCase   *maps = tcase_create("maps"), *models = tcase_create("models");
    SRunner *runner;
    int      failed;

    tcase_add_loop_test(maps, maps_are_paired_as_the_table_has_them, 0, COUNTS * COUNTS);
    tcase_add_loop_test(maps, the_term_is_the_sum_of_the_pairs, 0, COUNTS * COUNTS);
    tcase_add_loop_test(maps, far_away_pairs_have_the_bits_of_the_cpu, 0, COUNTS * COUNTS);
    tcase_add_test(maps, other_ways_to_pair_are_refused);
    tcase_add_loop_test(models, any_number_of_maps_teaches_any_other, 0, COUNTS * COUNTS);
    tcase_add_test(models, frames_without_a_mask_learn_the_answer);
    suite_add_tcase(suite, maps);
    suite_add_tcase(suite, models);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
