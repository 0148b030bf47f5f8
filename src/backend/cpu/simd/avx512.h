/* avx512.h - the instructions of AVX-512 and of AVX-VNNI that this folder uses, in C and AVX2, for tests on CPUs without them
 * (KD_AVX512_EMULATED). Each gives the bits of the instruction, but that denormals are kept where those for bf16 flush them, and
 * that a streaming store is a plain one. Halves of a vector are computed with the instruction's form for AVX2, where there is
 * one. */
#ifndef KD_AVX512_H
#define KD_AVX512_H
#include <assert.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Those that are macros in the compiler's header at some levels of optimisation. */
#undef _mm512_roundscale_ps
#undef _mm512_srli_epi32
#undef _mm512_slli_epi32
#undef _mm512_extractf32x8_ps
#undef _mm512_shuffle_i32x4
#undef _mm512_mask_blend_epi8

#define EMULATED static inline __attribute__((always_inline, unused))

/* ---- halves ---- */

EMULATED __m256 half_ps(__m512 v, int i)
{
    __m256 h;

    memcpy(&h, (const char *)&v + 32 * i, sizeof h);
    return h;
}
EMULATED __m256i half_epi(__m512i v, int i)
{
    __m256i h;

    memcpy(&h, (const char *)&v + 32 * i, sizeof h);
    return h;
}
EMULATED __m512 both_ps(__m256 low, __m256 high)
{
    __m512 v;

    memcpy(&v, &low, sizeof low);
    memcpy((char *)&v + 32, &high, sizeof high);
    return v;
}
EMULATED __m512i both_epi(__m256i low, __m256i high)
{
    __m512i v;

    memcpy(&v, &low, sizeof low);
    memcpy((char *)&v + 32, &high, sizeof high);
    return v;
}

#define BY_HALVES_1(name, type, out, in, from)                                             \
    EMULATED type emulated_##name(from a)                                                  \
    {                                                                                      \
        return both_##out(_mm256_##name(half_##in(a, 0)), _mm256_##name(half_##in(a, 1))); \
    }
#define BY_HALVES_2(name, type, kind)                                            \
    EMULATED type emulated_##name(type a, type b)                                \
    {                                                                            \
        return both_##kind(_mm256_##name(half_##kind(a, 0), half_##kind(b, 0)),  \
                           _mm256_##name(half_##kind(a, 1), half_##kind(b, 1))); \
    }
BY_HALVES_1(cvtps_epi32, __m512i, epi, ps, __m512)
BY_HALVES_1(cvtepi32_ps, __m512, ps, epi, __m512i)
BY_HALVES_2(min_ps, __m512, ps)
BY_HALVES_2(max_ps, __m512, ps)
BY_HALVES_2(unpacklo_epi8, __m512i, epi)
BY_HALVES_2(unpackhi_epi8, __m512i, epi)
BY_HALVES_2(unpacklo_epi16, __m512i, epi)
BY_HALVES_2(unpackhi_epi16, __m512i, epi)
BY_HALVES_2(unpacklo_epi32, __m512i, epi)
BY_HALVES_2(unpackhi_epi32, __m512i, epi)
BY_HALVES_2(unpacklo_epi64, __m512i, epi)
BY_HALVES_2(unpackhi_epi64, __m512i, epi)
BY_HALVES_2(packs_epi32, __m512i, epi)
BY_HALVES_2(packus_epi16, __m512i, epi)
BY_HALVES_2(max_epu8, __m512i, epi)
BY_HALVES_2(add_epi32, __m512i, epi)
BY_HALVES_2(sub_epi32, __m512i, epi)
#undef BY_HALVES_1
#undef BY_HALVES_2
#define _mm512_cvtps_epi32    emulated_cvtps_epi32
#define _mm512_cvtepi32_ps    emulated_cvtepi32_ps
#define _mm512_min_ps         emulated_min_ps
#define _mm512_max_ps         emulated_max_ps
#define _mm512_unpacklo_epi8  emulated_unpacklo_epi8
#define _mm512_unpackhi_epi8  emulated_unpackhi_epi8
#define _mm512_unpacklo_epi16 emulated_unpacklo_epi16
#define _mm512_unpackhi_epi16 emulated_unpackhi_epi16
#define _mm512_unpacklo_epi32 emulated_unpacklo_epi32
#define _mm512_unpackhi_epi32 emulated_unpackhi_epi32
#define _mm512_unpacklo_epi64 emulated_unpacklo_epi64
#define _mm512_unpackhi_epi64 emulated_unpackhi_epi64
#define _mm512_packs_epi32    emulated_packs_epi32
#define _mm512_packus_epi16   emulated_packus_epi16
#define _mm512_max_epu8       emulated_max_epu8
#define _mm512_add_epi32      emulated_add_epi32
#define _mm512_sub_epi32      emulated_sub_epi32

