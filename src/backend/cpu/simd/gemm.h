/* gemm.h - the matrix product behind LINEAR, ATTENTION and small MATMULs, for one thread: C (M,N)
 * from A (M,K) and B (K,N).
 *
 * A is read where it lies, with any stride for rows and for columns, so that a transposed one
 * costs nothing. B is packed into panels of PANEL columns, each (K, PANEL) and dense; a last panel
 * of at most LANES columns is (K, LANES); columns past N are zero. One tile, TILE_ROWS by PANEL,
 * stays in registers over all of K. No memory is needed but the panels.
 *
 * It was chosen by measurement: at the shapes of PVTv2 (K and N of 32 to 512, many rows) it is
 * level with or ahead of dnnl_sgemm and well ahead of OpenBLAS, which both copy A first, and it
 * takes the bias along, allocates nothing and depends on no state. */
#ifndef KD_GEMM_H
#define KD_GEMM_H
#include "backend/cpu/simd/simd.h"

enum { PANEL = 2 * LANES };

/* What happens to C. STREAM: set, past the caches; C is aligned and N a multiple of PANEL. */
typedef enum put_mode { SET, ADD, STREAM } put_mode;
INLINE put_mode put_of(bool add) { return add ? ADD : SET; }

/* Floats of a packed B. */
INLINE int64_t packed_numel(int64_t k, int64_t n) { return k * round_up(n, LANES); }

/* The panel that starts at column n: its width, and how many of its columns exist. */
INLINE int64_t width_at(int64_t n, int64_t N) { return N - n <= LANES ? LANES : PANEL; }
INLINE int64_t cols_at(int64_t n, int64_t N)
{
    return N - n < width_at(n, N) ? N - n : width_at(n, N);
}

/* `cols` values into a row of a panel, zeros up to `width`. */
INLINE void pack_row(float *to, const float *from, int64_t step, int64_t cols, int64_t width,
                     float alpha)
{
    if (step == 1 && cols == PANEL)
        for (int64_t j = 0; j < PANEL; j++)
            to[j] = alpha * from[j];
    else if (step == 1)
        for (int64_t j = 0; j < cols; j++)
            to[j] = alpha * from[j];
    else
        for (int64_t j = 0; j < cols; j++)
            to[j] = alpha * from[j * step];
    for (int64_t j = cols; j < width; j++)
        to[j] = 0;
}

/* Pack B, element (k, n) at b[k bk + n bn], times alpha. It is read along its dense axis. */
static void __attribute__((unused))
pack_panels(float *to, const float *b, int64_t K, int64_t N, int64_t bk, int64_t bn, float alpha)
{
    if (bn == 1) {
        for (int64_t k = 0; k < K; k++)
            for (int64_t n = 0; n < N; n += PANEL)
                pack_row(to + n * K + k * width_at(n, N), b + k * bk + n, 1, cols_at(n, N),
                         width_at(n, N), alpha);
        return;
    }
    for (int64_t n = 0; n < N; n += PANEL)
        for (int64_t k = 0; k < K; k++)
            pack_row(to + n * K + k * width_at(n, N), b + k * bk + n * bn, bn, cols_at(n, N),
                     width_at(n, N), alpha);
}

/* One tile of `rows` by `vecs` vectors; both are constants where this is inlined. `bias`: what a
 * row starts from, or NULL. `ahead`: how far from each value of A lies what will be wanted next,
 * or 0; it is fetched line by line along the dense axis of A. Pointers to A are kept for every
 * third row, the two between are an index away. */
INLINE void tile(const int rows, const int vecs, int64_t K, const float *a, int64_t ai, int64_t ak,
                 const float *b, const float *bias, float *c, int64_t ldc, put_mode put,
                 int64_t ahead)
{
    vec          sum[TILE_ROWS][2];
    const float *at[(TILE_ROWS + 2) / 3];
    int64_t      below = ak == 1 ? 0 : ahead;

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

        if (ahead && ak == 1)
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++)
                __builtin_prefetch(at[i / 3] + (i % 3) * ai + ahead, 0, 2);
        for (; k < end; k++) {
            vec b0 = load(b), b1 = vecs > 1 ? load(b + LANES) : (vec){ 0 };

            __builtin_prefetch(at[0] + below, 0, 2);
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

            if (put == STREAM)
                stream(p, sum[i][j]);
            else
                store(p, put == ADD ? load(p) + sum[i][j] : sum[i][j]);
        }
}

