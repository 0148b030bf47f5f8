/* gemm_operands.h - the operands of the matrix product in gemm.h: what a unit is, how B is packed into panels,
 * where A lies and where C goes. Both micro-kernels use it: that on vectors (gemm.h) and that on AMX tiles
 * (gemm_amx.h). */
#ifndef KD_GEMM_OPERANDS_H
#define KD_GEMM_OPERANDS_H
#include "backend/cpu/simd/simd.h"

/* ---- units and panels ---- */

/* Columns of a panel of B: two vectors. */
enum { PANEL = 2 * LANES };

/* A unit is what one lane multiplies at a time: a float, or in bf16 a pair of neighbours along K (the VNNI
 * layout). UNIT_DEPTH: elements along K in a unit. mac(): acc += a b, `a` one unit of A for all lanes. */
#ifdef KD_WORDS
/* Two numbers of A times two weights of B, of 16 bits each. The sums are integers, whose bits are in `vec`. */
typedef struct __attribute__((may_alias)) unit {
    uint32_t bits;
} unit;
enum { UNIT_DEPTH = 2 };
typedef uint16_t a_number; /* an element of A */
typedef int16_t  b_weight; /* an element of B */

INLINE vec mac(vec acc, const char *a, vec b)
{
    int32_t two;

    memcpy(&two, a, sizeof two);
    return (vec)_mm256_add_epi32((__m256i)acc,
                                 _mm256_madd_epi16(_mm256_set1_epi32(two), (__m256i)b));
}
#elif defined(KD_INT8)
/* The same of four numbers and four weights, of 8 bits. */
typedef struct __attribute__((may_alias)) unit {
    uint32_t bits;
} unit;
enum { UNIT_DEPTH = 4 };
typedef uint8_t a_number;
typedef int8_t  b_weight;

INLINE vec mac(vec acc, const char *a, vec b)
{
    int32_t four;

    memcpy(&four, a, sizeof four);
#if defined(KD_AVX512)
    return (vec)_mm512_dpbusd_epi32((__m512i)acc, _mm512_set1_epi32(four), (__m512i)b);
#else
    return (vec)_mm256_dpbusd_avx_epi32((__m256i)acc, _mm256_set1_epi32(four), (__m256i)b);
#endif
}
#elif defined(KD_HALF)
/* The lower k is in the lower half. */
typedef struct __attribute__((may_alias)) unit {
    uint32_t bits;
} unit;
enum { UNIT_DEPTH = 2 };
INLINE vec mac(vec acc, const char *a, vec b)
{
    uint32_t both;

    memcpy(&both, a, sizeof both);
    return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_set1_epi32((int)both), (__m512bh)b);
}
INLINE unit unit_of(float low, float high)
{
    return (unit){ to_bf16(low).bits | (uint32_t)to_bf16(high).bits << 16 };
}
#else
typedef float unit;
enum { UNIT_DEPTH = 1 };
INLINE vec  mac(vec acc, const char *a, vec b) { return acc + *(const float *)a * b; }
INLINE unit unit_of(float low, float high)
{
    (void)high;
    return low;
}
#endif

/* Units along K; units of a packed B (K,N), each of which has the size of a float. */
INLINE int64_t units_of(int64_t k) { return (k + UNIT_DEPTH - 1) / UNIT_DEPTH; }
INLINE int64_t packed_numel(int64_t k, int64_t n) { return units_of(k) * round_up(n, LANES); }

/* The panel that starts at column n: its width (PANEL, or LANES if it is the last and narrow), and how many of
 * its columns exist in B; the others are zero. */
INLINE int64_t width_at(int64_t n, int64_t N) { return N - n <= LANES ? LANES : PANEL; }
INLINE int64_t cols_at(int64_t n, int64_t N)
{
    return N - n < width_at(n, N) ? N - n : width_at(n, N);
}

/* ---- packing B ---- */

#ifdef KD_INT8
#include "backend/cpu/simd/int8_operands.h"
#else

/* pack_panels(to, b, K, N, rs_b, cs_b, alpha) packs alpha B into panels. Element (k,n) of B is at
 * b[k rs_b + n cs_b], a float or a bf16. B is read along its dense axis.
 * pack_row packs `cols` units of rows k and k+1 into one row of a panel, and zeros up to `width`. `next` is the
 * distance from row k to row k+1; 0: there is no such row, or a unit has one element. */
