/* check_ranks.c - ranks: the collective calls, and what happens when a rank is lost. */
#include <check.h>
#include <kdas/kdas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ranks/ranks_inside.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/thread_ranks.h"

/* ---- all is well ---- */

static void see_numbers(kd_test_seat *s)
{
    ck_assert_int_eq(kdas_ranks_rank(s->ranks), s->rank);
    ck_assert_int_eq(kdas_ranks_count(s->ranks), *(int *)s->user);
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 0);
    ck_assert_ptr_nonnull(strstr(kdas_ranks_describe(s->ranks), "threads of a test"));
}

START_TEST(each_rank_knows_its_number)
{
    for (int n = 1; n <= 4; n++) {
        kd_test_group_options o = kd_test_group_of(n);

        kd_test_on_ranks(&o, see_numbers, &n);
    }
    ck_assert_int_eq(kdas_ranks_rank(NULL), 0);
    ck_assert_int_eq(kdas_ranks_count(NULL), 1);
    ck_assert_ptr_null(kdas_ranks_describe(NULL));
    ck_assert_int_eq(kdas_ranks_broken(NULL), 0);
    kdas_ranks_destroy(NULL);
    kdas_ranks_abort(NULL, 1);
}
END_TEST

static void add_up(kd_test_seat *s)
{
    double  v[3] = { 1, s->rank, 0.1 * (s->rank + 1) }, sum = 0;
    float   f[2]  = { (float)s->rank, 0.5f };
    int     n     = kdas_ranks_count(s->ranks);
    int64_t bytes = s->rank;

    kd_assert_ok(kdas_ranks_sum(s->ranks, v, 3));
    ck_assert_double_eq(v[0], n);
    ck_assert_double_eq(v[1], n * (n - 1) / 2);
    for (int i = 0; i < n; i++)
        sum += 0.1 * (i + 1);
    ck_assert_double_eq(v[2], sum);
    kd_assert_ok(kd_ranks_do(s->ranks, KD_RANKS_SUM_F32, f, 2, 0));
    ck_assert_float_eq(f[0], (float)(n * (n - 1) / 2));
    ck_assert_float_eq(f[1], 0.5f * (float)n);
    for (int root = 0; root < n; root++) {
        bytes = 100 + s->rank;
        kd_assert_ok(kdas_ranks_broadcast(s->ranks, &bytes, sizeof bytes, root));
        ck_assert_int_eq(bytes, 100 + root);
    }
    kd_assert_ok(kdas_ranks_barrier(s->ranks));
    kd_assert_status(kdas_ranks_broadcast(s->ranks, &bytes, sizeof bytes, n), KDAS_EINVAL);
    kd_assert_sentence("there is no rank");
    kd_assert_status(kdas_ranks_sum(s->ranks, NULL, 1), KDAS_EINVAL);
}

START_TEST(sums_and_broadcasts_reach_all)
{
    for (int n = 1; n <= 4; n++) {
        kd_test_group_options o = kd_test_group_of(n);

        kd_test_on_ranks(&o, add_up, NULL);
    }
}
END_TEST

START_TEST(without_a_group_calls_return_at_once)
{
    double v = 3;

    kd_assert_ok(kdas_ranks_sum(NULL, &v, 1));
    kd_assert_ok(kdas_ranks_broadcast(NULL, &v, sizeof v, 0));
    kd_assert_ok(kdas_ranks_barrier(NULL));
    kd_assert_ok(kdas_ranks_agree(NULL, "x", "y"));
    kd_assert_ok(kdas_ranks_vote(NULL, KDAS_OK));
    ck_assert_double_eq(v, 3);
}
END_TEST

enum { JOBS = 20 };

static void start_many(kd_test_seat *s)
{
    kd_ranks_job job[JOBS];
    double       value[JOBS];

    for (int i = 0; i < JOBS; i++) {
        value[i] = i + s->rank;
        job[i]   = (kd_ranks_job){ .kind = KD_RANKS_SUM_F64, .values = &value[i], .count = 1 };
        kd_ranks_start(s->ranks, &job[i]);
    }
    for (int i = JOBS - 1; i >= 0; i--) /* in any order */
        kd_assert_ok(kd_ranks_wait(s->ranks, &job[i]));
    for (int i = 0; i < JOBS; i++)
        ck_assert_double_eq(value[i], 3 * i + 3);
    ck_assert(kd_ranks_worked(s->ranks) > 0);
}

START_TEST(jobs_run_while_their_caller_goes_on)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, start_many, NULL);
}
END_TEST

/* ---- votes and agreement ---- */

