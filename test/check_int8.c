/* check_int8.c - integer nodes: every kernel has the bits of the plain-C reference, on each
 * instruction set with integer products, and with AMX tiles emulated in C (simd/amx.h). */
#define _GNU_SOURCE
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/cpu/cpu.h"
#include "base/grid.h"
#include "op/integer.h"
#include "support/check_util.h"
#include "support/cpu_util.h"

/* ---- a node, with its operands ---- */

typedef struct int8_case {
    const char    *name;
    int32_t        op, post, out; /* out: a kdas_dtype */
    int64_t        x[4], outputs, kernel;
    kdas_conv_attr attr;
    bool           no_bias, residual;
    bool           largest; /* all numbers and weights */
    bool           far;     /* the range of x from that of the result: the factor overflows */
} int8_case;

#define CONV(s, p, d)               \
    {                               \
        s, { p, p }, { p, p }, d, 1 \
    }
static const int8_case cases[] = {
    { "linear 32>64", KDAS_OP_LINEAR, 0, KDAS_U8, { 1, 7, 9, 32 }, 64, 1, CONV(1, 0, 1), 0, 0 },
    { "linear 32>64 to floats",
      KDAS_OP_LINEAR,
      0,
      KDAS_F32,
      { 2, 3, 5, 32 },
      64,
      1,
      CONV(1, 0, 1),
      0,
      0 },
    { "linear 17>33, relu6",
      KDAS_OP_LINEAR,
      2,
      KDAS_U8,
      { 2, 3, 5, 17 },
      33,
      1,
      CONV(1, 0, 1),
      0,
      0 },
    { "linear 5>1", KDAS_OP_LINEAR, 1, KDAS_F32, { 1, 1, 1, 5 }, 1, 1, CONV(1, 0, 1), 1, 0 },
    { "linear 672>112 to bf16",
      KDAS_OP_LINEAR,
      0,
      KDAS_BF16,
      { 1, 6, 6, 672 },
      112,
      1,
      CONV(1, 0, 1),
      1,
      0 },
    { "linear 1152>192, relu",
      KDAS_OP_LINEAR,
      1,
      KDAS_U8,
      { 1, 4, 4, 1152 },
      192,
      1,
      CONV(1, 0, 1),
      0,
      0 },
    { "linear 96>24, relu6 to bf16",
      KDAS_OP_LINEAR,
      2,
      KDAS_BF16,
      { 1, 11, 4, 96 },
      24,
      1,
      CONV(1, 0, 1),
      0,
      0 },
    { "conv 3x3 64>64", KDAS_OP_CONV2D, 0, KDAS_U8, { 1, 9, 7, 64 }, 64, 3, CONV(1, 1, 1), 0, 0 },
    { "conv 3x3 s2 3>32, relu6",
      KDAS_OP_CONV2D,
      2,
      KDAS_U8,
      { 2, 9, 8, 3 },
      32,
      3,
      CONV(2, 1, 1),
      1,
      0 },
    { "conv 7x7 s4 3>32",
      KDAS_OP_CONV2D,
      0,
      KDAS_F32,
      { 1, 16, 20, 3 },
      32,
      7,
      CONV(4, 3, 1),
      0,
      0 },
    { "conv 8x8 s8 32>32",
      KDAS_OP_CONV2D,
      0,
      KDAS_BF16,
      { 1, 16, 24, 32 },
      32,
      8,
      CONV(8, 0, 1),
      0,
      0 },
    { "conv 8x8 s8 64>64",
      KDAS_OP_CONV2D,
      0,
      KDAS_U8,
      { 1, 16, 16, 64 },
      64,
      8,
      CONV(8, 0, 1),
      0,
      0 },
    { "conv 3x3 dilated by 2",
      KDAS_OP_CONV2D,
      1,
      KDAS_U8,
      { 1, 9, 11, 12 },
      20,
      3,
      CONV(1, 2, 2),
      0,
      0 },
    { "conv 1x1 s2", KDAS_OP_CONV2D, 0, KDAS_U8, { 2, 6, 5, 16 }, 24, 1, CONV(2, 0, 1), 0, 0 },
    { "conv padded after",
      KDAS_OP_CONV2D,
      0,
      KDAS_U8,
      { 1, 8, 8, 6 },
      10,
      3,
      { 2, { 0, 0 }, { 1, 1 }, 1, 1 },
      0,
      0 },
    { .name = "conv 1x1 padded after", .op = KDAS_OP_CONV2D, .out = KDAS_U8, .x = { 2, 3, 4, 8 }, .outputs = 9, .kernel = 1, .attr = { 1, { 0, 0 }, { 1, 2 }, 1, 1 } },
    { .name = "conv 1x1 padded after, odd", .op = KDAS_OP_CONV2D, .out = KDAS_F32, .x = { 1, 3, 4, 9 }, .outputs = 8, .kernel = 1, .attr = { 1, { 0, 0 }, { 0, 1 }, 1, 1 } },
    { .name = "linear from a far range", .op = KDAS_OP_LINEAR, .out = KDAS_U8, .x = { 1, 4, 8, 24 }, .outputs = 19, .kernel = 1, .attr = CONV(1, 0, 1), .no_bias = true, .far = true },
    { .name = "conv 3x3 from a far range, relu", .op = KDAS_OP_CONV2D, .post = 1, .out = KDAS_U8, .x = { 1, 16, 8, 24 }, .outputs = 19, .kernel = 3, .attr = CONV(1, 1, 1), .far = true },
    { .name = "dwconv 3x3 from a far range", .op = KDAS_OP_DWCONV2D, .out = KDAS_U8, .x = { 1, 16, 8, 24 }, .outputs = 24, .kernel = 3, .attr = CONV(1, 1, 1), .no_bias = true, .far = true },
    { "conv 3x3 40>24, two images, no padding", KDAS_OP_CONV2D, 2, KDAS_U8, { 2, 11, 14, 40 }, 24, 3, CONV(1, 0, 1), 0, 0, 0 },
    { "conv 3x3 17>21, padded by 2", KDAS_OP_CONV2D, 1, KDAS_F32, { 1, 5, 21, 17 }, 21, 3, CONV(1, 2, 1), 1, 0, 0 },
    { "conv 3x3 150>33 to bf16", KDAS_OP_CONV2D, 0, KDAS_BF16, { 1, 13, 11, 150 }, 33, 3, CONV(1, 1, 1), 0, 0, 0 },
    { "conv 3x3 260>48", KDAS_OP_CONV2D, 0, KDAS_U8, { 1, 32, 32, 260 }, 48, 3, CONV(1, 1, 1), 0, 0, 0 },
    { "conv 3x3 112>16, largest", KDAS_OP_CONV2D, 0, KDAS_F32, { 1, 8, 8, 112 }, 16, 3, CONV(1, 1, 1), 0, 0, 1 },
    { "conv 3x3 230>17, largest", KDAS_OP_CONV2D, 0, KDAS_F32, { 1, 9, 8, 230 }, 17, 3, CONV(1, 1, 1), 0, 0, 1 },
    { "linear 64>32, largest", KDAS_OP_LINEAR, 0, KDAS_F32, { 1, 9, 8, 64 }, 32, 1, CONV(1, 0, 1), 0, 0, 1 },
    { "dwconv 5x5 48, largest", KDAS_OP_DWCONV2D, 0, KDAS_F32, { 1, 9, 8, 48 }, 48, 5, CONV(1, 2, 1), 0, 0, 1 },
    { "dwconv 3x3 32", KDAS_OP_DWCONV2D, 0, KDAS_U8, { 1, 7, 9, 32 }, 32, 3, CONV(1, 1, 1), 0, 0 },
    { "dwconv 3x3 32, odd width, relu", KDAS_OP_DWCONV2D, 1, KDAS_U8, { 2, 6, 11, 32 }, 32, 3, CONV(1, 1, 1), 0, 0 },
    { "dwconv 5x5 16 to floats", KDAS_OP_DWCONV2D, 0, KDAS_F32, { 1, 6, 11, 16 }, 16, 5, CONV(1, 2, 1), 0, 0 },
    { "dwconv 3x3 s2 96, relu6",
      KDAS_OP_DWCONV2D,
      2,
      KDAS_U8,
      { 2, 8, 9, 96 },
      96,
      3,
      CONV(2, 1, 1),
      1,
      0 },
    { "dwconv 5x5 s1 240, relu6",
      KDAS_OP_DWCONV2D,
      2,
      KDAS_U8,
      { 1, 6, 7, 240 },
      240,
      5,
      CONV(1, 2, 1),
      1,
      0 },
    { "dwconv 5x5 s2 144",
      KDAS_OP_DWCONV2D,
      0,
      KDAS_U8,
      { 1, 9, 8, 144 },
      144,
      5,
      { 2, { 1, 1 }, { 2, 2 }, 1, 1 },
      0,
      0 },
    { "dwconv 3x3 37 to floats",
      KDAS_OP_DWCONV2D,
      1,
      KDAS_F32,
      { 1, 5, 4, 37 },
      37,
      3,
      CONV(1, 1, 1),
      0,
      0 },
    { "dwconv 7x7 64 to bf16",
      KDAS_OP_DWCONV2D,
      0,
      KDAS_BF16,
      { 1, 8, 8, 64 },
      64,
      7,
      CONV(1, 3, 1),
      0,
      0 },
    { "dwconv 2x2 5", KDAS_OP_DWCONV2D, 0, KDAS_U8, { 1, 4, 4, 5 }, 5, 2, CONV(1, 0, 1), 0, 0 },
    { "mix_ffn 32>256>32",
      KDAS_OP_MIX_FFN,
      0,
      KDAS_F32,
      { 1, 12, 10, 32 },
      32,
      256,
      CONV(1, 1, 1),
      0,
      1 },
    { "mix_ffn 20>72>20 bf16",
      KDAS_OP_MIX_FFN,
      0,
      KDAS_BF16,
      { 2, 9, 8, 20 },
      20,
      72,
      CONV(1, 1, 1),
      0,
      1 },
    { "mix_ffn 7>13>9, no residual",
      KDAS_OP_MIX_FFN,
      0,
      KDAS_F32,
      { 1, 5, 6, 7 },
      9,
      13,
      CONV(1, 1, 1),
      1,
      0 },
    { "mix_ffn 64>512>64, wide",
      KDAS_OP_MIX_FFN,
      0,
      KDAS_BF16,
      { 1, 20, 44, 64 },
      64,
      512,
      CONV(1, 1, 1),
      0,
      1 },
};

