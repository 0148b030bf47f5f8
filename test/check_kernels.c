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
#include "support/check_util.h"
#include "support/op_run.h"

/* ---- a host and its device ---- */

static int allocations_left = -1; /* before they fail; negative: they do not */
static int blocks_held;

static void *lend(void *user, size_t bytes)
{
    void *memory;

    (void)user;
    if (allocations_left == 0) return NULL;
    if (allocations_left > 0) allocations_left--;
    memory =
        aligned_alloc(KDAS_ALIGNMENT, (bytes + KDAS_ALIGNMENT) / KDAS_ALIGNMENT * KDAS_ALIGNMENT);
    if (memory) blocks_held++;
    return memory;
}

static void take_back(void *user, void *memory)
{
    (void)user;
    if (memory) blocks_held--;
    free(memory);
}

static void log_nothing(void *user, kdas_log_level level, const char *text)
{
    (void)user, (void)level, (void)text;
}

static const kdas_host host = { .abi   = KDAS_BACKEND_ABI,
                                .size  = sizeof host,
                                .alloc = lend,
                                .free  = take_back,
                                .log   = log_nothing,
                                .fail  = kd_fail };

static const char *const isas[] = { "avx512", "avx2", "plain" };
enum { ISAS = 3 };

static kdas_device *open_device(const char *isa, int threads)
{
    kdas_device_options options = { .size = sizeof options, .threads = threads, .isa = isa };
    kdas_device        *device;

    kd_assert_ok(kd_backend_cpu.open(&device, &host, &options));
    return device;
}

static const kdas_kernel *kernel_of(const kdas_device *device, const kd_op_case *test)
{
    (void)device;
    for (const kdas_kernel *k = kd_backend_cpu.kernels; k->op; k++)
        if (k->op == test->op) return k;
    return NULL;
}

/* The kernel that takes activations in bf16: an op's second one; NULL: it has none. */
static const kdas_kernel *half_kernel_of(const kd_op_case *test)
{
    const kdas_kernel *k = kernel_of(NULL, test);

    return k && k[1].op == test->op ? k + 1 : NULL;
}

/* ---- against the reference ---- */

static void check_same(const kd_op_run *got, const kd_op_run *want, double tolerance,
                       const char *isa, int threads, const kd_op_options *o)
{
    char why[256];

    if (kd_op_same(got, want, tolerance, why, sizeof why)) return;
    ck_abort_msg("%s, %s, %d threads%s%s: %s", got->test->name, isa, threads,
                 o->add ? ", adding" : "", o->inplace ? ", in place" : "", why);
}

static void run_case(kd_op_run *run, const kd_op_case *test, kdas_device *device,
                     const kd_op_options *options)
{
    kd_op_place place = { &kd_backend_cpu, device };

    if (kd_op_run_case(run, test, kernel_of(device, test), &place, options) != KDAS_OK)
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
            kdas_device *device = open_device(isa, threads);
            kd_op_run    got;

            ck_assert_str_eq(device->isa, isa);
            if (threads == 3) device->large = 0; /* every output is written past the caches */
            run_case(&got, test, device, &options);
            ck_assert(got.supported);
            check_same(&got, &want, kd_case_tolerance(test), isa, threads, &options);
            kd_op_close(&got);
            kd_backend_cpu.close(device);
        }
        kd_op_close(&want);
    }
}

/* One case with activations in bf16 against the reference in f32 on the same values. An output is off
 * by its own rounding, 2^-9 of itself; what is rounded on the way (probabilities, rows that are paired)
 * and gradients that are added to by halves make that a few times more of the largest element; four ops
 * in one round four times. */
