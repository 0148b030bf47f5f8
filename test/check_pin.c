/* check_pin.c - compute threads bound to CPUs: which CPUs, when, and what is left of it; on a machine of eight CPUs that
 * the test makes up, since the calls that read and write masks are the test's own here, and on this one. */
#define _GNU_SOURCE
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/pin.h"
#include "base/parallel.h"
#include "base/team.h"
#include "graph/device.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"

/* ---- masks ---- */

enum { ALL = 0xFF, MOST = 64 };

static int             refusal;    /* errno of whoever sets a mask; 0: it is granted */
static int             real;       /* this machine is asked */
static atomic_int      granted;    /* masks that were set */
static uint64_t        mask = ALL; /* of the test's own thread */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    pthread_t thread;
    uint64_t  mask;
} others[MOST]; /* threads whose masks were set */
static int other_count;

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    long bytes;

    if (!real) {
        memset(set, 0, size);
        memcpy(set, &mask, KD_MIN(size, sizeof mask));
        return 0;
    }
    bytes = syscall(SYS_sched_getaffinity, pid, size, set);
    if (bytes >= 0) memset((char *)set + bytes, 0, size - (size_t)bytes);
    return bytes < 0 ? -1 : 0;
}

int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
    if (refusal) {
        errno = refusal;
        return -1;
    }
    atomic_fetch_add(&granted, 1);
    if (real) return (int)syscall(SYS_sched_setaffinity, pid, size, set);
    memcpy(&mask, set, KD_MIN(size, sizeof mask));
    return 0;
}

/* The mask of a thread of a team; NULL: it was never set. */
static uint64_t *other_of(pthread_t thread)
{
    for (int i = 0; i < other_count; i++)
        if (pthread_equal(others[i].thread, thread)) return &others[i].mask;
    return NULL;
}

int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
    static int (*system_call)(pthread_t, size_t, const cpu_set_t *);
    uint64_t *of;

    if (refusal) return refusal;
    atomic_fetch_add(&granted, 1);
    if (real) {
        if (!system_call)
            system_call = (int (*)(pthread_t, size_t, const cpu_set_t *))dlsym(
                RTLD_NEXT, "pthread_setaffinity_np");
        return system_call(thread, size, set);
    }
    pthread_mutex_lock(&lock);
    of = other_of(thread);
    if (!of && other_count < MOST) {
        others[other_count].thread = thread;
        of                         = &others[other_count++].mask;
    }
    if (of) memcpy(of, set, KD_MIN(size, sizeof *of));
    pthread_mutex_unlock(&lock);
    return 0;
}

/* ---- the order of CPUs ---- */

static void put_siblings(int cpu, const char *text)
{
    char path[200], full[600], command[1200];

    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    snprintf(full, sizeof full, "%s", kd_test_path(path));
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", full);
    ck_assert_int_eq(system(command), 0);
    kd_test_write(full, text, strlen(text));
}

static void assert_order(uint64_t allowed, const char *want)
{
    kd_cpu_set set = { { allowed } };
    int        cpu[64], n = kd_pin_order(cpu, 64, &set, kd_test_path(NULL));
    char       got[256] = "";

    for (int i = 0; i < n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), " %d", cpu[i]);
    ck_assert_str_eq(got, want);
}

START_TEST(physical_cores_come_first)
{
    static const char *const far[] = { "0,4", "1,5", "2,6", "3,7" };

    for (int i = 0; i < 8; i++)
        put_siblings(i, far[i % 4]);
    assert_order(0xFF, " 0 1 2 3 4 5 6 7");
    assert_order(0xF0, " 4 5 6 7"); /* all of them are cores */
    assert_order(0x72, " 1 4 6 5"); /* 5 is the sibling of 1 */
    assert_order(0x80, " 7");
    for (int i = 0; i < 8; i++)
        put_siblings(i, (const char *[]){ "0-1\n", "2-3\n", "4-5\n", "6-7\n" }[i / 2]);
    assert_order(0xFF, " 0 2 4 6 1 3 5 7");
    assert_order(0xFA, " 1 3 4 6 5 7");
    for (int i = 0; i < 8; i++)
        put_siblings(i, i < 4 ? "0-3" : "4-7"); /* four threads a core */
    assert_order(0xFF, " 0 4 1 5 2 6 3 7");
}
END_TEST

