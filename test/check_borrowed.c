/* check_borrowed.c - what a forward has read stays as it is until the backward, which reads it again: a batch that a call
 * has changed or destroyed meanwhile is refused, whoever owns it; maps of the host's teacher are those of their forward; a
 * name that was given out stays. The usual loops, which change a batch after its backward, go on. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/thin.h"

enum { N = 2, SIDE = 32, AREA = SIDE * SIDE };

static kdas_view frame_of(const uint8_t *pixels)
{
    return (kdas_view){ (void *)pixels, SIDE, SIDE, 0, KDAS_PIXEL_RGB8 };
}

static kdas_view plane_of(const uint8_t *pixels)
{
    return (kdas_view){ (void *)pixels, SIDE, SIDE, 0, KDAS_PIXEL_GREY8 };
}

static kdas_batch *draw(kdas_context *ctx, int t) { return kd_test_batch(ctx, N, SIDE, t); }

/* ---- Calls that change a batch ---- */

static uint8_t grey[AREA * 3];

static void set_image(kdas_batch *b)
{
    kdas_view frame = frame_of(grey);

    kd_assert_ok(kdas_batch_set(b, 1, &frame, NULL));
}

static void set_map(kdas_batch *b)
{
    kdas_view map = plane_of(grey);

    kd_assert_ok(kdas_batch_set_teacher(b, 0, &map));
}

static void set_weights(kdas_batch *b)
{
    kdas_view weights;

    memset(grey, 100, sizeof grey);
    weights = plane_of(grey);
    kd_assert_ok(kdas_batch_set_weights(b, 0, &weights));
}

static void take_label(kdas_batch *b) { kd_assert_ok(kdas_batch_set_labelled(b, 1, 0)); }
static void shrink(kdas_batch *b) { kd_assert_ok(kdas_batch_resize(b, 1)); }

static void (*const changers[])(kdas_batch *) = { set_image,  set_map, set_weights,
                                                  take_label, shrink,  kdas_batch_destroy };
enum { CHANGERS = sizeof changers / sizeof *changers, DESTROYS = CHANGERS - 1 };

static kd_test_rig rig_on(bool far)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;

    o.student = o.teacher = "lite_fpn0";
    if (far) o.device = "far";
    kd_test_rig_make(&rig, &o);
    return rig;
}

static void run_both(kd_test_rig *rig, kdas_batch *b)
{
    kd_assert_ok(kdas_model_forward(rig->teacher, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_model_forward(rig->student, KDAS_MODE_TRAIN, b));
}

START_TEST(a_models_backward_is_refused_after_any_call_that_changes_its_batch)
{
    kd_test_rig rig = rig_on(_i >= CHANGERS);
    kdas_batch *b   = draw(rig.ctx, 0);

    run_both(&rig, b);
    changers[_i % CHANGERS](b);
    kd_assert_status(kdas_model_backward(rig.student, NULL), KDAS_ESTATE);
    kd_assert_sentence("changed or destroyed");
    if (_i % CHANGERS == DESTROYS) b = draw(rig.ctx, 1);
    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, b));
    kd_assert_ok(kdas_model_backward(rig.student, NULL));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_distillers_backward_is_refused_after_any_call_that_changes_its_batch)
{
    kd_test_rig rig = rig_on(_i >= CHANGERS);
    kdas_batch *b   = draw(rig.ctx, 0);

    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    changers[_i % CHANGERS](b);
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_sentence("changed or destroyed");
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
    if (_i % CHANGERS == DESTROYS) b = draw(rig.ctx, 1);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* Also where the teacher alone has read what is there no more. */
START_TEST(an_objective_is_refused_after_any_call_that_changes_the_batch)
{
    kd_test_rig rig = rig_on(false);
    kdas_batch *b   = draw(rig.ctx, 0);

    run_both(&rig, b);
    changers[_i % CHANGERS](b);
    if (_i % CHANGERS == DESTROYS) b = draw(rig.ctx, 1);
    if (_i >= CHANGERS) kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, b));
    kd_assert_status(kdas_loss_run(rig.loss, rig.student, rig.teacher, b, NULL, NULL),
                     _i == CHANGERS + 4 ? KDAS_ESHAPE : KDAS_ESTATE);
    run_both(&rig, b);
    kd_assert_ok(kdas_loss_run(rig.loss, rig.student, rig.teacher, b, NULL, NULL));
    kd_assert_ok(kdas_model_backward(rig.student, NULL));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- A loader's batches ---- */

static kdas_loader *load_from(kdas_dataset **frames, kdas_context *ctx, int workers)
{
    kdas_scene_options  scenes;
    kdas_loader_options o;
    kdas_loader        *loader;

    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 40;
    scenes.width = scenes.height = 40;
    kdas_loader_options_init(&o, sizeof o);
    o.batch  = N;
    o.height = o.width = SIDE;
    o.workers          = workers;
    kd_assert_ok(kdas_dataset_synthetic(frames, ctx, &scenes));
    kd_assert_ok(kdas_loader_create(&loader, *frames, &o));
    return loader;
}

