/* recolour.c - RECOLOUR: x (N,H,W,3), each channel a multiple of one of x's, and an offset. It may run in place, forward and
 * backward: the values of a pixel are read before one is written. */
#include "backend/cpu/simd/simd.h"

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_recolour_attr a      = *(const kdas_recolour_attr *)call->node->attr;
    const float             *x      = call->in[0];
    float                   *y      = call->out;
    int64_t                  pixels = row_count(&call->node->out);

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < pixels; p++) {
        const float *from = x + 3 * p;
        float        v[3];

        for (int c = 0; c < 3; c++)
            v[c] = a.factor[c] * from[a.source[c]] + a.offset[c];
        memcpy(y + 3 * p, v, sizeof v);
    }
    return KDAS_OK;
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const kdas_recolour_attr a      = *(const kdas_recolour_attr *)call->node->attr;
    const float             *dy     = call->dout;
    float                   *dx     = call->din[0];
    int64_t                  pixels = row_count(&call->node->out);
    bool                     add    = adds(call, 0);

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < pixels; p++) {
        float v[3] = { 0, 0, 0 };

        if (add) memcpy(v, dx + 3 * p, sizeof v);
        for (int c = 0; c < 3; c++)
            v[a.source[c]] += a.factor[c] * dy[3 * p + c];
        memcpy(dx + 3 * p, v, sizeof v);
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(recolour) = { .forward = forward, .backward = backward };
