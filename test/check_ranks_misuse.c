/* check_ranks_misuse.c - hosts whose ranks do not make the same calls, or one of which makes them wrongly: all ranks are told, at
 * once, and can go on. */
#include <check.h>
#include <kdas/kdas.h>
#include <stdlib.h>
#include "base/base.h"
#include "base/context.h"
#include "support/check_util.h"
#include "support/ranks_rig.h"

/* What a rank has. */
typedef struct parts {
    kd_test_job     job;
    kd_test_rig     rig;
    kdas_batch     *batch;
    kdas_dataset   *frames;
    kdas_loader    *loader;
    kdas_evaluator *evaluator;
} parts;

static void make(parts *p, kd_test_seat *s, int32_t accumulate)
{
    kdas_scene_options  scenes;
    kdas_loader_options o;

    p->job                        = kd_test_job_usual();
    p->job.o.distiller.accumulate = accumulate;
    kd_assert_ok(kd_test_job_rig(&p->rig, &p->job, s->ctx, s->ranks));
    p->batch = kd_test_job_batch(&p->job, s->ctx, s->rank, 2, 0);
    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 4;
    scenes.width = scenes.height = 32;
    kd_assert_ok(kdas_dataset_synthetic(&p->frames, s->ctx, &scenes));
    kdas_loader_options_init(&o, sizeof o);
    o.batch  = 1;
    o.height = o.width = 32;
    o.workers          = 0; /* what a worker could not do would be told in a later call */
    o.ranks            = s->ranks;
    kd_assert_ok(kdas_loader_create(&p->loader, p->frames, &o));
    kd_assert_ok(kdas_evaluator_create(&p->evaluator, s->ctx));
    kd_assert_ok(kdas_evaluator_share(p->evaluator, s->ranks));
}

/* The ranks understand each other as before. */
static void finish(parts *p, kd_test_seat *s)
{
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 0);
    kd_assert_ok(kdas_ranks_barrier(s->ranks));
    kdas_evaluator_destroy(p->evaluator);
    kdas_loader_destroy(p->loader);
    kdas_dataset_destroy(p->frames);
    kdas_batch_destroy(p->batch);
    kd_test_job_finish(&p->rig);
}

static void on_two(void (*fn)(kd_test_seat *seat))
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, fn, NULL);
}

/* ---- different calls ---- */

static void part_ways(kd_test_seat *s)
{
    parts           p;
    kdas_distiller *d;
    bool            odd = s->rank == 1;

    make(&p, s, 1);
    d = p.rig.distiller;
    kd_assert_status(odd ? kdas_evaluate(p.evaluator, p.rig.student, p.frames, 32, 32, 0)
                         : kdas_distiller_step(d, p.batch, NULL),
                     KDAS_ESTATE);
    kd_assert_sentence("rank 1 is at an evaluation, and rank 0 at a step or forward");
    kd_assert_status(odd ? kdas_train(d, p.loader, NULL, NULL)
                         : kdas_distiller_step(d, p.batch, NULL),
                     KDAS_ESTATE);
    kd_assert_sentence("rank 1 is at kdas_train(), and rank 0 at a step or forward");
    kd_assert_ok(kdas_distiller_forward(d, p.batch));
    kd_assert_ok(kdas_distiller_backward(d, NULL));
    kd_assert_status(odd ? kdas_distiller_forward(d, p.batch) : kdas_distiller_update(d, NULL),
                     KDAS_ESTATE);
    kd_assert_sentence("rank 1 is at a step or forward of a distiller, and rank 0 at an update");
    kd_assert_ok(kdas_model_zero_gradients(p.rig.student));
    kd_assert_status(odd ? kdas_distiller_gather(d) : kdas_ranks_barrier(s->ranks), KDAS_ESTATE);
    kd_assert_sentence("rank 1 is at kdas_distiller_gather(), and rank 0 at kdas_ranks_barrier()");
    kd_assert_ok(kdas_distiller_step(d, p.batch, NULL));
    kd_test_assert_students_equal(s, p.rig.student);
    finish(&p, s);
}

START_TEST(different_calls_are_refused_on_all) { on_two(part_ways); }
END_TEST

