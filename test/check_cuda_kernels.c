/* check_cuda_kernels.c - the CUDA plug-in's kernels against the reference kernel of their op: the table of cases
 * that the CPU's kernels are tested with, in f32 and in 16 bits; equal bits from run to run. It runs on the
 * emulated card, or on a real one, see cuda_util.h. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/cpu_util.h"
#include "support/cuda_util.h"

enum { WAYS = 4 }; /* gradients set or added to; in memory of their own or in place */

/* One device for all tests of a process: to open a card costs more than most cases. */
static kdas_device *the_device(void)
{
    static kdas_device *device;

    if (!device) device = kd_test_cuda_open(0);
    return device;
}

static kdas_device *one_without_cudnn(void)
{
    static kdas_device *device;

    if (device) return device;
    setenv("KDAS_CUDA_CUDNN", "0", 1);
    device = kd_test_cuda_open(0);
    unsetenv("KDAS_CUDA_CUDNN");
    return device;
}

/* Ways of each case and type in 16 bits. f32 goes all ways, by kernels of the same source, so that here one is enough:
 * another for each case, and for f16 the opposite of that for bf16. LONG=1: all. */
static int half_ways(void) { return getenv("LONG") ? WAYS : 1; }

static kd_op_options way_options(int way)
{
    return (kd_op_options){ .add = way & 1, .inplace = way & 2, .seed = 17 };
}

static void run_case(kd_op_run *run, const kd_op_case *test, const kdas_kernel *kernel,
                     kdas_device *device, const kd_op_options *options)
{
    kd_op_place place = { kd_test_cuda(), device };

    if (kd_op_run_case(run, test, kernel, &place, options) != KDAS_OK)
        ck_abort_msg("%s: %s", test->name, kdas_last_error());
    ck_assert_msg(run->supported, "%s: it is declined", test->name);
}

static void assert_same(const kd_op_run *got, const kd_op_run *want, double tolerance,
                        const char *type)
{
    char why[256];

    if (!kd_op_same(got, want, tolerance, why, sizeof why))
        ck_abort_msg("%s, %s%s%s: %s", got->test->name, type, got->options.add ? ", adding" : "",
                     got->options.inplace ? ", in place" : "", why);
}

static void assert_follows(const kd_op_case *test, const kdas_kernel *kernel, kdas_device *device,
                           const kd_op_options *o, double tolerance, const char *type)
{
    kd_op_run want, got;

    kd_assert_ok(kd_op_run_case(&want, test, NULL, NULL, o));
    run_case(&got, test, kernel, device, o);
    assert_same(&got, &want, tolerance, type);
    kd_op_close(&got);
    kd_op_close(&want);
}

/* The kernel of the plug-in; NULL: no device needs one, or it is never given such a node. */
static const kdas_kernel *kernel_of(const kd_op_case *test)
{
    const kdas_kernel *kernel = kd_op_needs_kernel(test->op) ? kd_test_cuda_kernel(test, 0) : NULL;

    return kernel && test->post && !(kernel->flags & KDAS_KERNEL_POST) ? NULL : kernel;
}

START_TEST(equals_the_reference)
{
    const kd_op_case  *test   = kd_test_cuda_case(_i / WAYS);
    kd_op_options      o      = way_options(_i % WAYS);
    const kdas_kernel *kernel = kernel_of(test);

    if (!kernel) return;
    assert_follows(test, kernel, the_device(), &o, kd_case_tolerance(test), "f32");
}
END_TEST

/* An output is off by its own rounding, 2^-9 of itself in bf16 and 2^-12 in f16; what is rounded on the way makes
 * that a few times more of the largest element; four ops in one, whose hidden maps and their gradients are
 * rounded as well, four times that: most in a sum of few gradients that nearly cancel. */
static double half_tolerance(const kd_op_case *test, int32_t type)
{
    return (test->op == KDAS_OP_MIX_FFN ? 1.0 / 32 : 1.0 / 128) / (type == KDAS_F16 ? 8 : 1);
}

START_TEST(with_16_bits_it_follows_the_reference)
{
    const int          ways = half_ways(), number = _i / ways / 2, turn = (number + _i % ways) % WAYS;
    const bool         f16  = _i / ways % 2;
    const kd_op_case  *test = kd_test_cuda_case(number);
    kd_op_options      o    = way_options(f16 ? WAYS - 1 - turn : turn);
    kdas_node_desc     node;
    const kdas_kernel *kernel;

    o.half = f16 ? KDAS_F16 : KDAS_BF16;
    if (test->op == KDAS_OP_CAST || !kd_op_needs_kernel(test->op)) return; /* cases say its types */
    kd_assert_ok(kd_op_node(&node, test, &o));
    if (node.in[0].dtype != o.half) return; /* an update */
    kernel = kd_op_kernel_for(kd_test_cuda(), the_device(), &node);
    if (kernel)
        assert_follows(test, kernel, the_device(), &o, half_tolerance(test, o.half),
                       o.half == KDAS_F16 ? "f16" : "bf16");
}
END_TEST

