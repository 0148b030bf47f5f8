/* check_context.c - contexts and devices by name: what is refused and how it is said, the host's hooks, and
 * many contexts at once (also run under TSan). */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <kdas/backend.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "support/check_util.h"

static kdas_context_options one_thread(void)
{
    kdas_context_options o;

    kdas_context_options_init(&o, sizeof o);
    o.threads = 1;
    return o;
}

/* Creating with `o` fails with `status`, leaves NULL and a sentence that has `word` in it. */
static void refuse(const kdas_context_options *o, kdas_status status, const char *word)
{
    kdas_context *context = (kdas_context *)o;

    ck_assert_int_eq(kdas_context_create(&context, o), status);
    ck_assert_ptr_null(context);
    ck_assert_msg(strstr(kdas_last_error(), word) != NULL, "'%s' does not name '%s'",
                  kdas_last_error(), word);
}

START_TEST(defaults_give_a_context_with_a_thread_for_each_core)
{
    kdas_context *context = NULL;

    unsetenv("OMP_NUM_THREADS");
    ck_assert_int_eq(kdas_context_create(&context, NULL), KDAS_OK);
    ck_assert_int_ge(kdas_context_threads(context), 1);
    ck_assert_int_le(kdas_context_threads(context), sysconf(_SC_NPROCESSORS_ONLN));
    ck_assert_uint_gt(strlen(kdas_context_device(context)), 3);
    kdas_context_destroy(context);
}
END_TEST

START_TEST(every_built_in_device_opens)
{
    static const char *const names[] = { "cpu", "reference", "cpu:0" };
    kdas_context_options     o       = one_thread();

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        kdas_context *context = NULL;

        o.device = names[i];
        ck_assert_int_eq(kdas_backend_probe(names[i], NULL, NULL, 0), 1);
        ck_assert_int_eq(kdas_context_create(&context, &o), KDAS_OK);
        ck_assert_int_eq(kdas_context_threads(context), 1);
        kdas_context_destroy(context);
    }
}
END_TEST

START_TEST(waiting_for_a_cpu_takes_no_time_and_for_nothing_is_refused)
{
    kdas_context *ctx;

    ck_assert_int_eq(kdas_context_create(&ctx, NULL), KDAS_OK);
    ck_assert_int_eq(kdas_context_wait(ctx), KDAS_OK);
    ck_assert_int_eq(kdas_context_wait(NULL), KDAS_EINVAL);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(settings_out_of_range_are_refused)
{
    kdas_context_options o = one_thread();

    o.threads = -1;
    refuse(&o, KDAS_EINVAL, "threads");
    o.threads = 1000000;
    refuse(&o, KDAS_EINVAL, "threads");
    o     = one_thread();
    o.isa = "sse9";
    refuse(&o, KDAS_EINVAL, "sse9");
    o        = one_thread();
    o.device = NULL;
    refuse(&o, KDAS_EINVAL, "device");
    o      = one_thread();
    o.free = (kdas_free_fn)(void (*)(void))free;
    refuse(&o, KDAS_EINVAL, "hooks");
    o      = one_thread();
    o.size = 0;
    refuse(&o, KDAS_EINVAL, "kdas_context_options");
}
END_TEST

static void copy_line(void *user, kdas_log_level level, const char *text)
{
    (void)level;
    strcpy(user, text);
}

/* What a name of others holds must not move a terminal's cursor, or make a line of a log look like two. */
START_TEST(sentences_and_log_are_lines_without_control_characters)
{
    static const char    name[]  = "a\nb\x1b[2J\x7f\t\xc2\x85\xc3\xa9"; /* e with an acute stays */
    static const char    plain[] = "a?b?[2J?\?\?\?\xc3\xa9";
    kdas_context_options o       = one_thread();
    kdas_context        *context = NULL;
    char                 logged[512], want[64];

    snprintf(want, sizeof want, "'%s'", plain);
    kd_fail(KDAS_EFORMAT, "'%s'", name);
    ck_assert_str_eq(kdas_last_error(), want);
    kd_fail_in(KDAS_EFORMAT, "in %s", "\r");
    ck_assert_msg(strncmp(kdas_last_error(), "in ?: 'a?b?", 11) == 0, "%s", kdas_last_error());
    o.log      = copy_line;
    o.log_user = logged;
    ck_assert_int_eq(kdas_context_create(&context, &o), KDAS_OK);
    kd_warn(context, "'%s'", name);
    ck_assert_str_eq(logged, want);
    kdas_context_destroy(context);
}
END_TEST

START_TEST(device_names_that_cannot_be_are_refused_by_name)
{
    static const struct {
        const char *device;
        kdas_status status;
        const char *word;
    } rows[] = {
        { "warp", KDAS_ENOTFOUND, "warp" },
        { "", KDAS_EINVAL, "''" },
        { ":0", KDAS_EINVAL, ":0" },
        { "cpu:", KDAS_EINVAL, "cpu:" },
        { "cpu:one", KDAS_EINVAL, "cpu:one" },
        { "cpu:-1", KDAS_EINVAL, "cpu:-1" },
        { "../cpu", KDAS_EINVAL, "../cpu" },
        { "/etc/passwd", KDAS_EINVAL, "/etc/passwd" },
        { "cpu:99999999999999999999", KDAS_EINVAL, "cpu:9" },
    };
    kdas_context_options o = one_thread();
    char                 why[200];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        o.device = rows[i].device;
        refuse(&o, rows[i].status, rows[i].word);
        ck_assert_int_eq(kdas_backend_probe(rows[i].device, NULL, why, sizeof why), 0);
        ck_assert_ptr_nonnull(strstr(why, rows[i].word));
    }
}
END_TEST

