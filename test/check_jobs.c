/* check_jobs.c - the threads of a context at work: every part of a job runs once, on whichever thread; bits do not depend
 * on that; threads sleep and wake; jobs inside of jobs, of several host threads, and in a forked child. */
#define _GNU_SOURCE
#include <check.h>
#include <kdas/kdas.h>
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xmmintrin.h>
#include "base/context.h"
#include "base/cores.h"
#include "base/parallel.h"
#include "base/process.h"
#include "base/regions.h"
#include "support/check_util.h"
#include "support/child.h"

static void *host_alloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}
static void host_free(void *user, void *memory)
{
    (void)user;
    free(memory);
}

static kdas_context host = { .alloc = host_alloc, .free = host_free };

static kd_team *make_team(int32_t threads, int32_t wait)
{
    kd_team *team;

    kd_assert_ok(kd_process_watch());
    kd_assert_ok(kd_team_create(&team, &host, threads, wait));
    kd_team_start(team);
    ck_assert_int_eq(kd_team_made(team), threads - 1);
    return team;
}

/* ---- parts ---- */

enum { MOST = 64 };
static atomic_int ran[MOST];

static void count_part(void *job, int part)
{
    (void)job;
    atomic_fetch_add(&ran[part], 1);
}

static const int32_t waits[] = { KDAS_WAIT_AUTO, KDAS_WAIT_SPIN, KDAS_WAIT_SLEEP };

START_TEST(every_part_runs_once)
{
    for (int32_t threads = 2; threads <= 5; threads++) {
        kd_team *team = make_team(threads, waits[_i]);

        for (int n = 0; n < 2000; n++) {
            int parts = n % (KD_TEAM_PARTS * threads + 1);

            kd_team_shuffle(team, (uint64_t)(n / 100));
            memset(ran, 0, sizeof ran);
            kd_team_run(team, parts, count_part, NULL);
            for (int i = 0; i < MOST; i++)
                ck_assert_int_eq(atomic_load(&ran[i]), i < parts);
        }
        kd_team_destroy(team);
    }
}
END_TEST

/* A part that waits until as many run at once, each on a thread of its own. */
static atomic_int arrived;

static void meet(void *job, int part)
{
    const int *parts = job;

    (void)part;
    atomic_fetch_add(&arrived, 1);
    for (int i = 0; atomic_load(&arrived) % *parts != 0 && i < 100000; i++)
        usleep(100);
}

static void wait_until_all_sleep(const kd_team *team)
{
    for (int i = 0; kd_team_sleeping(team) < kd_team_made(team) && i < 100000; i++)
        usleep(100);
    ck_assert_int_eq(kd_team_sleeping(team), kd_team_made(team));
}

START_TEST(threads_sleep_after_a_while_and_wake_for_work)
{
    kd_team *team  = make_team(4, waits[_i]);
    int      parts = 4;

    for (int n = 1; n <= 20; n++) {
        if (n % 4 == 0) wait_until_all_sleep(team);
        kd_team_run(team, parts, meet, &parts);
        ck_assert_int_eq(atomic_load(&arrived), 4 * n); /* all four at once */
    }
    wait_until_all_sleep(team);
    kd_team_destroy(team); /* they are woken to end */
}
END_TEST

static pthread_t thread_of[8];

static void note_thread(void *job, int thread)
{
    ck_assert(!*(bool *)job || pthread_equal(thread_of[thread], pthread_self()));
    thread_of[thread] = pthread_self();
    atomic_fetch_add(&ran[thread], 1);
}

START_TEST(what_is_for_threads_runs_once_on_each)
{
    kd_team *team  = make_team(5, waits[_i]);
    bool     known = false;

    for (int n = 1; n <= 200; n++) {
        kd_team_each(team, note_thread, &known);
        known = true;
        for (int i = 0; i < 5; i++)
            ck_assert_int_eq(atomic_load(&ran[i]), n);
        ck_assert(pthread_equal(thread_of[0], pthread_self()));
        if (n % 50 == 0) wait_until_all_sleep(team);
        kd_team_run(team, n % 20, meet, &(int){ 1 }); /* other jobs in between */
    }
    kd_team_each(NULL, note_thread, &known);
    ck_assert_int_eq(atomic_load(&ran[0]), 201);
    kd_team_destroy(team);
}
END_TEST

/* ---- inside of parts ---- */

static kd_team *outer;

static void run_inside(void *job, int part)
{
    int sum = 0;

    (void)part;
    ck_assert_int_eq(kd_team_parts(), 1);
    kd_team_run(outer, 3, count_part, NULL);
    kd_team_do(2, count_part, NULL);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < 10; i++)
        sum += i + omp_get_num_threads(); /* by one thread: 1 */
    atomic_fetch_add((atomic_int *)job, sum);
}

