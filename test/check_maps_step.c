/* check_maps_step.c - the step with a teacher's maps and weights in the batch, and frames without masks: near, on a
 * device with memory of its own, and in whole runs. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/thin.h"

enum { SIDE = 32, AREA = SIDE * SIDE, N = 2, ALL = N * AREA };

static kdas_batch *draw(kdas_context *ctx, const char *name)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, N, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), ALL * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), N, SIDE, SIDE, name);
    return b;
}

/* Give all places maps, or one of them. */
static void add_maps(kdas_batch *b, const char *name, int64_t places)
{
    float     p[ALL];
    kdas_view view = { p, SIDE, SIDE, 0, KDAS_PIXEL_GREYF32 };

    kd_test_fill(p, ALL, name, 0.49, 0.5);
    for (int64_t i = 0; i < places; i++) {
        view.data = p + i * AREA;
        kd_assert_ok(kdas_batch_set_teacher(b, i, &view));
    }
}

static kdas_step_report step(kd_test_rig *rig, kdas_batch *b)
{
    kdas_step_report r = { .size = sizeof r };

    kd_assert_ok(kdas_distiller_step(rig->distiller, b, &r));
    return r;
}

static kd_test_rig_options without_teacher(void)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.teacher = NULL;
    return o;
}

/* ---- Maps in the batch ---- */

START_TEST(maps_of_the_batch_are_a_hosts_maps_for_every_output)
{
    kd_test_rig_options o = without_teacher();
    kd_test_rig         batch, host;

    kd_test_rig_make(&batch, &o);
    kd_test_rig_make(&host, &o);
    for (int t = 0; t < 2; t++) {
        kdas_batch  *a = draw(batch.ctx, "b"), *b = draw(host.ctx, "b");
        const float *map[2];
        kdas_maps    maps = { map, 2, N, SIDE, SIDE };

        add_maps(a, "maps", N);
        map[0] = map[1] = kdas_batch_teacher(a);
        kd_assert_ok(kdas_distiller_set_teacher_maps(host.distiller, &maps));
        ck_assert(step(&batch, a).total == step(&host, b).total);
        kdas_batch_destroy(a);
        kdas_batch_destroy(b);
    }
    kd_test_assert_same_weights(batch.student, host.student);
    kd_test_rig_finish(&batch);
    kd_test_rig_finish(&host);
}
END_TEST

START_TEST(a_model_or_a_hosts_maps_come_before_those_of_the_batch)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         plain, with;
    kdas_batch         *a, *b;

    if (_i) o.teacher = NULL;
    kd_test_rig_make(&plain, &o);
    kd_test_rig_make(&with, &o);
    a = draw(plain.ctx, "b");
    b = draw(with.ctx, "b");
    add_maps(b, "maps", N);
    if (_i) {
        static float v[2][ALL];
        const float *map[2] = { v[0], v[1] };
        kdas_maps    maps   = { map, 2, N, SIDE, SIDE };

        kd_test_fill(v[0], 2 * ALL, "host", 3, 0);
        kd_assert_ok(kdas_distiller_set_teacher_maps(plain.distiller, &maps));
        kd_assert_ok(kdas_distiller_set_teacher_maps(with.distiller, &maps));
    }
    ck_assert(step(&plain, a).total == step(&with, b).total);
    kdas_batch_destroy(a);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&plain);
    kd_test_rig_finish(&with);
}
END_TEST

START_TEST(a_batch_with_some_maps_is_refused)
{
    kd_test_rig_options o = without_teacher();
    kd_test_rig         rig;
    kdas_batch         *b;

    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, "b");
    kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_ESTATE);
    kd_assert_sentence("guidance \"attention+sgm\" needs a teacher: give a model");
    add_maps(b, "maps", 1);
    kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_ESTATE);
    kd_assert_sentence("map for 1 of its 2 images");
    add_maps(b, "maps", N);
    step(&rig, b);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Frames without masks, a model as the teacher ---- */

