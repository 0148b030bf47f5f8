/* check_base.c - the ground that everything stands on: sentences, options, memory, random draws, log. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "base/pool.h"

/* ---- A context without a device, whose memory is counted and can run out ---- */

typedef struct counter {
    long taken, given_back;
    long fail_at; /* the allocation that fails, counted from 1; 0: none */
} counter;

static void *counted_alloc(void *user, size_t bytes)
{
    counter *c = user;

    void *got = NULL;

    /* no machine has 1 TiB to give; asking malloc would only stir up the sanitizers */
    if (bytes < (size_t)1 << 40 && (!c->fail_at || c->taken + 1 < c->fail_at)) got = malloc(bytes);
    c->taken += got != NULL;
    return got;
}

static void counted_free(void *user, void *memory)
{
    ((counter *)user)->given_back++;
    free(memory);
}

static counter      memory;
static kdas_context context;

static void setup(void)
{
    memory  = (counter){ 0 };
    context = (kdas_context){ .alloc = counted_alloc, .free = counted_free, .alloc_user = &memory };
}

static void teardown(void) { ck_assert_int_eq(memory.taken, memory.given_back); }

/* ---- Status and sentence ---- */

START_TEST(every_status_has_its_own_name)
{
    ck_assert_str_eq(kdas_status_name(KDAS_OK), "KDAS_OK");
    for (int s = KDAS_ESTATE; s < KDAS_OK; s++) {
        ck_assert_int_eq(strncmp(kdas_status_name((kdas_status)s), "KDAS_E", 6), 0);
        ck_assert_str_ne(kdas_status_name((kdas_status)s), "KDAS_E?");
        for (int t = KDAS_ESTATE; t < s; t++)
            ck_assert_str_ne(kdas_status_name((kdas_status)s), kdas_status_name((kdas_status)t));
    }
    ck_assert_str_eq(kdas_status_name((kdas_status)1), "KDAS_E?");
    ck_assert_str_eq(kdas_status_name((kdas_status)(KDAS_ESTATE - 1)), "KDAS_E?");
}
END_TEST

START_TEST(versions_agree_with_each_other)
{
    char text[32];

    snprintf(text, sizeof text, "%d.%d.%d", kdas_version() / 10000, kdas_version() / 100 % 100,
             kdas_version() % 100);
    ck_assert_int_eq(kdas_version(), KDAS_VERSION);
    ck_assert_str_eq(kdas_version_string(), text);
    ck_assert_int_eq(kdas_abi(), KDAS_ABI);
}
END_TEST

START_TEST(fail_returns_its_status_and_keeps_the_sentence)
{
    ck_assert_str_eq(kdas_last_error(), "");
    ck_assert_int_eq(kd_fail(KDAS_ESHAPE, "mask '%s' is %d wide", "a.png", 7), KDAS_ESHAPE);
    ck_assert_str_eq(kdas_last_error(), "mask 'a.png' is 7 wide");
    ck_assert_int_eq(kd_fail_in(KDAS_EIO, "epoch %d", 3), KDAS_EIO);
    ck_assert_str_eq(kdas_last_error(), "epoch 3: mask 'a.png' is 7 wide");
}
END_TEST

START_TEST(a_sentence_may_quote_the_one_before)
{
    kd_fail(KDAS_EIO, "the disk is full");
    kd_fail(KDAS_EIO, "not saved: %s", kdas_last_error());
    ck_assert_str_eq(kdas_last_error(), "not saved: the disk is full");
}
END_TEST

START_TEST(a_long_sentence_is_cut_not_overrun)
{
    char name[4096];

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    kd_fail(KDAS_EIO, "%s", name);
    ck_assert_uint_ge(strlen(kdas_last_error()), 200);
    ck_assert_uint_lt(strlen(kdas_last_error()), 1024);
    for (int i = 0; i < 100; i++)
        kd_fail_in(KDAS_EIO, "step %d of %s", i, "many");
    ck_assert_uint_lt(strlen(kdas_last_error()), 1024);
    ck_assert_int_eq(strncmp(kdas_last_error(), "step 99 of many: step 98", 24), 0);
    kd_fail_in(KDAS_EIO, "%s", name); /* a prefix alone that leaves no room */
    ck_assert_uint_lt(strlen(kdas_last_error()), 1024);
}
END_TEST

static void *fail_elsewhere(void *arg)
{
    (void)arg;
    ck_assert_str_eq(kdas_last_error(), "");
    kd_fail(KDAS_EIO, "elsewhere");
    return NULL;
}