START_TEST(jobs_inside_of_parts_run_at_once)
{
    atomic_int sum = 0;

    outer = make_team(3, KDAS_WAIT_AUTO);
    kd_team_use(outer);
    for (int n = 1; n <= 100; n++) {
        kd_team_run(outer, 3, run_inside, &sum);
        ck_assert_int_eq(atomic_load(&sum), 3 * 55 * n);
        ck_assert_int_eq(atomic_load(&ran[0]), 6 * n);
        ck_assert_int_eq(atomic_load(&ran[1]), 6 * n);
        ck_assert_int_eq(atomic_load(&ran[2]), 3 * n);
    }
    kd_team_destroy(outer);
    ck_assert_int_eq(kd_team_parts(), 1); /* it is used no more */
}
END_TEST

/* ---- regions of kernels ---- */

START_TEST(regions_run_on_the_team_in_use)
{
    enum { N = 1000 };
    static int part_of[N];
    kd_team   *team = make_team(4, KDAS_WAIT_AUTO);

    for (int used = 0; used < 2; used++) {
        kd_team_use(used ? team : NULL);
        kd_team_shuffle(team, 5);
#pragma omp parallel for schedule(static)
        for (int i = 0; i < N; i++)
            part_of[i] = omp_get_thread_num() * 100 + omp_get_num_threads();
        for (int i = 0; i < N; i++)
            ck_assert_int_eq(part_of[i], used ? i / (N / 4) * 100 + 4 : 1);
#pragma omp parallel for schedule(static) if (used > 1)
        for (int i = 0; i < N; i++)
            part_of[i] = omp_get_num_threads();
        ck_assert_int_eq(part_of[N - 1], 1);
    }
    kd_team_destroy(team);
    ck_assert_int_eq(omp_get_num_threads(), 1);
}
END_TEST

/* ---- what threads of a team are like ---- */

typedef struct look {
    unsigned   csr;
    pthread_t  caller;
    atomic_int wrong, others;
} look;

static void look_around(void *job, int part)
{
    look    *l = job;
    sigset_t blocked;
    int      three = 3;

    if (_mm_getcsr() != l->csr) atomic_fetch_add(&l->wrong, 1);
    meet(&three, part);
    if (pthread_equal(pthread_self(), l->caller)) return;
    atomic_fetch_add(&l->others, 1);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (!sigismember(&blocked, SIGINT) || !sigismember(&blocked, SIGTERM) ||
        omp_get_max_threads() != 1)
        atomic_fetch_add(&l->wrong, 1);
}

/* Otherwise bits would depend on the thread. */
START_TEST(parts_round_as_the_caller_does_and_get_no_signals)
{
    kd_team *team  = make_team(3, KDAS_WAIT_AUTO);
    unsigned usual = _mm_getcsr();
    look     l     = { .caller = pthread_self() };

    for (int n = 0; n < 20; n++) {
        _mm_setcsr(n % 2 ? usual : (usual | _MM_FLUSH_ZERO_ON | _MM_ROUND_DOWN));
        l.csr = _mm_getcsr();
        kd_team_run(team, 3, look_around, &l);
        ck_assert_uint_eq(_mm_getcsr(), l.csr);
    }
    _mm_setcsr(usual);
    ck_assert_int_eq(atomic_load(&l.wrong), 0);
    ck_assert_int_eq(atomic_load(&l.others), 40);
    kd_team_destroy(team);
}
END_TEST

/* ---- several host threads ---- */

typedef struct user {
    kd_team *team;
    int64_t  sums[4];
    bool     wrong;
} user;

static void add_up(void *job, int part)
{
    user *u = job;

    for (int i = 0; i < 100; i++)
        u->sums[part] += i;
}

static void *use_team(void *what)
{
    user *u = what;

    for (int n = 1; n <= 3000; n++) {
        kd_team_run(u->team, 4, add_up, u);
        for (int i = 0; i < 4; i++)
            u->wrong = u->wrong || u->sums[i] != (int64_t)n * 4950;
    }
    return NULL;
}

