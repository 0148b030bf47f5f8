/* check_ranks_step.c - the distillation step over ranks: what N ranks do is what one rank does with the whole batch. */
#include <check.h>
#include <kdas/kdas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/distiller.h"
#include "distill/feature_inside.h"
#include "loss/loss.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/ranks_rig.h"
#include "support/thin.h"

enum { STEPS = 10 };

/* One run: what rank 0, or one rank alone, has seen. */
typedef struct seen {
    kdas_step_report report[STEPS];
    float           *start, *weights, *average; /* start: before the first step */
    size_t           count;
} seen;

typedef struct trial {
    kd_test_job job;
    int         steps;
    seen       *to;
} trial;

static void finish_seen(seen *s)
{
    free(s->start);
    free(s->weights);
    free(s->average);
}

static void look(seen *to, kd_test_rig *rig, const kd_test_job *job)
{
    kdas_model *m;

    to->weights = kd_test_weights(rig->student, &to->count);
    if (job->o.distiller.ema == 0) return;
    kd_assert_ok(kd_model_create(&m, rig->ctx, rig->student->def, NULL));
    kd_assert_ok(kdas_distiller_read_average(rig->distiller, m));
    to->average = kd_test_weights(m, &to->count);
    kdas_model_destroy(m);
}

static void assert_projections_equal(kd_test_seat *s, kd_params *p)
{
    float value[64];

    for (int i = 0; i < kd_params_count(p); i++) {
        ck_assert_int_le(kd_params_at(p, i)->count, 64);
        kd_assert_ok(kd_params_read(p, i, value));
        kd_test_assert_equal_on_ranks(s, value, (size_t)kd_params_at(p, i)->count * sizeof *value);
    }
}

static void run_one(kd_test_seat *s)
{
    trial      *t = s->user;
    kd_test_rig rig;

    kd_assert_ok(kd_test_job_rig(&rig, &t->job, s->ctx, s->ranks));
    if (s->rank == 0) t->to->start = kd_test_weights(rig.student, &t->to->count);
    for (int i = 0; i < t->steps; i++) {
        kdas_step_report r = { .size = sizeof r };

        kd_assert_ok(kd_test_job_step(&t->job, &rig, s, i, &r));
        memset(r.seconds, 0, sizeof r.seconds);
        if (s->ranks) kd_test_assert_equal_on_ranks(s, &r, sizeof r);
        if (s->rank == 0) t->to->report[i] = r;
    }
    if (s->rank == 0) look(t->to, &rig, &t->job);
    if (s->ranks) {
        kd_test_assert_students_equal(s, rig.student);
        kd_test_assert_equal_on_ranks(s, rig.loss->share, sizeof rig.loss->share);
        if (rig.distiller->feature && rig.distiller->feature->params)
            assert_projections_equal(s, rig.distiller->feature->params);
    }
    kd_test_job_finish(&rig);
}

static void run_alone(trial *t)
{
    const char  *device = t->job.o.device ? t->job.o.device : "cpu";
    kd_test_seat s      = { .ctx = kd_test_device(device, NULL), .user = t };

    run_one(&s);
    kdas_context_destroy(s.ctx);
}

static void run_on(trial *t, int ranks)
{
    kd_test_group_options o = kd_test_group_of(ranks);

    o.device = t->job.o.device;
    kd_test_on_ranks(&o, run_one, t);
}

static void assert_near(double got, double want, double tolerance, const char *what, int step)
{
    ck_assert_msg(fabs(got - want) <= tolerance * fmax(fabs(want), 1e-3),
                  "%s of step %d: %.9g, not %.9g", what, step, got, want);
}

/* How far the weights went, in one run and in the other. */
static void assert_moved_alike(const float *got, const float *want, const seen *from,
                               double tolerance)
{
    double apart = 0, moved = 0;

    for (size_t i = 0; i < from->count; i++) {
        apart += pow((double)got[i] - (double)want[i], 2);
        moved += pow((double)want[i] - (double)from->start[i], 2);
    }
    ck_assert(moved > 0);
    ck_assert_double_lt(sqrt(apart / moved), tolerance);
}

static void assert_alike(const seen *got, const seen *want, int steps, double tolerance)
{
    for (int i = 0; i < steps; i++) {
        const kdas_step_report *a = &got->report[i], *b = &want->report[i];

        assert_near(a->total, b->total, tolerance, "total", i);
        for (int t = 0; t < KDAS_TERMS; t++) {
            assert_near(a->raw[t], b->raw[t], tolerance, "raw", i);
            assert_near(a->weighted[t], b->weighted[t], tolerance, "weighted", i);
            assert_near(a->gradient[t], b->gradient[t], 4 * tolerance, "norm", i);
        }
        ck_assert_int_eq(a->updated, b->updated);
        ck_assert(a->lr == b->lr);
    }
    ck_assert_uint_eq(got->count, want->count);
    assert_moved_alike(got->weights, want->weights, want, tolerance);
    if (want->average) assert_moved_alike(got->average, want->average, want, tolerance);
}