START_TEST(a_sentence_belongs_to_its_thread)
{
    pthread_t other;

    kd_fail(KDAS_EINVAL, "here");
    ck_assert_int_eq(pthread_create(&other, NULL, fail_elsewhere, NULL), 0);
    pthread_join(other, NULL);
    ck_assert_str_eq(kdas_last_error(), "here");
}
END_TEST

/* ---- Options ---- */

typedef struct settings {
    size_t  size;
    int64_t a, b, c;
} settings;

static const settings defaults = { sizeof(settings), 1, 2, 3 };

START_TEST(no_options_means_defaults)
{
    settings ours = defaults;

    ck_assert_int_eq(kd_take_options(&ours, sizeof ours, NULL, "settings"), KDAS_OK);
    ck_assert_int_eq(memcmp(&ours, &defaults, sizeof ours), 0);
}
END_TEST

START_TEST(options_of_the_same_age_are_taken_whole)
{
    settings theirs = { sizeof theirs, 10, 20, 30 }, ours = defaults;

    ck_assert_int_eq(kd_take_options(&ours, sizeof ours, &theirs, "settings"), KDAS_OK);
    ck_assert_int_eq(memcmp(&ours, &theirs, sizeof ours), 0);
}
END_TEST

START_TEST(an_older_program_keeps_the_defaults_of_newer_members)
{
    settings theirs = { offsetof(settings, c), 10, 20, 999 }, ours = defaults;

    ck_assert_int_eq(kd_take_options(&ours, sizeof ours, &theirs, "settings"), KDAS_OK);
    ck_assert_int_eq(ours.a, 10);
    ck_assert_int_eq(ours.b, 20);
    ck_assert_int_eq(ours.c, 3);
    ck_assert_uint_eq(ours.size, sizeof ours);
}
END_TEST

START_TEST(a_newer_program_is_taken_unless_it_sets_what_is_unknown)
{
    struct {
        settings known;
        char     unknown[24];
    } theirs      = { { sizeof theirs, 10, 20, 30 }, { 0 } };
    settings ours = defaults;

    ck_assert_int_eq(kd_take_options(&ours, sizeof ours, &theirs, "settings"), KDAS_OK);
    ck_assert_int_eq(ours.c, 30);
    ck_assert_uint_eq(ours.size, sizeof ours);

    for (size_t i = 0; i < sizeof theirs.unknown; i++) {
        ours              = defaults;
        theirs.unknown[i] = 1;
        ck_assert_int_eq(kd_take_options(&ours, sizeof ours, &theirs, "settings"), KDAS_EINVAL);
        ck_assert_ptr_nonnull(strstr(kdas_last_error(), "settings"));
        ck_assert_int_eq(memcmp(&ours, &defaults, sizeof ours), 0);
        theirs.unknown[i] = 0;
    }
}
END_TEST

START_TEST(options_that_were_never_initialised_are_refused)
{
    static const size_t sizes[] = { 0, 1, sizeof(size_t) - 1, 65537, SIZE_MAX };

    for (size_t i = 0; i < KD_COUNT(sizes); i++) {
        settings theirs = { sizes[i], 10, 20, 30 }, ours = defaults;

        ck_assert_int_eq(kd_take_options(&ours, sizeof ours, &theirs, "settings"), KDAS_EINVAL);
        ck_assert_ptr_nonnull(strstr(kdas_last_error(), "settings"));
        ck_assert_int_eq(memcmp(&ours, &defaults, sizeof ours), 0);
    }
}
END_TEST

/* ---- Memory ---- */

START_TEST(memory_is_aligned_whatever_its_size)
{
    for (size_t n = 0; n < 300; n++) {
        unsigned char *p = kd_alloc(&context, n);

        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % KD_ALIGN, 0);
        memset(p, 0xA5, n); /* a sanitizer sees a block that is too small */
        kd_free(&context, p);
    }
    ck_assert_int_eq(memory.taken, 300);
    kd_free(&context, NULL);
    ck_assert_int_eq(memory.given_back, 300);
}
END_TEST

START_TEST(calloc_clears_what_malloc_had_used)
{
    for (int i = 0; i < 20; i++) {
        unsigned char *p = kd_calloc(&context, 37, 3);

        for (int k = 0; k < 111; k++)
            ck_assert_uint_eq(p[k], 0);
        memset(p, 0xFF, 111);
        kd_free(&context, p);
    }
}
END_TEST

