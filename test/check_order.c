/* check_order.c - public calls in orders that nobody planned: what a forward left is read and differentiated while it is
 * there, and refused with KDAS_ESTATE once it is gone; a call that fails has changed nothing. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/thin.h"

enum { N = 2, SIDE = 32, AREA = SIDE * SIDE };

static kdas_batch *draw(kdas_context *ctx, int t) { return kd_test_batch(ctx, N, SIDE, t); }

/* ---- What takes the values of a forward away ---- */

static void ask_for_memory(kdas_context *ctx, kdas_model *m)
{
    (void)ctx;
    kd_assert_ok(kdas_model_memory(m, KDAS_MODE_INFER, 1, 1024, 1024, NULL, NULL));
}

static void keep_taps(kdas_context *ctx, kdas_model *m)
{
    (void)ctx;
    for (int32_t i = 0; kdas_model_tap(m, i); i++)
        kd_assert_ok(kdas_model_keep_tap(m, kdas_model_tap(m, i)));
}

static void open_a_segmenter(kdas_context *ctx, kdas_model *m)
{
    kdas_segmenter_options o;
    kdas_segmenter        *s;

    (void)ctx;
    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = 96;
    kd_assert_ok(kdas_segmenter_create(&s, m, &o));
    kdas_segmenter_destroy(s);
}

static void fail_a_forward(kdas_context *ctx, kdas_model *m)
{
    kdas_batch *b = draw(ctx, 9);

    kdas_context_cancel(ctx);
    kd_assert_status(kdas_model_forward(m, KDAS_MODE_INFER, b), KDAS_ECANCELLED);
    kdas_context_resume(ctx);
    kdas_batch_destroy(b);
}

static void (*const taking[])(kdas_context *, kdas_model *) = { ask_for_memory, keep_taps,
                                                                fail_a_forward, open_a_segmenter };
enum { TAKING = sizeof taking / sizeof *taking, LEAVES_OTHERS = 3 };

START_TEST(a_models_values_are_refused_once_they_are_gone)
{
    const float  *none[2] = { NULL, NULL };
    kdas_context *ctx;
    kdas_model   *m;
    kdas_batch   *b;
    float         out[N * AREA] = { 5 };
    kdas_status   wanted        = _i == LEAVES_OTHERS ? KDAS_OK : KDAS_ESTATE;
    int64_t       dims[4];

    kd_assert_ok(kdas_context_create(&ctx, NULL));
    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    b = draw(ctx, 0);
    kd_assert_status(kdas_model_read_output(m, "P1", out), KDAS_ESTATE);
    kd_assert_sentence("no forward yet");
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    kd_assert_ok(kdas_model_read_output(m, "P1", out));
    taking[_i](ctx, m);
    if (_i == LEAVES_OTHERS) { /* the segmenter's run has outputs of its own, smaller than ours */
        ck_assert_ptr_nonnull(kdas_model_output(m, 0, dims));
        ck_assert_int_eq(dims[1], 96);
    } else {
        kd_assert_status(kdas_model_read_output(m, "P1", out), wanted);
        kd_assert_sentence("has no outputs");
    }
    kd_assert_status(kdas_model_backward(m, none), KDAS_ESTATE);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    kd_assert_ok(kdas_model_backward(m, none));
    kd_assert_ok(kdas_model_read_output(m, "P1", out)); /* outputs outlive the backward */
    kd_assert_status(kdas_model_backward(m, none), KDAS_ESTATE);
    kd_assert_sentence("once");
    kd_assert_status(kdas_model_add_gradient(m, "P1", out), KDAS_ESTATE);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(a_distillers_backward_is_refused_once_its_forward_is_gone)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;

    if (_i >= 2 * TAKING) o.loss.feature = "normalised";
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 0);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    taking[_i % TAKING](rig.ctx, _i / TAKING % 2 ? rig.student : rig.teacher);
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_sentence("since this forward");
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_distillers_backward_is_refused_after_the_models_own)
{
    const float        *none[2] = { NULL, NULL };
    kd_test_rig_options o       = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;

    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 0);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_model_backward(rig.student, none));
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* The images are read again by the backward: a batch that is gone, or another one now, has none. */
START_TEST(a_backward_is_refused_once_its_batch_is_gone_or_changed)
{
    const float        *none[2] = { NULL, NULL };
    kd_test_rig_options o       = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;

    if (_i & 4) o.device = "far";
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 0);
    if (_i & 1)
        kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    else
        kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, b));
    ck_assert_ptr_eq(kdas_model_batch(rig.student), b);
    if (_i & 2)
        kdas_batch_destroy(b);
    else
        kd_assert_ok(kdas_batch_resize(b, 1));
    ck_assert_ptr_null(kdas_model_batch(rig.student));
    if (_i & 1)
        kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    else
        kd_assert_status(kdas_model_backward(rig.student, none), KDAS_ESTATE);
    kd_assert_sentence("changed or destroyed");
    if (_i & 2) b = draw(rig.ctx, 1);
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(gradients_that_were_zeroed_make_no_update)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig, twin;
    kdas_batch         *b;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&twin, &o);
    b = draw(rig.ctx, 0);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    kd_assert_ok(kdas_model_zero_gradients(rig.student));
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
    ck_assert_int_eq(kdas_optim_updates(rig.optim), 0);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&twin);
}
END_TEST

