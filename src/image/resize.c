/* resize.c - the input resize: a triangle filter, as wide as the step between output samples (so
 * that shrinking averages and does not skip), first along rows, then along columns. Numerically
 * Pillow's BILINEAR: weights in double, for 8-bit pixels rounded to 22 fractional bits, a pass
 * rounded half up.
 * It and image.c call each other: a resize reads views, and the public resize is among them. */
#include <math.h>
#include <string.h>
#include "base/context.h"
#include "image/resize.h"
#include "image/yuv.h"

struct kd_resizer {
    kdas_context *ctx;
    kd_axis       across, down;
    bool          avx2;
    int64_t       top, bottom; /* rows of the input that are needed    */
    void         *rows;        /* those rows at the new width          */
};

static void axis_finish(kd_axis *axis, kdas_context *ctx)
{
    kd_free(ctx, axis->first);
    kd_free(ctx, axis->count);
    kd_free(ctx, axis->weight);
    kd_free(ctx, axis->fixed);
    kd_free(ctx, axis->split);
}

/* Weights of output sample i: a triangle, `support` to each side of its centre; they sum to 1. */
static void axis_fill(kd_axis *axis, int64_t i, int64_t from, double scale, double support)
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
        axis->fixed[i * axis->taps + k] = (int32_t)(w[k] * (1 << KD_RESIZE_FRACTION) + 0.5);
    }
    while (axis->count[i] > 1 && w[axis->count[i] - 1] == 0.0)
        axis->count[i]--; /* the triangle's foot; all but one weight where the size stays */
}

