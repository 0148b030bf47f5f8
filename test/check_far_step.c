/* check_far_step.c - the distillation step on a device with memory of its own: the bits of the CPU, what is read
 * back and when, batches uploaded ahead, memory, faults. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/thin.h"
#include "support/train_util.h"
#include "graph/settings.h"

enum { SIDE = 32, AREA = SIDE * SIDE };

static kdas_batch *draw(kdas_context *ctx, int t) { return kd_test_batch(ctx, 2, SIDE, t); }

static kd_test_rig_options far_options(void)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.device = "far";
    return o;
}

static kdas_step_report step(kd_test_rig *rig, kdas_batch *b)
{
    kdas_step_report r = { .size = sizeof r };

    kd_assert_ok(kdas_distiller_step(rig->distiller, b, &r));
    return r;
}

/* ---- the bits of the CPU ---- */

START_TEST(steps_give_the_bits_of_the_cpu_captured_or_not)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         near, far;

    o.distiller.gradient_norms = _i & 1;
    o.distiller.accumulate     = 1 + (_i >> 1);
    kd_test_rig_make(&near, &o);
    o.device = "far";
    kd_test_rig_make(&far, &o);
    kd_graph_settings_change(far.ctx)->uncaptured = _i == 1;
    for (int t = 0; t < 5; t++) {
        kdas_batch      *a = draw(near.ctx, t), *b = draw(far.ctx, t);
        kdas_step_report want = step(&near, a), got = step(&far, b);

        ck_assert(got.total == want.total);
        ck_assert_int_eq(got.updated, want.updated);
        for (int k = 0; k < KDAS_TERMS; k++) {
            ck_assert(got.raw[k] == want.raw[k] && got.weighted[k] == want.weighted[k]);
            ck_assert(got.gradient[k] == want.gradient[k]);
        }
        kdas_batch_destroy(a);
        kdas_batch_destroy(b);
    }
    ck_assert(_i == 1 ? kd_far.launches == 0 : kd_far.launches > 6);
    kd_test_assert_same_weights(near.student, far.student);
    kd_test_rig_finish(&near);
    kd_test_rig_finish(&far);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(reference_kernels_far_away_give_the_bits_of_the_reference)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         near, far;

    o.teacher = NULL;
    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    o.device = "reference";
    kd_test_rig_make(&near, &o);
    o.device         = "far";
    kd_far.reference = true;
    kd_test_rig_make(&far, &o);
    for (int t = 0; t < 3; t++) {
        double want = kd_test_rig_step(&near, t);

        ck_assert(kd_test_rig_step(&far, t) == want);
    }
    kd_test_assert_same_weights(near.student, far.student);
    kd_test_rig_finish(&near);
    kd_test_rig_finish(&far);
}
END_TEST

START_TEST(a_gradient_added_at_a_tap_leaves_the_images_alone)
{
    static const char *const devices[] = { "cpu", "far" };
    static float             nothing[32 * 3 * 49], gradient[2][32 * 3 * 49];
    float                    zeros[2 * AREA] = { 0 };
    const float             *outputs[]       = { zeros, zeros };

    for (int i = 0; i < 2; i++) {
        kdas_context      *ctx = kd_test_device(devices[i], NULL);
        kdas_batch        *b   = draw(ctx, 0);
        kdas_model        *m;
        kdas_model_options o;
        int64_t            dims[4];
        const char        *tap;
        int32_t            at;

        kdas_model_options_init(&o, sizeof o);
        kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", &o));
        tap = kdas_model_tap(m, 0);
        kd_assert_ok(kdas_model_keep_tap(m, tap));
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
        kd_assert_ok(kdas_model_tap_dims(m, tap, dims));
        ck_assert_int_le(dims[0] * dims[1] * dims[2] * dims[3], 2 * AREA * 8);
        {
            size_t n    = (size_t)(dims[0] * dims[1] * dims[2] * dims[3]);
            float *more = malloc(n * sizeof *more);

            kd_test_fill(more, (int64_t)n, "tap", 1, 0);
            kd_assert_ok(kdas_model_add_gradient(m, tap, more));
            free(more);
        }
        kd_assert_ok(kdas_model_backward(m, outputs));
        at = kdas_model_find(m, "backbone.patch_embed1.proj.weight"); /* made with the images */
        ck_assert_int_ge(at, 0);
        kd_assert_ok(kdas_model_read_gradient(m, at, gradient[i]));
        ck_assert_double_gt(kd_test_worst(gradient[i], nothing, 32 * 3 * 49, 1e-9, NULL), 0);
        kdas_model_destroy(m);
        kdas_batch_destroy(b);
        kdas_context_destroy(ctx);
    }
    ck_assert(kd_test_same_bits(gradient[0], gradient[1], sizeof gradient[0]));
}
END_TEST