/* f32 sums in another order: some units of 6e-8 in each step, which later steps enlarge a little. */
static void compare(const kd_test_job *job, int ranks, int steps, double tolerance)
{
    seen  one = { 0 }, many = { 0 };
    trial t = { .job = *job, .steps = steps, .to = &one };

    run_alone(&t);
    t.to = &many;
    run_on(&t, ranks);
    assert_alike(&many, &one, steps, tolerance);
    finish_seen(&one);
    finish_seen(&many);
}

START_TEST(ranks_do_what_one_does_with_the_whole_batch)
{
    kd_test_job job = kd_test_job_usual();

    job.images = 12;
    compare(&job, 2 + _i, STEPS, 2e-6);
}
END_TEST

START_TEST(parts_may_be_of_different_numbers_of_images)
{
    kd_test_job job = kd_test_job_usual();

    job.images = _i ? 7 : 3;
    compare(&job, _i ? 4 : 2, 4, 2e-6);
}
END_TEST

START_TEST(micro_batches_are_summed_with_their_update)
{
    kd_test_job job = kd_test_job_usual();

    job.o.distiller.accumulate = 2;
    job.o.distiller.ema        = 0.9f;
    job.o.optim.clip_norm      = 0.05f;
    compare(&job, 2, 6, 2e-6);
}
END_TEST

START_TEST(adamw_moves_along_the_same_way)
{
    kd_test_job job = kd_test_job_usual();

    job.o.optim.rule = "adamw";
    job.o.optim.lr   = 1e-3f;
    job.bucket       = 0;
    compare(&job, 2, 6, 2e-6);
}
END_TEST

START_TEST(shares_are_measured_over_all_images)
{
    kd_test_job job = kd_test_job_usual();

    job.o.loss.share               = 0.01f;
    job.o.distiller.gradient_norms = _i;
    compare(&job, 3, 5, 2e-6);
}
END_TEST

START_TEST(projections_of_features_are_trained_over_all_images)
{
    static const char *const kinds[] = { "cosine", "channel", "attention" };
    kd_test_job              job     = kd_test_job_usual();

    job.o.loss.feature       = kinds[_i];
    job.o.loss.feature_share = _i == 1 ? KDAS_SHARE_OFF : 0.5f;
    job.o.loss.share         = _i == 2 ? KDAS_SHARE_OFF : 0.3f;
    compare(&job, 2, 5, 2e-6);
}
END_TEST

/* Losses and gradients of parameters are f32. A sum of activations that differs may round to the next f16. */
START_TEST(half_precision_is_summed_in_f32)
{
    kd_test_job job = kd_test_job_usual();

    job.half = true;
    compare(&job, 2, 3, 1e-4);
}
END_TEST

/* The far device has the CPU's bits, and so it must have over ranks. */
START_TEST(a_device_with_memory_of_its_own_gives_the_bits_of_the_cpu)
{
    seen  near = { 0 }, far = { 0 };
    trial t = { .job = kd_test_job_usual(), .steps = 6, .to = &near };

    t.job.o.loss.feature         = "cosine";
    t.job.o.loss.share           = 0.1f;
    t.job.norms                  = true;
    t.job.o.distiller.accumulate = 1 + _i;
    run_on(&t, 2);
    t.to           = &far;
    t.job.o.device = "far";
    run_on(&t, 2);
    ck_assert(kd_test_same_bits(near.weights, far.weights, near.count * sizeof(float)));
    for (int i = 0; i < t.steps; i++)
        ck_assert(near.report[i].total == far.report[i].total);
    finish_seen(&near);
    finish_seen(&far);
}
END_TEST

START_TEST(two_runs_have_the_same_bits)
{
    seen  run[2];
    trial t = { .job = kd_test_job_usual(), .steps = 4 };

    t.job.norms  = true;
    t.job.images = 5;
    memset(run, 0, sizeof run);
    for (int i = 0; i < 2; i++) {
        t.to = &run[i];
        t.job.bucket =
            i ? 0 : 200; /* and whatever the buckets: a test's ranks add in their order */
        run_on(&t, 3);
    }
    ck_assert(kd_test_same_bits(run[0].weights, run[1].weights, run[0].count * sizeof(float)));
    finish_seen(&run[0]);
    finish_seen(&run[1]);
}
END_TEST

