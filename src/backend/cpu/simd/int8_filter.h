/* int8_filter.h - depthwise filters of integers, for int8_dwconv2d.c and int8_mix_ffn.c.
 *
 * Work goes by blocks of 4 LANES channels. Taps are taken four at a time: four vectors of bytes, one for each tap, are
 * interleaved into four vectors whose units have the four taps of one channel. Accumulator j then has channels 4 j .. 4 j + 3
 * of each 16: the per-channel arrays of a block are stored in that order, and narrowing restores the channels' own. */
#ifndef KD_INT8_FILTER_H
#define KD_INT8_FILTER_H
#include "backend/cpu/simd/gemm.h"

enum {
    FILTER_BLOCK = 4 * LANES,
    MOST_GROUPS  = 13
}; /* channels; groups of four taps: up to 7 x 7 */

/* A block's packed parameters: for each group its weights, then start sums, factors and offsets. */
typedef struct int8_filter {
    int64_t C, taps, groups;
    char   *packed;
} int8_filter;

INLINE int64_t filter_block_bytes(int64_t groups)
{
    return (groups + 3) * FILTER_BLOCK * (int64_t)sizeof(float);
}
INLINE int8_filter int8_filter_at(void **at, int64_t C, int64_t taps)
{
    int8_filter f = { C, taps, ceil_div(taps, UNIT_DEPTH), *at };

    bump_alloc(at, (size_t)(ceil_div(C, FILTER_BLOCK) * filter_block_bytes(f.groups)));
    return f;
}
/* Of the block that channel c begins. */
INLINE char *filter_block(const int8_filter *f, int64_t c)
{
    return f->packed + c / FILTER_BLOCK * filter_block_bytes(f->groups);
}

/* Where channel c of a block is among its lanes. */
INLINE int64_t filter_lane(int64_t c) { return c % 16 / 4 * LANES + c / 16 * 4 + c % 4; }

/* `q`: room for the taps of a channel. */
static void __attribute__((unused))
int8_filter_fill(int8_filter *f, const float *w, const float *b, const kd_grid *x,
                 const kd_grid *out, int8_t *q)
{
    memset(f->packed, 0, (size_t)(ceil_div(f->C, FILTER_BLOCK) * filter_block_bytes(f->groups)));
    for (int64_t c = 0; c < f->C; c++) {
        char    *block  = filter_block(f, c);
        int64_t  lane   = filter_lane(c % FILTER_BLOCK);
        int32_t *start  = (int32_t *)(block + f->groups * FILTER_BLOCK * 4);
        float   *factor = (float *)start + FILTER_BLOCK, *offset = factor + FILTER_BLOCK;
        int32_t  sum;
        float    scale = kd_weights_to_grid(q, w + c * f->taps, f->taps, 1, &sum);

        for (int64_t t = 0; t < f->taps; t++)
            block[(t / 4 * FILTER_BLOCK + lane) * 4 + t % 4] = (char)q[t];
        start[lane] = -x->zero * sum;
        kd_requantise_channel(&factor[lane], &offset[lane], x, scale, b ? b[c] : 0, out);
    }
}

/* ---- vectors of bytes ---- */

