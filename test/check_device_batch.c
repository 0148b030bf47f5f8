/* check_device_batch.c - batches that stay on the device for several calls, and batches over the host's own memory. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/thin.h"
#include "support/train_util.h"

enum { N = 2, SIDE = 32, AREA = SIDE * SIDE };

static kdas_batch *draw(kdas_context *ctx, int t) { return kd_test_batch(ctx, N, SIDE, t); }

/* ---- Batches on the device ---- */

static kdas_model *model_on(kdas_context *ctx)
{
    kdas_model *m;

    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    return m;
}

START_TEST(a_batch_on_the_device_is_uploaded_once)
{
    kdas_context *ctx;
    kdas_model   *a, *b;
    kdas_batch   *batch;
    long          uploads[3];

    kd_far.no_ahead = _i == 2;
    ctx             = kd_test_device("far", NULL);
    a               = model_on(ctx);
    b               = model_on(ctx);
    batch           = draw(ctx, 0);
    for (int i = 0; i < 3; i++) {
        uploads[i] = kd_far.uploads + kd_far.asyncs;
        if (i == 2) kd_assert_ok(_i ? kdas_batch_prefetch(batch) : kdas_batch_upload(batch));
        kd_assert_ok(kdas_model_forward(a, KDAS_MODE_INFER, batch));
        if (i == 2 && _i) kd_assert_ok(kdas_batch_upload(batch)); /* takes what was prefetched */
        kd_assert_ok(kdas_model_forward(b, KDAS_MODE_INFER, batch));
        uploads[i] = kd_far.uploads + kd_far.asyncs - uploads[i];
    }
    ck_assert_int_eq(uploads[1], 2); /* the images, by each */
    ck_assert_int_eq(uploads[2], 2); /* images and masks, once */
    kd_assert_ok(kdas_batch_settle(batch));
    uploads[0] = kd_far.uploads;
    kd_assert_ok(kdas_model_forward(a, KDAS_MODE_INFER, batch));
    ck_assert_int_eq(kd_far.uploads - uploads[0], 1);
    kdas_batch_destroy(batch);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
}
END_TEST

static float first_logit(kdas_model *m)
{
    float map[N * AREA];

    kd_assert_ok(kdas_model_read_output(m, "P1", map));
    return map[0];
}

START_TEST(a_batch_that_was_changed_is_not_found_on_the_device)
{
    static uint8_t  grey[AREA];
    const kdas_view view = {
        .data = grey, .width = SIDE, .height = SIDE, .pixel = KDAS_PIXEL_GREY8
    };
    kdas_context *ctx = kd_test_device("far", NULL);
    kdas_model   *m   = model_on(ctx);
    kdas_batch   *b   = draw(ctx, 0);
    float         was;

    kd_assert_ok(kdas_batch_upload(b));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    was = first_logit(m);
    kd_assert_ok(kdas_batch_set(b, 0, &view, NULL));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    ck_assert(first_logit(m) != was);
    was = first_logit(m);
    kdas_batch_images(b)[0] += 3; /* by hand: the call says so */
    kd_assert_ok(kdas_batch_upload(b));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    ck_assert(first_logit(m) != was);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
}
END_TEST

/* Two have room; who takes the place of one that a backward wants to read is told of there. */
START_TEST(images_that_were_overwritten_are_refused_by_the_backward)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_rig         rig;
    kdas_batch         *b[4];

    o.device = "far";
    kd_test_rig_make(&rig, &o);
    for (int i = 0; i < 4; i++)
        b[i] = draw(rig.ctx, i);
    kd_assert_ok(kdas_batch_upload(b[0]));
    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, b[0]));
    kd_assert_ok(kdas_batch_prefetch(b[1]));
    kd_assert_ok(kdas_batch_prefetch(b[2])); /* in the place of b[1], which nobody has used */
    kd_assert_ok(kdas_loss_run(rig.loss, rig.student, NULL, b[0], NULL, NULL));
    kd_assert_ok(kdas_model_backward(rig.student, NULL));
    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, b[0]));
    kd_assert_ok(kdas_batch_upload(b[1]));
    kd_assert_ok(kdas_batch_upload(b[3]));
    kd_assert_status(kdas_loss_run(rig.loss, rig.student, NULL, b[0], NULL, NULL), KDAS_ESTATE);
    kd_assert_sentence("has lost its images");
    kd_assert_status(kdas_model_backward(rig.student, NULL), KDAS_ESTATE);
    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, b[0])); /* copies them */
    kd_assert_ok(kdas_loss_run(rig.loss, rig.student, NULL, b[0], NULL, NULL));
    kd_assert_ok(kdas_model_backward(rig.student, NULL));
    for (int i = 0; i < 4; i++)
        kdas_batch_destroy(b[i]);
    kd_test_rig_finish(&rig);
    kd_test_far_assert_empty();
}
END_TEST

/* ---- Batches over the host's memory ---- */

