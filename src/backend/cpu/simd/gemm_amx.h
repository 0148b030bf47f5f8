/* gemm_amx.h - the matrix product of gemm.h on AMX tiles, for the copies KD_AMX: of bf16, and of 8-bit integers (KD_INT8).
 *
 * A block of C is 32 rows by one panel. It uses all eight tile registers: four accumulators of 16 x 16 sums, two
 * tiles of A (16 rows of 16 units, loaded from where A lies) and two of B (16 units along K of a panel). A step takes 16
 * units along K: four loads and four products, which are independent, as each has its own accumulator. A panel of LANES
 * columns needs half of them.
 *
 * Tile shapes are configured once for a product. Remainders are fitted to them:
 * - rows: the last tile of 16 rows begins so that it ends with A. It overlaps the tile before it; the overlapping rows
 *   are computed twice and stored once.
 * - units along K: the last step takes the last 16. Units that an earlier step has multiplied are zeros in a copy of
 *   A's tail. If K has fewer than 16 units, the tiles are configured with that depth.
 * The epilogue stores the accumulators to a buffer, and from there to C; where C is floats and all columns exist, tiles
 * are loaded from C and stored to it directly. Sums of integers are always requantised, so they take the buffer. The bits
 * of an integer sum are those of a float in what follows, as in gemm_operands.h. */
#ifndef KD_GEMM_AMX_H
#define KD_GEMM_AMX_H
#include "backend/cpu/simd/amx.h"
#include "backend/cpu/simd/gemm_operands.h"

/* Below these limits the micro-kernel on vectors is faster, by an estimate in cycles, not by measurement. Vectors
 * take 16 cycles for 16 rows by 16 columns by one unit. A product of tiles takes 16 for up to 16 units, about 32
 * more for the epilogue, and each call about 100 to configure and release. With integers vectors take 8, and 8 units are
 * still enough. */
enum { MIN_ROWS = TILE_MAX_ROWS, MIN_UNITS = 8 };
/* Units along K of a step; most rows of a block, whose K tails are copied (see gemm_amx()). */
enum { K_STEP = TILE_ROW_BYTES / (int)sizeof(unit), MAX_BLOCK_ROWS = 256 };

#ifdef KD_INT8
#define tile_dot tile_dot_int8
#else
#define tile_dot tile_dot_bf16
#endif

/* Is A dense along K, K whole units, and the product large enough? */
INLINE bool amx_applies(int64_t M, int64_t K, const a_operand *a)
{
    return a->cs == sizeof(unit) && K % UNIT_DEPTH == 0 && M >= MIN_ROWS &&
           units_of(K) >= MIN_UNITS;
}

/* Accumulators are tiles 0 and 1 for the first 16 rows, 2 and 3 for the second; A is in 4 and 5, B in 6
 * and 7. */
INLINE void configure_tiles(int64_t units)
{
    int         depth = units < K_STEP ? (int)units : K_STEP;
    tile_shapes s     = { .palette = 1 };

    for (int t = 0; t < TILES; t++) {
        s.rows[t]  = t < 6 ? TILE_MAX_ROWS : (uint8_t)depth;
        s.bytes[t] = t < 4 || t > 5 ? TILE_ROW_BYTES : (uint16_t)(depth * (int)sizeof(unit));
    }
    tile_config(&s);
}

/* One or two tiles of 16 rows. */
typedef struct row_tiles {
    int     count;
    int64_t row[2];     /* first row of each                          */
    int64_t overlap[2]; /* its first rows that the tile before stores */
} row_tiles;

/* Those from row m on, of M rows. */
INLINE row_tiles row_tiles_at(int64_t m, int64_t M)
{
    row_tiles r = { .count = M - m > TILE_MAX_ROWS ? 2 : 1 };

    for (int i = 0; i < r.count; i++) {
        int64_t first = m + i * TILE_MAX_ROWS;

        r.row[i]     = first < M - TILE_MAX_ROWS ? first : M - TILE_MAX_ROWS;
        r.overlap[i] = first - r.row[i];
    }
    return r;
}

