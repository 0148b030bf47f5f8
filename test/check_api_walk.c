/* check_api_walk.c - a seeded random walk over the public handles: make, run, misuse, destroy, in any order that ownership
 * allows. A small model beside it (walk_util.h) knows which status each call must give. Other walks run out of memory, at
 * each allocation or at every n-th. A failure prints the last calls.
 *
 * KDAS_WALK_SEED is added to the seeds, KDAS_WALK_SEEDS is their number, KDAS_WALK_STEPS the length of each walk.
 * KDAS_WALK_EVERY=1 takes each allocation, where `make check` takes some. CK_RUN_CASE=dense runs one kind of walk alone. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "support/check_util.h"
#include "support/thin.h"
#include "support/walk_util.h"

/* Of `make check`: seeds, and steps of a walk. A step is one call or a few. */
enum { SEEDS = 3, STEPS = 600 };
enum { DENSE_SEEDS = 2, DENSE_STEPS = 160, DENSE_EVERY = 23 };
enum { SPARSE_SEEDS = 2, SPARSE_STEPS = 150, SPARSE_WALKS = 4 };
enum { SCATTERED_SEEDS = 3, SCATTERED_STEPS = 600 };

static long setting(const char *name, long usual)
{
    const char *text = getenv(name);

    return text ? strtol(text, NULL, 10) : usual;
}

static uint64_t seed_of(int i) { return (uint64_t)setting("KDAS_WALK_SEED", 0) + (uint64_t)i + 1; }

START_TEST(every_call_gives_the_status_that_it_must)
{
    long         steps = setting("KDAS_WALK_STEPS", STEPS);
    kd_test_walk walk;

    kd_test_walk_begin(&walk, seed_of(_i));
    for (long k = 0; k < steps; k++)
        kd_test_walk_step(&walk);
    kd_test_walk_end(&walk);
}
END_TEST

/* ---- Without memory ---- */

/* A walk without failures, for comparison: its allocations, and the hash of its results. */
static uint64_t undisturbed(uint64_t seed, long steps, long *allocations)
{
    kd_test_walk walk;
    uint64_t     hash;

    kd_test_walk_begin(&walk, seed);
    for (long s = 0; s < steps; s++)
        kd_test_walk_step_without(&walk, 0, false);
    hash         = kd_test_walk_hash(&walk);
    *allocations = kd_test_walk_allocations(&walk);
    kd_test_walk_end(&walk);
    return hash;
}

/* Each call is made again and again, with the next of its allocations failing, until it succeeds: the walk's results are
 * those of a walk in which nothing failed, unless a failure dropped micro-batches that were gathered before. */
START_TEST(a_call_without_memory_fails_and_can_be_made_again)
{
    long         steps = setting("KDAS_WALK_STEPS", DENSE_STEPS);
    long         every = setting("KDAS_WALK_EVERY", DENSE_EVERY), allocations;
    uint64_t     want  = undisturbed(seed_of(_i), steps, &allocations);
    kd_test_walk walk;

    kd_test_walk_begin(&walk, seed_of(_i));
    for (long s = 0; s < steps && !walk.fault.differs; s++)
        kd_test_walk_step_dense(&walk, 1 + s % every, every);
    printf("walk: seed %llu, %ld calls, of which %ld had no memory; %ld could do without; %s\n",
           (unsigned long long)walk.seed, walk.calls, walk.fault.failures, walk.fault.unharmed,
           walk.fault.differs ? "up to a step that dropped others" : "results compared");
    if (!walk.fault.differs) ck_assert_uint_eq(kd_test_walk_hash(&walk), want);
    kd_test_walk_end(&walk);
}
END_TEST

/* One allocation of the walk fails, in every other walk all after it in its call, too; nothing is made again. */
START_TEST(after_a_call_without_memory_all_calls_give_the_status_that_they_must)
{
    long seed = (long)seed_of(_i), steps = setting("KDAS_WALK_STEPS", SPARSE_STEPS);
    long allocations, every, walks = 0, failures = 0;

    undisturbed((uint64_t)seed, steps, &allocations);
    every = setting("KDAS_WALK_EVERY", allocations / SPARSE_WALKS + 1);
    for (long k = 1 + _i; k <= allocations; k += every, walks++) {
        kd_test_walk walk;

        kd_test_walk_begin(&walk, (uint64_t)seed);
        for (long s = 0; s < steps; s++)
            kd_test_walk_step_without(&walk, k - kd_test_walk_allocations(&walk), walks % 2);
        failures += walk.fault.failures;
        kd_test_walk_end(&walk);
    }
    printf("walk: seed %ld, %ld walks with one of %ld allocations failing, %ld calls failed\n",
           seed, walks, allocations, failures);
    ck_assert_int_gt(failures, 0);
}
END_TEST

/* Many failures, which follow each other through one walk, and nothing is made again. */
START_TEST(failures_all_over_a_walk_change_no_later_status)
{
    long         steps = setting("KDAS_WALK_STEPS", SCATTERED_STEPS);
    kd_random    r     = kd_random_make(seed_of(_i), 1);
    kd_test_walk walk;

    kd_test_walk_begin(&walk, seed_of(_i));
    for (long s = 0; s < steps; s++) {
        long most = 1 << kd_random_below(&r, 10);

        kd_test_walk_step_without(
            &walk, kd_random_below(&r, 3) ? 0 : 1 + (long)kd_random_below(&r, most), s % 2);
    }
    printf("walk: seed %llu, %ld calls, of which %ld had no memory\n",
           (unsigned long long)walk.seed, walk.calls, walk.fault.failures);
    ck_assert_int_gt(walk.fault.failures, 0);
    kd_test_walk_end(&walk);
}
END_TEST

/* CK_RUN_CASE=name runs one kind of walk alone. */
static void add(Suite *suite, const char *name, const TTest *test, long seeds)
{
    TCase *t = tcase_create(name);

    tcase_set_timeout(t, getenv("KDAS_WALK_EVERY") ? 7200 : 600);
    tcase_add_loop_test(t, test, 0, (int)setting("KDAS_WALK_SEEDS", seeds));
    suite_add_tcase(suite, t);
}

int main(void)
{
    Suite   *suite = suite_create("api walk");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    add(suite, "walk", every_call_gives_the_status_that_it_must, SEEDS);
    add(suite, "dense", a_call_without_memory_fails_and_can_be_made_again, DENSE_SEEDS);
    add(suite, "sparse", after_a_call_without_memory_all_calls_give_the_status_that_they_must,
        SPARSE_SEEDS);
    add(suite, "scattered", failures_all_over_a_walk_change_no_later_status, SCATTERED_SEEDS);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
