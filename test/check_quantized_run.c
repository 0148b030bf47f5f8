/* check_quantized_run.c - runs that train a student on 8-bit grids: broken and taken up, with ranges that stay, from the
 * weights of floats; and the files that they write. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/train_util.h"

static void read_tensor(const kdas_model *m, const char *name, float *to)
{
    kd_assert_ok(kdas_model_read(m, kdas_model_find(m, name), to));
}

static kd_test_rig_options lite_on_grids(void)
{
    kd_test_rig_options o = kd_test_alone();

    o.student        = "lite_fpn0";
    o.model.quantize = KDAS_QUANTIZE_INT8;
    return o;
}

static float *outputs_of(kdas_model *m, kdas_batch *batch, size_t *n)
{
    const char *name;
    int64_t     d[4];
    float      *y = NULL;

    *n = 0;
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, batch));
    for (int i = 0; (name = kdas_model_output(m, i, d)); i++) {
        size_t count = (size_t)(d[0] * d[1] * d[2] * d[3]);

        y = realloc(y, (*n + count) * sizeof *y);
        kd_assert_ok(kdas_model_read_output(m, name, y + *n));
        *n += count;
    }
    return y;
}

START_TEST(the_saved_student_computes_what_was_trained)
{
    kd_test_rig_options o    = lite_on_grids();
    const char         *path = kd_test_path("student.safetensors");
    kd_test_rig         rig;
    kdas_model         *m;
    kdas_batch         *batch;
    float              *want, *got, a[2], b[2];
    size_t              n, k, bytes;

    kd_test_rig_make(&rig, &o);
    for (int t = 1; t <= 4; t++)
        kd_test_rig_step(&rig, t);
    kd_assert_ok(kdas_model_save(rig.student, path));
    free(kd_test_read(path, &bytes));
    ck_assert_uint_lt(bytes, 2 * (size_t)kdas_model_parameters(rig.student));
    kd_assert_ok(kdas_model_open(&m, rig.ctx, NULL, path, NULL, NULL));
    ck_assert_int_eq(kdas_model_quantized(m), KDAS_QUANTIZE_INT8);
    ck_assert_str_eq(kdas_model_wide(m), kdas_model_wide(rig.student));
    batch = kd_test_batch(rig.ctx, 2, 32, 9);
    want  = outputs_of(rig.student, batch, &n);
    got   = outputs_of(m, batch, &k);
    ck_assert_uint_eq(n, k);
    ck_assert_double_lt(kd_test_rms_error(got, want, (int64_t)n), 2e-3);
    read_tensor(rig.student, "backbone._blocks.2._project_conv.input_range", a);
    read_tensor(m, "backbone._blocks.2._project_conv.input_range", b);
    ck_assert(kd_test_same_bits(a, b, sizeof a));
    free(want);
    free(got);
    kdas_batch_destroy(batch);
    kdas_model_destroy(m);
    kd_test_rig_finish(&rig);
}
END_TEST

static const struct {
    int    stop_at, accumulate;
    double freeze;
    float  ema;
} breaks[] = {
    { .stop_at = 2 },                  /* within an epoch                */
    { .stop_at = 3, .accumulate = 2 }, /* a micro-batch waits            */
    { .stop_at = 6, .freeze = 1 },     /* where ranges have been frozen  */
    { .stop_at = 3, .freeze = 1.125 }, /* before they are, between epochs */
    { .stop_at = 5, .ema = 0.9f },     /* the average is validated       */
};

START_TEST(a_broken_run_on_grids_taken_up_gives_the_bits_of_an_unbroken_one)
{
    kd_test_rig_options o = lite_on_grids();
    kd_test_training    s;
    kd_test_rig         whole;

    o.distiller.accumulate = breaks[_i].accumulate ? breaks[_i].accumulate : 1;
    o.distiller.ema        = breaks[_i].ema;
    kd_test_train_make(&s, &o, kd_test_path("whole"));
    s.options.freeze_ranges = breaks[_i].freeze;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(kdas_model_ranges_held(s.rig.student), 0); /* the host's again */
    whole = s.rig;
    s.rig = (kd_test_rig){ 0 };
    kdas_loader_destroy(s.loader);
    kdas_dataset_destroy(s.frames);
    kdas_dataset_destroy(s.validation);

    kd_test_train_make(&s, &o, kd_test_path("part"));
    s.options.freeze_ranges = breaks[_i].freeze;
    s.saw.stop_at           = breaks[_i].stop_at;
    kd_assert_status(kd_test_train(&s), KDAS_ECANCELLED);
    kd_test_train_finish(&s);

    o.model.seed = 999; /* nothing but the files is left */
    kd_test_train_make(&s, &o, kd_test_path("part"));
    s.options.freeze_ranges = breaks[_i].freeze;
    s.options.resume        = 1;
    kd_assert_ok(kd_test_train(&s));
    kd_test_assert_same_weights(s.rig.student, whole.student);
    kd_test_train_finish(&s);
    kd_test_rig_finish(&whole);
}
END_TEST

