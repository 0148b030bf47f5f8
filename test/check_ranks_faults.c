/* check_ranks_faults.c - a step over ranks where something goes wrong on one of them: all fail alike and none waits. */
#include <check.h>
#include <kdas/kdas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/distiller.h"
#include "loss/loss.h"
#include "ranks/ranks.h"
#include "support/check_util.h"
#include "support/ranks_rig.h"

/* The same status on all ranks. Collective. */
static void assert_same_status(kd_test_seat *s, kdas_status st)
{
    double sum = st;

    kd_assert_ok(kdas_ranks_sum(s->ranks, &sum, 1));
    ck_assert_msg(sum == (double)st * kdas_ranks_count(s->ranks), "rank %d has status %d: %s",
                  s->rank, st, kdas_last_error());
}

static void on_ranks(int count, void (*fn)(kd_test_seat *seat), void *user)
{
    kd_test_group_options o = kd_test_group_of(count);

    kd_test_on_ranks(&o, fn, user);
}

/* ---- what differs ---- */

static void tamper(kd_test_job *job, int what)
{
    switch (what) {
    case 0: job->o.model.seed = 99; break;
    case 1: job->o.optim.lr = 0.5f; break;
    case 2: job->o.loss.tau = 3; break;
    case 3: job->o.distiller.accumulate = 2; break;
    case 4: job->o.distiller.ema = 0.5f; break;
    case 5: job->o.distiller.gradient_norms = 0; break;
    case 6: job->norms = true; break;
    case 7: job->o.model.drop_path = 0.2f; break;
    case 8: job->o.optim.rule = "adamw"; break;
    case 9: job->bucket = 100; break;
    default: job->o.distiller.accumulate = 0; break;
    }
}

static const char *const differences[] = {
    "rank 1 has another hash of the student's values than rank 0",
    "rank 1 has another optim.lr than rank 0: '0.5' and not '0.05",
    "rank 1 has another loss.tau than rank 0: '3' and not '2'",
    "rank 1 has another number of micro-batches in an update than rank 0: '2' and not '1'",
    "rank 1 has another decay of the moving average than rank 0",
    "rank 1 has another gradient_norms than rank 0: '0' and not '1'",
    "rank 1 has another model than rank 0: 'small with norms' and not 'small'",
    "rank 1 has another model.drop_path than rank 0",
    "rank 1 has another optim.rule than rank 0: 'adamw' and not 'sgd'",
    "rank 1 has another number of pieces of the gradients than rank 0",
    "rank 1: distiller: accumulate is 0, not 1 to 65536",
};

static void differ(kd_test_seat *s)
{
    for (int i = 0; i < (int)(sizeof differences / sizeof *differences); i++) {
        kd_test_job job = kd_test_job_usual();
        kd_test_rig rig;

        if (s->rank == 1) tamper(&job, i);
        kd_assert_status(kd_test_job_rig(&rig, &job, s->ctx, s->ranks), KDAS_EINVAL);
        kd_assert_sentence(differences[i]);
        ck_assert_ptr_null(rig.distiller);
        kd_test_job_finish(&rig);
    }
}

START_TEST(ranks_that_differ_are_refused_on_all) { on_ranks(2, differ, NULL); }
END_TEST

static void differ_in_teachers(kd_test_seat *s)
{
    kd_test_job job = kd_test_job_usual();
    kd_test_rig rig;
    float       bias[4] = { 1, 2, 3, 4 };

    kd_assert_ok(kdas_loss_options_preset(&job.o.loss, "baseline"));
    if (s->rank == 1) job.o.teacher = NULL;
    kd_assert_status(kd_test_job_rig(&rig, &job, s->ctx, s->ranks), KDAS_EINVAL);
    kd_assert_sentence("rank 1 has another teacher than rank 0: 'none' and not 'small'");
    kd_test_job_finish(&rig);
    job = kd_test_job_usual();
    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    kdas_distiller_destroy(rig.distiller);
    if (s->rank == 1)
        kd_assert_ok(
            kdas_model_write(rig.teacher, kdas_model_find(rig.teacher, "level0.bias"), bias));
    job.o.distiller.ranks = s->ranks;
    kd_assert_status(kdas_distiller_create(&rig.distiller, rig.teacher, rig.student, rig.loss,
                                           rig.optim, &job.o.distiller),
                     KDAS_EINVAL);
    kd_assert_sentence("rank 1 has another hash of the teacher's values than rank 0");
    kd_test_job_finish(&rig);
}

