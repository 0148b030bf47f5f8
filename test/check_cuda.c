/* check_cuda.c - contexts on the CUDA plug-in: what is said where there is no card, memory that runs out and
 * comes back, cards that fail in the middle of a step, and the CPU beside all that. It runs on the emulated card,
 * which can be told to fail; on a real one most of this is skipped, see cuda_util.h. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <kdas/kdas.h>
#include "graph/device.h"
#include "support/check_util.h"
#include "support/cuda_util.h"
#include "support/files.h"
#include "support/run_util.h"

/* An objective evaluated on the CPU: the same number every time, whatever has become of the cards. */
static double on_the_cpu(void)
{
    enum { SIDE = 32, AREA = SIDE * SIDE };
    kdas_loss_options o;
    kdas_context     *ctx = kd_test_device("cpu", NULL);
    kdas_loss        *loss;
    kdas_loss_report  report = { .size = sizeof report };
    float             map[AREA], mask[AREA];
    const float      *student[] = { map };
    kdas_maps         maps      = { student, 1, 1, SIDE, SIDE };

    kdas_loss_options_init(&o, sizeof o);
    kd_assert_ok(kdas_loss_options_preset(&o, "baseline"));
    kd_test_fill(map, AREA, "map", 2, 0);
    kd_test_ellipses(mask, 1, SIDE, SIDE, "mask");
    kd_assert_ok(kdas_loss_create(&loss, ctx, &o));
    kd_assert_ok(kdas_loss_evaluate(loss, &maps, NULL, mask, NULL, &report));
    kdas_loss_destroy(loss);
    kdas_context_destroy(ctx);
    return report.total;
}

static kdas_status try_context(kdas_context **out, const char *device, kdas_precision precision)
{
    kdas_context_options o;

    kdas_context_options_init(&o, sizeof o);
    o.device    = device;
    o.precision = precision;
    o.threads   = 1;
    return kdas_context_create(out, &o);
}

/* The device can neither be found fit nor opened; both say why, in a sentence with `word`. */
static void assert_refused(const char *device, kdas_status status, const char *word)
{
    kdas_context *ctx      = (kdas_context *)&ctx;
    char          why[512] = "";

    ck_assert_int_eq(kdas_backend_probe(device, NULL, why, sizeof why), 0);
    ck_assert_msg(strstr(why, word) != NULL, "'%s' does not say '%s'", why, word);
    kd_assert_status(try_context(&ctx, device, KDAS_PRECISION_F32), status);
    ck_assert_ptr_null(ctx);
    kd_assert_sentence(word);
}

/* ---- no card ---- */

static const struct {
    const char *setting, *value, *device, *word;
} missing[] = {
    { "DRIVER", "0", "cuda", "there is no NVIDIA driver" },
    { "DEVICES", "0", "cuda", "there is no NVIDIA card" },
    { "DEVICES", "2", "cuda:2", "there is no card 2" },
    { "DEVICES", "8", "cuda:1024", "there is no card 1024" },
    { "CC", "6.1", "cuda", "too old" },
    { "CC", "3.5", "cuda:1", "3.5" },
};

START_TEST(where_there_is_no_card_a_sentence_says_so)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    double                  want     = on_the_cpu();
    kdas_context           *ctx;

    if (!emulator) return;
    emulator->set(missing[_i].setting, missing[_i].value);
    assert_refused(missing[_i].device, KDAS_EBACKEND, missing[_i].word);
    ck_assert(on_the_cpu() == want);
    kd_test_emulator_assert_empty(emulator);
    emulator->set(missing[_i].setting, NULL);
    kd_assert_ok(try_context(&ctx, "cuda:1", KDAS_PRECISION_F32));
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(without_a_plug_in_a_sentence_says_so)
{
    double want = on_the_cpu();

    setenv("KDAS_BACKEND_PATH", kd_test_path(NULL), 1);
    assert_refused("cuda", KDAS_ENOTFOUND, "libkdas-cuda.so");
    kd_test_write(kd_test_path("libkdas-cuda.so"), "this is no shared object\n", 25);
    assert_refused("cuda", KDAS_EBACKEND, kd_test_path("libkdas-cuda.so"));
    ck_assert(on_the_cpu() == want);
}
END_TEST