/* ---- reading back ---- */

START_TEST(a_step_reads_back_only_what_is_asked_for)
{
    kd_test_rig_options o = far_options();
    kd_test_rig         rig;
    kdas_batch         *b;

    o.distiller.accumulate     = 2;
    o.distiller.gradient_norms = _i;
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 0);
    for (int t = 0; t < 2; t++) /* the teacher's norms are folded once, through the host */
        step(&rig, b);
    for (int t = 0; t < 3; t++) {
        kd_far.downloads = kd_far.syncs = 0;
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
        ck_assert_int_eq(kd_far.downloads, 0);
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
        ck_assert_int_eq(kd_far.downloads, 1); /* of the update: are the gradients finite? */
        kd_far.downloads = 0;
        step(&rig, b);
        ck_assert_int_eq(kd_far.downloads, 1);
        step(&rig, b);
        ck_assert_int_eq(kd_far.downloads, 3);
        ck_assert_int_eq(kd_far.syncs, 0);
    }
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_report_changes_no_bit)
{
    kd_test_rig_options o = far_options();
    kd_test_rig         with, without;
    kdas_batch         *a, *b;

    kd_test_rig_make(&with, &o);
    kd_test_rig_make(&without, &o);
    for (int t = 0; t < 3; t++) {
        a = draw(with.ctx, t);
        b = draw(without.ctx, t);
        step(&with, a);
        kd_assert_ok(kdas_distiller_step(without.distiller, b, NULL));
        kdas_batch_destroy(a);
        kdas_batch_destroy(b);
    }
    kd_test_assert_same_weights(with.student, without.student);
    kd_test_rig_finish(&with);
    kd_test_rig_finish(&without);
}
END_TEST

START_TEST(an_objective_on_host_maps_gives_the_bits_of_the_cpu)
{
    static const char *const devices[] = { "cpu", "far" };
    float                    maps[4][2 * AREA], masks[2 * AREA], gradient[2][2][2 * AREA];
    kdas_loss_report         r[2] = { { .size = sizeof *r }, { .size = sizeof *r } };

    for (int i = 0; i < 4; i++)
        kd_test_fill(maps[i], 2 * AREA, i % 2 ? "odd" : "even", 2, 0.1 * i);
    kd_test_ellipses(masks, 2, SIDE, SIDE, "masks");
    for (int i = 0; i < 2; i++) {
        const float  *s[] = { maps[0], maps[1] }, *t[] = { maps[2], maps[3] };
        float        *to[]    = { gradient[i][0], gradient[i][1] };
        kdas_maps     student = { s, 2, 2, SIDE, SIDE }, teacher = { t, 2, 2, SIDE, SIDE };
        kdas_context *ctx = kd_test_device(devices[i], NULL);
        kdas_loss    *loss;

        kd_assert_ok(kdas_loss_create(&loss, ctx, NULL));
        kd_assert_ok(kdas_loss_evaluate(loss, &student, &teacher, masks, to, &r[i]));
        kd_far.downloads = 0;
        kd_assert_ok(kdas_loss_evaluate(loss, &student, &teacher, masks, to, NULL));
        ck_assert_int_eq(kd_far.downloads, 2 * i); /* the gradients of two maps */
        kdas_loss_destroy(loss);
        kdas_context_destroy(ctx);
    }
    ck_assert(kd_test_same_bits(&r[0], &r[1], sizeof r[0]));
    ck_assert(kd_test_same_bits(gradient[0], gradient[1], sizeof gradient[0]));
}
END_TEST

/* ---- uploads ahead ---- */

/* Steps as a training loop makes them, each batch fetched and prefetched before the step on the one before. */
static void steps_ahead(kd_test_rig *rig, int steps, double *total)
{
    kdas_batch *now = draw(rig->ctx, 0), *next;

    for (int t = 0; t < steps; t++) {
        next = draw(rig->ctx, t + 1);
        kd_assert_ok(kdas_batch_prefetch(next));
        total[t] = step(rig, now).total;
        memset(kdas_batch_images(now), 0, 64); /* it is the host's again */
        kdas_batch_destroy(now);
        now = next;
    }
    kd_assert_ok(kdas_batch_prefetch(now)); /* which no step comes for */
    kdas_distiller_destroy(rig->distiller);
    rig->distiller = NULL;
    kdas_batch_destroy(now);
}

