/* gemm_amx.h - the matrix product of gemm.h on AMX tiles; part of it, in the copy that has them.
 *
 * A block of C is 32 rows by a panel: four tiles of 16 x 16 sums, two tiles of A (16 rows of 16 units,
 * read where they lie) and two of B (16 rows of a panel). A step takes 16 units of K: four loads for
 * four products, which no one waits for, as each adds to sums of its own. A panel of LANES columns
 * needs half of that.
 *
 * Tiles keep their shapes throughout a product. What is left over is brought to them:
 * - rows: a last group of 16 is moved up until it ends with A. Rows of it that another group has put
 *   already are computed again, and put once.
 * - units of K, of which there are 16 at least, else the shapes have that depth: the last step takes
 *   the last 16. Those of A that are through already are zeros in a copy.
 * Elements are put from a store of the tiles; floats go there and back by themselves where all
 * columns exist. */
#ifndef KD_GEMM_AMX_H
#define KD_GEMM_AMX_H
#include "backend/cpu/simd/amx.h"
#include "backend/cpu/simd/gemm_operands.h"

/* Below that much the vectors' product is quicker, reckoned in cycles: it makes 16 rows by 16 columns by
 * a unit in 16, a product of tiles always takes 16 for up to 16 units, 32 more or less to put what
 * comes of it, and a hundred for each call, to configure and release. */
enum { FEWEST_ROWS = TILE_HIGH, FEWEST_UNITS = 8 };
/* Units of a step; most rows whose last steps are copied, see gemm_at() for why so many. */
enum { STEP = TILE_WIDE / (int)sizeof(unit), AMX_ROWS = 256 };

/* Is A dense along whole units of K, and is there enough to do? */
INLINE bool suits_tiles(int64_t M, int64_t K, const source *a)
{
    return a->ak == sizeof(unit) && K % DEPTH == 0 && M >= FEWEST_ROWS &&
           units_of(K) >= FEWEST_UNITS;
}

/* Sums are tiles 0 and 1 for the first group of rows, 2 and 3 for the second; A's are 4 and 5, B's 6 and
 * 7. */
INLINE void configure_tiles(int64_t units)
{
    int         depth = units < STEP ? (int)units : STEP;
    tile_shapes s     = { .palette = 1 };

    for (int t = 0; t < TILES; t++) {
        s.rows[t]  = t < 6 ? TILE_HIGH : (uint8_t)depth;
        s.bytes[t] = t < 4 || t > 5 ? TILE_WIDE : (uint16_t)(depth * (int)sizeof(unit));
    }
    tile_config(&s);
}

/* Up to two groups of 16 rows. */
typedef struct amx_rows {
    int     groups;
    int64_t row[2];  /* where each begins                */
    int64_t skip[2]; /* its rows that another group puts */
} amx_rows;

INLINE amx_rows amx_rows_at(int64_t m, int64_t M)
{
    amx_rows r = { .groups = M - m > TILE_HIGH ? 2 : 1 };

    for (int i = 0; i < r.groups; i++) {
        int64_t first = m + i * TILE_HIGH;

        r.row[i]  = first < M - TILE_HIGH ? first : M - TILE_HIGH;
        r.skip[i] = first - r.row[i];
    }
    return r;
}

/* The last step's units of 16 rows, `fresh` of them new: the others become zeros. */
INLINE void copy_last(char *to, const char *last, int64_t ai, int64_t fresh)
{
    __mmask16 mask = (__mmask16)(0xffffu << (STEP - fresh));

    for (int i = 0; i < TILE_HIGH; i++)
        _mm512_storeu_si512(to + i * TILE_WIDE, _mm512_maskz_loadu_epi32(mask, last + i * ai));
}