/* What frame 1 learns from, by hand: the mean of the two maps' logits. */
static void label_by_hand(kd_test_rig *rig, kdas_batch *b)
{
    static float p1[ALL], p2[ALL];
    float        ones[AREA];
    kdas_view    view = { ones, SIDE, SIDE, 0, KDAS_PIXEL_GREYF32 };

    kd_assert_ok(kdas_model_forward(rig->teacher, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_model_read_output(rig->teacher, "P1", p1));
    kd_assert_ok(kdas_model_read_output(rig->teacher, "P2", p2));
    for (int i = 0; i < AREA; i++)
        ones[i] = 1;
    kd_assert_ok(kdas_batch_set_weights(b, 1, &view));
    for (int i = AREA; i < ALL; i++) {
        float z = 0.5f * p1[i] + 0.5f * p2[i];

        kdas_batch_masks(b)[i]   = z >= 0;
        kdas_batch_weights(b)[i] = fmaxf(fabsf(tanhf(z / 2)), 0x1p-10f);
    }
}

static const char *const presets[] = { "paper", "baseline", "published_code" };

/* Also where the objective itself needs no teacher. */
START_TEST(a_frame_without_a_mask_learns_from_the_teachers_output)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         itself, by_hand;
    kdas_step_report    got, want;
    kdas_batch         *a, *b;

    kd_assert_ok(kdas_loss_options_preset(&o.loss, presets[_i]));
    kd_test_rig_make(&itself, &o);
    kd_test_rig_make(&by_hand, &o);
    a = draw(itself.ctx, "b");
    b = draw(by_hand.ctx, "b");
    label_by_hand(&by_hand, b);
    kd_assert_ok(kdas_batch_set_labelled(a, 1, 0));
    memset(kdas_batch_masks(a) + AREA, 0, AREA * sizeof(float));
    for (int t = 0; t < 2; t++) {
        got  = step(&itself, a);
        want = step(&by_hand, b);
        ck_assert_double_eq_tol(got.total, want.total, 1e-6 * want.total);
        ck_assert_double_eq_tol(got.gradient[0], want.gradient[0], 1e-4 * want.gradient[0]);
    }
    ck_assert_int_eq(kdas_batch_labelled(a, 1), 0);
    for (int i = AREA; i < ALL; i++) /* the host's batch is left alone */
        ck_assert(kdas_batch_masks(a)[i] == 0);
    kdas_batch_destroy(a);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&itself);
    kd_test_rig_finish(&by_hand);
}
END_TEST

START_TEST(a_frame_without_a_mask_needs_a_teacher)
{
    kd_test_rig_options o = without_teacher();
    kd_test_rig         rig;
    kdas_batch         *b;

    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, "b");
    kd_assert_ok(kdas_batch_set_labelled(b, 0, 0));
    kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_ESTATE);
    kd_assert_sentence("a frame without a mask needs a teacher");
    add_maps(b, "maps", 1);
    step(&rig, b); /* what it needs of the map is in mask and weights */
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Far away, and memory ---- */

static void prepare(kdas_batch *b, int kind)
{
    if (kind != 1) add_maps(b, "maps", N);
    if (kind >= 1) kd_assert_ok(kdas_batch_set_labelled(b, 1, 0));
}

/* Maps; a model and a frame without a mask; maps and such a frame. Uploaded ahead and not. */
START_TEST(a_far_device_gives_the_bits_of_the_cpu)
{
    int                 kind = _i / 2;
    kd_test_rig_options o    = kind == 1 ? kd_test_rig_usual() : without_teacher();
    kd_test_rig         near, far;

    kd_test_rig_make(&near, &o);
    o.device = "far";
    kd_test_rig_make(&far, &o);
    for (int t = 0; t < 4; t++) {
        kdas_batch *a = draw(near.ctx, t % 2 ? "odd" : "even"),
                   *b = draw(far.ctx, t % 2 ? "odd" : "even");

        prepare(a, kind);
        prepare(b, kind);
        if (_i % 2) kd_assert_ok(kdas_batch_prefetch(b));
        ck_assert(step(&near, a).total == step(&far, b).total);
        kdas_batch_destroy(a);
        kdas_batch_destroy(b);
    }
    kd_test_assert_same_weights(near.student, far.student);
    kd_test_rig_finish(&near);
    kd_test_rig_finish(&far);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(a_second_step_allocates_nothing)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;
    long                taken;

    o.meter = &meter;
    if (_i != 1) o.teacher = NULL;
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, "b");
    prepare(b, _i);
    step(&rig, b);
    taken = meter.taken;
    step(&rig, b);
    ck_assert_int_eq(meter.taken, taken);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

