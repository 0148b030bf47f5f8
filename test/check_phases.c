/* check_phases.c - what lies between a forward and its backward: a forward's guidance and models hold for its backward,
 * a place of a batch is labelled by its mask or by its map, never by both, and has a weight. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/run_util.h"

enum { N = 2, SIDE = 32, AREA = SIDE * SIDE };

static kdas_batch *draw(kdas_context *ctx, const char *name)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, N, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), N * AREA * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), N, SIDE, SIDE, name);
    return b;
}

/* ---- The factor of the guidance ---- */

static kdas_step_report between(double before, double after, bool features)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_step_report    r = { .size = sizeof r };
    kd_test_rig         rig;
    kdas_batch         *b;

    if (features) o.loss.feature = "normalised";
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, "b");
    kd_assert_ok(kdas_loss_set_guidance_factor(rig.loss, before));
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_loss_set_guidance_factor(rig.loss, after));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, &r));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    return r;
}

START_TEST(a_forwards_factor_holds_for_its_backward)
{
    kdas_step_report off = between(0, 0, _i), raised = between(0, 1, _i), on = between(1, 1, _i),
                     lowered = between(1, 0, _i);

    ck_assert_mem_eq(off.raw, raised.raw, sizeof off.raw);
    ck_assert_mem_eq(off.weighted, raised.weighted, sizeof off.weighted);
    ck_assert(off.raw[KDAS_TERM_KD] == 0 && on.raw[KDAS_TERM_KD] > 0);
    ck_assert_mem_eq(on.raw, lowered.raw, sizeof on.raw);
    ck_assert_mem_eq(on.weighted, lowered.weighted, sizeof on.weighted);
}
END_TEST

/* ---- The models ---- */

START_TEST(a_backward_after_another_forward_of_a_model_is_refused)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_step_report    r = { .size = sizeof r };
    kd_test_rig         rig;
    kdas_batch         *b, *other;
    kdas_model         *model;

    kd_test_rig_make(&rig, &o);
    model = _i ? rig.teacher : rig.student;
    b     = draw(rig.ctx, "b");
    other = draw(rig.ctx, "other");
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_model_forward(model, KDAS_MODE_INFER, other));
    kd_assert_status(kdas_distiller_backward(rig.distiller, &r), KDAS_ESTATE);
    kd_assert_sentence("has run since this forward");
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
    kdas_batch_destroy(b);
    kdas_batch_destroy(other);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(an_optimizer_of_another_model_is_refused)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_distiller     *d;
    kdas_model         *other;
    kdas_optim         *optim;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_model_create(&other, rig.ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_optim_create(&optim, other, NULL));
    kd_assert_status(kdas_distiller_create(&d, rig.teacher, rig.student, rig.loss, optim, NULL),
                     KDAS_EINVAL);
    kd_assert_sentence("made for another model");
    ck_assert_ptr_null(d);
    kdas_optim_destroy(optim);
    kdas_model_destroy(other);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Labels ---- */

static void give_map(kdas_batch *b, float p)
{
    float     map[AREA];
    kdas_view view = { map, SIDE, SIDE, 0, KDAS_PIXEL_GREYF32 };

    for (int k = 0; k < AREA; k++)
        map[k] = p;
    kd_assert_ok(kdas_batch_set_teacher(b, 0, &view));
}

START_TEST(a_label_that_is_given_back_is_not_the_maps)
{
    kdas_context *ctx;
    kdas_batch   *b;

    kd_assert_ok(kdas_context_create(&ctx, NULL));
    b = draw(ctx, "b");
    kd_assert_ok(kdas_batch_set_labelled(b, 0, 0));
    give_map(b, 0.9f);
    ck_assert(kdas_batch_masks(b)[5] == 1);
    kd_assert_ok(kdas_batch_set_labelled(b, 0, 1));
    for (int k = 0; k < AREA; k++)
        ck_assert(kdas_batch_masks(b)[k] == 0 && kdas_batch_weights(b)[k] == 1);
    kdas_batch_destroy(b);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(weights_of_a_place_without_a_label_are_its_maps_in_any_order)
{
    kdas_context *ctx;
    kdas_batch   *b;
    uint8_t       half = 128;
    kdas_view     view = { &half, 1, 1, 0, KDAS_PIXEL_GREY8 };

    kd_assert_ok(kdas_context_create(&ctx, NULL));
    b = draw(ctx, "b");
    kd_assert_ok(kdas_batch_set_labelled(b, 0, 0));
    if (_i) kd_assert_ok(kdas_batch_set_weights(b, 0, &view));
    give_map(b, 0.9f);
    if (!_i) kd_assert_ok(kdas_batch_set_weights(b, 0, &view));
    ck_assert_float_eq_tol(kdas_batch_weights(b)[7], 0.8f, 1e-5f);
    kdas_batch_destroy(b);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- Weights ---- */

START_TEST(weights_that_leave_an_image_nothing_are_refused)
{
    kdas_loss_options o;
    kdas_context     *ctx;
    kdas_loss        *loss;
    kdas_batch       *b;
    float             s[N * AREA], w[N * AREA], gradient[N * AREA] = { 7 };
    const uint8_t     none    = 0;
    const float      *map[1]  = { s };
    float            *to[1]   = { gradient };
    kdas_maps         student = { map, 1, N, SIDE, SIDE };
    kdas_view         zero    = { &none, 1, 1, 0, KDAS_PIXEL_GREY8 };

    kdas_loss_options_init(&o, sizeof o);
    o.guidance = "none";
    kd_assert_ok(kdas_context_create(&ctx, NULL));
    kd_assert_ok(kdas_loss_create(&loss, ctx, &o));
    b = draw(ctx, "b");
    kd_test_fill(s, N * AREA, "student", 3, 0);
    for (int k = 0; k < N * AREA; k++)
        w[k] = k < AREA || _i == 1;
    if (_i == 1) w[AREA + 3] = -1;
    kd_assert_status(
        kdas_loss_evaluate_weighted(loss, &student, NULL, kdas_batch_masks(b), w, to, NULL),
        KDAS_EINVAL);
    kd_assert_sentence(_i == 1 ? "a weight of image 1 is -1" : "all weights of image 1 are 0");
    ck_assert(gradient[0] == 7);
    kd_assert_status(kdas_batch_set_weights(b, 1, &zero), KDAS_EINVAL);
    kd_assert_sentence("all weights of place 1 are 0");
    ck_assert_ptr_null(kdas_batch_weights(b));
    kdas_batch_destroy(b);
    kdas_loss_destroy(loss);
    kdas_context_destroy(ctx);
}
END_TEST

static Suite *phases_suite(void)
{
    Suite *s      = suite_create("phases");
    TCase *steps  = tcase_create("steps");
    TCase *labels = tcase_create("labels");

    tcase_add_loop_test(steps, a_forwards_factor_holds_for_its_backward, 0, 2);
    tcase_add_loop_test(steps, a_backward_after_another_forward_of_a_model_is_refused, 0, 2);
    tcase_add_test(steps, an_optimizer_of_another_model_is_refused);
    suite_add_tcase(s, steps);
    tcase_add_test(labels, a_label_that_is_given_back_is_not_the_maps);
    tcase_add_loop_test(labels, weights_of_a_place_without_a_label_are_its_maps_in_any_order, 0, 2);
    tcase_add_loop_test(labels, weights_that_leave_an_image_nothing_are_refused, 0, 2);
    suite_add_tcase(s, labels);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(phases_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
