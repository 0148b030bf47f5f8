/* gemm.h - the matrix product behind LINEAR, ATTENTION, MIX_FFN and small MATMULs, for one thread:
 * C (M,N) = A (M,K) B (K,N). The operands are described in gemm_operands.h:
 *
 * - B is packed into panels of PANEL columns, each a dense (K, PANEL) array of units. A last panel of at most LANES
 *   columns is (K, LANES). Columns past N and rows past K are zero.
 * - A is not packed. In f32 it may have any row and column stride, so a transposed A needs no copy. In bf16 its rows
 *   are dense along K, or it is made of units: interleave_rows() and transpose_rows() make a transposed A so.
 * - The micro-kernel computes a tile of C, TILE_ROWS by PANEL, whose accumulators (f32) stay in registers over all
 *   of K. The epilogue stores them: C = , C += , or streamed.
 *
 * With AMX the same operands are multiplied by gemm_amx.h. No memory is needed but the panels.
 *
 * It was chosen by measurement: at the shapes of PVTv2 (K and N of 32 to 512, many rows) it is as fast as dnnl_sgemm or
 * faster, and much faster than OpenBLAS; both copy A first. It adds the bias, allocates nothing and keeps no state. */
#ifndef KD_GEMM_H
#define KD_GEMM_H
#include "backend/cpu/simd/gemm_operands.h"
#ifdef KD_AMX
#include "backend/cpu/simd/gemm_amx.h"
#endif

/* Who divides the rows of A divides them by a multiple of this, so that no product is left with few. */
#ifdef KD_AMX
enum { GEMM_ROWS = 2 * TILE_MAX_ROWS };
#else
enum { GEMM_ROWS = TILE_ROWS };
#endif

/* ---- the micro-kernel ---- */

/* A tile of C of `rows` rows by `vecs` vectors; both are constants where this is inlined. K is in units.
 * `bias`: initial accumulators of each row, or NULL for zeros. `prefetch`: distance in bytes from a unit of A
 * to what the next tile reads, or 0; it is prefetched a cache line at a time along the dense axis of A.
 * Only every third row of A has a pointer; the two rows after it are addressed from there. */
INLINE void micro_kernel(const int rows, const int vecs, int64_t K, const a_operand *a,
                         const unit *packed, const float *bias, const c_operand *c,
                         int64_t prefetch)
{
    vec          acc[TILE_ROWS][2];
    const char  *at[(TILE_ROWS + 2) / 3];
    const float *b  = (const float *)packed;
    int64_t      rs = a->rs, cs = a->cs;
    bool         dense_k = cs == sizeof(unit);
    int64_t      below   = dense_k ? 0 : prefetch;

#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++)
            acc[i][j] = bias ? load_f(bias + j * LANES) : (vec){ 0 };
#pragma GCC unroll 16
    for (int i = 0; i < (rows + 2) / 3; i++)
        at[i] = a->at + 3 * i * rs;
    for (int64_t k = 0; k < K;) {
        int64_t end = K - k < 16 ? K : k + 16; /* a cache line of each row of A */

        if (prefetch && dense_k)
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++)
                __builtin_prefetch(at[i / 3] + (i % 3) * rs + prefetch, 0, 2);
        for (; k < end; k++) {
            vec b0 = load_f(b), b1 = vecs > 1 ? load_f(b + LANES) : (vec){ 0 };

            __builtin_prefetch(at[0] + below, 0, 2);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                const char *unit_at = at[i / 3] + (i % 3) * rs;

                acc[i][0] = mac(acc[i][0], unit_at, b0);
                if (vecs > 1) acc[i][1] = mac(acc[i][1], unit_at, b1);
            }
#pragma GCC unroll 16
            for (int i = 0; i < (rows + 2) / 3; i++)
                at[i] += cs;
            b += vecs * LANES;
        }
    }
    store_tiles(c, rows, vecs, acc);
}

/* The same for a panel of two vectors or of one. */
INLINE void micro_kernel_of_rows(const int rows, bool two_vecs, int64_t K, const a_operand *a,
                                 const unit *packed, const float *bias, const c_operand *c,
                                 int64_t prefetch)
{
    if (two_vecs)
        micro_kernel(rows, 2, K, a, packed, bias, c, prefetch);
    else
        micro_kernel(rows, 1, K, a, packed, bias, c, prefetch);
}

