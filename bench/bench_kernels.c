/* bench_kernels.c - times single kernels of the CPU backend at the shapes of a training step
 * (batch 8, 352x352) and prints them as TSV: op, shape, pass, milliseconds, GFLOP/s, GB/s of
 * operands touched once.
 *
 *   bench_kernels [-b] [-t THREADS] [-i ISA] [-r REPEATS] [-l BYTES_OF_A_LARGE_OUTPUT] [PART_OF_NAME]
 *
 * -b: the kernels with bf16 activations, where there are such.
 *
 * The first lines are the machine's own limits: multiplications of registers, and memory
 * copied. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "backend/cpu/cpu.h"
#include "base/context.h"
#include "base/regions.h"
#include "op/op.h"

typedef union attributes {
    kdas_conv_attr      conv;
    kdas_norm_attr      norm;
    kdas_scale_attr     scale;
    kdas_resize_attr    resize;
    kdas_pool_attr      pool;
    kdas_attention_attr attention;
    kdas_matmul_attr    matmul;
    kdas_drop_attr      drop;
    kdas_overlap_attr   overlap;
    kdas_boundary_attr  boundary;
    kdas_kl_attr        kl;
    kdas_adamw_attr     adamw;
    kdas_window_attr    window;
    kdas_leaky_attr     leaky;
    kdas_recolour_attr  recolour;
} attributes;

typedef struct bench {
    const char *name;
    int32_t     op;
    uint32_t    wants, flags;
    attributes  attr;
    int64_t     in[5][4];
} bench;

/* clang-format off */
#define CONV(text, wants, n, h, w, c, o, k, s, p) \
    { text, KDAS_OP_CONV2D, wants, 0, { .conv = { s, { p, p }, { p, p }, 1, 1 } }, { { n, h, w, c }, { o, c, k, k } } }
/* kh x kw, padded to keep the size; `groups` of C and O */
#define CONV_FORM(text, n, h, w, c, o, kh, kw, dilation, groups)                                     \
    { text, KDAS_OP_CONV2D, 3, 0,                                                                    \
      { .conv = { 1, { dilation * (kh / 2), dilation * (kw / 2) },                                   \
                  { dilation * (kh / 2), dilation * (kw / 2) }, dilation, groups } },                \
      { { n, h, w, c }, { o, c / groups, kh, kw } } }
#define DECONV(text, n, h, w, c, o, k, s, p)                                                         \
    { text, KDAS_OP_DECONV2D, 7, 0, { .conv = { s, { p, p }, { p, p }, 1, 1 } },                     \
      { { n, h, w, c }, { c, o, k, k }, { o, 1, 1, 1 } } }
