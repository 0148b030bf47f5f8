/* amx.c - decides whether the kernels on AMX tiles may be used: the CPU has tiles, the operating system grants them, and
 * the kernels give the same results as those without.
 *
 * The last is tested once in a process, for bf16 by one training step of a linear layer of odd shapes, whose three products
 * use every path of gemm_amx.h; for integers by the forward of such a layer. This catches what no test on another machine can,
 * such as a hypervisor that announces tiles and does not preserve them. */
#include <cpuid.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend/cpu/cpu.h"

/* ---- detection ---- */

enum {
    EDX_AMX_BF16 = 1 << 22, /* leaf 7 */
    EDX_AMX_TILE = 1 << 24,
    EDX_AMX_INT8 = 1 << 25,
    ECX_OSXSAVE  = 1 << 27, /* leaf 1                              */
    XCR0_TILES   = 3 << 17, /* XTILECFG and XTILEDATA              */
    TILE_DATA    = 18,      /* the state to request permission for */
};
#define REQUEST_STATE 0x1023 /* ARCH_REQ_XCOMP_PERM of Linux 5.16 */

static unsigned int enabled_states(void)
{
    unsigned int low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Tiles, and these products on them. */
static bool has_tiles_with(unsigned int products)
{
    unsigned int a, b, c, d, wanted = EDX_AMX_TILE | products;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & ECX_OSXSAVE)) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & wanted) != wanted) return false;
    if ((enabled_states() & XCR0_TILES) != XCR0_TILES) return false;
    /* Permission holds for all threads of the process; to ask again is harmless. */
    return syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0;
}

bool kd_cpu_has_tiles(void) { return has_tiles_with(EDX_AMX_BF16); }
bool kd_cpu_has_int8_tiles(void) { return has_tiles_with(EDX_AMX_INT8); }

/* ---- the trials ---- */

/* Rows: two row tiles and a remainder; IN: a K step and a remainder; OUT: a panel and a remainder. */
enum { ROWS = 45, IN = 74, OUT = 51 };

/* Operands and results of one step. Activations are bf16, the upper halves of floats. */
typedef struct trial {
    uint16_t x[ROWS * IN], dy[ROWS * OUT], y[ROWS * OUT], dx[ROWS * IN];
    float    w[OUT * IN], bias[OUT], dw[OUT * IN], db[OUT];
} trial;