START_TEST(a_core_that_is_not_known_is_one_by_itself)
{
    static const char *const odd[] = { "", "x", "-", "0-", "0-x", "9999999999999999999", ",", "0" };

    assert_order(0xFF, " 0 1 2 3 4 5 6 7"); /* no files */
    assert_order(0, "");
    for (int i = 0; i < 8; i++)
        put_siblings(i, odd[i]);
    assert_order(0xFF, " 0 1 2 3 4 5 6 7");
}
END_TEST

START_TEST(no_more_cpus_than_are_asked_for)
{
    kd_cpu_set set = { { 0 } };
    int        cpu[3];

    set.bits[0]                      = 0xFF;
    set.bits[KD_COUNT(set.bits) - 1] = 1ul << 63; /* CPU 8191 */
    ck_assert_int_eq(kd_pin_order(cpu, 3, &set, kd_test_path(NULL)), 3);
    ck_assert_int_eq(cpu[2], 2);
    set.bits[0] = 0;
    ck_assert_int_eq(kd_pin_order(cpu, 3, &set, kd_test_path(NULL)), 1);
    ck_assert_int_eq(cpu[0], KD_PIN_CPUS - 1);
}
END_TEST

/* ---- threads ---- */

static char lines[1024];

static void keep_lines(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    (void)level;
    snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s\n", text);
}

static kdas_context *make_context(int32_t threads, int32_t pin)
{
    kdas_context_options o;
    kdas_context        *ctx;

    lines[0] = 0;
    kdas_context_options_init(&o, sizeof o);
    ck_assert_int_eq(o.pin_threads, 0);
    o.threads     = threads;
    o.pin_threads = pin;
    o.log         = keep_lines;
    kd_assert_ok(kdas_context_create(&ctx, &o));
    return ctx;
}

/* A frame through a network; the bits of its logits. */
static uint64_t compute(kdas_context *ctx)
{
    static float           logits[40 * 30];
    static uint8_t         pixels[40 * 30 * 3];
    kdas_view              frame = { pixels, 40, 30, 0, KDAS_PIXEL_RGB8 };
    kdas_model            *model;
    kdas_segmenter        *s;
    kdas_segmenter_options o;

    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 7);
    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = 32;
    kd_assert_ok(kdas_model_create(&model, ctx, "lite_fpn0", NULL));
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    kd_assert_ok(kdas_segmenter_logits(s, &frame, logits));
    kdas_segmenter_destroy(s);
    kdas_model_destroy(model);
    return kd_hash_bytes(logits, sizeof logits);
}

/* The masks of a context's threads, the caller's first. */
static const uint64_t *masks(const kdas_context *ctx)
{
    static uint64_t seen[16];

    memset(seen, 0, sizeof seen);
    seen[0] = mask;
    if (ctx->threads > 1) ck_assert_int_eq(kd_team_made(ctx->team), ctx->threads - 1);
    for (int i = 1; i < ctx->threads; i++) {
        const uint64_t *of = other_of(kd_team_thread(ctx->team, i));

        seen[i] = of ? *of : ALL;
    }
    return seen;
}

static void assert_bound(const kdas_context *ctx, bool caller, uint64_t allowed)
{
    const uint64_t *seen  = masks(ctx);
    uint64_t        taken = 0;

    for (int i = caller ? 0 : 1; i < ctx->threads; i++) {
        ck_assert_int_eq(__builtin_popcountll(seen[i]), 1);
        ck_assert_uint_eq(seen[i] & ~allowed, 0);
        ck_assert_uint_eq(seen[i] & taken, 0);
        taken |= seen[i];
    }
    if (!caller) ck_assert_uint_eq(seen[0], allowed);
}

static void assert_free(const kdas_context *ctx, uint64_t allowed)
{
    const uint64_t *seen = masks(ctx);

    for (int i = 0; i < ctx->threads; i++)
        ck_assert_uint_eq(seen[i], allowed);
}

