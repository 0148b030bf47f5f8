/* cpu_util.c - see cpu_util.h. */
#include "support/cpu_util.h"
#include "base/context.h"
#include "support/check_util.h"
#include <check.h>
#include <stdlib.h>

/* ---- a host and its device ---- */

int kd_test_cpu_allocations = -1;
int kd_test_cpu_blocks;

static void *lend(void *user, size_t bytes)
{
    void *memory;

    (void)user;
    if (kd_test_cpu_allocations == 0) return NULL;
    if (kd_test_cpu_allocations > 0) kd_test_cpu_allocations--;
    memory =
        aligned_alloc(KDAS_ALIGNMENT, (bytes + KDAS_ALIGNMENT) / KDAS_ALIGNMENT * KDAS_ALIGNMENT);
    if (memory) kd_test_cpu_blocks++;
    return memory;
}

static void take_back(void *user, void *memory)
{
    (void)user;
    if (memory) kd_test_cpu_blocks--;
    free(memory);
}

static void log_nothing(void *user, kdas_log_level level, const char *text)
{
    (void)user, (void)level, (void)text;
}

const kdas_host kd_test_cpu_host = { .abi   = KDAS_BACKEND_ABI,
                                     .size  = sizeof kd_test_cpu_host,
                                     .alloc = lend,
                                     .free  = take_back,
                                     .log   = log_nothing,
                                     .fail  = kd_fail };

/* Not among the device's blocks. */
static void *team_alloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}
static void team_free(void *user, void *memory)
{
    (void)user;
    free(memory);
}

/* One for each count, to the end of the process. */
static void use_team(int threads)
{
    static kdas_context ctx = { .alloc = team_alloc, .free = team_free };
    static kd_team     *team[4];

    ck_assert_int_lt(threads, (int)KD_COUNT(team));
    if (threads > 1 && !team[threads])
        kd_assert_ok(kd_team_create(&team[threads], &ctx, threads, KDAS_WAIT_AUTO));
    kd_team_start(team[threads]);
    kd_team_use(team[threads]);
}

kdas_device *kd_test_cpu_open(const char *isa, int threads)
{
    kdas_device_options options = { .size = sizeof options, .threads = threads, .isa = isa };
    kdas_device        *device;

    kd_assert_ok(kd_backend_cpu.open(&device, &kd_test_cpu_host, &options));
    use_team(threads);
    return device;
}

const kdas_kernel *kd_test_cpu_kernel(const kd_op_case *test)
{
    for (const kdas_kernel *k = kd_backend_cpu.kernels; k->op; k++)
        if (k->op == test->op) return k;
    return NULL;
}

const kdas_kernel *kd_test_cpu_half_kernel(const kd_op_case *test)
{
    const kdas_kernel *k = kd_test_cpu_kernel(test);

    return k && k[1].op == test->op ? k + 1 : NULL;
}

bool kd_test_cpu_by_onednn(const kd_op_case *test)
{
    const kdas_conv_attr *a = &test->attr.conv;
    const int64_t        *w = test->in[1].desc.dim;

    if (test->op == KDAS_OP_CONV2D) return true;
    return test->op == KDAS_OP_DECONV2D &&
           (a->pad[0] || a->pad[1] || a->pad_end[0] || a->pad_end[1] || w[2] != a->stride ||
            w[3] != a->stride);
}

/* ---- comparing ---- */

void kd_test_cpu_assert_same(const kd_op_run *got, const kd_op_run *want, double tolerance,
                             const char *isa, int threads, const kd_op_options *o)
{
    char why[256];

    if (kd_op_same(got, want, tolerance, why, sizeof why)) return;
    ck_abort_msg("%s, %s, %d threads%s%s: %s", got->test->name, isa, threads,
                 o->add ? ", adding" : "", o->inplace ? ", in place" : "", why);
}