static void compare_half(const kd_op_case *test, kdas_device *device)
{
    kd_op_place place     = { &kd_backend_cpu, device };
    double      tolerance = test->op == KDAS_OP_MIX_FFN ? 1.0 / 64 : 1.0 / 128;

    for (int way = 0; way < 4; way++) {
        kd_op_options options = { .add = way & 1, .inplace = way & 2, .seed = 17, .half = true };
        kd_op_run     want, got;

        kd_assert_ok(kd_op_run_case(&want, test, NULL, NULL, &options));
        if (kd_op_run_case(&got, test, half_kernel_of(test), &place, &options) != KDAS_OK)
            ck_abort_msg("%s in bf16: %s", test->name, kdas_last_error());
        ck_assert_msg(got.supported, "%s: bf16 is refused", test->name);
        check_same(&got, &want, tolerance, "bf16", device->threads, &options);
        kd_op_close(&got);
        kd_op_close(&want);
    }
}

static bool machine_has(const char *isa)
{
    kdas_device *device = open_device(isa, 1);
    bool         has    = !strcmp(device->isa, isa);

    kd_backend_cpu.close(device);
    return has;
}

/* Shapes that reach past one chunk, block, panel or part of the CPU's own kernels. */
#define OPERAND(n, h, w, c)                                    \
    {                                                          \
        .desc = { KDAS_F32, 4, { n, h, w, c } }, .scale = 1.0f \
    }
#define WEIGHT(r, a, b, c, d)                                                 \
    {                                                                         \
        .desc = { KDAS_F32, r, { a, b, c, d } }, .scale = 0.5f, .param = true \
    }