START_TEST(a_probe_never_writes_past_its_buffer)
{
    for (size_t size = 0; size < 40; size++) {
        char why[64];

        memset(why, '#', sizeof why);
        ck_assert_int_eq(kdas_backend_probe("warp", NULL, why, size), 0);
        if (size) ck_assert_uint_lt(strlen(why), size);
        for (size_t i = size; i < sizeof why; i++)
            ck_assert_int_eq(why[i], '#');
    }
    ck_assert_int_eq(kdas_backend_probe(NULL, NULL, NULL, 0), 0);
}
END_TEST

/* ---- Plug-ins: a folder on the search path with a file that is not one ---- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

START_TEST(a_file_that_is_not_a_plug_in_is_named)
{
    char                 folder[] = "/tmp/kdas-plugin-XXXXXX", path[64];
    kdas_context_options o        = one_thread();

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/libkdas-fake.so", folder);
    write_file(path, "this is no shared object\n");
    setenv("KDAS_BACKEND_PATH", folder, 1);
    o.device = "fake";
    refuse(&o, KDAS_EBACKEND, path);
    unlink(path);
    refuse(&o, KDAS_ENOTFOUND, "fake");
    rmdir(folder);
}
END_TEST

START_TEST(a_library_without_the_entry_is_not_a_plug_in)
{
    char                 folder[] = "/tmp/kdas-plugin-XXXXXX", path[64];
    kdas_context_options o        = one_thread();

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/libkdas-other.so", folder);
    ck_assert_int_eq(symlink("/lib/x86_64-linux-gnu/libm.so.6", path), 0);
    setenv("KDAS_BACKEND_PATH", folder, 1);
    o.device = "other";
    if (access(path, R_OK) == 0)
        refuse(&o, KDAS_EBACKEND, KDAS_BACKEND_ENTRY);
    else
        printf("SKIP a_library_without_the_entry_is_not_a_plug_in: libm is elsewhere\n");
    unlink(path);
    rmdir(folder);
}
END_TEST

/* ---- Memory hooks ---- */

typedef struct counter {
    atomic_long taken, given_back;
    long        fail_at; /* the allocation that fails, counted from 1; 0: none */
} counter;

