/* dwconv_strips.h - depthwise k x k filters of stride `step`, both known at compile time, for LANES channels of a strip of
 * neighbouring pixels at a time: a value of x and of w is loaded once for several products. DWCONV2D uses it for 3x3 of
 * stride 2 and for 5x5.
 *
 * `inside`: all columns that the strip reads are in the image, so none is checked. `whole`: all LANES channels exist, else
 * only m of them. */
#ifndef KD_DWCONV_STRIPS_H
#define KD_DWCONV_STRIPS_H
#include "backend/cpu/simd/dwconv.h"

/* The map that is read, the one that is written, and the filter (k*k, ld). */
typedef struct strips {
    const elem  *from;  /* one image        */
    elem        *to;    /* one row          */
    const float *w, *b; /* b: NULL for none */
    int64_t      from_h, from_w, to_w, C, ld, pad;
    store_mode   mode;
    int32_t      post; /* kdas_post, of a filter */
} strips;

enum { MOST_TAPS = 5, MOST_COLUMNS = 2 * (STRIP - 1) + MOST_TAPS };

/* Columns first .. first+count-1 of a row, zeros outside of the image; `row` is at the first of the channels. */
INLINE void columns(vec *v, const int count, const elem *row, int64_t first, int64_t width,
                    int64_t C, const bool inside, const bool whole, int64_t m)
{
#pragma GCC unroll 16
    for (int i = 0; i < count; i++)
        v[i] = inside || (first + i >= 0 && first + i < width)
                   ? load_some(row + (first + i) * C, whole, m)
                   : (vec){ 0 };
}

INLINE void store_pixel(elem *to, vec v, store_mode mode, const bool whole, int64_t m)
{
    if (mode == STREAM)
        stream(to, v);
    else
        store_some(to, mode == ADD ? v + load_some(to, whole, m) : v, whole, m);
}

/* ---- the filter: outputs x .. x+n-1 of row y ---- */

INLINE void filter_strip(const int k, const int step, const int n, const strips *s, int64_t y,
                         int64_t x, int64_t c, const bool inside, const bool whole)
{
    int64_t m = s->C - c;
    vec     sum[STRIP], v[MOST_COLUMNS];

#pragma GCC unroll 4
    for (int q = 0; q < n; q++)
        sum[q] = s->b ? load(s->b + c) : (vec){ 0 };
    for (int i = 0; i < k; i++) {
        int64_t row = y * step - s->pad + i;

        if (row < 0 || row >= s->from_h) continue;
        columns(v, (n - 1) * step + k, s->from + row * s->from_w * s->C + c, x * step - s->pad,
                s->from_w, s->C, inside, whole, m);
#pragma GCC unroll 5
        for (int t = 0; t < k; t++) {
            vec tap = load(s->w + (i * k + t) * s->ld + c);

#pragma GCC unroll 4
            for (int q = 0; q < n; q++)
                sum[q] += tap * v[q * step + t];
        }
    }
    if (s->post != KDAS_POST_NONE)
#pragma GCC unroll 4
        for (int q = 0; q < n; q++)
            sum[q] = clamp_v(sum[q], limits_of(s->post));
#pragma GCC unroll 4
    for (int q = 0; q < n; q++)
        store_pixel(s->to + (x + q) * s->C + c, sum[q], s->mode, whole, m);
}

/* ---- the transposed filter of stride 2: columns 2u .. 2(u+n)-1 of row y of the gradient of x ---- */

/* Tap t of output p read column 2p - pad + t. So column 2u + r sums over the taps of the parity of r + pad, which outputs
 * u + (r + pad - t)/2 used. Which taps these are is known at compile time for the usual padding: (k-2)/2 zeros before
 * the first column. */
INLINE void transposed_strip(const int k, const int n, const strips *s, int64_t y, int64_t u,
                             int64_t c, const bool inside, const bool whole)
{
    const int pad = (k - 2) / 2, low = (((k - 1 - pad) & 1) + pad - (k - 1)) / 2;
    const int high = ((pad & 1) + pad) / 2;
    int64_t   m    = s->C - c;
    vec       sum[2 * STRIP], v[MOST_COLUMNS];

#pragma GCC unroll 8
    for (int q = 0; q < 2 * n; q++)
        sum[q] = (vec){ 0 };
    for (int i = 0; i < k; i++) {
        int64_t twice = y + pad - i, row = twice / 2;

        if (twice < 0 || twice % 2 || row >= s->from_h) continue;
        columns(v, n + high - low, s->from + row * s->from_w * s->C + c, u + low, s->from_w, s->C,
                inside, whole, m);
#pragma GCC unroll 5
        for (int t = 0; t < k; t++) {
            const int r = (t + pad) & 1, at = (r + pad - t) / 2 - low;
            vec       tap = load(s->w + (i * k + t) * s->ld + c);

#pragma GCC unroll 4
            for (int q = 0; q < n; q++)
                sum[2 * q + r] += tap * v[q + at];
        }
    }
#pragma GCC unroll 8
    for (int q = 0; q < 2 * n; q++)
        if (2 * u + q < s->to_w)
            store_pixel(s->to + (2 * u + q) * s->C + c, sum[q], s->mode, whole, m);
}

/* ---- a row of strips ---- */

/* The function of a strip: filter_strip() or transposed_strip(). */
typedef enum strip_kind { FILTER, TRANSPOSED } strip_kind;

INLINE void any_strip(const strip_kind kind, const int k, const int step, const int n,
                      const strips *s, int64_t y, int64_t x, int64_t c, const bool inside,
                      const bool whole)
{
    if (kind == FILTER)
        filter_strip(k, step, n, s, y, x, c, inside, whole);
    else
        transposed_strip(k, n, s, y, x, c, inside, whole);
}