static const kd_op_case wide_cases[] = {
    { .name  = "linear of more rows than a block",
      .op    = KDAS_OP_LINEAR,
      .wants = 7,
      .in    = { OPERAND(2, 33, 31, 20), WEIGHT(2, 50, 20, 1, 1), WEIGHT(1, 50, 1, 1, 1) } },
    { .name      = "linear whose weights are divided",
      .op        = KDAS_OP_LINEAR,
      .wants     = 7,
      .tolerance = 2e-5,
      .in        = { OPERAND(1, 9, 31, 320), WEIGHT(2, 517, 320, 1, 1), WEIGHT(1, 517, 1, 1, 1) } },
    { .name      = "linear whose rows are whole pages",
      .op        = KDAS_OP_LINEAR,
      .wants     = 7,
      .tolerance = 2e-5,
      .in        = { OPERAND(1, 3, 7, 1024), WEIGHT(2, 37, 1024, 1, 1), WEIGHT(1, 37, 1, 1, 1) } },
    { .name        = "matmul whose rows are whole pages",
      .op          = KDAS_OP_MATMUL,
      .wants       = 3,
      .attr.matmul = { 0, 1, 1.0f },
      .in          = { OPERAND(1, 1, 40, 1024), OPERAND(1, 1, 30, 1024) },
      .tolerance   = 2e-5 },
    { .name           = "attention of three chunks",
      .op             = KDAS_OP_ATTENTION,
      .wants          = 3,
      .tolerance      = 2e-5,
      .attr.attention = { 2, 0.25f },
      .in             = { OPERAND(2, 46, 47, 22), OPERAND(2, 5, 7, 44) } },
    { .name           = "attention to many keys",
      .op             = KDAS_OP_ATTENTION,
      .wants          = 3,
      .attr.attention = { 1, 0.2f },
      .in             = { OPERAND(1, 9, 11, 16), OPERAND(1, 40, 41, 32) } },
    { .name        = "matmul of more columns than a chunk",
      .op          = KDAS_OP_MATMUL,
      .wants       = 3,
      .attr.matmul = { 1, 0, 0.5f },
      .in          = { OPERAND(2, 1, 9, 16), OPERAND(2, 1, 9, 700) } },
    { .name        = "matmul transposed to more columns than a chunk",
      .op          = KDAS_OP_MATMUL,
      .wants       = 3,
      .attr.matmul = { 0, 1, 2.0f },
      .in          = { OPERAND(1, 2, 300, 5), OPERAND(1, 2, 310, 5) } },
    { .name      = "cast to bf16",
      .op        = KDAS_OP_CAST,
      .wants     = 1,
      .tolerance = -1,
      .attr.cast = { KDAS_BF16 },
      .in        = { OPERAND(2, 5, 7, 9) } },
    { .name  = "bce of more than a chunk",
      .op    = KDAS_OP_BCE,
      .wants = 1,
      .in    = { OPERAND(2, 99, 101, 1), OPERAND(2, 99, 101, 1), OPERAND(0, 0, 0, 0) } },
    { .name    = "kl of more than a chunk",
      .op      = KDAS_OP_KL,
      .wants   = 1,
      .attr.kl = { 2 },
      .in      = { OPERAND(2, 99, 101, 1), OPERAND(2, 99, 101, 1) } },
    { .name      = "mean of more than a chunk",
      .op        = KDAS_OP_MEAN,
      .wants     = 1,
      .tolerance = 1e-4,
      .in        = { OPERAND(3, 99, 101, 1) } },
    { .name          = "boundary of several strips",
      .op            = KDAS_OP_BOUNDARY,
      .attr.boundary = { 31, 5 },
      .in = { { .desc = { KDAS_F32, 4, { 2, 77, 40, 1 } }, .values = KD_VALUES_BINARY } } },
    { .name      = "dwconv2d 3x3 of every strip",
      .op        = KDAS_OP_DWCONV2D,
      .wants     = 7,
      .attr.conv = { 1, 1 },
      .tolerance = 2e-5,
      .in        = { OPERAND(2, 13, 23, 40), WEIGHT(4, 40, 1, 3, 3), WEIGHT(1, 40, 1, 1, 1) } },
#define FFN(text, mask, n, h, w, c, f, o)                                              \
    {                                                                                  \
        .name = text, .op = KDAS_OP_MIX_FFN, .wants = mask, .tolerance = 2e-5, .in = { \
            OPERAND(n, h, w, c),                                                       \
            WEIGHT(2, f, c, 1, 1),                                                     \
            WEIGHT(1, f, 1, 1, 1),                                                     \
            WEIGHT(4, f, 1, 3, 3),                                                     \
            WEIGHT(1, f, 1, 1, 1),                                                     \
            WEIGHT(2, o, f, 1, 1),                                                     \
            WEIGHT(1, o, 1, 1, 1),                                                     \
            OPERAND(n, h, w, o)                                                        \
        }                                                                              \
    }
    FFN("mix_ffn of several bands", 255, 1, 45, 40, 7, 50, 7),
    FFN("mix_ffn of several bands that keeps fc1", 255, 1, 45, 40, 50, 33, 9),
    FFN("mix_ffn of bands of one row", 255, 1, 7, 450, 5, 20, 5),
    FFN("mix_ffn of images that end inside a part", 255, 5, 17, 5, 48, 64, 48),
    FFN("mix_ffn whose panels are divided", 255, 1, 6, 7, 20, 700, 33),
    FFN("mix_ffn whose panels are divided, keeping fc1", 255, 1, 3, 9, 64, 533, 64),
    FFN("mix_ffn whose panels are divided, without dx", 126, 1, 6, 7, 20, 700, 33),
    FFN("mix_ffn without the parameters' gradients", 129, 2, 21, 20, 50, 70, 50),
};
enum { WIDE_CASES = sizeof wide_cases / sizeof *wide_cases };

static const kd_op_case *case_at(int i)
{
    return i < kd_op_case_count ? &kd_op_cases[i] : &wide_cases[i - kd_op_case_count];
}

START_TEST(equals_the_reference)
{
    const kd_op_case *test = case_at(_i / ISAS);
    const char       *isa  = isas[_i % ISAS];

    if (test->op == KDAS_OP_RESHAPE) return; /* never reaches a kernel */
    if (machine_has(isa)) compare_case(test, isa);
}
END_TEST

START_TEST(with_halves_it_follows_the_reference)
{
    const kd_op_case *test = case_at(_i);

    if (!half_kernel_of(test)) return;
    for (int threads = 1; threads <= 3; threads++) {
        kdas_device *device = open_device(NULL, threads);

        if (threads == 3) device->large = 0;
        if (device->half) compare_half(test, device);
        kd_backend_cpu.close(device);
    }
}
END_TEST

