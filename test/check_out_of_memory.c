/* check_out_of_memory.c - the step API after a call for which there was no memory: what a forward left before is neither
 * read nor differentiated again, whichever of its allocations failed, and the next calls work. The random walk of
 * check_api_walk.c does this for all calls; these are the sequences in which it was first seen. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/run_util.h"
#include "support/thin.h"

enum { N = 2, SMALL = 32, LARGE = 64, TRIES = 40 };

static kdas_batch *draw(kdas_context *ctx, int64_t side)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, N, side, side));
    kd_test_fill(kdas_batch_images(b), N * side * side * 3, "batch", 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), N, side, side, "batch");
    return b;
}

static kd_test_rig_options light(kd_test_meter *meter)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.student = o.teacher = "lite_fpn0";
    o.meter               = meter;
    return o;
}

/* ---- Which allocation fails ---- */

static void arm(kd_test_meter *meter, long k) { meter->fail_at = atomic_load(&meter->taken) + k; }
static void disarm(kd_test_meter *meter) { meter->fail_at = 0; }

/* How many allocations a forward of this size makes when it is new. */
static long count_forward(kdas_model *m, kdas_mode mode, kdas_batch *b, const kd_test_meter *meter)
{
    long before = atomic_load(&meter->taken);

    kd_assert_ok(kdas_model_forward(m, mode, b));
    return atomic_load(&meter->taken) - before;
}

/* Case i of TRIES: from the first allocation to the last. */
static long which(int i, long count) { return 1 + (count - 1) * i / (TRIES - 1); }

static void assert_nothing_is_left(kdas_model *m)
{
    static float room[N * LARGE * LARGE];

    ck_assert_uint_eq(kdas_model_generation(m), 0);
    ck_assert_ptr_null(kdas_model_batch(m));
    kd_assert_status(kdas_model_read_output(m, "P1", room), KDAS_ESTATE);
    kd_assert_sentence("has no outputs");
    kd_assert_status(kdas_model_backward(m, NULL), KDAS_ESTATE);
    kd_assert_status(kdas_model_add_gradient(m, "P1", room), KDAS_ESTATE);
}

START_TEST(after_a_larger_forward_without_memory_nothing_is_read_or_differentiated)
{
    const kdas_mode     mode  = _i % 2 ? KDAS_MODE_EVAL : KDAS_MODE_TRAIN;
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = light(&meter);
    kd_test_rig         rig;
    kdas_batch         *small, *large;
    long                count;

    kd_test_rig_make(&rig, &o);
    small = draw(rig.ctx, SMALL);
    large = draw(rig.ctx, LARGE);
    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, small)); /* what it makes once */
    count = count_forward(rig.student, mode, large, &meter);
    for (int i = 0; i < TRIES; i++) {
        kd_assert_ok(kdas_model_trim(rig.student, 0));
        kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, small));
        arm(&meter, which(i, count));
        kd_assert_status(kdas_model_forward(rig.student, mode, large), KDAS_ENOMEM);
        disarm(&meter);
        assert_nothing_is_left(rig.student);
    }
    kd_assert_ok(kdas_model_forward(rig.student, mode, large));
    kd_assert_ok(kdas_model_backward(rig.student, NULL));
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* A device's own memory runs out: the images of the forward before are lost with the room for the larger ones. */
START_TEST(after_a_larger_forward_without_device_memory_nothing_is_differentiated)
{
    kd_test_rig_options o = light(NULL);
    kd_test_rig         rig;
    kdas_batch         *small, *large;
    int                 failed = 0;

    kd_far   = (kd_test_far){ .no_graphs = _i };
    o.device = "far";
    kd_test_rig_make(&rig, &o);
    small = draw(rig.ctx, SMALL);
    large = draw(rig.ctx, LARGE);
    for (long k = 1;; k++) {
        kdas_status st;

        kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, small));
        kd_far.fail_alloc = kd_far.allocs + k;
        st                = kdas_model_forward(rig.student, KDAS_MODE_TRAIN, large);
        kd_far.fail_alloc = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        assert_nothing_is_left(rig.student);
        failed++;
    }
    kd_assert_ok(kdas_model_backward(rig.student, NULL));
    ck_assert_int_ge(failed, 2); /* its images, its activations */
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kd_test_rig_finish(&rig);
}
END_TEST

/* A forward of the model, or of the distiller itself, that fails between the distiller's forward and its backward. */
START_TEST(a_distillers_backward_differentiates_no_other_forward)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = light(&meter);
    kd_test_rig         rig;
    kdas_batch         *small, *large;
    long                count;

    kd_test_rig_make(&rig, &o);
    small = draw(rig.ctx, SMALL);
    large = draw(rig.ctx, LARGE);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, small));
    count = count_forward(rig.student, KDAS_MODE_EVAL, large, &meter);
    for (int i = 0; i < TRIES; i++) {
        kd_assert_ok(kdas_model_trim(rig.student, 0));
        kd_assert_ok(kdas_model_trim(rig.teacher, 0));
        kd_assert_ok(kdas_distiller_forward(rig.distiller, small));
        arm(&meter, which(i, count));
        if (_i)
            kd_assert_status(kdas_distiller_forward(rig.distiller, large), KDAS_ENOMEM);
        else
            kd_assert_status(kdas_model_forward(rig.student, KDAS_MODE_EVAL, large), KDAS_ENOMEM);
        disarm(&meter);
        kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
        kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
        kd_assert_ok(kdas_distiller_forward(rig.distiller, small));
        kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
        kd_assert_ok(kdas_model_zero_gradients(rig.student));
    }
    kd_assert_ok(kdas_distiller_step(rig.distiller, small, NULL));
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* Every phase of a step without memory; the step that succeeds at last is that of a twin which never failed. */
START_TEST(a_step_without_memory_has_changed_nothing)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = light(&meter);
    kd_test_rig         rig, twin;
    kdas_batch         *a, *b;
    kdas_step_report    r = { .size = sizeof r }, want = { .size = sizeof want };
    int                 failed = 0;

    o.loss.feature    = "normalised";
    o.loss.share      = 0.5f;
    o.model.drop_path = 0.5f;
    kd_test_rig_make(&rig, &o);
    o.meter = NULL;
    kd_test_rig_make(&twin, &o);
    a = draw(rig.ctx, SMALL);
    b = draw(twin.ctx, SMALL);
    for (long k = 1;; k += 13) {
        kdas_status st;

        arm(&meter, k);
        st = kdas_distiller_step(rig.distiller, a, &r);
        disarm(&meter);
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
        kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
        failed++;
    }
    ck_assert_int_gt(failed, 20);
    for (int t = 0; t < 3; t++) {
        kd_assert_ok(kdas_distiller_step(twin.distiller, b, &want));
        ck_assert(r.total == want.total);
        kd_assert_ok(kdas_distiller_step(rig.distiller, a, &r));
    }
    kd_assert_ok(kdas_distiller_step(twin.distiller, b, &want));
    kd_test_assert_same_weights(rig.student, twin.student);
    kdas_batch_destroy(a);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
    kd_test_rig_finish(&twin);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("out of memory");
    TCase   *t     = tcase_create("step");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, after_a_larger_forward_without_memory_nothing_is_read_or_differentiated,
                        0, 2);
    tcase_add_loop_test(t, after_a_larger_forward_without_device_memory_nothing_is_differentiated,
                        0, 2);
    tcase_add_loop_test(t, a_distillers_backward_differentiates_no_other_forward, 0, 2);
    tcase_add_test(t, a_step_without_memory_has_changed_nothing);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