START_TEST(batches_uploaded_ahead_give_the_same_bits_and_are_uploaded_once)
{
    enum { STEPS = 6 };
    kd_test_rig_options o = far_options();
    kd_test_rig         plain, ahead;
    double              total[STEPS];
    long                uploads[2];

    kd_far.late = _i;
    kd_test_rig_make(&plain, &o);
    uploads[0] = kd_far.uploads;
    for (int t = 0; t < STEPS; t++)
        total[t] = kd_test_rig_step(&plain, t);
    uploads[0] = kd_far.uploads - uploads[0];
    ck_assert_int_eq(kd_far.asyncs, 0);
    kd_test_rig_make(&ahead, &o);
    uploads[1] = kd_far.uploads;
    {
        double got[STEPS];

        steps_ahead(&ahead, STEPS, got);
        for (int t = 0; t < STEPS; t++)
            ck_assert(got[t] == total[t]);
    }
    uploads[1] = kd_far.uploads - uploads[1];
    ck_assert_int_eq(uploads[0] - uploads[1], 2 * (STEPS - 1)); /* images, masks */
    ck_assert_int_eq(kd_far.asyncs, 2 * (STEPS + 1));
    ck_assert_int_eq(kd_far.waits, STEPS + 1); /* the last by the batch's end */
    ck_assert_int_gt(kd_far.launches, 0);
    kd_test_assert_same_weights(plain.student, ahead.student);
    kd_test_rig_finish(&plain);
    kd_test_rig_finish(&ahead);
    kd_test_far_assert_empty();
}
END_TEST

/* When the step of a batch begins, its own upload has arrived; that of the next is not waited for. */
START_TEST(a_step_waits_for_its_own_batch_alone)
{
    kd_test_rig_options o = far_options();
    kd_test_rig         rig;
    kdas_batch         *b[3];
    long                waits;

    kd_test_rig_make(&rig, &o);
    for (int i = 0; i < 3; i++)
        b[i] = draw(rig.ctx, i);
    kd_assert_ok(kdas_batch_prefetch(b[1]));
    waits = kd_far.waits;
    step(&rig, b[0]);
    ck_assert_int_eq(kd_far.waits, waits);
    kd_assert_ok(kdas_batch_prefetch(b[2]));
    ck_assert_int_eq(kd_far.waits, waits + 1);
    step(&rig, b[1]);
    ck_assert_int_eq(kd_far.waits, waits + 1);
    step(&rig, b[2]);
    ck_assert_int_eq(kd_far.waits, waits + 2);
    for (int i = 0; i < 3; i++)
        kdas_batch_destroy(b[i]);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_prefetch_between_forward_and_backward_disturbs_neither)
{
    kd_test_rig_options o = far_options();
    kd_test_rig         plain, ahead;
    kdas_batch         *b[3];

    kd_far.late = _i; /* what is uploaded to holds NaN until it arrives */
    kd_test_rig_make(&plain, &o);
    kd_test_rig_make(&ahead, &o);
    for (int i = 0; i < 3; i++)
        b[i] = draw(ahead.ctx, i);
    kd_assert_ok(kdas_batch_prefetch(b[0]));
    for (int i = 0; i < 3; i++) {
        kd_test_rig_step(&plain, i);
        kd_assert_ok(kdas_distiller_forward(ahead.distiller, b[i]));
        for (int k = i + 1; k < 3; k++) /* two, which have but one place */
            kd_assert_ok(kdas_batch_prefetch(b[k]));
        kd_assert_ok(kdas_distiller_backward(ahead.distiller, NULL));
        kd_assert_ok(kdas_distiller_update(ahead.distiller, NULL));
    }
    kd_test_assert_same_weights(plain.student, ahead.student);
    for (int i = 0; i < 3; i++)
        kdas_batch_destroy(b[i]);
    kd_test_rig_finish(&plain);
    kd_test_rig_finish(&ahead);
}
END_TEST