START_TEST(gives_the_same_bits_again)
{
    const kd_op_case *test = case_at(_i);

    if (test->op == KDAS_OP_RESHAPE) return;
    for (int threads = 1; threads <= 3; threads++) {
        kd_op_options options = { .seed = 17 };
        kdas_device  *device  = open_device(NULL, threads);
        kd_op_run     first, second;

        run_case(&first, test, device, &options);
        run_case(&second, test, device, &options);
        check_same(&second, &first, -1, device->isa, threads, &options);
        kd_op_close(&first);
        kd_op_close(&second);
        kd_backend_cpu.close(device);
    }
}
END_TEST

START_TEST(infers_without_gradients)
{
    const kd_op_case *test    = case_at(_i);
    kd_op_options     options = { .forward_only = true, .seed = 17 };
    kdas_device      *device  = open_device(NULL, 2);
    kd_op_run         got, want;

    if (test->op != KDAS_OP_RESHAPE) {
        kd_assert_ok(kd_op_run_case(&want, test, NULL, NULL, &options));
        run_case(&got, test, device, &options);
        check_same(&got, &want, kd_case_tolerance(test), device->isa, 2, &options);
        kd_op_close(&got);
        kd_op_close(&want);
    }
    kd_backend_cpu.close(device);
}
END_TEST

/* ---- the table ---- */

START_TEST(every_op_but_reshape_has_a_kernel)
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

        ck_assert_msg(!kernel_of(NULL, &test) == (numbers[i] == KDAS_OP_RESHAPE), "op %d (%s)",
                      numbers[i], kd_op_name(numbers[i]));
    }
}
END_TEST

