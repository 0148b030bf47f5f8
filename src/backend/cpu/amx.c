/* amx.c - decides whether the kernels on AMX tiles may be used: the CPU has tiles, the operating system grants them, and
 * the kernels give the same results as those without.
 *
 * The last is tested once in a process, by one training step of a linear layer of odd shapes: its three products use every
 * path of gemm_amx.h. This catches what no test on another machine can, such as a hypervisor that announces tiles and does
 * not preserve them. */
#include <cpuid.h>
#include <math.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend/cpu/cpu.h"

/* ---- detection ---- */

enum {
    EDX_AMX_BF16 = 1 << 22, /* leaf 7 */
    EDX_AMX_TILE = 1 << 24,
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

bool kd_cpu_has_tiles(void)
{
    unsigned int a, b, c, d, wanted = EDX_AMX_TILE | EDX_AMX_BF16;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & ECX_OSXSAVE)) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & wanted) != wanted) return false;
    if ((enabled_states() & XCR0_TILES) != XCR0_TILES) return false;
    /* Permission holds for all threads of the process; to ask again is harmless. */
    return syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0;
}

/* ---- the trial ---- */

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

/* One training step by the kernel of `code`, on a device of one thread. */
static kdas_status run_trial(trial *t, const kdas_host *host, const kd_cpu_code *code)
{
    const kd_cpu_kernel *kernel = (*code)[KDAS_OP_LINEAR];
    kdas_device          device = { .host = *host, .threads = 1, .half = code, .large = SIZE_MAX };
    const kdas_node_desc node   = { .op     = KDAS_OP_LINEAR,
                                    .inputs = 3,
                                    .wants  = 7,
                                    .in     = { { KDAS_BF16, 4, { 1, 1, ROWS, IN } },
                                                { KDAS_F32, 2, { OUT, IN, 1, 1 } },
                                                { KDAS_F32, 1, { OUT, 1, 1, 1 } } },
                                    .out    = { KDAS_BF16, 4, { 1, 1, ROWS, OUT } } };
    kdas_call            call   = { .node = &node,
                                    .in   = { t->x, t->w, t->bias },
                                    .out  = t->y,
                                    .dout = t->dy,
                                    .din  = { t->dx, t->dw, t->db } };
    kdas_plan            plan   = { 0 };
    kdas_status          st     = KDAS_ENOMEM;
    size_t               work;
    char                *memory = NULL;

    draw_trial(t);
    KD_RETURN(kernel->prepare(&device, &node, &plan));
    work   = KD_MAX(plan.work_forward, plan.work_backward);
    memory = host->alloc(host->user, plan.packed + work + KDAS_ALIGNMENT);
    if (!memory) return host->fail(KDAS_ENOMEM, "cpu: no memory to try the matrix tiles");
    call.packed = memory;
    call.work   = memory + (plan.packed + KDAS_ALIGNMENT - 1) / KDAS_ALIGNMENT * KDAS_ALIGNMENT;
    kd_cpu_enter(&device); /* one thread: no other is started before the host computes */
    st = kernel->pack(&device, &call);
    if (st == KDAS_OK) st = kernel->forward(&device, &call);
    if (st == KDAS_OK) st = kernel->backward(&device, &call);
    kd_cpu_leave(&device);
    host->free(host->user, memory);
    return st;
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

kdas_status kd_cpu_agree(bool *out, const kdas_host *host, const kd_cpu_code *tried,
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

kdas_status kd_cpu_trusted(const kd_cpu_code **out, const kdas_host *host, kd_cpu_verdict *verdict,
                           const kd_cpu_code *tried, const kd_cpu_code *known)
{
    int  now = atomic_load(verdict);
    bool agree = false;

    *out = known;
    if (!now) { /* two threads may get here at once: both get the same answer */
        KD_RETURN(kd_cpu_agree(&agree, host, tried, known));
        now = agree ? 1 : -1;
        atomic_store(verdict, now);
    }
    if (now > 0)
        *out = tried;
    else
        host->log(
            host->user, KDAS_LOG_WARN,
            "cpu: the matrix tiles (AMX) of this machine give wrong results: computing without");
    return KDAS_OK;
}
