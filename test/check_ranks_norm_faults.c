/* check_ranks_norm_faults.c - batch norms over ranks: whatever fails on one rank in a forward or a backward fails on all, none
 * waits for one that has gone, and models stay as they were. */
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <kdas/kdas.h>
#include "model/model.h"
#include "ranks/ranks.h"
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/small_nets.h"
#include "support/thread_ranks.h"

static kdas_model *make_net(kdas_context *ctx, kdas_ranks *ranks, bool grids)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.ranks    = ranks;
    o.quantize = grids ? KDAS_QUANTIZE_INT8 : KDAS_QUANTIZE_NONE;
    kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", &o));
    return m;
}

static void assert_unchanged(kdas_model *m, const float *before, size_t count)
{
    size_t n;
    float *now = kd_test_weights(m, &n);

    ck_assert_uint_eq(n, count);
    ck_assert(kd_test_same_bits(now, before, n * sizeof *now));
    free(now);
}

static void lose_one(kd_test_seat *s)
{
    kdas_model *m     = make_net(s->ctx, s->ranks, false);
    kdas_batch *batch = kd_test_batch(s->ctx, 2, 32, s->rank);
    size_t      count;
    float      *before = kd_test_weights(m, &count);

    kd_assert_status(kdas_model_forward(m, KDAS_MODE_TRAIN, batch), KDAS_EBACKEND);
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 1);
    assert_unchanged(m, before, count);
    kd_assert_status(kdas_model_backward(m, NULL), KDAS_EBACKEND);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, batch)); /* alone it goes on */
    free(before);
    kdas_batch_destroy(batch);
    kdas_model_destroy(m);
}

START_TEST(a_lost_rank_ends_the_forward_of_all)
{
    static const int calls[] = { 3, 21 }; /* after the version: at the vote, and at an exchange */

    for (size_t i = 0; i < KD_COUNT(calls); i++) {
        kd_test_group_options o = kd_test_group_of(3);

        o.lost    = 1;
        o.calls   = calls[i];
        o.timeout = 0.3;
        kd_test_on_ranks(&o, lose_one, NULL);
    }
}
END_TEST

static void differ_in_size(kd_test_seat *s)
{
    kdas_model *m     = make_net(s->ctx, s->ranks, false);
    kdas_batch *batch = kd_test_batch(s->ctx, 2, s->rank == 1 ? 64 : 32, s->rank);
    size_t      count;
    float      *before = kd_test_weights(m, &count);

    kd_assert_status(kdas_model_forward(m, KDAS_MODE_TRAIN, batch), KDAS_ESHAPE);
    kd_assert_sentence(s->rank == 1 ? "images are 64x64 here" : "images are 32x32 here");
    assert_unchanged(m, before, count);
    kd_assert_status(kdas_model_backward(m, NULL), KDAS_ESTATE);
    ck_assert_int_eq(kdas_ranks_broken(s->ranks), 0);
    free(before);
    kdas_batch_destroy(batch);
    kdas_model_destroy(m);
}

START_TEST(images_of_different_sizes_are_refused)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, differ_in_size, NULL);
}
END_TEST

/* A collective that cancels the context of rank 1 within a call. */
static atomic_long   cancel_at, calls_of_one;
static kdas_context *to_cancel;

static kdas_status cancelling_sum(void *group, void *values, size_t count, int32_t type)
{
    KD_RETURN(kd_test_collective.sum(group, values, count, type));
    if (kd_test_collective.rank(group) == 1 &&
        atomic_fetch_add(&calls_of_one, 1) + 1 == atomic_load(&cancel_at))
        kdas_context_cancel(to_cancel);
    return KDAS_OK;
}

static void cancel_within(kd_test_seat *s)
{
    kdas_batch        *batch = kd_test_batch(s->ctx, 2, 32, s->rank);
    kdas_collective    table = kd_test_collective;
    kdas_ranks_options o;
    kdas_ranks        *ranks;
    kdas_model        *m;
    kdas_status        st;

    table.sum = cancelling_sum;
    kdas_ranks_options_init(&o, sizeof o);
    o.table        = &table;
    o.communicator = s;
    kd_assert_ok(kdas_ranks_create(&ranks, s->ctx, &o));
    m = make_net(s->ctx, ranks, true);
    kd_assert_ok(kdas_ranks_barrier(ranks));
    if (s->rank == 1) to_cancel = s->ctx;
    if (s->rank == 1) atomic_store(&calls_of_one, 0);
    kd_assert_ok(kdas_ranks_barrier(ranks));
    st = kdas_model_forward(m, KDAS_MODE_TRAIN, batch);
    if (st == KDAS_OK) st = kdas_model_backward(m, NULL);
    if (atomic_load(&cancel_at)) {
        kd_assert_status(st, KDAS_ECANCELLED);
        kd_assert_sentence("rank 1: ");
    }
    kdas_context_resume(s->ctx);
    kd_assert_ok(kdas_ranks_barrier(ranks)); /* all are at the same call */
    atomic_store(&cancel_at, 0);
    kd_assert_ok(kdas_model_zero_gradients(m));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, batch));
    kd_assert_ok(kdas_model_backward(m, NULL));
    *(long *)s->user = atomic_load(&calls_of_one);
    kdas_model_destroy(m);
    kdas_ranks_destroy(ranks);
    kdas_batch_destroy(batch);
}