/* From the call on that gives the batch up, a worker may fill it at any time. */
START_TEST(a_backward_is_refused_once_the_loader_has_its_batch_back)
{
    kd_test_rig   rig = rig_on(_i & 1);
    kdas_dataset *frames;
    kdas_loader  *loader = load_from(&frames, rig.ctx, _i / 2 % 3);
    kdas_batch   *b, *next;

    kd_assert_ok(kdas_loader_next(loader, &b));
    for (int32_t i = 1; i < kdas_loader_kept(loader); i++) { /* it is still the host's */
        kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
        kd_assert_ok(kdas_loader_next(loader, &next));
        kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
        b = next;
    }
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    if (_i < 6)
        for (int32_t i = 0; i < kdas_loader_kept(loader); i++)
            kd_assert_ok(kdas_loader_next(loader, &next));
    else if (_i < 12)
        for (int32_t i = 0; i < kdas_loader_kept(loader); i++)
            kd_assert_ok(kdas_loader_seek(loader, 10 + 11 * i));
    else
        kdas_loader_destroy(loader);
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_sentence("changed or destroyed");
    if (_i < 12) kdas_loader_destroy(loader);
    kdas_dataset_destroy(frames);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Loops that change a batch when they may ---- */

/* Another batch is filled while the step runs; the step's own after its backward, before its update. */
START_TEST(batches_filled_in_turn_train_as_new_ones)
{
    kd_test_rig rig = rig_on(_i), twin = rig_on(_i);
    kdas_batch *turn[2] = { draw(rig.ctx, 0), draw(rig.ctx, 1) };
    uint8_t     pixels[AREA * 3];
    kdas_view   frame = frame_of(pixels);

    for (int t = 0; t < 4; t++) {
        kdas_batch      *b = turn[t % 2], *other = draw(twin.ctx, 0);
        kdas_step_report r = { .size = sizeof r }, want = { .size = sizeof want };

        for (size_t i = 0; i < sizeof pixels; i++)
            pixels[i] = (uint8_t)(t * 31 + (int)i * 7);
        for (int i = 0; i < N; i++) {
            kd_assert_ok(kdas_batch_set(b, i, &frame, NULL));
            kd_assert_ok(kdas_batch_set(other, i, &frame, NULL));
        }
        kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
        kd_assert_ok(kdas_batch_set(turn[1 - t % 2], 0, &frame, NULL));
        kd_assert_ok(kdas_distiller_backward(rig.distiller, &r));
        kd_assert_ok(kdas_batch_resize(b, 1));
        kd_assert_ok(kdas_distiller_update(rig.distiller, NULL));
        kd_assert_ok(kdas_batch_resize(b, N));
        kd_assert_ok(kdas_distiller_step(twin.distiller, other, &want));
        ck_assert(r.total == want.total);
        kdas_batch_destroy(other);
    }
    kd_test_assert_same_weights(rig.student, twin.student);
    kdas_batch_destroy(turn[0]);
    kdas_batch_destroy(turn[1]);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&twin);
}
END_TEST