#define WINDOW(text, OP, n, h, w, c, size, stride, pad)                                              \
    { text, KDAS_OP_##OP, 1, 0, { .window = { size, stride, pad, 0, 1 } }, { { n, h, w, c } } }
#define SLOPED(text, OP, n, h, w, c)                                                                 \
    { text, KDAS_OP_##OP, 1, 0, { .leaky = { 0.2f } }, { { n, h, w, c } } }
#define DW(n, h, w, c)                                      \
    { "dwconv", KDAS_OP_DWCONV2D, 7, 0, { .conv = { 1, { 1, 1 }, { 1, 1 }, 1, 1 } }, \
      { { n, h, w, c }, { c, 1, 3, 3 }, { c, 1, 1, 1 } } }
#define LINEAR(n, h, w, c, o)                       \
    { "linear", KDAS_OP_LINEAR, 7, 0, { { 0 } },    \
      { { n, h, w, c }, { o, c, 1, 1 }, { o, 1, 1, 1 } } }
#define ATTENTION(n, h, w, c, heads)                                            \
    { "attention", KDAS_OP_ATTENTION, 3, 0, { .attention = { heads, 0.1f } },   \
      { { n, h, w, c }, { n, 11, 11, 2 * c } } }
#define UNARY(text, OP, n, h, w, c) { text, KDAS_OP_##OP, 1, 0, { { 0 } }, { { n, h, w, c } } }
#define NORM(n, h, w, c)                                                    \
    { "layer_norm", KDAS_OP_LAYER_NORM, 7, 0, { .norm = { 1e-6f, 0 } },     \
      { { n, h, w, c }, { c, 1, 1, 1 }, { c, 1, 1, 1 } } }
#define BATCH(n, h, w, c)                                                                   \
    { "batch_norm", KDAS_OP_BATCH_NORM, 7, KDAS_NODE_TRAIN, { .norm = { 1e-5f, 0.1f } },    \
      { { n, h, w, c }, { c, 1, 1, 1 }, { c, 1, 1, 1 }, { c, 1, 1, 1 }, { c, 1, 1, 1 } } }
/* clang-format on */

static const bench benches[] = {
    LINEAR(8, 88, 88, 32, 32),
    LINEAR(8, 88, 88, 32, 256),
    LINEAR(8, 88, 88, 256, 32),
    LINEAR(8, 44, 44, 64, 512),
    LINEAR(8, 44, 44, 512, 64),
    LINEAR(8, 22, 22, 160, 640),
    LINEAR(8, 22, 22, 640, 160),
    LINEAR(8, 11, 11, 256, 1024),
    LINEAR(8, 11, 11, 1024, 256),
    LINEAR(8, 88, 88, 64, 512),
    LINEAR(8, 88, 88, 512, 64),
    LINEAR(8, 44, 44, 128, 1024),
    LINEAR(8, 44, 44, 1024, 128),
    LINEAR(8, 22, 22, 320, 1280),
    LINEAR(8, 11, 11, 512, 2048),
    LINEAR(8, 88, 88, 32, 1),
    CONV("conv 7x7 s4", 6, 8, 352, 352, 3, 32, 7, 4, 3),
    CONV("conv 7x7 s4", 0, 8, 352, 352, 3, 64, 7, 4, 3),
    CONV("conv 3x3 s2", 7, 8, 88, 88, 32, 64, 3, 2, 1),
    CONV("conv 3x3 s2", 7, 8, 44, 44, 64, 160, 3, 2, 1),
    CONV("conv 3x3 s2", 7, 8, 22, 22, 160, 256, 3, 2, 1),
    CONV("conv 8x8 s8", 7, 8, 88, 88, 32, 32, 8, 8, 0),
    CONV("conv 4x4 s4", 7, 8, 44, 44, 64, 64, 4, 4, 0),
    CONV("conv 2x2 s2", 7, 8, 22, 22, 160, 160, 2, 2, 0),
    CONV("conv 3x3", 7, 8, 44, 44, 32, 32, 3, 1, 1),
    CONV("conv 3x3", 7, 8, 44, 44, 64, 64, 3, 1, 1),
    CONV("conv 3x3", 7, 8, 44, 44, 96, 96, 3, 1, 1),
    CONV("conv 7x7", 7, 8, 88, 88, 2, 1, 7, 1, 3),
    CONV("conv 3x3", 7, 2, 352, 352, 64, 64, 3, 1, 1),
    CONV("conv 3x3", 7, 2, 352, 352, 32, 32, 3, 1, 1),
    CONV("conv 3x3", 7, 2, 44, 44, 512, 512, 3, 1, 1),
    CONV("conv 3x3", 6, 2, 352, 352, 3, 64, 3, 1, 1),
    CONV("conv 1x1", 7, 2, 352, 352, 64, 1, 1, 1, 0),
    CONV("conv 3x3", 7, 2, 352, 352, 64, 1, 3, 1, 1),
    CONV_FORM("conv 3x3 d3", 2, 44, 44, 32, 32, 3, 3, 3, 1),
    CONV_FORM("conv 3x3 d7", 2, 44, 44, 32, 32, 3, 3, 7, 1),
    CONV_FORM("conv 1x7", 2, 44, 44, 32, 32, 1, 7, 1, 1),
    CONV_FORM("conv 7x1", 2, 44, 44, 32, 32, 7, 1, 1, 1),
    CONV_FORM("conv 3x3 in 2 groups", 2, 88, 88, 64, 64, 3, 3, 1, 2),
    DECONV("deconv 2x2 s2", 2, 176, 176, 128, 64, 2, 2, 0),
    DECONV("deconv 2x2 s2", 2, 22, 22, 1024, 512, 2, 2, 0),
    DECONV("deconv 4x4 s2", 2, 88, 88, 64, 64, 4, 2, 1),
    DW(8, 88, 88, 256),
    DW(8, 44, 44, 512),
    DW(8, 22, 22, 640),
    DW(8, 11, 11, 1024),
    ATTENTION(8, 88, 88, 32, 1),
    ATTENTION(8, 44, 44, 64, 2),
    ATTENTION(8, 22, 22, 160, 5),
    ATTENTION(8, 11, 11, 256, 8),
    ATTENTION(8, 88, 88, 64, 1),
    NORM(8, 88, 88, 32),
    NORM(8, 44, 44, 64),
    NORM(8, 22, 22, 160),
    NORM(8, 11, 11, 256),
    BATCH(8, 88, 88, 32),
    BATCH(8, 44, 44, 96),
    UNARY("gelu", GELU, 8, 88, 88, 256),
    UNARY("gelu", GELU, 8, 22, 22, 640),
    UNARY("relu", RELU, 8, 44, 44, 32),
    UNARY("relu", RELU, 2, 352, 352, 64),
    UNARY("abs", ABS, 2, 352, 352, 64),
    UNARY("silu", SILU, 2, 352, 352, 64),
    SLOPED("leaky_relu", LEAKY_RELU, 2, 352, 352, 64),
    SLOPED("elu", ELU, 2, 352, 352, 64),
    { "dropout",
      KDAS_OP_DROPOUT,
      1,
      KDAS_NODE_TRAIN,
      { .drop = { 0.1f } },
      { { 2, 352, 352, 64 } } },
    { "recolour",
      KDAS_OP_RECOLOUR,
      0,
      0,
      { .recolour = { { 2, 1, 0 }, { 1, 1, 1 }, { 0, 0, 0 } } },
      { { 8, 352, 352, 3 } } },
    BATCH(2, 352, 352, 64),
    UNARY("sigmoid", SIGMOID, 8, 88, 88, 1),
    { "add", KDAS_OP_ADD, 3, 0, { { 0 } }, { { 8, 88, 88, 32 }, { 8, 88, 88, 32 } } },
    { "mul by channel", KDAS_OP_MUL, 3, 0, { { 0 } }, { { 8, 88, 88, 32 }, { 8, 1, 1, 32 } } },
    { "mul by pixel", KDAS_OP_MUL, 3, 0, { { 0 } }, { { 8, 88, 88, 32 }, { 8, 88, 88, 1 } } },
    { "drop_path",
      KDAS_OP_DROP_PATH,
      1,
      KDAS_NODE_TRAIN,
      { .drop = { 0.1f } },
      { { 8, 88, 88, 32 } } },
    { "resize x2", KDAS_OP_RESIZE, 1, 0, { .resize = { 44, 44, 1, 0 } }, { { 8, 22, 22, 32 } } },
    { "resize x2",
      KDAS_OP_RESIZE,
      1,
      0,
      { .resize = { 352, 352, 1, 0 } },
      { { 2, 176, 176, 64 } } },
    { "resize x1/2", KDAS_OP_RESIZE, 1, 0, { .resize = { 44, 44, 1, 0 } }, { { 8, 88, 88, 32 } } },
    { "resize x8", KDAS_OP_RESIZE, 1, 0, { .resize = { 352, 352, 0, 0 } }, { { 8, 44, 44, 1 } } },
    UNARY("softmax", SOFTMAX, 8, 44, 44, 32),
    UNARY("softmax", SOFTMAX, 8, 1, 352, 352),
    UNARY("pool_max", POOL_MAX, 8, 88, 88, 32),
    { "pool_avg", KDAS_OP_POOL_AVG, 1, 0, { .pool = { 1, 1, 0 } }, { { 8, 88, 88, 32 } } },
    WINDOW("window_max 2x2 s2", WINDOW_MAX, 2, 352, 352, 64, 2, 2, 0),
    WINDOW("window_max 3x3 s2", WINDOW_MAX, 2, 176, 176, 64, 3, 2, 1),
    WINDOW("window_max 3x3 s1", WINDOW_MAX, 2, 88, 88, 64, 3, 1, 1),
    WINDOW("window_avg 2x2 s2", WINDOW_AVG, 2, 176, 176, 64, 2, 2, 0),
    WINDOW("window_avg 3x3 s1", WINDOW_AVG, 2, 88, 88, 64, 3, 1, 1),
    WINDOW("window_avg 3x3 s2", WINDOW_AVG, 2, 88, 88, 64, 3, 2, 1),
    UNARY("channel_mean", CHANNEL_MEAN, 8, 88, 88, 32),
    UNARY("channel_max", CHANNEL_MAX, 8, 88, 88, 32),
    { "concat", KDAS_OP_CONCAT, 3, 0, { { 0 } }, { { 8, 44, 44, 64 }, { 8, 44, 44, 32 } } },
    { "concat", KDAS_OP_CONCAT, 3, 0, { { 0 } }, { { 2, 352, 352, 64 }, { 2, 352, 352, 64 } } },
    { "matmul 352^3",
      KDAS_OP_MATMUL,
      3,
      0,
      { .matmul = { 0, 1, 0.05f } },
      { { 8, 1, 352, 352 }, { 8, 1, 352, 352 } } },
    { "matmul 16 16 1936",
      KDAS_OP_MATMUL,
      3,
      0,
      { .matmul = { 0, 0, 1 } },
      { { 8, 1, 1936, 16 }, { 8, 1, 16, 16 } } },
    { "matmul 16 1936 16",
      KDAS_OP_MATMUL,
      3,
      0,
      { .matmul = { 1, 0, 1 } },
      { { 8, 1, 1936, 16 }, { 8, 1, 1936, 16 } } },
    { "bce", KDAS_OP_BCE, 1, 0, { { 0 } }, { { 8, 352, 352, 1 }, { 8, 352, 352, 1 } } },
    { "overlap",
      KDAS_OP_OVERLAP,
      1,
      0,
      { .overlap = { 0, 1 } },
      { { 8, 352, 352, 1 }, { 8, 352, 352, 1 } } },
    { "kl", KDAS_OP_KL, 1, 0, { .kl = { 2 } }, { { 8, 352, 352, 1 }, { 8, 352, 352, 1 } } },
    { "boundary", KDAS_OP_BOUNDARY, 0, 0, { .boundary = { 31, 5 } }, { { 8, 352, 352, 1 } } },
    { "adamw",
      KDAS_OP_ADAMW,
      0,
      0,
      { .adamw = { 1e-4f, 0.9f, 0.999f, 1e-8f, 1e-4f, 1, 0.5f, 3 } },
      { { 3650740, 1, 1, 1 }, { 3650740, 1, 1, 1 }, { 3650740, 1, 1, 1 }, { 3650740, 1, 1, 1 } } },
    { "sum_squares", KDAS_OP_SUM_SQUARES, 0, 0, { { 0 } }, { { 3650740, 1, 1, 1 } } },
};

/* ---- a device that lives on malloc ---- */

static void *lend(void *user, size_t bytes)
{
    (void)user;
    return aligned_alloc(KDAS_ALIGNMENT,
                         (bytes + KDAS_ALIGNMENT) / KDAS_ALIGNMENT * KDAS_ALIGNMENT);
}
static void take_back(void *user, void *memory)
{
    (void)user;
    free(memory);
}
static void log_line(void *user, kdas_log_level level, const char *text)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", text);
}
static const kdas_host host = { .abi   = KDAS_BACKEND_ABI,
                                .size  = sizeof host,
                                .alloc = lend,
                                .free  = take_back,
                                .log   = log_line,
                                .fail  = kd_fail };

static kdas_context context = { .alloc = lend, .free = take_back };

static void die_on(kdas_status st)
{
    if (st == KDAS_OK) return;
    fprintf(stderr, "bench_kernels: %s\n", kdas_last_error());
    exit(EXIT_FAILURE);
}

static float *numbers(int64_t n)
{
    float *p = lend(NULL, (size_t)n * sizeof *p);

    if (!p) die_on(kd_fail(KDAS_ENOMEM, "out of memory"));
    for (int64_t i = 0; i < n; i++)
        p[i] = 0.25f + (float)(kd_mix64((uint64_t)i) >> 40) / 16777216.0f;
    return p;
}

/* An operand's values: floats, or the upper halves of floats. */
static void *operand(const kdas_desc *d)
{
    int64_t   n = kd_elements(d);
    float    *p = numbers(n);
    uint16_t *h = (uint16_t *)p;

    for (int64_t i = 0; d->dtype == KDAS_BF16 && i < n; i++)
        memcpy(&h[i], (char *)&p[i] + 2, sizeof *h);
    return p;
}

/* ---- one kernel ---- */

static bool half; /* measure the kernels with bf16 activations */

static const kdas_kernel *kernel_of(int32_t op)
{
    for (const kdas_kernel *k = kd_backend_cpu.kernels; k->op; k++)
        if (k->op == op) return half && k[1].op == op ? k + 1 : k;
    return NULL;
}

/* Make activations bf16, as the kernel would have them: the first of its inputs, the first two, or all. */
static bool make_half(kdas_device *device, const kdas_kernel *k, kdas_node_desc *node)
{
    static const uint32_t activations[] = { 1, 3, 0xff };

    node->out.dtype = KDAS_BF16;
    for (size_t m = 0; m < KD_COUNT(activations); m++) {
        for (int i = 0; i < node->inputs; i++)
            node->in[i].dtype = activations[m] >> i & 1 ? KDAS_BF16 : KDAS_F32;
        if (k->supports(device, node)) return true;
    }
    return false;
}

/* The attributes' memory stays that of `b`. */
static kdas_node_desc node_of(const bench *b)
{
    const kd_op   *op   = kd_op_find(b->op);
    kdas_node_desc node = { .op = b->op, .wants = b->wants, .flags = b->flags, .attr = &b->attr };

    for (int i = 0; i < 5 && b->in[i][0]; i++, node.inputs++) {
        node.in[i] = kd_desc(b->in[i][0], b->in[i][1], b->in[i][2], b->in[i][3]);
        if (i > 0 && b->in[i][3] == 1 && b->in[i][2] == 1)
            node.in[i].rank = b->in[i][1] == 1 ? 1 : 2;
    }
    node.out = kd_desc(1, 1, 1, 2);
    if (op) die_on(op->infer(&node));
    return node;
}

typedef struct totals {
    double flops, forward_bytes, backward_bytes;
} totals;

static totals totals_of(const bench *b, const kdas_node_desc *node)
{
    const kd_op *op = kd_op_find(b->op);
    totals       t  = { op && op->macs ? 2.0 * (double)op->macs(node) : 0, 0, 0 };
    double       in = 0, back = 0;

    for (int i = 0; i < node->inputs; i++) {
        in += (double)kd_bytes(&node->in[i]);
        if (b->wants >> i & 1) back += (double)kd_bytes(&node->in[i]);
        if (kernel_of(b->op)->needs & KDAS_NEEDS_IN(i)) back += (double)kd_bytes(&node->in[i]);
    }
    if (kernel_of(b->op)->needs & KDAS_NEEDS_OUT) back += (double)kd_bytes(&node->out);
    t.forward_bytes  = in + (double)kd_bytes(&node->out);
    t.backward_bytes = back + (double)kd_bytes(&node->out);
    return t;
}

static bool is_convolution(const bench *b)
{
    return b->op == KDAS_OP_CONV2D || b->op == KDAS_OP_DECONV2D;
}

static void print(const bench *b, const char *pass, double seconds, double flops, double bytes)
{
    char shape[96];
    int  at = snprintf(shape, sizeof shape, "%lldx%lldx%lldx%lld", (long long)b->in[0][0],
                       (long long)b->in[0][1], (long long)b->in[0][2], (long long)b->in[0][3]);

    if (b->op == KDAS_OP_LINEAR || is_convolution(b))
        snprintf(shape + at, sizeof shape - (size_t)at, ">%lld",
                 (long long)b->in[1][b->op == KDAS_OP_DECONV2D]);
    printf("%s\t%s\t%s\t%.3f\t%.0f\t%.1f\n", b->name, shape, pass, 1e3 * seconds,
           flops / seconds * 1e-9, bytes / seconds * 1e-9);
    fflush(stdout);
}

typedef kdas_status (*step)(kdas_device *device, const kdas_call *call);

/* Seconds: with one thread its own, which other programs disturb less than the clock's. */
static double seconds_now(const kdas_device *device)
{
    struct timespec t;

    if (device->threads > 1) return kd_now();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of several runs. */
static double best_of(int repeats, step run, kdas_device *device, const kdas_call *call)
{
    double best = HUGE_VAL;

    for (int i = 0; i <= repeats; i++) {
        double start = seconds_now(device), seconds;

        die_on(run(device, call));
        seconds = seconds_now(device) - start;
        if (i > 0 && seconds < best) best = seconds;
    }
    return best;
}

/* All gradients at once, or those of x and of the parameters one after the other. */
static void measure_backward(const bench *b, const kdas_kernel *k, kdas_device *device,
                             kdas_call *call, int repeats, totals t)
{
    void *dx = call->din[0], *dw = call->din[1], *db = call->din[2];

    if (b->op != KDAS_OP_LINEAR && !is_convolution(b) && b->op != KDAS_OP_DWCONV2D) {
        print(b, "backward", best_of(repeats, k->backward, device, call),
              (b->op == KDAS_OP_ATTENTION ? 2.5 : 2.0) * t.flops, t.backward_bytes);
        return;
    }
    if (dx) {
        call->din[1] = call->din[2] = NULL;
        print(b, "dx", best_of(repeats, k->backward, device, call), t.flops, t.forward_bytes);
        call->din[0] = NULL;
    }
    call->din[1] = dw;
    call->din[2] = db;
    print(b, "dw", best_of(repeats, k->backward, device, call), t.flops, t.forward_bytes);
    call->din[0] = dx;
}

static void measure(const bench *b, kdas_device *device, int repeats)
{
    const kdas_kernel *k    = kernel_of(b->op);
    kdas_node_desc     node = node_of(b);
    totals             t;
    kdas_plan          plan = { 0 };
    kdas_call          call = { .node = &node };

    if (half && !make_half(device, k, &node)) return;
    t = totals_of(b, &node);
    die_on(k->prepare(device, &node, &plan));
    call.state  = plan.state;
    call.saved  = lend(NULL, plan.saved);
    call.packed = lend(NULL, plan.packed);
    call.work   = lend(NULL, KD_MAX(plan.work_forward, plan.work_backward));
    call.out    = operand(&node.out);
    call.dout   = operand(&node.out);
    for (int i = 0; i < node.inputs; i++) {
        call.in[i] = operand(&node.in[i]);
        if (!(b->wants >> i & 1)) continue;
        call.din[i] = operand(&node.in[i]);
        if (i > 0 && node.in[i].rank < 4) call.add |= 1u << i;
    }
    if (plan.packed) {
        die_on(k->pack(device, &call));
        print(b, "pack", best_of(repeats, k->pack, device, &call), 0, (double)plan.packed);
    }
    print(b, "forward", best_of(repeats, k->forward, device, &call), t.flops, t.forward_bytes);
    if (b->wants && k->backward) measure_backward(b, k, device, &call, repeats, t);
    k->release(device, plan.state);
    for (int i = 0; i < node.inputs; i++) {
        free(call.in[i]);
        free(call.din[i]);
    }
    free(call.saved);
    free(call.packed);
    free(call.work);
    free(call.out);
    free((void *)call.dout);
}

/* What memory gives to all threads: one block copied to another, both larger than the caches. */
static void measure_copy(int repeats)
{
    const int64_t n    = 32 << 20;
    float        *from = numbers(n), *to = numbers(n);
    double        best = HUGE_VAL;

    for (int i = 0; i < repeats; i++) {
        double start = kd_now();

#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < n; j++)
            to[j] = from[j];
        best = KD_MIN(best, kd_now() - start);
    }
    printf("copy\t%lld\tforward\t%.3f\t0\t%.1f\n", (long long)n, 1e3 * best,
           8.0 * (double)n / best * 1e-9);
    free(from);
    free(to);
}

int main(int argc, char **argv)
{
    kdas_device_options options = { .size = sizeof options, .threads = 2 };
    kdas_device        *device;
    kd_team            *team = NULL;
    const char         *part = "";
    char                text[160];
    int                 repeats = 5, option;
    double              large   = 0;

    while ((option = getopt(argc, argv, "bt:i:r:l:")) != -1) {
        if (option == 'b')
            half = true;
        else if (option == 't')
            options.threads = atoi(optarg);
        else if (option == 'i')
            options.isa = optarg;
        else if (option == 'r')
            repeats = KD_MAX(atoi(optarg), 1);
        else if (option == 'l')
            large = atof(optarg);
        else
            return EXIT_FAILURE;
    }
    if (optind < argc) part = argv[optind];
    die_on(kd_backend_cpu.open(&device, &host, &options));
    if (large > 0) device->large = (size_t)large;
    kd_backend_cpu.describe(device, text, sizeof text);
    printf("# %s\nop\tshape\tpass\tms\tGFLOP/s\tGB/s\n", text);
    if (options.threads > 1) die_on(kd_team_create(&team, &context, options.threads, KDAS_WAIT_AUTO));
    kd_team_start(team);
    kd_team_use(team);
    kd_backend_cpu.enter(device);
    if (!*part) measure_copy(repeats);
    for (size_t i = 0; i < KD_COUNT(benches); i++)
        if (strstr(benches[i].name, part)) measure(&benches[i], device, repeats);
    kd_backend_cpu.leave(device);
    kd_team_destroy(team);
    kd_backend_cpu.close(device);
    return EXIT_SUCCESS;
}