/* Only its beginning is there: in the headers, and in what the loader would map. */
START_TEST(a_plug_in_that_was_cut_off_is_named)
{
    static const size_t lengths[] = { 0, 40, 100, 1000, 4096, 50000, 100001 };
    double              want      = on_the_cpu();
    char                path[4096];
    unsigned char      *bytes;
    size_t              n;

    snprintf(path, sizeof path, "%s/libkdas-cuda.so", kd_test_cuda_folder());
    bytes = kd_test_read(path, &n);
    ck_assert_uint_gt(n, lengths[KD_COUNT(lengths) - 1]);
    setenv("KDAS_BACKEND_PATH", kd_test_path(NULL), 1);
    for (size_t i = 0; i < KD_COUNT(lengths); i++) {
        kd_test_write(kd_test_path("libkdas-cuda.so"), bytes, lengths[i]);
        assert_refused("cuda", KDAS_EBACKEND, kd_test_path("libkdas-cuda.so"));
        if (lengths[i] >= 1000) kd_assert_sentence("cut off");
    }
    free(bytes);
    ck_assert(on_the_cpu() == want);
}
END_TEST

START_TEST(a_context_says_which_card_it_has)
{
    kdas_context *ctx;

    kd_assert_ok(try_context(&ctx, "cuda", KDAS_PRECISION_F32));
    ck_assert_ptr_eq(strstr(kdas_context_device(ctx), "cuda:0: "), kdas_context_device(ctx));
    ck_assert_ptr_nonnull(strstr(kdas_context_device(ctx), "sm_"));
    ck_assert_ptr_null(strchr(kdas_context_device(ctx), '\n'));
    ck_assert_int_eq(kdas_backend_probe("cuda:0", NULL, NULL, 0), 1);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- precisions by card ---- */

static const struct {
    const char    *card;
    kdas_precision asked, got;
    kdas_status    status;
} precisions[] = {
    { "7.0", KDAS_PRECISION_F16, KDAS_PRECISION_F16, KDAS_OK },
    { "7.0", KDAS_PRECISION_AUTO, KDAS_PRECISION_F16, KDAS_OK },
    { "7.0", KDAS_PRECISION_BF16_IF_ABLE, KDAS_PRECISION_F32, KDAS_OK },
    { "7.0", KDAS_PRECISION_BF16, KDAS_PRECISION_F32, KDAS_EUNSUPPORTED },
    { "7.5", KDAS_PRECISION_TF32, KDAS_PRECISION_F32, KDAS_EUNSUPPORTED },
    { "8.0", KDAS_PRECISION_F16, KDAS_PRECISION_F16, KDAS_OK },
    { "8.0", KDAS_PRECISION_AUTO, KDAS_PRECISION_BF16, KDAS_OK },
    { "9.0", KDAS_PRECISION_BF16, KDAS_PRECISION_BF16, KDAS_OK },
    { "8.6", KDAS_PRECISION_TF32, KDAS_PRECISION_TF32, KDAS_OK },
};

START_TEST(a_precision_is_had_where_the_card_has_it)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    kdas_context           *ctx;

    if (!emulator) return;
    emulator->set("CC", precisions[_i].card);
    kd_assert_status(try_context(&ctx, "cuda", precisions[_i].asked), precisions[_i].status);
    if (precisions[_i].status == KDAS_OK)
        ck_assert_int_eq(kdas_context_precision(ctx), precisions[_i].got);
    kdas_context_destroy(ctx);
    kd_test_emulator_assert_empty(emulator);
}
END_TEST

/* ---- memory ---- */