static float half_value(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float    f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Value i of a pseudo-random sequence in [-1, 1) with 7 bits, which bf16 represents exactly. */
static float drawn(uint64_t i) { return (float)(int64_t)(kd_mix64(i) % 256) / 128.0f - 1.0f; }

static void draw_halves(uint16_t *to, int count, uint64_t from)
{
    for (int i = 0; i < count; i++) {
        float    f = drawn(from + (uint64_t)i);
        uint32_t bits;

        memcpy(&bits, &f, sizeof bits);
        to[i] = (uint16_t)(bits >> 16);
    }
}

static void draw_trial(trial *t)
{
    memset(t, 0, sizeof *t);
    draw_halves(t->x, ROWS * IN, 0);
    draw_halves(t->dy, ROWS * OUT, 10000);
    for (int i = 0; i < OUT * IN; i++)
        t->w[i] = drawn(20000 + (uint64_t)i);
    for (int i = 0; i < OUT; i++)
        t->bias[i] = drawn(30000 + (uint64_t)i);
}

/* One step of a linear layer by the kernel of `code`, on a device of one thread: forward, and backward where the node wants
 * gradients. */
static kdas_status run_linear(const kdas_host *host, const kd_cpu_code *code, kdas_call *call)
{
    const kd_cpu_kernel *kernel = (*code)[KDAS_OP_LINEAR];
    kdas_device          device = { .host = *host, .threads = 1, .half = code, .large = SIZE_MAX };
    kdas_plan            plan   = { 0 };
    kdas_status          st;
    size_t               work;
    char                *memory = NULL;

    KD_RETURN(kernel->prepare(&device, call->node, &plan));
    work   = KD_MAX(plan.work_forward, plan.work_backward);
    memory = host->alloc(host->user, plan.packed + work + KDAS_ALIGNMENT);
    if (!memory) return host->fail(KDAS_ENOMEM, "cpu: no memory to try the matrix tiles");
    call->packed = memory;
    call->work   = memory + (plan.packed + KDAS_ALIGNMENT - 1) / KDAS_ALIGNMENT * KDAS_ALIGNMENT;
    kd_cpu_enter(&device); /* one thread: no other is started before the host computes */
    st = kernel->pack(&device, call);
    if (st == KDAS_OK) st = kernel->forward(&device, call);
    if (st == KDAS_OK && call->node->wants) st = kernel->backward(&device, call);
    kd_cpu_leave(&device);
    host->free(host->user, memory);
    return st;
}

static kdas_status run_trial(trial *t, const kdas_host *host, const kd_cpu_code *code)
{
    const kdas_node_desc node = { .op     = KDAS_OP_LINEAR,
                                  .inputs = 3,
                                  .wants  = 7,
                                  .in     = { { KDAS_BF16, 4, { 1, 1, ROWS, IN } },
                                              { KDAS_F32, 2, { OUT, IN, 1, 1 } },
                                              { KDAS_F32, 1, { OUT, 1, 1, 1 } } },
                                  .out    = { KDAS_BF16, 4, { 1, 1, ROWS, OUT } } };
    kdas_call            call = { .node = &node,
                                  .in   = { t->x, t->w, t->bias },
                                  .out  = t->y,
                                  .dout = t->dy,
                                  .din  = { t->dx, t->dw, t->db } };

    draw_trial(t);
    return run_linear(host, code, &call);
}

/* Both sum the same products, dozens of values below 1 in magnitude, in a different order: the sums differ by at most
 * 1e-5, and rounded to bf16 by at most one step, 1/128. A NaN is never near. */
static bool near_halves(const uint16_t *a, const uint16_t *b, int count)
{
    for (int i = 0; i < count; i++) {
        float v = half_value(a[i]), w = half_value(b[i]);

        if (!(fabsf(v - w) <= 1e-4f + fabsf(w) / 128)) return false;
    }
    return true;
}

static bool near_floats(const float *a, const float *b, int count)
{
    for (int i = 0; i < count; i++)
        if (!(fabsf(a[i] - b[i]) <= 1e-4f)) return false;
    return true;
}

static kdas_status agree_in_bf16(bool *out, const kdas_host *host, const kd_cpu_code *tried,
                                 const kd_cpu_code *known)
{
    trial      *t  = host->alloc(host->user, 2 * sizeof *t), *want;
    kdas_status st = KDAS_OK;

    if (!t) return host->fail(KDAS_ENOMEM, "cpu: no memory to try the matrix tiles");
    want = t + 1;
    KD_TRY(run_trial(t, host, tried));
    KD_TRY(run_trial(want, host, known));
    *out = near_halves(t->y, want->y, ROWS * OUT) && near_halves(t->dx, want->dx, ROWS * IN) &&
           near_floats(t->dw, want->dw, OUT * IN) && near_floats(t->db, want->db, OUT);
done:
    host->free(host->user, t);
    return st;
}

/* The same of a layer of integers: here K is a step of 16 units and a remainder. Its values tell every bit of its sums, which
 * have to be the same. */
enum { INT8_IN = 88 };

typedef struct int8_trial {
    uint8_t x[ROWS * INT8_IN];
    float   w[OUT * INT8_IN], bias[OUT], range[2], y[ROWS * OUT];
} int8_trial;

static kdas_status run_int8_trial(int8_trial *t, const kdas_host *host, const kd_cpu_code *code)
{
    const kdas_node_desc node = { .op     = KDAS_OP_LINEAR,
                                  .inputs = 4,
                                  .in     = { { KDAS_U8, 4, { 1, 1, ROWS, INT8_IN } },
                                              { KDAS_F32, 2, { OUT, INT8_IN, 1, 1 } },
                                              { KDAS_F32, 1, { OUT, 1, 1, 1 } },
                                              { KDAS_F32, 1, { 2, 1, 1, 1 } } },
                                  .out    = { KDAS_F32, 4, { 1, 1, ROWS, OUT } } };
    kdas_call call = { .node = &node, .in = { t->x, t->w, t->bias, t->range }, .out = t->y };

    memset(t, 0, sizeof *t);
    for (int i = 0; i < ROWS * INT8_IN; i++)
        t->x[i] = (uint8_t)kd_mix64((uint64_t)i);
    for (int i = 0; i < OUT * INT8_IN; i++)
        t->w[i] = drawn(10000 + (uint64_t)i);
    for (int i = 0; i < OUT; i++)
        t->bias[i] = drawn(20000 + (uint64_t)i);
    t->range[0] = -1;
    t->range[1] = 1.5f;
    return run_linear(host, code, &call);
}

static kdas_status agree_in_int8(bool *out, const kdas_host *host, const kd_cpu_code *tried,
                                 const kd_cpu_code *known)
{
    int8_trial *t  = host->alloc(host->user, 2 * sizeof *t), *want;
    kdas_status st = KDAS_OK;

    if (!t) return host->fail(KDAS_ENOMEM, "cpu: no memory to try the matrix tiles");
    want = t + 1;
    KD_TRY(run_int8_trial(t, host, tried));
    KD_TRY(run_int8_trial(want, host, known));
    *out = !memcmp(t->y, want->y, sizeof t->y);
done:
    host->free(host->user, t);
    return st;
}

const kd_cpu_trial kd_cpu_trial_bf16 = { "bf16", agree_in_bf16 };
const kd_cpu_trial kd_cpu_trial_int8 = { "8-bit integers", agree_in_int8 };

kdas_status kd_cpu_trusted(const kd_cpu_code **out, const kdas_host *host, const kd_cpu_trial *of,
                           kd_cpu_verdict *verdict, const kd_cpu_code *tried,
                           const kd_cpu_code *known)
{
    char text[160];
    int  now   = atomic_load(verdict);
    bool agree = false;

    *out = known;
    if (!now) { /* two threads may get here at once: both get the same answer */
        KD_RETURN(of->agree(&agree, host, tried, known));
        now = agree ? 1 : -1;
        atomic_store(verdict, now);
    }
    if (now > 0) {
        *out = tried;
        return KDAS_OK;
    }
    snprintf(text, sizeof text,
             "cpu: the matrix tiles (AMX) of this machine give wrong results with %s: computing "
             "without",
             of->numbers);
    host->log(host->user, KDAS_LOG_WARN, text);
    return KDAS_OK;
}
