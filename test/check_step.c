/* check_step.c - the distillation step: phases, gathered gradients, a host's own teacher, memory, faults. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/thin.h"

#define SIDE 32
#define AREA (SIDE * SIDE)

static kdas_batch *draw(kdas_context *ctx, int64_t n, const char *name)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, n, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), n * AREA * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), n, SIDE, SIDE, name);
    return b;
}

static kdas_step_report step(kd_test_rig *rig, kdas_batch *b)
{
    kdas_step_report r = { .size = sizeof r };

    kd_assert_ok(kdas_distiller_step(rig->distiller, b, &r));
    return r;
}

/* ---- Learning ---- */

START_TEST(loss_falls_on_one_batch)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;
    double              first, last = 0;

    kd_test_rig_make(&rig, &o);
    b     = draw(rig.ctx, 2, "overfit");
    first = step(&rig, b).total;
    for (int i = 0; i < 15; i++)
        last = step(&rig, b).total;
    ck_assert_msg(last < 0.8 * first, "from %g to %g", first, last);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(phases_equal_the_whole_step)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         whole, parts;
    kdas_step_report    r = { .size = sizeof r };

    kd_test_rig_make(&whole, &o);
    kd_test_rig_make(&parts, &o);
    for (int i = 0; i < 2; i++) {
        kdas_batch *a = draw(whole.ctx, 2, "b"), *b = draw(parts.ctx, 2, "b");
        double      total = step(&whole, a).total;

        kd_assert_ok(kdas_distiller_forward(parts.distiller, b));
        kd_assert_ok(kdas_distiller_backward(parts.distiller, &r));
        ck_assert(r.total == total);
        kd_assert_ok(kdas_distiller_update(parts.distiller, &r));
        ck_assert_int_eq(r.updated, 1);
        kdas_batch_destroy(a);
        kdas_batch_destroy(b);
    }
    kd_test_assert_same_weights(whole.student, parts.student);
    kd_test_rig_finish(&whole);
    kd_test_rig_finish(&parts);
}
END_TEST

START_TEST(phases_out_of_order_are_refused)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;

    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 1, "b");
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Norms of the terms' gradients ---- */

static float *gradients(const kdas_model *m, int64_t *n)
{
    float *all = malloc((size_t)kdas_model_parameters(m) * sizeof *all);

    *n = 0;
    for (int32_t i = 0; i < kdas_model_tensors(m); i++) {
        int64_t d[4];
        int32_t trainable;

        kdas_model_tensor(m, i, NULL, d, &trainable);
        if (!trainable) continue;
        kd_assert_ok(kdas_model_read_gradient(m, i, all + *n));
        *n += d[0] * d[1] * d[2] * d[3];
    }
    return all;
}

static const char *const objectives[] = { "paper", "baseline", "kl", "published_code" };

START_TEST(norms_cost_nothing_but_time)
{
    float           *g[2];
    int64_t          n[2];
    kdas_step_report r[2] = { { .size = sizeof *r }, { .size = sizeof *r } };

    for (int norms = 0; norms < 2; norms++) {
        kd_test_rig_options o = kd_test_rig_usual();
        kd_test_rig         rig;
        kdas_batch         *b;

        o.distiller.gradient_norms = norms;
        kd_assert_ok(kdas_loss_options_preset(&o.loss, objectives[_i]));
        kd_test_rig_make(&rig, &o);
        b = draw(rig.ctx, 2, "b");
        kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
        kd_assert_ok(kdas_distiller_backward(rig.distiller, &r[norms]));
        g[norms] = gradients(rig.student, &n[norms]);
        kdas_batch_destroy(b);
        kd_test_rig_finish(&rig);
    }
    ck_assert(r[0].total == r[1].total);
    for (int t = 0; t < KDAS_TERMS; t++) {
        ck_assert(r[0].raw[t] == r[1].raw[t]);
        ck_assert(r[0].gradient[t] == 0);
    }
    ck_assert(r[1].gradient[KDAS_TERM_SEG] > 0);
    ck_assert_int_eq(n[0], n[1]);
    ck_assert_double_lt(kd_test_rms_error(g[0], g[1], n[0]), 1e-5);
    free(g[0]);
    free(g[1]);
}
END_TEST

/* ---- Gathering gradients ---- */

/* Micro-batches of the same images see the same batch statistics, so that their mean gradient is that of
 * one of them, and one update results. */
