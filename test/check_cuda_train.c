/* check_cuda_train.c - learning on the CUDA plug-in: beside the CPU, beside other contexts, from graphs and
 * without them, in each precision, broken and taken up; and a trained network's frames. It runs on the emulated
 * card, or on a real one, see cuda_util.h. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/cuda_util.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/thin.h"
#include "graph/settings.h"

#define SIDE 64

/* To take memory out of the host's reach whenever no kernel runs costs the emulation most of its time; two tests
 * have it so. */
static void lock_memory(bool lock)
{
    const kd_test_emulator *emulator = kd_test_cuda_emulated() ? kd_test_emulated() : NULL;

    if (emulator) emulator->set("LOCK", lock ? "1" : "0");
}

static void setup(void)
{
    kd_test_cuda_path();
    lock_memory(false);
}

static kd_test_rig_options on(const char *device)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.device = device;
    return o;
}

static kdas_batch *draw(kdas_context *ctx, int t) { return kd_test_batch(ctx, 2, SIDE, t); }

/* ---- beside the CPU ---- */

static void step(kd_test_rig *rig, int t, kdas_step_report *report)
{
    kdas_batch *b = draw(rig->ctx, t);

    report->size = sizeof *report;
    kd_assert_ok(kdas_distiller_step(rig->distiller, b, report));
    kdas_batch_destroy(b);
}

/* All numbers but the seconds, relative to the CPU's. */
static void assert_close_reports(const kdas_step_report *got, const kdas_step_report *want,
                                 double tolerance)
{
    ck_assert_double_eq_tol(got->total / want->total, 1, tolerance);
    for (int t = 0; t < KDAS_TERMS; t++) {
        ck_assert(want->raw[t] == 0 ? got->raw[t] == 0 : got->raw[t] != 0);
        if (want->raw[t] == 0) continue;
        ck_assert_double_eq_tol(got->raw[t], want->raw[t], tolerance * fabs(want->raw[t]));
        ck_assert_double_eq_tol(got->weighted[t], want->weighted[t],
                                tolerance * fabs(want->weighted[t]));
        ck_assert_double_eq_tol(got->gradient[t], want->gradient[t],
                                tolerance * fabs(want->gradient[t]));
    }
}

/* How far apart two models have come on their way from a third: |a - b| / |b - start|. */
static double apart(const kdas_model *a, const kdas_model *b, const kdas_model *start)
{
    size_t n;
    float *wa = kd_test_weights(a, &n), *wb = kd_test_weights(b, &n),
          *ws  = kd_test_weights(start, &n);
    double off = 0, way = 0;

    for (size_t i = 0; i < n; i++) {
        off += ((double)wa[i] - wb[i]) * ((double)wa[i] - wb[i]);
        way += ((double)wb[i] - ws[i]) * ((double)wb[i] - ws[i]);
    }
    free(wa);
    free(wb);
    free(ws);
    return sqrt(off / way);
}

/* Adam's first steps are the rate times the gradient's sign, also where the gradient is nothing but rounding
 * (a bias before a batch norm, say): there two ways of summing go apart. */
static const struct {
    const char *rule;
    float       lr;
    double      apart;
} rules[] = { { "sgd", 1e-2f, 2e-3 }, { "adamw", 1e-3f, 0.1 } };

START_TEST(a_step_is_that_of_the_cpu)
{
    kd_test_rig_options o = on("cpu");
    kdas_step_report    got, want;
    kd_test_rig         cpu, cuda, start;

    lock_memory(_i == 0);
    o.teacher      = "polyp_pvt_b1";
    o.optim.rule   = rules[_i].rule;
    o.optim.lr     = rules[_i].lr;
    o.loss.feature = "normalised";
    kd_test_rig_make(&cpu, &o);
    kd_test_rig_make(&start, &o);
    o.device = "cuda";
    kd_test_rig_make(&cuda, &o);
    for (int t = 0; t < 2; t++) {
        step(&cpu, t, &want);
        step(&cuda, t, &got);
        assert_close_reports(&got, &want, t ? 1e-2 : 1e-4);
        if (t == 0)
            ck_assert_double_le(apart(cuda.student, cpu.student, start.student), rules[_i].apart);
    }
    kd_test_rig_finish(&cpu);
    kd_test_rig_finish(&cuda);
    kd_test_rig_finish(&start);
}
END_TEST

/* ---- the same bits ---- */

enum { STEPS = 3 };