#if defined(__AVX512F__)
typedef __m512i bytes;
INLINE bytes    load_bytes(const uint8_t *p, int64_t n)
{
    if (n >= FILTER_BLOCK) return _mm512_loadu_si512(p);
    return _mm512_maskz_loadu_epi8((1ull << n) - 1, p);
}
INLINE void store_bytes(uint8_t *p, bytes v, int64_t n)
{
    if (n >= FILTER_BLOCK)
        _mm512_storeu_si512(p, v);
    else
        _mm512_mask_storeu_epi8(p, (1ull << n) - 1, v);
}
INLINE void interleave(bytes v[4], bytes a, bytes b, bytes c, bytes d)
{
    bytes low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b),
          low2 = _mm512_unpacklo_epi8(c, d), high2 = _mm512_unpackhi_epi8(c, d);

    v[0] = _mm512_unpacklo_epi16(low, low2);
    v[1] = _mm512_unpackhi_epi16(low, low2);
    v[2] = _mm512_unpacklo_epi16(high, high2);
    v[3] = _mm512_unpackhi_epi16(high, high2);
}
INLINE vec dot(vec acc, bytes x, const char *w)
{
    return (vec)_mm512_dpbusd_epi32((__m512i)acc, x, _mm512_loadu_si512(w));
}
INLINE bytes narrow(const vec v[4])
{
    return _mm512_packus_epi16(
        _mm512_packus_epi32(_mm512_cvtps_epi32((__m512)v[0]), _mm512_cvtps_epi32((__m512)v[1])),
        _mm512_packus_epi32(_mm512_cvtps_epi32((__m512)v[2]), _mm512_cvtps_epi32((__m512)v[3])));
}
#else
typedef __m256i bytes;
INLINE bytes    load_bytes(const uint8_t *p, int64_t n)
{
    uint8_t part[FILTER_BLOCK] = { 0 };

    if (n >= FILTER_BLOCK) return _mm256_loadu_si256((const __m256i_u *)p);
    memcpy(part, p, (size_t)n);
    return _mm256_loadu_si256((const __m256i_u *)part);
}
INLINE void store_bytes(uint8_t *p, bytes v, int64_t n)
{
    uint8_t part[FILTER_BLOCK];

    if (n >= FILTER_BLOCK) {
        _mm256_storeu_si256((__m256i_u *)p, v);
        return;
    }
    _mm256_storeu_si256((__m256i_u *)part, v);
    memcpy(p, part, (size_t)n);
}
INLINE void interleave(bytes v[4], bytes a, bytes b, bytes c, bytes d)
{
    bytes low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b),
          low2 = _mm256_unpacklo_epi8(c, d), high2 = _mm256_unpackhi_epi8(c, d);

    v[0] = _mm256_unpacklo_epi16(low, low2);
    v[1] = _mm256_unpackhi_epi16(low, low2);
    v[2] = _mm256_unpacklo_epi16(high, high2);
    v[3] = _mm256_unpackhi_epi16(high, high2);
}
INLINE vec dot(vec acc, bytes x, const char *w)
{
    return (vec)_mm256_dpbusd_avx_epi32((__m256i)acc, x, _mm256_loadu_si256((const __m256i_u *)w));
}
INLINE bytes narrow(const vec v[4])
{
    return _mm256_packus_epi16(
        _mm256_packus_epi32(_mm256_cvtps_epi32((__m256)v[0]), _mm256_cvtps_epi32((__m256)v[1])),
        _mm256_packus_epi32(_mm256_cvtps_epi32((__m256)v[2]), _mm256_cvtps_epi32((__m256)v[3])));
}
#endif

/* ---- one output pixel ---- */

/* The requantised sums of the block that channel c begins, `n` channels of it, in the order of the lanes. tap[t]: channel 0
 * of tap t; those past the last may be any readable C bytes. */
INLINE void filter_sums(vec v[4], const int8_filter *f, const uint8_t *const *tap, int64_t c,
                        int64_t n, kd_requantise r, const int groups)
{
    const char  *block  = filter_block(f, c);
    const float *start  = (const float *)(block + groups * FILTER_BLOCK * 4);
    const float *factor = start + FILTER_BLOCK, *offset = factor + FILTER_BLOCK;

    for (int j = 0; j < 4; j++)
        v[j] = load_f(start + j * LANES);
    for (int g = 0; g < groups; g++, block += FILTER_BLOCK * 4, tap += 4) {
        bytes x[4];

        interleave(x, load_bytes(tap[0] + c, n), load_bytes(tap[1] + c, n),
                   load_bytes(tap[2] + c, n), load_bytes(tap[3] + c, n));
        for (int j = 0; j < 4; j++)
            v[j] = dot(v[j], x[j], block + j * LANES * 4);
    }
    for (int j = 0; j < 4; j++) {
        v[j] = fma_v(sums_as_floats(v[j]), load_f(factor + j * LANES), load_f(offset + j * LANES));
        v[j] = min_v(max_v(v[j], (vec){ 0 } + r.low), (vec){ 0 } + r.high);
    }
}

/* A pixel's numbers, all channels. `groups` is a constant where this is inlined. */
INLINE void filter_pixel(uint8_t *to, const int8_filter *f, const uint8_t *const *tap,
                         kd_requantise r, const int groups)
{
    vec     v[4];
    int64_t c = 0;

    for (; c + FILTER_BLOCK <= f->C; c += FILTER_BLOCK) {
        filter_sums(v, f, tap, c, FILTER_BLOCK, r, groups);
        store_bytes(to + c, narrow(v), FILTER_BLOCK);
    }
    if (c == f->C) return;
    filter_sums(v, f, tap, c, f->C - c, r, groups);
    store_bytes(to + c, narrow(v), f->C - c);
}

#endif