START_TEST(other_teachers_are_refused_on_all) { on_ranks(2, differ_in_teachers, NULL); }
END_TEST

static void be_alone(kd_test_seat *s)
{
    kd_test_job            job = kd_test_job_usual();
    kd_test_rig            rig;
    kdas_distiller_options o     = { .size = sizeof o };
    kdas_context          *other = kd_test_device("cpu", NULL);

    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    ck_assert_ptr_null(rig.distiller->over);
    kd_assert_ok(kdas_distiller_get_options(rig.distiller, &o));
    ck_assert_ptr_eq(o.ranks, s->ranks);
    kd_assert_ok(kd_test_job_step(&job, &rig, s, 0, NULL));
    kd_assert_ok(kdas_distiller_gather(rig.distiller));
    kd_test_job_finish(&rig);
    kd_assert_status(kd_test_job_rig(&rig, &job, other, s->ranks), KDAS_EINVAL);
    kd_assert_sentence("ranks are of another context");
    kd_test_job_finish(&rig);
    kdas_context_destroy(other);
    kd_assert_status(kdas_distiller_gather(NULL), KDAS_EINVAL);
}

START_TEST(a_group_of_one_is_alone) { on_ranks(1, be_alone, NULL); }
END_TEST

/* ---- faults that pass ---- */

typedef enum fault { NAN_IMAGE, NO_BATCH, NO_MASKS, CANCEL, BAD_REPORT, FAULTS } fault;

static const struct {
    kdas_status status;
    const char *sentence;
} wants[FAULTS] = {
    [NAN_IMAGE]  = { KDAS_ENUMERIC, "rank 1: " },
    [NO_BATCH]   = { KDAS_EINVAL, "rank 1: distiller: the batch is NULL" },
    [NO_MASKS]   = { KDAS_EINVAL, "rank 1: the batch was made without masks" },
    [CANCEL]     = { KDAS_ECANCELLED, "rank 1: " },
    [BAD_REPORT] = { KDAS_EINVAL, "rank 1: kdas_step_report" },
};

static kdas_status step_with(kd_test_seat *s, kd_test_rig *rig, const kd_test_job *job, fault f)
{
    kdas_step_report r = { .size = s->rank == 1 && f == BAD_REPORT ? 1 : sizeof r };
    kdas_batch      *b = kd_test_job_batch(job, s->ctx, s->rank, 2, 7);
    kdas_status      st;

    if (s->rank == 1 && f == NAN_IMAGE) kdas_batch_images(b)[5] = NAN;
    if (s->rank == 1 && f == CANCEL) kdas_context_cancel(s->ctx);
    if (s->rank == 1 && f == NO_MASKS) {
        static float images[4 * 32 * 32 * 3];

        kdas_batch_destroy(b);
        kd_assert_ok(kdas_batch_wrap(&b, s->ctx, 2, 32, 32, images, NULL));
    }
    st = kdas_distiller_step(rig->distiller, s->rank == 1 && f == NO_BATCH ? NULL : b, &r);
    kdas_batch_destroy(b);
    kdas_context_resume(s->ctx);
    return st;
}

/* One rig has had the fault, the other has not; on all ranks they go on with the same bits. */
static void fail_once(kd_test_seat *s)
{
    for (fault f = 0; f < FAULTS; f++) {
        kd_test_job job = kd_test_job_usual();
        kd_test_rig faulty, sound;

        job.norms                  = true;
        job.o.distiller.accumulate = 1 + *(int *)s->user;
        job.o.loss.share           = 0.2f;
        kd_assert_ok(kd_test_job_rig(&faulty, &job, s->ctx, s->ranks));
        kd_assert_ok(kd_test_job_rig(&sound, &job, s->ctx, s->ranks));
        for (int i = 0; i < 4; i++) {
            if (i % 2 == 0) { /* between updates: a failure in a backward drops micro-batches */
                kdas_status st = step_with(s, &faulty, &job, f);

                ck_assert_msg(st == wants[f].status, "fault %d: status %d, %s", f, st,
                              kdas_last_error());
                kd_assert_sentence(wants[f].sentence);
            }
            kd_assert_ok(kd_test_job_step(&job, &faulty, s, i, NULL));
            kd_assert_ok(kd_test_job_step(&job, &sound, s, i, NULL));
        }
        ck_assert_int_eq(kdas_optim_updates(faulty.optim), 4 / job.o.distiller.accumulate);
        kd_test_assert_same_weights(faulty.student, sound.student);
        ck_assert(
            kd_test_same_bits(faulty.loss->share, sound.loss->share, sizeof sound.loss->share));
        kd_test_assert_students_equal(s, faulty.student);
        kd_test_job_finish(&faulty);
        kd_test_job_finish(&sound);
    }
}