typedef struct operands {
    kdas_node_desc node;
    kdas_plan      plan;
    kdas_call      call;
    size_t         out_bytes;
} operands;

static uint64_t draws;
static float    draw(void) { return 2 * kdas_unit(99, draws++) - 1; }

static float *fill(operands *o, int i, kdas_desc desc, float scale)
{
    int64_t n = kd_elements(&desc);
    float  *p = aligned_alloc(64, ((size_t)n * sizeof *p + 127) / 64 * 64);

    for (int64_t k = 0; k < n; k++)
        p[k] = scale * draw();
    o->node.in[i] = desc;
    o->call.in[i] = p;
    return p;
}

static void set_range(operands *o, int i, float low, float high)
{
    float *p = fill(o, i, (kdas_desc){ KDAS_F32, 1, { 2, 1, 1, 1 } }, 1);

    p[0] = low;
    p[1] = high;
}

static kdas_desc weight(int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (kdas_desc){ KDAS_F32, 4, { a, b, c, d } };
}
static kdas_desc vector(int64_t n) { return (kdas_desc){ KDAS_F32, 1, { n, 1, 1, 1 } }; }

static void to_half(operands *o, int i)
{
    int64_t   n = kd_elements(&o->node.in[i]);
    float    *p = o->call.in[i];
    uint16_t *h = aligned_alloc(64, ((size_t)n * 2 + 127) / 64 * 64);

    for (int64_t k = 0; k < n; k++) {
        uint32_t bits;

        memcpy(&bits, &p[k], sizeof bits);
        h[k] = (uint16_t)(bits >> 16);
    }
    free(p);
    o->call.in[i]       = h;
    o->node.in[i].dtype = KDAS_BF16;
}