/* Does a strip of STRIP outputs from x on read only columns of the image? (In transposed_strip(), `low` is at least -k/2,
 * `high` at most k/2.) */
INLINE bool reads_inside(const strip_kind kind, const int k, const int step, const strips *s,
                         int64_t x)
{
    if (kind == TRANSPOSED) return x >= k / 2 && x + STRIP + k / 2 <= s->from_w;
    return x * step >= s->pad && (x + STRIP - 1) * step - s->pad + k <= s->from_w;
}

/* `count` outputs of row y (pairs of outputs for TRANSPOSED), in strips of STRIP, 2 or 1. Channels past the last whole
 * vector are computed one output at a time. */
INLINE void strips_of_row(const strip_kind kind, const int k, const int step, const strips *s,
                          int64_t y, int64_t count)
{
    for (int64_t x = 0; x < count;) {
        int64_t left = count - x, n = left >= STRIP ? STRIP : left >= 2 ? 2 : 1, c = 0;
        bool    inside = n == STRIP && reads_inside(kind, k, step, s, x);

        for (; c + LANES <= s->C; c += LANES)
            if (inside)
                any_strip(kind, k, step, STRIP, s, y, x, c, true, true);
            else if (n == STRIP)
                any_strip(kind, k, step, STRIP, s, y, x, c, false, true);
            else if (n == 2)
                any_strip(kind, k, step, 2, s, y, x, c, false, true);
            else
                any_strip(kind, k, step, 1, s, y, x, c, false, true);
        for (int64_t q = 0; c < s->C && q < n; q++, x++)
            any_strip(kind, k, step, 1, s, y, x, c, false, false);
        x += c < s->C ? 0 : n; /* the loop over the last channels has moved x */
    }
}

INLINE void filter_row(const int k, const int step, const strips *s, int64_t y)
{
    strips_of_row(FILTER, k, step, s, y, s->to_w);
}

INLINE void transposed_row(const int k, const strips *s, int64_t y)
{
    strips_of_row(TRANSPOSED, k, 2, s, y, ceil_div(s->to_w, 2));
}

/* ---- the gradient of the filter ---- */

/* sum[0] + sum[1] (k), the gradients of one row's taps, += the output gradients of a strip times the values that each tap
 * read. Two accumulators for each tap shorten the dependency chain. */
INLINE void filter_grad_strip(const int k, const int step, const int n, vec sum[2][MOST_TAPS],
                              const elem *row, const elem *dy, int64_t x, int64_t width,
                              int64_t pad, int64_t C, const bool inside, const bool whole,
                              int64_t m)
{
    vec v[MOST_COLUMNS];

    columns(v, (n - 1) * step + k, row, x * step - pad, width, C, inside, whole, m);
#pragma GCC unroll 4
    for (int q = 0; q < n; q++) {
        vec g = load_some(dy + (x + q) * C, whole, m);

#pragma GCC unroll 5
        for (int t = 0; t < k; t++)
            sum[q & 1][t] += g * v[q * step + t];
    }
}

/* LANES channels from c on, one row of taps: `to` (k, ld) += its gradients over all outputs of a row. */
INLINE void filter_grad_line(const int k, const int step, float *to, int64_t ld, const elem *row,
                             const elem *dy, int64_t outputs, int64_t width, int64_t pad, int64_t C,
                             const bool whole, int64_t m)
{
    vec     sum[2][MOST_TAPS];
    int64_t x = 0;

#pragma GCC unroll 5
    for (int t = 0; t < k; t++) {
        sum[0][t] = load(to + t * ld);
        sum[1][t] = (vec){ 0 };
    }
    for (; x + STRIP <= outputs; x += STRIP)
        if (x * step >= pad && (x + STRIP - 1) * step - pad + k <= width)
            filter_grad_strip(k, step, STRIP, sum, row, dy, x, width, pad, C, true, whole, m);
        else
            filter_grad_strip(k, step, STRIP, sum, row, dy, x, width, pad, C, false, whole, m);
    for (; x < outputs; x++)
        filter_grad_strip(k, step, 1, sum, row, dy, x, width, pad, C, false, whole, m);
#pragma GCC unroll 5
    for (int t = 0; t < k; t++)
        store(to + t * ld, sum[0][t] + sum[1][t]);
}

/* sums (k*k + 1, ld), the filter's gradient and then the bias's, += the contribution of output row y. `dy` is that row,
 * `image` the input. */
INLINE void filter_grad_row(const int k, const int step, float *sums, int64_t ld, const elem *image,
                            const elem *dy, int64_t y, int64_t outputs, int64_t height,
                            int64_t width, int64_t pad, int64_t C)
{
    for (int64_t c = 0; c < C; c += LANES) {
        bool    whole = c + LANES <= C;
        int64_t m     = C - c;
        vec     all   = load(sums + k * k * ld + c);

        for (int i = 0; i < k; i++) {
            int64_t     at  = y * step - pad + i;
            const elem *row = image + at * width * C + c;
            float      *to  = sums + i * k * ld + c;

            if (at < 0 || at >= height) continue;
            if (whole)
                filter_grad_line(k, step, to, ld, row, dy + c, outputs, width, pad, C, true, m);
            else
                filter_grad_line(k, step, to, ld, row, dy + c, outputs, width, pad, C, false, m);
        }
        for (int64_t x = 0; x < outputs; x++)
            all += load_some(dy + x * C + c, whole, m);
        store(sums + k * k * ld + c, all);
    }
}

#endif