/* _i 0: each has a team of its own; 1: they share one, which works for one of them at a time. */
START_TEST(host_threads_do_not_disturb_each_other)
{
    kd_team  *team = make_team(4, KDAS_WAIT_AUTO);
    user      u[3] = { 0 };
    pthread_t thread[3];

    for (int i = 0; i < 3; i++) {
        u[i].team = _i ? team : make_team(4, waits[i]);
        ck_assert_int_eq(pthread_create(&thread[i], NULL, use_team, &u[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(thread[i], NULL);
        ck_assert(!u[i].wrong);
        if (!_i) kd_team_destroy(u[i].team);
    }
    kd_team_destroy(team);
}
END_TEST

/* ---- forks ---- */

#ifdef __SANITIZE_THREAD__
static const bool can_make_threads = false; /* in a forked child: the sanitizer ends it */
#else
static const bool can_make_threads = true;
#endif

static int run_in_child(void *what)
{
    kd_team *team = what, *own;

    memset(ran, 0, sizeof ran);
    kd_team_start(team);
    kd_team_run(team, 4, count_part, NULL);
    for (int i = 0; i < 4; i++)
        kd_child_assert(atomic_load(&ran[i]) == 1);
    if (can_make_threads) {
        kd_child_assert_status(kd_team_create(&own, &host, 4, KDAS_WAIT_AUTO), KDAS_OK);
        kd_team_start(own);
        kd_child_assert(kd_team_made(own) == 3);
        kd_team_run(own, 4, count_part, NULL);
        kd_child_assert(atomic_load(&ran[3]) == 2);
        kd_team_destroy(own);
    }
    kd_team_destroy(team);
    return 0;
}

START_TEST(in_a_forked_child_the_caller_does_all_parts)
{
    kd_team *team  = make_team(4, waits[_i]);
    int      parts = 4;

    kd_team_run(team, 4, count_part, NULL);
    kd_test_in_child(run_in_child, team);
    wait_until_all_sleep(team);
    kd_test_in_child(run_in_child, team);
    kd_team_run(team, parts, meet, &parts); /* the parent goes on with all threads */
    ck_assert_int_eq(atomic_load(&arrived), 4);
    kd_team_destroy(team);
}
END_TEST

/* ---- networks ---- */

static kdas_context *make_context(int32_t threads, int32_t wait)
{
    kdas_context_options o;
    kdas_context        *ctx;

    kdas_context_options_init(&o, sizeof o);
    o.threads = threads;
    o.wait    = wait;
    kd_assert_ok(kdas_context_create(&ctx, &o));
    return ctx;
}

/* Outputs and gradients of a network with all kinds of kernels, as one number. */
static uint64_t train_hash(kdas_context *ctx, const char *name)
{
    enum { N = 3, SIDE = 64 };
    kdas_model *model;
    kdas_batch *batch;
    float      *ones = malloc(N * SIDE * SIDE * sizeof *ones), *values;
    uint64_t    h    = 0;

    kd_assert_ok(kdas_model_create(&model, ctx, name, NULL));
    kd_assert_ok(kdas_batch_create(&batch, ctx, N, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(batch), N * SIDE * SIDE * 3, "image", 1, 0);
    for (int i = 0; i < N * SIDE * SIDE; i++)
        ones[i] = 1;
    kd_assert_ok(kdas_model_forward(model, KDAS_MODE_TRAIN, batch));
    for (int32_t i = 0; i < kdas_model_outputs(model); i++)
        kd_assert_ok(kdas_model_add_gradient(model, kdas_model_output(model, i, NULL), ones));
    kd_assert_ok(kdas_model_backward(model, NULL));
    for (int32_t i = 0; i < kdas_model_tensors(model); i++) {
        int64_t dims[4], count = 1;
        int32_t rank;

        ck_assert_ptr_nonnull(kdas_model_tensor(model, i, &rank, dims, NULL));
        for (int k = 0; k < rank; k++)
            count *= dims[k];
        values = calloc((size_t)count, sizeof *values);
        if (kdas_model_read_gradient(model, i, values) == KDAS_OK) /* statistics have none */
            h = kd_mix64(h ^ kd_hash_bytes(values, (size_t)count * sizeof *values));
        free(values);
    }
    kdas_batch_destroy(batch);
    kdas_model_destroy(model);
    free(ones);
    return h;
}

static const char *const networks[] = { "polyp_pvt_b0", "unet", "lite_fpn0" };

START_TEST(bits_do_not_depend_on_the_order_of_parts)
{
    kdas_context *ctx  = make_context(3, KDAS_WAIT_AUTO);
    uint64_t      want = train_hash(ctx, networks[_i]);

    for (uint64_t seed = 1; seed < 4; seed++) {
        kd_team_shuffle(ctx->team, seed);
        ck_assert_uint_eq(train_hash(ctx, networks[_i]), want);
    }
    kdas_context_destroy(ctx);
    for (size_t i = 1; i < KD_COUNT(waits); i++) {
        ctx = make_context(3, waits[i]);
        ck_assert_uint_eq(train_hash(ctx, networks[_i]), want);
        kdas_context_destroy(ctx);
    }
}
END_TEST

typedef struct camera {
    uint64_t hash;
} camera;

static void *train_alone(void *what)
{
    kdas_context *ctx = make_context(2, KDAS_WAIT_AUTO);

    ((camera *)what)->hash = train_hash(ctx, "polyp_pvt_b0");
    kdas_context_destroy(ctx);
    return NULL;
}

START_TEST(contexts_of_several_threads_compute_at_once)
{
    camera    c[3];
    pthread_t thread[3];

    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, train_alone, &c[i]), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    ck_assert_uint_eq(c[1].hash, c[0].hash);
    ck_assert_uint_eq(c[2].hash, c[0].hash);
}
END_TEST

START_TEST(the_hosts_openmp_is_as_it_was)
{
    kdas_context *ctx = make_context(2, KDAS_WAIT_AUTO);

    omp_set_num_threads(5);
    train_hash(ctx, "lite_fpn0");
    ck_assert_int_eq(omp_get_max_threads(), 5);
    kdas_context_destroy(ctx);
}
END_TEST

static const struct {
    const char *policy; /* NULL: it is not set */
    int32_t     wait;
    int64_t     least, most; /* nanoseconds that threads look */
} policies[] = {
    { NULL, KDAS_WAIT_SLEEP, 0, 0 },
    { NULL, KDAS_WAIT_SPIN, 10000000, 100000000 },
    { "passive", KDAS_WAIT_AUTO, 0, 0 },
    { "PASSIVE", KDAS_WAIT_AUTO, 0, 0 },
    { "passive", KDAS_WAIT_SPIN, 10000000, 100000000 },
    { "active", KDAS_WAIT_SLEEP, 0, 0 },
    { "ACTIVE", KDAS_WAIT_AUTO, 10000000, 100000000 },
    { "passively", KDAS_WAIT_AUTO, 0, 1000000 },
};

START_TEST(the_option_wins_over_openmps_policy)
{
    kd_team *team;

    unsetenv("OMP_WAIT_POLICY");
    if (policies[_i].policy) setenv("OMP_WAIT_POLICY", policies[_i].policy, 1);
    team = make_team(2, policies[_i].wait);
    ck_assert_int_ge(kd_team_spin(team), policies[_i].least);
    ck_assert_int_le(kd_team_spin(team), policies[_i].most);
    kd_team_destroy(team);
}
END_TEST

START_TEST(more_threads_than_processors_sleep_at_once)
{
    kd_team *few, *many;
    int64_t  cpus = kd_affinity_cpus();

    if (cpus > 500) return;
    unsetenv("OMP_WAIT_POLICY");
    many = make_team((int32_t)cpus + 1, KDAS_WAIT_AUTO);
    ck_assert_int_eq(kd_team_spin(many), 0);
    kd_team_destroy(many);
    if (cpus < 2) return;
    few = make_team((int32_t)cpus, KDAS_WAIT_AUTO);
    ck_assert_int_gt(kd_team_spin(few), 0);
    kd_team_destroy(few);
}
END_TEST

START_TEST(a_way_to_wait_that_there_is_not_is_refused)
{
    kdas_context_options o;
    kdas_context        *ctx;

    kdas_context_options_init(&o, sizeof o);
    ck_assert_int_eq(o.wait, KDAS_WAIT_AUTO);
    o.wait = _i ? 3 : -1;
    kd_assert_status(kdas_context_create(&ctx, &o), KDAS_EINVAL);
    ck_assert_ptr_nonnull(strstr(kdas_last_error(), "wait"));
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("jobs");
    TCase   *jobs = tcase_create("jobs"), *nets = tcase_create("networks");
    SRunner *runner;
    int      failed;

    tcase_add_loop_test(jobs, every_part_runs_once, 0, 3);
    tcase_add_loop_test(jobs, threads_sleep_after_a_while_and_wake_for_work, 0, 3);
    tcase_add_loop_test(jobs, what_is_for_threads_runs_once_on_each, 0, 3);
    tcase_add_test(jobs, jobs_inside_of_parts_run_at_once);
    tcase_add_test(jobs, regions_run_on_the_team_in_use);
    tcase_add_test(jobs, parts_round_as_the_caller_does_and_get_no_signals);
    tcase_add_loop_test(jobs, host_threads_do_not_disturb_each_other, 0, 2);
    tcase_add_loop_test(jobs, in_a_forked_child_the_caller_does_all_parts, 0, 3);
    suite_add_tcase(suite, jobs);
    tcase_add_loop_test(nets, bits_do_not_depend_on_the_order_of_parts, 0, KD_COUNT(networks));
    tcase_add_test(nets, contexts_of_several_threads_compute_at_once);
    tcase_add_test(nets, the_hosts_openmp_is_as_it_was);
    tcase_add_loop_test(jobs, the_option_wins_over_openmps_policy, 0, KD_COUNT(policies));
    tcase_add_test(jobs, more_threads_than_processors_sleep_at_once);
    tcase_add_loop_test(nets, a_way_to_wait_that_there_is_not_is_refused, 0, 2);
    suite_add_tcase(suite, nets);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