START_TEST(a_fault_of_one_rank_fails_the_step_of_all_and_leaves_no_trace)
{
    int more = _i;

    on_ranks(2, fail_once, &more);
}
END_TEST

/* Its objective refuses to run, while the others measure first norms for a share. */
static void fail_before_norms(kd_test_seat *s)
{
    kd_test_job job = kd_test_job_usual();
    kd_test_rig rig;
    kdas_batch *b;

    job.o.loss.share         = *(int *)s->user ? KDAS_SHARE_OFF : 0.2f;
    job.o.loss.feature       = "cosine";
    job.o.loss.feature_share = 0.5f;
    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    b = kd_test_job_batch(&job, s->ctx, s->rank, 2, 0);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    if (s->rank == 1) kd_assert_ok(kdas_model_backward(rig.student, NULL));
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_sentence("rank 1: backward comes after a forward, once");
    for (int i = 0; i < 2; i++)
        kd_assert_ok(kd_test_job_step(&job, &rig, s, i, NULL));
    kd_test_assert_students_equal(s, rig.student);
    kdas_batch_destroy(b);
    kd_test_job_finish(&rig);
}

START_TEST(a_rank_that_fails_before_the_first_norms_takes_part_in_their_vote)
{
    int feature_alone = _i;

    on_ranks(2, fail_before_norms, &feature_alone);
}
END_TEST

/* A gradient that is not finite on one rank is not finite on all. */
static void overflow(kd_test_seat *s)
{
    kd_test_job      job = kd_test_job_usual();
    kd_test_rig      rig;
    kdas_step_report r = { .size = sizeof r };
    float            huge[2 * 8 * 8 * 4];
    size_t           n;
    float           *before, *after;

    job.o.optim.loss_scale = 1024;
    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    kd_assert_ok(kdas_model_keep_tap(rig.student, "s4"));
    for (int i = 0; i < 2 * 8 * 8 * 4; i++)
        huge[i] = INFINITY;
    before = kd_test_weights(rig.student, &n);
    for (int i = 0; i < 2; i++) {
        kdas_batch *b = kd_test_job_batch(&job, s->ctx, s->rank, 2, i);

        kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
        if (i == 0 && s->rank == 1) kd_assert_ok(kdas_model_add_gradient(rig.student, "s4", huge));
        kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
        kd_assert_ok(kdas_distiller_update(rig.distiller, &r));
        ck_assert_int_eq(r.skipped, i == 0);
        after = kd_test_weights(rig.student, &n);
        ck_assert(kd_test_same_bits(before, after, n * sizeof *after) == (i == 0));
        free(after);
        kdas_batch_destroy(b);
    }
    ck_assert(kdas_optim_loss_scale(rig.optim) == 512);
    ck_assert_int_eq(kdas_optim_skipped(rig.optim), 1);
    kd_test_assert_students_equal(s, rig.student);
    free(before);
    kd_test_job_finish(&rig);
}

START_TEST(an_overflow_on_one_rank_skips_the_update_of_all) { on_ranks(2, overflow, NULL); }
END_TEST

/* ---- the order of phases ---- */