START_TEST(a_failure_within_a_forward_or_a_backward_is_that_of_all)
{
    kd_test_group_options o = kd_test_group_of(2);
    long                  all;

    atomic_store(&cancel_at, 0);
    kd_test_on_ranks(&o, cancel_within, &all);
    all /= 2; /* calls of a forward and a backward */
    ck_assert_int_gt(all, 100);
    for (long at = 1; at < all; at += all / 3) {
        long ignored;

        atomic_store(&cancel_at, at);
        kd_test_on_ranks(&o, cancel_within, &ignored);
    }
}
END_TEST

/* A rank that cannot begin. */
static void decline(kd_test_seat *s)
{
    kdas_model *m     = make_net(s->ctx, s->ranks, false);
    kdas_batch *batch = kd_test_batch(s->ctx, 2, 32, s->rank);

    if (s->rank == 0)
        kd_assert_status(kd_model_decline(m, kd_fail(KDAS_EIO, "no file")), KDAS_EIO);
    else
        kd_assert_status(kdas_model_forward(m, KDAS_MODE_TRAIN, batch), KDAS_EIO);
    kd_assert_sentence("rank 0: no file");
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, batch));
    if (s->rank == 0)
        kd_assert_status(kd_model_decline(m, kd_fail(KDAS_ENOMEM, "no loss")), KDAS_ENOMEM);
    else
        kd_assert_status(kdas_model_backward(m, NULL), KDAS_ENOMEM);
    kd_assert_sentence("rank 0: no loss");
    kdas_batch_destroy(batch);
    kdas_model_destroy(m);
}

START_TEST(a_rank_that_cannot_begin_tells_the_others)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, decline, NULL);
}
END_TEST

/* The k-th allocation of rank 1 fails in the first forward, then the next one. */
static void run_out_of_memory(kd_test_seat *s)
{
    kd_model_def       def   = kd_test_small_def("small", KD_TEST_SMALL(1, 0), &kd_rules_common);
    kd_test_meter     *meter = s->ctx->alloc_user;
    kdas_batch        *batch = kd_test_small_batch(s->ctx, 2, 32, "out of memory");
    kdas_model_options o;
    kdas_model        *m;
    kdas_status        st    = KDAS_ENOMEM;
    int                tries = 0;

    kdas_model_options_init(&o, sizeof o);
    o.ranks = s->ranks;
    kd_assert_ok(kd_model_create(&m, s->ctx, &def, &o));
    for (long k = 1; st != KDAS_OK; k += 5, tries++) {
        if (s->rank == 1) meter->fail_at = meter->fail_to = atomic_load(&meter->taken) + k;
        st             = kdas_model_forward(m, KDAS_MODE_TRAIN, batch);
        meter->fail_at = 0;
        if (st != KDAS_OK) kd_assert_status(st, KDAS_ENOMEM);
        if (st != KDAS_OK) kd_assert_sentence("rank 1: ");
    }
    ck_assert_int_gt(tries, 5);
    kd_assert_ok(kdas_model_backward(m, NULL));
    kdas_batch_destroy(batch);
    kdas_model_destroy(m);
}

START_TEST(a_rank_without_memory_fails_with_the_others)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, run_out_of_memory, NULL);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("ranks norm faults");
    TCase   *fail   = tcase_create("failures");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_set_timeout(fail, 120);
    tcase_add_test(fail, a_lost_rank_ends_the_forward_of_all);
    tcase_add_test(fail, images_of_different_sizes_are_refused);
    tcase_add_test(fail, a_failure_within_a_forward_or_a_backward_is_that_of_all);
    tcase_add_test(fail, a_rank_that_cannot_begin_tells_the_others);
    tcase_add_test(fail, a_rank_without_memory_fails_with_the_others);
    suite_add_tcase(suite, fail);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