/* The last K_STEP units of 16 rows of A. `tail_units` of them, the last, are copied; the others, which an earlier step
 * has multiplied, become zeros. */
INLINE void copy_k_tail(char *to, const char *k_tail, int64_t rs, int64_t tail_units)
{
    __mmask16 mask = (__mmask16)(0xffffu << (K_STEP - tail_units));

    for (int i = 0; i < TILE_MAX_ROWS; i++)
        _mm512_storeu_si512(to + i * TILE_ROW_BYTES,
                            _mm512_maskz_loadu_epi32(mask, k_tail + i * rs));
}

/* One step along K: accumulators += A B for up to 2 x 2 tiles. `prefetch`: as in micro_kernel(). */
INLINE void amx_k_step(const int count, bool two_tiles, const char *const a[2], int64_t rs,
                       const unit *b, int64_t prefetch)
{
    int64_t rs_b = (two_tiles ? PANEL : LANES) * (int64_t)sizeof(unit);

    tile_load(4, a[0], rs);
    tile_load(6, b, rs_b);
    tile_dot(0, 4, 6);
    if (two_tiles) {
        tile_load(7, b + LANES, rs_b);
        tile_dot(1, 4, 7);
    }
    if (count > 1) {
        tile_load(5, a[1], rs);
        tile_dot(2, 5, 6);
        if (two_tiles) tile_dot(3, 5, 7);
    }
    for (int i = 0; prefetch && i < count * TILE_MAX_ROWS; i++)
        __builtin_prefetch(a[i / TILE_MAX_ROWS] + i % TILE_MAX_ROWS * rs + prefetch, 0, 2);
}

/* The accumulator's initial value: rows `from`, ld bytes apart, or zeros. A macro, because t has to be a literal. */
#define INIT_ACCUMULATOR(t, from, ld)                 \
    do {                                              \
        if (from)                                     \
            tile_load(t, (const char *)(from), (ld)); \
        else                                          \
            tile_zero(t);                             \
    } while (0)

/* The epilogue of 16 rows: accumulators (16, PANEL) from row `overlap` on into `cols` columns of C. */
INLINE void store_row_tile(const c_operand *c, const float *acc, int64_t overlap, int64_t cols,
                           bool two_tiles)
{
    c_operand to = *c;

    if (cols < (two_tiles ? PANEL : LANES)) {
        to.at += overlap * c->ld;
        store_columns(&to, acc + overlap * PANEL, TILE_MAX_ROWS - overlap, cols);
        return;
    }
    for (int64_t i = overlap; i < TILE_MAX_ROWS; i++) {
        vec row[1][2] = { { load_f(acc + i * PANEL) } };

        to.at = c->at + i * c->ld;
        if (two_tiles) row[0][1] = load_f(acc + i * PANEL + LANES);
        if (two_tiles)
            store_tiles(&to, 1, 2, row);
        else
            store_tiles(&to, 1, 1, row);
    }
}

/* Operands of one block. */
typedef struct amx_block {
    int64_t      units;
    const char  *a[2];      /* rows of A, rs bytes apart */
    const char  *k_tail[2]; /* copies of their K tails   */
    int64_t      rs, prefetch;
    const unit  *b;
    const float *bias; /* or NULL                                    */
    c_operand    c[2]; /* rows of C, from the panel's first column on */
    int64_t      cols;
    bool         two_tiles; /* the panel has PANEL columns */
} amx_block;

/* Are accumulators loaded from C and stored to C without a buffer? */
typedef struct direct {
    bool loads, stores;
} direct;
INLINE direct direct_to_c(const amx_block *k, const row_tiles *r)
{
#ifdef KD_INT8
    (void)k, (void)r;
    return (direct){ 0 };
#else
    const c_operand *c     = &k->c[0];
    int64_t          whole = k->two_tiles ? PANEL : LANES;

    if (!c->is_float || k->cols < whole || c->mode == STREAM || c->post != KDAS_POST_NONE)
        return (direct){ 0 };
    if (c->mode == SET) return (direct){ .stores = true };
    return !k->bias && !r->overlap[0] && !r->overlap[1] ? (direct){ true, true } : (direct){ 0 };
#endif
}