START_TEST(a_failing_allocation_leaves_the_step_to_be_tried_again)
{
    for (long k = 1, done = 0; !done; k += 1 + k / 8) {
        kd_test_meter       meter = { 0 };
        kd_test_rig_options o     = kd_test_rig_usual();
        kd_test_rig         rig;
        kdas_batch         *b;
        kdas_status         st;

        o.meter = &meter;
        kd_test_rig_make(&rig, &o);
        b = draw(rig.ctx, "b");
        prepare(b, 1);
        meter.fail_at = meter.taken + k;
        st            = kdas_distiller_step(rig.distiller, b, NULL);
        done          = st == KDAS_OK;
        ck_assert(done || st == KDAS_ENOMEM);
        meter.fail_at = 0;
        step(&rig, b);
        kdas_batch_destroy(b);
        kd_test_rig_finish(&rig);
        kd_test_assert_given_back(&meter);
    }
}
END_TEST

/* ---- Weighted terms ---- */

static double boundary(const float *y, int at)
{
    double sum = 0;

    for (int v = KD_MAX(at / SIDE - 15, 0); v <= KD_MIN(at / SIDE + 15, SIDE - 1); v++)
        for (int u = KD_MAX(at % SIDE - 15, 0); u <= KD_MIN(at % SIDE + 15, SIDE - 1); u++)
            sum += (double)y[v * SIDE + u];
    return 1 + 5 * fabs(sum / 961 - (double)y[at]);
}

/* The terms as docs/data.md says, of one image: `seg` is 0 bce_dice, 1 bce_jaccard, 2 structure, 3 its published form. */
static double term(int seg, const double *p, const float *y, const float *w)
{
    double bce = 0, sum = 0, both = 0, all = 0;

    for (int i = 0; i < AREA; i++) {
        double edge = seg >= 2 ? boundary(y, i) : 1, s = 1 / (1 + exp(-p[i])), v = (double)w[i];
        double of_bce = seg == 3 ? v : v * edge;

        bce += of_bce * (fmax(p[i], 0) - p[i] * (double)y[i] + log1p(exp(-fabs(p[i]))));
        sum += of_bce;
        both += v * edge * s * (double)y[i];
        all += v * edge * (s + (double)y[i]);
    }
    return bce / sum + 1 - (seg == 0 ? (2 * both + 1) / (all + 1) : (both + 1) / (all - both + 1));
}

static const char *const segs[] = { "bce_dice", "bce_jaccard", "structure", "structure_published" };