static void *counted_alloc(void *user, size_t bytes)
{
    counter *c = user;
    long     n = atomic_fetch_add(&c->taken, 1) + 1;
    void    *p = n == c->fail_at ? NULL : malloc(bytes);

    if (!p) atomic_fetch_add(&c->given_back, 1);
    return p;
}

static void counted_free(void *user, void *memory)
{
    atomic_fetch_add(&((counter *)user)->given_back, 1);
    free(memory);
}

START_TEST(a_context_fails_cleanly_at_every_allocation)
{
    static const char *const devices[] = { "cpu", "reference" };
    kdas_context_options     o         = one_thread();
    kdas_context            *context;
    counter                  c;

    o.device     = devices[_i];
    o.alloc      = counted_alloc;
    o.free       = counted_free;
    o.alloc_user = &c;
    for (long k = 1;; k++) {
        kdas_status st;

        c  = (counter){ .fail_at = k };
        st = kdas_context_create(&context, &o);
        if (st == KDAS_OK) {
            ck_assert_int_gt(k, 1); /* the hooks are in use */
            ck_assert_int_lt(c.taken, k);
            kdas_context_destroy(context);
            ck_assert_int_eq(c.taken, c.given_back);
            return;
        }
        ck_assert_int_eq(st, KDAS_ENOMEM);
        ck_assert_ptr_null(context);
        ck_assert_uint_gt(strlen(kdas_last_error()), 0);
        ck_assert_int_eq(c.taken, c.given_back);
    }
}
END_TEST

START_TEST(destroying_nothing_is_fine)
{
    kdas_context_destroy(NULL);
    kdas_context_cancel(NULL);
    kdas_context_resume(NULL);
    ck_assert_int_eq(kdas_context_threads(NULL), 0);
    ck_assert_ptr_null(kdas_context_device(NULL));
}
END_TEST

/* ---- Threads ---- */

enum { THREADS = 4, ROUNDS = 20 };

static void *make_and_destroy(void *arg)
{
    kdas_context_options o = one_thread();
    char                 wanted[32];

    snprintf(wanted, sizeof wanted, "nowhere%d", *(int *)arg);
    for (int i = 0; i < ROUNDS; i++) {
        kdas_context *context = NULL;

        o.device = i % 2 ? "reference" : "cpu";
        if (kdas_context_create(&context, &o) != KDAS_OK) return "no context";
        kdas_context_cancel(context);
        kdas_context_destroy(context);
        o.device = wanted; /* each thread reads its own sentence */
        if (kdas_context_create(&context, &o) != KDAS_ENOTFOUND)
            return "a device that is not there";
        if (!strstr(kdas_last_error(), wanted)) return "another thread's sentence";
    }
    return NULL;
}

START_TEST(contexts_of_several_threads_do_not_meet)
{
    pthread_t threads[THREADS];
    int       numbers[THREADS];

    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, make_and_destroy, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;

        pthread_join(threads[i], &wrong);
        ck_assert_msg(wrong == NULL, "thread %d: %s", i, (char *)wrong);
    }
}
END_TEST

/* ---- One batch, read in turn ---- */

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

/* A model of this thread's context reads a batch of another one, when it is its turn, and then its own, beside the others:
 * it leaves the list of the first one's readers while they come and go. */
static void *read_in_turn(void *shared)
{
    kdas_context_options o;
    kdas_context        *mine;
    kdas_model          *m;
    kdas_batch          *own;
    kdas_status          st = KDAS_OK;

    kdas_context_options_init(&o, sizeof o);
    o.threads = 1;
    if (kdas_context_create(&mine, &o) != KDAS_OK) return "no context";
    if (kdas_model_create(&m, mine, "lite_fpn0", NULL) != KDAS_OK) return "no model";
    if (kdas_batch_create(&own, mine, 1, 32, 32) != KDAS_OK) return "no batch";
    for (int i = 0; i < 50 && st == KDAS_OK; i++) {
        pthread_mutex_lock(&turn);
        st = kdas_model_forward(m, KDAS_MODE_INFER, shared);
        if (kdas_model_batch(m) != shared) st = KDAS_ESTATE;
        pthread_mutex_unlock(&turn);
        if (st == KDAS_OK) st = kdas_model_forward(m, KDAS_MODE_INFER, own);
    }
    kdas_model_destroy(m);
    kdas_batch_destroy(own);
    kdas_context_destroy(mine);
    return st == KDAS_OK ? NULL : "a forward";
}

