/* grid.c - see grid.h. */
#include "base/grid.h"
#include <float.h>
#include <math.h>
#include <kdas/backend.h>
#include "base/base.h"
#include "base/plain_math.h" /* no fused multiply-adds but where they are asked for */

kd_grid kd_grid_of(const float *range)
{
    float   low = fminf(range[0], 0), high = fmaxf(range[1], 0);
    kd_grid g = { 0 };

    if (!(range[0] <= range[1]) || !(high - low > 0) || !isfinite(high - low)) return g;
    g.scale   = (high - low) / 255.0f;
    g.inverse = 255.0f / (high - low);
    g.zero    = (int32_t)rintf(-low * g.inverse);
    /* a range too narrow for a float */
    if (!(g.scale > 0) || !isfinite(g.inverse)) return (kd_grid){ 0 };
    return g;
}

bool kd_range_is_empty(const float *range) { return kd_grid_of(range).scale == 0; }

static float clamp(float x, float low, float high) { return x > low ? x < high ? x : high : low; }

uint8_t kd_grid_number(const kd_grid *g, float value)
{
    return (uint8_t)((int32_t)rintf(
                         clamp(value * g->inverse, (float)-g->zero, (float)(255 - g->zero))) +
                     g->zero);
}

float kd_grid_round(const kd_grid *g, float value)
{
    if (g->scale == 0 || isnan(value)) return value;
    return (float)(kd_grid_number(g, value) - g->zero) * g->scale;
}

static bool set_empty(float *range, float low, float high)
{
    if (!kd_range_is_empty(range)) return false;
    range[0] = low;
    range[1] = high;
    return true;
}

void kd_range_follow(float *range, float low, float high, float momentum)
{
    if (!isfinite(low) || !isfinite(high)) return;
    if (set_empty(range, low, high)) return;
    range[0] = (1 - momentum) * range[0] + momentum * low;
    range[1] = (1 - momentum) * range[1] + momentum * high;
}

void kd_range_join(float *range, float low, float high)
{
    if (!isfinite(low) || !isfinite(high)) return;
    if (set_empty(range, low, high)) return;
    range[0] = fminf(range[0], low);
    range[1] = fmaxf(range[1], high);
}

bool kd_grid_holds(const kd_grid *g, float value)
{
    float n = rintf(value * g->inverse);

    return g->scale == 0 || (n >= (float)-g->zero && n <= (float)(255 - g->zero));
}

float kd_weights_to_grid(int8_t *q, const float *w, int64_t count, int64_t step, int32_t *sum)
{
    float most = 0, scale;

    if (sum) *sum = 0;
    for (int64_t i = 0; i < count; i++)
        most = fmaxf(most, fabsf(w[i * step]));
    scale = most / 127.0f;
    for (int64_t i = 0; i < count; i++) {
        q[i] = scale > 0 ? (int8_t)rintf(clamp(w[i * step] / scale, -127, 127)) : 0;
        if (sum) *sum += q[i];
    }
    return scale;
}

/* To nearest, ties to even, for |x| < 2^22: as rintf(), which compilers do not vectorise for every
 * CPU. */
static inline float nearest(float x)
{
    const float big = 0x1.8p23f;

    return (x + big) - big;
}

void kd_weights_round(float *w, int64_t count)
{
    float most = 0, scale;

#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < count; i++)
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    scale = most / 127.0f;
    if (!(scale > 0)) return;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float q = w[i] / scale;

        w[i] = nearest(q < -127 ? -127 : q > 127 ? 127 : q) * scale; /* NaN stays */
    }
}

kd_requantise kd_requantise_of(const kd_grid *out, int32_t post)
{
    kd_requantise r = { -FLT_MAX, FLT_MAX };

    if (out) r = (kd_requantise){ 0, 255 };
    if (post == KDAS_POST_NONE) return r;
    r.low = out ? (float)out->zero : 0;
    if (post == KDAS_POST_RELU6)
        r.high = out ? fminf(r.high, rintf(6 * out->inverse) + (float)out->zero) : 6;
    return r;
}

void kd_requantise_channel(float *factor, float *offset, const kd_grid *x, float weight_scale,
                           float bias, const kd_grid *out)
{
    *factor = x->scale * weight_scale;
    *offset = bias;
    if (out) {
        *factor = *factor * out->inverse;
        *offset = *offset * out->inverse + (float)out->zero;
    }
    *factor = fminf(*factor, FLT_MAX); /* infinite, it would make a NaN of a sum of 0 */
}

float kd_requantise_value(const kd_requantise *r, int32_t sum, float factor, float offset)
{
    return clamp(fmaf((float)sum, factor, offset), r->low, r->high);
}

uint8_t kd_requantise_number(const kd_requantise *r, int32_t sum, float factor, float offset)
{
    return (uint8_t)rintf(kd_requantise_value(r, sum, factor, offset));
}

void kd_gelu_table(uint8_t table[256], const kd_grid *x, const kd_grid *out)
{
    for (int32_t n = 0; n < 256; n++) {
        double v = (double)(n - x->zero) * x->scale;

        table[n] = kd_grid_number(out, (float)(v / 2 * (1 + erf(v * 0.70710678118654752))));
    }
}
