/* check_kernels.c - the CPU backend: every kernel against the reference kernel of its op, on each
 * instruction set that this machine has and with several thread counts; equal bits from run to
 * run; opening a device. */
#define _GNU_SOURCE
#include <check.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/cpu/cpu.h"
#include "backend/cpu/onednn.h"
#include "support/check_util.h"
#include "support/cpu_util.h"

/* "emulated": AVX-512, its bf16 and VNNI in C and AVX2 (simd/avx512.h). They are not in the library. */
static const char *const isas[] = { "avx512", "avx2", "plain", "emulated" };
enum { ISAS = 4 };
extern const kd_cpu_code kd_code_emulated_f32, kd_code_emulated_bf16, kd_code_emulated_vnni;

/* A device with at most `isa`; where AVX-512 is real, it is not emulated. */
static kdas_device *open_isa(const char *isa, int threads)
{
    bool         emulated = isa && !strcmp(isa, "emulated");
    kdas_device *device   = kd_test_cpu_open(emulated ? NULL : isa, threads);

    if (!emulated || device->code != &kd_code_avx2) return device;
    device->isa     = isa;
    device->code    = &kd_code_emulated_f32;
    device->half    = &kd_code_emulated_bf16;
    device->integer = &kd_code_emulated_vnni;
    return device;
}

/* ---- against the reference ---- */

static void run_case(kd_op_run *run, const kd_op_case *test, kdas_device *device,
                     const kd_op_options *options)
{
    kd_op_place place = { &kd_backend_cpu, device };

    if (kd_op_run_case(run, test, kd_test_cpu_kernel(test), &place, options) != KDAS_OK)
        ck_abort_msg("%s: %s", test->name, kdas_last_error());
}

/* One case on one instruction set: with 1, 2 and 3 threads; then gradients added to, and in
 * place. */
static void compare_case(const kd_op_case *test, const char *isa)
{
    for (int way = 0; way < 4; way++) {
        kd_op_options options = { .add = way & 1, .inplace = way & 2, .seed = 17 };
        kd_op_run     want;

        if (kd_op_run_case(&want, test, NULL, NULL, &options) != KDAS_OK)
            ck_abort_msg("%s on the reference: %s", test->name, kdas_last_error());
        for (int threads = way ? 2 : 1; threads <= (way ? 2 : 3); threads++) {
            kdas_device *device = open_isa(isa, threads);
            kd_op_run    got;

            ck_assert_str_eq(device->isa, isa);
            if (threads == 3) device->large = 0; /* every output is written past the caches */
            run_case(&got, test, device, &options);
            ck_assert(got.supported);
            kd_test_cpu_assert_same(&got, &want, kd_case_tolerance(test), isa, threads, &options);
            kd_op_close(&got);
            kd_backend_cpu.close(device);
        }
        kd_op_close(&want);
    }
}

static bool machine_has(const char *isa)
{
    kdas_device *device = open_isa(isa, 1);
    bool         has    = !strcmp(device->isa, isa);

    kd_backend_cpu.close(device);
    return has;
}

START_TEST(equals_the_reference)
{
    const kd_op_case *test = kd_test_cpu_case(_i / ISAS);
    const char       *isa  = isas[_i % ISAS];

    if (!kd_op_needs_kernel(test->op)) return;
    if (machine_has(isa)) compare_case(test, isa);
}
END_TEST

START_TEST(with_halves_it_follows_the_reference)
{
    const kd_op_case *test = kd_test_cpu_case(_i);

    if (!kd_test_cpu_half_kernel(test)) return;
    for (int i = 0; i < 6; i++) { /* with AMX, where it is, and without */
        int          threads = i % 3 + 1;
        kdas_device *device  = open_isa(i < 3 ? "emulated" : "avx512", threads);

        if (threads == 3) device->large = 0;
        if (kd_test_cpu_by_onednn(test) && !kd_onednn_has_bf16(device->onednn)) {
            kd_backend_cpu.close(device);
            return;
        }
        if (device->half && (i < 3 || kd_cpu_has_tiles())) kd_test_cpu_compare_half(test, device);
        kd_backend_cpu.close(device);
    }
}
END_TEST