void kd_test_cpu_compare_half(const kd_op_case *test, kdas_device *device)
{
    kd_op_place place     = { &kd_backend_cpu, device };
    double      tolerance = test->op == KDAS_OP_MIX_FFN ? 1.0 / 64 : 1.0 / 128;

    for (int way = 0; way < 4; way++) {
        kd_op_options options = {
            .add = way & 1, .inplace = way & 2, .seed = 17, .half = KDAS_BF16
        };
        const kdas_kernel *kernel;
        kdas_node_desc     node;
        kd_op_run          want, got;

        kd_assert_ok(kd_op_run_case(&want, test, NULL, NULL, &options));
        kd_assert_ok(kd_op_node(&node, test, &options));
        kernel = kd_op_kernel_for(&kd_backend_cpu, device, &node);
        ck_assert_msg(kernel, "%s: bf16 is refused", test->name);
        if (kd_op_run_case(&got, test, kernel, &place, &options) != KDAS_OK)
            ck_abort_msg("%s in bf16: %s", test->name, kdas_last_error());
        kd_test_cpu_assert_same(&got, &want, tolerance, "bf16", device->threads, &options);
        kd_op_close(&got);
        kd_op_close(&want);
    }
}

/* ---- cases ---- */

/* Shapes that reach past one chunk, block, panel or part of the CPU's own kernels. */
static const kd_op_case wide_cases[] = {
    { .name  = "linear of more rows than a block",
      .op    = KDAS_OP_LINEAR,
      .wants = 7,
      .in    = { KD_TEST_OPERAND(2, 33, 31, 20), KD_TEST_WEIGHT(2, 50, 20, 1, 1),
                 KD_TEST_WEIGHT(1, 50, 1, 1, 1) } },
    { .name      = "linear whose weights are divided",
      .op        = KDAS_OP_LINEAR,
      .wants     = 7,
      .tolerance = 2e-5,
      .in        = { KD_TEST_OPERAND(1, 9, 31, 320), KD_TEST_WEIGHT(2, 517, 320, 1, 1),
                     KD_TEST_WEIGHT(1, 517, 1, 1, 1) } },
    { .name      = "linear whose rows are whole pages",
      .op        = KDAS_OP_LINEAR,
      .wants     = 7,
      .tolerance = 2e-5,
      .in        = { KD_TEST_OPERAND(1, 3, 7, 1024), KD_TEST_WEIGHT(2, 37, 1024, 1, 1),
                     KD_TEST_WEIGHT(1, 37, 1, 1, 1) } },
    { .name        = "matmul whose rows are whole pages",
      .op          = KDAS_OP_MATMUL,
      .wants       = 3,
      .attr.matmul = { 0, 1, 1.0f },
      .in          = { KD_TEST_OPERAND(1, 1, 40, 1024), KD_TEST_OPERAND(1, 1, 30, 1024) },
      .tolerance   = 2e-5 },
    { .name           = "attention of three chunks",
      .op             = KDAS_OP_ATTENTION,
      .wants          = 3,
      .tolerance      = 2e-5,
      .attr.attention = { 2, 0.25f },
      .in             = { KD_TEST_OPERAND(2, 46, 47, 22), KD_TEST_OPERAND(2, 5, 7, 44) } },
    { .name           = "attention to many keys",
      .op             = KDAS_OP_ATTENTION,
      .wants          = 3,
      .attr.attention = { 1, 0.2f },
      .in             = { KD_TEST_OPERAND(1, 9, 11, 16), KD_TEST_OPERAND(1, 40, 41, 32) } },
    { .name        = "matmul of more columns than a chunk",
      .op          = KDAS_OP_MATMUL,
      .wants       = 3,
      .attr.matmul = { 1, 0, 0.5f },
      .in          = { KD_TEST_OPERAND(2, 1, 9, 16), KD_TEST_OPERAND(2, 1, 9, 700) } },
    { .name        = "matmul transposed to more columns than a chunk",
      .op          = KDAS_OP_MATMUL,
      .wants       = 3,
      .attr.matmul = { 0, 1, 2.0f },
      .in          = { KD_TEST_OPERAND(1, 2, 300, 5), KD_TEST_OPERAND(1, 2, 310, 5) } },
    { .name      = "cast to bf16",
      .op        = KDAS_OP_CAST,
      .wants     = 1,
      .tolerance = -1,
      .attr.cast = { KDAS_BF16 },
      .in        = { KD_TEST_OPERAND(2, 5, 7, 9) } },
    { .name  = "bce of more than a chunk",
      .op    = KDAS_OP_BCE,
      .wants = 1,
      .in    = { KD_TEST_OPERAND(2, 99, 101, 1), KD_TEST_OPERAND(2, 99, 101, 1),
                 KD_TEST_OPERAND(0, 0, 0, 0) } },
    { .name    = "kl of more than a chunk",
      .op      = KDAS_OP_KL,
      .wants   = 1,
      .attr.kl = { 2 },
      .in      = { KD_TEST_OPERAND(2, 99, 101, 1), KD_TEST_OPERAND(2, 99, 101, 1) } },
    { .name      = "mean of more than a chunk",
      .op        = KDAS_OP_MEAN,
      .wants     = 1,
      .tolerance = 1e-4,
      .in        = { KD_TEST_OPERAND(3, 99, 101, 1) } },
    { .name          = "boundary of several strips",
      .op            = KDAS_OP_BOUNDARY,
      .attr.boundary = { 31, 5 },
      .in = { { .desc = { KDAS_F32, 4, { 2, 77, 40, 1 } }, .values = KD_VALUES_BINARY } } },
    { .name      = "dwconv2d 3x3 of every strip",
      .op        = KDAS_OP_DWCONV2D,
      .wants     = 7,
      .attr.conv = { 1, { 1, 1 }, { 1, 1 }, 1, 1 },
      .tolerance = 2e-5,
      .in        = { KD_TEST_OPERAND(2, 13, 23, 40), KD_TEST_WEIGHT(4, 40, 1, 3, 3),
                     KD_TEST_WEIGHT(1, 40, 1, 1, 1) } },
    { .name      = "conv2d 3x3 of several blocks of tiles",
      .op        = KDAS_OP_CONV2D,
      .wants     = 7,
      .attr.conv = { 1, { 1, 1 }, { 1, 1 }, 1, 1 },
      .in        = { KD_TEST_OPERAND(2, 50, 59, 20), KD_TEST_WEIGHT(4, 40, 20, 3, 3),
                     KD_TEST_WEIGHT(1, 40, 1, 1, 1) } },
#define POST_CASE(text, op_, post_, ...) \
    { .name = text, .op = KDAS_OP_##op_, .post = KDAS_POST_##post_, __VA_ARGS__ }
    POST_CASE("linear and relu6", LINEAR, RELU6,
              .in = { KD_TEST_OPERAND(2, 5, 7, 40), KD_TEST_WEIGHT(2, 70, 40, 1, 1),
                      KD_TEST_WEIGHT(1, 70, 1, 1, 1) }),
    POST_CASE("linear, odd, and relu", LINEAR, RELU,
              .in = { KD_TEST_OPERAND(1, 3, 7, 9), KD_TEST_WEIGHT(2, 19, 9, 1, 1) }),
    POST_CASE("linear of rows of a page, and relu6", LINEAR, RELU6,
              .in = { KD_TEST_OPERAND(1, 3, 7, 2048), KD_TEST_WEIGHT(2, 9, 2048, 1, 1) }),
    POST_CASE("conv2d 3x3 and relu6", CONV2D, RELU6, .attr.conv = { 1, { 1, 1 }, { 1, 1 }, 1, 1 },
              .in = { KD_TEST_OPERAND(1, 5, 7, 35), KD_TEST_WEIGHT(4, 18, 35, 3, 3),
                      KD_TEST_WEIGHT(1, 18, 1, 1, 1) }),
    POST_CASE("conv2d 3x3 and relu", CONV2D, RELU, .attr.conv = { 1, { 1, 1 }, { 1, 1 }, 1, 1 },
              .in = { KD_TEST_OPERAND(2, 9, 4, 16), KD_TEST_WEIGHT(4, 32, 16, 3, 3) }),
    POST_CASE("dwconv2d 3x3 and relu6", DWCONV2D, RELU6,
              .attr.conv = { 1, { 1, 1 }, { 1, 1 }, 1, 1 },
              .in = { KD_TEST_OPERAND(1, 5, 7, 35), KD_TEST_WEIGHT(4, 35, 1, 3, 3),
                      KD_TEST_WEIGHT(1, 35, 1, 1, 1) }),
    POST_CASE("dwconv2d 5x5 s2 and relu", DWCONV2D, RELU,
              .attr.conv = { 2, { 1, 1 }, { 2, 2 }, 1, 1 },
              .in = { KD_TEST_OPERAND(1, 11, 13, 20), KD_TEST_WEIGHT(4, 20, 1, 5, 5) }),
    POST_CASE("dwconv2d 7x7 and relu6", DWCONV2D, RELU6,
              .attr.conv = { 1, { 3, 3 }, { 3, 3 }, 1, 1 },
              .in = { KD_TEST_OPERAND(1, 5, 7, 20), KD_TEST_WEIGHT(4, 20, 1, 7, 7) }),
#define INVERTED(text, k, s, n, h, w, c, f, o, ...)                                         \
    {                                                                                       \
        .name = text, .op = KDAS_OP_INVERTED, .tolerance = 2e-5,                            \
        .attr.inverted = { { s, { (k - s) / 2, (k - s) / 2 }, { k / 2, k / 2 }, 1, 1 },     \
                           KDAS_POST_RELU6,                                                 \
                           KDAS_POST_RELU6 },                                               \
        .in = { KD_TEST_OPERAND(n, h, w, c), KD_TEST_WEIGHT(2, f, c, 1, 1),                 \
                KD_TEST_WEIGHT(1, f, 1, 1, 1), KD_TEST_WEIGHT(4, f, 1, k, k),               \
                KD_TEST_WEIGHT(1, f, 1, 1, 1), KD_TEST_WEIGHT(2, o, f, 1, 1),               \
                KD_TEST_WEIGHT(1, o, 1, 1, 1), __VA_ARGS__ }                                \
    }
    INVERTED("inverted 3x3 of several bands", 3, 1, 1, 45, 40, 7, 50, 7, KD_TEST_OPERAND(1, 45, 40, 7)),
    INVERTED("inverted 5x5 of several bands", 5, 1, 1, 45, 39, 6, 50, 6, KD_TEST_OPERAND(1, 45, 39, 6)),
    INVERTED("inverted 3x3 s2 of several bands", 3, 2, 1, 67, 62, 5, 40, 9, { .scale = 0 }),
    INVERTED("inverted 5x5 s2 of bands of one row", 5, 2, 1, 9, 901, 3, 18, 5, { .scale = 0 }),
    INVERTED("inverted of images that end inside a part", 5, 1, 5, 17, 5, 24, 64, 24,
             KD_TEST_OPERAND(5, 17, 5, 24)),
    INVERTED("inverted whose panels are divided", 3, 1, 1, 6, 7, 20, 1100, 33,
             KD_TEST_OPERAND(1, 6, 7, 33)),
    INVERTED("inverted 5x5 s2 whose panels are divided", 5, 2, 2, 9, 11, 20, 1100, 33, { .scale = 0 }),
#define FFN(text, mask, n, h, w, c, f, o)                                              \
    {                                                                                  \
        .name = text, .op = KDAS_OP_MIX_FFN, .wants = mask, .tolerance = 2e-5, .in = { \
            KD_TEST_OPERAND(n, h, w, c),                                               \
            KD_TEST_WEIGHT(2, f, c, 1, 1),                                             \
            KD_TEST_WEIGHT(1, f, 1, 1, 1),                                             \
            KD_TEST_WEIGHT(4, f, 1, 3, 3),                                             \
            KD_TEST_WEIGHT(1, f, 1, 1, 1),                                             \
            KD_TEST_WEIGHT(2, o, f, 1, 1),                                             \
            KD_TEST_WEIGHT(1, o, 1, 1, 1),                                             \
            KD_TEST_OPERAND(n, h, w, o)                                                \
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

int kd_test_cpu_cases(void) { return kd_op_case_count + WIDE_CASES; }

const kd_op_case *kd_test_cpu_case(int i)
{
    return i < kd_op_case_count ? &kd_op_cases[i] : &wide_cases[i - kd_op_case_count];
}
