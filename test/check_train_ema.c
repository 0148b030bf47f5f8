/* check_train_ema.c - the moving average of a student: its recurrence, its way through checkpoints and runs, and
 * that training never sees it; runs that end when patience does. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/distiller.h"
#include "model/model.h"
#include "optim/optim.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/train_util.h"

static kd_test_rig_options with_ema(float ema)
{
    kd_test_rig_options o = kd_test_alone();

    o.distiller.ema = ema;
    return o;
}

/* A model to read averages into. */
static kdas_model *another(const kd_test_rig *rig)
{
    kdas_model_options o;
    kdas_model        *model;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&model, rig->ctx, "polyp_pvt_b0", &o));
    return model;
}

static float *average_of(const kd_test_rig *rig, kdas_model *model, size_t *n)
{
    kd_assert_ok(kdas_distiller_read_average(rig->distiller, model));
    return kd_test_weights(model, n);
}

/* Set the counters among a model's numbers, which are never averaged. */
static void set_counters(float *all, const kdas_model *model, float value)
{
    int64_t dims[4];
    int32_t rank;

    for (int i = 0; i < kdas_model_tensors(model); i++) {
        const char *name = kdas_model_tensor(model, i, &rank, dims, NULL);
        int64_t     n    = 1;

        for (int k = 0; k < rank; k++)
            n *= dims[k];
        if (strstr(name, "num_batches_tracked")) *all = value;
        all += n;
    }
}

/* ---- the recurrence ---- */

/* In double, from what the student was after each update: y1 = x1, then y += (1 - d) (x - y). Each float update
 * errs by at most 3 roundings of the larger number, and the decay forgets them. */
START_TEST(the_average_follows_its_recurrence)
{
    kd_test_rig_options o = with_ema(_i ? 0.3f : 0.9f);
    kd_test_rig         rig;
    kdas_model         *model;
    double             *y = NULL;
    float              *x, *got;
    size_t              n;

    kd_test_rig_make(&rig, &o);
    model = another(&rig);
    for (int t = 1; t <= 5; t++) {
        double d = fmin((double)o.distiller.ema, (1.0 + t) / (10.0 + t));

        kd_test_rig_step(&rig, t);
        x = kd_test_weights(rig.student, &n);
        set_counters(x, model, 1);
        if (!y) y = malloc(n * sizeof *y);
        for (size_t i = 0; i < n; i++)
            y[i] = t == 1 ? x[i] : y[i] + (1 - d) * (x[i] - y[i]);
        got = average_of(&rig, model, &n);
        set_counters(got, model, 1);
        if (t == 1) ck_assert_int_eq(memcmp(got, x, n * sizeof *x), 0);
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(got[i], y[i], 1e-6 * (1 + fabs(y[i])));
        free(x);
        free(got);
    }
    free(y);
    kdas_model_destroy(model);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(counters_are_the_students)
{
    kd_test_rig_options o = with_ema(0.9f);
    kd_test_rig         rig;
    kdas_model         *model;
    int                 counters = 0;
    float               value;

    kd_test_rig_make(&rig, &o);
    model = another(&rig);
    for (int t = 0; t < 3; t++)
        kd_test_rig_step(&rig, t);
    kd_assert_ok(kdas_distiller_read_average(rig.distiller, model));
    for (int i = 0; i < kdas_model_tensors(model); i++) {
        if (!strstr(kdas_model_tensor(model, i, NULL, NULL, NULL), "num_batches_tracked")) continue;
        kd_assert_ok(kdas_model_read(model, i, &value));
        ck_assert_float_eq(value, 3);
        counters++;
    }
    ck_assert_int_gt(counters, 0);
    kdas_model_destroy(model);
    kd_test_rig_finish(&rig);
}
END_TEST

static void assert_average_is(const kd_test_rig *rig, kdas_model *model, const float *want)
{
    size_t n;
    float *got = average_of(rig, model, &n);

    ck_assert_int_eq(memcmp(got, want, n * sizeof *got), 0);
    free(got);
}

/* Before the first update it is the student. Half an update leaves the parameters' average, and the running
 * statistics' too, where they were; and so does one that overflows. */
START_TEST(only_updates_that_are_made_move_it)
{
    kd_test_rig_options o = with_ema(0.9f);
    kdas_step_report    r = { .size = sizeof r };
    kd_test_rig         rig;
    kdas_model         *model;
    kdas_batch         *batch;
    float              *was, *student, bad = INFINITY;
    size_t              n;

    o.optim.loss_scale     = 1024;
    o.distiller.accumulate = 2;
    kd_test_rig_make(&rig, &o);
    model   = another(&rig);
    student = kd_test_weights(rig.student, &n);
    assert_average_is(&rig, model, student);
    free(student);
    for (int t = 0; t < 4; t++)
        kd_test_rig_step(&rig, t);
    was = average_of(&rig, model, &n);
    set_counters(was, model, 5); /* they follow the forwards */
    kd_test_rig_step(&rig, 4);
    assert_average_is(&rig, model, was);

    set_counters(was, model, 6);
    kd_assert_ok(kdas_batch_create(&batch, rig.ctx, 1, 32, 32));
    kd_assert_ok(kdas_distiller_forward(rig.distiller, batch));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, &r));
    kd_assert_ok(kd_device_upload(rig.ctx, kd_params_grads(rig.student->params), &bad, sizeof bad));
    kd_assert_ok(kdas_distiller_update(rig.distiller, &r));
    ck_assert(r.skipped && !r.updated);
    assert_average_is(&rig, model, was);
    kdas_batch_destroy(batch);
    free(was);
    kdas_model_destroy(model);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(training_does_not_see_it)
{
    kd_test_rig_options o = with_ema(0), e = with_ema(0.95f);
    kd_test_rig         plain, rig;
    kdas_model         *average;

    kd_test_rig_make(&plain, &o);
    kd_test_rig_make(&rig, &e);
    average = another(&rig);
    for (int t = 0; t < 5; t++) {
        ck_assert_double_eq(kd_test_rig_step(&plain, t), kd_test_rig_step(&rig, t));
        if (t == 2) kd_assert_ok(kdas_distiller_read_average(rig.distiller, average));
    }
    kd_test_assert_same_weights(plain.student, rig.student);
    kdas_model_destroy(average);
    kd_test_rig_finish(&plain);
    kd_test_rig_finish(&rig);
}
END_TEST

