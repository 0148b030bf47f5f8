/* yuv_avx2.c - YUV as RGB8, sixteen pixels at a time. Sums of integers do not depend on their
 * order, so the bits are those of the plain loop in yuv.c. */
#include "image/yuv.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

enum { STEP = 16 };

/* Eight pairs Cb, Cr in 16 bits each. */
AVX2 static inline __m256i chroma_pairs(const kd_yuv_samples *from, int64_t x, bool deep)
{
    __m128i cb, cr;

    if (deep) return _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(from->cb + 2 * x)), 6);
    if (from->step == 2)
        return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(from->cb + x)));
    cb = _mm_loadl_epi64((const __m128i *)(from->cb + x / 2));
    cr = _mm_loadl_epi64((const __m128i *)(from->cr + x / 2));
    return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(cb, cr));
}

/* Eight samples of luma in 32 bits each. */
AVX2 static inline __m256i luma_samples(const uint8_t *at, bool deep)
{
    if (deep)
        return _mm256_srli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at)), 6);
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at));
}

AVX2 static inline __m256i two_weights(int16_t even, int16_t odd)
{
    return _mm256_set1_epi32((int32_t)((uint32_t)(uint16_t)even | (uint32_t)(uint16_t)odd << 16));
}

/* One colour of 16 pixels in 16 bits each: 0-3, 8-11 in one half, 4-7, 12-15 in the other. */
AVX2 static inline __m256i colour_of(__m256i chroma, __m256i low, __m256i high, const kd_yuv *yuv,
                                     int c)
{
    const __m256i first  = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m256i second = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
    const __m128i shift  = _mm_cvtsi32_si128(yuv->shift);

    chroma = _mm256_madd_epi16(chroma, two_weights(yuv->chroma[c][0], yuv->chroma[c][1]));
    chroma = _mm256_add_epi32(chroma, _mm256_set1_epi32(yuv->constant[c]));
    low    = _mm256_add_epi32(low, _mm256_permutevar8x32_epi32(chroma, first));
    high   = _mm256_add_epi32(high, _mm256_permutevar8x32_epi32(chroma, second));
    return _mm256_packs_epi32(_mm256_sra_epi32(low, shift), _mm256_sra_epi32(high, shift));
}

/* The first four pixels of each half as 12 bytes, and 4 of zeros; of red and green, then of blue, a
 * half has eight samples each. */
AVX2 static inline __m256i four_pixels(__m256i red_green, __m256i blue)
{
    const __m256i rg = _mm256_setr_epi8(0, 8, -1, 1, 9, -1, 2, 10, -1, 3, 11, -1, -1, -1, -1, -1, 0,
                                        8, -1, 1, 9, -1, 2, 10, -1, 3, 11, -1, -1, -1, -1, -1);
    const __m256i b  = _mm256_setr_epi8(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, -1, -1,
                                        -1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, -1, -1);

    return _mm256_or_si256(_mm256_shuffle_epi8(red_green, rg), _mm256_shuffle_epi8(blue, b));
}

AVX2 static inline void store_halves(uint8_t *to, int64_t gap, __m256i pixels)
{
    _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(pixels));
    _mm_storeu_si128((__m128i *)(to + gap), _mm256_extracti128_si256(pixels, 1));
}

/* `deep` is a constant where it is used. */
AVX2 static inline int64_t rows(const kd_yuv *yuv, uint8_t *rgb, const kd_yuv_samples *from,
                                int64_t n, bool deep)
{
    const __m256i luma = two_weights(yuv->luma, 0);
    int64_t       x = 0, bytes = deep ? 2 : 1;

    for (; x + STEP + 2 <= n; x += STEP, rgb += 3 * STEP) { /* four bytes more are written */
        const uint8_t *at    = from->luma + x * bytes;
        __m256i        low   = _mm256_madd_epi16(luma_samples(at, deep), luma);
        __m256i        high  = _mm256_madd_epi16(luma_samples(at + STEP / 2 * bytes, deep), luma);
        __m256i        pairs = chroma_pairs(from, x, deep);
        __m256i        red   = colour_of(pairs, low, high, yuv, 0);
        __m256i        green = colour_of(pairs, low, high, yuv, 1);
        __m256i        blue  = colour_of(pairs, low, high, yuv, 2);

        red  = _mm256_packus_epi16(red, green);
        blue = _mm256_packus_epi16(blue, blue);
        store_halves(rgb, 12, four_pixels(red, blue));
        red  = _mm256_srli_epi64(red, 32);
        blue = _mm256_srli_epi64(blue, 32);
        store_halves(rgb + 24, 12, four_pixels(red, blue));
    }
    return x;
}

AVX2 int64_t kd_yuv_row_avx2(const kd_yuv *yuv, uint8_t *rgb, const kd_yuv_samples *from, int64_t n)
{
    return yuv->deep ? rows(yuv, rgb, from, n, true) : rows(yuv, rgb, from, n, false);
}

#else

int64_t kd_yuv_row_avx2(const kd_yuv *yuv, uint8_t *rgb, const kd_yuv_samples *from, int64_t n)
{
    (void)yuv, (void)rgb, (void)from, (void)n;
    return 0;
}
#endif
