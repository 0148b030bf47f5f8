/* resize_avx2.c - the 8-bit passes of the resize, eight 32-bit sums at a time. Sums of integers do
 * not depend on their order, so the bits are those of the plain loops in resize.c. */
#include "image/resize.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))

bool kd_has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2");
}

/* Four pixels of each of two rows, one in each half. */
AVX2 static inline __m256i four_pixels(const uint8_t *a, const uint8_t *b)
{
    __m256i pixels = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)a));

    return _mm256_inserti128_si256(pixels, _mm_loadu_si128((const __m128i *)b), 1);
}

/* 16-bit red, red, green, green, blue, blue, 0, 0 of pixels `at` and at + 1 in each half. */
AVX2 static __m256i pick_pair(int step, int at)
{
    int8_t pick[32];

    memset(pick, -128, sizeof pick); /* 0 */
    for (int c = 0; c < 3; c++)
        for (int k = 0; k < 2; k++) {
            int8_t from = (int8_t)((at + k) * step + c);

            pick[4 * c + 2 * k] = pick[16 + 4 * c + 2 * k] = from;
        }
    return _mm256_loadu_si256((const __m256i *)pick);
}

/* Two weights for every sum. */
AVX2 static inline __m256i two_weights(const int16_t *at)
{
    int32_t both;

    memcpy(&both, at, sizeof both);
    return _mm256_set1_epi32(both);
}

AVX2 static inline void store_pixel(uint8_t *to, __m128i bytes)
{
    int32_t pixel = _mm_cvtsi128_si32(bytes);

    memcpy(to, &pixel, sizeof pixel); /* its fourth byte is the next pixel's, which comes later */
}

AVX2 void kd_resize_rows_avx2(uint8_t *to[2], const uint8_t *const from[2], const kd_axis *axis,
                              int step)
{
    const __m256i  front = pick_pair(step, 0), back = pick_pair(step, 2);
    const int16_t *w = axis->split;

    for (int64_t x = 0; x < axis->inner; x++) {
        const uint8_t *a = from[0] + axis->first[x] * step, *b = from[1] + axis->first[x] * step;
        __m256i        high = _mm256_setzero_si256(), low = high, sum;

        for (int64_t k = 0; k < axis->fours; k++, a += 4 * step, b += 4 * step, w += 8) {
            __m256i pixels = four_pixels(a, b);
            __m256i p01    = _mm256_shuffle_epi8(pixels, front);
            __m256i p23    = _mm256_shuffle_epi8(pixels, back);

            high = _mm256_add_epi32(high, _mm256_madd_epi16(p01, two_weights(w)));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(p23, two_weights(w + 2)));
            low  = _mm256_add_epi32(low, _mm256_madd_epi16(p01, two_weights(w + 4)));
            low  = _mm256_add_epi32(low, _mm256_madd_epi16(p23, two_weights(w + 6)));
        }
        sum = _mm256_add_epi32(_mm256_slli_epi32(high, KD_RESIZE_SPLIT), low);
        sum = _mm256_add_epi32(sum, _mm256_set1_epi32(KD_RESIZE_HALF));
        sum = _mm256_srai_epi32(sum, KD_RESIZE_FRACTION);
        sum = _mm256_packus_epi32(sum, sum);
        sum = _mm256_packus_epi16(sum, sum); /* no more than 255 */
        store_pixel(to[0] + 3 * x, _mm256_castsi256_si128(sum));
        store_pixel(to[1] + 3 * x, _mm256_extracti128_si256(sum, 1));
    }
}

AVX2 int64_t kd_resize_column_avx2(uint8_t *to, const uint8_t *rows, int64_t n,
                                   const int32_t *weight, int32_t count)
{
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    int64_t       at       = 0;

    for (; at + 32 <= n; at += 32) {
        const uint8_t *p = rows + at;
        __m256i        sum[4], ab, cd;

        for (int i = 0; i < 4; i++)
            sum[i] = _mm256_set1_epi32(KD_RESIZE_HALF);
        for (int32_t k = 0; k < count; k++, p += n)
            for (int i = 0; i < 4; i++) {
                __m128i bytes = _mm_loadl_epi64((const __m128i *)(p + 8 * i));

                sum[i] = _mm256_add_epi32(sum[i], _mm256_mullo_epi32(_mm256_cvtepu8_epi32(bytes),
                                                                     _mm256_set1_epi32(weight[k])));
            }
        for (int i = 0; i < 4; i++)
            sum[i] = _mm256_srai_epi32(sum[i], KD_RESIZE_FRACTION);
        ab = _mm256_packus_epi32(sum[0], sum[1]);
        cd = _mm256_packus_epi32(sum[2], sum[3]);
        ab = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(ab, cd), in_order);
        _mm256_storeu_si256((__m256i *)(to + at), ab);
    }
    return at;
}

#else

bool kd_has_avx2(void) { return false; }

void kd_resize_rows_avx2(uint8_t *to[2], const uint8_t *const from[2], const kd_axis *axis,
                         int step)
{
    (void)to, (void)from, (void)axis, (void)step;
}

int64_t kd_resize_column_avx2(uint8_t *to, const uint8_t *rows, int64_t n, const int32_t *weight,
                              int32_t count)
{
    (void)to, (void)rows, (void)n, (void)weight, (void)count;
    return 0;
}
#endif