START_TEST(sizes_that_overflow_are_out_of_memory)
{
    ck_assert_ptr_null(kd_alloc(&context, SIZE_MAX));
    ck_assert_ptr_null(kd_alloc(&context, SIZE_MAX - KD_ALIGN));
    ck_assert_ptr_null(kd_calloc(&context, SIZE_MAX / 4, 8));
    ck_assert_ptr_null(kd_calloc(&context, (size_t)1 << 33, (size_t)1 << 33));
    ck_assert_ptr_nonnull(strstr(kdas_last_error(), "out of memory"));
    ck_assert_int_eq(memory.taken, 0);
}
END_TEST

START_TEST(a_hook_that_has_no_memory_is_reported)
{
    memory.fail_at = 1;
    ck_assert_ptr_null(kd_alloc(&context, 12345));
    ck_assert_ptr_nonnull(strstr(kdas_last_error(), "12345"));
    ck_assert_ptr_null(kd_strdup(&context, "text"));
    ck_assert_ptr_null(kd_printf(&context, "%d", 1));
}
END_TEST

START_TEST(text_is_copied_and_printed_whole)
{
    char *copy = kd_strdup(&context, "polyp"), *empty = kd_strdup(&context, "");
    char *text = kd_printf(&context, "%s-%03d", copy, 7);

    ck_assert_str_eq(copy, "polyp");
    ck_assert_str_eq(empty, "");
    ck_assert_str_eq(text, "polyp-007");
    kd_free(&context, copy);
    kd_free(&context, empty);
    kd_free(&context, text);
}
END_TEST

START_TEST(an_array_grows_and_keeps_its_elements)
{
    int64_t *array    = NULL;
    size_t   capacity = 0;

    for (size_t n = 0; n < 1000; n++) {
        ck_assert_int_eq(kd_grow(&context, (void **)&array, &capacity, n + 1, sizeof *array),
                         KDAS_OK);
        ck_assert_uint_gt(capacity, n);
        array[n] = (int64_t)n;
    }
    for (size_t n = 0; n < 1000; n++)
        ck_assert_int_eq(array[n], (int64_t)n);
    ck_assert_int_lt(memory.taken, 20); /* doubling, not one block for each element */
    kd_free(&context, array);
}
END_TEST

START_TEST(an_array_that_cannot_grow_stays_as_it_was)
{
    int   *array    = NULL;
    size_t capacity = 0, before;

    ck_assert_int_eq(kd_grow(&context, (void **)&array, &capacity, 4, sizeof *array), KDAS_OK);
    array[3]       = 33;
    before         = capacity;
    memory.fail_at = memory.taken + 1;
    ck_assert_int_eq(kd_grow(&context, (void **)&array, &capacity, 1000, sizeof *array),
                     KDAS_ENOMEM);
    ck_assert_uint_eq(capacity, before);
    ck_assert_int_eq(array[3], 33);
    kd_free(&context, array);
}
END_TEST

START_TEST(an_array_of_impossible_size_is_refused)
{
    int   *array    = NULL;
    size_t capacity = 0;

    ck_assert_int_eq(kd_grow(&context, (void **)&array, &capacity, SIZE_MAX, sizeof *array),
                     KDAS_ENOMEM);
    ck_assert_ptr_null(array);
    ck_assert_uint_eq(capacity, 0);
}
END_TEST

START_TEST(a_pool_gives_zeroed_memory_and_frees_it_at_once)
{
    kd_pool        pool;
    unsigned char *last = NULL;

    kd_pool_init(&pool, &context);
    for (size_t n = 1; n < 2000; n++) {
        unsigned char *p = kd_pool_alloc(&pool, n);

        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            ck_assert_uint_eq(p[i], 0);
        if (last)
            ck_assert_uint_eq(last[n - 2], (unsigned char)(n - 1)); /* blocks do not overlap */
        memset(p, (int)(n & 0xFF), n);
        last = p;
    }
    ck_assert_str_eq(kd_pool_strdup(&pool, "kept"), "kept");
    ck_assert_int_lt(memory.taken, 1000);
    kd_pool_finish(&pool);
    ck_assert_int_eq(memory.taken, memory.given_back);
}
END_TEST

START_TEST(a_pool_without_memory_says_so_and_stays_usable)
{
    kd_pool pool;

    kd_pool_init(&pool, &context);
    memory.fail_at = 1;
    ck_assert_ptr_null(kd_pool_alloc(&pool, 100));
    ck_assert_ptr_null(kd_pool_alloc(&pool, SIZE_MAX));
    memory.fail_at = 0;
    ck_assert_ptr_nonnull(kd_pool_alloc(&pool, 100));
    ck_assert_ptr_null(kd_pool_alloc(&pool, SIZE_MAX - 7));
    kd_pool_finish(&pool);
}
END_TEST

/* ---- Random draws ---- */

