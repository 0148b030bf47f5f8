/* check_team.c - the compute threads of a context: made once, by the first work, and no others beside them; where the
 * system refuses threads, those that exist do the work, with the same bits, and loaders make do. pthread_create is the
 * test's own here and counts; one test asks the system itself for limits. */
#define _GNU_SOURCE
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <kdas/kdas.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/context.h"
#include "base/parallel.h"
#include "support/check_util.h"
#include "support/child.h"
#include "support/run_util.h"

/* ---- pthread_create with a limit ---- */

static atomic_int alive, created;
static atomic_int most = 1 << 20; /* threads beside the first one at a time */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LIMITED = 0 }; /* that function is the sanitizer's */
#else
enum { LIMITED = 1 };

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef struct task {
    void *(*run)(void *);
    void *argument;
} task;

static void *run_task(void *what)
{
    task  t = *(task *)what;
    void *result;

    free(what);
    result = t.run(t.argument);
    atomic_fetch_sub(&alive, 1);
    return result;
}

__attribute__((visibility("default"))) /* the libraries below find it, too */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                   void *argument)
{
    static create_fn real;
    task            *t;
    int              error;

    if (!real) real = (create_fn)dlsym(RTLD_NEXT, "pthread_create");
    if (atomic_load(&alive) >= atomic_load(&most)) return EAGAIN;
    t = malloc(sizeof *t);
    if (!t) return EAGAIN;
    *t = (task){ run, argument };
    atomic_fetch_add(&alive, 1);
    atomic_fetch_add(&created, 1);
    error = real(thread, attr, run_task, t);
    if (error) {
        free(t);
        atomic_fetch_sub(&alive, 1);
    }
    return error;
}
#endif

/* Prints the line of a test that is passed over. */
static bool can_limit(void)
{
    if (!LIMITED) printf("SKIP: pthread_create is the sanitizer's\n");
    return LIMITED;
}

/* ---- contexts ---- */

static char last_line[512];

static void keep_line(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    if (level == KDAS_LOG_WARN) snprintf(last_line, sizeof last_line, "%s", text);
}

static kdas_context *make_context(int32_t threads)
{
    kdas_context_options o;
    kdas_context        *ctx;

    last_line[0] = 0;
    kdas_context_options_init(&o, sizeof o);
    o.threads = threads;
    o.log     = keep_line;
    kd_assert_ok(kdas_context_create(&ctx, &o));
    return ctx;
}

/* A network's forward, which runs convolutions, products and all kinds of own kernels. */
typedef struct net {
    kdas_model *model;
    kdas_batch *batch;
} net;

static net make_net(kdas_context *ctx)
{
    net n;

    kd_assert_ok(kdas_model_create(&n.model, ctx, "pvt_v2_b0", NULL));
    kd_assert_ok(kdas_batch_create(&n.batch, ctx, 2, 64, 64));
    kd_test_fill(kdas_batch_images(n.batch), 2 * 64 * 64 * 3, "image", 1, 0);
    return n;
}

static kdas_status run_net(const net *n)
{
    return kdas_model_forward(n->model, KDAS_MODE_TRAIN, n->batch);
}

static void finish_net(net *n)
{
    kdas_batch_destroy(n->batch);
    kdas_model_destroy(n->model);
}

static const struct {
    int     most;
    int32_t asked;
    int     made;
} limits[] = { { 0, 4, 0 }, { 1, 4, 1 }, { 2, 4, 2 }, { 3, 4, 3 }, { 0, 1, 0 }, { 2, 1024, 2 } };

static int made_of(const kdas_context *ctx) { return ctx->team ? kd_team_made(ctx->team) : 0; }

START_TEST(a_context_computes_with_the_threads_that_can_be_made)
{
    kdas_context *ctx;
    net           n;

    if (!can_limit()) return;
    atomic_store(&most, limits[_i].most);
    ctx = make_context(limits[_i].asked);
    ck_assert_int_eq(kdas_context_threads(ctx), limits[_i].asked);
    n = make_net(ctx);
    kd_assert_ok(run_net(&n));
    ck_assert_int_eq(made_of(ctx), limits[_i].made);
    if (limits[_i].made == limits[_i].asked - 1)
        ck_assert_str_eq(last_line, "");
    else
        ck_assert_ptr_nonnull(strstr(last_line, "compute threads can be had"));
    finish_net(&n);
    kdas_context_destroy(ctx);
    ck_assert_int_eq(atomic_load(&alive), 0);
}
END_TEST