/* Gradients wait on one rank alone. */
static void gather_alone(kd_test_seat *s)
{
    parts p;

    make(&p, s, 2);
    kd_assert_ok(kdas_distiller_gather(p.rig.distiller));
    kd_assert_ok(kdas_distiller_step(p.rig.distiller, p.batch, NULL));
    if (s->rank == 1) kd_assert_ok(kdas_model_zero_gradients(p.rig.student));
    kd_assert_status(kdas_distiller_gather(p.rig.distiller), KDAS_ESTATE);
    kd_assert_sentence("micro-batches wait for an update on 1 of 2 ranks");
    kd_assert_ok(kdas_model_zero_gradients(p.rig.student));
    for (int i = 0; i < 2; i++)
        kd_assert_ok(kdas_distiller_step(p.rig.distiller, p.batch, NULL));
    kd_test_assert_students_equal(s, p.rig.student);
    finish(&p, s);
}

START_TEST(a_gather_of_what_waits_on_one_rank_is_refused) { on_two(gather_alone); }
END_TEST

/* ---- wrong calls of one rank ---- */

static void create_wrongly(kd_test_seat *s)
{
    kdas_distiller_options o;
    kdas_distiller        *d;
    kdas_context          *other = kd_test_device("cpu", NULL);
    kdas_model            *apart;
    kd_test_rig           *rig;
    parts                  p;
    bool                   bad = s->rank == 1;

    make(&p, s, 1);
    rig = &p.rig;
    kd_assert_ok(kdas_model_create(&apart, other, "lite_fpn0", NULL));
    kdas_distiller_options_init(&o, sizeof o);
    o.ranks = s->ranks;
    kd_assert_status(kdas_distiller_create(&d, rig->teacher, bad ? NULL : rig->student, rig->loss,
                                           rig->optim, &o),
                     KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_distiller_create: student, loss or optim is NULL");
    ck_assert_ptr_null(d);
    kd_assert_status(kdas_distiller_create(&d, rig->teacher, bad ? apart : rig->student, rig->loss,
                                           rig->optim, &o),
                     KDAS_EINVAL);
    kd_assert_sentence("rank 1: distiller: ranks are of another context");
    kd_assert_status(kdas_distiller_create(bad ? NULL : &d, rig->teacher, rig->student, rig->loss,
                                           rig->optim, &o),
                     KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_distiller_create: out is NULL");
    kdas_model_destroy(apart);
    kdas_context_destroy(other);
    finish(&p, s);
}

START_TEST(a_wrong_create_of_one_rank_is_refused_on_all) { on_two(create_wrongly); }
END_TEST

static void train_wrongly(kd_test_seat *s)
{
    kdas_train_options  o;
    kdas_loader_options lo;
    kdas_loader        *alone;
    parts               p;
    bool                bad = s->rank == 1;

    make(&p, s, 1);
    kdas_train_options_init(&o, sizeof o);
    o.epochs = 1;
    kd_assert_status(kdas_train(p.rig.distiller, bad ? NULL : p.loader, NULL, &o), KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_train: the loader is NULL");
    o.size = bad ? 3 : sizeof o;
    kd_assert_status(kdas_train(p.rig.distiller, p.loader, NULL, &o), KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_train_options: size is 3");
    o.size   = sizeof o;
    o.epochs = bad ? 0 : 1;
    kd_assert_status(kdas_train(p.rig.distiller, p.loader, NULL, &o), KDAS_EINVAL);
    kd_assert_sentence("rank 1: train: epochs is 0");
    o.epochs = 1;
    kdas_loader_options_init(&lo, sizeof lo);
    lo.batch  = 1;
    lo.height = lo.width = 32;
    kd_assert_ok(kdas_loader_create(&alone, p.frames, &lo));
    kd_assert_status(kdas_train(p.rig.distiller, bad ? alone : p.loader, NULL, &o), KDAS_EINVAL);
    kd_assert_sentence("rank 1: train: the loader's ranks are not those of the distiller");
    kdas_loader_destroy(alone);
    kd_assert_ok(kdas_train(p.rig.distiller, p.loader, NULL, &o));
    kd_test_assert_students_equal(s, p.rig.student);
    finish(&p, s);
}

START_TEST(a_wrong_run_of_one_rank_is_refused_on_all) { on_two(train_wrongly); }
END_TEST

static void evaluate_wrongly(kd_test_seat *s)
{
    static const uint8_t map[64];
    const kdas_view      view = { (uint8_t *)map, 8, 8, 0, KDAS_PIXEL_GREY8 };
    parts                p;
    double               loss;
    bool                 bad = s->rank == 1;

    make(&p, s, 1);
    kd_assert_status(kdas_evaluate(p.evaluator, bad ? NULL : p.rig.student, p.frames, 32, 32, 0),
                     KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_evaluate: evaluator, model or dataset is NULL");
    kd_assert_status(kdas_evaluate(p.evaluator, p.rig.student, p.frames, 32, 32, bad ? -1 : 0),
                     KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_evaluate: limit is -1");
    kd_assert_status(kdas_evaluate_loss(p.evaluator, p.rig.student, p.frames, 32, 32, 0, p.rig.loss,
                                        bad ? NULL : &loss),
                     KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_evaluate_loss: loss or mean_loss is NULL");
    kd_assert_status(kdas_evaluate_predictions(p.evaluator, bad ? NULL : p.frames, 0), KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_evaluate_predictions: evaluator or dataset is NULL");
    if (bad) kd_assert_ok(kdas_evaluator_add(p.evaluator, "own", &view, &view));
    kd_assert_status(kdas_evaluate(p.evaluator, p.rig.student, p.frames, 32, 32, 0), KDAS_ESTATE);
    kd_assert_sentence("rank 1: 1 images of the evaluator are this rank's alone");
    ck_assert_int_eq(kdas_evaluator_count(p.evaluator), bad);
    kd_assert_ok(kdas_evaluator_gather(p.evaluator));
    kd_assert_ok(kdas_evaluate(p.evaluator, p.rig.student, p.frames, 32, 32, 0));
    ck_assert_int_eq(kdas_evaluator_count(p.evaluator), 5);
    finish(&p, s);
}

START_TEST(a_wrong_evaluation_of_one_rank_is_refused_on_all) { on_two(evaluate_wrongly); }
END_TEST

/* ---- memory ---- */

/* A short run, or an evaluation, in which allocation k of rank 1 fails, alone or with all after it. Collective: the same status. */
static kdas_status try_without(parts *p, kd_test_seat *s, long k, bool more, bool run)
{
    kd_test_meter     *meter = s->ctx->alloc_user;
    kdas_train_options o;
    kdas_status        st;
    double             sum;

    kdas_train_options_init(&o, sizeof o);
    o.epochs    = 1;
    o.max_steps = 2;
    if (s->rank == 1) meter->fail_at = meter->taken + k;
    if (s->rank == 1 && !more) meter->fail_to = meter->fail_at;
    st             = run ? kdas_train(p->rig.distiller, p->loader, p->frames, &o)
                         : kdas_evaluate(p->evaluator, p->rig.student, p->frames, 32, 32, 0);
    meter->fail_at = meter->fail_to = 0;
    sum                             = st;
    kd_assert_ok(kdas_ranks_sum(s->ranks, &sum, 1));
    ck_assert_msg(sum == 2.0 * st, "rank %d has status %d: %s", s->rank, st, kdas_last_error());
    ck_assert_msg(st == KDAS_OK || st == KDAS_ENOMEM, "%d: %s", st, kdas_last_error());
    return st;
}

static void run_out_of_memory(kd_test_seat *s)
{
    int   kind = *(int *)s->user;
    parts p;

    for (long k = 1, done = 0; !done; k += 1 + k / 6) {
        make(&p, s, 1);
        done = try_without(&p, s, k, kind & 1, kind & 2) == KDAS_OK;
        ck_assert_int_eq(kdas_evaluator_count(p.evaluator), done && !(kind & 2) ? 4 : 0);
        kd_assert_ok(try_without(&p, s, 1 << 30, false, kind & 2));
        kd_test_assert_students_equal(s, p.rig.student);
        finish(&p, s);
    }
}

START_TEST(a_rank_without_memory_ends_a_run_or_an_evaluation_of_all)
{
    kd_test_group_options o    = kd_test_group_of(2);
    int                   kind = _i;

    kd_test_on_ranks(&o, run_out_of_memory, &kind);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("ranks_misuse");
    TCase   *calls = tcase_create("calls"), *memory = tcase_create("memory");
    SRunner *runner;
    int      failed;

    tcase_add_test(calls, different_calls_are_refused_on_all);
    tcase_add_test(calls, a_gather_of_what_waits_on_one_rank_is_refused);
    tcase_add_test(calls, a_wrong_create_of_one_rank_is_refused_on_all);
    tcase_add_test(calls, a_wrong_run_of_one_rank_is_refused_on_all);
    tcase_add_test(calls, a_wrong_evaluation_of_one_rank_is_refused_on_all);
    suite_add_tcase(suite, calls);
    tcase_add_loop_test(memory, a_rank_without_memory_ends_a_run_or_an_evaluation_of_all, 0, 4);
    suite_add_tcase(suite, memory);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