static void vote(kd_test_seat *s)
{
    double      v[2] = { 1, s->rank };
    kdas_status mine;

    kd_assert_ok(kdas_ranks_vote(s->ranks, KDAS_OK));
    mine = s->rank > 0 ? kd_fail(KDAS_EIO, "the file of rank %d is gone", s->rank) : KDAS_OK;
    kd_assert_status(kdas_ranks_vote(s->ranks, mine), KDAS_EIO);
    kd_assert_sentence("rank 1: the file of rank 1 is gone");
    mine = s->rank == 2 ? kd_fail(KDAS_ECANCELLED, "enough") : KDAS_OK;
    kd_assert_status(kd_ranks_vote_sum(s->ranks, mine, v, 2), KDAS_ECANCELLED);
    ck_assert_double_eq(v[1], s->rank); /* no sums */
    kd_assert_ok(kd_ranks_vote_sum(s->ranks, KDAS_OK, v, 2));
    ck_assert_double_eq(v[0], 3);
    ck_assert_double_eq(v[1], 3);
    kd_assert_status(kdas_ranks_vote(s->ranks, s->rank == 1 ? (kdas_status)1 : KDAS_OK),
                     KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_ranks_vote: 1 is not a status");
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 0);
}

START_TEST(a_failure_of_one_is_a_failure_of_all)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, vote, NULL);
}
END_TEST

static void agree(kd_test_seat *s)
{
    char longer[3000];

    kd_assert_ok(kdas_ranks_agree(s->ranks, "batch", "8"));
    kd_assert_status(kdas_ranks_agree(s->ranks, "batch", s->rank == 2 ? "16" : "8"), KDAS_EINVAL);
    kd_assert_sentence("rank 2 has another batch than rank 0: '16' and not '8'");
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    longer[2000]              = s->rank == 1 ? 'y' : 'x';
    kd_assert_status(kdas_ranks_agree(s->ranks, "hash of the data", longer), KDAS_EINVAL);
    kd_assert_sentence("rank 1 has another hash of the data");
    kd_assert_status(kdas_ranks_agree(s->ranks, NULL, "8"), KDAS_EINVAL);
}

START_TEST(differences_are_told_to_all)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, agree, NULL);
}
END_TEST

/* ---- calls that do not fit ---- */

/* All ranks are told what one did wrong, and go on. */
static void refuse_one(kd_test_seat *s)
{
    double v   = 1;
    bool   bad = s->rank == 1;

    kd_assert_status(kdas_ranks_sum(s->ranks, bad ? NULL : &v, 1), KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_ranks_sum: values is NULL");
    kd_assert_status(kdas_ranks_broadcast(s->ranks, &v, sizeof v, bad ? -1 : 0), KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_ranks_broadcast: there is no rank -1 of 3");
    kd_assert_status(kdas_ranks_broadcast(s->ranks, bad ? NULL : &v, sizeof v, 0), KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_ranks_broadcast: bytes is NULL");
    kd_assert_status(kdas_ranks_agree(s->ranks, "x", bad ? NULL : "y"), KDAS_EINVAL);
    kd_assert_sentence("rank 1: kdas_ranks_agree: what or text is NULL");
    ck_assert_double_eq(v, 1);
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 0);
    kd_assert_ok(kdas_ranks_sum(s->ranks, &v, 1));
    ck_assert_double_eq(v, 3);
}

START_TEST(a_call_that_one_rank_makes_wrongly_is_refused_on_all)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, refuse_one, NULL);
}
END_TEST

static void part_ways(kd_test_seat *s)
{
    double v[3] = { 1, 1, 1 };
    bool   odd  = s->rank == 2;

    kd_assert_status(odd ? kdas_ranks_barrier(s->ranks) : kdas_ranks_sum(s->ranks, v, 3),
                     KDAS_ESTATE);
    kd_assert_sentence("rank 2 is at kdas_ranks_barrier(), and rank 0 at kdas_ranks_sum()");
    kd_assert_status(odd ? kdas_ranks_vote(s->ranks, KDAS_OK)
                         : kdas_ranks_agree(s->ranks, "a", "b"),
                     KDAS_ESTATE);
    kd_assert_sentence("rank 2 is at kdas_ranks_vote(), and rank 0 at kdas_ranks_agree()");
    kd_assert_status(kdas_ranks_sum(s->ranks, v, odd ? 2 : 3), KDAS_ESTATE);
    kd_assert_sentence("kdas_ranks_sum(): ranks call it for different numbers of values");
    kd_assert_status(kdas_ranks_broadcast(s->ranks, v, sizeof v, odd ? 1 : 0), KDAS_ESTATE);
    kd_assert_sentence("kdas_ranks_broadcast(): ranks call it for different");
    ck_assert_double_eq(v[0], 1);
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 0);
    kd_assert_ok(kdas_ranks_barrier(s->ranks));
}

