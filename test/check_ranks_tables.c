/* check_ranks_tables.c - making a handle: which options and tables of a host's own are taken, and what becomes of a handle whose
 * table is wrong, or whose process has forked. */
#include <check.h>
#include <kdas/kdas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/base.h"
#include "ranks/ranks_inside.h"
#include "support/check_util.h"
#include "support/child.h"
#include "support/thread_ranks.h"

/* ---- options and tables ---- */

static kdas_context *ctx;
static kd_test_meter meter;

static void setup(void)
{
    memset(&meter, 0, sizeof meter);
    ctx = kd_test_device("cpu", &meter);
}

static void teardown(void)
{
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

static void assert_refused(const kdas_ranks_options *o, kdas_status st, const char *sentence)
{
    kdas_ranks *r = (kdas_ranks *)&meter;

    kd_assert_status(kdas_ranks_create(&r, ctx, o), st);
    ck_assert_ptr_null(r);
    kd_assert_sentence(sentence);
}

START_TEST(wrong_options_are_refused)
{
    kdas_ranks_options o;
    kdas_ranks        *r = (kdas_ranks *)&meter;

    kdas_ranks_options_init(&o, sizeof o);
    o.collective = "no-such";
    assert_refused(&o, KDAS_ENOTFOUND,
                   "there is no collective 'no-such': no plug-in libkdas-no-such.so in");
    o.collective = "a/b";
    assert_refused(&o, KDAS_EINVAL, "is not a name of a collective");
    o.collective = NULL;
    assert_refused(&o, KDAS_EINVAL, "is not a name of a collective");
    kdas_ranks_options_init(&o, sizeof o);
    o.timeout = 0;
    assert_refused(&o, KDAS_EINVAL, "timeout is 0 seconds");
    o.timeout = 2e6;
    assert_refused(&o, KDAS_EINVAL, "timeout is 2e+06 seconds");
    o.size = 0;
    assert_refused(&o, KDAS_EINVAL, "kdas_ranks_options");
    kd_assert_status(kdas_ranks_create(NULL, ctx, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_ranks_create(&r, NULL, NULL), KDAS_EINVAL);
    ck_assert_ptr_null(r);
}
END_TEST

START_TEST(tables_that_cannot_be_used_are_refused)
{
    kdas_collective    t = kd_test_collective;
    kdas_ranks_options o;

    kdas_ranks_options_init(&o, sizeof o);
    o.table = &t;
    t.abi   = 99;
    assert_refused(&o, KDAS_EBACKEND, "'threads' has collective ABI 99, this library has 1");
    t      = kd_test_collective;
    t.size = 40;
    assert_refused(&o, KDAS_EBACKEND, "ends before abort()");
    t     = kd_test_collective;
    t.sum = NULL;
    assert_refused(&o, KDAS_EBACKEND, "lacks a name or one of open()");
}
END_TEST

/* A group of one, with a table that the test can change. */
static void alone(kdas_ranks_options *o, kdas_collective *t)
{
    *o       = kd_test_group_of_one();
    *t       = kd_test_collective;
    o->table = t;
}

static int32_t rank_beyond(void *group)
{
    (void)group;
    return 5;
}

START_TEST(a_rank_outside_of_the_group_is_refused)
{
    kdas_collective    t;
    kdas_ranks_options o;

    alone(&o, &t);
    t.rank = rank_beyond;
    assert_refused(&o, KDAS_EBACKEND, "collective 'threads' calls this process rank 5 of 1");
}
END_TEST

/* A table of a host's own that is wrong: of two ranks, of which the other one does what this one does. */
static struct twin {
    kdas_status                 opens, sums; /* what they return */
    bool                        says;        /* with a sentence  */
    double                      gives;       /* in place of sums; 0: sums */
    int32_t                     count;
    int                         calls, closed;
    const kdas_collective_host *host;
} twin;

static kdas_status twin_open(void **group, const kdas_collective_host *host,
                             const kdas_collective_options *options)
{
    (void)options;
    twin.host = host;
    *group    = &twin;
    if (twin.says) (host->fail)(KDAS_EBACKEND, "said by open()"); /* whatever it returns */
    return twin.opens;
}

static kdas_status twin_open_nothing(void **group, const kdas_collective_host *host,
                                     const kdas_collective_options *options)
{
    (void)host;
    (void)options;
    *group = NULL;
    return KDAS_OK;
}

static kdas_status twin_sum(void *group, void *values, size_t count, int32_t type)
{
    double *v = values;

    ck_assert_ptr_eq(group, &twin);
    ck_assert_int_eq(type, KDAS_COLLECTIVE_F64);
    switch (twin.calls++) {
    case 0: v[1] += 1; return KDAS_OK;    /* joining: which rank it is */
    case 1: v[0] += 0.25; return KDAS_OK; /* and 1 / (rank + 3) */
    }
    for (size_t i = 0; i < count; i++)
        v[i] = twin.gives != 0 ? twin.gives : 2 * v[i];
    return twin.says && twin.sums ? (twin.host->fail)(twin.sums, "said by sum()") : twin.sums;
}

static kdas_status twin_broadcast(void *group, void *bytes, size_t count, int32_t root)
{
    (void)group;
    (void)bytes;
    (void)count;
    (void)root;
    return KDAS_OK;
}

static int32_t twin_rank(void *group) { return group == &twin ? 0 : -1; }
static int32_t twin_count(void *group) { return ((struct twin *)group)->count; }
static void    twin_close(void *group) { ((struct twin *)group)->closed++; }
static void    twin_describe(void *group, char *text, size_t size)
{
    (void)group;
    memset(text, 'x', size); /* without an end */
}

static kdas_ranks_options with_twin(kdas_collective *t)
{
    kdas_ranks_options o;

    twin = (struct twin){ .count = 2 };
    alone(&o, t);
    t->open      = twin_open;
    t->close     = twin_close;
    t->rank      = twin_rank;
    t->count     = twin_count;
    t->describe  = twin_describe;
    t->sum       = twin_sum;
    t->broadcast = twin_broadcast;
    return o;
}

START_TEST(what_open_gives_is_looked_at)
{
    kdas_collective    t;
    kdas_ranks_options o = with_twin(&t);

    twin.opens = KDAS_ENOTFOUND;
    assert_refused(&o, KDAS_ENOTFOUND,
                   "collective 'threads': its open() fails with status -5 and no sentence");
    ck_assert_int_eq(twin.closed, 0); /* though it has left a group */
    twin.opens = (kdas_status)3;
    assert_refused(&o, KDAS_EBACKEND, "its open() fails with status 3 and no sentence");
    twin.says = true;
    assert_refused(&o, KDAS_EBACKEND, "said by open()");
    twin = (struct twin){ .count = INT32_MAX };
    assert_refused(&o, KDAS_EBACKEND, "calls this process rank 0 of 2147483647");
    ck_assert_int_eq(twin.closed, 1);
    t.open = twin_open_nothing;
    assert_refused(&o, KDAS_EBACKEND, "its open() gives no group");
}
END_TEST

static void assert_breaks(kdas_ranks *r, kdas_status st, const char *sentence)
{
    double v = 1;

    kd_assert_status(kdas_ranks_sum(r, &v, 1), st);
    kd_assert_sentence(sentence);
    ck_assert_int_eq(kdas_ranks_broken(r), 1);
    twin.gives = 0;
    twin.sums  = KDAS_OK;
    kd_assert_status(kdas_ranks_vote(r, KDAS_OK), st); /* for ever */
    kd_assert_sentence(sentence);
}

START_TEST(what_sums_give_is_looked_at)
{
    static const struct {
        kdas_status sums, becomes;
        bool        says;
        double      gives;
        const char *sentence;
    } wrong[] = {
        { 7, KDAS_EBACKEND, false, 0, "its sum() fails with status 7 and no sentence" },
        { KDAS_ECANCELLED, KDAS_EBACKEND, true, 0, "said by sum()" },
        { KDAS_ENOMEM, KDAS_ENOMEM, true, 0, "said by sum()" },
        { KDAS_EBACKEND, KDAS_EBACKEND, false, 0, "its sum() fails with status -10 and no" },
        { KDAS_OK, KDAS_EBACKEND, false, NAN, "its sum() gives nan for the status of rank 1" },
        { KDAS_OK, KDAS_EBACKEND, false, 1e300, "gives 1e+300 for the status of rank 1" },
        { KDAS_OK, KDAS_EBACKEND, false, -0.5, "gives -0.5 for the status of rank 1" },
    };
    kdas_collective t;

    for (size_t i = 0; i < KD_COUNT(wrong); i++) {
        kdas_ranks_options o = with_twin(&t);
        kdas_ranks        *r;

        twin.says = true; /* in a call that goes well, which is of no meaning later */
        kd_assert_ok(kdas_ranks_create(&r, ctx, &o));
        ck_assert_uint_eq(strlen(kdas_ranks_describe(r)), 255);
        twin.says  = wrong[i].says;
        twin.sums  = wrong[i].sums;
        twin.gives = wrong[i].gives;
        assert_breaks(r, wrong[i].becomes, wrong[i].sentence);
        kdas_ranks_destroy(r);
        ck_assert_int_eq(twin.closed, 1);
    }
}
END_TEST

static int32_t always_first(void *group)
{
    (void)group;
    return 0;
}

/* Counts are right; on rank 1 the last bit of another sum is not. */
static kdas_status sum_loosely(void *group, void *values, size_t count, int32_t type)
{
    double     *v = values;
    kdas_status st;

    st = kd_test_collective.sum(group, values, count, type);
    for (size_t i = 0; i < count && type == KDAS_COLLECTIVE_F64; i++)
        if (v[i] != floor(v[i]) && kd_test_collective.rank(group) == 1) v[i] = nextafter(v[i], 9);
    return st;
}

static void mix_up(kd_test_seat *s)
{
    kdas_collective    t = kd_test_collective;
    kdas_ranks_options o;
    kdas_ranks        *r = (kdas_ranks *)s;

    kdas_ranks_options_init(&o, sizeof o);
    o.table        = &t;
    o.communicator = s;
    t.rank         = always_first;
    kd_assert_status(kdas_ranks_create(&r, s->ctx, &o), KDAS_EBACKEND);
    ck_assert_ptr_null(r);
    kd_assert_sentence("collective 'threads': 3 processes are rank 0 of 3");
    t     = kd_test_collective;
    t.sum = sum_loosely;
    kd_assert_status(kdas_ranks_create(&r, s->ctx, &o), KDAS_EBACKEND);
    ck_assert_ptr_null(r);
    kd_assert_sentence("a sum is wrong, or has other bits on some ranks");
    t.sum = kd_test_collective.sum;
    kd_assert_ok(kdas_ranks_create(&r, s->ctx, &o));
    kdas_ranks_destroy(r);
}

START_TEST(a_collective_that_mixes_up_ranks_is_refused)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, mix_up, NULL);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    kdas_collective    t;
    kdas_ranks_options o;
    kdas_ranks        *r  = NULL;
    kdas_status        st = KDAS_ENOMEM;
    int                k  = 0;

    alone(&o, &t);
    while (st == KDAS_ENOMEM) {
        meter.fail_at = atomic_load(&meter.taken) + ++k;
        st            = kdas_ranks_create(&r, ctx, &o);
        meter.fail_at = 0;
        if (st == KDAS_ENOMEM) ck_assert_ptr_null(r);
    }
    kd_assert_ok(st);
    ck_assert_int_gt(k, 2);
    kdas_ranks_destroy(r);
}
END_TEST

