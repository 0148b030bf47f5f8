/* check_far_faults.c - the engine on a device with memory of its own that fails: a kernel, an op that it lacks, memory that
 * runs out, on the host or on the device. */
#include <check.h>
#include <stdlib.h>
#include "op/op.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/far_net.h"

START_TEST(a_kernel_that_fails_leaves_the_program_and_the_cpu_beside_it_usable)
{
    kdas_context *ctx = kd_test_far_context(NULL, NULL, NULL), *cpu = kd_test_device("cpu", NULL);
    kd_params    *params, *near_params;
    kd_arena     *arena = kd_arena_create(ctx), *near_arena = kd_arena_create(cpu);
    kd_test_net   n, near;
    float         mean, again;
    long          each;

    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_ok(kd_test_net_open(&n, ctx, params, arena, 3));
    kd_assert_ok(kd_test_net_declare(&near_params, cpu));
    kd_assert_ok(kd_test_net_open(&near, cpu, near_params, near_arena, 3));
    kd_assert_ok(kd_test_net_step(&n, 0, 1, &mean));
    each = kd_far.kernels;
    for (long k = 1; k <= 3 * each; k++) { /* in plain runs and in launches */
        kd_far.fail_kernel = kd_far.kernels + k;
        while (kd_far.kernels < kd_far.fail_kernel) {
            kdas_status st = kd_test_net_step(&n, 0, 1, &again);

            ck_assert_int_eq(st, kd_far.kernels < kd_far.fail_kernel ? KDAS_OK : KDAS_EBACKEND);
            if (st != KDAS_OK) kd_assert_sentence("the device is lost");
        }
        kd_assert_ok(kd_test_net_step(&n, 0, 1, &again));
        ck_assert(mean == again);
    }
    kd_assert_ok(kd_test_net_step(&near, 0, 1, &again));
    ck_assert(mean == again);
    kd_test_net_close(&n);
    kd_test_net_close(&near);
    kd_arena_destroy(arena);
    kd_arena_destroy(near_arena);
    kd_params_destroy(params);
    kd_params_destroy(near_params);
    kdas_context_destroy(ctx);
    kdas_context_destroy(cpu);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(an_op_that_the_device_lacks_is_named_at_compile)
{
    kdas_context *ctx;
    kd_params    *params;
    kd_arena     *arena;
    kd_test_net   n;

    kd_far.without = _i ? KDAS_OP_GELU : KDAS_OP_DROP_PATH;
    ctx            = kd_test_far_context(NULL, NULL, NULL);
    arena          = kd_arena_create(ctx);
    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_status(kd_test_net_open(&n, ctx, params, arena, 3), KDAS_EUNSUPPORTED);
    kd_assert_sentence("far");
    kd_assert_sentence(_i ? "gelu" : "drop_path");
    ck_assert_ptr_null(n.p);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(an_update_that_the_device_lacks_is_named)
{
    kdas_context  *ctx;
    float         *x;
    kdas_node_desc desc = { .op     = KDAS_OP_SUM_SQUARES,
                            .inputs = 1,
                            .in     = { { 0, 1, { 1, 1, 1, 1 } } } };
    kdas_call      call = { .node = &desc };

    kd_far.without = KDAS_OP_SUM_SQUARES;
    ctx            = kd_test_far_context(NULL, NULL, NULL);
    x              = kd_device_alloc(ctx, 64);
    call.in[0] = call.out = x;
    kd_assert_status(kd_device_update(ctx, &kd_update_sum_squares, &call), KDAS_EUNSUPPORTED);
    kd_assert_sentence("sum_squares");
    kd_device_free(ctx, x);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(a_device_out_of_memory_says_what_was_needed_and_what_is_free)
{
    kdas_context *ctx;

    kd_far.total    = (size_t)64 << 20;
    kd_far.no_ahead = _i; /* a table without memory() */
    ctx             = kd_test_far_context(NULL, NULL, NULL);
    ck_assert_ptr_null(kd_device_alloc(ctx, ((size_t)100 << 20) + 1));
    kd_assert_sentence("out of device memory: 101 MiB were needed");
    if (!_i) kd_assert_sentence("64 of 64 MiB are free");
    kd_assert_sentence("far: a device of the tests");
    kdas_context_destroy(ctx);
}
END_TEST

/* All that a program needs, with the k-th allocation failing: the host's, or the device's. */
static bool survives(long k, bool device)
{
    kd_test_meter meter  = { 0 };
    kdas_context *ctx    = kd_test_far_context(&meter, NULL, NULL);
    kd_params    *params = NULL;
    kd_arena     *arena  = kd_arena_create(ctx);
    kd_test_net   n      = { .ctx = ctx };
    float         mean   = 0;
    kdas_status   st;

    kd_far.allocs = 0;
    if (device)
        kd_far.fail_alloc = k;
    else
        meter.fail_at = atomic_load(&meter.taken) + k;
    st = kd_test_net_declare(&params, ctx);
    if (st == KDAS_OK) st = kd_test_net_open(&n, ctx, params, arena, 2);
    for (int i = 0; i < 3 && st == KDAS_OK; i++)
        st = kd_test_net_step(&n, 0, 1, &mean);
    ck_assert_msg(st == KDAS_OK || st == KDAS_ENOMEM, "allocation %ld: %s", k, kdas_last_error());
    kd_far.fail_alloc = 0;
    kd_test_net_close(&n);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
    kd_test_far_assert_empty();
    return st == KDAS_OK;
}

START_TEST(every_allocation_may_fail)
{
    long k = 1;

    while (!survives(k, _i))
        k++;
    ck_assert_int_gt(k, 5);
}
END_TEST

static void start(void) { kd_far = (kd_test_far){ 0 }; }

int main(void)
{
    Suite   *suite  = suite_create("far, faults");
    TCase   *faults = tcase_create("faults");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(faults, start, NULL);
    tcase_add_test(faults, a_kernel_that_fails_leaves_the_program_and_the_cpu_beside_it_usable);
    tcase_add_loop_test(faults, an_op_that_the_device_lacks_is_named_at_compile, 0, 2);
    tcase_add_test(faults, an_update_that_the_device_lacks_is_named);
    tcase_add_loop_test(faults, a_device_out_of_memory_says_what_was_needed_and_what_is_free, 0, 2);
    tcase_add_loop_test(faults, every_allocation_may_fail, 0, 2);
    suite_add_tcase(suite, faults);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
