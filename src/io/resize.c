/* resize.c - the input resize: a triangle filter, as wide as the step between output samples (so
 * that shrinking averages and does not skip), first along rows, then along columns. Numerically
 * Pillow's BILINEAR: weights in double, for 8-bit pixels rounded to 22 fractional bits, a pass
 * rounded half up. */
#include <math.h>
#include <string.h>
#include "io/image.h"

#define FRACTION 22
#define HALF     (1 << (FRACTION - 1))

/* Where the samples along an axis come from: output i is the sum of weight[i * taps + k] times
 * input first[i] + k over k < count[i]. */
struct axis {
    int64_t  size, taps;
    int32_t *first, *count;
    double  *weight;
    int32_t *fixed; /* weight in units of 2^-FRACTION */
};

struct kd_resizer {
    kdas_context *ctx;
    struct axis   across, down;
    int64_t       top, bottom; /* rows of the input that are needed    */
    void         *rows;        /* those rows at the new width          */
};

static void axis_finish(struct axis *axis, kdas_context *ctx)
{
    kd_free(ctx, axis->first);
    kd_free(ctx, axis->count);
    kd_free(ctx, axis->weight);
    kd_free(ctx, axis->fixed);
}

/* Weights of output sample i: a triangle, `support` to each side of its centre; they sum to 1. */
static void axis_fill(struct axis *axis, int64_t i, int64_t from, double scale, double support)
{
    double *w      = axis->weight + i * axis->taps;
    double  centre = ((double)i + 0.5) * scale, sum = 0, slope = 1.0 / support;
    int64_t first = KD_MAX((int64_t)(centre - support + 0.5), 0);
    int64_t last  = KD_MIN((int64_t)(centre + support + 0.5), from);

    axis->first[i] = (int32_t)first;
    axis->count[i] = (int32_t)(last - first);
    for (int64_t k = 0; k < last - first; k++) {
        double distance = fabs(((double)(k + first) - centre + 0.5) * slope);

        w[k] = distance < 1.0 ? 1.0 - distance : 0.0;
        sum += w[k];
    }
    for (int64_t k = 0; k < last - first; k++) {
        if (sum != 0.0) w[k] /= sum;
        axis->fixed[i * axis->taps + k] = (int32_t)(w[k] * (1 << FRACTION) + 0.5);
    }
    while (axis->count[i] > 1 && w[axis->count[i] - 1] == 0.0)
        axis->count[i]--; /* the triangle's foot; all but one weight where the size stays */
}

static kdas_status axis_init(struct axis *axis, kdas_context *ctx, int64_t from, int64_t to)
{
    double scale   = (double)from / (double)to;
    double support = KD_MAX(scale, 1.0);

    axis->size   = to;
    axis->taps   = (int64_t)ceil(support) * 2 + 1;
    axis->first  = kd_calloc(ctx, (size_t)to, sizeof *axis->first);
    axis->count  = kd_calloc(ctx, (size_t)to, sizeof *axis->count);
    axis->weight = kd_calloc(ctx, (size_t)(to * axis->taps), sizeof *axis->weight);
    axis->fixed  = kd_calloc(ctx, (size_t)(to * axis->taps), sizeof *axis->fixed);
    if (!axis->first || !axis->count || !axis->weight || !axis->fixed) return KDAS_ENOMEM;
    for (int64_t i = 0; i < to; i++)
        axis_fill(axis, i, from, scale, support);
    return KDAS_OK;
}

/* Only vast reductions, whose many weights round up together, need the upper bound. */
static inline uint8_t round_byte(int32_t sum) { return (uint8_t)KD_MIN(sum >> FRACTION, 255); }

/* ---- 8-bit ----------------------------------------------------------------------------------- */

/* A row of pixels of `step` samples, the first three of which count; `step` is a constant where it
 * is used. */
static inline void row_of_three(uint8_t *to, const uint8_t *from, const struct axis *axis, int step)
{
    for (int64_t x = 0; x < axis->size; x++, to += 3) {
        const int32_t *w = axis->fixed + x * axis->taps;
        const uint8_t *p = from + (int64_t)axis->first[x] * step;
        int32_t        r = HALF, g = HALF, b = HALF;

        for (int32_t k = 0; k < axis->count[x]; k++, p += step) {
            r += p[0] * w[k];
            g += p[1] * w[k];
            b += p[2] * w[k];
        }
        to[0] = round_byte(r);
        to[1] = round_byte(g);
        to[2] = round_byte(b);
    }
}

static void row_of_one(uint8_t *to, const uint8_t *from, const struct axis *axis)
{
    for (int64_t x = 0; x < axis->size; x++) {
        const int32_t *w   = axis->fixed + x * axis->taps;
        const uint8_t *p   = from + axis->first[x];
        int32_t        sum = HALF;

        for (int32_t k = 0; k < axis->count[x]; k++)
            sum += p[k] * w[k];
        to[x] = round_byte(sum);
    }
}

/* Row y of `from` at the new width. */
static void row_bytes(uint8_t *to, const kdas_view *from, int64_t y, const struct axis *axis)
{
    const uint8_t *row = kd_view_row(from, y);

    switch (kd_pixel_samples(from->pixel)) {
    case 1: row_of_one(to, row, axis); break;
    case 3: row_of_three(to, row, axis, 3); break;
    default: row_of_three(to, row, axis, 4); break;
    }
}