START_TEST(weights_multiply_the_pixels_of_the_term)
{
    kdas_context     *ctx = kd_test_device(_i / 4 ? "far" : "cpu", NULL);
    kdas_loss_options o;
    kdas_loss        *loss;
    kdas_loss_report  r = { .size = sizeof r };
    float             s[AREA], y[AREA], w[AREA], gradient[AREA];
    double            p[AREA];
    const float      *map[1]  = { s };
    float            *to[1]   = { gradient };
    kdas_maps         student = { map, 1, 1, SIDE, SIDE };

    kdas_loss_options_init(&o, sizeof o);
    o.seg      = segs[_i % 4];
    o.guidance = "none";
    kd_assert_ok(kdas_loss_create(&loss, ctx, &o));
    kd_test_fill(s, AREA, "student", 3, 0);
    kd_test_fill(w, AREA, "weights", 0.5, 0.5);
    kd_test_ellipses(y, 1, SIDE, SIDE, "mask");
    for (int i = 0; i < AREA; i++)
        p[i] = (double)s[i];
    kd_assert_ok(kdas_loss_evaluate_weighted(loss, &student, NULL, y, w, to, &r));
    ck_assert_double_eq_tol(r.raw[KDAS_TERM_SEG], term(_i % 4, p, y, w), 1e-5);
    for (int i = 5; i < AREA; i += 41) {
        double middle = p[i], slope;

        p[i]  = middle + 1e-4;
        slope = term(_i % 4, p, y, w);
        p[i]  = middle - 1e-4;
        slope = (slope - term(_i % 4, p, y, w)) / 2e-4;
        p[i]  = middle;
        ck_assert_double_eq_tol(gradient[i], slope, 1e-7 + 1e-3 * fabs(slope));
    }
    kd_assert_ok(kdas_loss_evaluate(loss, &student, NULL, y, to, &r));
    for (int i = 0; i < AREA; i++)
        w[i] = 1;
    ck_assert_double_eq_tol(r.raw[KDAS_TERM_SEG], term(_i % 4, p, y, w), 1e-5);
    kdas_loss_destroy(loss);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- Whole runs ---- */

static void write_frames(kdas_context *ctx)
{
    kdas_scene_options o;

    kdas_scene_options_init(&o, sizeof o);
    o.width = o.height = 32;
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = { "s0.png", "s1.png", "s2.png", "s3.png" };
        kdas_image              *image, *mask;
        kdas_view                view;

        kd_assert_ok(kdas_scene_draw(&image, &mask, ctx, i, &o));
        view = kdas_image_view(image);
        kd_assert_ok(kdas_image_save(ctx, kd_test_path(names[i]), &view));
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
}

START_TEST(a_run_without_anything_to_learn_from_is_refused_at_once)
{
    kd_test_rig_options  o = without_teacher();
    kd_test_rig          rig;
    kdas_dataset_options d;
    kdas_loader_options  l;
    kdas_scene_options   scenes;
    kdas_dataset        *frames, *validation;
    kdas_loader         *loader;
    kdas_evaluator      *evaluator;

    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    kd_test_rig_make(&rig, &o);
    kd_test_folder_make();
    write_frames(rig.ctx);
    kdas_dataset_options_init(&d, sizeof d);
    d.unlabelled = 1;
    kd_assert_ok(kdas_dataset_open(&frames, rig.ctx, kd_test_path(NULL), &d));
    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 2;
    scenes.width = scenes.height = 32;
    kd_assert_ok(kdas_dataset_synthetic(&validation, rig.ctx, &scenes));
    kdas_loader_options_init(&l, sizeof l);
    l.height = l.width = 32;
    kd_assert_ok(kdas_loader_create(&loader, frames, &l));
    kd_assert_status(kdas_train(rig.distiller, loader, validation, NULL), KDAS_EINVAL);
    kd_assert_sentence("frames without masks");
    kdas_loader_destroy(loader);
    kd_assert_ok(kdas_loader_create(&loader, validation, &l));
    kd_assert_status(kdas_train(rig.distiller, loader, frames, NULL), KDAS_EINVAL);
    kd_assert_sentence("4 frames of the validation set have no mask");
    kd_assert_ok(kdas_evaluator_create(&evaluator, rig.ctx));
    kd_assert_status(kdas_evaluate(evaluator, rig.student, frames, 32, 32, 0), KDAS_EINVAL);
    kd_assert_sentence("frame 's0': it has no mask");
    kdas_evaluator_destroy(evaluator);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(validation);
    kdas_dataset_destroy(frames);
    kd_test_folder_remove();
    kd_test_rig_finish(&rig);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("maps_step");
    TCase   *tc    = tcase_create("maps_step");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, maps_of_the_batch_are_a_hosts_maps_for_every_output);
    tcase_add_loop_test(tc, a_model_or_a_hosts_maps_come_before_those_of_the_batch, 0, 2);
    tcase_add_test(tc, a_batch_with_some_maps_is_refused);
    tcase_add_loop_test(tc, a_frame_without_a_mask_learns_from_the_teachers_output, 0, 3);
    tcase_add_test(tc, a_frame_without_a_mask_needs_a_teacher);
    tcase_add_loop_test(tc, a_far_device_gives_the_bits_of_the_cpu, 0, 6);
    tcase_add_loop_test(tc, a_second_step_allocates_nothing, 0, 3);
    tcase_add_test(tc, a_failing_allocation_leaves_the_step_to_be_tried_again);
    tcase_add_loop_test(tc, weights_multiply_the_pixels_of_the_term, 0, 8);
    tcase_add_test(tc, a_run_without_anything_to_learn_from_is_refused_at_once);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