/* The masks of one batch say nothing of another's maps. */
START_TEST(an_objective_on_another_batch_than_the_forwards_is_refused)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *a, *b;

    kd_test_rig_make(&rig, &o);
    a = draw(rig.ctx, 0);
    b = draw(rig.ctx, 1);
    kd_assert_ok(kdas_model_forward(rig.teacher, KDAS_MODE_INFER, _i ? b : a));
    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, _i ? a : b));
    kd_assert_status(kdas_loss_run(rig.loss, rig.student, rig.teacher, a, NULL, NULL), KDAS_ESTATE);
    kd_assert_sentence("was on another batch");
    kd_assert_ok(kdas_model_forward(_i ? rig.teacher : rig.student,
                                    _i ? KDAS_MODE_INFER : KDAS_MODE_TRAIN, a));
    kd_assert_ok(kdas_loss_run(rig.loss, rig.student, rig.teacher, a, NULL, NULL));
    kdas_batch_destroy(a);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* No version of a struct ends inside a member. */
START_TEST(a_size_inside_a_member_is_refused)
{
    kdas_context_options o;
    kdas_context        *ctx;

    for (size_t size = sizeof o.size + 1; size < 2 * sizeof o.size; size++) {
        kdas_context_options_init(&o, sizeof o);
        o.size = size;
        kd_assert_status(kdas_context_create(&ctx, &o), KDAS_EINVAL);
        kd_assert_sentence("is no version's");
    }
}
END_TEST

/* A file that could not be read again does not take the place of one that can. */
START_TEST(a_checkpoint_that_could_not_be_read_is_not_written)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_progress       p = { .size = sizeof p, .epoch = 3 }, bad = p;
    const char         *path = kd_test_path("run.kdas");
    kd_test_rig         rig;
    char               *notes = malloc(101000001);

    o.student = o.teacher = "lite_fpn0";
    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, &p, NULL));
    bad.epoch = -1;
    kd_assert_status(kdas_checkpoint_save(rig.distiller, path, &bad, NULL), KDAS_EINVAL);
    bad = (kdas_progress){ .size = sizeof p, .position = -1 };
    kd_assert_status(kdas_checkpoint_save(rig.distiller, path, &bad, NULL), KDAS_EINVAL);
    memset(notes, 'x', 101000000);
    notes[101000000] = 0;
    kd_assert_status(kdas_checkpoint_save(rig.distiller, path, &p, notes), KDAS_EINVAL);
    kd_assert_sentence("could not be read again");
    kd_assert_ok(kdas_checkpoint_load(rig.distiller, path, &bad));
    ck_assert_int_eq(bad.epoch, 3);
    free(notes);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- A failure has changed nothing ---- */

/* Two rigs of which one has had a failed call must go on alike, random state included. */
static void assert_alike(kd_test_rig *rig, kd_test_rig *twin, kdas_batch *b)
{
    kdas_step_report r = { .size = sizeof r }, t = { .size = sizeof t };

    kd_test_assert_same_weights(rig->student, twin->student);
    for (int i = 0; i < 2; i++) {
        kd_assert_ok(kdas_distiller_step(rig->distiller, b, &r));
        kd_assert_ok(kdas_distiller_step(twin->distiller, b, &t));
        ck_assert(r.total == t.total);
    }
    kd_test_assert_same_weights(rig->student, twin->student);
}