START_TEST(a_batch_that_has_changed_is_uploaded_again)
{
    static uint8_t      grey[AREA];
    const kdas_view     view = { grey, SIDE, SIDE, 0, KDAS_PIXEL_GREY8 };
    kd_test_rig_options o    = far_options();
    kd_test_rig         plain, ahead;
    kdas_batch         *a, *b, *c;

    kd_far.late = true; /* the bytes are taken when they arrive, so they may change until then */
    o.teacher   = NULL;
    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    kd_test_rig_make(&plain, &o);
    kd_test_rig_make(&ahead, &o);
    a = draw(plain.ctx, 0);
    b = draw(ahead.ctx, 0);
    c = draw(ahead.ctx, 1);
    for (int i = 0; i < 4; i++) {
        kd_assert_ok(kdas_batch_prefetch(b));
        switch (i) {
        case 0:
            kd_assert_ok(kdas_batch_set(a, 1, &view, NULL));
            kd_assert_ok(kdas_batch_set(b, 1, &view, NULL));
            break;
        case 1:
            kd_assert_ok(kdas_batch_resize(a, 1));
            kd_assert_ok(kdas_batch_resize(b, 1));
            break;
        case 2: /* by hand: prefetched again */
            kdas_batch_images(a)[5] = kdas_batch_images(b)[5] = 3;
            kd_assert_ok(kdas_batch_prefetch(b));
            break;
        case 3: /* another batch in the place of one that has arrived, but waits */
            kd_assert_ok(kdas_batch_prefetch(c));
            kdas_batch_destroy(a);
            kdas_batch_destroy(b);
            a = draw(plain.ctx, 7);
            b = draw(ahead.ctx, 7);
            break;
        }
        ck_assert(step(&plain, a).total == step(&ahead, b).total);
    }
    kd_test_assert_same_weights(plain.student, ahead.student);
    kdas_batch_destroy(a);
    kdas_batch_destroy(b);
    kdas_batch_destroy(c);
    kd_test_rig_finish(&plain);
    kd_test_rig_finish(&ahead);
}
END_TEST

START_TEST(where_nothing_is_uploaded_ahead_a_prefetch_does_nothing)
{
    static const char *const devices[] = { "cpu", "far" };
    kd_test_rig_options      o         = kd_test_alone();
    kd_test_rig              rig;
    kdas_batch              *b;

    kd_far.no_ahead = true;
    o.device        = devices[_i];
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 0);
    ck_assert_int_eq(atomic_load(&kd_far.host_blocks), 0);
    kd_assert_ok(kdas_batch_prefetch(b));
    ck_assert_int_eq(kd_far.asyncs, 0);
    step(&rig, b);
    kd_assert_status(kdas_batch_prefetch(NULL), KDAS_EINVAL);
    kd_assert_sentence("prefetch");
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(batches_are_in_memory_that_uploads_are_fast_from)
{
    kdas_context *ctx = kd_test_device("far", NULL);
    kdas_batch   *b   = draw(ctx, 0);

    ck_assert_int_eq(atomic_load(&kd_far.host_blocks), 2);
    kdas_batch_destroy(b);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
}
END_TEST

/* ---- memory ---- */

START_TEST(from_the_third_step_of_a_size_on_nothing_is_allocated)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = far_options();
    kd_test_rig         rig;
    kdas_batch         *b[2];
    long                host, device, made;

    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    for (int i = 0; i < 2; i++)
        b[i] = draw(rig.ctx, i);
    for (int t = 0; t < 10; t++) {
        if (t == 5) { /* each of the two places of batches had its two */
            host   = atomic_load(&meter.taken);
            device = kd_far.allocs;
            made   = kd_far.captures;
        }
        kd_assert_ok(kdas_batch_prefetch(b[(t + 1) % 2]));
        step(&rig, b[t % 2]);
    }
    ck_assert_int_eq(atomic_load(&meter.taken), host);
    ck_assert_int_eq(kd_far.allocs, device);
    ck_assert_int_eq(kd_far.captures, made);
    for (int i = 0; i < 2; i++)
        kdas_batch_destroy(b[i]);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
    kd_test_far_assert_empty();
}
END_TEST

/* The k-th allocation fails, on the device or the host, somewhere in a prefetch and two steps. */
START_TEST(a_failing_allocation_leaves_a_step_to_be_tried_again)
{
    bool done = false;

    for (long k = 1; !done; k += _i ? 1 + k / 3 : 1) {
        kd_test_meter       meter = { 0 };
        kd_test_rig_options o     = kd_test_alone();
        kd_test_rig         rig;
        kdas_batch         *b;
        kdas_status         st = KDAS_OK;

        o.meter  = &meter;
        o.device = "far";
        kd_test_rig_make(&rig, &o);
        b             = draw(rig.ctx, 0);
        kd_far.allocs = 0;
        if (_i)
            meter.fail_at = atomic_load(&meter.taken) + k;
        else
            kd_far.fail_alloc = k;
        st = kdas_batch_prefetch(b);
        for (int t = 0; t < 2 && st == KDAS_OK; t++)
            st = kdas_distiller_step(rig.distiller, b, NULL);
        done = st == KDAS_OK;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %s", k, kdas_last_error());
        if (!done && !_i) kd_assert_sentence("out of device memory");
        kd_far.fail_alloc = meter.fail_at = 0;
        step(&rig, b);
        kdas_batch_destroy(b);
        kd_test_rig_finish(&rig);
        kd_test_assert_given_back(&meter);
        kd_test_far_assert_empty();
        ck_assert(!done || k > 5);
    }
}
END_TEST