START_TEST(gives_the_same_bits_again)
{
    const kd_op_case *test = kd_test_cpu_case(_i);

    if (!kd_op_needs_kernel(test->op)) return;
    for (int threads = 1; threads <= 3; threads++) {
        kd_op_options options = { .seed = 17 };
        kdas_device  *device  = kd_test_cpu_open(NULL, threads);
        kd_op_run     first, second;

        run_case(&first, test, device, &options);
        run_case(&second, test, device, &options);
        kd_test_cpu_assert_same(&second, &first, -1, device->isa, threads, &options);
        kd_op_close(&first);
        kd_op_close(&second);
        kd_backend_cpu.close(device);
    }
}
END_TEST

START_TEST(infers_without_gradients)
{
    const kd_op_case *test    = kd_test_cpu_case(_i);
    kd_op_options     options = { .forward_only = true, .seed = 17 };
    kdas_device      *device  = kd_test_cpu_open(NULL, 2);
    kd_op_run         got, want;

    if (kd_op_needs_kernel(test->op)) {
        kd_assert_ok(kd_op_run_case(&want, test, NULL, NULL, &options));
        run_case(&got, test, device, &options);
        kd_test_cpu_assert_same(&got, &want, kd_case_tolerance(test), device->isa, 2, &options);
        kd_op_close(&got);
        kd_op_close(&want);
    }
    kd_backend_cpu.close(device);
}
END_TEST

/* ---- the table ---- */

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

        ck_assert_msg(!kd_test_cpu_kernel(&test) != kd_op_needs_kernel(numbers[i]), "op %d (%s)",
                      numbers[i], kd_op_name(numbers[i]));
    }
}
END_TEST

START_TEST(types_other_than_f32_are_declined)
{
    kdas_device   *device = kd_test_cpu_open(NULL, 1);
    kdas_node_desc node   = {
          .op = KDAS_OP_RELU, .inputs = 1, .in = { kd_desc(1, 2, 3, 4) }, .out = kd_desc(1, 2, 3, 4)
    };
    kd_op_case test = { .op = KDAS_OP_RELU };

    ck_assert(kd_test_cpu_kernel(&test)->supports(device, &node));
    node.in[0].dtype = node.out.dtype = KDAS_BF16;
    ck_assert(!kd_test_cpu_kernel(&test)->supports(device, &node));
    kd_backend_cpu.close(device);
}
END_TEST

/* ---- accuracy of the functions that the kernels bring along ---- */

/* Run an op of one input over n values from `low` in steps, and give the largest |got -
 * want(x)|. */
static double worst_error(int32_t op, double low, double high, double (*want)(double),
                          const char *isa)
{
    enum { N = 40000 };
    kd_op_case    test    = { .name = "accuracy", .op = op, .in = { KD_TEST_OPERAND(1, 1, N, 1) } };
    kd_op_options options = { .forward_only = true };
    kdas_device  *device  = open_isa(isa, 2);
    kd_op_place   place   = { &kd_backend_cpu, device };
    kd_op_run     run;
    double        worst = 0;

    kd_assert_ok(kd_op_open(&run, &test, kd_test_cpu_kernel(&test), &place, &options));
    for (int i = 0; i < N; i++)
        run.in[0][i] = (float)(low + (high - low) * i / N);
    kd_assert_ok(kd_op_forward(&run));
    for (int i = 0; i < N; i++)
        worst = fmax(worst, fabs(((float *)run.out)[i] - want(run.in[0][i])) /
                                fmax(1, fabs((double)run.in[0][i])));
    kd_op_close(&run);
    kd_backend_cpu.close(device);
    return worst;
}

static double exact_gelu(double x) { return 0.5 * x * erfc(-x / sqrt(2)); }
static double exact_sigmoid(double x) { return 1 / (1 + exp(-x)); }

START_TEST(gelu_is_that_of_the_error_function)
{
    ck_assert_double_le(worst_error(KDAS_OP_GELU, -10, 10, exact_gelu, isas[_i]), 2.4e-7);
}
END_TEST

START_TEST(sigmoid_is_exact_to_rounding)
{
    ck_assert_double_le(worst_error(KDAS_OP_SIGMOID, -30, 30, exact_sigmoid, isas[_i]), 2e-7);
}
END_TEST