static kdas_status axis_init(kd_axis *axis, kdas_context *ctx, int64_t from, int64_t to)
{
    double scale   = (double)from / (double)to;
    double support = KD_MAX(scale, 1.0);

    axis->size   = to;
    axis->from   = from;
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

/* Lay the weights out for the vector rows. Those read 16 bytes for four taps, so the plain rows
 * compute the outputs near the row's end. */
static kdas_status axis_split(kd_axis *axis, kdas_context *ctx)
{
    axis->fours = (axis->taps + 3) / 4;
    axis->split = kd_calloc(ctx, (size_t)(axis->size * axis->fours) * 8, sizeof *axis->split);
    if (!axis->split) return KDAS_ENOMEM;
    for (int64_t i = 0; i < axis->size; i++)
        for (int32_t k = 0; k < axis->count[i]; k++) {
            int16_t *four = axis->split + (i * axis->fours + k / 4) * 8;
            int32_t  w    = axis->fixed[i * axis->taps + k];

            four[k % 4]     = (int16_t)(w >> KD_RESIZE_SPLIT);
            four[k % 4 + 4] = (int16_t)(w & ((1 << KD_RESIZE_SPLIT) - 1));
        }
    while (axis->inner < axis->size - 1 &&
           (axis->first[axis->inner] + 4 * (axis->fours - 1)) * 3 + 16 <= axis->from * 3)
        axis->inner++;
    return KDAS_OK;
}

/* Only vast reductions, whose many weights round up together, need the upper bound. */
static inline uint8_t round_byte(int32_t sum)
{
    return (uint8_t)KD_MIN(sum >> KD_RESIZE_FRACTION, 255);
}

/* ---- 8-bit ----------------------------------------------------------------------------------- */

/* Outputs x .. of a row of pixels of `step` samples, the first three of which count; `step` is a
 * constant where it is used. */
static inline void row_of_three(uint8_t *to, const uint8_t *from, const kd_axis *axis, int64_t x,
                                int step)
{
    for (to += 3 * x; x < axis->size; x++, to += 3) {
        const int32_t *w = axis->fixed + x * axis->taps;
        const uint8_t *p = from + (int64_t)axis->first[x] * step;
        int32_t        r = KD_RESIZE_HALF, g = KD_RESIZE_HALF, b = KD_RESIZE_HALF;

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

static void row_of_one(uint8_t *to, const uint8_t *from, const kd_axis *axis)
{
    for (int64_t x = 0; x < axis->size; x++) {
        const int32_t *w   = axis->fixed + x * axis->taps;
        const uint8_t *p   = from + axis->first[x];
        int32_t        sum = KD_RESIZE_HALF;

        for (int32_t k = 0; k < axis->count[x]; k++)
            sum += p[k] * w[k];
        to[x] = round_byte(sum);
    }
}

/* Two rows, which may be one, at the new width. */
static void two_rows(uint8_t *to[2], const uint8_t *const from[2], int samples, const kd_axis *axis)
{
    int64_t done = 0;

    if (axis->split && samples > 1) {
        kd_resize_rows_avx2(to, from, axis, samples);
        done = axis->inner;
    }
    for (int i = 0; i < 2; i++)
        switch (samples) {
        case 1: row_of_one(to[i], from[i], axis); break;
        case 3: row_of_three(to[i], from[i], axis, done, 3); break;
        default: row_of_three(to[i], from[i], axis, done, 4); break;
        }
}

/* Output row y from rows of n samples; `rows` holds those from row r->top on. */
static void column_bytes(const kd_resizer *r, uint8_t *to, int64_t n, int64_t y)
{
    enum { TILE = 512 };
    const kd_axis *axis = &r->down;
    const uint8_t *rows = (const uint8_t *)r->rows + (axis->first[y] - r->top) * n;
    const int32_t *w    = axis->fixed + y * axis->taps;
    int32_t        sum[TILE];
    int64_t        at = 0;

    if (r->avx2) at = kd_resize_column_avx2(to, rows, n, w, axis->count[y]);
    for (; at < n; at += TILE) {
        int m = (int)KD_MIN(n - at, TILE);

        for (int i = 0; i < m; i++)
            sum[i] = KD_RESIZE_HALF;
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

static void across_bytes(kd_resizer *r, const kdas_view *from, int64_t begin, int64_t end,
                         uint8_t *rgb)
{
    bool     is_yuv  = kd_pixel_is_yuv(from->pixel);
    int      samples = kd_pixel_samples(from->pixel);
    int64_t  n       = r->across.size * kd_pixel_colours(from->pixel);
    uint8_t *rows    = r->rows;
    kd_yuv   yuv;

    if (is_yuv) kd_yuv_init(&yuv, from, r->avx2);

    for (int64_t y = begin; y < end; y += 2) {
        int64_t        next   = KD_MIN(y + 1, end - 1);
        uint8_t       *to[2]  = { rows + (y - r->top) * n, rows + (next - r->top) * n };
        const uint8_t *row[2] = { kd_view_row(from, y), kd_view_row(from, next) };

        for (int i = 0; is_yuv && i < 2; i++) {
            row[i] = rgb + i * from->width * 3;
            kd_yuv_row(&yuv, rgb + i * from->width * 3, i ? next : y, 0, from->width);
        }
        two_rows(to, row, samples, &r->across);
    }
}

/* ---- Float ----------------------------------------------------------------------------------- */

static void row_floats(float *to, const float *from, const kd_axis *axis, int colours)
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

static void column_floats(const kd_resizer *r, float *to, int64_t n, int64_t y)
{
    const kd_axis *axis = &r->down;
    const float   *rows = (const float *)r->rows + (axis->first[y] - r->top) * n;
    const double  *w    = axis->weight + y * axis->taps;

    for (int64_t i = 0; i < n; i++) {
        double sum = 0;

        for (int32_t k = 0; k < axis->count[y]; k++)
            sum += (double)rows[k * n + i] * w[k];
        to[i] = (float)sum;
    }
}

static void across_floats(kd_resizer *r, const kdas_view *from, int64_t begin, int64_t end)
{
    int     colours = kd_pixel_colours(from->pixel);
    int64_t n       = r->across.size * colours;
    float  *rows    = r->rows;

    for (int64_t y = begin; y < end; y++)
        row_floats(rows + (y - r->top) * n, kd_view_row(from, y), &r->across, colours);
}

/* ---- The passes ------------------------------------------------------------------------------ */

void kd_resizer_span(const kd_resizer *r, int64_t *top, int64_t *bottom)
{
    *top    = r->top;
    *bottom = r->bottom;
}

void kd_resizer_across(kd_resizer *r, const kdas_view *from, int64_t begin, int64_t end,
                       uint8_t *rgb)
{
    if (kd_pixel_is_float(from->pixel))
        across_floats(r, from, begin, end);
    else
        across_bytes(r, from, begin, end, rgb);
}

void kd_resizer_down(const kd_resizer *r, void *to, kdas_pixel pixel, int64_t y)
{
    int64_t n = r->across.size * kd_pixel_colours(pixel);

    if (kd_pixel_is_float(pixel))
        column_floats(r, to, n, y);
    else
        column_bytes(r, to, n, y);
}

/* All rows of both passes, `row` bytes of output apart. */
static void resize(kd_resizer *r, void *to, const kdas_view *from, size_t row, uint8_t *rgb)
{
    kd_resizer_across(r, from, r->top, r->bottom, rgb);
    for (int64_t y = 0; y < r->down.size; y++)
        kd_resizer_down(r, (char *)to + (size_t)y * row, from->pixel, y);
}

/* ---- Make, and use once ---------------------------------------------------------------------- */

kdas_status kd_resizer_create(kd_resizer **out, kdas_context *ctx, int64_t width, int64_t height,
                              int64_t from_width, int64_t from_height, size_t pixel_bytes)
{
    kdas_status st = KDAS_OK;
    kd_resizer *r  = kd_calloc(ctx, 1, sizeof *r);

    *out = NULL;
    if (!r) return KDAS_ENOMEM;
    r->ctx  = ctx;
    r->avx2 = !ctx->plain && kd_has_avx2();
    KD_TRY(axis_init(&r->across, ctx, from_width, width));
    KD_TRY(axis_init(&r->down, ctx, from_height, height));
    if (r->avx2) KD_TRY(axis_split(&r->across, ctx));
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
    kdas_status st  = KDAS_OK;
    uint8_t    *rgb = NULL;
    kd_resizer *r   = NULL;

    if (kd_pixel_is_yuv(from->pixel)) {
        rgb = kd_alloc(ctx, (size_t)KD_RGB_ROWS(from->width));
        if (!rgb) return KDAS_ENOMEM;
    }
    KD_TRY(kd_resizer_create(&r, ctx, width, height, from->width, from->height,
                             (size_t)kd_pixel_colours(from->pixel)));
    resize(r, to, from, (size_t)(width * kd_pixel_colours(from->pixel)), rgb);
done:
    kd_resizer_destroy(r);
    kd_free(ctx, rgb);
    return st;
}

kdas_status kd_resize_floats(kdas_context *ctx, float *to, int64_t width, int64_t height,
                             const kdas_view *from)
{
    kd_resizer *r;

    KD_RETURN(kd_resizer_create(&r, ctx, width, height, from->width, from->height,
                                (size_t)kd_pixel_colours(from->pixel) * sizeof *to));
    resize(r, to, from, (size_t)(width * kd_pixel_colours(from->pixel)) * sizeof *to, NULL);
    kd_resizer_destroy(r);
    return KDAS_OK;
}