/* ---- faults ---- */

START_TEST(a_device_lost_mid_step_is_a_status_and_the_cpu_goes_on)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_rig         near, far;
    kdas_batch         *b;
    long                kernels = 0; /* of the last whole step */

    kd_test_rig_make(&near, &o);
    o.device = "far";
    kd_test_rig_make(&far, &o);
    b = draw(far.ctx, 0);
    for (int t = 0; t < 6; t++) { /* from the first kernel to the last */
        kd_far.fail_kernel = kd_far.kernels + 1 + (kernels - 1) * t / 5;
        kd_assert_status(kdas_distiller_step(far.distiller, b, NULL), KDAS_EBACKEND);
        kd_assert_sentence("the device is lost");
        kd_test_rig_step(&near, t);
        kd_far.fail_kernel = 0;
        kernels            = kd_far.kernels;
        step(&far, b); /* it has come back */
        kernels = kd_far.kernels - kernels;
    }
    kdas_batch_destroy(b);
    kd_test_rig_finish(&near);
    kd_test_rig_finish(&far);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(what_is_not_finite_stops_the_step_before_the_weights)
{
    kd_test_rig_options o = far_options();
    kd_test_rig         rig;
    kdas_batch         *b;
    kdas_step_report    r = { .size = sizeof r };
    float               before[16 * 16], after[16 * 16];
    int32_t             q;

    kd_test_rig_make(&rig, &o);
    q = kdas_model_find(rig.student, "backbone.block1.0.attn.q.weight");
    b = draw(rig.ctx, 0);
    kd_assert_ok(kdas_model_read(rig.student, q, before));
    kdas_batch_images(b)[77] = NAN;
    kd_assert_status(kdas_distiller_step(rig.distiller, b, _i ? &r : NULL), KDAS_ENUMERIC);
    kd_assert_sentence(_i ? "term of the loss" : "the gradient of");
    kd_assert_ok(kdas_model_read(rig.student, q, after));
    ck_assert(kd_test_same_bits(before, after, sizeof before));
    ck_assert_int_eq(kdas_optim_updates(rig.optim), 0);
    kdas_batch_images(b)[77] = 0;
    step(&rig, b);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
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
    Suite   *suite = suite_create("far_step");
    TCase   *bits = named(suite, "bits"), *back = named(suite, "reading back");
    TCase   *ahead = named(suite, "uploads ahead"), *rest = named(suite, "memory and faults");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_loop_test(bits, steps_give_the_bits_of_the_cpu_captured_or_not, 0, 4);
    tcase_add_test(bits, reference_kernels_far_away_give_the_bits_of_the_reference);
    tcase_add_test(bits, a_gradient_added_at_a_tap_leaves_the_images_alone);
    tcase_add_loop_test(back, a_step_reads_back_only_what_is_asked_for, 0, 2);
    tcase_add_test(back, a_report_changes_no_bit);
    tcase_add_test(back, an_objective_on_host_maps_gives_the_bits_of_the_cpu);
    tcase_add_loop_test(ahead, batches_uploaded_ahead_give_the_same_bits_and_are_uploaded_once, 0,
                        2);
    tcase_add_test(ahead, a_step_waits_for_its_own_batch_alone);
    tcase_add_loop_test(ahead, a_prefetch_between_forward_and_backward_disturbs_neither, 0, 2);
    tcase_add_test(ahead, a_batch_that_has_changed_is_uploaded_again);
    tcase_add_loop_test(ahead, where_nothing_is_uploaded_ahead_a_prefetch_does_nothing, 0, 2);
    tcase_add_test(ahead, batches_are_in_memory_that_uploads_are_fast_from);
    tcase_add_test(rest, from_the_third_step_of_a_size_on_nothing_is_allocated);
    tcase_add_loop_test(rest, a_failing_allocation_leaves_a_step_to_be_tried_again, 0, 2);
    tcase_add_test(rest, a_device_lost_mid_step_is_a_status_and_the_cpu_goes_on);
    tcase_add_loop_test(rest, what_is_not_finite_stops_the_step_before_the_weights, 0, 2);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