/* ---- gradients ---- */

static float *gradients(const kdas_model *m, size_t *n)
{
    float *all = malloc((size_t)kd_params_trainable(m->params) * sizeof *all);

    *n = 0;
    for (int32_t i = 0; i < kdas_model_tensors(m); i++) {
        int32_t trainable;

        kdas_model_tensor(m, i, NULL, NULL, &trainable);
        if (!trainable) continue;
        kd_assert_ok(kdas_model_read_gradient(m, i, all + *n));
        *n += (size_t)kd_params_at(m->params, i)->count;
    }
    return all;
}

static void differentiate(kd_test_seat *s)
{
    trial      *t = s->user;
    kd_test_rig rig;
    kdas_batch *b;
    float      *g;
    size_t      n;

    kd_assert_ok(kd_test_job_rig(&rig, &t->job, s->ctx, s->ranks));
    b = kd_test_job_batch(&t->job, s->ctx, s->rank, kdas_ranks_count(s->ranks), 0);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    if (s->ranks) kd_assert_ok(kd_ranks_step_reduce(rig.distiller));
    g = gradients(rig.student, &n);
    if (s->ranks) kd_test_assert_equal_on_ranks(s, g, n * sizeof *g);
    if (s->rank == 0)
        *t->to = (seen){ .weights = g, .count = n };
    else
        free(g);
    kdas_batch_destroy(b);
    kd_test_job_finish(&rig);
}

/* A gradient is a sum over images and pixels. With another order of summation, its error is some units in the last place of
 * f32 (6e-8), times what cancels. */
START_TEST(gradients_are_those_of_the_whole_batch)
{
    seen                  one = { 0 }, many = { 0 };
    trial                 t = { .job = kd_test_job_usual(), .to = &one };
    kd_test_group_options o = kd_test_group_of(2 + _i);
    kd_test_seat          alone;

    t.job.images = 5;
    alone        = (kd_test_seat){ .ctx = kd_test_device("cpu", NULL), .user = &t };
    differentiate(&alone);
    kdas_context_destroy(alone.ctx);
    t.to = &many;
    kd_test_on_ranks(&o, differentiate, &t);
    ck_assert_double_lt(kd_test_rms_error(many.weights, one.weights, (int64_t)one.count), 1e-6);
    finish_seen(&one);
    finish_seen(&many);
}
END_TEST

/* ---- phases ---- */

static void go_by_phases(kd_test_seat *s)
{
    trial           *t = s->user;
    kd_test_rig      whole, parts;
    kdas_step_report a = { .size = sizeof a }, b = { .size = sizeof b };

    kd_assert_ok(kd_test_job_rig(&whole, &t->job, s->ctx, s->ranks));
    kd_assert_ok(kd_test_job_rig(&parts, &t->job, s->ctx, s->ranks));
    for (int i = 0; i < 4; i++) {
        kdas_batch *batch = kd_test_job_batch(&t->job, s->ctx, s->rank, 2, i);

        kd_assert_ok(kd_test_job_step(&t->job, &whole, s, i, &a));
        kd_assert_ok(kdas_distiller_forward(parts.distiller, batch));
        kd_assert_ok(kdas_distiller_backward(parts.distiller, s->rank ? NULL : &b));
        if (s->rank == 0) ck_assert(a.total == b.total);
        if (i % 2) kd_assert_ok(kdas_distiller_update(parts.distiller, NULL));
        kdas_batch_destroy(batch);
    }
    ck_assert_int_eq(kdas_optim_updates(parts.optim), 2);
    kd_test_assert_same_weights(whole.student, parts.student);
    kd_test_job_finish(&whole);
    kd_test_job_finish(&parts);
}

START_TEST(phases_equal_whole_steps)
{
    trial                 t = { .job = kd_test_job_usual() };
    kd_test_group_options o = kd_test_group_of(2);

    t.job.norms                  = true;
    t.job.o.loss.feature         = "cosine";
    t.job.o.distiller.accumulate = 2;
    kd_test_on_ranks(&o, go_by_phases, &t);
}
END_TEST

/* ---- what is each rank's own ---- */