START_TEST(a_nan_is_not_lost)
{
    static const int32_t ops[]   = { KDAS_OP_GELU,       KDAS_OP_SIGMOID,    KDAS_OP_SCALE,
                                     KDAS_OP_SOFTMAX,    KDAS_OP_CENTER,     KDAS_OP_MEAN,
                                     KDAS_OP_ABS,        KDAS_OP_SILU,       KDAS_OP_ELU,
                                     KDAS_OP_LEAKY_RELU, KDAS_OP_RELU,       KDAS_OP_RELU6,
                                     KDAS_OP_POOL_MAX,   KDAS_OP_CHANNEL_MAX };
    kdas_device         *device  = open_isa(isas[_i], 1);
    kd_op_place          place   = { &kd_backend_cpu, device };
    kd_op_options        options = { .forward_only = true };

    for (size_t i = 0; i < KD_COUNT(ops); i++) {
        kd_op_case test = { .name       = "nan",
                            .op         = ops[i],
                            .attr.scale = { 2, 1 },
                            .in         = { KD_TEST_OPERAND(1, 2, 1, 37) } };
        kd_op_run  run;

        kd_assert_ok(kd_op_open(&run, &test, kd_test_cpu_kernel(&test), &place, &options));
        run.in[0][0] = NAN;
        kd_assert_ok(kd_op_forward(&run));
        ck_assert_msg(isnan(((float *)run.out)[0]), "%s", kd_op_name(ops[i]));
        kd_op_close(&run);
    }
    kd_backend_cpu.close(device);
}
END_TEST

START_TEST(a_nan_wins_its_window)
{
    enum { C = 37 };
    const kd_op_case test    = { .name        = "nan",
                                 .op          = KDAS_OP_WINDOW_MAX,
                                 .attr.window = { .size = 2, .stride = 2 },
                                 .in          = { KD_TEST_OPERAND(1, 2, 2, C) } };
    kdas_device     *device  = open_isa(isas[_i], 1);
    kd_op_place      place   = { &kd_backend_cpu, device };
    kd_op_options    options = { .forward_only = true };

    for (int pixel = 0; pixel < 4; pixel++) {
        kd_op_run run;

        kd_assert_ok(kd_op_open(&run, &test, kd_test_cpu_kernel(&test), &place, &options));
        run.in[0][pixel * C + 5] = run.in[0][pixel * C + 36] = NAN;
        kd_assert_ok(kd_op_forward(&run));
        for (int c = 0; c < C; c++)
            ck_assert_int_eq(isnan(((float *)run.out)[c]) != 0, c == 5 || c == 36);
        kd_op_close(&run);
    }
    kd_backend_cpu.close(device);
}
END_TEST

/* Wherever it stands, over space and over channels; the first one receives the gradient. */
START_TEST(a_nan_wins_over_space_and_over_channels)
{
    enum { C = 37, PIXELS = 3 };
    kdas_device *device = open_isa(isas[_i], 1);
    kd_op_place  place  = { &kd_backend_cpu, device };

    for (int over = 0; over < 2; over++)
        for (int at = 0; at < C * PIXELS; at++) {
            const kd_op_case test = { .name  = "nan",
                                      .op    = over ? KDAS_OP_CHANNEL_MAX : KDAS_OP_POOL_MAX,
                                      .wants = 1,
                                      .in    = { KD_TEST_OPERAND(1, PIXELS, 1, C) } };
            kd_op_run        run;

            kd_assert_ok(kd_op_open(&run, &test, kd_test_cpu_kernel(&test), &place, NULL));
            run.in[0][at] = run.in[0][C * PIXELS - 1] = NAN;
            kd_assert_ok(kd_op_forward(&run));
            kd_assert_ok(kd_op_backward(&run));
            ck_assert(isnan(((float *)run.out)[over ? at / C : at % C]));
            ck_assert_float_eq(run.din[0][at], run.dout[over ? at / C : at % C]);
            kd_op_close(&run);
        }
    kd_backend_cpu.close(device);
}
END_TEST

/* ---- the device ---- */

START_TEST(an_unknown_instruction_set_is_refused)
{
    kdas_device_options options = { .size = sizeof options, .threads = 1, .isa = "mmx" };
    kdas_device        *device  = (kdas_device *)&options;

    kd_assert_status(kd_backend_cpu.open(&device, &kd_test_cpu_host, &options), KDAS_EINVAL);
    kd_assert_sentence("mmx");
    ck_assert_ptr_null(device);
    options.isa = NULL;
    setenv("KDAS_CPU_ISA", "neon", 1);
    kd_assert_status(kd_backend_cpu.open(&device, &kd_test_cpu_host, &options), KDAS_EINVAL);
    kd_assert_sentence("KDAS_CPU_ISA");
    unsetenv("KDAS_CPU_ISA");
}
END_TEST