/* A host's callback: the ranges after each step. */
typedef struct range_log {
    const kdas_model *student;
    float             high[2 * KD_TEST_BATCHES];
    int               steps;
} range_log;

static int32_t log_range(void *user, const kdas_train_state *state)
{
    range_log *log = user;
    float      range[2];

    if (state->event != KDAS_EVENT_STEP) return 0;
    read_tensor(log->student, "backbone._blocks.2._project_conv.input_range", range);
    log->high[log->steps++] = range[1];
    return 0;
}

START_TEST(ranges_stay_in_the_last_epochs)
{
    kd_test_rig_options o = lite_on_grids();
    kd_test_training    s;
    range_log           log = { 0 };

    kd_test_train_make(&s, &o, NULL);
    log.student             = s.rig.student;
    s.options.progress      = log_range;
    s.options.user          = &log;
    s.options.freeze_ranges = 0.5;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(log.steps, 2 * KD_TEST_BATCHES);
    for (int i = 1; i < log.steps; i++) {
        bool frozen = i >= log.steps - KD_TEST_BATCHES / 2;

        ck_assert_msg((log.high[i] == log.high[i - 1]) == frozen, "step %d: from %g to %g", i + 1,
                      log.high[i - 1], log.high[i]);
    }
    kd_test_train_finish(&s);
}
END_TEST

/* From a float's weights: the ranges are those of the first batches, and the best weights are for integers. */
START_TEST(a_run_from_float_weights_writes_a_student_for_integers)
{
    kd_test_rig_options o    = lite_on_grids();
    const char         *path = kd_test_path("float.safetensors");
    kdas_model         *m;
    kd_test_training    s;
    int32_t             all, empty;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    kd_assert_ok(kdas_model_create(&m, s.rig.ctx, o.student, NULL));
    kd_assert_ok(kdas_model_save(m, path));
    kdas_model_destroy(m);
    kd_assert_ok(kdas_model_load(s.rig.student, path, NULL));
    kd_assert_ok(kdas_model_count_ranges(s.rig.student, &all, &empty));
    ck_assert(all > 20 && empty == all);
    kd_assert_ok(kd_test_train(&s));
    kd_assert_ok(
        kdas_model_open(&m, s.rig.ctx, NULL, kd_test_path("out/best.safetensors"), NULL, NULL));
    ck_assert_int_eq(kdas_model_quantized(m), KDAS_QUANTIZE_INT8);
    kd_assert_ok(kdas_model_count_ranges(m, &all, &empty));
    ck_assert(all > 20 && empty == 0);
    kdas_model_destroy(m);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_run_that_sets_no_range_or_freezes_all_is_refused)
{
    kd_test_rig_options o = lite_on_grids();
    kd_test_training    s;

    o.model.range_momentum = 0;
    kd_test_train_make(&s, &o, NULL);
    kd_assert_status(kd_test_train(&s), KDAS_ESTATE);
    kd_assert_sentence("ranges of student 'lite_fpn0' are empty");
    s.options.freeze_ranges = (double)s.options.epochs;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    kd_assert_sentence("freeze_ranges is 2");
    s.options.freeze_ranges = -1;
    kd_assert_status(kd_test_train(&s), KDAS_EINVAL);
    ck_assert_int_eq(s.saw.steps, 0);
    kd_test_train_finish(&s);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("quantized runs");
    TCase   *runs   = tcase_create("runs");
    SRunner *runner = srunner_create(suite);
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(runs, 240);
    tcase_add_checked_fixture(runs, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(runs, the_saved_student_computes_what_was_trained);
    tcase_add_loop_test(runs, a_broken_run_on_grids_taken_up_gives_the_bits_of_an_unbroken_one, 0,
                        KD_COUNT(breaks));
    tcase_add_test(runs, ranges_stay_in_the_last_epochs);
    tcase_add_test(runs, a_run_from_float_weights_writes_a_student_for_integers);
    tcase_add_test(runs, a_run_that_sets_no_range_or_freezes_all_is_refused);
    suite_add_tcase(suite, runs);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