EMULATED __m512 emulated_fmadd_ps(__m512 a, __m512 b, __m512 c)
{
    return both_ps(_mm256_fmadd_ps(half_ps(a, 0), half_ps(b, 0), half_ps(c, 0)),
                   _mm256_fmadd_ps(half_ps(a, 1), half_ps(b, 1), half_ps(c, 1)));
}
/* To whole numbers, the only rounding that is used. */
EMULATED __m512 emulated_roundscale_ps(__m512 v, int how)
{
    assert(how == (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    return both_ps(_mm256_round_ps(half_ps(v, 0), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                   _mm256_round_ps(half_ps(v, 1), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
EMULATED __m512i emulated_srli_epi32(__m512i v, int n)
{
    return both_epi(_mm256_srli_epi32(half_epi(v, 0), n), _mm256_srli_epi32(half_epi(v, 1), n));
}
EMULATED __m512i emulated_slli_epi32(__m512i v, int n)
{
    return both_epi(_mm256_slli_epi32(half_epi(v, 0), n), _mm256_slli_epi32(half_epi(v, 1), n));
}
#define _mm512_fmadd_ps      emulated_fmadd_ps
#define _mm512_roundscale_ps emulated_roundscale_ps
#define _mm512_srli_epi32    emulated_srli_epi32
#define _mm512_slli_epi32    emulated_slli_epi32

/* ---- memory, constants, casts ---- */

EMULATED __m512i emulated_loadu_si512(const void *p)
{
    __m512i v;

    memcpy(&v, p, sizeof v);
    return v;
}
EMULATED __m512 emulated_loadu_ps(const void *p)
{
    __m512 v;

    memcpy(&v, p, sizeof v);
    return v;
}
EMULATED void emulated_storeu_si512(void *p, __m512i v) { memcpy(p, &v, sizeof v); }
EMULATED void emulated_stream_ps(void *p, __m512 v)
{
    assert((uintptr_t)p % 64 == 0);
    memcpy(p, &v, sizeof v);
}
EMULATED __m512i emulated_maskz_loadu_epi32(uint32_t mask, const void *p)
{
    uint32_t lane[16] = { 0 };

    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy(&lane[i], (const char *)p + 4 * i, 4);
    return emulated_loadu_si512(lane);
}
EMULATED void emulated_mask_storeu_epi32(void *p, uint32_t mask, __m512i v)
{
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy((char *)p + 4 * i, (const char *)&v + 4 * i, 4);
}
EMULATED void emulated_mask_storeu_epi8(void *p, uint64_t mask, __m512i v)
{
    for (int i = 0; i < 64; i++)
        if (mask >> i & 1) ((char *)p)[i] = ((const char *)&v)[i];
}
EMULATED __m512i emulated_set1_epi32(int n)
{
    return both_epi(_mm256_set1_epi32(n), _mm256_set1_epi32(n));
}
EMULATED __m512i emulated_set1_epi8(char n)
{
    return both_epi(_mm256_set1_epi8(n), _mm256_set1_epi8(n));
}
#define _mm512_loadu_si512           emulated_loadu_si512
#define _mm512_loadu_ps              emulated_loadu_ps
#define _mm512_storeu_si512          emulated_storeu_si512
#define _mm512_stream_ps             emulated_stream_ps
#define _mm512_maskz_loadu_epi32     emulated_maskz_loadu_epi32
#define _mm512_mask_storeu_epi32     emulated_mask_storeu_epi32
#define _mm512_mask_storeu_epi8      emulated_mask_storeu_epi8
#define _mm512_set1_epi32            emulated_set1_epi32
#define _mm512_set1_epi8             emulated_set1_epi8
#define _mm512_castsi512_ps(v)       ((__m512)(v))
#define _mm512_castps512_ps256(v)    half_ps(v, 0)
#define _mm512_extractf32x8_ps(v, i) half_ps(v, i)
#define _mm512_and_si512(a, b)       ((__m512i)(a) & (__m512i)(b))
#define _mm512_or_si512(a, b)        ((__m512i)(a) | (__m512i)(b))

/* ---- lanes that move ---- */

EMULATED __m512i emulated_shuffle_i32x4(__m512i a, __m512i b, int which)
{
    __m512i v;

    for (int i = 0; i < 4; i++)
        memcpy((char *)&v + 16 * i, (const char *)(i < 2 ? &a : &b) + 16 * (which >> 2 * i & 3),
               16);
    return v;
}
EMULATED __m512 emulated_permutexvar_ps(__m512i at, __m512 a)
{
    int   n[16];
    float from[16], to[16];

    memcpy(n, &at, sizeof n);
    memcpy(from, &a, sizeof from);
    for (int i = 0; i < 16; i++)
        to[i] = from[n[i] & 15];
    return emulated_loadu_ps(to);
}
EMULATED __m512i emulated_permutex2var_epi8(__m512i a, __m512i at, __m512i b)
{
    uint8_t n[64], from[128], to[64];

    memcpy(n, &at, sizeof n);
    memcpy(from, &a, 64);
    memcpy(from + 64, &b, 64);
    for (int i = 0; i < 64; i++)
        to[i] = from[n[i] & 127];
    return emulated_loadu_si512(to);
}
EMULATED uint64_t emulated_movepi8_mask(__m512i v)
{
    return (uint32_t)_mm256_movemask_epi8(half_epi(v, 0)) |
           (uint64_t)(uint32_t)_mm256_movemask_epi8(half_epi(v, 1)) << 32;
}
EMULATED __m512i emulated_mask_blend_epi8(uint64_t mask, __m512i a, __m512i b)
{
    emulated_mask_storeu_epi8(&a, mask, b);
    return a;
}
EMULATED __m512i emulated_cvtepu16_epi32(__m256i v)
{
    return both_epi(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                    _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)));
}
EMULATED __m256i emulated_cvtepi32_epi16(__m512i v)
{
    uint32_t from[16];
    uint16_t to[16];

    memcpy(from, &v, sizeof from);
    for (int i = 0; i < 16; i++)
        to[i] = (uint16_t)from[i];
    return _mm256_loadu_si256((const __m256i_u *)to);
}
EMULATED __m128i emulated_cvtepi32_epi8(__m512i v)
{
    uint32_t from[16];
    uint8_t  to[16];

    memcpy(from, &v, sizeof from);
    for (int i = 0; i < 16; i++)
        to[i] = (uint8_t)from[i];
    return _mm_loadu_si128((const __m128i_u *)to);
}
#define _mm512_shuffle_i32x4     emulated_shuffle_i32x4
#define _mm512_permutexvar_ps    emulated_permutexvar_ps
#define _mm512_permutex2var_epi8 emulated_permutex2var_epi8
#define _mm512_movepi8_mask      emulated_movepi8_mask
#define _mm512_mask_blend_epi8   emulated_mask_blend_epi8
#define _mm512_cvtepu16_epi32    emulated_cvtepu16_epi32
#define _mm512_cvtepi32_epi16    emulated_cvtepi32_epi16
#define _mm512_cvtepi32_epi8     emulated_cvtepi32_epi8

/* ---- arithmetic without a form for AVX2 ---- */

/* p times 2 to the power of the whole number n. */
EMULATED __m512 emulated_scalef_ps(__m512 p, __m512 n)
{
    float a[16], b[16];

    memcpy(a, &p, sizeof a);
    memcpy(b, &n, sizeof b);
    for (int i = 0; i < 16; i++)
        a[i] = b[i] != b[i] ? b[i]
                            : ldexpf(a[i], (int)floorf(b[i] < -1e4f  ? -1e4f
                                                       : b[i] > 1e4f ? 1e4f
                                                                     : b[i]));
    return emulated_loadu_ps(a);
}
/* In the order of the compiler's: halves, halves of those. */
EMULATED float emulated_reduce_add_ps(__m512 v)
{
    __m256 eight = _mm256_add_ps(half_ps(v, 1), half_ps(v, 0));
    __m128 four  = _mm_add_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    __m128 two   = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return two[0] + two[1];
}
EMULATED float emulated_reduce_max_ps(__m512 v)
{
    __m256 eight = _mm256_max_ps(half_ps(v, 1), half_ps(v, 0));
    __m128 four  = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    __m128 two   = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
/* Four products of a byte of a and a signed byte of b. */
EMULATED __m256i emulated_dot_bytes(__m256i sum, __m256i a, __m256i b)
{
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(0xff)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
    __m256i odd  = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));

    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
EMULATED __m512i emulated_dpbusd_epi32(__m512i sum, __m512i a, __m512i b)
{
    return both_epi(emulated_dot_bytes(half_epi(sum, 0), half_epi(a, 0), half_epi(b, 0)),
                    emulated_dot_bytes(half_epi(sum, 1), half_epi(a, 1), half_epi(b, 1)));
}
/* Two products of bf16, of the upper halves first. */
EMULATED __m512 emulated_dot_halves(__m512 sum, __m512i a, __m512i b)
{
    const __m512i upper = emulated_set1_epi32((int)0xffff0000);

    sum = emulated_fmadd_ps((__m512)(a & upper), (__m512)(b & upper), sum);
    return emulated_fmadd_ps((__m512)emulated_slli_epi32(a, 16), (__m512)emulated_slli_epi32(b, 16),
                             sum);
}
/* To bf16: to nearest, ties to even; NaN stays NaN. */
EMULATED __m256i emulated_cvtneps_pbh(__m512 v)
{
    uint32_t from[16];
    uint16_t to[16];

    memcpy(from, &v, sizeof from);
    for (int i = 0; i < 16; i++)
        to[i] = (uint16_t)((from[i] & 0x7fffffffu) > 0x7f800000u
                               ? from[i] >> 16 | 0x40u
                               : (from[i] + 0x7fffu + (from[i] >> 16 & 1u)) >> 16);
    return _mm256_loadu_si256((const __m256i_u *)to);
}
#define _mm512_scalef_ps            emulated_scalef_ps
#define _mm512_reduce_add_ps        emulated_reduce_add_ps
#define _mm512_reduce_max_ps        emulated_reduce_max_ps
#define _mm256_dpbusd_avx_epi32     emulated_dot_bytes
#define _mm512_dpbusd_epi32         emulated_dpbusd_epi32
#define _mm512_dpbf16_ps(sum, a, b) emulated_dot_halves(sum, (__m512i)(a), (__m512i)(b))
#define _mm512_cvtneps_pbh          emulated_cvtneps_pbh

#endif
