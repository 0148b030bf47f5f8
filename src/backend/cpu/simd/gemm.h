/* gemm.h - the matrix product behind LINEAR, ATTENTION, MIX_FFN and small MATMULs, for one thread:
 * C (M,N) from A (M,K) and B (K,N).
 *
 * What is multiplied at a time is a unit: a float, or two neighbours along K in bf16, summed up in
 * f32. A is read where it lies. Of floats it may have any stride for rows and columns, so that a
 * transposed one costs nothing; of bf16 its rows are dense along K, or it lies in units (a transposed
 * one is made into those by pair_rows()). B is packed into panels of PANEL columns, each (K, PANEL)
 * units and dense; a last panel of at most LANES columns is (K, LANES); columns past N and rows past
 * K are zero. One tile, TILE_ROWS by PANEL, stays in registers over all of K. No memory is needed but
 * the panels. With AMX the same operands are multiplied by other instructions: gemm_amx.h.
 *
 * It was chosen by measurement: at the shapes of PVTv2 (K and N of 32 to 512, many rows) it is
 * level with or ahead of dnnl_sgemm and well ahead of OpenBLAS, which both copy A first, and it
 * takes the bias along, allocates nothing and depends on no state. */
#ifndef KD_GEMM_H
#define KD_GEMM_H
#include "backend/cpu/simd/gemm_operands.h"
#ifdef KD_AMX
#include "backend/cpu/simd/gemm_amx.h"
#endif

/* ---- one tile ---- */

/* One tile of `rows` by `vecs` vectors; both are constants where this is inlined. `bias`: what a
 * row starts from, or NULL. `ahead`: how far, in bytes, from each unit of A lies what will be wanted
 * next, or 0; it is fetched line by line along the dense axis of A. Pointers to A are kept for every
 * third row, the two between are an index away. */
