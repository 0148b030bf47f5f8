/* check_far_batch.c - batches that were prefetched, and what becomes of them: destroyed while their upload is under
 * way, before or after the distiller, followed by another batch in their place, or of another context. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/thin.h"
#include "support/train_util.h"

enum { SIDE = 32, AREA = SIDE * SIDE };

/* Hooks that give the next batch the memory of the last one. */
static struct {
    bool  asked; /* the next block is a batch */
    void *taken, *spare;
} block;

static void *same_alloc(void *user, size_t bytes)
{
    (void)user;
    if (!block.asked) return malloc(bytes);
    block.asked = false;
    block.taken = block.spare ? block.spare : malloc(bytes);
    block.spare = NULL;
    return block.taken;
}

static void same_free(void *user, void *memory)
{
    (void)user;
    if (memory == block.taken && !block.spare)
        block.spare = memory;
    else
        free(memory);
}

static kdas_batch *draw(kdas_context *ctx, int t)
{
    block.asked = ctx->alloc == same_alloc;
    return kd_test_batch(ctx, 2, SIDE, t);
}

/* A student that learns alone, on the far device. */
static kd_test_rig_options alone(const char *device)
{
    kd_test_rig_options o = kd_test_alone();

    o.device = device;
    return o;
}

static double step(kd_test_rig *rig, kdas_batch *b)
{
    kdas_step_report r = { .size = sizeof r };

    kd_assert_ok(kdas_distiller_step(rig->distiller, b, &r));
    return r.total;
}

/* ---- Of another context ---- */

/* It is kept on the device of its own context, which is of no use to a step on another: that copies what it reads. */
START_TEST(a_batch_of_another_context_is_copied_by_each_step)
{
    static const char *const pairs[][2] = { { "far", "cpu" }, { "far", "far" }, { "cpu", "far" } };
    kd_test_rig_options      o          = alone(pairs[_i][0]);
    kdas_context            *other      = kd_test_device(pairs[_i][1], NULL);
    kd_test_rig              rig, plain;
    kdas_batch              *b = draw(other, 0);
    long                     asyncs;
    double                   want;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&plain, &o);
    asyncs = kd_far.asyncs;
    kd_assert_ok(kdas_batch_prefetch(b));
    ck_assert_int_eq(kd_far.asyncs - asyncs, other->host_memory ? 0 : 2);
    want = kd_test_rig_step(&plain, 0);
    ck_assert(step(&rig, b) == want);
    kdas_batch_destroy(b);
    kdas_context_destroy(other); /* nobody needs it any more */
    ck_assert(kd_test_rig_step(&rig, 1) == kd_test_rig_step(&plain, 1));
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&plain);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(a_run_on_batches_of_another_context_does_without)
{
    kd_test_rig_options o = alone("far");
    kd_test_training    here, there;
    kdas_scene_options  scenes;
    kdas_loader_options l;
    kdas_context       *other = kd_test_device("far", NULL);
    kdas_dataset       *frames;
    kdas_loader        *loader;

    kd_test_train_make(&here, &o, NULL);
    here.options.epochs = 1;
    kd_assert_ok(kd_test_train(&here));
    ck_assert_int_gt(kd_far.asyncs, 0);

    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = KD_TEST_FRAMES;
    scenes.width = scenes.height = 48;
    kd_assert_ok(kdas_dataset_synthetic(&frames, other, &scenes));
    kdas_loader_options_init(&l, sizeof l);
    l.batch  = 2;
    l.height = l.width = 32;
    kd_assert_ok(kdas_loader_create(&loader, frames, &l));
    kd_test_train_make(&there, &o, NULL);
    there.options.epochs = 1;
    kd_far.asyncs        = 0;
    kd_assert_ok(kdas_train(there.rig.distiller, loader, there.validation, &there.options));
    ck_assert_int_eq(kd_far.asyncs, 0);
    kd_test_assert_same_weights(here.rig.student, there.rig.student);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(frames);
    kdas_context_destroy(other);
    kd_test_train_finish(&here);
    kd_test_train_finish(&there);
    kd_test_far_assert_empty();
}
END_TEST

/* ---- Destroyed too soon ---- */