/* On a device whose memory is not the host's: the CPU's bits, exchanged, too. */
START_TEST(a_far_device_gives_the_bits_of_the_cpu)
{
    kd_test_rig_options o = with_ema(0.9f);
    kd_test_rig         near, far;
    kdas_model         *a, *b;

    kd_test_rig_make(&near, &o);
    o.device = "far";
    kd_test_rig_make(&far, &o);
    a = another(&near);
    b = another(&far);
    for (int t = 0; t < 4; t++) {
        kd_test_rig_step(&near, t);
        kd_test_rig_step(&far, t);
    }
    kd_assert_ok(kdas_distiller_read_average(near.distiller, a));
    kd_assert_ok(kdas_distiller_read_average(far.distiller, b));
    kd_test_assert_same_weights(a, b);
    kd_test_assert_same_weights(near.student, far.student);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kd_test_rig_finish(&near);
    kd_test_rig_finish(&far);
    kd_test_far_assert_empty();
}
END_TEST

/* ---- arguments and memory ---- */

START_TEST(what_cannot_be_is_refused)
{
    static const float     bad[] = { -0.1f, 1, 1.5f, NAN };
    kd_test_rig_options    o     = with_ema(0);
    kdas_distiller_options d     = o.distiller;
    kdas_distiller        *out;
    kdas_model            *other, *same;
    kd_test_rig            rig;

    kd_test_rig_make(&rig, &o);
    same = another(&rig);
    for (size_t i = 0; i < KD_COUNT(bad); i++) {
        d.ema = bad[i];
        kd_assert_status(kdas_distiller_create(&out, NULL, rig.student, rig.loss, rig.optim, &d),
                         KDAS_EINVAL);
        ck_assert_ptr_null(out);
        kd_assert_sentence("ema");
    }
    kd_assert_status(kdas_distiller_read_average(rig.distiller, same), KDAS_ESTATE);
    kd_assert_sentence("no average");
    d.ema = 0.9f;
    kd_assert_ok(kdas_distiller_create(&out, NULL, rig.student, rig.loss, rig.optim, &d));
    kd_assert_ok(kdas_model_create(&other, rig.ctx, "pvt_v2_b0", NULL));
    kd_assert_status(kdas_distiller_read_average(out, other), KDAS_EINVAL);
    kd_assert_sentence("pvt_v2_b0");
    kd_assert_status(kdas_distiller_read_average(out, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_distiller_read_average(NULL, same), KDAS_EINVAL);
    kdas_distiller_destroy(out);
    kdas_model_destroy(other);
    kdas_model_destroy(same);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(memory_that_runs_out_leaves_no_distiller)
{
    kd_test_meter          meter = { 0 };
    kd_test_rig_options    o     = with_ema(0);
    kdas_distiller_options d     = o.distiller;
    kdas_distiller        *out   = NULL;
    kdas_status            st    = KDAS_ENOMEM;
    kd_test_rig            rig;

    o.meter = &meter;
    d.ema   = 0.9f;
    kd_test_rig_make(&rig, &o);
    for (long k = 1; st != KDAS_OK; k++) {
        meter.fail_at = meter.taken + k;
        st            = kdas_distiller_create(&out, NULL, rig.student, rig.loss, rig.optim, &d);
        ck_assert(st == KDAS_OK || (st == KDAS_ENOMEM && !out));
        ck_assert_int_lt(k, 20);
    }
    meter.fail_at = 0;
    kdas_distiller_destroy(out);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* ---- checkpoints ---- */

static char said[4096];

static void keep_log(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    (void)level;
    strncat(said, text, sizeof said - strlen(said) - 1);
}

START_TEST(a_resumed_average_has_the_bits_of_an_unbroken_one)
{
    kd_test_rig_options o = with_ema(0.9f);
    kd_test_rig         whole, part;
    kdas_model         *a, *b;
    int                 cut = _i ? 4 : 0, t; /* 0: the average has not begun */

    o.distiller.accumulate = 1 + _i;
    kd_test_rig_make(&whole, &o);
    kd_test_rig_make(&part, &o);
    for (t = 0; t < 7 + _i; t++)
        kd_test_rig_step(&whole, t);
    for (t = 0; t < cut; t++)
        kd_test_rig_step(&part, t);
    kd_assert_ok(kdas_checkpoint_save(part.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&part);
    o.model.seed = 99;
    o.log        = keep_log;
    said[0]      = 0;
    kd_test_rig_make(&part, &o);
    if (_i) kd_test_rig_step(&part, 50), kd_test_rig_step(&part, 51); /* an average to forget */
    kd_assert_ok(kdas_checkpoint_load(part.distiller, kd_test_path("c.kdas"), NULL));
    ck_assert_ptr_null(strstr(said, "average"));
    for (; t < 7 + _i; t++)
        kd_test_rig_step(&part, t);
    a = another(&whole);
    b = another(&part);
    kd_assert_ok(kdas_distiller_read_average(whole.distiller, a));
    kd_assert_ok(kdas_distiller_read_average(part.distiller, b));
    kd_test_assert_same_weights(a, b);
    kd_test_assert_same_weights(whole.student, part.student);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kd_test_rig_finish(&whole);
    kd_test_rig_finish(&part);
}
END_TEST

START_TEST(an_average_may_begin_end_or_change_and_the_log_says_so)
{
    static const struct {
        float       from, to;
        const char *says;
    } ways[]              = { { 0, 0.9f, "begins at the student" },
                              { 0.9f, 0, "left out" },
                              { 0.9f, 0.8f, "decay of the moving average is 0.8" },
                              { 0.9f, 0.9f, NULL } };
    kd_test_rig_options o = with_ema(ways[_i].from);
    kd_test_rig         rig;
    kdas_model         *model;
    float              *student;
    size_t              n;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    kd_test_rig_step(&rig, 1);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&rig);
    o       = with_ema(ways[_i].to);
    o.log   = keep_log;
    said[0] = 0;
    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, kd_test_path("c.kdas"), NULL));
    if (ways[_i].says)
        ck_assert_msg(strstr(said, ways[_i].says) != NULL, "the log is '%s'", said);
    else
        ck_assert_ptr_null(strstr(said, "average"));
    if (_i == 0) {
        model   = another(&rig);
        student = kd_test_weights(rig.student, &n);
        assert_average_is(&rig, model, student);
        free(student);
        kd_test_rig_step(&rig, 2);
        student = kd_test_weights(rig.student, &n);
        assert_average_is(&rig, model, student);
        free(student);
        kdas_model_destroy(model);
    }
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- runs ---- */

/* What is validated is what is kept: best.safetensors gives the Dice that was told. */
START_TEST(the_average_is_validated_and_kept_unless_told_otherwise)
{
    kd_test_rig_options o = with_ema(0.97f);
    kd_test_training    s, plain;
    kdas_model         *best, *average;
    kdas_evaluator     *evaluator;
    double              dice;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    s.options.epochs       = 1;
    s.options.evaluate_ema = !_i;
    kd_assert_ok(kd_test_train(&s));
    best    = another(&s.rig);
    average = another(&s.rig);
    kd_assert_ok(kdas_model_load(best, kd_test_path("out/best.safetensors"), NULL));
    kd_assert_ok(kdas_distiller_read_average(s.rig.distiller, average));
    kd_test_assert_same_weights(best, _i ? s.rig.student : average);
    kd_assert_ok(kdas_evaluator_create(&evaluator, s.rig.ctx));
    kd_assert_ok(kdas_evaluate(evaluator, best, s.validation, 32, 32, 0));
    kd_assert_ok(kdas_evaluator_get(evaluator, -1, KDAS_METRIC_DICE_50, &dice));
    ck_assert_double_eq(dice, s.saw.last_epoch.validation_dice);
    kdas_evaluator_destroy(evaluator);

    o.distiller.ema = 0; /* and the student is that of a run without it */
    kd_test_train_make(&plain, &o, NULL);
    plain.options.epochs = 1;
    kd_assert_ok(kd_test_train(&plain));
    kd_test_assert_same_weights(plain.rig.student, s.rig.student);
    kdas_model_destroy(best);
    kdas_model_destroy(average);
    kd_test_train_finish(&plain);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_broken_run_with_an_average_gives_the_bits_of_an_unbroken_one)
{
    static const int    stop[] = { 2, KD_TEST_BATCHES, KD_TEST_BATCHES + 3 };
    kd_test_rig_options o      = with_ema(0.9f);
    kd_test_training    whole, s;
    kdas_model         *a, *b;

    kd_test_train_make(&whole, &o, kd_test_path("whole"));
    kd_assert_ok(kd_test_train(&whole));
    kd_test_train_make(&s, &o, kd_test_path("part"));
    s.saw.stop_at = stop[_i];
    kd_assert_status(kd_test_train(&s), KDAS_ECANCELLED);
    kd_test_train_finish(&s);
    o.model.seed = 999;
    kd_test_train_make(&s, &o, kd_test_path("part"));
    s.options.resume = 1;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_double_eq(s.saw.last_epoch.validation_dice, whole.saw.last_epoch.validation_dice);
    a = another(&whole.rig);
    b = another(&s.rig);
    kd_assert_ok(kdas_distiller_read_average(whole.rig.distiller, a));
    kd_assert_ok(kdas_distiller_read_average(s.rig.distiller, b));
    kd_test_assert_same_weights(a, b);
    kd_assert_ok(kdas_model_load(a, kd_test_path("whole/best.safetensors"), NULL));
    kd_assert_ok(kdas_model_load(b, kd_test_path("part/best.safetensors"), NULL));
    kd_test_assert_same_weights(a, b);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kd_test_train_finish(&whole);
    kd_test_train_finish(&s);
}
END_TEST

/* ---- patience ---- */

/* A student that hardly moves, so that epochs stop being better soon. */
static void lazy_make(kd_test_training *s, int64_t patience)
{
    kd_test_rig_options o = with_ema(0);

    o.optim.lr           = 1e-12f;
    o.optim.weight_decay = 0;
    kd_test_train_make(s, &o, kd_test_path("out"));
    s->options.epochs   = 40;
    s->options.patience = patience;
    s->options.resume   = 1;
}

static void assert_stopped(const kd_test_training *s)
{
    const kdas_train_state *e = &s->saw.last_epoch;

    ck_assert_int_lt(e->epoch, s->options.epochs);
    ck_assert_int_eq(e->epoch - e->best_epoch, s->options.patience);
    ck_assert_int_eq(e->stopped_early, 1);
    ck_assert_double_eq(e->seconds_left, 0);
}

START_TEST(a_run_ends_well_when_patience_does)
{
    kd_test_training s;

    lazy_make(&s, 2);
    kd_assert_ok(kd_test_train(&s));
    assert_stopped(&s);
    ck_assert_int_eq(s.saw.steps, s.saw.last_epoch.epoch * KD_TEST_BATCHES);

    s.saw.steps = s.saw.epochs = 0; /* there is nothing left to do */
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(s.saw.steps, 0);
    ck_assert_int_eq(s.saw.epochs, 0);
    s.options.patience = 3; /* unless there is more patience */
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_ge(s.saw.steps, KD_TEST_BATCHES);
    assert_stopped(&s);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_broken_run_ends_where_an_unbroken_one_does)
{
    kd_test_training s;
    int64_t          epochs;

    lazy_make(&s, 2);
    s.options.out = NULL;
    kd_assert_ok(kd_test_train(&s));
    epochs = s.saw.last_epoch.epoch;
    kd_test_train_finish(&s);
    lazy_make(&s, 2);
    s.saw.stop_at_epoch = 2;
    kd_assert_status(kd_test_train(&s), KDAS_ECANCELLED);
    kd_test_train_finish(&s);
    lazy_make(&s, 2);
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(s.saw.last_epoch.epoch, epochs);
    assert_stopped(&s);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(patience_wants_a_validation_set_and_no_less_than_0)
{
    kd_test_training s;

    lazy_make(&s, 2);
    kd_assert_status(kdas_train(s.rig.distiller, s.loader, NULL, &s.options), KDAS_EINVAL);
    kd_assert_sentence("patience");
    s.options.patience = -1;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    kd_assert_sentence("patience is -1");
    ck_assert_int_eq(s.saw.steps, 0);
    kd_test_train_finish(&s);
}
END_TEST

static Suite *train_ema_suite(void)
{
    Suite *s        = suite_create("train_ema");
    TCase *average  = tcase_create("average");
    TCase *runs     = tcase_create("runs");
    TCase *patience = tcase_create("patience");

    tcase_set_timeout(average, 120);
    tcase_set_timeout(runs, 120);
    tcase_set_timeout(patience, 120);
    tcase_add_loop_test(average, the_average_follows_its_recurrence, 0, 2);
    tcase_add_test(average, counters_are_the_students);
    tcase_add_test(average, only_updates_that_are_made_move_it);
    tcase_add_test(average, training_does_not_see_it);
    tcase_add_test(average, a_far_device_gives_the_bits_of_the_cpu);
    tcase_add_test(average, what_cannot_be_is_refused);
    tcase_add_test(average, memory_that_runs_out_leaves_no_distiller);
    tcase_add_checked_fixture(runs, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(runs, a_resumed_average_has_the_bits_of_an_unbroken_one, 0, 2);
    tcase_add_loop_test(runs, an_average_may_begin_end_or_change_and_the_log_says_so, 0, 4);
    tcase_add_loop_test(runs, the_average_is_validated_and_kept_unless_told_otherwise, 0, 2);
    tcase_add_loop_test(runs, a_broken_run_with_an_average_gives_the_bits_of_an_unbroken_one, 0, 3);
    tcase_add_checked_fixture(patience, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(patience, a_run_ends_well_when_patience_does);
    tcase_add_test(patience, a_broken_run_ends_where_an_unbroken_one_does);
    tcase_add_test(patience, patience_wants_a_validation_set_and_no_less_than_0);
    suite_add_tcase(s, average);
    suite_add_tcase(s, runs);
    suite_add_tcase(s, patience);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(train_ema_suite());
    int      failed;

    kd_test_thin_networks();
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
