/* check_parallel.c - rows shared out among threads: each one done once, by a thread with scratch of its own. */
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "base/parallel.h"

enum { MOST_ROWS = 1000, MOST_THREADS = 16 };

typedef struct tally {
    int        done[MOST_ROWS];
    int        calls[MOST_THREADS];
    atomic_int wrong;
} tally;

static void count_rows(void *job, int64_t begin, int64_t end, int thread)
{
    tally *t = job;

    if (thread < 0 || thread >= MOST_THREADS || begin < 0 || end > MOST_ROWS) {
        atomic_fetch_add(&t->wrong, 1);
        return;
    }
    t->calls[thread]++;
    for (int64_t i = begin; i < end; i++)
        t->done[i]++;
}

static const struct {
    int     threads;
    int64_t count, least;
    int     most; /* blocks */
} cases[] = { { 1, 100, 1, 1 },  { 2, 1, 1, 1 },     { 2, 2, 1, 2 },  { 3, 1000, 1, 3 },
              { 3, 10, 100, 1 }, { 4, 250, 100, 2 }, { 16, 7, 1, 7 }, { 5, 999, 0, 5 },
              { 0, 12, 1, 1 },   { 2, 0, 1, 0 } };

START_TEST(each_row_is_done_once_by_no_more_threads_than_it_is_worth)
{
    kdas_context ctx    = { .threads = cases[_i].threads };
    tally       *t      = calloc(1, sizeof *t);
    int          blocks = 0;

    kd_parallel_rows(&ctx, cases[_i].count, cases[_i].least, count_rows, t);
    ck_assert_int_eq(atomic_load(&t->wrong), 0);
    for (int64_t i = 0; i < MOST_ROWS; i++)
        ck_assert_int_eq(t->done[i], i < cases[_i].count);
    for (int i = 0; i < MOST_THREADS; i++) {
        ck_assert_int_le(t->calls[i], 1);
        blocks += t->calls[i];
    }
    ck_assert_int_le(blocks, cases[_i].most);
    ck_assert_int_ge(blocks, cases[_i].count > 0);
    free(t);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("parallel");
    TCase   *rows   = tcase_create("rows");
    SRunner *runner = srunner_create(s);
    int      failed;

    tcase_add_loop_test(rows, each_row_is_done_once_by_no_more_threads_than_it_is_worth, 0,
                        KD_COUNT(cases));
    suite_add_tcase(s, rows);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