START_TEST(types_other_than_f32_are_declined)
{
    kdas_device   *device = open_device(NULL, 1);
    kdas_node_desc node   = {
          .op = KDAS_OP_RELU, .inputs = 1, .in = { kd_desc(1, 2, 3, 4) }, .out = kd_desc(1, 2, 3, 4)
    };
    kd_op_case test = { .op = KDAS_OP_RELU };

    ck_assert(kernel_of(device, &test)->supports(device, &node));
    node.in[0].dtype = node.out.dtype = KDAS_BF16;
    ck_assert(!kernel_of(device, &test)->supports(device, &node));
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
    kd_op_case    test    = { .name = "accuracy", .op = op, .in = { OPERAND(1, 1, N, 1) } };
    kd_op_options options = { .forward_only = true };
    kdas_device  *device  = open_device(isa, 2);
    kd_op_place   place   = { &kd_backend_cpu, device };
    kd_op_run     run;
    double        worst = 0;

    kd_assert_ok(kd_op_open(&run, &test, kernel_of(device, &test), &place, &options));
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
    static const int32_t ops[]   = { KDAS_OP_GELU,    KDAS_OP_SIGMOID, KDAS_OP_SCALE,
                                     KDAS_OP_SOFTMAX, KDAS_OP_CENTER,  KDAS_OP_MEAN };
    kdas_device         *device  = open_device(isas[_i], 1);
    kd_op_place          place   = { &kd_backend_cpu, device };
    kd_op_options        options = { .forward_only = true };

    for (size_t i = 0; i < KD_COUNT(ops); i++) {
        kd_op_case test = {
            .name = "nan", .op = ops[i], .attr.scale = { 2, 1 }, .in = { OPERAND(1, 1, 1, 37) }
        };
        kd_op_run run;

        kd_assert_ok(kd_op_open(&run, &test, kernel_of(device, &test), &place, &options));
        run.in[0][0] = NAN;
        kd_assert_ok(kd_op_forward(&run));
        ck_assert_msg(isnan(((float *)run.out)[0]), "%s", kd_op_name(ops[i]));
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

    kd_assert_status(kd_backend_cpu.open(&device, &host, &options), KDAS_EINVAL);
    kd_assert_sentence("mmx");
    ck_assert_ptr_null(device);
    options.isa = NULL;
    setenv("KDAS_CPU_ISA", "neon", 1);
    kd_assert_status(kd_backend_cpu.open(&device, &host, &options), KDAS_EINVAL);
    kd_assert_sentence("KDAS_CPU_ISA");
    unsetenv("KDAS_CPU_ISA");
}
END_TEST

START_TEST(the_lower_of_option_and_environment_holds)
{
    kdas_device *device;

    setenv("KDAS_CPU_ISA", "plain", 1);
    device = open_device("avx2", 1);
    ck_assert_str_eq(device->isa, "plain");
    kd_backend_cpu.close(device);
    setenv("KDAS_CPU_ISA", "avx512", 1);
    device = open_device("plain", 1);
    ck_assert_str_eq(device->isa, "plain");
    kd_backend_cpu.close(device);
    unsetenv("KDAS_CPU_ISA");
}
END_TEST

START_TEST(describes_itself_in_one_line)
{
    kdas_device *device = open_device("plain", 2);
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

START_TEST(threads_are_set_inside_and_restored_outside)
{
    kdas_device *device = open_device(NULL, 3);

    omp_set_num_threads(5);
    kd_backend_cpu.enter(device);
    ck_assert_int_eq(omp_get_max_threads(), 3);
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

    kd_assert_ok(b->open(&device, &host, &options));
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
    ck_assert_int_eq(blocks_held, 0);
}
END_TEST

/* ---- memory ---- */

/* Open, prepare every case, close, while allocation number k fails: a status and a sentence, no
 * leak. */
START_TEST(a_failing_allocation_is_reported_and_leaks_nothing)
{
    const kd_op_case   *test    = case_at(_i);
    kdas_device_options options = { .size = sizeof options, .threads = 2 };
    const kdas_kernel  *kernel  = kernel_of(NULL, test);
    bool                done    = test->op == KDAS_OP_RESHAPE;

    for (int k = 0; !done; k++) {
        kdas_device   *device;
        kdas_plan      plan = { 0 };
        kd_op_run      shapes;
        kdas_node_desc node;
        kdas_status    st;

        kd_assert_ok(kd_op_open(&shapes, test, NULL, NULL, NULL));
        node             = shapes.node;
        allocations_left = k;
        st               = kd_backend_cpu.open(&device, &host, &options);
        if (st == KDAS_OK) {
            st = kernel->prepare(device, &node, &plan);
            if (st == KDAS_OK) kernel->release(device, plan.state);
            kd_backend_cpu.close(device);
        }
        done             = st == KDAS_OK;
        allocations_left = -1;
        kd_op_close(&shapes);
        ck_assert_int_eq(blocks_held, 0);
        if (st != KDAS_OK) ck_assert_int_eq(st, KDAS_ENOMEM);
        ck_assert_int_lt(k, 100);
    }
}
END_TEST

static Suite *kernels_suite(void)
{
    Suite *suite = suite_create("kernels");
    TCase *t     = tcase_create("against the reference");
    int    cases = kd_op_case_count + WIDE_CASES;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, equals_the_reference, 0, ISAS * cases);
    tcase_add_loop_test(t, with_halves_it_follows_the_reference, 0, cases);
    tcase_add_loop_test(t, gives_the_same_bits_again, 0, cases);
    tcase_add_loop_test(t, infers_without_gradients, 0, cases);
    tcase_add_loop_test(t, gelu_is_that_of_the_error_function, 0, ISAS);
    tcase_add_loop_test(t, sigmoid_is_exact_to_rounding, 0, ISAS);
    tcase_add_loop_test(t, a_nan_is_not_lost, 0, ISAS);
    suite_add_tcase(suite, t);

    t = tcase_create("device");
    tcase_add_test(t, every_op_but_reshape_has_a_kernel);
    tcase_add_test(t, types_other_than_f32_are_declined);
    tcase_add_test(t, an_unknown_instruction_set_is_refused);
    tcase_add_test(t, the_lower_of_option_and_environment_holds);
    tcase_add_test(t, describes_itself_in_one_line);
    tcase_add_test(t, threads_are_set_inside_and_restored_outside);
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