START_TEST(a_model_too_large_is_a_status)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    kdas_context           *ctx;
    kdas_model             *model;

    if (!emulator) return;
    emulator->set("MEMORY", "100000000");
    kd_assert_ok(try_context(&ctx, "cuda", KDAS_PRECISION_F32));
    kd_assert_status(kdas_model_create(&model, ctx, "polyp_pvt_b2", NULL), KDAS_ENOMEM);
    ck_assert_ptr_null(model);
    kd_assert_sentence("needed");
    kd_assert_sentence("free");
    kd_assert_ok(kdas_model_create(&model, ctx, "polyp_pvt_b0", NULL)); /* a smaller one fits */
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    kd_test_emulator_assert_empty(emulator);
}
END_TEST

START_TEST(a_card_too_small_for_a_context_is_a_status)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    kdas_context           *ctx;

    if (!emulator) return;
    emulator->set("MEMORY", "1000000");
    kd_assert_status(try_context(&ctx, "cuda", KDAS_PRECISION_F32), KDAS_ENOMEM);
    ck_assert_ptr_null(ctx);
    kd_assert_sentence("cuda:0");
    kd_test_emulator_assert_empty(emulator);
}
END_TEST

START_TEST(a_batch_too_large_leaves_room_for_a_smaller_one)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    kdas_context           *ctx;
    kdas_model             *model;
    kdas_batch             *large, *small;
    size_t                  before;

    if (!emulator) return;
    emulator->set("MEMORY", "200000000");
    kd_assert_ok(try_context(&ctx, "cuda", KDAS_PRECISION_F32));
    kd_assert_ok(kdas_model_create(&model, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_batch_create(&large, ctx, 8, 256, 256));
    kd_assert_ok(kdas_batch_create(&small, ctx, 1, 32, 32));
    kd_test_fill(kdas_batch_images(small), 32 * 32 * 3, "small", 1, 0);
    for (int i = 0; i < 2; i++) {
        before = emulator->used_bytes();
        kd_assert_status(kdas_model_forward(model, KDAS_MODE_TRAIN, large), KDAS_ENOMEM);
        kd_assert_sentence("needed");
        kd_assert_sentence("free");
        ck_assert_uint_le(emulator->used_bytes(), before + (8 << 20));
        kd_assert_ok(kdas_model_forward(model, KDAS_MODE_TRAIN, small));
    }
    kdas_batch_destroy(large);
    kdas_batch_destroy(small);
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    kd_test_emulator_assert_empty(emulator);
}
END_TEST

static kd_test_rig_options on(const char *device)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.device = device;
    return o;
}

static kdas_batch *draw(kdas_context *ctx)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, 2, 32, 32));
    kd_test_fill(kdas_batch_images(b), 2 * 32 * 32 * 3, "batch", 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), 2, 32, 32, "batch");
    return b;
}

START_TEST(a_wait_ends_what_was_begun)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    kd_test_rig_options     o        = on("cuda");
    kdas_batch             *batch;
    kd_test_rig             rig;
    size_t                  before;

    if (!emulator) return;
    kd_test_rig_make(&rig, &o);
    batch = draw(rig.ctx);
    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_INFER, batch));
    before = emulator->launches();
    kd_assert_ok(kdas_context_wait(rig.ctx));
    ck_assert_uint_gt(emulator->launches(), before); /* they had not begun: streams are queues */
    before = emulator->launches();
    kd_assert_ok(kdas_context_wait(rig.ctx));
    ck_assert_uint_eq(emulator->launches(), before);
    kdas_batch_destroy(batch);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(all_that_a_context_had_is_given_back)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    kd_test_rig_options     o        = on("cuda");
    kd_test_meter           meter    = { 0 };
    kd_test_rig             rig;

    if (!emulator) return;
    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    for (int t = 0; t < 3; t++)
        kd_test_rig_step(&rig, t);
    ck_assert_uint_gt(emulator->used_bytes(), 0);
    ck_assert_int_gt(emulator->streams(), 0);
    kd_test_rig_finish(&rig);
    kd_test_emulator_assert_empty(emulator);
    kd_test_assert_given_back(&meter);
}
END_TEST