static void make_ffn(operands *o, const int8_case *c)
{
    int64_t C = c->x[3], F = c->kernel;

    fill(o, 0, kd_desc(c->x[0], c->x[1], c->x[2], C), 2);
    fill(o, 1, weight(F, C, 1, 1), 0.3f);
    fill(o, 3, weight(F, 1, 3, 3), 0.5f);
    fill(o, 5, weight(c->outputs, F, 1, 1), 0.2f);
    if (!c->no_bias) {
        fill(o, 2, vector(F), 0.5f);
        fill(o, 4, vector(F), 0.5f);
        fill(o, 6, vector(c->outputs), 0.5f);
    }
    if (c->residual) fill(o, 7, kd_desc(c->x[0], c->x[1], c->x[2], c->outputs), 2);
    set_range(o, 8, -1.9f, 1.7f);
    set_range(o, 9, -2.5f, 2.9f);
    set_range(o, 10, -3, 4);
    set_range(o, 11, -0.2f, 4.1f);
    if (c->out == KDAS_BF16) {
        to_half(o, 0);
        if (c->residual) to_half(o, 7);
    }
}

static void make_layer(operands *o, const int8_case *c)
{
    int64_t  n        = c->x[0] * c->x[1] * c->x[2] * c->x[3];
    uint8_t *x        = aligned_alloc(64, ((size_t)n + 127) / 64 * 64);
    int64_t  channels = c->op == KDAS_OP_DWCONV2D ? 1 : c->x[3];

    for (int64_t k = 0; k < n; k++)
        x[k] = c->largest ? 255 : (uint8_t)(128 + 127.9f * draw());
    o->call.in[0]       = x;
    o->node.in[0]       = kd_desc(c->x[0], c->x[1], c->x[2], c->x[3]);
    o->node.in[0].dtype = KDAS_U8;
    fill(o, 1, weight(c->outputs, channels, c->kernel, c->kernel), 0.4f);
    for (int64_t k = 0; c->largest && k < kd_elements(&o->node.in[1]); k++)
        ((float *)o->call.in[1])[k] = 0.4f;
    if (!c->no_bias) fill(o, 2, vector(c->outputs), 1);
    if (c->far) {
        set_range(o, KD_RANGE_X, 0, 1e16f);
        set_range(o, KD_RANGE_OUT, c->post ? 0 : -1e-28f, 1e-28f);
        memset(x, 0, (size_t)n / 2); /* of which the sums are 0 */
        return;
    }
    set_range(o, KD_RANGE_X, -1.3f, 2.9f);
    if (c->out == KDAS_U8) set_range(o, KD_RANGE_OUT, c->post ? 0 : -5.1f, 7.3f);
}