START_TEST(a_loaders_loop_goes_on)
{
    kd_test_rig   rig = rig_on(_i & 1);
    kdas_dataset *frames;
    kdas_loader  *loader = load_from(&frames, rig.ctx, _i / 2);
    kdas_batch   *b;
    int           steps = 0;

    for (; steps < 12; steps++) {
        kd_assert_ok(kdas_loader_next(loader, &b));
        if (b) kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    }
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(frames);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Maps of the host's teacher ---- */

typedef struct host_maps {
    float       *value;
    const float *list[1];
    kdas_maps    maps;
} host_maps;

static void maps_make(host_maps *m, const char *name, int64_t side)
{
    m->value = malloc((size_t)(N * side * side) * sizeof *m->value);
    kd_test_fill(m->value, N * side * side, name, 3, 0);
    m->list[0] = m->value;
    m->maps    = (kdas_maps){ m->list, 1, N, side, side };
}

/* Those set before the backward are the next forward's; larger ones take no memory from under it, whether it can be had
 * or not (the odd cases). */
START_TEST(maps_set_before_the_backward_are_those_of_the_next_forward)
{
    kd_test_rig_options o     = kd_test_rig_usual();
    kd_test_meter       meter = { 0 };
    kd_test_rig         rig, twin;
    kdas_step_report    r = { .size = sizeof r }, want = { .size = sizeof want };
    host_maps           first, second;
    kdas_batch         *a, *b;

    o.student = "lite_fpn0";
    o.teacher = NULL;
    kd_test_rig_make(&twin, &o);
    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    a = draw(rig.ctx, 0);
    b = draw(twin.ctx, 0);
    maps_make(&first, "first", SIDE);
    maps_make(&second, "second", 4 * SIDE);
    for (int t = 0; t < 2; t++) {
        kd_assert_ok(kdas_distiller_set_teacher_maps(twin.distiller, &first.maps));
        kd_assert_ok(kdas_distiller_step(twin.distiller, b, &want));
        kd_assert_ok(kdas_distiller_set_teacher_maps(rig.distiller, &first.maps));
        kd_assert_ok(kdas_distiller_forward(rig.distiller, a));
        meter.fail_at = _i && t == 0 ? atomic_load(&meter.taken) + 1 : 0;
        kd_assert_status(kdas_distiller_set_teacher_maps(rig.distiller, &second.maps),
                         meter.fail_at ? KDAS_ENOMEM : KDAS_OK);
        meter.fail_at = 0;
        kd_assert_ok(kdas_distiller_backward(rig.distiller, &r));
        ck_assert(r.total == want.total);
        kd_assert_ok(kdas_distiller_update(rig.distiller, NULL));
    }
    kd_assert_ok(kdas_distiller_set_teacher_maps(twin.distiller, &second.maps));
    kd_assert_ok(kdas_distiller_step(twin.distiller, b, &want));
    kd_assert_ok(kdas_distiller_step(rig.distiller, a, &r));
    ck_assert(r.total == want.total);
    kd_assert_status(kdas_distiller_forward(rig.distiller, a), KDAS_ESTATE); /* used up */
    kd_test_assert_same_weights(rig.student, twin.student);
    free(first.value);
    free(second.value);
    kdas_batch_destroy(a);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&twin);
}
END_TEST

START_TEST(maps_that_could_not_be_set_leave_those_set_before)
{
    kd_test_rig_options o     = kd_test_rig_usual();
    kd_test_meter       meter = { 0 };
    kd_test_rig         rig;
    host_maps           first, second;
    kdas_batch         *a;

    o.student = "lite_fpn0";
    o.teacher = NULL;
    o.meter   = &meter;
    kd_test_rig_make(&rig, &o);
    a = draw(rig.ctx, 0);
    maps_make(&first, "first", SIDE);
    maps_make(&second, "second", 4 * SIDE);
    kd_assert_ok(kdas_distiller_set_teacher_maps(rig.distiller, &first.maps));
    meter.fail_at = atomic_load(&meter.taken) + 1;
    kd_assert_status(kdas_distiller_set_teacher_maps(rig.distiller, &second.maps), KDAS_ENOMEM);
    meter.fail_at  = 0;
    second.list[0] = NULL;
    kd_assert_status(kdas_distiller_set_teacher_maps(rig.distiller, &second.maps), KDAS_EINVAL);
    kd_assert_ok(kdas_distiller_step(rig.distiller, a, NULL));
    free(first.value);
    free(second.value);
    kdas_batch_destroy(a);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Names ---- */

START_TEST(the_name_of_an_output_outlives_its_forward)
{
    kd_test_rig rig = rig_on(false);
    kdas_batch *b   = draw(rig.ctx, 0);
    const char *name;

    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, b));
    name = kdas_model_output(rig.student, 0, NULL);
    ck_assert_str_eq(name, "P1");
    if (_i)
        kd_assert_ok(kdas_model_keep_tap(rig.student, "s8"));
    else
        kd_assert_ok(kdas_model_trim(rig.student, 0));
    ck_assert_str_eq(name, "P1");
    ck_assert_ptr_null(kdas_model_output(rig.student, 0, NULL));
    kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_TRAIN, b));
    ck_assert_ptr_eq(kdas_model_output(rig.student, 0, NULL), name);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("borrowed");
    TCase   *t     = tcase_create("borrowed");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_models_backward_is_refused_after_any_call_that_changes_its_batch, 0,
                        2 * CHANGERS);
    tcase_add_loop_test(t, a_distillers_backward_is_refused_after_any_call_that_changes_its_batch,
                        0, 2 * CHANGERS);
    tcase_add_loop_test(t, an_objective_is_refused_after_any_call_that_changes_the_batch, 0,
                        2 * CHANGERS);
    tcase_add_loop_test(t, a_backward_is_refused_once_the_loader_has_its_batch_back, 0, 18);
    tcase_add_loop_test(t, batches_filled_in_turn_train_as_new_ones, 0, 2);
    tcase_add_loop_test(t, a_loaders_loop_goes_on, 0, 6);
    tcase_add_loop_test(t, maps_set_before_the_backward_are_those_of_the_next_forward, 0, 2);
    tcase_add_test(t, maps_that_could_not_be_set_leave_those_set_before);
    tcase_add_loop_test(t, the_name_of_an_output_outlives_its_forward, 0, 2);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