/* ---- One model, read by all ---- */

typedef struct reading {
    const kdas_model  *model;
    pthread_barrier_t *start;
    float             *values; /* of its last tensor that is trained */
    int32_t            tensor;
    kdas_status        st;
} reading;

static void *read_values(void *shared)
{
    reading *r = shared;

    pthread_barrier_wait(r->start);
    r->st = kdas_model_read(r->model, r->tensor, r->values);
    return NULL;
}

/* Initial values are drawn when they are first read, by whichever thread comes first. */
START_TEST(several_threads_read_the_initial_values_of_a_model)
{
    const char       *name = "out.weight";
    kdas_context     *ctx;
    kdas_model       *m, *alone;
    float             values[THREADS][64], want[64];
    reading           r[THREADS];
    pthread_t         threads[THREADS];
    pthread_barrier_t start;

    kd_assert_ok(kdas_context_create(&ctx, NULL));
    kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", NULL));
    kd_assert_ok(kdas_model_create(&alone, ctx, "lite_fpn0", NULL));
    kd_assert_ok(kdas_model_read(alone, kdas_model_find(alone, name), want));
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        r[i] = (reading){ m, &start, values[i], kdas_model_find(m, name), KDAS_OK };
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_values, &r[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(r[i].st, KDAS_OK);
        ck_assert_msg(kd_test_same_bits(values[i], want, sizeof want), "thread %d", i);
    }
    pthread_barrier_destroy(&start);
    kdas_model_destroy(alone);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(models_of_several_threads_read_a_batch_in_turn)
{
    kdas_context *ctx;
    kdas_batch   *shared;
    pthread_t     threads[THREADS];

    kd_assert_ok(kdas_context_create(&ctx, NULL));
    kd_assert_ok(kdas_batch_create(&shared, ctx, 1, 32, 32));
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_in_turn, shared), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;

        pthread_join(threads[i], &wrong);
        ck_assert_msg(wrong == NULL, "thread %d: %s", i, (char *)wrong);
    }
    kdas_batch_destroy(shared);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("context");
    TCase   *create = tcase_create("create");
    TCase   *rest   = tcase_create("memory and threads");
    SRunner *runner = srunner_create(s);
    int      failed;

    tcase_add_test(create, defaults_give_a_context_with_a_thread_for_each_core);
    tcase_add_test(create, every_built_in_device_opens);
    tcase_add_test(create, waiting_for_a_cpu_takes_no_time_and_for_nothing_is_refused);
    tcase_add_test(create, settings_out_of_range_are_refused);
    tcase_add_test(create, sentences_and_log_are_lines_without_control_characters);
    tcase_add_test(create, device_names_that_cannot_be_are_refused_by_name);
    tcase_add_test(create, a_probe_never_writes_past_its_buffer);
    tcase_add_test(create, a_file_that_is_not_a_plug_in_is_named);
    tcase_add_test(create, a_library_without_the_entry_is_not_a_plug_in);
    suite_add_tcase(s, create);
    tcase_add_loop_test(rest, a_context_fails_cleanly_at_every_allocation, 0, 2);
    tcase_add_test(rest, destroying_nothing_is_fine);
    tcase_add_test(rest, contexts_of_several_threads_do_not_meet);
    tcase_set_timeout(rest, 60);
    tcase_add_test(rest, models_of_several_threads_read_a_batch_in_turn);
    tcase_add_test(rest, several_threads_read_the_initial_values_of_a_model);
    suite_add_tcase(s, rest);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