typedef struct course {
    const char *device;
    bool        uncaptured, grids;
    double      total[STEPS];
    kd_test_rig rig; /* after the steps */
} course;

static void *run(void *user)
{
    course             *c = user;
    kd_test_rig_options o = on(c->device);

    o.model.quantize = c->grids ? KDAS_QUANTIZE_INT8 : KDAS_QUANTIZE_NONE;
    kd_test_rig_make(&c->rig, &o);
    kd_graph_settings_change(c->rig.ctx)->uncaptured = c->uncaptured;
    for (int t = 0; t < STEPS; t++)
        c->total[t] = kd_test_rig_step(&c->rig, t);
    return NULL;
}

static void assert_same_course(course *a, course *b)
{
    for (int t = 0; t < STEPS; t++)
        ck_assert_msg(a->total[t] == b->total[t], "step %d: %.17g and %.17g", t, a->total[t],
                      b->total[t]);
    kd_test_assert_same_weights(a->rig.student, b->rig.student);
}

START_TEST(the_same_seed_gives_the_same_bits)
{
    course first = { "cuda" }, second = { "cuda" };

    run(&first);
    run(&second);
    assert_same_course(&first, &second);
    kd_test_rig_finish(&first.rig);
    kd_test_rig_finish(&second.rig);
}
END_TEST

/* On grids, too: their ranges move on the device. */
START_TEST(graphs_give_the_bits_of_plain_runs)
{
    const kd_test_emulator *emulator = kd_test_cuda_emulated() ? kd_test_emulated() : NULL;
    course                  plain    = { "cuda", .uncaptured = true, .grids = _i };
    course                  launched = { "cuda", .grids = _i }, cpu = { "cpu", .grids = _i };

    run(&plain);
    if (emulator) ck_assert_int_eq(emulator->graphs(), 0);
    run(&launched);
    if (emulator) ck_assert_int_gt(emulator->graphs(), 0);
    assert_same_course(&launched, &plain);
    run(&cpu);
    ck_assert_double_eq_tol(launched.total[0] / cpu.total[0], 1, 1e-2);
    kd_test_rig_finish(&plain.rig);
    kd_test_rig_finish(&launched.rig);
    kd_test_rig_finish(&cpu.rig);
}
END_TEST

static const char *const places[][2] = { { "cuda:0", "cuda:1" }, { "cuda:0", "cuda:0" } };

START_TEST(contexts_in_two_threads_give_the_bits_of_one_alone)
{
    course    alone = { "cuda" }, beside[2] = { { places[_i][0] }, { places[_i][1] } };
    pthread_t thread[2];

    if (kdas_backend_probe(places[_i][1], NULL, NULL, 0) == 0) {
        printf("SKIP contexts_in_two_threads: there is no second card\n");
        return;
    }
    run(&alone);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, run, &beside[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < 2; i++) {
        assert_same_course(&beside[i], &alone);
        kd_test_rig_finish(&beside[i].rig);
    }
    kd_test_rig_finish(&alone.rig);
}
END_TEST

/* ---- where nothing can be captured ---- */

typedef struct witness {
    int  lines;
    char last[256];
} witness;

static void note(void *user, kdas_log_level level, const char *text)
{
    witness *w = user;

    if (level > KDAS_LOG_WARN) return;
    w->lines++;
    snprintf(w->last, sizeof w->last, "%s", text);
}

/* Whichever call fails: capture begins, ends, becomes a graph that can be launched. */
START_TEST(where_nothing_can_be_captured_it_runs_plainly_and_says_so_once)
{
    static const char *const calls[]  = { "0", "end", "instantiate" };
    const kd_test_emulator  *emulator = kd_test_emulated();
    kd_test_rig_options      o        = on("cuda");
    course                   plain    = { "cuda", .uncaptured = true };
    witness                  saw      = { 0 };
    kd_test_rig              rig;

    if (!emulator) return;
    run(&plain);
    emulator->set("CAPTURE", calls[_i]);
    o.log      = note;
    o.log_user = &saw;
    kd_test_rig_make(&rig, &o);
    for (int t = 0; t < STEPS; t++)
        ck_assert(kd_test_rig_step(&rig, t) == plain.total[t]);
    ck_assert_msg(saw.lines == 1, "%d lines, the last one: %s", saw.lines, saw.last);
    ck_assert_msg(strstr(saw.last, "captured") != NULL, "%s", saw.last);
    ck_assert_int_eq(emulator->graphs(), 0);
    kd_test_assert_same_weights(rig.student, plain.rig.student);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&plain.rig);
}
END_TEST

