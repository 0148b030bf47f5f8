/* check_api_walk.c - a seeded random walk over the public handles: make, run, misuse, destroy, in any order that ownership
 * allows. A small model beside it (walk_util.h) knows which status each call must give. KDAS_WALK_SEED and
 * KDAS_WALK_STEPS change what is walked; a failure prints the last calls. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "support/walk_util.h"

/* Seeds of `make check`; each is about a thousand calls. */
enum { SEEDS = 3, STEPS = 800 };

static long setting(const char *name, long usual)
{
    const char *text = getenv(name);

    return text ? strtol(text, NULL, 10) : usual;
}

START_TEST(every_call_gives_the_status_that_it_must)
{
    uint64_t seed  = (uint64_t)setting("KDAS_WALK_SEED", 0) + (uint64_t)_i + 1;
    long     steps = setting("KDAS_WALK_STEPS", STEPS);

    kd_test_walk walk;

    kd_test_walk_begin(&walk, seed);
    for (long k = 0; k < steps; k++)
        kd_test_walk_step(&walk);
    kd_test_walk_end(&walk);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("api walk");
    TCase   *walk  = tcase_create("walk");
    SRunner *runner;
    int      failed;

    tcase_set_timeout(walk, 600);
    tcase_add_loop_test(walk, every_call_gives_the_status_that_it_must, 0, SEEDS);
    suite_add_tcase(suite, walk);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