START_TEST(gathered_micro_batches_make_one_update)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         one, four;
    kdas_batch         *a, *b;
    kdas_step_report    r;
    size_t              n, m;
    float              *wa, *wb;

    o.model.drop_path = 0;
    kd_test_rig_make(&one, &o);
    o.distiller.accumulate = 4;
    kd_test_rig_make(&four, &o);
    a = draw(one.ctx, 2, "b");
    b = draw(four.ctx, 2, "b");
    step(&one, a);
    for (int i = 0; i < 4; i++) {
        r = step(&four, b);
        ck_assert_int_eq(r.updated, i == 3);
    }
    ck_assert_int_eq(kdas_optim_updates(four.optim), 1);
    wa = kd_test_weights(one.student, &n);
    wb = kd_test_weights(four.student, &m);
    ck_assert_uint_eq(n, m);
    for (int32_t t = 0, at = 0; t < kdas_model_tensors(one.student);
         t++) { /* running statistics moved 4 times */
        int64_t d[4], count;
        int32_t trainable;

        kdas_model_tensor(one.student, t, NULL, d, &trainable);
        count = d[0] * d[1] * d[2] * d[3];
        for (int64_t i = 0; trainable && i < count;
             i++) /* Adam's first step is lr * sign(g) where g is noise */
            ck_assert_double_eq_tol((double)wa[at + i], (double)wb[at + i], 2.1e-3);
        if (trainable && count > 4096) kd_assert_close(wa + at, wb + at, count, 2e-2);
        at += (int32_t)count;
    }
    free(wa);
    free(wb);
    kdas_batch_destroy(a);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&one);
    kd_test_rig_finish(&four);
}
END_TEST

/* With running statistics, the mean gradient of k images one by one is that of the k together. */
START_TEST(mean_gradient_of_single_images_is_that_of_the_batch)
{
    enum { K = 3 };
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *m;
    kdas_loss    *loss;
    kdas_batch   *all = draw(ctx, K, "k"), *one = draw(ctx, 1, "k");
    float        *gradient[2], *maps[2];
    int32_t       tensors;
    float        *got[2];
    size_t        n = 0;

    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_loss_create(&loss, ctx, NULL));
    tensors = kdas_model_tensors(m);
    for (int i = 0; i < 2; i++) {
        gradient[i] = malloc(K * AREA * sizeof(float));
        maps[i]     = malloc(K * AREA * sizeof(float));
        got[i]      = malloc((size_t)kdas_model_parameters(m) * sizeof(float));
    }
    for (int pass = 0; pass < 2; pass++) { /* together, then one by one */
        kd_assert_ok(kdas_model_zero_gradients(m));
        for (int k = 0; k < (pass ? K : 1); k++) {
            kdas_batch  *b       = pass ? one : all;
            const float *t[2]    = { kdas_batch_images(b), kdas_batch_images(b) + AREA },
                        *s[2]    = { maps[0], maps[1] };
            kdas_maps    student = { s, 2, pass ? 1 : K, SIDE, SIDE }, teacher = student;
            static float other[2][K * AREA];

            if (pass) {
                memcpy(kdas_batch_images(one), kdas_batch_images(all) + k * AREA * 3,
                       AREA * 3 * sizeof(float));
                memcpy(kdas_batch_masks(one), kdas_batch_masks(all) + k * AREA,
                       AREA * sizeof(float));
            }
            kd_test_fill(other[0], K * AREA, "t0", 2, 0);
            kd_test_fill(other[1], K * AREA, "t1", 2, 0);
            t[0]        = other[0] + (pass ? k * AREA : 0);
            t[1]        = other[1] + (pass ? k * AREA : 0);
            teacher.map = t;
            kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, b));
            kd_assert_ok(kdas_model_read_output(m, "P1", maps[0]));
            kd_assert_ok(kdas_model_read_output(m, "P2", maps[1]));
            kd_assert_ok(
                kdas_loss_evaluate(loss, &student, &teacher, kdas_batch_masks(b), gradient, NULL));
            kd_assert_ok(kdas_model_backward(m, (const float *const *)gradient));
        }
        n = 0;
        for (int32_t i = 0; i < tensors; i++) {
            int64_t d[4];
            int32_t trainable;

            kdas_model_tensor(m, i, NULL, d, &trainable);
            if (!trainable) continue;
            kd_assert_ok(kdas_model_read_gradient(m, i, got[pass] + n));
            n += (size_t)(d[0] * d[1] * d[2] * d[3]);
        }
    }
    for (size_t i = 0; i < n; i++)
        got[1][i] /= K;
    ck_assert_double_lt(kd_test_rms_error(got[1], got[0], (int64_t)n), 1e-4);
    for (int i = 0; i < 2; i++) {
        free(gradient[i]);
        free(maps[i]);
        free(got[i]);
    }
    kdas_loss_destroy(loss);
    kdas_model_destroy(m);
    kdas_batch_destroy(all);
    kdas_batch_destroy(one);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- A host's own teacher ---- */