START_TEST(draws_are_splitmix64)
{
    kd_random r = { 1234567, 0 }; /* the published test sequence of this seed */

    ck_assert_uint_eq(kd_random_u64(&r), 6457827717110365317u);
    ck_assert_uint_eq(kd_random_u64(&r), 3203168211198807973u);
    ck_assert_uint_eq(kd_random_u64(&r), 9817491932198370423u);
}
END_TEST

START_TEST(hashes_are_fnv1a)
{
    ck_assert_uint_eq(kd_hash64(""), 0xCBF29CE484222325u);
    ck_assert_uint_eq(kd_hash64("a"), 0xAF63DC4C8601EC8Cu);
    ck_assert_uint_eq(kd_hash64("foobar"), 0x85944171F73967E8u);
    ck_assert_uint_eq(kd_hash_bytes("foobar", 1), kd_hash64("f"));
}
END_TEST

START_TEST(the_same_counter_draws_the_same_value)
{
    kd_random a = kd_random_make(7, 1), b = kd_random_make(7, 1), other;

    for (int i = 0; i < 50; i++)
        kd_random_u64(&a);
    b.counter = 50; /* state is two numbers, so a checkpoint can jump there */
    for (int i = 0; i < 50; i++)
        ck_assert_uint_eq(kd_random_u64(&a), kd_random_u64(&b));
    other = kd_random_make(7, 2);
    ck_assert_uint_ne(other.seed, a.seed);
    other = kd_random_make(8, 1);
    ck_assert_uint_ne(other.seed, a.seed);
}
END_TEST

START_TEST(unit_draws_fill_the_interval_evenly)
{
    enum { N = 100000, BINS = 20 };
    kd_random r          = kd_random_make(3, 0);
    int       bins[BINS] = { 0 };

    for (int i = 0; i < N; i++) {
        double u = kd_random_unit(&r), b;

        ck_assert(u >= 0 && u < 1);
        bins[(int)(u * BINS)]++;
        b = kd_random_between(&r, -2, 5);
        ck_assert(b >= -2 && b < 5);
    }
    for (int i = 0; i < BINS; i++) /* 5000 expected, standard deviation 69 */
        ck_assert_int_lt(abs(bins[i] - N / BINS), 5 * 69);
}
END_TEST

START_TEST(normal_draws_have_the_moments_of_a_normal)
{
    enum { N = 200000 };
    kd_random r   = kd_random_make(4, 0);
    double    sum = 0, squares = 0, cubes = 0, fourths = 0;

    for (int i = 0; i < N; i++) {
        double x = kd_random_normal(&r);

        ck_assert(isfinite(x));
        sum += x, squares += x * x, cubes += x * x * x, fourths += x * x * x * x;
    }
    /* five standard errors: sqrt(1, 2, 15, 96 over N) */
    ck_assert_double_eq_tol(sum / N, 0, 5 * sqrt(1.0 / N));
    ck_assert_double_eq_tol(squares / N, 1, 5 * sqrt(2.0 / N));
    ck_assert_double_eq_tol(cubes / N, 0, 5 * sqrt(15.0 / N));
    ck_assert_double_eq_tol(fourths / N, 3, 5 * sqrt(96.0 / N));
}
END_TEST

