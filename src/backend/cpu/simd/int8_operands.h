/* int8_operands.h - the operands B and C of a product of 8-bit integers; gemm_operands.h includes it. A has the numbers of
 * a grid, B weights, and C is made of the sums by the epilogue: base/grid.h defines it, to the bit. K is a multiple of
 * UNIT_DEPTH: rows of A that are not are copied first. */
#ifndef KD_INT8_OPERANDS_H
#define KD_INT8_OPERANDS_H
#include "base/grid.h"

/* What C is made of. */
typedef enum c_type { C_NUMBERS, C_FLOATS, C_BF16, C_SUMS } c_type;

INLINE c_type c_type_of(const kdas_desc *out)
{
    return out->dtype == KDAS_U8 ? C_NUMBERS : out->dtype == KDAS_BF16 ? C_BF16 : C_FLOATS;
}
INLINE int64_t c_size_of(c_type type) { return type == C_NUMBERS ? 1 : type == C_BF16 ? 2 : 4; }

/* The operand C. Factors and offsets: one for each column, padded to whole panels. */
typedef struct c_operand {
    char         *at;
    int64_t       ld; /* row stride, bytes */
    c_type        type;
    const float  *factor, *offset;
    kd_requantise r;
} c_operand;

INLINE vec fma_v(vec a, vec b, vec c)
{
#if defined(KD_AVX512)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
}

INLINE vec sums_as_floats(vec acc)
{
#if defined(KD_AVX512)
    return (vec)_mm512_cvtepi32_ps((__m512i)acc);
#else
    return (vec)_mm256_cvtepi32_ps((__m256i)acc);
#endif
}

/* LANES numbers, of values in 0..255, to the nearest. */
INLINE void store_numbers(uint8_t *p, vec v)
{
#if defined(KD_AVX512)
    _mm_storeu_si128((__m128i_u *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32((__m512)v)));
#else
    __m256i whole = _mm256_cvtps_epi32((__m256)v);
    __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));

    _mm_storel_epi64((__m128i_u *)p, _mm_packus_epi16(words, words));
#endif
}

#if !defined(KD_AVX512)
/* Two vectors of each of two rows, a and b, to the nearest whole numbers, at least `low`: 16 at `first`, 16 at `second`. */
INLINE void store_numbers_of_rows(uint8_t *first, uint8_t *second, const vec a[2], const vec b[2],
                                  float low)
{
    const __m256i order   = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i       words_a = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)a[0]),
                                               _mm256_cvtps_epi32((__m256)a[1])),
            words_b       = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)b[0]),
                                               _mm256_cvtps_epi32((__m256)b[1]));
    __m256i all =
        _mm256_max_epu8(_mm256_packus_epi16(words_a, words_b), _mm256_set1_epi8((char)low));

    all = _mm256_permutevar8x32_epi32(all, order);
    _mm_storeu_si128((__m128i_u *)first, _mm256_castsi256_si128(all));
    _mm_storeu_si128((__m128i_u *)second, _mm256_extracti128_si256(all, 1));
}
#endif

/* LANES values as bf16: to nearest, ties to even. They are not NaN. */
INLINE void store_bf16(uint16_t *p, vec v)
{
#if defined(KD_AVX512)
    __m512i bits = (__m512i)v,
            odd  = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));

    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm256_storeu_si256((__m256i_u *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
#else
    __m256i bits = (__m256i)v,
            odd  = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));

    bits = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    _mm_storeu_si128((__m128i_u *)p, _mm_packus_epi32(_mm256_castsi256_si128(bits),
                                                      _mm256_extracti128_si256(bits, 1)));
#endif
}

/* All of the operand is in registers before the first store, which might alias it. */
INLINE void store_tiles_as(const c_operand *c, const c_type type, const int rows, const int vecs,
                           vec acc[][2])
{
    vec     low = (vec){ 0 } + c->r.low, high = (vec){ 0 } + c->r.high;
    char   *at = c->at;
    int64_t ld = c->ld;

#pragma GCC unroll 2
    for (int j = 0; j < vecs; j++) {
        vec factor = load_f(c->factor + j * LANES), offset = load_f(c->offset + j * LANES);

#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            char *p = at + i * ld;
            vec   v;

            if (type == C_SUMS) {
                store_f((float *)p + j * LANES, acc[i][j]);
                continue;
            }
            v = min_v(max_v(fma_v(sums_as_floats(acc[i][j]), factor, offset), low), high);
            if (type == C_NUMBERS)
                store_numbers((uint8_t *)p + j * LANES, v);
            else if (type == C_BF16)
                store_bf16((uint16_t *)p + j * LANES, v);
            else
                store_f((float *)p + j * LANES, v);
        }
    }
}

#if !defined(KD_AVX512)
/* The same of numbers in two vectors, row by row in pairs. */
INLINE void store_pairs_of_rows(const c_operand *c, const int rows, vec acc[][2])
{
    const vec high      = (vec){ 0 } + c->r.high,
              factor[2] = { load_f(c->factor), load_f(c->factor + LANES) },
              offset[2] = { load_f(c->offset), load_f(c->offset + LANES) };
    char   *at          = c->at;
    int64_t ld          = c->ld;
    float   low         = c->r.low;

#pragma GCC unroll 16
    for (int i = 0; i < rows; i += 2) {
        const int next = i + 1 < rows ? i + 1 : i;

#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            acc[i][j] = min_v(fma_v(sums_as_floats(acc[i][j]), factor[j], offset[j]), high);
            if (next > i)
                acc[next][j] =
                    min_v(fma_v(sums_as_floats(acc[next][j]), factor[j], offset[j]), high);
        }
        store_numbers_of_rows((uint8_t *)at + i * ld, (uint8_t *)at + next * ld, acc[i], acc[next],
                              low);
    }
}
#endif

INLINE void store_tiles(const c_operand *c, const int rows, const int vecs, vec acc[][2])
{
#if !defined(KD_AVX512)
    if (c->type == C_NUMBERS && vecs == 2) {
        store_pairs_of_rows(c, rows, acc);
        return;
    }
#endif
    switch (c->type) {
    case C_NUMBERS: store_tiles_as(c, C_NUMBERS, rows, vecs, acc); break;
    case C_BF16: store_tiles_as(c, C_BF16, rows, vecs, acc); break;
    case C_FLOATS: store_tiles_as(c, C_FLOATS, rows, vecs, acc); break;
    case C_SUMS: store_tiles_as(c, C_SUMS, rows, vecs, acc); break;
    }
}

INLINE c_operand from_column(const c_operand *c, int64_t n)
{
    c_operand to = *c;

    to.at += n * c_size_of(c->type);
    to.factor += n;
    to.offset += n;
    return to;
}

INLINE c_operand whole_tile(const c_operand *c, float *tile)
{
    c_operand to = *c;

    to.at   = (char *)tile;
    to.ld   = sizeof(float) * PANEL;
    to.type = C_SUMS;
    return to;
}

/* The first `cols` columns of a tile of sums, (rows, PANEL), into C. */
static __attribute__((noinline, unused)) void store_columns(const c_operand *c, const float *tile,
                                                            int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j += LANES) {
            char      part[LANES * sizeof(float)];
            c_operand to        = from_column(c, j);
            vec       acc[1][2] = { { load_f(tile + i * PANEL + j) } };
            int64_t   n         = cols - j < LANES ? cols - j : LANES;
            char     *at        = to.at + i * c->ld;

            to.at = part;
            store_tiles(&to, 1, 1, acc);
            memcpy(at, part, (size_t)(n * c_size_of(c->type)));
        }
}

#endif