START_TEST(host_teacher_equals_a_model_with_the_same_maps)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         model, host;
    float               maps[2][2 * AREA];
    const float        *pointers[2] = { maps[0], maps[1] };
    kdas_maps           teacher     = { pointers, 2, 2, SIDE, SIDE };

    kd_test_rig_make(&model, &o);
    o.teacher = NULL;
    kd_test_rig_make(&host, &o);
    for (int i = 0; i < 2; i++) {
        kdas_batch *a = draw(model.ctx, 2, "b"), *b = draw(host.ctx, 2, "b");
        double      total = step(&model, a).total;

        kd_assert_status(kdas_distiller_forward(host.distiller, b),
                         KDAS_ESTATE); /* maps are used once */
        kd_assert_sentence("teacher");
        kd_assert_ok(kdas_model_forward(model.teacher, KDAS_MODE_INFER, a));
        kd_assert_ok(kdas_model_read_output(model.teacher, "P1", maps[0]));
        kd_assert_ok(kdas_model_read_output(model.teacher, "P2", maps[1]));
        kd_assert_ok(kdas_distiller_set_teacher_maps(host.distiller, &teacher));
        ck_assert(step(&host, b).total == total);
        kdas_batch_destroy(a);
        kdas_batch_destroy(b);
    }
    kd_test_assert_same_weights(model.student, host.student);
    kd_test_rig_finish(&model);
    kd_test_rig_finish(&host);
}
END_TEST

START_TEST(teacher_is_never_changed)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    size_t              n;
    float              *before, *after;

    kd_test_rig_make(&rig, &o);
    before = kd_test_weights(rig.teacher, &n);
    kd_test_rig_step(&rig, 0);
    kd_test_rig_step(&rig, 1);
    after = kd_test_weights(rig.teacher, &n);
    ck_assert(kd_test_same_bits(before, after, n * sizeof *before));
    free(before);
    free(after);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Memory ---- */

START_TEST(second_step_of_a_size_allocates_nothing)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *small, *large;
    long                taken;

    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    small = draw(rig.ctx, 1, "s");
    large = draw(rig.ctx, 3, "l");
    step(&rig, small);
    step(&rig, large);
    taken = meter.taken;
    for (int i = 0; i < 3; i++) {
        step(&rig, small);
        step(&rig, large);
    }
    ck_assert_int_eq(meter.taken, taken);
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

START_TEST(failing_allocation_in_a_step_leaves_it_to_be_tried_again)
{
    for (long k = 1, done = 0; !done; k += 1 + k / 12) {
        kd_test_meter       meter = { 0 };
        kd_test_rig_options o     = kd_test_rig_usual();
        kd_test_rig         rig;
        kdas_batch         *b;
        kdas_status         st;

        o.meter = &meter;
        kd_test_rig_make(&rig, &o);
        b             = draw(rig.ctx, 1, "b");
        meter.fail_at = meter.taken + k;
        st            = kdas_distiller_step(rig.distiller, b, NULL);
        done          = st == KDAS_OK;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %d %s", k, st, kdas_last_error());
        meter.fail_at = 0;
        step(&rig, b);
        kdas_batch_destroy(b);
        kd_test_rig_finish(&rig);
        kd_test_assert_given_back(&meter);
    }
}
END_TEST

/* ---- Faults ---- */