/* One step: sums += A B for up to 2 x 2 tiles. `ahead`: as in tile(). */
INLINE void amx_step(const int groups, bool two, const char *const a[2], int64_t ai, const unit *b,
                     int64_t ahead)
{
    int64_t bk = (two ? PANEL : LANES) * (int64_t)sizeof(unit);

    tile_load(4, a[0], ai);
    tile_load(6, b, bk);
    tile_dot_bf16(0, 4, 6);
    if (two) {
        tile_load(7, b + LANES, bk);
        tile_dot_bf16(1, 4, 7);
    }
    if (groups > 1) {
        tile_load(5, a[1], ai);
        tile_dot_bf16(2, 5, 6);
        if (two) tile_dot_bf16(3, 5, 7);
    }
    for (int i = 0; ahead && i < groups * TILE_HIGH; i++)
        __builtin_prefetch(a[i / TILE_HIGH] + i % TILE_HIGH * ai + ahead, 0, 2);
}

/* What sums start from: rows `from`, ld bytes apart, or zeros. */
#define AMX_START(t, from, ld)                        \
    do {                                              \
        if (from)                                     \
            tile_load(t, (const char *)(from), (ld)); \
        else                                          \
            tile_zero(t);                             \
    } while (0)

/* One group's 16 rows (cols columns) of sums into C, from row `skip` on. */
INLINE void put_group(const target *c, const float *sums, int64_t skip, int64_t cols, bool two)
{
    target to = *c;

    if (cols < (two ? PANEL : LANES)) {
        to.at += skip * c->ld;
        put_columns(&to, sums + skip * PANEL, TILE_HIGH - skip, cols);
        return;
    }
    for (int64_t i = skip; i < TILE_HIGH; i++) {
        put_tile(c, i, 0, load_f(sums + i * PANEL));
        if (two) put_tile(c, i, LANES, load_f(sums + i * PANEL + LANES));
    }
}

/* What a block multiplies, and where the sums go. */
typedef struct amx_block {
    int64_t      units;
    const char  *a[2];    /* the groups' rows of A, ai apart  */
    const char  *last[2]; /* copies of their last units       */
    int64_t      ai, ahead;
    const unit  *b;
    const float *bias; /* or NULL */
    char        *c[2]; /* the groups' rows of C              */
    int64_t      cols;
    bool         two; /* the panel has PANEL columns         */
} amx_block;

/* Sums of floats that are read and written as they are. */
INLINE bool goes_directly(const amx_block *k, const amx_rows *r, const target *c)
{
    int64_t whole = k->two ? PANEL : LANES;

    if (!c->wide || k->cols < whole || c->put == STREAM) return false;
    return c->put == SET || (!k->bias && !r->skip[0] && !r->skip[1]);
}

INLINE void amx_multiply(const amx_block *k, const amx_rows *r, const target *c)
{
    const int  groups = r->groups;
    const bool two = k->two, directly = goes_directly(k, r, c), sum = directly && c->put == ADD;
    float      sums[2][TILE_HIGH * PANEL] __attribute__((aligned(64)));
    int64_t    half = LANES * (int64_t)sizeof(float);
    int64_t    ld   = directly ? c->ld : PANEL * (int64_t)sizeof(float), u;
    char *to[2] = { directly ? k->c[0] : (char *)sums[0], directly ? k->c[1] : (char *)sums[1] };
    const char  *a[2] = { k->a[0], k->a[1] }, *start[2];
    int64_t      from = sum ? ld : 0; /* each row starts with the bias, or with its own values */
    const target group[2] = { { k->c[0], c->ld, c->wide, c->put },
                              { k->c[1], c->ld, c->wide, c->put } };

    for (int i = 0; i < 2; i++)
        start[i] = sum ? to[i] : (const char *)k->bias;
    AMX_START(0, start[0], from);
    if (two) AMX_START(1, start[0] ? start[0] + half : NULL, from);
    if (groups > 1) {
        AMX_START(2, start[1], from);
        if (two) AMX_START(3, start[1] ? start[1] + half : NULL, from);
    }
    for (u = 0; u + STEP <= k->units || u == 0; u += STEP) {
        amx_step(groups, two, a, k->ai, k->b + u * (two ? PANEL : LANES), k->ahead);
        a[0] += TILE_WIDE, a[1] += TILE_WIDE;
    }
    if (u < k->units)
        amx_step(groups, two, k->last, TILE_WIDE, k->b + (k->units - STEP) * (two ? PANEL : LANES),
                 0);
    tile_store(0, to[0], ld);
    if (two) tile_store(1, to[0] + half, ld);
    if (groups > 1) {
        tile_store(2, to[1], ld);
        if (two) tile_store(3, to[1] + half, ld);
    }
    for (int i = 0; !directly && i < groups; i++)
        put_group(&group[i], sums[i], r->skip[i], k->cols, two);
}