START_TEST(from_the_third_step_on_nothing_is_allocated)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    kd_test_rig_options     o        = on("cuda");
    kd_test_meter           meter    = { 0 };
    kdas_batch             *batch;
    kd_test_rig             rig;
    size_t                  device;
    long                    host;
    int                     graphs, pinned;

    if (!emulator) return;
    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    batch = draw(rig.ctx);
    for (int t = 0; t < 2; t++)
        kd_assert_ok(kdas_distiller_step(rig.distiller, batch, NULL));
    device = emulator->allocations();
    host   = meter.taken;
    graphs = emulator->graphs();
    pinned = emulator->host_blocks();
    for (int t = 2; t < 5; t++)
        kd_assert_ok(kdas_distiller_step(rig.distiller, batch, NULL));
    ck_assert_uint_eq(emulator->allocations(), device);
    ck_assert_int_eq(meter.taken, host);
    ck_assert_int_eq(emulator->graphs(), graphs);
    ck_assert_int_eq(emulator->host_blocks(), pinned);
    kdas_batch_destroy(batch);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- a capture that fails ---- */

/* Its error is told where it belongs, and not again by what comes next. */
START_TEST(a_capture_that_fails_leaves_no_error_behind)
{
    static const struct {
        const char *call, *reason;
    } rows[]                         = { { "0", "operation not supported" },
                                         { "end", "no graph of this run: capturing stream has unjoined work" },
                                         { "instantiate", "graph: operation not supported" } };
    const kd_test_emulator *emulator = kd_test_emulated();
    kdas_context           *ctx;
    float                  *y, got[4];
    void                   *graph = NULL;
    kdas_status             status;

    if (!emulator) return;
    ctx = kd_test_device("cuda", NULL);
    y   = kd_device_alloc(ctx, sizeof got);
    kd_assert_ok(kd_device_upload(ctx, y, (const float[]){ 1, 2, 3, 4 }, sizeof got));
    for (int i = 0; i < 2; i++) {
        emulator->set("CAPTURE", i ? NULL : rows[_i].call);
        status = ctx->backend->capture_begin(ctx->device);
        if (status == KDAS_OK) {
            kd_assert_ok(kd_device_add(ctx, y, y, 4, 1));
            status = ctx->backend->capture_end(ctx->device, &graph);
        }
        kd_assert_status(status, i ? KDAS_OK : KDAS_EUNSUPPORTED);
        if (i) break;
        kd_assert_sentence(rows[_i].reason);
        ck_assert_ptr_null(graph);
        ck_assert_int_eq(emulator->graphs(), 0);
        kd_assert_ok(kd_device_add(ctx, y, y, 4, 1)); /* a launch, which looks for an error */
    }
    kd_assert_ok(ctx->backend->graph_launch(ctx->device, graph));
    kd_assert_ok(kd_device_download(ctx, got, y, sizeof got));
    for (int i = 0; i < 4; i++)
        ck_assert(got[i] == (float)(4 * (i + 1))); /* twice doubled, never by a capture */
    ctx->backend->graph_destroy(ctx->device, graph);
    kd_device_free(ctx, y);
    kdas_context_destroy(ctx);
    kd_test_emulator_assert_empty(emulator);
}
END_TEST

/* ---- a card that is lost ---- */

enum { MOMENTS = 4 }; /* of a step, from its first kernel to its last */

/* Two steps, the second of which is captured; then the n-th kernel from now is the last. */
static void step_twice_and_set_the_end(kd_test_rig *rig, kdas_batch *batch,
                                       const kd_test_emulator *emulator, int moment)
{
    char   n[32];
    size_t before = 0;

    for (int t = 0; t < 2; t++) {
        before = emulator->launches();
        kd_assert_ok(kdas_distiller_step(rig->distiller, batch, NULL));
    }
    before = emulator->launches() - before; /* now those of a step */
    snprintf(n, sizeof n, "%zu", before * (size_t)moment / (MOMENTS - 1) * 99 / 100 + 1);
    emulator->set("FAIL", n);
}