INLINE void amx_micro_kernel(const amx_block *k, const row_tiles *r)
{
    const int    count     = r->count;
    const bool   two_tiles = k->two_tiles;
    const direct d         = direct_to_c(k, r);
    float        acc[2][TILE_MAX_ROWS * PANEL] __attribute__((aligned(64)));
    int64_t      half  = LANES * (int64_t)sizeof(float);
    int64_t      ld    = d.stores ? k->c[0].ld : PANEL * (int64_t)sizeof(float), u;
    const char  *a[2]  = { k->a[0], k->a[1] }, *start[2];
    int64_t      from  = d.loads ? ld : 0; /* stride 0: each row starts with the bias */
    char        *to[2] = { d.stores ? k->c[0].at : (char *)acc[0],
                    d.stores ? k->c[1].at : (char *)acc[1] };

    for (int i = 0; i < 2; i++)
        start[i] = d.loads ? to[i] : (const char *)k->bias;
    INIT_ACCUMULATOR(0, start[0], from);
    if (two_tiles) INIT_ACCUMULATOR(1, start[0] ? start[0] + half : NULL, from);
    if (count > 1) {
        INIT_ACCUMULATOR(2, start[1], from);
        if (two_tiles) INIT_ACCUMULATOR(3, start[1] ? start[1] + half : NULL, from);
    }
    for (u = 0; u + K_STEP <= k->units || u == 0; u += K_STEP) {
        amx_k_step(count, two_tiles, a, k->rs, k->b + u * (two_tiles ? PANEL : LANES), k->prefetch);
        a[0] += TILE_ROW_BYTES, a[1] += TILE_ROW_BYTES;
    }
    if (u < k->units)
        amx_k_step(count, two_tiles, k->k_tail, TILE_ROW_BYTES,
                   k->b + (k->units - K_STEP) * (two_tiles ? PANEL : LANES), 0);
    tile_store(0, to[0], ld);
    if (two_tiles) tile_store(1, to[0] + half, ld);
    if (count > 1) {
        tile_store(2, to[1], ld);
        if (two_tiles) tile_store(3, to[1] + half, ld);
    }
    for (int i = 0; !d.stores && i < count; i++)
        store_row_tile(&k->c[i], acc[i], r->overlap[i], k->cols, two_tiles);
}

/* The product, where amx_applies(). A block of rows of A stays in the L2 cache for all panels, a panel in the L1
 * cache for all tiles of the block. */
static void __attribute__((noinline, unused))
gemm_amx(int64_t M, int64_t N, int64_t units, const a_operand *a, const unit *packed,
         const float *bias, const c_operand *c)
{
    char copies[MAX_BLOCK_ROWS / TILE_MAX_ROWS][TILE_MAX_ROWS * TILE_ROW_BYTES]
        __attribute__((aligned(64)));
    int64_t rows       = 65536 / units / (2 * TILE_MAX_ROWS) * (2 * TILE_MAX_ROWS);
    int64_t tail_units = units > K_STEP ? units % K_STEP : 0;

    rows = rows < 2 * TILE_MAX_ROWS ? 2 * TILE_MAX_ROWS
           : rows > MAX_BLOCK_ROWS  ? MAX_BLOCK_ROWS
                                    : rows;
    configure_tiles(units);
    for (int64_t m0 = 0; m0 < M; m0 += rows)
        for (int64_t n = 0; n < N; n += PANEL)
            for (int64_t m = m0; m < M && m < m0 + rows; m += 2 * TILE_MAX_ROWS) {
                row_tiles r = row_tiles_at(m, M);
                amx_block k = { .units     = units,
                                .rs        = a->rs,
                                .prefetch  = n > 0 || a->in_cache ? 0 : 2 * TILE_MAX_ROWS * a->rs,
                                .b         = packed + n * units,
                                .bias      = bias ? bias + n : NULL,
                                .cols      = cols_at(n, N),
                                .two_tiles = width_at(n, N) == PANEL };

                for (int i = 0; i < r.count; i++) {
                    char *copy = copies[(m - m0) / TILE_MAX_ROWS + i];

                    k.a[i]      = a->at + r.row[i] * a->rs;
                    k.c[i]      = from_column(c, n);
                    k.k_tail[i] = copy;
                    k.c[i].at += r.row[i] * c->ld;
                    if (tail_units && n == 0)
                        copy_k_tail(copy, k.a[i] + (units - K_STEP) * (int64_t)sizeof(unit), a->rs,
                                    tail_units);
                }
                if (r.count == 1) k.a[1] = k.a[0]; /* its pointer is advanced, not read */
                amx_micro_kernel(&k, &r);
            }
    tile_release();
}