START_TEST(the_lower_of_option_and_environment_holds)
{
    kdas_device *device;

    setenv("KDAS_CPU_ISA", "plain", 1);
    device = kd_test_cpu_open("avx2", 1);
    ck_assert_str_eq(device->isa, "plain");
    kd_backend_cpu.close(device);
    setenv("KDAS_CPU_ISA", "avx512", 1);
    device = kd_test_cpu_open("plain", 1);
    ck_assert_str_eq(device->isa, "plain");
    kd_backend_cpu.close(device);
    unsetenv("KDAS_CPU_ISA");
}
END_TEST

START_TEST(describes_itself_in_one_line)
{
    kdas_device *device = kd_test_cpu_open("plain", 2);
    char         text[160], small[8];

    kd_backend_cpu.describe(device, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "plain, 2 threads, oneDNN "));
    ck_assert_ptr_null(strchr(text, '\n'));
    kd_backend_cpu.describe(device, small, sizeof small);
    ck_assert_int_eq(memcmp(small, "cpu: ", 5), 0);
    ck_assert_uint_lt(strlen(small), sizeof small);
    kd_backend_cpu.close(device);
}
END_TEST

START_TEST(tiles_are_used_where_they_are_and_may_be)
{
    kdas_device *all = kd_test_cpu_open(NULL, 1), *asked = kd_test_cpu_open("amx", 1),
                *less = kd_test_cpu_open("avx512", 1);
    char text[160];

    ck_assert_ptr_eq(all->half, asked->half);
    ck_assert(all->half != &kd_code_amx || kd_cpu_has_tiles());
    ck_assert(!all->half == !less->half);
    ck_assert(!less->half || less->half == &kd_code_bf16);
    ck_assert_ptr_eq(all->integer, asked->integer);
    ck_assert(all->integer != &kd_code_amx_int8 || kd_cpu_has_int8_tiles());
    ck_assert(!all->integer == !less->integer);
    ck_assert(less->integer != &kd_code_amx_int8);
    kd_backend_cpu.describe(all, text, sizeof text);
    ck_assert((strstr(text, " + amx ") || strstr(text, " + amx,")) == (all->half == &kd_code_amx));
    ck_assert(!strstr(text, " + amx-int8") == (all->integer != &kd_code_amx_int8));
    kd_backend_cpu.describe(less, text, sizeof text);
    ck_assert_ptr_null(strstr(text, " + amx"));
    kd_backend_cpu.close(all);
    kd_backend_cpu.close(asked);
    kd_backend_cpu.close(less);
}
END_TEST

START_TEST(libraries_below_use_one_thread_inside_and_the_hosts_outside)
{
    kdas_device *device = kd_test_cpu_open(NULL, 3);

    omp_set_num_threads(5);
    kd_backend_cpu.enter(device);
    ck_assert_int_eq(omp_get_max_threads(), 1);
    kd_backend_cpu.leave(device);
    ck_assert_int_eq(omp_get_max_threads(), 5);
    kd_backend_cpu.close(device);
}
END_TEST

START_TEST(only_device_0_exists)
{
    char why[64] = "";

    ck_assert_int_gt(kd_backend_cpu.probe(0, why, sizeof why), 0);
    ck_assert_int_eq(kd_backend_cpu.probe(1, why, sizeof why), 0);
    ck_assert_str_ne(why, "");
    ck_assert_int_gt(kd_backend_reference.probe(0, why, sizeof why), 0);
    ck_assert_int_eq(kd_backend_reference.probe(1, why, sizeof why), 0);
}
END_TEST