static void mix_up_phases(kd_test_seat *s)
{
    kd_test_job job = kd_test_job_usual();
    kd_test_rig rig;
    kdas_batch *b;

    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    b = kd_test_job_batch(&job, s->ctx, s->rank, 2, 0);
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_sentence("rank 0: an update comes after a backward");
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    if (s->rank == 1) kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_INFER, b));
    kd_assert_status(kdas_distiller_backward(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_sentence("rank 1: student 'small' has run since this forward");
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    if (s->rank == 0) kd_assert_ok(kdas_model_zero_gradients(rig.student));
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_ok(kd_test_job_step(&job, &rig, s, 1, NULL));
    kdas_batch_destroy(b);
    kd_test_job_finish(&rig);
}

START_TEST(phases_out_of_order_are_refused_on_all) { on_ranks(2, mix_up_phases, NULL); }
END_TEST

static void lose_count(kd_test_seat *s)
{
    kd_test_job job = kd_test_job_usual();
    kd_test_rig rig;

    job.o.distiller.accumulate = 2;
    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    kd_assert_ok(kd_test_job_step(&job, &rig, s, 0, NULL));
    if (s->rank == 0) kd_assert_ok(kdas_model_zero_gradients(rig.student));
    kd_assert_status(kd_test_job_step(&job, &rig, s, 1, NULL), KDAS_ESTATE);
    kd_assert_sentence("1 of 2 ranks are at the last micro-batch");
    kd_assert_ok(kdas_model_zero_gradients(rig.student));
    kd_assert_ok(kd_test_job_step(&job, &rig, s, 0, NULL));
    kd_assert_ok(kd_test_job_step(&job, &rig, s, 1, NULL));
    kd_test_assert_students_equal(s, rig.student);
    kd_test_job_finish(&rig);
}

START_TEST(ranks_at_different_micro_batches_are_refused) { on_ranks(2, lose_count, NULL); }
END_TEST

/* ---- an update on one rank alone ---- */

static void tear(kd_test_seat *s)
{
    kd_test_job job = kd_test_job_usual();
    kd_test_rig rig;
    kdas_batch *b;

    kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, s->ranks));
    b = kd_test_job_batch(&job, s->ctx, s->rank, 2, 0);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    if (s->rank == 1) kd_params_spoil_grads(rig.student->params); /* its optimizer refuses them */
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ESTATE);
    kd_assert_sentence("rank 1: optimizer: a backward has failed");
    ck_assert_int_eq(kdas_optim_updates(rig.optim), s->rank == 0);
    for (int i = 0; i < 2; i++) {
        kd_assert_status(kd_test_job_step(&job, &rig, s, 0, NULL), KDAS_ESTATE);
        kd_assert_sentence("so their students differ: load a checkpoint");
    }
    kdas_batch_destroy(b);
    kd_test_job_finish(&rig);
}

START_TEST(students_that_differ_are_not_trained_on) { on_ranks(2, tear, NULL); }
END_TEST

/* ---- memory ---- */

/* Every k-th allocation of rank 1 fails, alone or with all after it. */
static void run_out_of_memory(kd_test_seat *s)
{
    kd_test_job    job   = kd_test_job_usual();
    kd_test_meter *meter = s->ctx->alloc_user;
    bool           more  = *(int *)s->user;

    job.norms                = true;
    job.o.loss.feature       = "cosine";
    job.o.loss.feature_share = 0.5f;
    for (long k = 1, done = 0; !done; k += 1 + k / 9) {
        kd_test_rig            rig;
        kdas_distiller_options o = job.o.distiller;
        kdas_batch            *b = kd_test_job_batch(&job, s->ctx, s->rank, 2, 0);
        kdas_status            st;

        kd_assert_ok(kd_test_job_rig(&rig, &job, s->ctx, NULL)); /* its parts */
        kdas_distiller_destroy(rig.distiller);
        o.ranks = s->ranks;
        if (s->rank == 1) meter->fail_at = meter->taken + k;
        if (s->rank == 1 && !more) meter->fail_to = meter->fail_at;
        st = kdas_distiller_create(&rig.distiller, rig.teacher, rig.student, rig.loss, rig.optim,
                                   &o);
        if (st == KDAS_OK) st = kdas_distiller_step(rig.distiller, b, NULL);
        meter->fail_at = meter->fail_to = 0;
        assert_same_status(s, st);
        ck_assert(st == KDAS_OK || st == KDAS_ENOMEM);
        done = st == KDAS_OK;
        if (rig.distiller) {
            kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
            kd_test_assert_students_equal(s, rig.student);
        }
        kdas_batch_destroy(b);
        kd_test_job_finish(&rig);
    }
}

START_TEST(a_rank_without_memory_fails_all_and_none_waits)
{
    int more = _i;

    on_ranks(2, run_out_of_memory, &more);
}
END_TEST

/* ---- a rank is lost ---- */

enum { MOST = 6 };

typedef struct lost_run {
    kd_test_job job;
    long        calls[MOST + 1]; /* of the group: after the creation, and after each step */
} lost_run;

