/* gemm_operands.h - the operands of the matrix product in gemm.h: what a unit is, how B is packed into panels,
 * where A lies and where C goes. Both micro-kernels use it: that on vectors (gemm.h) and that on AMX tiles
 * (gemm_amx.h). */
#ifndef KD_GEMM_OPERANDS_H
#define KD_GEMM_OPERANDS_H
#include "backend/cpu/simd/simd.h"

/* ---- units and panels ---- */

enum { PANEL = 2 * LANES };

#ifdef KD_HALF
/* Two elements, the lower k first. */
typedef struct __attribute__((may_alias)) unit {
    uint32_t bits;
} unit;
enum { DEPTH = 2 };
INLINE vec mac(vec sum, const char *a, vec b)
{
    uint32_t both;

    memcpy(&both, a, sizeof both);
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)both), (__m512bh)b);
}
INLINE unit unit_of(float low, float high)
{
    return (unit){ to_bf16(low).bits | (uint32_t)to_bf16(high).bits << 16 };
}
#else
typedef float unit;
enum { DEPTH = 1 };
INLINE vec  mac(vec sum, const char *a, vec b) { return sum + *(const float *)a * b; }
INLINE unit unit_of(float low, float high)
{
    (void)high;
    return low;
}
#endif

/* Units along K; units of a packed B, each as wide as a float. */
INLINE int64_t units_of(int64_t k) { return (k + DEPTH - 1) / DEPTH; }
INLINE int64_t packed_numel(int64_t k, int64_t n) { return units_of(k) * round_up(n, LANES); }

/* The panel that starts at column n: its width, and how many of its columns exist. */
INLINE int64_t width_at(int64_t n, int64_t N) { return N - n <= LANES ? LANES : PANEL; }
INLINE int64_t cols_at(int64_t n, int64_t N)
{
    return N - n < width_at(n, N) ? N - n : width_at(n, N);
}

/* ---- packing B ---- */

/* pack_panels_<type>: B, element (k, n) at b[k bk + n bn], times alpha, to panels. It is read along
 * its dense axis. pack_row: `cols` units of the rows k and k+1 into a row of a panel, zeros up to
 * `width`; `next`: where row k+1 is from row k, 0: there is none. */
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
    INLINE void pack_at_##letter(unit *to, const type *b, int64_t K, int64_t N, int64_t bk,       \
                                 int64_t bn, float alpha, int64_t k, int64_t n)                   \
    {                                                                                             \
        int64_t next = DEPTH > 1 && k * DEPTH + 1 < K ? bk : 0;                                   \
                                                                                                  \
        pack_row_##letter(to + n * units_of(K) + k * width_at(n, N), b + k * DEPTH * bk + n * bn, \
                          next, bn, cols_at(n, N), width_at(n, N), alpha);                        \
    }                                                                                             \
    static void __attribute__((unused)) pack_panels_##letter(                                     \
        unit *to, const type *b, int64_t K, int64_t N, int64_t bk, int64_t bn, float alpha)       \
    {                                                                                             \
        if (bn == 1)                                                                              \
            for (int64_t k = 0; k < units_of(K); k++)                                             \
                for (int64_t n = 0; n < N; n += PANEL)                                            \
                    pack_at_##letter(to, b, K, N, bk, 1, alpha, k, n);                            \
        else                                                                                      \
            for (int64_t n = 0; n < N; n += PANEL)                                                \
                for (int64_t k = 0; k < units_of(K); k++)                                         \
                    pack_at_##letter(to, b, K, N, bk, bn, alpha, k, n);                           \
    }
DEFINE_PACK(float, f)
#ifdef KD_HALF
DEFINE_PACK(bf16, h)
#endif
#undef DEFINE_PACK
#define pack_panels(to, b, K, N, bk, bn, alpha) BY_TYPE(b, pack_panels)(to, b, K, N, bk, bn, alpha)

/* ---- A and C ---- */

/* Where A lies: row i, unit k at a[i ai + k ak], in bytes. */
typedef struct source {
    const char *at;
    int64_t     ai, ak;
    bool        near; /* it is in a cache already: nothing is fetched ahead */
} source;

/* Where the product goes: floats, or elements. */
typedef struct target {
    char    *at;
    int64_t  ld;   /* from row to row, in bytes */
    bool     wide; /* floats */
    put_mode put;
} target;

INLINE void put_tile(const target *c, int64_t i, int64_t j, vec sum)
{
    char *p = c->at + i * c->ld;
#ifdef KD_HALF
    if (!c->wide) {
        bf16 *h = (bf16 *)p + j;

        if (c->put == STREAM)
            stream_h(h, sum);
        else
            store_h(h, c->put == ADD ? load_h(h) + sum : sum);
        return;
    }
#endif
    float *f = (float *)p + j;

    if (c->put == STREAM)
        stream_f(f, sum);
    else
        store_f(f, c->put == ADD ? load_f(f) + sum : sum);
}

/* The first n columns of a tile of floats into C. */
static __attribute__((noinline, unused)) void put_columns(const target *c, const float *whole,
                                                          int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            float value = whole[i * PANEL + j];

            if (c->wide)
                accumulate(((float *)(c->at + i * c->ld))[j], value, c->put == ADD);
            else
                accumulate(((elem *)(c->at + i * c->ld))[j], value, c->put == ADD);
        }
}

/* Bytes from one column of C to the next. */
INLINE int64_t column_size(const target *c)
{
    return c->wide ? (int64_t)sizeof(float) : (int64_t)sizeof(elem);
}

#endif