START_TEST(reference_has_memory_and_no_kernels)
{
    kdas_device_options options = { .size = sizeof options, .threads = 1 };
    const kdas_backend *b       = &kd_backend_reference;
    kdas_device        *device;
    char                text[80], back[4] = "";
    char               *memory;

    kd_assert_ok(b->open(&device, &kd_test_cpu_host, &options));
    ck_assert_int_eq(b->kernels[0].op, 0);
    ck_assert_int_eq(b->host_memory, 1);
    b->describe(device, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "reference"));
    memory = b->alloc(device, 4);
    kd_assert_ok(b->upload(device, memory, "abc", 4));
    kd_assert_ok(b->download(device, back, memory, 4));
    ck_assert_str_eq(back, "abc");
    kd_assert_ok(b->zero(device, memory, 4));
    ck_assert_int_eq(memory[0], 0);
    b->free(device, memory);
    b->close(device);
    b->close(NULL);
    ck_assert_int_eq(kd_test_cpu_blocks, 0);
}
END_TEST

/* ---- memory ---- */

/* Open, prepare every case, close, while allocation number k fails: a status and a sentence, no
 * leak. */
START_TEST(a_failing_allocation_is_reported_and_leaks_nothing)
{
    const kd_op_case   *test    = kd_test_cpu_case(_i);
    kdas_device_options options = { .size = sizeof options, .threads = 2 };
    const kdas_kernel  *kernel  = kd_test_cpu_kernel(test);
    bool                done    = !kd_op_needs_kernel(test->op);

    for (int k = 0; !done; k++) {
        kdas_device   *device;
        kdas_plan      plan = { 0 };
        kd_op_run      shapes;
        kdas_node_desc node;
        kdas_status    st;

        kd_assert_ok(kd_op_open(&shapes, test, NULL, NULL, NULL));
        node                    = shapes.node;
        kd_test_cpu_allocations = k;
        st                      = kd_backend_cpu.open(&device, &kd_test_cpu_host, &options);
        if (st == KDAS_OK) {
            st = kernel->prepare(device, &node, &plan);
            if (st == KDAS_OK) kernel->release(device, plan.state);
            kd_backend_cpu.close(device);
        }
        done                    = st == KDAS_OK;
        kd_test_cpu_allocations = -1;
        kd_op_close(&shapes);
        ck_assert_int_eq(kd_test_cpu_blocks, 0);
        if (st != KDAS_OK) ck_assert_int_eq(st, KDAS_ENOMEM);
        ck_assert_int_lt(k, 100);
    }
}
END_TEST

static Suite *kernels_suite(void)
{
    Suite *suite = suite_create("kernels");
    TCase *t     = tcase_create("against the reference");
    int    cases = kd_test_cpu_cases();

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, equals_the_reference, 0, ISAS * cases);
    tcase_add_loop_test(t, with_halves_it_follows_the_reference, 0, cases);
    tcase_add_loop_test(t, gives_the_same_bits_again, 0, cases);
    tcase_add_loop_test(t, infers_without_gradients, 0, cases);
    tcase_add_loop_test(t, gelu_is_that_of_the_error_function, 0, ISAS);
    tcase_add_loop_test(t, sigmoid_is_exact_to_rounding, 0, ISAS);
    tcase_add_loop_test(t, a_nan_is_not_lost, 0, ISAS);
    tcase_add_loop_test(t, a_nan_wins_its_window, 0, ISAS);
    tcase_add_loop_test(t, a_nan_wins_over_space_and_over_channels, 0, ISAS);
    suite_add_tcase(suite, t);

    t = tcase_create("device");
    tcase_add_test(t, every_op_of_the_device_has_a_kernel);
    tcase_add_test(t, types_other_than_f32_are_declined);
    tcase_add_test(t, an_unknown_instruction_set_is_refused);
    tcase_add_test(t, the_lower_of_option_and_environment_holds);
    tcase_add_test(t, describes_itself_in_one_line);
    tcase_add_test(t, tiles_are_used_where_they_are_and_may_be);
    tcase_add_test(t, libraries_below_use_one_thread_inside_and_the_hosts_outside);
    tcase_add_test(t, only_device_0_exists);
    tcase_add_test(t, reference_has_memory_and_no_kernels);
    tcase_add_loop_test(t, a_failing_allocation_is_reported_and_leaks_nothing, 0, cases);
    suite_add_tcase(suite, t);
    return suite;
}

/* Threads that wait by spinning would make thousands of tiny runs take minutes on a busy machine.
 * OpenMP reads this when it is loaded, so the program starts again. */
static void wait_passively(char **argv)
{
    if (getenv("OMP_WAIT_POLICY")) return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    SRunner *runner;
    int      failed;

    (void)argc;
    wait_passively(argv);
    runner = srunner_create(kernels_suite());
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