static void average_statistics(kd_test_seat *s)
{
    kd_test_job job = kd_test_job_usual();
    kd_test_rig rig;
    kdas_batch *b;
    float       own[4], mean[4], first[4];
    double      sum[4];
    int32_t     at;

    job.norms  = true;
    job.images = 3; /* one here, two there */
    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    at = kdas_model_find(rig.student, "norm.running_mean");
    b  = kd_test_job_batch(&job, s->ctx, s->rank, 2, 0);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    kd_assert_ok(kdas_model_read(rig.student, at, own));
    memcpy(first, own, sizeof first);
    kd_assert_ok(kdas_ranks_broadcast(s->ranks, first, sizeof first, 0));
    if (s->rank == 1) ck_assert(memcmp(first, own, sizeof own) != 0);
    for (int i = 0; i < 4; i++)
        sum[i] = (double)own[i] * (s->rank == 0 ? 1 : 2) / 3;
    kd_assert_ok(kdas_ranks_sum(s->ranks, sum, 4));
    kd_assert_ok(kdas_distiller_update(rig.distiller, NULL));
    kd_assert_ok(kdas_model_read(rig.student, at, mean));
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq_tol((double)mean[i], sum[i], 1e-6);
    kd_test_assert_students_equal(s, rig.student);
    kdas_batch_destroy(b);
    kd_test_job_finish(&rig);
}

START_TEST(running_statistics_become_means_with_each_update)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, average_statistics, NULL);
}
END_TEST

enum { DRAWN = 2 * 32 * 32 };

/* All ranks have the same images. */
static void draw(kd_test_seat *s)
{
    kd_test_rig_options    o     = kd_test_rig_usual();
    float                 *alone = s->user, own[DRAWN], first[DRAWN];
    kd_test_rig            rig   = { .ctx = s->ctx };
    kdas_distiller_options d;
    kdas_batch            *b = kd_test_batch(s->ctx, 2, 32, 0);

    o.model.drop_path = 0.4f;
    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    kdas_distiller_options_init(&d, sizeof d);
    d.ranks = s->ranks;
    kd_assert_ok(kdas_model_create(&rig.student, s->ctx, "polyp_pvt_b0", &o.model));
    kd_assert_ok(kdas_loss_create(&rig.loss, s->ctx, &o.loss));
    kd_assert_ok(kdas_optim_create(&rig.optim, rig.student, &o.optim));
    kd_assert_ok(kdas_distiller_create(&rig.distiller, NULL, rig.student, rig.loss, rig.optim, &d));
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_model_read_output(rig.student, "P1", own));
    if (!s->ranks) memcpy(alone, own, sizeof own);
    memcpy(first, own, sizeof first);
    kd_assert_ok(kdas_ranks_broadcast(s->ranks, first, sizeof first, 0));
    ck_assert(kd_test_same_bits(first, alone, sizeof first));
    ck_assert(s->rank == 0 || !kd_test_same_bits(own, first, sizeof first));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    kd_assert_ok(kdas_distiller_update(rig.distiller, NULL));
    if (s->ranks) kd_test_assert_students_equal(s, rig.student);
    kdas_batch_destroy(b);
    kd_test_job_finish(&rig);
}

START_TEST(rank_0_draws_as_one_alone_and_others_draw_their_own)
{
    static float          alone[DRAWN];
    kd_test_group_options o = kd_test_group_of(3);
    kd_test_seat          s = { .ctx = kd_test_device("cpu", NULL), .user = alone };

    draw(&s);
    kdas_context_destroy(s.ctx);
    kd_test_on_ranks(&o, draw, alone);
}
END_TEST

static void step_at_sides(kd_test_seat *s)
{
    kd_test_job job = kd_test_job_usual();
    kd_test_rig rig;
    kdas_batch *b;

    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    b = kd_test_small_batch(s->ctx, 2, s->rank ? 64 : 32, "b");
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    kd_test_assert_students_equal(s, rig.student);
    kdas_batch_destroy(b);
    kd_test_job_finish(&rig);
}

START_TEST(ranks_may_have_images_of_different_sides)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, step_at_sides, NULL);
}
END_TEST

/* ---- memory ---- */

static void count_allocations(kd_test_seat *s)
{
    kd_test_job    job = kd_test_job_usual();
    kd_test_meter *m   = s->ctx->alloc_user;
    kd_test_rig    rig;
    kdas_batch    *small, *large;
    long           taken = 0;

    job.o.loss.feature = "cosine";
    job.o.loss.share   = 0.2f;
    job.norms          = true;
    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    small = kd_test_small_batch(s->ctx, 1, 32, "s");
    large = kd_test_small_batch(s->ctx, 3, 32, "l");
    for (int i = 0; i < 4; i++) {
        kdas_step_report r = { .size = sizeof r };

        kd_assert_ok(kdas_distiller_step(rig.distiller, i % 2 ? large : small, &r));
        if (i == 1) taken = m->taken;
    }
    ck_assert_int_eq(m->taken, taken);
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kd_test_job_finish(&rig);
}