START_TEST(below_draws_every_number_and_no_other)
{
    kd_random r       = kd_random_make(5, 0);
    int       seen[7] = { 0 };

    for (int i = 0; i < 70000; i++) {
        int64_t k = kd_random_below(&r, 7);

        ck_assert(k >= 0 && k < 7);
        seen[k]++;
    }
    for (int k = 0; k < 7; k++) /* 10000 expected, standard deviation 93 */
        ck_assert_int_lt(abs(seen[k] - 10000), 5 * 93);
    ck_assert_int_eq(kd_random_below(&r, 1), 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_ge(kd_random_below(&r, INT64_MAX), 0);
}
END_TEST

/* ---- Log, cancel, time ---- */

typedef struct lines {
    int            count;
    kdas_log_level level;
    char           text[1024];
} lines;

static void keep_line(void *user, kdas_log_level level, const char *text)
{
    lines *l = user;

    l->count++;
    l->level = level;
    snprintf(l->text, sizeof l->text, "%s", text);
}

START_TEST(log_lines_reach_the_host_with_their_level)
{
    lines l = { 0 };

    context.log      = keep_line;
    context.log_user = &l;
    kd_warn(&context, "term '%s' is %d", "guidance", 0);
    ck_assert_int_eq(l.level, KDAS_LOG_WARN);
    ck_assert_str_eq(l.text, "term 'guidance' is 0");
    kd_info(&context, "done");
    ck_assert_int_eq(l.level, KDAS_LOG_INFO);
    kd_log(&context, KDAS_LOG_DEBUG, "%5000d", 1); /* cut, not overrun */
    ck_assert_int_eq(l.level, KDAS_LOG_DEBUG);
    ck_assert_uint_lt(strlen(l.text), 1000);
    ck_assert_int_eq(l.count, 3);
}
END_TEST

START_TEST(without_a_callback_the_log_is_silent)
{
    FILE *out = freopen("/dev/full", "w", stdout), *err = freopen("/dev/full", "w", stderr);

    ck_assert_ptr_nonnull(out);
    ck_assert_ptr_nonnull(err);
    kd_warn(&context, "nobody listens");
    ck_assert_int_eq(fflush(out), 0); /* /dev/full refuses a single byte */
    ck_assert_int_eq(fflush(err), 0);
}
END_TEST

START_TEST(a_cancel_holds_until_it_is_forgotten)
{
    ck_assert_int_eq(kd_check_cancel(&context), KDAS_OK);
    kdas_context_cancel(&context);
    ck_assert_int_eq(kd_check_cancel(&context), KDAS_ECANCELLED);
    ck_assert_int_eq(kd_check_cancel(&context), KDAS_ECANCELLED);
    kdas_context_resume(&context);
    ck_assert_int_eq(kd_check_cancel(&context), KDAS_OK);
}
END_TEST

START_TEST(time_never_runs_backwards)
{
    double before = kd_now();

    for (int i = 0; i < 1000; i++) {
        double now = kd_now();

        ck_assert(now >= before);
        before = now;
    }
}
END_TEST

static Suite *base_suite(void)
{
    Suite *s       = suite_create("base");
    TCase *status  = tcase_create("status");
    TCase *options = tcase_create("options");
    TCase *alloc   = tcase_create("memory");
    TCase *random  = tcase_create("random");
    TCase *rest    = tcase_create("log and cancel");

    tcase_add_test(status, every_status_has_its_own_name);
    tcase_add_test(status, versions_agree_with_each_other);
    tcase_add_test(status, fail_returns_its_status_and_keeps_the_sentence);
    tcase_add_test(status, a_sentence_may_quote_the_one_before);
    tcase_add_test(status, a_long_sentence_is_cut_not_overrun);
    tcase_add_test(status, a_sentence_belongs_to_its_thread);
    suite_add_tcase(s, status);

    tcase_add_test(options, no_options_means_defaults);
    tcase_add_test(options, options_of_the_same_age_are_taken_whole);
    tcase_add_test(options, an_older_program_keeps_the_defaults_of_newer_members);
    tcase_add_test(options, a_newer_program_is_taken_unless_it_sets_what_is_unknown);
    tcase_add_test(options, options_that_were_never_initialised_are_refused);
    suite_add_tcase(s, options);

    tcase_add_checked_fixture(alloc, setup, teardown);
    tcase_add_test(alloc, memory_is_aligned_whatever_its_size);
    tcase_add_test(alloc, calloc_clears_what_malloc_had_used);
    tcase_add_test(alloc, sizes_that_overflow_are_out_of_memory);
    tcase_add_test(alloc, a_hook_that_has_no_memory_is_reported);
    tcase_add_test(alloc, text_is_copied_and_printed_whole);
    tcase_add_test(alloc, an_array_grows_and_keeps_its_elements);
    tcase_add_test(alloc, an_array_that_cannot_grow_stays_as_it_was);
    tcase_add_test(alloc, an_array_of_impossible_size_is_refused);
    tcase_add_test(alloc, a_pool_gives_zeroed_memory_and_frees_it_at_once);
    tcase_add_test(alloc, a_pool_without_memory_says_so_and_stays_usable);
    suite_add_tcase(s, alloc);

    tcase_add_test(random, draws_are_splitmix64);
    tcase_add_test(random, hashes_are_fnv1a);
    tcase_add_test(random, the_same_counter_draws_the_same_value);
    tcase_add_test(random, unit_draws_fill_the_interval_evenly);
    tcase_add_test(random, normal_draws_have_the_moments_of_a_normal);
    tcase_add_test(random, below_draws_every_number_and_no_other);
    suite_add_tcase(s, random);

    tcase_add_checked_fixture(rest, setup, teardown);
    tcase_add_test(rest, log_lines_reach_the_host_with_their_level);
    tcase_add_test(rest, without_a_callback_the_log_is_silent);
    tcase_add_test(rest, a_cancel_holds_until_it_is_forgotten);
    tcase_add_test(rest, time_never_runs_backwards);
    suite_add_tcase(s, rest);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(base_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