START_TEST(ranks_that_make_different_calls_are_told)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, part_ways, NULL);
}
END_TEST

/* ---- a rank is lost ---- */

static void lose(kd_test_seat *s)
{
    char        first[300];
    double      v = 1;
    kdas_status st;

    kd_assert_ok(kdas_ranks_barrier(s->ranks));
    do
        st = kdas_ranks_sum(s->ranks, &v, 1);
    while (st == KDAS_OK);
    ck_assert_int_eq(st, KDAS_EBACKEND);
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 1);
    snprintf(first, sizeof first, "%s", kdas_last_error());
    ck_assert_ptr_nonnull(strstr(first, s->rank == 1 ? "is lost" : "did not answer"));
    kd_assert_status(kdas_ranks_barrier(s->ranks), KDAS_EBACKEND);
    ck_assert_str_eq(kdas_last_error(), first);
    kd_assert_status(kdas_ranks_vote(s->ranks, KDAS_OK), KDAS_EBACKEND);
    kd_assert_status(kdas_ranks_agree(s->ranks, "x", "y"), KDAS_EBACKEND);
    if (s->rank == 0) kdas_ranks_abort(s->ranks, 7);
    if (s->rank == 0) ck_assert_int_eq(kd_test_group_aborted(s), 7);
}

START_TEST(a_lost_rank_ends_the_others)
{
    kd_test_group_options o = kd_test_group_of(3);

    o.lost    = 1;
    o.calls   = 7;
    o.timeout = 0.3;
    kd_test_on_ranks(&o, lose, NULL);
}
END_TEST

static kd_ranks_job left_job[3][4];
static double       left_value[3][4];

static void leave_jobs(kd_test_seat *s)
{
    for (int i = 0; i < 4; i++) {
        left_job[s->rank][i] = (kd_ranks_job){ .kind   = KD_RANKS_SUM_F64,
                                               .values = &left_value[s->rank][i],
                                               .count  = 1 };
        kd_ranks_start(s->ranks, &left_job[s->rank][i]);
    }
}

START_TEST(jobs_that_nobody_waits_for_end_with_the_handle)
{
    kd_test_group_options o     = kd_test_group_of(3);
    double                start = kd_now();

    o.lost    = 1;
    o.calls   = 2;
    o.timeout = 0.3;
    kd_test_on_ranks(&o, leave_jobs, NULL);
    ck_assert(kd_now() - start < 10); /* one timeout, not one for each */
    for (int r = 0; r < 3; r++)
        for (int i = 0; i < 4; i++) {
            ck_assert(left_job[r][i].done);
            ck_assert_int_eq(left_job[r][i].status, i < 2 ? KDAS_OK : KDAS_EBACKEND);
        }
}
END_TEST

static void wait_for_the_late(kd_test_seat *s)
{
    double v = 1;

    kd_assert_ok(kdas_ranks_sum(s->ranks, &v, 1));
    ck_assert_double_eq(v, 2);
    if (s->rank == 0) ck_assert(kd_ranks_waited(s->ranks) > 0.04);
}

START_TEST(a_late_rank_is_waited_for)
{
    kd_test_group_options o = kd_test_group_of(2);

    o.slow = 1;
    o.late = 0.05;
    kd_test_on_ranks(&o, wait_for_the_late, NULL);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("ranks");
    TCase   *calls = tcase_create("calls");
    SRunner *runner;
    int      failed;

    tcase_add_test(calls, each_rank_knows_its_number);
    tcase_add_test(calls, sums_and_broadcasts_reach_all);
    tcase_add_test(calls, without_a_group_calls_return_at_once);
    tcase_add_test(calls, jobs_run_while_their_caller_goes_on);
    tcase_add_test(calls, a_failure_of_one_is_a_failure_of_all);
    tcase_add_test(calls, differences_are_told_to_all);
    tcase_add_test(calls, a_call_that_one_rank_makes_wrongly_is_refused_on_all);
    tcase_add_test(calls, ranks_that_make_different_calls_are_told);
    tcase_add_test(calls, a_lost_rank_ends_the_others);
    tcase_add_test(calls, jobs_that_nobody_waits_for_end_with_the_handle);
    tcase_add_test(calls, a_late_rank_is_waited_for);
    suite_add_tcase(suite, calls);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