static void make(operands *o, const int8_case *c)
{
    const kd_op *op = kd_op_find(c->op);

    draws = 1;
    *o    = (operands){ .node = { .op = c->op, .inputs = op->max_inputs, .post = c->post } };
    if (op->attr_size) o->node.attr = &c->attr;
    if (c->op == KDAS_OP_MIX_FFN)
        make_ffn(o, c);
    else
        make_layer(o, c);
    o->call.node = &o->node;
    kd_assert_ok(op->infer(&o->node));
    o->node.out.dtype = c->out;
    o->out_bytes      = kd_bytes(&o->node.out);
    o->call.out       = malloc(o->out_bytes + 64);
    memset(o->call.out, 0xa5, o->out_bytes + 64);
}

static void done(operands *o)
{
    for (int i = 0; i < KDAS_MAX_INPUTS; i++)
        free(o->call.in[i]);
    free(o->call.out);
    free(o->call.packed);
    free(o->call.work);
}

static void reserve(operands *o)
{
    o->call.state  = o->plan.state;
    o->call.packed = aligned_alloc(64, (o->plan.packed + 127) / 64 * 64);
    o->call.work   = aligned_alloc(64, (o->plan.work_forward + 127) / 64 * 64);
    memset(o->call.work, 0xff, o->plan.work_forward);
}