/* gemm_at() for what suits_tiles(). The order is its own, too: a block of rows stays in the second-level
 * cache while the panels go by, each of them in the first-level one. */
static void __attribute__((noinline, unused))
gemm_of_tiles(int64_t M, int64_t N, int64_t units, const source *a, const unit *packed,
              const float *bias, const target *c)
{
    char    copies[AMX_ROWS / TILE_HIGH][TILE_HIGH * TILE_WIDE] __attribute__((aligned(64)));
    int64_t rows  = 65536 / units / (2 * TILE_HIGH) * (2 * TILE_HIGH);
    int64_t fresh = units > STEP ? units % STEP : 0;

    rows = rows < 2 * TILE_HIGH ? 2 * TILE_HIGH : rows > AMX_ROWS ? AMX_ROWS : rows;
    configure_tiles(units);
    for (int64_t m0 = 0; m0 < M; m0 += rows)
        for (int64_t n = 0; n < N; n += PANEL)
            for (int64_t m = m0; m < M && m < m0 + rows; m += 2 * TILE_HIGH) {
                amx_rows  r = amx_rows_at(m, M);
                amx_block k = { .units = units,
                                .ai    = a->ai,
                                .ahead = n > 0 || a->near ? 0 : 2 * TILE_HIGH * a->ai,
                                .b     = packed + n * units,
                                .bias  = bias ? bias + n : NULL,
                                .cols  = cols_at(n, N),
                                .two   = width_at(n, N) == PANEL };

                for (int i = 0; i < r.groups; i++) {
                    char *copy = copies[(m - m0) / TILE_HIGH + i];

                    k.a[i]    = a->at + r.row[i] * a->ai;
                    k.c[i]    = c->at + r.row[i] * c->ld + n * column_size(c);
                    k.last[i] = copy;
                    if (fresh && n == 0)
                        copy_last(copy, k.a[i] + (units - STEP) * (int64_t)sizeof(unit), a->ai,
                                  fresh);
                }
                if (r.groups == 1) k.a[1] = k.a[0]; /* walked along, not read */
                amx_multiply(&k, &r, c);
            }
    tile_release();
}

/* ---- a transposed A ---- */

/* A unit of each lane. */
INLINE __m512i units_of_f(vec low, vec high)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(halves(low)),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves(high)), 16));
}
INLINE __m512i units_of_h(vec low, vec high)
{
    return _mm512_or_si512(_mm512_srli_epi32((__m512i)low, 16), (__m512i)high);
}

/* 16 x 16 units, turned: pairs of rows, fours, then quarters of vectors change places. */
INLINE void turn_square(__m512i r[LANES])
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

/* turn_rows_<type>: see turn_rows() in gemm.h. In squares, 32 rows by 16 columns at a time; a missing
 * last row is of zeros. */
#define DEFINE_TURN(type, letter)                                                              \
    static void __attribute__((unused))                                                        \
    turn_rows_##letter(unit *to, const type *from, int64_t K, int64_t M, int64_t ld)           \
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
                    r[i] = units_of_##letter(low, next);                                       \
                }                                                                              \
                turn_square(r);                                                                \
                for (int64_t i = 0; i < cols; i++)                                             \
                    _mm512_mask_storeu_epi32(to + (m + i) * units + u, mask, r[i]);            \
            }                                                                                  \
    }
DEFINE_TURN(float, f)
DEFINE_TURN(bf16, h)
#undef DEFINE_TURN

#endif