/* Every call on it is a status and a sentence. */
static void assert_lost(kd_test_rig *rig, kdas_batch *batch)
{
    float *weight = malloc((size_t)kdas_model_parameters(rig->student) * sizeof *weight);

    kd_assert_status(kdas_distiller_step(rig->distiller, batch, NULL), KDAS_EBACKEND);
    kd_assert_sentence("cuda:0: ");
    for (int i = 0; i < 2; i++) {
        kd_assert_status(kdas_distiller_step(rig->distiller, batch, NULL), KDAS_EBACKEND);
        kd_assert_sentence("the card has failed");
        kd_assert_status(kdas_model_read(rig->student, 0, weight), KDAS_EBACKEND);
        kd_assert_sentence("the card has failed");
        ck_assert_int_ne(kdas_model_forward(rig->student, KDAS_MODE_EVAL, batch), KDAS_OK);
        kd_assert_sentence("the card has failed");
    }
    free(weight);
}

START_TEST(a_card_lost_in_a_step_is_a_status_and_the_host_lives_on)
{
    const kd_test_emulator *emulator = kd_test_emulated();
    kd_test_rig_options     o = on("cuda"), cpu = on("cpu");
    kd_test_rig             lost, beside, other;
    kdas_batch             *batch;
    double                  want;

    if (!emulator) return;
    kd_test_rig_make(&beside, &cpu);
    want = kd_test_rig_step(&beside, 0);
    kd_test_rig_finish(&beside);
    kd_test_rig_make(&beside, &cpu);
    kd_test_rig_make(&lost, &o);
    batch = draw(lost.ctx);
    step_twice_and_set_the_end(&lost, batch, emulator, _i);
    assert_lost(&lost, batch);
    emulator->set("FAIL", NULL);
    ck_assert(kd_test_rig_step(&beside, 0) == want);

    o.device = "cuda:1"; /* the other card goes on */
    kd_test_rig_make(&other, &o);
    ck_assert_double_eq_tol(kd_test_rig_step(&other, 0) / want, 1, 1e-4);
    kdas_batch_destroy(batch);
    kd_test_rig_finish(&lost);
    kd_test_rig_finish(&other);
    kd_test_rig_finish(&beside);
    kd_test_emulator_assert_empty(emulator);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("cuda");
    TCase *cards = tcase_create("cards"), *memory = tcase_create("memory"),
          *faults = tcase_create("faults");
    SRunner *runner;
    int      failed;

    (void)argc;
    kd_test_cuda_wait_passively(argv);
    tcase_add_checked_fixture(cards, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_checked_fixture(cards, kd_test_cuda_path, NULL);
    tcase_add_loop_test(cards, where_there_is_no_card_a_sentence_says_so, 0, KD_COUNT(missing));
    tcase_add_test(cards, without_a_plug_in_a_sentence_says_so);
    tcase_add_test(cards, a_plug_in_that_was_cut_off_is_named);
    tcase_add_test(cards, a_context_says_which_card_it_has);
    tcase_add_loop_test(cards, a_precision_is_had_where_the_card_has_it, 0, KD_COUNT(precisions));
    suite_add_tcase(suite, cards);
    tcase_add_checked_fixture(memory, kd_test_cuda_path, NULL);
    tcase_set_timeout(memory, 240);
    tcase_add_test(memory, a_model_too_large_is_a_status);
    tcase_add_test(memory, a_card_too_small_for_a_context_is_a_status);
    tcase_add_test(memory, a_batch_too_large_leaves_room_for_a_smaller_one);
    tcase_add_test(memory, a_wait_ends_what_was_begun);
    tcase_add_test(memory, all_that_a_context_had_is_given_back);
    tcase_add_test(memory, from_the_third_step_on_nothing_is_allocated);
    suite_add_tcase(suite, memory);
    tcase_add_checked_fixture(faults, kd_test_cuda_path, NULL);
    tcase_set_timeout(faults, 240);
    tcase_add_loop_test(faults, a_capture_that_fails_leaves_no_error_behind, 0, 3);
    tcase_add_loop_test(faults, a_card_lost_in_a_step_is_a_status_and_the_host_lives_on, 0,
                        MOMENTS);
    suite_add_tcase(suite, faults);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