static uint64_t output_hash(const net *n)
{
    static float map[2 * 64 * 64 * 32];
    int64_t      dims[4];
    const char  *name;

    kd_assert_ok(run_net(n));
    name = kdas_model_output(n->model, 0, dims);
    ck_assert_int_le(dims[0] * dims[1] * dims[2] * dims[3], (int64_t)KD_COUNT(map));
    kd_assert_ok(kdas_model_read_output(n->model, name, map));
    return kd_hash_bytes(map, (size_t)(dims[0] * dims[1] * dims[2] * dims[3]) * sizeof *map);
}

/* The number of threads that was asked for decides how sums are made, not that of those that exist. */
START_TEST(the_bits_are_those_of_the_threads_asked_for)
{
    uint64_t want = 0;

    if (!can_limit()) return;
    for (int room = 3; room >= 0; room--) {
        kdas_context *ctx;
        net           n;
        uint64_t      got;

        atomic_store(&most, room);
        ctx = make_context(4);
        n   = make_net(ctx);
        got = output_hash(&n);
        if (room == 3) want = got;
        ck_assert_uint_eq(got, want);
        finish_net(&n);
        kdas_context_destroy(ctx);
    }
}
END_TEST

START_TEST(threads_are_made_once_and_by_the_first_work)
{
    kdas_context *ctx;
    net           n;

    if (!can_limit()) return;
    ctx = make_context(3);
    ck_assert_int_eq(atomic_load(&created), 0);
    n = make_net(ctx);
    for (int i = 0; i < 3; i++) {
        kd_assert_ok(run_net(&n));
        kd_assert_ok(kdas_model_zero_gradients(n.model));
    }
    ck_assert_int_eq(atomic_load(&created), 2); /* and neither oneDNN nor OpenBLAS makes any */
    finish_net(&n);
    kdas_context_destroy(ctx);
    ck_assert_int_eq(atomic_load(&alive), 0);
}
END_TEST