#define DEFINE_PACK(type, letter)                                                                 \
    INLINE void pack_row_##letter(unit *to, const type *from, int64_t next, int64_t step,         \
                                  int64_t cols, int64_t width, float alpha)                       \
    {                                                                                             \
        if (step == 1 && next)                                                                    \
            for (int64_t j = 0; j < cols; j++)                                                    \
                to[j] = unit_of(alpha * num(from[j]), alpha * num(from[j + next]));               \
        else if (step == 1)                                                                       \
            for (int64_t j = 0; j < cols; j++)                                                    \
                to[j] = unit_of(alpha * num(from[j]), 0);                                         \
        else if (next)                                                                            \
            for (int64_t j = 0; j < cols; j++)                                                    \
                to[j] = unit_of(alpha * num(from[j * step]), alpha * num(from[j * step + next])); \
        else                                                                                      \
            for (int64_t j = 0; j < cols; j++)                                                    \
                to[j] = unit_of(alpha * num(from[j * step]), 0);                                  \
        for (int64_t j = cols; j < width; j++)                                                    \
            to[j] = unit_of(0, 0);                                                                \
    }                                                                                             \
    INLINE void pack_at_##letter(unit *to, const type *b, int64_t K, int64_t N, int64_t rs_b,     \
                                 int64_t cs_b, float alpha, int64_t k, int64_t n)                 \
    {                                                                                             \
        int64_t next = UNIT_DEPTH > 1 && k * UNIT_DEPTH + 1 < K ? rs_b : 0;                       \
                                                                                                  \
        pack_row_##letter(to + n * units_of(K) + k * width_at(n, N),                              \
                          b + k * UNIT_DEPTH * rs_b + n * cs_b, next, cs_b, cols_at(n, N),        \
                          width_at(n, N), alpha);                                                 \
    }                                                                                             \
    static void __attribute__((unused)) pack_panels_##letter(                                     \
        unit *to, const type *b, int64_t K, int64_t N, int64_t rs_b, int64_t cs_b, float alpha)   \
    {                                                                                             \
        if (cs_b == 1)                                                                            \
            for (int64_t k = 0; k < units_of(K); k++)                                             \
                for (int64_t n = 0; n < N; n += PANEL)                                            \
                    pack_at_##letter(to, b, K, N, rs_b, 1, alpha, k, n);                          \
        else                                                                                      \
            for (int64_t n = 0; n < N; n += PANEL)                                                \
                for (int64_t k = 0; k < units_of(K); k++)                                         \
                    pack_at_##letter(to, b, K, N, rs_b, cs_b, alpha, k, n);                       \
    }
DEFINE_PACK(float, f)
#ifdef KD_HALF
DEFINE_PACK(bf16, h)
#endif
#undef DEFINE_PACK
#define pack_panels(to, b, K, N, rs_b, cs_b, alpha) \
    BY_TYPE(b, pack_panels)(to, b, K, N, rs_b, cs_b, alpha)
#endif

/* ---- A and C ---- */

/* The operand A: unit k of row i is at `at` + i rs + k cs. A is not packed. */
typedef struct a_operand {
    const char *at;
    int64_t     rs, cs;   /* row stride and column stride, bytes */
    bool        in_cache; /* A is cached already: no prefetch    */
} a_operand;

#ifndef KD_INT8
/* The operand C, and what the epilogue does with the accumulators. */
typedef struct c_operand {
    char      *at;
    int64_t    ld;       /* row stride, bytes         */
    bool       is_float; /* C is floats, not elements */
    store_mode mode;     /* set, add or stream        */
    int32_t    post;     /* kdas_post: applied last   */
} c_operand;

/* The epilogue of one vector: accumulator `acc` into row i of C, from column j on. `mode`: of C; `post`: between limits. */
INLINE void store_tile(const c_operand *c, int64_t i, int64_t j, vec acc, store_mode mode,
                       const bool post, limits l)
{
    char *p = c->at + i * c->ld;
#ifdef KD_HALF
    if (!c->is_float) {
        bf16 *h = (bf16 *)p + j;

        if (mode == ADD) acc += load_h(h);
        if (post) acc = clamp_v(acc, l);
        if (mode == STREAM)
            stream_h(h, acc);
        else
            store_h(h, acc);
        return;
    }
#endif
    float *f = (float *)p + j;

    if (mode == ADD) acc += load_f(f);
    if (post) acc = clamp_v(acc, l);
    if (mode == STREAM)
        stream_f(f, acc);
    else
        store_f(f, acc);
}

/* The epilogue of a tile of accumulators, `rows` by `vecs` vectors. */
INLINE void store_tiles_as(const c_operand *c, const int rows, const int vecs, vec acc[][2],
                           store_mode mode, const bool post)
{
    limits l = limits_of(c->post);

#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++)
            store_tile(c, i, j * LANES, acc[i][j], mode, post, l);
}
/* What is frequent has code of its own, without branches. */
INLINE void store_tiles(const c_operand *c, const int rows, const int vecs, vec acc[][2])
{
    if (c->post != KDAS_POST_NONE)
        store_tiles_as(c, rows, vecs, acc, c->mode, true);
    else if (c->mode == SET)
        store_tiles_as(c, rows, vecs, acc, SET, false);
    else
        store_tiles_as(c, rows, vecs, acc, c->mode, false);
}

/* Bytes of an element of C. */
INLINE int64_t c_elem_size(const c_operand *c)
{
    return c->is_float ? (int64_t)sizeof(float) : (int64_t)sizeof(elem);
}

/* The operand from column n on. */
INLINE c_operand from_column(const c_operand *c, int64_t n)
{
    c_operand to = *c;

    to.at += n * c_elem_size(c);
    return to;
}

/* The operand that all of a tile goes to, as floats, before store_columns(). */
INLINE c_operand whole_tile(const c_operand *c, float *tile)
{
    (void)c;
    return (c_operand){ (char *)tile, sizeof(float) * PANEL, true, SET, KDAS_POST_NONE };
}

/* The epilogue where the panel is wider than C: the first `cols` columns of a tile of accumulators `acc`
 * (rows, PANEL), which were stored as floats, into C. */
static __attribute__((noinline, unused)) void store_columns(const c_operand *c, const float *acc,
                                                            int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            float value = acc[i * PANEL + j];
            bool  add   = c->mode == ADD;

            if (c->is_float) {
                float *to = (float *)(c->at + i * c->ld) + j;

                *to = post_f(add ? *to + value : value, c->post);
            } else {
                elem *to = (elem *)(c->at + i * c->ld) + j;

                set(*to, post_f(add ? num(*to) + value : value, c->post));
            }
        }
}

#endif

#endif