/* Output row y from rows of n samples; `rows` holds those from row `top` on. */
static void column_bytes(uint8_t *to, const uint8_t *rows, int64_t top, int64_t n,
                         const struct axis *axis, int64_t y)
{
    enum { TILE = 512 };
    const int32_t *w = axis->fixed + y * axis->taps;
    int32_t        sum[TILE];

    rows += (axis->first[y] - top) * n;
    for (int64_t at = 0; at < n; at += TILE) {
        int m = (int)KD_MIN(n - at, TILE);

        for (int i = 0; i < m; i++)
            sum[i] = HALF;
        for (int32_t k = 0; k < axis->count[y]; k++) {
            const uint8_t *p = rows + k * n + at;
#pragma omp simd
            for (int i = 0; i < m; i++)
                sum[i] += p[i] * w[k];
        }
#pragma omp simd
        for (int i = 0; i < m; i++)
            to[at + i] = round_byte(sum[i]);
    }
}

void kd_resizer_bytes(kd_resizer *r, uint8_t *to, const kdas_view *from)
{
    int64_t  n    = r->across.size * kd_pixel_colours(from->pixel);
    uint8_t *rows = r->rows;

    for (int64_t y = r->top; y < r->bottom; y++)
        row_bytes(rows + (y - r->top) * n, from, y, &r->across);
    for (int64_t y = 0; y < r->down.size; y++)
        column_bytes(to + y * n, rows, r->top, n, &r->down, y);
}

/* ---- Float ----------------------------------------------------------------------------------- */

static void row_floats(float *to, const float *from, const struct axis *axis, int colours)
{
    for (int64_t x = 0; x < axis->size; x++)
        for (int c = 0; c < colours; c++) {
            const double *w   = axis->weight + x * axis->taps;
            const float  *p   = from + (int64_t)axis->first[x] * colours + c;
            double        sum = 0;

            for (int32_t k = 0; k < axis->count[x]; k++)
                sum += (double)p[k * colours] * w[k];
            *to++ = (float)sum;
        }
}

static void column_floats(float *to, const float *rows, int64_t top, int64_t n,
                          const struct axis *axis, int64_t y)
{
    const double *w = axis->weight + y * axis->taps;

    rows += (axis->first[y] - top) * n;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;

        for (int32_t k = 0; k < axis->count[y]; k++)
            sum += (double)rows[k * n + i] * w[k];
        to[i] = (float)sum;
    }
}

void kd_resizer_floats(kd_resizer *r, float *to, const kdas_view *from)
{
    int     colours = kd_pixel_colours(from->pixel);
    int64_t n       = r->across.size * colours;
    float  *rows    = r->rows;

    for (int64_t y = r->top; y < r->bottom; y++)
        row_floats(rows + (y - r->top) * n, kd_view_row(from, y), &r->across, colours);
    for (int64_t y = 0; y < r->down.size; y++)
        column_floats(to + y * n, rows, r->top, n, &r->down, y);
}

/* ---- Make, and use once ---------------------------------------------------------------------- */

kdas_status kd_resizer_create(kd_resizer **out, kdas_context *ctx, int64_t width, int64_t height,
                              int64_t from_width, int64_t from_height, size_t pixel_bytes)
{
    kdas_status st = KDAS_OK;
    kd_resizer *r  = kd_calloc(ctx, 1, sizeof *r);

    *out = NULL;
    if (!r) return KDAS_ENOMEM;
    r->ctx = ctx;
    KD_TRY(axis_init(&r->across, ctx, from_width, width));
    KD_TRY(axis_init(&r->down, ctx, from_height, height));
    r->top    = r->down.first[0];
    r->bottom = r->down.first[height - 1] + r->down.count[height - 1];
    r->rows   = kd_alloc(ctx, (size_t)((r->bottom - r->top) * width) * pixel_bytes);
    if (!r->rows) {
        st = KDAS_ENOMEM;
        goto done;
    }
    *out = r;
    r    = NULL;
done:
    kd_resizer_destroy(r);
    return st;
}

void kd_resizer_destroy(kd_resizer *r)
{
    if (!r) return;
    axis_finish(&r->across, r->ctx);
    axis_finish(&r->down, r->ctx);
    kd_free(r->ctx, r->rows);
    kd_free(r->ctx, r);
}

kdas_status kd_resize_bytes(kdas_context *ctx, uint8_t *to, int64_t width, int64_t height,
                            const kdas_view *from)
{
    kd_resizer *r;

    KD_RETURN(kd_resizer_create(&r, ctx, width, height, from->width, from->height,
                                (size_t)kd_pixel_colours(from->pixel)));
    kd_resizer_bytes(r, to, from);
    kd_resizer_destroy(r);
    return KDAS_OK;
}

kdas_status kd_resize_floats(kdas_context *ctx, float *to, int64_t width, int64_t height,
                             const kdas_view *from)
{
    kd_resizer *r;

    KD_RETURN(kd_resizer_create(&r, ctx, width, height, from->width, from->height,
                                (size_t)kd_pixel_colours(from->pixel) * sizeof *to));
    kd_resizer_floats(r, to, from);
    kd_resizer_destroy(r);
    return KDAS_OK;
}