INLINE void tile(const int rows, const int vecs, int64_t K, const source *a, const unit *packed,
                 const float *bias, const target *c, int64_t ahead)
{
    vec          sum[TILE_ROWS][2];
    const char  *at[(TILE_ROWS + 2) / 3];
    const float *b  = (const float *)packed;
    int64_t      ai = a->ai, ak = a->ak;
    bool         along = ak == sizeof(unit);
    int64_t      below = along ? 0 : ahead;

#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++)
            sum[i][j] = bias ? load_f(bias + j * LANES) : (vec){ 0 };
#pragma GCC unroll 16
    for (int i = 0; i < (rows + 2) / 3; i++)
        at[i] = a->at + 3 * i * ai;
    for (int64_t k = 0; k < K;) {
        int64_t end = K - k < 16 ? K : k + 16; /* a cache line of each row of A */

        if (ahead && along)
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++)
                __builtin_prefetch(at[i / 3] + (i % 3) * ai + ahead, 0, 2);
        for (; k < end; k++) {
            vec b0 = load_f(b), b1 = vecs > 1 ? load_f(b + LANES) : (vec){ 0 };

            __builtin_prefetch(at[0] + below, 0, 2);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                const char *unit_at = at[i / 3] + (i % 3) * ai;

                sum[i][0] = mac(sum[i][0], unit_at, b0);
                if (vecs > 1) sum[i][1] = mac(sum[i][1], unit_at, b1);
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
        for (int j = 0; j < vecs; j++)
            put_tile(c, i, j * LANES, sum[i][j]);
}

INLINE void tile_of_width(const int rows, bool two, int64_t K, const source *a, const unit *packed,
                          const float *bias, const target *c, int64_t ahead)
{
    if (two)
        tile(rows, 2, K, a, packed, bias, c, ahead);
    else
        tile(rows, 1, K, a, packed, bias, c, ahead);
}

static __attribute__((noinline, unused)) void any_tile(int64_t rows, bool two, int64_t K,
                                                       const source *a, const unit *packed,
                                                       const float *bias, const target *c,
                                                       int64_t ahead)
{
    switch (rows) {
    case 1: tile_of_width(1, two, K, a, packed, bias, c, ahead); break;
    case 2: tile_of_width(2, two, K, a, packed, bias, c, ahead); break;
    case 3: tile_of_width(3, two, K, a, packed, bias, c, ahead); break;
    case 4: tile_of_width(4, two, K, a, packed, bias, c, ahead); break;
    case 5: tile_of_width(5, two, K, a, packed, bias, c, ahead); break;
#if defined(__AVX2__)
    case 6: tile_of_width(6, two, K, a, packed, bias, c, ahead); break;
#endif
#if defined(__AVX512F__)
    case 7: tile_of_width(7, two, K, a, packed, bias, c, ahead); break;
    case 8: tile_of_width(8, two, K, a, packed, bias, c, ahead); break;
    case 9: tile_of_width(9, two, K, a, packed, bias, c, ahead); break;
    case 10: tile_of_width(10, two, K, a, packed, bias, c, ahead); break;
    case 11: tile_of_width(11, two, K, a, packed, bias, c, ahead); break;
    case 12: tile_of_width(12, two, K, a, packed, bias, c, ahead); break;
    case 13: tile_of_width(13, two, K, a, packed, bias, c, ahead); break;
    case 14: tile_of_width(14, two, K, a, packed, bias, c, ahead); break;
#endif
    default: break;
    }
}

/* The same for one panel `b`, that from column n on; C may end inside it. */
static void __attribute__((unused))
panel_tile(int64_t rows, int64_t n, int64_t N, int64_t K, const source *a, const unit *b,
           const float *bias, const target *c, int64_t ahead)
{
    bool         two   = width_at(n, N) == PANEL;
    int64_t      cols  = cols_at(n, N);
    const float *start = bias ? bias + n : NULL;
    target       to    = *c;

    to.at += n * column_size(c);
    if (cols == width_at(n, N)) {
        any_tile(rows, two, K, a, b, start, &to, ahead);
    } else {
        float  whole[TILE_ROWS * PANEL];
        target all = { (char *)whole, sizeof(float) * PANEL, true, SET };

        any_tile(rows, two, K, a, b, start, &all, ahead);
        put_columns(&to, whole, rows, cols);
    }
}

/* ---- the product ---- */

/* Rows of A that lie whole pages apart all fall into the same few places of the first cache. They
 * are copied side by side first, PIECE units at a time; so are rows whose last unit is not whole,
 * to be filled up with zeros. */
enum { PIECE = 512, PAGE = 4096 /* bytes */ };

static void __attribute__((unused))
gemm_of_copies(int64_t M, int64_t N, int64_t K, const source *a, const unit *packed,
               const float *bias, const target *c)
{
    int64_t tiles = ceil_div(M, TILE_ROWS), units = units_of(K);

    for (int64_t t = 0; t < tiles; t++) {
        int64_t m = part_begin(M, t, tiles), rows = part_begin(M, t + 1, tiles) - m;
        target  to = *c;

        to.at += m * c->ld;
        for (int64_t k = 0; k < units; k += PIECE) {
            int64_t depth = units - k < PIECE ? units - k : PIECE;
            int64_t elems = K - k * DEPTH < depth * DEPTH ? K - k * DEPTH : depth * DEPTH;
            unit    copy[TILE_ROWS][PIECE + 16];
            source  from = { (const char *)copy, sizeof copy[0], sizeof(unit), true };

            for (int64_t i = 0; i < rows; i++) {
                copy[i][depth - 1] = unit_of(0, 0);
                memcpy(copy[i], a->at + (m + i) * a->ai + k * a->ak, (size_t)elems * sizeof(elem));
            }
            to.put = c->put == ADD || k ? ADD : SET;
            for (int64_t n = 0; n < N; n += PANEL)
                panel_tile(rows, n, N, depth, &from, packed + n * units + k * width_at(n, N),
                           k ? NULL : bias, &to, 0);
        }
    }
}

/* K in elements; strides in bytes. */
static void __attribute__((unused))
gemm_at(int64_t M, int64_t N, int64_t K, source a, const unit *packed, const float *bias, target c)
{
    int64_t tiles = ceil_div(M, TILE_ROWS), units = units_of(K);
    /* rows of A that stay in the second-level cache while the panels go by */
    int64_t block = 65536 / (units * TILE_ROWS);
    bool    along = a.ak == sizeof(unit);

#ifdef KD_AMX
    if (suits_tiles(M, K, &a)) {
        gemm_of_tiles(M, N, units, &a, packed, bias, &c);
        return;
    }
#endif
    if (along && ((a.ai % PAGE == 0 && M > 1) || K % DEPTH)) {
        gemm_of_copies(M, N, K, &a, packed, bias, &c);
        return;
    }
    block = block < 1 ? 1 : block > 16 ? 16 : block;
    for (int64_t t0 = 0; t0 < tiles; t0 += block) {
        int64_t t1 = t0 + block < tiles ? t0 + block : tiles;

        for (int64_t n = 0; n < N; n += PANEL)
            for (int64_t t = t0; t < t1; t++) { /* tiles of even height: no thin last one */
                int64_t m = part_begin(M, t, tiles), rows = part_begin(M, t + 1, tiles) - m;
                int64_t ahead = n > 0 || a.near ? 0 : along ? rows * a.ai : units * a.ak;
                source  from  = { a.at + m * a.ai, a.ai, a.ak, a.near };
                target  to    = { c.at + m * c.ld, c.ld, c.wide, c.put };

                panel_tile(rows, n, N, units, &from, packed + n * units, bias, &to, ahead);
            }
    }
}

/* C = A B (+ bias for each column), or C += A B. A at a[m ai + k ak], B packed, C at c[m ldc + n].
 * `bias`, if not NULL, holds round_up(N, LANES) values. A may be elements with ak 1, or units with K
 * counted in elements and ak in units; C elements or floats. */
#define gemm(M, N, K, a, ai, ak, packed, bias, c, ldc, put) \
    gemm_of(M, N, K, a, ai, ak, false, packed, bias, c, ldc, put)
/* The same for an A that is in a cache already, because panels are multiplied one at a time. */
#define gemm_near(M, N, K, a, ai, ak, packed, bias, c, ldc, put) \
    gemm_of(M, N, K, a, ai, ak, true, packed, bias, c, ldc, put)
#define gemm_of(M, N, K, a, ai, ak, near, packed, bias, c, ldc, put)         \
    gemm_at(                                                                 \
        M, N, K,                                                             \
        (source){ (const char *)(a), (ai) * (int64_t)sizeof *(a),            \
                  sizeof *(a) < sizeof(unit) ? (int64_t)sizeof(unit)         \
                                             : (ak) * (int64_t)sizeof(unit), \
                  near },                                                    \
        packed, bias,                                                        \
        (target){ (char *)(c), (ldc) * (int64_t)sizeof *(c), sizeof *(c) == sizeof(float), put })

/* ---- a transposed A ---- */

#ifdef KD_HALF
/* Rows k and k+1 (M elements each, `ld` apart) side by side: to (K/2, M), the A of a product over
 * the rows: ai 1, ak M. */
INLINE unit pair_f(float low, float high) { return unit_of(low, high); }
INLINE unit pair_h(bf16 low, bf16 high) { return (unit){ low.bits | (uint32_t)high.bits << 16 }; }
#define DEFINE_PAIRS(type, letter)                                                   \
    static void __attribute__((unused))                                              \
    pair_rows_##letter(unit *to, const type *from, int64_t K, int64_t M, int64_t ld) \
    {                                                                                \
        int64_t k = 0;                                                               \
                                                                                     \
        for (; k + 1 < K; k += 2, to += M) {                                         \
            const type *low = from + k * ld, *high = low + ld;                       \
                                                                                     \
            for (int64_t m = 0; m < M; m++)                                          \
                to[m] = pair_##letter(low[m], high[m]);                              \
        }                                                                            \
        for (int64_t m = 0; k < K && m < M; m++)                                     \
            to[m] = pair_##letter(from[k * ld + m], (type){ 0 });                    \
    }
DEFINE_PAIRS(float, f)
DEFINE_PAIRS(bf16, h)
#undef DEFINE_PAIRS
#define pair_rows(to, from, K, M, ld) BY_TYPE(from, pair_rows)(to, from, K, M, ld)

/* turn_rows: the same rows as the A of gemm_turned(), M units for each two of them, which lie as
 * multiplying likes them best: paired, or for AMX dense along K, (M, K/2). */
#ifdef KD_AMX
#define turn_rows(to, from, K, M, ld) BY_TYPE(from, turn_rows)(to, from, K, M, ld)
#else
#define turn_rows pair_rows
#endif

/* C (M,N) = A B, or += A B, with the A that turn_rows() has made of K rows. */
static void __attribute__((unused))
gemm_turned(int64_t M, int64_t N, int64_t K, const void *turned, const unit *packed, float *c,
            int64_t ldc, put_mode put)
{
    const int64_t size = sizeof(unit);
#ifdef KD_AMX
    source a = { turned, units_of(K) * size, size, true };
#else
    source a = { turned, size, M * size, true };
#endif

    gemm_at(M, N, round_up(K, DEPTH), a, packed, NULL,
            (target){ (char *)c, ldc * (int64_t)sizeof *c, true, put });
}
#endif

#endif