static void make_far(kd_test_rig *rig, bool feature)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.device = "far";
    if (feature) o.loss.feature = "normalised";
    o.loss.share      = 0.5f;
    o.model.drop_path = 0.5f;
    kd_test_rig_make(rig, &o);
}

/* Every 41st kernel of forward and backward fails once, the first of them in forward, teacher included. */
START_TEST(a_step_of_which_a_kernel_fails_has_changed_nothing)
{
    kd_test_rig rig, twin;
    kdas_batch *b;
    long        first, kernels;
    int         failed = 0;

    kd_far = (kd_test_far){ .no_graphs = true };
    make_far(&rig, _i);
    make_far(&twin, _i);
    b = draw(rig.ctx, 0);
    assert_alike(&rig, &twin, b);              /* and all is compiled */
    kd_far.fail_kernel = kd_far.kernels + 300; /* weights are packed */
    kd_assert_status(kdas_distiller_step(twin.distiller, b, NULL), KDAS_EBACKEND);
    first = kd_far.kernels;
    kd_assert_ok(kdas_distiller_forward(twin.distiller, b));
    kd_assert_ok(kdas_distiller_backward(twin.distiller, NULL));
    kernels = kd_far.kernels - first;
    kd_assert_ok(kdas_distiller_update(twin.distiller, NULL));
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    for (long k = 1; k < kernels; k += 41) {
        kd_far.fail_kernel = kd_far.kernels + k;
        kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_EBACKEND);
        failed++;
        if (failed % 8 == 0) assert_alike(&rig, &twin, b);
    }
    assert_alike(&rig, &twin, b);
    ck_assert_int_gt(failed, 10);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&twin);
}
END_TEST

/* The second of two micro-batches has a NaN: both are dropped. A cancel before a forward drops nothing. */
START_TEST(a_step_with_a_nan_has_changed_nothing)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig, twin;
    kdas_step_report    r = { .size = sizeof r };
    kdas_batch         *b, *bad;

    o.distiller.accumulate = 2;
    o.model.drop_path      = 0.5f;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&twin, &o);
    b                         = draw(rig.ctx, 0);
    bad                       = draw(rig.ctx, 1);
    kdas_batch_images(bad)[7] = NAN;
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
    kd_assert_status(kdas_distiller_step(rig.distiller, bad, &r), KDAS_ENUMERIC);
    assert_alike(&rig, &twin, b);
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
    kd_assert_ok(kdas_distiller_step(twin.distiller, b, &r));
    kdas_context_cancel(rig.ctx);
    kd_assert_status(kdas_distiller_step(rig.distiller, b, &r), KDAS_ECANCELLED);
    kdas_context_resume(rig.ctx);
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
    ck_assert_int_eq(r.updated, 1);
    kd_assert_ok(kdas_distiller_step(twin.distiller, b, &r));
    assert_alike(&rig, &twin, b);
    kdas_batch_destroy(b);
    kdas_batch_destroy(bad);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&twin);
}
END_TEST

/* The same for hosts that call the model themselves. */
START_TEST(a_training_forward_that_fails_has_changed_nothing)
{
    kdas_context *ctx;
    kdas_model   *m, *twin;
    kdas_batch   *b;
    long          first, kernels = 0;
    float         got[N * AREA], want[N * AREA];

    kd_far = (kd_test_far){ .no_graphs = true };
    ctx    = kd_test_far_context(NULL, NULL, NULL);
    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_create(&twin, ctx, "polyp_pvt_b0", NULL));
    b = draw(ctx, 0);
    for (int i = 0; i < 2; i++) { /* the first run packs weights */
        first = kd_far.kernels;
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
        kernels = kd_far.kernels - first;
        kd_assert_ok(kdas_model_forward(twin, KDAS_MODE_TRAIN, b));
    }
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b)); /* folds and packs */
    kd_assert_ok(kdas_model_forward(twin, KDAS_MODE_INFER, b));
    for (long k = 1; k < kernels; k += 37) {
        kd_far.fail_kernel = kd_far.kernels + k;
        kd_assert_status(kdas_model_forward(m, KDAS_MODE_TRAIN, b), KDAS_EBACKEND);
        kd_assert_status(kdas_model_read_output(m, "P1", got), KDAS_ESTATE);
    }
    kd_test_assert_same_weights(m, twin);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_model_forward(twin, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_model_read_output(m, "P1", got));
    kd_assert_ok(kdas_model_read_output(twin, "P1", want));
    ck_assert(kd_test_same_bits(got, want, sizeof got));
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_model_destroy(twin);
    kdas_context_destroy(ctx);
}
END_TEST