static void use_same_memory(kdas_context *ctx)
{
    ctx->alloc = same_alloc;
    ctx->free  = same_free;
}

/* Its upload is under way; the one that follows has its address, and its own content. */
START_TEST(a_batch_in_the_place_of_one_destroyed_is_not_taken_for_it)
{
    kd_test_rig_options o = alone("far");
    kd_test_rig         plain, rig;
    kdas_batch         *b, *last = NULL;

    kd_far.late = _i;
    kd_test_rig_make(&plain, &o);
    o.adapt = use_same_memory;
    kd_test_rig_make(&rig, &o);
    for (int t = 0; t < 6; t++) {
        long waits;

        b = draw(rig.ctx, 100 + t);
        ck_assert(t == 0 || b == last);
        kd_assert_ok(kdas_batch_prefetch(b));
        waits = kd_far.waits;
        last  = b;
        kdas_batch_destroy(b);
        ck_assert_int_gt(kd_far.waits, waits); /* its memory was being read */
        b = draw(rig.ctx, t);
        ck_assert_ptr_eq(b, last);
        if (t % 2) kd_assert_ok(kdas_batch_prefetch(b));
        ck_assert(step(&rig, b) == kd_test_rig_step(&plain, t));
        kdas_batch_destroy(b);
    }
    kd_test_assert_same_weights(plain.student, rig.student);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&plain);
    kd_test_far_assert_empty();
    free(block.spare);
}
END_TEST

/* Two that wait, destroyed in either order, with the distiller before, between or after them. */
START_TEST(batches_and_distiller_are_destroyed_in_any_order)
{
    static const int    orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
                                        { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
    kd_test_rig_options o           = alone("far");
    kd_test_rig         rig;
    kdas_batch         *b[2];

    kd_far.late = _i % 2;
    kd_test_rig_make(&rig, &o);
    for (int i = 0; i < 2; i++) {
        b[i] = draw(rig.ctx, i);
        kd_assert_ok(kdas_batch_prefetch(b[i]));
    }
    for (int i = 0; i < 3; i++) {
        int what = orders[_i / 2][i];

        if (what < 2) {
            kdas_batch_destroy(b[what]);
            continue;
        }
        kdas_distiller_destroy(rig.distiller);
        rig.distiller = NULL;
    }
    kd_test_rig_finish(&rig);
    kd_test_far_assert_empty();
}
END_TEST

/* What is under way is the context's: whichever distiller comes first takes it. */
START_TEST(two_distillers_of_a_context_share_a_batch)
{
    kd_test_rig_options o = alone("far");
    kd_test_rig         plain, rig;
    kdas_distiller     *second;
    kdas_batch         *b;

    kd_far.late = _i;
    kd_test_rig_make(&plain, &o);
    kd_test_rig_make(&rig, &o);
    kd_assert_ok(
        kdas_distiller_create(&second, NULL, rig.student, rig.loss, rig.optim, &o.distiller));
    for (int t = 0; t < 4; t++) {
        b = draw(rig.ctx, t);
        kd_assert_ok(kdas_batch_prefetch(b));
        if (t % 2) kd_assert_ok(kdas_batch_prefetch(b));
        kd_assert_ok(kdas_distiller_step(second, b, NULL));
        kd_test_rig_step(&plain, t);
        kdas_batch_destroy(b);
    }
    kd_test_assert_same_weights(plain.student, rig.student);
    kdas_distiller_destroy(second);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&plain);
    kd_test_far_assert_empty();
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("far batches");
    TCase   *other = tcase_create("another context"), *gone = tcase_create("destroyed");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_loop_test(other, a_batch_of_another_context_is_copied_by_each_step, 0, 3);
    tcase_add_test(other, a_run_on_batches_of_another_context_does_without);
    suite_add_tcase(suite, other);
    tcase_add_loop_test(gone, a_batch_in_the_place_of_one_destroyed_is_not_taken_for_it, 0, 2);
    tcase_add_loop_test(gone, batches_and_distiller_are_destroyed_in_any_order, 0, 12);
    tcase_add_loop_test(gone, two_distillers_of_a_context_share_a_batch, 0, 2);
    suite_add_tcase(suite, gone);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