START_TEST(what_networks_are_made_of_has_kernels_of_16_bits)
{
    static const int32_t ops[] = {
        KDAS_OP_CONV2D,   KDAS_OP_DWCONV2D,     KDAS_OP_LINEAR,        KDAS_OP_LAYER_NORM,
        KDAS_OP_GELU,     KDAS_OP_BATCH_NORM,   KDAS_OP_RELU,          KDAS_OP_SIGMOID,
        KDAS_OP_ADD,      KDAS_OP_SUB,          KDAS_OP_MUL,           KDAS_OP_SCALE,
        KDAS_OP_CONCAT,   KDAS_OP_SLICE,        KDAS_OP_CROP,          KDAS_OP_TRANSPOSE,
        KDAS_OP_RESIZE,   KDAS_OP_ATTENTION,    KDAS_OP_DROP_PATH,     KDAS_OP_MIX_FFN,
        KDAS_OP_POOL_AVG, KDAS_OP_CHANNEL_MEAN, KDAS_OP_CHANNEL_MAX,   KDAS_OP_POOL_MAX,
        KDAS_OP_RELU6,    KDAS_OP_DECONV2D,     KDAS_OP_WINDOW_MAX,    KDAS_OP_WINDOW_AVG,
        KDAS_OP_ABS,      KDAS_OP_SILU,         KDAS_OP_LEAKY_RELU,    KDAS_OP_ELU,
        KDAS_OP_DROPOUT,  KDAS_OP_MOMENTS,      KDAS_OP_APPLY_MOMENTS,
    };

    for (size_t i = 0; i < KD_COUNT(ops); i++) {
        kd_op_case test = { .op = ops[i] };

        for (int nth = 0; nth < 3; nth++)
            ck_assert_msg(kd_test_cuda_kernel(&test, nth), "%s, copy %d", kd_op_name(ops[i]), nth);
    }
}
END_TEST

START_TEST(gives_the_same_bits_again)
{
    const kd_op_case  *test   = kd_test_cuda_case(_i);
    kd_op_options      o      = { .seed = 17 };
    const kdas_kernel *kernel = kernel_of(test);
    kd_op_run          first, second;

    if (!kernel) return;
    run_case(&first, test, kernel, the_device(), &o);
    run_case(&second, test, kernel, the_device(), &o);
    assert_same(&second, &first, -1, "again");
    kd_op_close(&first);
    kd_op_close(&second);
}
END_TEST

START_TEST(infers_without_gradients)
{
    const kd_op_case  *test   = kd_test_cuda_case(_i);
    kd_op_options      o      = { .forward_only = true, .seed = 17 };
    const kdas_kernel *kernel = kernel_of(test);

    if (!kernel) return;
    assert_follows(test, kernel, the_device(), &o, kd_case_tolerance(test), "f32, forward alone");
}
END_TEST

/* Where cuDNN is not there, or lacks the case. */
START_TEST(convolves_without_cudnn)
{
    const kd_op_case  *test   = kd_test_cuda_case(_i);
    kd_op_options      o      = { .seed = 17 };
    const kdas_kernel *kernel = kernel_of(test);
    kd_op_run          want, got;

    if ((test->op != KDAS_OP_CONV2D && test->op != KDAS_OP_DECONV2D) || !kernel) return;
    kd_assert_ok(kd_op_run_case(&want, test, NULL, NULL, &o));
    run_case(&got, test, kernel, one_without_cudnn(), &o);
    ck_assert_ptr_null(got.plan.state); /* what cuDNN chose would be there */
    assert_same(&got, &want, kd_case_tolerance(test), "f32, without cuDNN");
    kd_op_close(&got);
    kd_op_close(&want);
}
END_TEST

START_TEST(every_op_of_the_device_has_a_kernel)
{
    static const int32_t numbers[] = {
#define OP(number, NAME, name)     number,
#define UPDATE(number, NAME, name) number,
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    };

    for (size_t i = 0; i < KD_COUNT(numbers); i++) {
        kd_op_case test = { .op = numbers[i] };

        /* An INVERTED is made of other ops only where a device has it. */
        ck_assert_msg(!kd_test_cuda_kernel(&test, 0) !=
                          (kd_op_needs_kernel(numbers[i]) && numbers[i] != KDAS_OP_INVERTED),
                      "op %d (%s)", numbers[i], kd_op_name(numbers[i]));
    }
}
END_TEST

static Suite *cuda_kernels_suite(void)
{
    Suite *suite = suite_create("cuda kernels");
    TCase *t     = tcase_create("against the reference");
    int    cases = kd_test_cuda_cases();

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, equals_the_reference, 0, WAYS * cases);
    tcase_add_loop_test(t, with_16_bits_it_follows_the_reference, 0, 2 * half_ways() * cases);
    tcase_add_test(t, what_networks_are_made_of_has_kernels_of_16_bits);
    tcase_add_loop_test(t, gives_the_same_bits_again, 0, cases);
    tcase_add_loop_test(t, infers_without_gradients, 0, cases);
    tcase_add_loop_test(t, convolves_without_cudnn, 0, cases);
    tcase_add_test(t, every_op_of_the_device_has_a_kernel);
    suite_add_tcase(suite, t);
    return suite;
}

int main(int argc, char **argv)
{
    SRunner *runner;
    int      failed;

    (void)argc;
    kd_test_cuda_wait_passively(argv);
    runner = srunner_create(cuda_kernels_suite());
    /* One process for all: see the_device(). */
    if (!getenv("CK_FORK")) srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