/* The reference's results: floats where bf16 is wanted, rounded here. */
static void *reference(const int8_case *c)
{
    const kd_op *op = kd_op_find(c->op);
    operands     o;
    int8_case    as = *c;
    uint16_t    *half;
    void        *out;

    make(&o, &as);
    if (c->out == KDAS_BF16) {
        int64_t n = kd_elements(&o.node.out);

        for (int i = 0; i < 8; i++) /* the reference reads floats */
            if (o.node.in[i].dtype == KDAS_BF16) {
                int64_t   count = kd_elements(&o.node.in[i]);
                uint16_t *h     = o.call.in[i];
                float    *p     = malloc((size_t)count * sizeof *p);

                for (int64_t k = 0; k < count; k++) {
                    uint32_t bits = (uint32_t)h[k] << 16;

                    memcpy(&p[k], &bits, sizeof bits);
                }
                free(h);
                o.call.in[i]       = p;
                o.node.in[i].dtype = KDAS_F32;
            }
        o.node.out.dtype = KDAS_F32;
        free(o.call.out);
        o.call.out = malloc((size_t)n * sizeof(float));
    }
    kd_assert_ok(op->ref.prepare(NULL, &o.node, &o.plan));
    reserve(&o);
    kd_assert_ok(op->ref.forward(NULL, &o.call));
    if (c->out == KDAS_BF16) {
        int64_t n = kd_elements(&o.node.out);

        half = malloc((size_t)n * 2);
        for (int64_t k = 0; k < n; k++) {
            uint32_t bits;

            memcpy(&bits, (float *)o.call.out + k, sizeof bits);
            half[k] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        }
        out = half;
    } else {
        out        = o.call.out;
        o.call.out = NULL;
    }
    done(&o);
    return out;
}

/* The copies of the kernels, and the instruction set that has each. The emulated one is not in the library. */
extern const kd_cpu_code kd_code_emulated_vnni, kd_code_emulated_avxvnni, kd_code_emulated_amx_int8;
atomic_long              kd_tile_products; /* counted by the emulation */

typedef struct copy {
    const char        *name, *isa;
    const kd_cpu_code *code;
} copy;
static const copy copies[] = {
    { "vnni", "avx512", &kd_code_vnni },
    { "avxvnni", "avx2", &kd_code_avxvnni },
    { "avx2", "avx2", &kd_code_avx2_int8 },
    { "amx", "amx", &kd_code_amx_int8 },
    { "emulated tiles", "avx2", &kd_code_emulated_amx_int8 },
    { "emulated vnni", "avx2", &kd_code_emulated_vnni },
    { "emulated avxvnni", "avx2", &kd_code_emulated_avxvnni },
};
enum { WORDS = 2, TILES, EMULATED, EMULATED_VNNI, EMULATED_AVXVNNI, COPIES, CASES = KD_COUNT(cases) };

/* A device with that copy; NULL: this CPU cannot run it. */
static kdas_device *device_with(const copy *p, int threads)
{
    kdas_device *device = kd_test_cpu_open(p->isa, threads);

    if (p - copies >= WORDS && p != &copies[TILES] && device->integer) device->integer = p->code;
    if (device->integer == p->code) return device;
    kd_backend_cpu.close(device);
    return NULL;
}

/* Has a product of the case enough rows and depth for tiles? */
static bool fills_tiles(const int8_case *c, const operands *o, int threads)
{
    bool    ffn   = c->op == KDAS_OP_MIX_FFN;
    int64_t rows  = ffn ? c->x[2] : kd_elements(&o->node.out) / c->outputs / threads;
    int64_t depth = ffn ? c->x[3] : c->kernel * c->kernel * c->x[3];

    return c->op != KDAS_OP_DWCONV2D && rows >= 16 && depth >= 32;
}