/* A backward that fails leaves part of its gradients: no update is made of them. */
START_TEST(gradients_of_a_failed_backward_are_refused_until_they_are_zeroed)
{
    const float  *none[2] = { NULL, NULL };
    kdas_context *ctx;
    kdas_model   *m;
    kdas_optim   *optim;
    kdas_batch   *b;

    kd_far = (kd_test_far){ .no_graphs = true };
    ctx    = kd_test_far_context(NULL, NULL, NULL);
    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_optim_create(&optim, m, NULL));
    b = draw(ctx, 0);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    kd_far.fail_kernel = kd_far.kernels + 50;
    kd_assert_status(kdas_model_backward(m, none), KDAS_EBACKEND);
    kd_assert_status(kdas_optim_step(optim), KDAS_ESTATE);
    kd_assert_sentence("zero them first");
    ck_assert_int_eq(kdas_optim_updates(optim), 0);
    kd_assert_ok(kdas_model_zero_gradients(m));
    kd_assert_ok(kdas_optim_step(optim));
    kdas_batch_destroy(b);
    kdas_optim_destroy(optim);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* Maps that the host has set are used up by a forward, not by one that failed. */
START_TEST(a_hosts_maps_wait_for_a_forward_that_works)
{
    kd_test_rig_options o = kd_test_rig_usual();
    float               map[N * AREA];
    const float        *list = map;
    kdas_maps           maps = { &list, 1, N, SIDE, SIDE };
    kd_test_rig         rig;
    kdas_batch         *b;

    o.teacher = NULL;
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 0);
    kd_test_fill(map, N * AREA, "map", 3, 0);
    kd_assert_ok(kdas_distiller_set_teacher_maps(rig.distiller, &maps));
    kdas_context_cancel(rig.ctx);
    kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_ECANCELLED);
    kdas_context_resume(rig.ctx);
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_ESTATE);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("order");
    TCase   *gone = tcase_create("gone"), *failed = tcase_create("failed");
    SRunner *runner;
    int      bad;

    kd_test_thin_networks();
    tcase_add_checked_fixture(gone, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(gone, a_models_values_are_refused_once_they_are_gone, 0, TAKING);
    tcase_add_loop_test(gone, a_distillers_backward_is_refused_once_its_forward_is_gone, 0,
                        4 * TAKING);
    tcase_add_test(gone, a_distillers_backward_is_refused_after_the_models_own);
    tcase_add_loop_test(gone, a_backward_is_refused_once_its_batch_is_gone_or_changed, 0, 8);
    tcase_add_loop_test(gone, an_objective_on_another_batch_than_the_forwards_is_refused, 0, 2);
    tcase_add_test(gone, a_size_inside_a_member_is_refused);
    tcase_add_test(gone, a_checkpoint_that_could_not_be_read_is_not_written);
    tcase_add_test(gone, gradients_that_were_zeroed_make_no_update);
    tcase_add_loop_test(failed, a_step_of_which_a_kernel_fails_has_changed_nothing, 0, 2);
    tcase_add_test(failed, a_step_with_a_nan_has_changed_nothing);
    tcase_add_test(failed, a_training_forward_that_fails_has_changed_nothing);
    tcase_add_test(failed, gradients_of_a_failed_backward_are_refused_until_they_are_zeroed);
    tcase_add_test(failed, a_hosts_maps_wait_for_a_forward_that_works);
    tcase_set_timeout(failed, 120);
    tcase_set_timeout(gone, 60);
    suite_add_tcase(suite, gone);
    suite_add_tcase(suite, failed);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    bad = srunner_ntests_failed(runner);
    srunner_free(runner);
    return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