#define TILE_CASE(rows)                                               \
    case rows:                                                        \
        if (wide)                                                     \
            tile(rows, 2, K, a, ai, ak, b, bias, c, ldc, put, ahead); \
        else                                                          \
            tile(rows, 1, K, a, ai, ak, b, bias, c, ldc, put, ahead); \
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

/* The same for one panel `b`, that from column n on; C may end inside it. */
static void __attribute__((unused))
panel_tile(int64_t rows, int64_t n, int64_t N, int64_t K, const float *a, int64_t ai, int64_t ak,
           const float *b, const float *bias, float *c, int64_t ldc, put_mode put, int64_t ahead)
{
    bool         wide  = width_at(n, N) == PANEL;
    int64_t      cols  = cols_at(n, N);
    const float *start = bias ? bias + n : NULL;
    float        whole[TILE_ROWS * PANEL];

    if (cols == width_at(n, N)) {
        any_tile(rows, wide, K, a, ai, ak, b, start, c + n, ldc, put, ahead);
        return;
    }
    any_tile(rows, wide, K, a, ai, ak, b, start, whole, PANEL, SET, ahead);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            PUT(put == ADD, c[i * ldc + n + j], whole[i * PANEL + j]);
}

/* Rows of A that lie whole pages apart all fall into the same few places of the first cache. They
 * are copied side by side first, PIECE columns at a time. */
enum { PIECE = 512, PAGE = 1024 /* floats */ };

static void __attribute__((unused))
gemm_of_pages(int64_t M, int64_t N, int64_t K, const float *a, int64_t ai, const float *packed,
              const float *bias, float *c, int64_t ldc, bool add)
{
    int64_t tiles = ceil_div(M, TILE_ROWS);

    for (int64_t t = 0; t < tiles; t++) {
        int64_t m = PART(M, t, tiles), rows = PART(M, t + 1, tiles) - m;

        for (int64_t k = 0; k < K; k += PIECE) {
            int64_t depth = K - k < PIECE ? K - k : PIECE;
            float   copy[TILE_ROWS][PIECE + 16];

            for (int64_t i = 0; i < rows; i++)
                memcpy(copy[i], a + (m + i) * ai + k, (size_t)depth * sizeof(float));
            for (int64_t n = 0; n < N; n += PANEL)
                panel_tile(rows, n, N, depth, copy[0], PIECE + 16, 1,
                           packed + n * K + k * width_at(n, N), k ? NULL : bias, c + m * ldc, ldc,
                           put_of(add || k), 0);
        }
    }
}

/* C = A B (+ bias for each column), or C += A B. A at a[m ai + k ak], B packed, C at c[m ldc + n].
 * `bias`, if not NULL, holds round_up(N, LANES) values. */
static void __attribute__((unused))
gemm(int64_t M, int64_t N, int64_t K, const float *a, int64_t ai, int64_t ak, const float *packed,
     const float *bias, float *c, int64_t ldc, put_mode put)
{
    int64_t tiles = ceil_div(M, TILE_ROWS);
    /* rows of A that stay in the second-level cache while the panels go by */
    int64_t block = 65536 / (K * TILE_ROWS);

    if (ak == 1 && ai % PAGE == 0 && M > 1) {
        gemm_of_pages(M, N, K, a, ai, packed, bias, c, ldc, put == ADD);
        return;
    }
    block = block < 1 ? 1 : block > 16 ? 16 : block;
    for (int64_t t0 = 0; t0 < tiles; t0 += block) {
        int64_t t1 = t0 + block < tiles ? t0 + block : tiles;

        for (int64_t n = 0; n < N; n += PANEL)
            for (int64_t t = t0; t < t1; t++) { /* tiles of even height: no thin last one */
                int64_t m = PART(M, t, tiles), rows = PART(M, t + 1, tiles) - m;
                int64_t ahead = n > 0 ? 0 : ak == 1 ? rows * ai : K * ak;

                panel_tile(rows, n, N, K, a + m * ai, ai, ak, packed + n * K, bias, c + m * ldc,
                           ldc, put, ahead);
            }
    }
}

#endif