static int in_child(void *user)
{
    kdas_ranks *r = user;
    double      v = 1;

    kdas_ranks *another = r;

    kd_child_assert_status(kdas_ranks_create(&another, r->ctx, NULL), KDAS_ESTATE);
    kd_child_assert(!another && strstr(kdas_last_error(), "forked"));
    kd_child_assert_status(kdas_ranks_broadcast(r, &v, sizeof v, 0), KDAS_ESTATE);
    kd_child_assert(strstr(kdas_last_error(), "forked") != NULL);
    kd_child_assert_status(kdas_ranks_sum(r, &v, 1), KDAS_ESTATE);
    kd_child_assert_status(kdas_ranks_barrier(r), KDAS_ESTATE);
    kd_child_assert_status(kdas_ranks_agree(r, "x", "y"), KDAS_ESTATE);
    kd_child_assert_status(kdas_ranks_vote(r, KDAS_OK), KDAS_ESTATE);
    kd_child_assert(kdas_ranks_broken(r) == 0);
    kdas_ranks_abort(r, 1);
    kdas_ranks_destroy(r);
    return 0;
}

START_TEST(a_forked_child_is_refused)
{
    kdas_collective    t;
    kdas_ranks_options o;
    kdas_ranks        *r;

    alone(&o, &t);
    kd_assert_ok(kdas_ranks_create(&r, ctx, &o));
    kd_test_in_child(in_child, r);
    kd_assert_ok(kdas_ranks_barrier(r));
    kdas_ranks_destroy(r);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("ranks_tables");
    TCase   *tables = tcase_create("tables");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(tables, setup, teardown);
    tcase_add_test(tables, wrong_options_are_refused);
    tcase_add_test(tables, tables_that_cannot_be_used_are_refused);
    tcase_add_test(tables, a_rank_outside_of_the_group_is_refused);
    tcase_add_test(tables, what_open_gives_is_looked_at);
    tcase_add_test(tables, what_sums_give_is_looked_at);
    tcase_add_test(tables, a_collective_that_mixes_up_ranks_is_refused);
    tcase_add_test(tables, any_allocation_may_fail);
    tcase_add_test(tables, a_forked_child_is_refused);
    suite_add_tcase(suite, tables);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
