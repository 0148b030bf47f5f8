/* int8_operands.h - the operands B and C of a product of 8-bit integers; gemm_operands.h includes it. A has the numbers of
 * a grid, B weights, and C is made of the sums by the epilogue: base/grid.h defines it, to the bit. K is a multiple of
 * UNIT_DEPTH: rows of A that are not are copied first. */
#ifndef KD_INT8_OPERANDS_H
#define KD_INT8_OPERANDS_H
#include "base/grid.h"

/* Pack weights (N,K), rows dense, into panels; K is rounded up with zeros. */
static void __attribute__((unused)) pack_weights(unit *to, const int8_t *w, int64_t K, int64_t N)
{
    for (int64_t n = 0; n < N; n += PANEL)
        for (int64_t k = 0; k < units_of(K); k++) {
            int8_t *row = (int8_t *)(to + n * units_of(K) + k * width_at(n, N));

            memset(row, 0, (size_t)width_at(n, N) * sizeof(unit));
            for (int64_t j = 0; j < cols_at(n, N); j++)
                for (int64_t i = 0; i < UNIT_DEPTH && k * UNIT_DEPTH + i < K; i++)
                    row[j * UNIT_DEPTH + i] = w[(n + j) * K + k * UNIT_DEPTH + i];
        }
}

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
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
}

INLINE vec sums_as_floats(vec acc)
{
#if defined(__AVX512F__)
    return (vec)_mm512_cvtepi32_ps((__m512i)acc);
#else
    return (vec)_mm256_cvtepi32_ps((__m256i)acc);
#endif
}

/* LANES numbers, of values in 0..255, to the nearest. */
INLINE void store_numbers(uint8_t *p, vec v)
{
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i_u *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32((__m512)v)));
#else
    __m256i whole = _mm256_cvtps_epi32((__m256)v);
    __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));

    _mm_storel_epi64((__m128i_u *)p, _mm_packus_epi16(words, words));
#endif
}

/* LANES values as bf16: to nearest, ties to even. They are not NaN. */
INLINE void store_bf16(uint16_t *p, vec v)
{
#if defined(__AVX512F__)
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

INLINE void store_tiles(const c_operand *c, const int rows, const int vecs, vec acc[][2])
{
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