/* Run the case on the device, and close it. */
static void assert_bits(const int8_case *c, const copy *p, kdas_device *device, const uint8_t *want)
{
    const kdas_kernel *kernel = NULL;
    long               before = kd_tile_products;
    operands           o;
    const uint8_t     *got;

    make(&o, c);
    for (const kdas_kernel *k = kd_backend_cpu.kernels; k->op && !kernel; k++)
        if (k->op == c->op && k->supports(device, &o.node)) kernel = k;
    ck_assert_ptr_nonnull(kernel);
    kd_assert_ok(kernel->prepare(device, &o.node, &o.plan));
    reserve(&o);
    kd_backend_cpu.enter(device);
    kd_assert_ok(kernel->pack(device, &o.call));
    memset(o.call.work, 0xff, o.plan.work_forward);
    kd_assert_ok(kernel->forward(device, &o.call));
    kd_backend_cpu.leave(device);
    got = o.call.out;
    for (size_t i = 0; i < o.out_bytes; i++)
        if (got[i] != want[i])
            ck_abort_msg("%s, %s, %d threads: byte %zu of %zu is %d, not %d", c->name, p->name,
                         device->threads, i, o.out_bytes, got[i], want[i]);
    for (size_t i = 0; i < 64; i++)
        ck_assert_int_eq(got[o.out_bytes + i], 0xa5);
    if (p == &copies[EMULATED] && fills_tiles(c, &o, device->threads))
        ck_assert_int_gt(kd_tile_products, before);
    done(&o);
    kd_backend_cpu.close(device);
}

START_TEST(kernels_have_the_bits_of_the_reference)
{
    const int8_case *c    = &cases[_i / COPIES];
    void            *want = reference(c);

    for (int threads = 1; threads <= 3; threads++) {
        kdas_device *device = device_with(&copies[_i % COPIES], threads);

        if (!device) break;
        assert_bits(c, &copies[_i % COPIES], device, want);
    }
    free(want);
}
END_TEST

/* Around what a tile, a block, a panel and a step of AMX hold; the last rows reach past a block of them. */
static const int64_t row_counts[]    = { 15, 16, 17, 31, 32, 33, 47, 49, 64, 65, 300, 531 };
static const int64_t depths[]        = { 28, 32, 33, 36, 60, 63, 64, 65, 68, 127, 128, 200 };
static const int64_t column_counts[] = { 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65 };
enum { COUNTS = 12 };

START_TEST(products_of_every_shape_have_the_bits_of_the_reference)
{
    static const int32_t types[] = { KDAS_U8, KDAS_F32, KDAS_BF16 };

    for (int j = 0; j < COUNTS; j++) {
        int64_t      rows = row_counts[_i / COUNTS], depth = depths[_i % COUNTS];
        kdas_device *device = device_with(&copies[EMULATED], 1 + j % 2);
        char         name[64];
        int8_case    c = { .name    = name,
                           .op      = KDAS_OP_LINEAR,
                           .out     = types[(_i + j) % 3],
                           .x       = { 1, 1, rows, depth },
                           .outputs = column_counts[j],
                           .kernel  = 1 };
        void        *want;

        if (!device) return;
        snprintf(name, sizeof name, "linear of %d rows, %d>%d", (int)rows, (int)depth,
                 (int)column_counts[j]);
        want = reference(&c);
        assert_bits(&c, &copies[EMULATED], device, want);
        free(want);
    }
}
END_TEST

static Suite *int8_suite(void)
{
    Suite *s = suite_create("int8");
    TCase *t = tcase_create("kernels");

    tcase_add_loop_test(t, kernels_have_the_bits_of_the_reference, 0, CASES * COPIES);
    tcase_add_loop_test(t, products_of_every_shape_have_the_bits_of_the_reference, 0,
                        COUNTS * COUNTS);
    suite_add_tcase(s, t);
    return s;
}

/* See check_kernels.c. */
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
    runner = srunner_create(int8_suite());
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