/* ---- a transposed A ---- */

#ifndef KD_INT8
/* Units of the lanes of two rows. */
INLINE __m512i units_from_f(vec low, vec high)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(halves(low)),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves(high)), 16));
}
INLINE __m512i units_from_h(vec low, vec high)
{
    return _mm512_or_si512(_mm512_srli_epi32((__m512i)low, 16), (__m512i)high);
}

/* Transpose 16 x 16 units: within pairs of rows, then groups of four, then by quarters of a vector. */
INLINE void transpose_16x16(__m512i r[LANES])
{
    __m512i t[LANES];

#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 2) {
        t[i]     = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES;
         i += 4) { /* r[i + j]: column 4 q + j of rows i .. i + 3 in quarter q */
        r[i]     = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) {
        __m512i even      = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);
        __m512i odd       = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
        __m512i more_even = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
        __m512i more_odd  = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);

        t[j]      = _mm512_shuffle_i32x4(even, more_even, 0x88);
        t[8 + j]  = _mm512_shuffle_i32x4(even, more_even, 0xdd);
        t[4 + j]  = _mm512_shuffle_i32x4(odd, more_odd, 0x88);
        t[12 + j] = _mm512_shuffle_i32x4(odd, more_odd, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        r[i] = t[i];
}

/* transpose_rows(): see gemm.h. 32 rows by 16 columns at a time; a missing last row is zero. */
#define DEFINE_TRANSPOSE(type, letter)                                                         \
    static void __attribute__((unused))                                                        \
    transpose_rows_##letter(unit *to, const type *from, int64_t K, int64_t M, int64_t ld)      \
    {                                                                                          \
        int64_t units = units_of(K);                                                           \
                                                                                               \
        for (int64_t u = 0; u < units; u += LANES)                                             \
            for (int64_t m = 0; m < M; m += LANES) {                                           \
                int64_t   high  = units - u < LANES ? units - u : LANES;                       \
                int64_t   cols  = M - m < LANES ? M - m : LANES;                               \
                bool      whole = cols == LANES;                                               \
                __mmask16 mask  = (__mmask16)(0xffffu >> (LANES - high));                      \
                __m512i   r[LANES];                                                            \
                                                                                               \
                for (int64_t i = 0; i < LANES; i++) {                                          \
                    const type *row = from + 2 * (u + i) * ld + m;                             \
                    vec         low = { 0 }, next = { 0 };                                     \
                                                                                               \
                    if (i < high) low = load_some_##letter(row, whole, cols);                  \
                    if (2 * (u + i) + 1 < K) next = load_some_##letter(row + ld, whole, cols); \
                    r[i] = units_from_##letter(low, next);                                     \
                }                                                                              \
                transpose_16x16(r);                                                            \
                for (int64_t i = 0; i < cols; i++)                                             \
                    _mm512_mask_storeu_epi32(to + (m + i) * units + u, mask, r[i]);            \
            }                                                                                  \
    }
DEFINE_TRANSPOSE(float, f)
DEFINE_TRANSPOSE(bf16, h)
#undef DEFINE_TRANSPOSE
#endif

#endif