/* ---- in 16 bits ---- */

/* Updates of Adam take small differences up, as above. */
static const struct {
    kdas_precision precision;
    double         first, later; /* how far losses may be apart, relative */
} kinds[] = { { KDAS_PRECISION_F16, 5e-4, 3e-2 },
              { KDAS_PRECISION_BF16, 2e-3, 3e-2 },
              { KDAS_PRECISION_TF32, 1e-4, 3e-2 } };

static bool can(kdas_precision precision)
{
    kdas_context_options o;
    kdas_context        *ctx;
    bool                 able;

    kdas_context_options_init(&o, sizeof o);
    o.device    = "cuda";
    o.precision = precision;
    able        = kdas_context_create(&ctx, &o) == KDAS_OK;
    if (!able) printf("SKIP: %s\n", kdas_last_error());
    kdas_context_destroy(ctx);
    return able;
}

START_TEST(losses_in_fewer_bits_are_near_those_of_f32)
{
    kd_test_rig_options o = on("cuda");
    kd_test_rig         full, few;

    if (!can(kinds[_i].precision)) return;
    o.model.drop_path = 0; /* graphs with casts draw otherwise */
    kd_test_rig_make(&full, &o);
    o.precision = kinds[_i].precision;
    if (o.precision == KDAS_PRECISION_F16)
        o.optim.loss_scale = 256; /* none overflows, none is skipped */
    kd_test_rig_make(&few, &o);
    ck_assert_int_eq(kdas_context_precision(few.ctx), kinds[_i].precision);
    for (int t = 0; t < STEPS; t++) {
        double want = kd_test_rig_step(&full, t), got = kd_test_rig_step(&few, t);

        ck_assert_double_eq_tol(got / want, 1, t ? kinds[_i].later : kinds[_i].first);
        ck_assert(got != want); /* it does compute in fewer bits */
    }
    ck_assert_int_eq(kdas_optim_skipped(few.optim), 0);
    kd_test_rig_finish(&full);
    kd_test_rig_finish(&few);
}
END_TEST

/* A scale that takes gradients out of f16's range is halved until it does not, and nothing is learned from those
 * steps. */