START_TEST(a_wrapped_batch_is_the_hosts_memory)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_rig         plain, rig;
    float              *images = malloc(N * AREA * 3 * sizeof *images);
    float              *masks  = malloc(N * AREA * sizeof *masks);

    o.device = _i ? "far" : "cpu";
    kd_test_rig_make(&plain, &o);
    kd_test_rig_make(&rig, &o);
    for (int t = 0; t < 3; t++) {
        kdas_step_report r    = { .size = sizeof r };
        kdas_batch      *from = draw(rig.ctx, t), *b;

        memcpy(images, kdas_batch_images(from), N * AREA * 3 * sizeof *images);
        memcpy(masks, kdas_batch_masks(from), N * AREA * sizeof *masks);
        kdas_batch_destroy(from);
        kd_assert_ok(kdas_batch_wrap(&b, rig.ctx, N, SIDE, SIDE, images, masks));
        ck_assert_ptr_eq(kdas_batch_images(b), images);
        ck_assert_ptr_eq(kdas_batch_masks(b), masks);
        ck_assert_ptr_eq(kdas_batch_context(b), rig.ctx);
        if (t == 2) kd_assert_ok(kdas_batch_prefetch(b));
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
        ck_assert(r.total == kd_test_rig_step(&plain, t));
        kdas_batch_destroy(b);
        images[t] += 1; /* it is there still */
    }
    kd_test_assert_same_weights(plain.student, rig.student);
    kd_test_rig_finish(&plain);
    kd_test_rig_finish(&rig);
    free(images);
    free(masks);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(a_batch_without_masks_takes_none)
{
    static uint8_t  grey[AREA];
    static float    images[N * AREA * 3];
    const kdas_view view = {
        .data = grey, .width = SIDE, .height = SIDE, .pixel = KDAS_PIXEL_GREY8
    };
    kdas_context *ctx;
    kdas_batch   *b = (kdas_batch *)&grey;

    kd_assert_ok(kdas_context_create(&ctx, NULL));
    kd_assert_status(kdas_batch_wrap(&b, ctx, N, SIDE, SIDE, NULL, NULL), KDAS_EINVAL);
    ck_assert_ptr_null(b);
    kd_assert_status(kdas_batch_wrap(&b, ctx, 0, SIDE, SIDE, images, NULL), KDAS_EINVAL);
    kd_assert_ok(kdas_batch_wrap(&b, ctx, N, SIDE, SIDE, images, NULL));
    ck_assert_ptr_null(kdas_batch_masks(b));
    kd_assert_status(kdas_batch_set(b, 0, &view, &view), KDAS_EINVAL);
    kd_assert_sentence("without masks");
    ck_assert(images[0] == 0);
    kd_assert_ok(kdas_batch_set(b, 0, &view, NULL));
    ck_assert(images[0] < -1); /* black, normalised, in the host's memory */
    memset(grey, 255, sizeof grey);
    kd_assert_status(kdas_batch_set_weights(b, 0, &view), KDAS_EINVAL);
    kd_assert_sentence("without masks");
    for (int labelled = 0; labelled < 2; labelled++)
        kd_assert_status(kdas_batch_set_labelled(b, 0, labelled), KDAS_EINVAL);
    kd_assert_sentence("without masks");
    ck_assert_int_eq(kdas_batch_labelled(b, 0), 0);
    ck_assert_ptr_null(kdas_batch_weights(b));
    ck_assert_int_eq(kdas_batch_has_teacher(b, 0), 0);
    kd_assert_ok(kdas_batch_set_teacher(b, 0, &view));
    ck_assert_int_eq(kdas_batch_has_teacher(b, 0), 1);
    kdas_batch_destroy(b);
    kdas_context_destroy(ctx);
}
END_TEST

/* It is refused where masks are compared, and taken where they are not. */
START_TEST(a_step_on_a_batch_without_masks)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig, untouched;
    float              *images = malloc(N * AREA * 3 * sizeof *images);
    kdas_step_report    r      = { .size = sizeof r };
    kdas_batch         *b;

    o.device = _i % 2 ? "far" : "cpu";
    if (_i >= 2) o.loss.seg_weight = 0;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&untouched, &o);
    kd_test_fill(images, N * AREA * 3, "images", 1, 0);
    kd_assert_ok(kdas_batch_wrap(&b, rig.ctx, N, SIDE, SIDE, images, NULL));
    kd_assert_ok(kdas_model_forward(rig.teacher, KDAS_MODE_INFER, b));
    if (_i < 2) {
        kd_assert_status(kdas_distiller_step(rig.distiller, b, &r), KDAS_EINVAL);
        kd_assert_sentence("without masks");
        kd_test_assert_same_weights(rig.student, untouched.student);
        ck_assert_int_eq(kdas_model_generation(rig.student), 0);
        ck_assert(kd_test_rig_step(&rig, 0) == kd_test_rig_step(&untouched, 0));
    } else {
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
        ck_assert(r.raw[KDAS_TERM_SEG] == 0 && r.raw[KDAS_TERM_KD] > 0);
    }
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&untouched);
    free(images);
    kd_test_far_assert_empty();
}
END_TEST

static void start(void) { kd_far = (kd_test_far){ 0 }; }

static TCase *named(Suite *suite, const char *name)
{
    TCase *t = tcase_create(name);

    tcase_add_checked_fixture(t, start, NULL);
    suite_add_tcase(suite, t);
    return t;
}

int main(void)
{
    Suite *suite = suite_create("device_batch");
    TCase *there = named(suite, "on the device"), *wrapped = named(suite, "over the host's memory");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_loop_test(there, a_batch_on_the_device_is_uploaded_once, 0, 3);
    tcase_add_test(there, a_batch_that_was_changed_is_not_found_on_the_device);
    tcase_add_test(there, images_that_were_overwritten_are_refused_by_the_backward);
    tcase_add_loop_test(wrapped, a_wrapped_batch_is_the_hosts_memory, 0, 2);
    tcase_add_test(wrapped, a_batch_without_masks_takes_none);
    tcase_add_loop_test(wrapped, a_step_on_a_batch_without_masks, 0, 4);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