START_TEST(second_step_of_a_size_allocates_nothing)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, count_allocations, NULL);
}
END_TEST

/* ---- checkpoints ---- */

typedef struct resumed {
    kd_test_job job;
    char        path[300];
} resumed;

static void gather_and_resume(kd_test_seat *s)
{
    resumed      *t = s->user;
    kd_test_rig   on, again;
    kdas_progress p = { .size = sizeof p };

    kd_assert_ok(kd_test_job_rig(&on, &t->job, s->ctx, s->ranks));
    for (int i = 0; i < 5; i++) /* an update, and two of three micro-batches */
        kd_assert_ok(kd_test_job_step(&t->job, &on, s, i, NULL));
    kd_assert_status(kdas_checkpoint_save(on.distiller, t->path, &p, NULL), KDAS_ESTATE);
    kd_assert_sentence("kdas_distiller_gather()");
    kd_assert_ok(kdas_distiller_gather(on.distiller));
    kd_assert_ok(kdas_distiller_gather(on.distiller));
    if (s->rank == 0) kd_assert_ok(kdas_checkpoint_save(on.distiller, t->path, &p, NULL));
    kd_assert_ok(kdas_ranks_barrier(s->ranks));
    kd_assert_ok(kd_test_job_rig(&again, &t->job, s->ctx, s->ranks));
    kd_assert_ok(kdas_checkpoint_load(again.distiller, t->path, NULL));
    for (int i = 5; i < 9; i++) {
        kd_assert_ok(kd_test_job_step(&t->job, &on, s, i, NULL));
        kd_assert_ok(kd_test_job_step(&t->job, &again, s, i, NULL));
    }
    ck_assert_int_eq(kdas_optim_updates(on.optim), 3);
    kd_test_assert_same_weights(on.student, again.student);
    kd_test_assert_students_equal(s, again.student);
    kd_test_job_finish(&on);
    kd_test_job_finish(&again);
}

START_TEST(a_checkpoint_of_rank_0_has_what_all_have_accumulated)
{
    resumed               t     = { .job = kd_test_job_usual() };
    kd_test_group_options o     = kd_test_group_of(2);
    kd_test_job           whole = t.job;
    kd_test_seat          alone = { .ctx = kd_test_device("cpu", NULL), .user = &t };
    kd_test_rig           one;

    t.job.o.distiller.accumulate = 3;
    t.job.o.loss.feature         = "cosine";
    t.job.norms                  = true;
    whole                        = t.job;
    snprintf(t.path, sizeof t.path, "%s", kd_test_path("step.ckpt"));
    kd_test_on_ranks(&o, gather_and_resume, &t);
    kd_assert_ok(kd_test_job_rig(&one, &whole, alone.ctx, NULL)); /* and alone */
    kd_assert_ok(kdas_checkpoint_load(one.distiller, t.path, NULL));
    kd_assert_ok(kd_test_job_step(&whole, &one, &alone, 5, NULL));
    ck_assert_int_eq(kdas_optim_updates(one.optim), 2);
    kd_test_job_finish(&one);
    kdas_context_destroy(alone.ctx);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("ranks_step");
    TCase   *same = tcase_create("the same"), *rest = tcase_create("the rest");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_loop_test(same, ranks_do_what_one_does_with_the_whole_batch, 0, 3);
    tcase_add_loop_test(same, parts_may_be_of_different_numbers_of_images, 0, 2);
    tcase_add_test(same, micro_batches_are_summed_with_their_update);
    tcase_add_test(same, adamw_moves_along_the_same_way);
    tcase_add_loop_test(same, shares_are_measured_over_all_images, 0, 2);
    tcase_add_loop_test(same, projections_of_features_are_trained_over_all_images, 0, 3);
    tcase_add_test(same, half_precision_is_summed_in_f32);
    tcase_add_loop_test(same, a_device_with_memory_of_its_own_gives_the_bits_of_the_cpu, 0, 2);
    tcase_add_test(same, two_runs_have_the_same_bits);
    tcase_add_loop_test(same, gradients_are_those_of_the_whole_batch, 0, 3);
    tcase_add_test(same, phases_equal_whole_steps);
    suite_add_tcase(suite, same);

    tcase_add_checked_fixture(rest, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(rest, running_statistics_become_means_with_each_update);
    tcase_add_test(rest, rank_0_draws_as_one_alone_and_others_draw_their_own);
    tcase_add_test(rest, ranks_may_have_images_of_different_sides);
    tcase_add_test(rest, second_step_of_a_size_allocates_nothing);
    tcase_add_test(rest, a_checkpoint_of_rank_0_has_what_all_have_accumulated);
    suite_add_tcase(suite, rest);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