START_TEST(steps_that_overflow_in_f16_are_skipped_and_the_scale_falls)
{
    kd_test_rig_options o = on("cuda");
    kdas_step_report    report;
    kd_test_rig         rig;
    size_t              n;
    float              *before, *after;
    int                 skipped;
    size_t              at = 0;

    o.precision        = KDAS_PRECISION_F16;
    o.optim.loss_scale = 16777216; /* 2^24 */
    if (!can(o.precision)) return;
    kd_test_rig_make(&rig, &o);
    before = kd_test_weights(rig.student, &n);
    step(&rig, 0, &report);
    after = kd_test_weights(rig.student, &n);
    ck_assert_int_eq(report.skipped, 1);
    ck_assert_int_eq(report.updated, 0);
    ck_assert(isfinite(report.total));
    for (int32_t i = 0; i < kdas_model_tensors(rig.student); i++) {
        int64_t dims[4];
        int32_t trainable;
        size_t  count;

        kdas_model_tensor(rig.student, i, NULL, dims, &trainable);
        count = (size_t)(dims[0] * dims[1] * dims[2] * dims[3]);
        if (trainable) ck_assert(kd_test_same_bits(before + at, after + at, count * sizeof *after));
        at += count;
    }
    for (skipped = 1; skipped < 20; skipped++) {
        step(&rig, 0, &report);
        if (report.updated) break;
    }
    ck_assert_int_eq(report.updated, 1);
    ck_assert_int_eq(kdas_optim_skipped(rig.optim), skipped);
    ck_assert_double_eq(kdas_optim_loss_scale(rig.optim), ldexp(16777216, -skipped));
    free(before);
    free(after);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- checkpoints, files ---- */

START_TEST(a_run_taken_up_on_the_card_gives_the_bits_of_an_unbroken_one)
{
    kd_test_rig_options o = on("cuda");
    kd_test_rig         whole, part;

    kd_test_rig_make(&whole, &o);
    kd_test_rig_make(&part, &o);
    for (int t = 0; t < STEPS; t++)
        kd_test_rig_step(&whole, t);
    kd_test_rig_step(&part, 0);
    kd_assert_ok(kdas_checkpoint_save(part.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&part);
    o.model.seed = 12345; /* the file knows better */
    kd_test_rig_make(&part, &o);
    kd_assert_ok(kdas_checkpoint_load(part.distiller, kd_test_path("c.kdas"), NULL));
    for (int t = 1; t < STEPS; t++)
        kd_test_rig_step(&part, t);
    kd_test_assert_same_weights(part.student, whole.student);
    kd_test_rig_finish(&whole);
    kd_test_rig_finish(&part);
}
END_TEST

START_TEST(a_checkpoint_of_the_card_goes_on_on_the_cpu)
{
    kd_test_rig_options o = on("cuda");
    kd_test_rig         cuda, cpu;
    double              want;

    kd_test_rig_make(&cuda, &o);
    kd_test_rig_step(&cuda, 0);
    kd_assert_ok(kdas_checkpoint_save(cuda.distiller, kd_test_path("c.kdas"), NULL, NULL));
    o.device     = "cpu";
    o.model.seed = 12345;
    kd_test_rig_make(&cpu, &o);
    kd_assert_ok(kdas_checkpoint_load(cpu.distiller, kd_test_path("c.kdas"), NULL));
    kd_test_assert_same_weights(cpu.student, cuda.student);
    want = kd_test_rig_step(&cuda, 1);
    ck_assert_double_eq_tol(kd_test_rig_step(&cpu, 1) / want, 1, 1e-4);
    kd_test_rig_finish(&cuda);
    kd_test_rig_finish(&cpu);
}
END_TEST

/* ---- frames ---- */

static float *logits_of(const char *device, const uint8_t *pixels, int64_t width, int64_t height)
{
    kdas_segmenter_options o;
    kdas_model_options     m;
    kdas_context          *ctx = kd_test_device(device, NULL);
    kdas_model            *model;
    kdas_segmenter        *s;
    kdas_view              frame = { pixels, width, height, 0, KDAS_PIXEL_RGB8 };
    float                 *out   = malloc((size_t)(width * height) * sizeof *out);

    kdas_model_options_init(&m, sizeof m);
    m.trainable = 0;
    m.seed      = 3;
    kd_assert_ok(kdas_model_create(&model, ctx, "polyp_pvt_b0", &m));
    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    for (int i = 0; i < 3; i++) /* plainly, while it is captured, from the graph */
        kd_assert_ok(kdas_segmenter_logits(s, &frame, out));
    kdas_segmenter_destroy(s);
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    return out;
}

START_TEST(a_frame_is_segmented_as_on_the_cpu)
{
    enum { WIDTH = 75, HEIGHT = 58 };
    uint8_t pixels[WIDTH * HEIGHT * 3];
    float  *got, *want;

    lock_memory(true);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(128 + 100 * kd_test_unit("frame", i));
    want = logits_of("cpu", pixels, WIDTH, HEIGHT);
    got  = logits_of("cuda", pixels, WIDTH, HEIGHT);
    kd_assert_close(got, want, WIDTH * HEIGHT, 1e-4);
    free(got);
    free(want);
}
END_TEST

int main(int argc, char **argv)
{
    Suite   *suite = suite_create("cuda training");
    TCase   *t     = tcase_create("training");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    (void)argc;
    kd_test_cuda_wait_passively(argv);
    tcase_add_checked_fixture(t, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, a_step_is_that_of_the_cpu, 0, KD_COUNT(rules));
    tcase_add_test(t, the_same_seed_gives_the_same_bits);
    tcase_add_loop_test(t, graphs_give_the_bits_of_plain_runs, 0, 2);
    tcase_add_loop_test(t, contexts_in_two_threads_give_the_bits_of_one_alone, 0, KD_COUNT(places));
    tcase_add_loop_test(t, where_nothing_can_be_captured_it_runs_plainly_and_says_so_once, 0, 3);
    tcase_add_loop_test(t, losses_in_fewer_bits_are_near_those_of_f32, 0, KD_COUNT(kinds));
    tcase_add_test(t, steps_that_overflow_in_f16_are_skipped_and_the_scale_falls);
    tcase_add_test(t, a_run_taken_up_on_the_card_gives_the_bits_of_an_unbroken_one);
    tcase_add_test(t, a_checkpoint_of_the_card_goes_on_on_the_cpu);
    tcase_add_test(t, a_frame_is_segmented_as_on_the_cpu);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
