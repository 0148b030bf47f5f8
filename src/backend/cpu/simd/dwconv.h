/* dwconv.h - the depthwise 3x3 filter of stride 1 and padding 1, for LANES channels of a strip of neighbouring pixels at a
 * time. DWCONV2D and MIX_FFN use it.
 *
 * row[0..2] point to column 0 of the rows above, at and below the current row, at the first of the LANES channels; NULL
 * outside of the image. Pixels lie `step` elements apart. */
#ifndef KD_DWCONV_H
#define KD_DWCONV_H
#include "backend/cpu/simd/simd.h"

/* Pixels of a strip, which share the values they read; the same for the gradient of the filter. */
enum { STRIP = 4, WEIGHTS_STRIP = LANES == 16 ? 8 : 4 };

typedef struct line {
    int64_t width, step;
} line;

/* Columns x-1 .. x+n of a row, zero outside of the image; `at` points to column x. */
INLINE void window(vec *v, const int n, const elem *at, int64_t x, line l, bool whole, int64_t m)
{
    v[0] = x > 0 ? load_some(at - l.step, whole, m) : (vec){ 0 };
#pragma GCC unroll 8
    for (int j = 0; j < n; j++)
        v[j + 1] = load_some(at + j * l.step, whole, m);
    v[n + 1] = x + n < l.width ? load_some(at + n * l.step, whole, m) : (vec){ 0 };
}

/* sum[j] += the filter w[9] at columns x .. x+n-1. `whole`: all LANES channels exist, else m of them. */
INLINE void add_taps(vec *sum, const int n, const elem *const row[3], const vec *w, int64_t x,
                     line l, bool whole, int64_t m)
{
    vec v[STRIP + 2];

#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        if (!row[i]) continue;
        window(v, n, row[i] + x * l.step, x, l, whole, m);
#pragma GCC unroll 4
        for (int j = 0; j < n; j++)
            sum[j] += w[3 * i] * v[j] + w[3 * i + 1] * v[j + 1] + w[3 * i + 2] * v[j + 2];
    }
}

/* sum[3], the gradients of one row's taps, += output gradients g (n) times the values that each tap read. */
INLINE void add_products(vec *sum, const int n, const elem *row, const vec *g, int64_t x, line l,
                         bool whole, int64_t m)
{
    vec v[WEIGHTS_STRIP + 2];

    window(v, n, row + x * l.step, x, l, whole, m);
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        sum[0] += g[j] * v[j];
        sum[1] += g[j] * v[j + 1];
        sum[2] += g[j] * v[j + 2];
    }
}

/* Run a statement for all columns of a row in strips. It declares x, the first column of a strip, and n, its width: a
 * constant, STRIP, 2 or 1, so that loops over n are unrolled. */
#define BY_STRIPS(x, n, width, ...)                \
    do {                                           \
        int64_t x = 0;                             \
        for (; x + STRIP <= (width); x += STRIP) { \
            enum { n = STRIP };                    \
            __VA_ARGS__;                           \
        }                                          \
        for (; x + 2 <= (width); x += 2) {         \
            enum { n = 2 };                        \
            __VA_ARGS__;                           \
        }                                          \
        if (x < (width)) {                         \
            enum { n = 1 };                        \
            __VA_ARGS__;                           \
        }                                          \
    } while (0)

#endif