static void count_calls(kd_test_seat *s)
{
    lost_run   *t = s->user;
    kd_test_rig rig;

    kd_assert_ok(kd_test_job_rig(&rig, &t->job, s->ctx, s->ranks));
    if (s->rank == 0) t->calls[0] = kd_test_group_calls(s);
    for (int i = 0; i < MOST; i++) {
        kd_assert_ok(kd_test_job_step(&t->job, &rig, s, i, NULL));
        if (s->rank == 0) t->calls[i + 1] = kd_test_group_calls(s);
    }
    kd_test_job_finish(&rig);
}

/* The state of the last whole update: weights, statistics, count. */
typedef struct saved {
    float  *weights;
    size_t  count;
    int64_t updates;
} saved;

static void save(saved *to, const kd_test_rig *rig)
{
    free(to->weights);
    to->weights = kd_test_weights(rig->student, &to->count);
    to->updates = kdas_optim_updates(rig->optim);
}

static void step_until_lost(kd_test_seat *s)
{
    lost_run   *t = s->user;
    kd_test_rig rig;
    saved       last = { 0 }, now = { 0 };
    kdas_status st = kd_test_job_rig(&rig, &t->job, s->ctx, s->ranks);

    for (int i = 0; i < MOST && st == KDAS_OK; i++) {
        if (kd_distiller_accumulated(rig.distiller) == 0) save(&last, &rig);
        st = kd_test_job_step(&t->job, &rig, s, i, NULL);
    }
    ck_assert_msg(st == KDAS_EBACKEND, "status %d: %s", st, kdas_last_error());
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 1);
    if (rig.distiller) {
        save(&now, &rig);
        ck_assert(kd_test_same_bits(last.weights, now.weights, now.count * sizeof(float)));
        ck_assert_int_eq(now.updates, last.updates);
        ck_assert_int_eq(kd_distiller_accumulated(rig.distiller), 0);
        kd_assert_status(kd_test_job_step(&t->job, &rig, s, 0, NULL), KDAS_EBACKEND);
    }
    free(last.weights);
    free(now.weights);
    kd_test_job_finish(&rig);
}

/* At each call of the second and third step of two micro-batches each, and now and then before. */
START_TEST(a_lost_rank_leaves_the_others_at_their_last_update)
{
    lost_run              t = { .job = kd_test_job_usual() };
    kd_test_group_options o = kd_test_group_of(3);

    t.job.o.distiller.accumulate = 2;
    t.job.norms                  = true;
    t.job.images                 = 6;
    t.job.o.loss.share           = 0.3f;
    t.job.bucket                 = 0;
    kd_test_on_ranks(&o, count_calls, &t);
    ck_assert_int_gt(t.calls[2], t.calls[1]);
    o.lost    = 1;
    o.timeout = 0.1;
    for (long c = 7; c < t.calls[4]; c += c < t.calls[0] ? t.calls[0] / 4 : 1) {
        o.calls = (int)c;
        kd_test_on_ranks(&o, step_until_lost, &t);
    }
}
END_TEST

int main(void)
{
    Suite   *suite            = suite_create("ranks_faults");
    TCase   *differences_case = tcase_create("differences"), *faults = tcase_create("faults");
    SRunner *runner;
    int      failed;

    tcase_add_test(differences_case, ranks_that_differ_are_refused_on_all);
    tcase_add_test(differences_case, other_teachers_are_refused_on_all);
    tcase_add_test(differences_case, a_group_of_one_is_alone);
    suite_add_tcase(suite, differences_case);

    tcase_add_loop_test(faults, a_fault_of_one_rank_fails_the_step_of_all_and_leaves_no_trace, 0,
                        2);
    tcase_add_loop_test(faults, a_rank_that_fails_before_the_first_norms_takes_part_in_their_vote,
                        0, 2);
    tcase_add_test(faults, an_overflow_on_one_rank_skips_the_update_of_all);
    tcase_add_test(faults, phases_out_of_order_are_refused_on_all);
    tcase_add_test(faults, ranks_at_different_micro_batches_are_refused);
    tcase_add_test(faults, students_that_differ_are_not_trained_on);
    tcase_add_loop_test(faults, a_rank_without_memory_fails_all_and_none_waits, 0, 2);
    tcase_add_test(faults, a_lost_rank_leaves_the_others_at_their_last_update);
    suite_add_tcase(suite, faults);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