START_TEST(each_thread_has_a_cpu_of_its_own)
{
    kdas_context *ctx = make_context(4, 1);

    ck_assert_int_eq(kdas_context_pinned(ctx), 1);
    ck_assert_str_eq(lines, "");
    ck_assert_uint_eq(mask, ALL); /* nothing is bound by opening */
    kd_assert_ok(kd_device_enter(ctx));
    assert_bound(ctx, true, ALL);
    kd_device_leave(ctx);
    assert_bound(ctx, false, ALL);
    compute(ctx);
    assert_bound(ctx, false, ALL);
    kdas_context_destroy(ctx);
    ck_assert_int_eq(kdas_context_pinned(NULL), 0);
}
END_TEST

START_TEST(without_the_option_no_mask_is_set)
{
    kdas_context *ctx = make_context(4, 0);

    ck_assert_int_eq(kdas_context_pinned(ctx), 0);
    compute(ctx);
    ck_assert_int_eq(atomic_load(&granted), 0);
    assert_free(ctx, ALL);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(bound_threads_compute_the_same_bits)
{
    kdas_context *bound = make_context(3, 1), *loose = make_context(3, 0);

    ck_assert_uint_eq(compute(bound), compute(loose));
    kdas_context_destroy(bound);
    kdas_context_destroy(loose);
}
END_TEST

START_TEST(contexts_do_not_disturb_each_other)
{
    kdas_context *bound = make_context(4, 1), *loose = make_context(3, 0),
                 *more = make_context(2, 1);

    for (int i = 0; i < 3; i++) {
        compute(bound);
        compute(loose);
        compute(more);
        assert_bound(bound, false, ALL);
        assert_free(loose, ALL);
        assert_bound(more, false, ALL);
    }
    kdas_context_destroy(bound);
    kdas_context_destroy(loose);
    kdas_context_destroy(more);
}
END_TEST

START_TEST(calls_within_calls_bind_once)
{
    kdas_context *ctx = make_context(2, 1);
    int           before;

    kd_pin_enter(ctx);
    assert_bound(ctx, true, ALL);
    before = atomic_load(&granted);
    kd_assert_ok(kd_device_enter(ctx));
    kd_device_leave(ctx);
    ck_assert_int_eq(atomic_load(&granted), before);
    assert_bound(ctx, true, ALL);
    kd_pin_leave();
    assert_bound(ctx, false, ALL);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(the_callers_mask_is_chosen_from_and_comes_back)
{
    kdas_context *ctx;

    mask = 0x0E;
    ctx  = make_context(3, 1);
    compute(ctx);
    assert_bound(ctx, false, 0x0E);
    mask = 0x70; /* the host moves its thread */
    compute(ctx);
    assert_bound(ctx, false, 0x70);
    kd_assert_ok(kd_device_enter(ctx));
    mask = 0x30; /* and now in the midst of a call */
    kd_device_leave(ctx);
    ck_assert_uint_eq(mask, 0x30);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(too_few_cpus_bind_nobody)
{
    kdas_context *ctx;

    mask = 0x06;
    ctx  = make_context(3, 1);
    ck_assert_int_eq(kdas_context_pinned(ctx), 0);
    ck_assert_ptr_nonnull(strstr(lines, "3 threads"));
    ck_assert_ptr_nonnull(strstr(lines, "2 CPUs"));
    lines[0] = 0;
    compute(ctx);
    ck_assert_str_eq(lines, ""); /* once */
    ck_assert_uint_eq(mask, 0x06);
    ck_assert_int_eq(other_count, 0);
    mask = 0x16; /* now there are enough */
    compute(ctx);
    ck_assert_int_eq(kdas_context_pinned(ctx), 1);
    assert_bound(ctx, false, 0x16);
    mask = 0x02;
    compute(ctx);
    ck_assert_int_eq(kdas_context_pinned(ctx), 0);
    ck_assert_ptr_nonnull(strstr(lines, "1 CPUs"));
    assert_free(ctx, 0x02);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(a_system_that_refuses_is_logged_once)
{
    kdas_context *ctx;

    refusal = EPERM;
    ctx     = make_context(2, 1);
    ck_assert_int_eq(kdas_context_pinned(ctx), 0);
    ck_assert_ptr_nonnull(strstr(lines, "pin_threads: the system does not let"));
    ck_assert_ptr_nonnull(strstr(lines, strerror(EPERM)));
    lines[0] = 0;
    compute(ctx);
    mask = 0x0F;
    compute(ctx);
    ck_assert_str_eq(lines, "");
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(a_system_that_refuses_later_is_logged_once)
{
    kdas_context *ctx = make_context(2, 1);

    compute(ctx);
    refusal = EPERM;
    compute(ctx);
    ck_assert_int_eq(kdas_context_pinned(ctx), 0);
    ck_assert_ptr_nonnull(strstr(lines, "pin_threads: the system does not let"));
    lines[0] = 0;
    compute(ctx);
    ck_assert_str_eq(lines, "");
    ck_assert_uint_eq(mask, ALL);
    kdas_context_destroy(ctx);
}
END_TEST

/* Threads are bound before the first part runs, also those that are new. */
static void look_at_mask(void *job, int64_t begin, int64_t end, int thread)
{
    const uint64_t *of = other_of(pthread_self());

    (void)begin;
    (void)end;
    ((uint64_t *)job)[thread] = of ? *of : mask;
}

START_TEST(rows_run_on_bound_threads)
{
    kdas_context *ctx = make_context(4, 1);
    uint64_t      seen[4];

    kd_pin_enter(ctx);
    kd_parallel_rows(ctx, 4, 1, look_at_mask, seen);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(__builtin_popcountll(seen[i]), 1);
    assert_bound(ctx, true, ALL);
    kd_pin_leave();
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- this machine ---- */

static int count(const kd_cpu_set *set)
{
    int n = 0;

    for (size_t i = 0; i < KD_COUNT(set->bits); i++)
        n += __builtin_popcountl(set->bits[i]);
    return n;
}

static int allowed_here(void)
{
    kd_cpu_set set;

    ck_assert_int_eq(sched_getaffinity(0, sizeof set, (cpu_set_t *)&set), 0);
    return count(&set);
}

START_TEST(threads_are_bound_on_this_machine_too)
{
    int           n;
    kdas_context *ctx;
    kd_cpu_set    set;

    real = 1;
    n    = KD_MIN(allowed_here(), 8);
    ctx  = make_context(n, 1);
    if (!kdas_context_pinned(ctx)) {
        printf("SKIP: %s", lines);
        kdas_context_destroy(ctx);
        return;
    }
    compute(ctx);
    for (int i = 1; i < n; i++) {
        memset(&set, 0, sizeof set);
        ck_assert_int_eq(
            pthread_getaffinity_np(kd_team_thread(ctx->team, i), sizeof set, (cpu_set_t *)&set), 0);
        ck_assert_int_eq(count(&set), 1);
    }
    ck_assert_int_ge(allowed_here(), n);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("pin");
    TCase   *order = tcase_create("the order of CPUs"), *threads = tcase_create("threads");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(order, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(order, physical_cores_come_first);
    tcase_add_test(order, a_core_that_is_not_known_is_one_by_itself);
    tcase_add_test(order, no_more_cpus_than_are_asked_for);
    suite_add_tcase(suite, order);
    tcase_add_test(threads, each_thread_has_a_cpu_of_its_own);
    tcase_add_test(threads, without_the_option_no_mask_is_set);
    tcase_add_test(threads, bound_threads_compute_the_same_bits);
    tcase_add_test(threads, contexts_do_not_disturb_each_other);
    tcase_add_test(threads, calls_within_calls_bind_once);
    tcase_add_test(threads, the_callers_mask_is_chosen_from_and_comes_back);
    tcase_add_test(threads, too_few_cpus_bind_nobody);
    tcase_add_test(threads, a_system_that_refuses_is_logged_once);
    tcase_add_test(threads, a_system_that_refuses_later_is_logged_once);
    tcase_add_test(threads, rows_run_on_bound_threads);
    tcase_add_test(threads, threads_are_bound_on_this_machine_too);
    suite_add_tcase(suite, threads);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
