/* quantize.cu - QUANTIZE: x to the nearest of the 256 values of a range. The range is in device memory, and training changes it
 * there. The arithmetic is that of base/grid.c, to the bit: no fused multiply-adds. */
#include "backend/cuda/kernel.h"

enum { PARTS = KD_BLOCK }; /* at most so many blocks look for the extremes */

/* base/grid.h's kd_grid; scale 0: the range is empty. */
typedef struct grid {
    float scale, inverse, low, high; /* low and high: the least and the largest number, less zero */
} grid;

static __device__ __forceinline__ bool is_finite(float x) { return x - x == 0; }

static __device__ __forceinline__ grid grid_of(const float *range)
{
    float low = range[0] < 0 ? range[0] : 0, high = range[1] > 0 ? range[1] : 0;
    float width = high - low;
    grid  g     = { 0, 0, 0, 0 };

    if (!(range[0] <= range[1]) || !(width > 0) || !is_finite(width)) return g;
    g.scale   = __fdiv_rn(width, 255.0f);
    g.inverse = __fdiv_rn(255.0f, width);
    g.low     = -rintf(__fmul_rn(-low, g.inverse));
    g.high    = 255.0f + g.low;
    if (!(g.scale > 0) || !is_finite(g.inverse)) g.scale = 0;
    return g;
}

/* ---- The range of a batch: its largest -x and its largest x ---- */

KERNEL(quantize_extremes)(const elem *x, float *part, int64_t n)
{
    float low = -num(x[0]), high = num(x[0]);

    EACH(i, n)
    {
        float v = num(x[i]);

        low  = -v > low || v != v ? -v : low; /* NaN stays */
        high = v > high || v != v ? v : high;
    }
    low  = block_max(low);
    high = block_max(high);
    if (threadIdx.x > 0) return;
    part[2 * blockIdx.x]     = low;
    part[2 * blockIdx.x + 1] = high;
}

/* By one block. */
KERNEL(quantize_follow)
(const float *part, int count, float *range, float momentum, int joins)
{
    int   t   = (int)threadIdx.x < count ? (int)threadIdx.x : 0;
    float low = -block_max(part[2 * t]), high = block_max(part[2 * t + 1]), kept;

    if (threadIdx.x > 0 || !is_finite(low) || !is_finite(high)) return;
    if (grid_of(range).scale == 0) { /* empty */
        range[0] = low;
        range[1] = high;
        return;
    }
    if (joins) {
        low      = range[0] < low ? range[0] : low;
        high     = range[1] > high ? range[1] : high;
        momentum = 1;
    }
    kept     = 1 - momentum;
    range[0] = __fadd_rn(__fmul_rn(kept, range[0]), __fmul_rn(momentum, low));
    range[1] = __fadd_rn(__fmul_rn(kept, range[1]), __fmul_rn(momentum, high));
}

/* ---- y and its gradient ---- */

KERNEL(quantize_forward)(const elem *x, elem *y, const float *range, int64_t n)
{
    grid g = grid_of(range);

    EACH(i, n)
    {
        float v = num(x[i]), k = __fmul_rn(v, g.inverse);

        k = rintf(k < g.low ? g.low : k > g.high ? g.high : k); /* NaN stays */
        set(&y[i], g.scale > 0 ? __fmul_rn(k, g.scale) : v);
    }
}

KERNEL(quantize_backward)
(const elem *x, const elem *dy, elem *dx, const float *range, int add, int64_t n)
{
    grid g = grid_of(range);

    EACH(i, n)
    {
        float k = rintf(__fmul_rn(num(x[i]), g.inverse));

        accumulate(&dx[i], g.scale == 0 || (k >= g.low && k <= g.high) ? num(dy[i]) : 0, add);
    }
}

#ifdef KD_HOST

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    (void)device;
    (void)node;
    plan->work_forward = 2 * PARTS * sizeof(float);
    return KDAS_OK;
}

static kdas_status follow(kdas_device *device, const kdas_call *call, const kdas_quantize_attr *a)
{
    int64_t n     = elements(&call->node->out);
    int     parts = (int)KD_MIN(KD_CEIL(n, 8 * KD_BLOCK), (int64_t)PARTS);
    float  *part  = (float *)call->work;

    KD_RETURN(
        LAUNCH(device, quantize_extremes, parts, KD_BLOCK, (const elem *)call->in[0], part, n));
    return LAUNCH(device, quantize_follow, 1, KD_BLOCK, (const float *)part, parts,
                  (float *)call->in[1], a->momentum, (int)a->joins);
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_quantize_attr *a = (const kdas_quantize_attr *)call->node->attr;
    int64_t                   n = elements(&call->node->out);

    if ((call->node->flags & KDAS_NODE_TRAIN) && a->momentum > 0)
        KD_RETURN(follow(device, call, a));
    return LAUNCH_EACH(device, quantize_forward, n, (const elem *)call->in[0], (elem *)call->out,
                       (const float *)call->in[1], n);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    int64_t n = elements(&call->node->out);

    if (!call->din[0]) return KDAS_OK;
    return LAUNCH_EACH(device, quantize_backward, n, (const elem *)call->in[0],
                       (const elem *)call->dout, (elem *)call->din[0], (const float *)call->in[1],
                       adds(call, 0), n);
}

KD_OP(quantize, prepare, NULL, NULL, forward, backward)

#endif