START_TEST(nan_in_the_images_stops_the_step_before_the_weights)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;
    float               before[16 * 16], after[16 * 16], statistics[2][32];
    int32_t             q, mean;

    kd_test_rig_make(&rig, &o);
    q    = kdas_model_find(rig.student, "backbone.block1.0.attn.q.weight");
    mean = kdas_model_find(rig.student, "Translayer2_0.bn.running_mean");
    b    = draw(rig.ctx, 2, "b");
    kd_assert_ok(kdas_model_read(rig.student, q, before));
    kd_assert_ok(kdas_model_read(rig.student, mean, statistics[0]));
    kdas_batch_images(b)[77] = NAN;
    kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_ENUMERIC);
    kd_assert_ok(kdas_model_read(rig.student, q, after));
    kd_assert_ok(kdas_model_read(rig.student, mean, statistics[1]));
    ck_assert(kd_test_same_bits(before, after, sizeof before));
    ck_assert(kd_test_same_bits(statistics[0], statistics[1], sizeof statistics[0]));
    ck_assert_int_eq(kdas_optim_updates(rig.optim), 0);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(cancel_ends_a_step_and_resume_allows_the_next)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;

    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 1, "b");
    kdas_context_cancel(rig.ctx);
    kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_ECANCELLED);
    kdas_context_resume(rig.ctx);
    step(&rig, b);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(pairings_that_make_no_sense_are_refused)
{
    kd_test_rig_options    o = kd_test_rig_usual();
    kd_test_rig            rig;
    kdas_distiller        *d;
    kdas_distiller_options p;
    kdas_model            *backbone;
    kdas_context          *other = kd_test_device("cpu", NULL);
    kdas_loss             *elsewhere;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_model_create(&backbone, rig.ctx, "pvt_v2_b0", NULL));
    kd_assert_ok(kdas_loss_create(&elsewhere, other, NULL));
    kd_assert_status(kdas_distiller_create(&d, NULL, backbone, rig.loss, rig.optim, NULL),
                     KDAS_EINVAL);
    kd_assert_status(kdas_distiller_create(&d, backbone, rig.student, rig.loss, rig.optim, NULL),
                     KDAS_EINVAL);
    kd_assert_status(kdas_distiller_create(&d, rig.student, rig.student, rig.loss, rig.optim, NULL),
                     KDAS_EINVAL);
    kd_assert_status(
        kdas_distiller_create(&d, rig.teacher, rig.student, elsewhere, rig.optim, NULL),
        KDAS_EINVAL);
    kd_assert_status(kdas_distiller_create(&d, rig.teacher, rig.teacher, rig.loss, rig.optim, NULL),
                     KDAS_EINVAL);
    kdas_distiller_options_init(&p, sizeof p);
    p.accumulate = 0;
    kd_assert_status(kdas_distiller_create(&d, rig.teacher, rig.student, rig.loss, rig.optim, &p),
                     KDAS_EINVAL);
    kd_assert_sentence("accumulate");
    ck_assert_ptr_null(d);
    kdas_loss_destroy(elsewhere);
    kdas_context_destroy(other);
    kdas_model_destroy(backbone);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Repeatability ---- */

static void *run_steps(void *out)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    double              last = 0;

    kd_test_rig_make(&rig, &o);
    for (int i = 0; i < 3; i++)
        last = kd_test_rig_step(&rig, i);
    *(double *)out = last;
    kd_test_rig_finish(&rig);
    return NULL;
}

START_TEST(same_seed_gives_the_same_bits_also_beside_another_context)
{
    double    alone, beside[2];
    pthread_t thread[2];

    run_steps(&alone);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, run_steps, &beside[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    ck_assert(alone == beside[0]);
    ck_assert(alone == beside[1]);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("step");
    TCase   *learn = tcase_create("learning"), *faults = tcase_create("faults");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_test(learn, loss_falls_on_one_batch);
    tcase_add_test(learn, phases_equal_the_whole_step);
    tcase_add_test(learn, phases_out_of_order_are_refused);
    tcase_add_loop_test(learn, norms_cost_nothing_but_time, 0, 4);
    tcase_add_test(learn, gathered_micro_batches_make_one_update);
    tcase_add_test(learn, mean_gradient_of_single_images_is_that_of_the_batch);
    tcase_add_test(learn, host_teacher_equals_a_model_with_the_same_maps);
    tcase_add_test(learn, teacher_is_never_changed);
    tcase_add_test(learn, same_seed_gives_the_same_bits_also_beside_another_context);
    suite_add_tcase(suite, learn);
    tcase_add_test(faults, second_step_of_a_size_allocates_nothing);
    tcase_add_test(faults, failing_allocation_in_a_step_leaves_it_to_be_tried_again);
    tcase_add_test(faults, nan_in_the_images_stops_the_step_before_the_weights);
    tcase_add_test(faults, cancel_ends_a_step_and_resume_allows_the_next);
    tcase_add_test(faults, pairings_that_make_no_sense_are_refused);
    suite_add_tcase(suite, faults);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
