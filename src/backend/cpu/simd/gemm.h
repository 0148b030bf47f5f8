/* gemm.h - the matrix product behind LINEAR, ATTENTION and MATMUL, for one thread: C (M,N) from A (M,K)
 * and B (K,N).
 *
 * A is read where it lies, with any stride for rows and for columns, so that a transposed one costs
 * nothing. B is packed into panels of PANEL columns, each (K, PANEL) and dense; a last panel of at most
 * LANES columns is (K, LANES); columns past N are zero. One tile, TILE_ROWS by PANEL, stays in registers
 * over all of K. No memory is needed but the panels.
 *
 * It was chosen by measurement: at the shapes of PVTv2 (K and N of 32 to 512, many rows) it is level with
 * or ahead of dnnl_sgemm and well ahead of OpenBLAS, which both copy A first, and it takes the bias
 * along, allocates nothing and depends on no state. */
#ifndef KD_GEMM_H
#define KD_GEMM_H
#include "backend/cpu/simd/simd.h"

enum { PANEL = 2 * LANES };

/* What happens to C. STREAM: set, past the caches; C is aligned and N a multiple of PANEL. */
typedef enum put_mode { SET, ADD, STREAM } put_mode;
INLINE put_mode put_of(bool add) { return add ? ADD : SET; }

/* Floats of a packed B. */
INLINE int64_t packed_numel(int64_t k, int64_t n) { return k * round_up(n, LANES); }

/* Pack B, element (k, n) at b[k bk + n bn], times alpha. */
static void __attribute__((unused)) pack_panels(float *to, const float *b, int64_t K, int64_t N,
                                                int64_t bk, int64_t bn, float alpha)
{
    for (int64_t n = 0; n < N; n += PANEL) {
        int64_t width = N - n <= LANES ? LANES : PANEL, cols = N - n < width ? N - n : width;

        for (int64_t k = 0; k < K; k++, to += width) {
            const float *row = b + k * bk + n * bn;

            if (bn == 1)
                for (int64_t j = 0; j < cols; j++)
                    to[j] = alpha * row[j];
            else
                for (int64_t j = 0; j < cols; j++)
                    to[j] = alpha * row[j * bn];
            for (int64_t j = cols; j < width; j++)
                to[j] = 0;
        }
    }
}

/* One tile of `rows` by `vecs` vectors; both are constants where this is inlined. `bias`: what a row
 * starts from, or NULL. `ahead`: how far from each value of A to fetch what comes next, or 0. Pointers to A
 * are kept for every third row, the two between are an index away. */
INLINE void tile(const int rows, const int vecs, int64_t K, const float *a, int64_t ai, int64_t ak,
                 const float *b, const float *bias, float *c, int64_t ldc, put_mode put, int64_t ahead)
{
    vec          sum[TILE_ROWS][2];
    const float *at[(TILE_ROWS + 2) / 3];

#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++)
            sum[i][j] = bias ? load(bias + j * LANES) : (vec){ 0 };
#pragma GCC unroll 16
    for (int i = 0; i < (rows + 2) / 3; i++)
        at[i] = a + 3 * i * ai;
    for (int64_t k = 0; k < K;) {
        int64_t end = K - k < 16 ? K : k + 16; /* a cache line of each row of A */

        if (ahead)
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++)
                __builtin_prefetch(at[i / 3] + (i % 3) * ai + ahead, 0, 2);
        for (; k < end; k++) {
            vec b0 = load(b), b1 = vecs > 1 ? load(b + LANES) : (vec){ 0 };

#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                vec s = (vec){ 0 } + at[i / 3][(i % 3) * ai];

                sum[i][0] += s * b0;
                if (vecs > 1) sum[i][1] += s * b1;
            }
#pragma GCC unroll 16
            for (int i = 0; i < (rows + 2) / 3; i++)
                at[i] += ak;
            b += vecs * LANES;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++) {
            float *p = c + i * ldc + j * LANES;

            if (put == STREAM) stream(p, sum[i][j]);
            else store(p, put == ADD ? load(p) + sum[i][j] : sum[i][j]);
        }
}

#define TILE_CASE(rows)                                                        \
    case rows:                                                                 \
        if (wide) tile(rows, 2, K, a, ai, ak, b, bias, c, ldc, put, ahead);    \
        else tile(rows, 1, K, a, ai, ak, b, bias, c, ldc, put, ahead);         \
        break;

static __attribute__((noinline, unused)) void any_tile(int64_t rows, bool wide, int64_t K,
                                                       const float *a, int64_t ai, int64_t ak,
                                                       const float *b, const float *bias, float *c,
                                                       int64_t ldc, put_mode put, int64_t ahead)
{
    switch (rows) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
#if defined(__AVX2__)
        TILE_CASE(6)
#endif
#if defined(__AVX512F__)
        TILE_CASE(7)
        TILE_CASE(8)
        TILE_CASE(9)
        TILE_CASE(10)
        TILE_CASE(11)
        TILE_CASE(12)
        TILE_CASE(13)
        TILE_CASE(14)
#endif
    default: break;
    }
}

/* The same for the panel from column n on, where C may end inside it. */
static void __attribute__((unused)) panel_tile(int64_t rows, int64_t n, int64_t N, int64_t K,
                                               const float *a, int64_t ai, int64_t ak,
                                               const float *packed, const float *bias, float *c,
                                               int64_t ldc, put_mode put, int64_t ahead)
{
    bool         wide = N - n > LANES;
    int64_t      width = wide ? PANEL : LANES;
    const float *b = packed + n * K, *start = bias ? bias + n : NULL;
    float        whole[TILE_ROWS * PANEL];

    if (N - n >= width) {
        any_tile(rows, wide, K, a, ai, ak, b, start, c + n, ldc, put, ahead);
        return;
    }
    any_tile(rows, wide, K, a, ai, ak, b, start, whole, PANEL, SET, ahead);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < N - n; j++)
            PUT(put == ADD, c[i * ldc + n + j], whole[i * PANEL + j]);
}

/* C = A B (+ bias for each column), or C += A B. A at a[m ai + k ak], B packed, C at c[m ldc + n].
 * `bias`, if not NULL, holds round_up(N, LANES) values. */
static void __attribute__((unused)) gemm(int64_t M, int64_t N, int64_t K, const float *a, int64_t ai,
                                         int64_t ak, const float *packed, const float *bias, float *c,
                                         int64_t ldc, put_mode put)
{
    int64_t tiles = ceil_div(M, TILE_ROWS);
    /* rows of A that stay in the second-level cache while the panels go by */
    int64_t block = 65536 / (K * TILE_ROWS);

    block = block < 1 ? 1 : block > 16 ? 16 : block;
    for (int64_t t0 = 0; t0 < tiles; t0 += block) {
        int64_t t1 = t0 + block < tiles ? t0 + block : tiles;

        for (int64_t n = 0; n < N; n += PANEL)
            for (int64_t t = t0; t < t1; t++) { /* tiles of even height: no thin last one */
                int64_t m = PART(M, t, tiles), rows = PART(M, t + 1, tiles) - m;
                int64_t ahead = n == 0 && ak == 1 ? rows * ai : 0;

                panel_tile(rows, n, N, K, a + m * ai, ai, ak, packed, bias, c + m * ldc, ldc, put,
                           ahead);
            }
    }
}

#endif