/* The same for any number of rows. */
static __attribute__((noinline, unused)) void micro_kernel_any(int64_t rows, bool two_vecs,
                                                               int64_t K, const a_operand *a,
                                                               const unit      *packed,
                                                               const float     *bias,
                                                               const c_operand *c, int64_t prefetch)
{
    switch (rows) {
    case 1: micro_kernel_of_rows(1, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 2: micro_kernel_of_rows(2, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 3: micro_kernel_of_rows(3, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 4: micro_kernel_of_rows(4, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 5: micro_kernel_of_rows(5, two_vecs, K, a, packed, bias, c, prefetch); break;
#if defined(__AVX2__)
    case 6: micro_kernel_of_rows(6, two_vecs, K, a, packed, bias, c, prefetch); break;
#endif
#if defined(KD_AVX512)
    case 7: micro_kernel_of_rows(7, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 8: micro_kernel_of_rows(8, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 9: micro_kernel_of_rows(9, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 10: micro_kernel_of_rows(10, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 11: micro_kernel_of_rows(11, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 12: micro_kernel_of_rows(12, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 13: micro_kernel_of_rows(13, two_vecs, K, a, packed, bias, c, prefetch); break;
    case 14: micro_kernel_of_rows(14, two_vecs, K, a, packed, bias, c, prefetch); break;
#endif
    default: break;
    }
}

/* `rows` rows of A times one panel `b`, whose first column is n. C may end inside the panel: then the whole
 * tile goes to a buffer, and the columns that exist from there to C. */
static void __attribute__((unused))
panel_kernel(int64_t rows, int64_t n, int64_t N, int64_t K, const a_operand *a, const unit *b,
             const float *bias, const c_operand *c, int64_t prefetch)
{
    bool         two_vecs = width_at(n, N) == PANEL;
    int64_t      cols     = cols_at(n, N);
    const float *start    = bias ? bias + n : NULL;
    c_operand    to       = from_column(c, n);

    if (cols == width_at(n, N)) {
        micro_kernel_any(rows, two_vecs, K, a, b, start, &to, prefetch);
    } else {
        float     tile[TILE_ROWS * PANEL];
        c_operand all = whole_tile(&to, tile);

        micro_kernel_any(rows, two_vecs, K, a, b, start, &all, prefetch);
        store_columns(&to, tile, rows, cols);
    }
}

/* ---- the product ---- */

/* Two cases in which rows of A are copied first, K_BLOCK units at a time:
 * - the row stride is a multiple of a page: all rows would compete for the same few sets of the L1 cache;
 * - K is no multiple of UNIT_DEPTH: the last unit of each row is padded with a zero. */
enum { K_BLOCK = 512, PAGE = 4096 /* bytes */ };

#ifndef KD_INT8
static void __attribute__((unused))
gemm_copied_a(int64_t M, int64_t N, int64_t K, const a_operand *a, const unit *packed,
              const float *bias, const c_operand *c)
{
    int64_t tiles = ceil_div(M, TILE_ROWS), units = units_of(K);

    for (int64_t t = 0; t < tiles; t++) {
        int64_t   m = part_begin(M, t, tiles), rows = part_begin(M, t + 1, tiles) - m;
        c_operand to = *c;

        to.at += m * c->ld;
        for (int64_t k = 0; k < units; k += K_BLOCK) {
            int64_t depth = units - k < K_BLOCK ? units - k : K_BLOCK;
            int64_t elems =
                K - k * UNIT_DEPTH < depth * UNIT_DEPTH ? K - k * UNIT_DEPTH : depth * UNIT_DEPTH;
            unit      copy[TILE_ROWS][K_BLOCK + 16];
            a_operand from = { (const char *)copy, sizeof copy[0], sizeof(unit), true };

            for (int64_t i = 0; i < rows; i++) {
                copy[i][depth - 1] = unit_of(0, 0);
                memcpy(copy[i], a->at + (m + i) * a->rs + k * a->cs, (size_t)elems * sizeof(elem));
            }
            to.mode = c->mode == ADD || k ? ADD : SET;
            to.post = k + depth < units ? KDAS_POST_NONE : c->post;
            for (int64_t n = 0; n < N; n += PANEL)
                panel_kernel(rows, n, N, depth, &from, packed + n * units + k * width_at(n, N),
                             k ? NULL : bias, &to, 0);
        }
    }
}

#endif

/* The product, of operands as gemm_operands.h describes them. K is in elements. Chooses between the AMX tiles,
 * copied rows of A, and A as it is; blocks the loops so that `block` tiles of A stay in the L2 cache for all
 * panels. */
static void __attribute__((unused))
gemm_of_operands(int64_t M, int64_t N, int64_t K, a_operand a, const unit *packed,
                 const float *bias, c_operand c)
{
    int64_t tiles = ceil_div(M, TILE_ROWS), units = units_of(K);
    /* tiles of A that fit the L2 cache */
    int64_t block   = 65536 / (units * TILE_ROWS);
    bool    dense_k = a.cs == sizeof(unit);

#ifdef KD_AMX
    if (amx_applies(M, K, &a)) {
        gemm_amx(M, N, units, &a, packed, bias, &c);
        return;
    }
#endif
#ifndef KD_INT8
    if (dense_k && ((a.rs % PAGE == 0 && M > 1) || K % UNIT_DEPTH)) {
        gemm_copied_a(M, N, K, &a, packed, bias, &c);
        return;
    }
#endif
    block = block < 1 ? 1 : block > 16 ? 16 : block;
    for (int64_t t0 = 0; t0 < tiles; t0 += block) {
        int64_t t1 = t0 + block < tiles ? t0 + block : tiles;

        for (int64_t n = 0; n < N; n += PANEL)
            for (int64_t t = t0; t < t1; t++) { /* of even height: no thin last tile */
                int64_t   m = part_begin(M, t, tiles), rows = part_begin(M, t + 1, tiles) - m;
                int64_t   prefetch = n > 0 || a.in_cache ? 0 : dense_k ? rows * a.rs : units * a.cs;
                a_operand from     = { a.at + m * a.rs, a.rs, a.cs, a.in_cache };
                c_operand to       = c;

                to.at += m * c.ld;
                panel_kernel(rows, n, N, units, &from, packed + n * units, bias, &to, prefetch);
            }
    }
}

/* C = A B (+ bias), or C += A B, by `mode`. A(m,k) is a[m rs + k cs], B is packed, C(m,n) is c[m ldc + n].
 * `bias`, if not NULL, has round_up(N, LANES) values, one for each column. The types follow from the pointers:
 * A is elements with cs 1, or units (K is in elements all the same, cs in units); C is elements or floats. */
#define gemm(M, N, K, a, rs, cs, packed, bias, c, ldc, mode) \
    gemm_from(M, N, K, a, rs, cs, false, packed, bias, c, ldc, mode, KDAS_POST_NONE)
/* The same for an A that is in a cache already, because its rows were just written or multiplied. */
#define gemm_cached_a(M, N, K, a, rs, cs, packed, bias, c, ldc, mode) \
    gemm_from(M, N, K, a, rs, cs, true, packed, bias, c, ldc, mode, KDAS_POST_NONE)
/* The same with an activation (kdas_post) of what is stored. */
#define gemm_from(M, N, K, a, rs, cs, in_cache, packed, bias, c, ldc, mode, post)            \
    gemm_of_operands(M, N, K,                                                                \
                     (a_operand){ (const char *)(a), (rs) * (int64_t)sizeof *(a),            \
                                  sizeof *(a) < sizeof(unit) ? (int64_t)sizeof(unit)         \
                                                             : (cs) * (int64_t)sizeof(unit), \
                                  in_cache },                                                \
                     packed, bias,                                                           \
                     (c_operand){ (char *)(c), (ldc) * (int64_t)sizeof *(c),                 \
                                  sizeof *(c) == sizeof(float), mode, post })

/* ---- a transposed A ---- */

#ifdef KD_HALF
/* interleave_rows(to, from, K, M, ld): `from` has K rows of M elements, `ld` apart; `to` (K/2, M) has their units,
 * each of elements m of rows k and k+1. A missing last row is zero. That is the A of a product that sums over
 * the rows (rs 1, cs M units), or a B panel where M is a panel's width. */
INLINE unit interleave_f(float low, float high) { return unit_of(low, high); }
INLINE unit interleave_h(bf16 low, bf16 high)
{
    return (unit){ low.bits | (uint32_t)high.bits << 16 };
}
#define DEFINE_INTERLEAVE(type, letter)                                                    \
    static void __attribute__((unused))                                                    \
    interleave_rows_##letter(unit *to, const type *from, int64_t K, int64_t M, int64_t ld) \
    {                                                                                      \
        int64_t k = 0;                                                                     \
                                                                                           \
        for (; k + 1 < K; k += 2, to += M) {                                               \
            const type *low = from + k * ld, *high = low + ld;                             \
                                                                                           \
            for (int64_t m = 0; m < M; m++)                                                \
                to[m] = interleave_##letter(low[m], high[m]);                              \
        }                                                                                  \
        for (int64_t m = 0; k < K && m < M; m++)                                           \
            to[m] = interleave_##letter(from[k * ld + m], (type){ 0 });                    \
    }
DEFINE_INTERLEAVE(float, f)
DEFINE_INTERLEAVE(bf16, h)
#undef DEFINE_INTERLEAVE
#define interleave_rows(to, from, K, M, ld) BY_TYPE(from, interleave_rows)(to, from, K, M, ld)

/* transpose_rows(to, from, K, M, ld): the same rows as the A of gemm_transposed_a(), M K/2 units in the order that
 * the micro-kernel reads fastest: interleaved, (K/2, M), or for AMX dense along K, (M, K/2). */
#ifdef KD_AMX
#define transpose_rows(to, from, K, M, ld) BY_TYPE(from, transpose_rows)(to, from, K, M, ld)
#else
#define transpose_rows interleave_rows
#endif

/* C (M,N) = A B, or += A B, for the A that transpose_rows() has made of K rows. */
static void __attribute__((unused))
gemm_transposed_a(int64_t M, int64_t N, int64_t K, const void *transposed, const unit *packed,
                  float *c, int64_t ldc, store_mode mode)
{
    const int64_t size = sizeof(unit);
#ifdef KD_AMX
    a_operand a = { transposed, units_of(K) * size, size, true };
#else
    a_operand a = { transposed, size, M * size, true };
#endif

    gemm_of_operands(M, N, round_up(K, UNIT_DEPTH), a, packed, NULL,
                     (c_operand){ (char *)c, ldc * (int64_t)sizeof *c, true, mode, KDAS_POST_NONE });
}
#endif

#endif