START_TEST(threads_that_were_refused_are_made_when_there_is_room)
{
    kdas_context *ctx;
    net           n;

    if (!can_limit()) return;
    atomic_store(&most, 1);
    ctx = make_context(4);
    n   = make_net(ctx);
    kd_assert_ok(run_net(&n));
    ck_assert_int_eq(made_of(ctx), 1);
    ck_assert_ptr_nonnull(strstr(last_line, "2 of 4"));
    last_line[0] = 0;
    kd_assert_ok(run_net(&n));
    ck_assert_str_eq(last_line, ""); /* it was said */
    atomic_store(&most, 1 << 20);
    kd_assert_ok(run_net(&n));
    ck_assert_int_eq(made_of(ctx), 3);
    finish_net(&n);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- another thread of the host ---- */

static void *visit_net(void *what) { return run_net(what) == KDAS_OK ? NULL : what; }

START_TEST(another_thread_takes_the_context_over_with_its_threads)
{
    kdas_context *ctx;
    pthread_t     thread;
    void         *wrong;
    net           n;

    if (!can_limit()) return;
    ctx = make_context(4);
    n   = make_net(ctx);
    kd_assert_ok(run_net(&n));
    ck_assert_int_eq(pthread_create(&thread, NULL, visit_net, &n), 0);
    pthread_join(thread, &wrong);
    ck_assert_ptr_null(wrong);
    ck_assert_int_eq(atomic_load(&created), 4); /* three, and the visitor */
    finish_net(&n);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- what one thread can do as well ---- */

enum { ROWS = 100 };
static atomic_int rows_done, blocks;

static void count_rows(void *job, int64_t begin, int64_t end, int thread)
{
    (void)job;
    (void)thread;
    atomic_fetch_add(&rows_done, (int)(end - begin));
    atomic_fetch_add(&blocks, 1);
}

START_TEST(rows_are_done_by_the_caller_where_there_is_nobody_else)
{
    kdas_context *ctx;

    if (!can_limit()) return;
    ctx = make_context(4);
    atomic_store(&most, 0);
    for (int i = 1; i < 3; i++) {
        kd_parallel_rows(ctx, ROWS, 1, count_rows, NULL);
        ck_assert_int_eq(made_of(ctx), i == 1 ? 0 : 3);
        ck_assert_int_eq(atomic_load(&rows_done), i * ROWS);
        ck_assert_int_eq(atomic_load(&blocks), i * 4);
        atomic_store(&most, 1 << 20);
    }
    kdas_context_destroy(ctx);
}
END_TEST

static uint64_t hash_of(kdas_loader *loader)
{
    uint64_t h = 0;

    for (int i = 0; i < 8; i++) {
        kdas_batch *b;

        kd_assert_ok(kdas_loader_next(loader, &b));
        if (b) h = kd_mix64(h ^ kd_hash_bytes(kdas_batch_images(b), 2 * 64 * 64 * 3 * 4));
    }
    return h;
}

/* The first batches of a loader with three workers, of which `room` can be made. */
static uint64_t batches(kdas_dataset *dataset, int room)
{
    kdas_loader_options o;
    kdas_loader        *loader;
    uint64_t            h;

    kdas_loader_options_init(&o, sizeof o);
    o.batch = 2;
    o.width = o.height = 64;
    o.workers          = 3;
    last_line[0]       = 0;
    atomic_store(&most, room);
    kd_assert_ok(kdas_loader_create(&loader, dataset, &o));
    h = hash_of(loader);
    kd_assert_ok(kdas_loader_seek(loader, 0));
    ck_assert_uint_eq(hash_of(loader), h);
    kdas_loader_destroy(loader);
    ck_assert_int_eq(atomic_load(&alive), 0);
    return h;
}

START_TEST(a_loader_makes_do_with_the_workers_that_it_gets)
{
    kdas_context      *ctx;
    kdas_dataset      *dataset;
    kdas_scene_options scenes;
    uint64_t           want;

    if (!can_limit()) return;
    ctx = make_context(1);
    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 6;
    scenes.width = scenes.height = 64;
    kd_assert_ok(kdas_dataset_synthetic(&dataset, ctx, &scenes));
    want = batches(dataset, 3);
    ck_assert_str_eq(last_line, "");
    ck_assert_uint_eq(batches(dataset, 1), want);
    ck_assert_ptr_nonnull(strstr(last_line, "1 of the loader's 3"));
    ck_assert_uint_eq(batches(dataset, 0), want);
    ck_assert_ptr_nonnull(strstr(last_line, "in the call"));
    kdas_dataset_destroy(dataset);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- the system's own limits ---- */

static void *nothing(void *what) { return what; }

/* No more threads for this process: a user that has one already may have one. Root may always have more, so that the
 * process becomes somebody else. False: the system makes threads all the same. */
static bool forbid_threads(void)
{
    const struct rlimit one = { 1, 1 };
    pthread_t           thread;

    if (getuid() == 0 && (setgroups(0, NULL) || setgid(65534) || setuid(65534))) return false;
    if (setrlimit(RLIMIT_NPROC, &one) != 0) return false;
    if (pthread_create(&thread, NULL, nothing, NULL) != 0) return true;
    pthread_join(thread, NULL);
    return false;
}

static int compute_without_threads(void *what)
{
    kdas_context_options o;
    kdas_context        *ctx;
    net                  n;

    (void)what;
    if (!forbid_threads()) {
        printf("SKIP: the system's limit of processes does not hold here\n");
        fflush(stdout);
        return 0;
    }
    last_line[0] = 0;
    kdas_context_options_init(&o, sizeof o);
    o.threads = 3;
    o.log     = keep_line;
    kd_child_assert_status(kdas_context_create(&ctx, &o), KDAS_OK);
    kd_child_assert(kdas_context_threads(ctx) == 3);
    kd_child_assert_status(kdas_model_create(&n.model, ctx, "pvt_v2_b0", NULL), KDAS_OK);
    kd_child_assert_status(kdas_batch_create(&n.batch, ctx, 2, 64, 64), KDAS_OK);
    kd_child_assert_status(run_net(&n), KDAS_OK);
    kd_child_assert(strstr(last_line, "1 of 3 compute threads"));
    finish_net(&n);
    kdas_context_destroy(ctx);
    return 0;
}

START_TEST(a_limit_of_processes_does_not_end_this_one)
{
    kd_test_in_child(compute_without_threads, NULL);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("team");
    TCase   *counted = tcase_create("counted"), *real = tcase_create("limits");
    SRunner *runner;
    int      failed;

    tcase_add_loop_test(counted, a_context_computes_with_the_threads_that_can_be_made, 0,
                        KD_COUNT(limits));
    tcase_add_test(counted, the_bits_are_those_of_the_threads_asked_for);
    tcase_add_test(counted, threads_are_made_once_and_by_the_first_work);
    tcase_add_test(counted, threads_that_were_refused_are_made_when_there_is_room);
    tcase_add_test(counted, another_thread_takes_the_context_over_with_its_threads);
    tcase_add_test(counted, rows_are_done_by_the_caller_where_there_is_nobody_else);
    tcase_add_test(counted, a_loader_makes_do_with_the_workers_that_it_gets);
    suite_add_tcase(suite, counted);
    tcase_add_test(real, a_limit_of_processes_does_not_end_this_one);
    suite_add_tcase(suite, real);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
