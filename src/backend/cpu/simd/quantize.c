/* quantize.c - QUANTIZE: x to the nearest of the 256 values of a range, or to their numbers (base/grid.h). */
#include "backend/cpu/simd/simd.h"
#include "base/grid.h"

enum { APART = 32 }; /* floats between the results of two threads */

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    (void)node;
    plan->work_forward = float_bytes(APART) * (size_t)device->threads;
    return KDAS_OK;
}

/* The least and the largest of each part of x, and whether it has a NaN. */
static void extremes(const kdas_device *device, const elem *x, int64_t n, float *work)
{
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t i   = line_part_begin(n, t, device->threads),
                end = line_part_begin(n, t + 1, device->threads);
        float low = num(x[i < end ? i : 0]), high = low, nan = 0;

#pragma omp simd reduction(min : low) reduction(max : high) reduction(max : nan)
        for (int64_t k = i; k < end; k++) {
            float v = num(x[k]), is_nan = v != v ? 1.0f : 0.0f;

            low  = v < low ? v : low;
            high = v > high ? v : high;
            nan  = is_nan > nan ? is_nan : nan;
        }
        work[t * APART]     = nan > 0 ? NAN : low;
        work[t * APART + 1] = high;
    }
}

/* What training makes of the range. */
static void follow(const kdas_device *device, const kdas_call *call, int64_t n)
{
    const kdas_quantize_attr *attr = call->node->attr;
    float                    *work = call->work, low, high;

    extremes(device, call->in[0], n, work);
    low  = work[0];
    high = work[1];
    for (int t = 1; t < device->threads; t++) {
        float l = work[t * APART], h = work[t * APART + 1];

        low  = l < low || l != l ? l : low;
        high = h > high ? h : high;
    }
    if (attr->joins)
        kd_range_join(call->in[1], low, high);
    else
        kd_range_follow(call->in[1], low, high, attr->momentum);
}

/* A NaN stays one. */
INLINE float number_of(float x, float inverse, float low, float high)
{
    float v = x * inverse;

    return rintf(v < low ? low : v > high ? high : v);
}

/* A NaN is 0. */
INLINE uint8_t number_as_byte(float x, float inverse, float low, float high, int32_t zero)
{
    float v = x * inverse;

    return (uint8_t)((int32_t)rintf(v > low ? v < high ? v : high : low) + zero);
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_quantize_attr *attr = call->node->attr;
    const elem               *x    = call->in[0];
    int64_t                   n    = numel(&call->node->out);
    kd_grid                   g;
    float                     low, high, inverse, scale;
    int32_t                   zero;

    if ((call->node->flags & KDAS_NODE_TRAIN) && attr->momentum > 0) follow(device, call, n);
    g       = kd_grid_of(call->in[1]);
    zero    = g.zero;
    low     = (float)-zero;
    high    = (float)(255 - zero);
    inverse = g.inverse;
    scale   = g.scale;
    if (call->node->out.dtype == KDAS_U8) {
        uint8_t *y = call->out;

        if (scale == 0)
            return device->host.fail(KDAS_ESTATE, "quantize: the range of its numbers is empty; "
                                                  "the model was not calibrated (kdas-quantize)");
        EACH_ELEMENT(i, n, device)
        y[i] = number_as_byte(num(x[i]), inverse, low, high, zero);
    } else if (scale == 0) {
        elem *y = call->out;

        if (y != x) memcpy(y, x, (size_t)n * sizeof *y);
    } else {
        elem *y = call->out;

        EACH_ELEMENT(i, n, device)
        set(y[i], number_of(num(x[i]), inverse, low, high) * scale);
    }
    return KDAS_OK;
}

/* The gradient passes where rounding moves x by half a step at most. */
static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0], *dy = call->dout;
    elem       *dx      = call->din[0];
    int64_t     n       = numel(&call->node->out);
    kd_grid     g       = kd_grid_of(call->in[1]);
    bool        add     = adds(call, 0);
    float       low     = g.scale > 0 ? (float)-g.zero : -INFINITY;
    float       high    = g.scale > 0 ? (float)(255 - g.zero) : INFINITY;
    float       inverse = g.scale > 0 ? g.inverse : 1;

    EACH_ELEMENT(i, n, device)
    {
        float v = rintf(num(x[i]) * inverse);

        accumulate(dx[i], v >= low && v <= high ? num(dy[i]) : 0, add);
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(quantize) = { .prepare  = prepare,
                                          .forward  = forward,
                                          .backward = backward };
