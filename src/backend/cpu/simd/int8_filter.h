/* int8_filter.h - depthwise filters of integers, for int8_dwconv2d.c and int8_mix_ffn.c.
 *
 * Work goes by blocks of 4 LANES channels. Four neighbouring pixels of a row, a vector of bytes each, are interleaved into
 * four vectors, whose units have the four pixels of one channel: a group. Its product with a unit of weights adds up to four
 * taps of an output. With words, a block has 2 LANES channels, and a group two pixels in two vectors. Neighbouring outputs use
 * the same group with their taps at other places of the unit: a strip of `strip` outputs is computed at a time, from `groups`
 * groups of each row of the filter.
 * A block of fewer channels is filled with the neighbouring pixels, `pixels` of them: their outputs are computed together.
 *
 * Accumulator j has channels 4 j .. 4 j + 3 of each 4 GROUP: the per-channel arrays of a block are stored in that order, and
 * narrowing restores the channels' own. Rows are read past a block's last channel and past a strip's last pixel, where weights
 * are zero. */
#ifndef KD_INT8_FILTER_H
#define KD_INT8_FILTER_H
#include "backend/cpu/simd/gemm.h"

/* GROUP: pixels of a group, and vectors of a block. */
enum { GROUP = UNIT_DEPTH, FILTER_BLOCK = GROUP * LANES, MOST_FILTER_ROWS = 7, MOST_STRIP = 4 };
/* Outputs of a strip of a 3x3 filter, with stride 1 and 2. */
#ifdef KD_WORDS
enum { STRIP_OF_3 = 4, STRIP_OF_3_BY_2 = 2 };
#else
enum { STRIP_OF_3 = 1, STRIP_OF_3_BY_2 = 1 };
#endif

typedef struct int8_filter {
    int64_t C, kh, kw, stride, strip, groups, pixels;
    char   *packed; /* of each block: weights (kh, strip, groups), start sums, factors, offsets */
} int8_filter;

INLINE int64_t filter_units(const int8_filter *f) { return f->kh * f->strip * f->groups; }
INLINE int64_t filter_block_bytes(const int8_filter *f)
{
    return (filter_units(f) + 3) * FILTER_BLOCK * (int64_t)sizeof(float);
}
INLINE int64_t filter_strips(const int8_filter *f, int64_t width)
{
    return ceil_div(width, f->strip * f->pixels);
}
/* Bytes of a row that are read for `width` outputs, with the padding before it. */
INLINE int64_t filter_row_bytes(const int8_filter *f, int64_t width)
{
    int64_t pixels = filter_strips(f, width) * f->strip * f->pixels * f->stride + GROUP * f->groups;

    return round_up(pixels * f->C + FILTER_BLOCK, 64);
}

/* Its shape, and its place at *at, which is moved past it. */
INLINE int8_filter int8_filter_at(void **at, int64_t C, int64_t kh, int64_t kw, int64_t stride)
{
    int8_filter f = {
        .C = C, .kh = kh, .kw = kw, .stride = stride, .strip = 1, .pixels = 1, .packed = *at
    };

    if (stride == 1 && C <= FILTER_BLOCK / 2 && FILTER_BLOCK % C == 0)
        f.pixels = FILTER_BLOCK / C;
    else if (kw == 5)
        f.strip = stride == 1 ? 4 : stride == 2 ? 2 : 1;
    else if (kw == 3)
        f.strip = stride == 1 ? STRIP_OF_3 : stride == 2 ? STRIP_OF_3_BY_2 : 1;
    f.groups = ceil_div((f.strip - 1) * stride + kw, GROUP);
    bump_alloc(at, (size_t)(ceil_div(C, FILTER_BLOCK) * filter_block_bytes(&f)));
    return f;
}
/* Of the block that channel c begins. */
INLINE char *filter_block(const int8_filter *f, int64_t c)
{
    return f->packed + c / FILTER_BLOCK * filter_block_bytes(f);
}

/* Where channel c of a block is among its lanes. */
INLINE int64_t filter_lane(int64_t c)
{
    return c % (4 * GROUP) / 4 * LANES + c / (4 * GROUP) * 4 + c % 4;
}

/* The taps q of a channel, for each output of a strip. */
INLINE void put_taps(const int8_filter *f, b_weight *block, int64_t lane, const int8_t *q)
{
    for (int64_t i = 0; i < f->kh; i++)
        for (int64_t o = 0; o < f->strip; o++)
            for (int64_t j = 0; j < f->kw; j++) {
                int64_t pixel = o * f->stride + j;
                int64_t at    = (i * f->strip + o) * f->groups + pixel / GROUP;

                block[(at * FILTER_BLOCK + lane) * GROUP + pixel % GROUP] = q[i * f->kw + j];
            }
}

/* `q`: room for the taps of a channel. */
static void __attribute__((unused))
int8_filter_fill(int8_filter *f, const float *w, const float *b, const kd_grid *x,
                 const kd_grid *out, int8_t *q)
{
    int64_t taps = f->kh * f->kw;

    memset(f->packed, 0, (size_t)(ceil_div(f->C, FILTER_BLOCK) * filter_block_bytes(f)));
    for (int64_t c = 0; c < f->C; c++) {
        char   *block = filter_block(f, c);
        float   factor, offset;
        int32_t sum;
        float   scale = kd_weights_to_grid(q, w + c * taps, taps, 1, &sum);

        kd_requantise_channel(&factor, &offset, x, scale, b ? b[c] : 0, out);
        for (int64_t p = 0; p < f->pixels; p++) {
            int64_t  lane  = filter_lane((c + p * f->C) % FILTER_BLOCK);
            int32_t *start = (int32_t *)(block + filter_units(f) * FILTER_BLOCK * sizeof(unit));

            put_taps(f, (b_weight *)block, lane, q);
            start[lane]                               = -x->zero * sum;
            ((float *)start)[FILTER_BLOCK + lane]     = factor;
            ((float *)start)[2 * FILTER_BLOCK + lane] = offset;
        }
    }
}

/* ---- vectors of bytes ---- */

#if defined(KD_AVX512)
typedef __m512i bytes;
INLINE bytes    load_bytes(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE void     store_bytes(uint8_t *p, bytes v, int64_t n)
{
    if (n >= FILTER_BLOCK)
        _mm512_storeu_si512(p, v);
    else
        _mm512_mask_storeu_epi8(p, (1ull << n) - 1, v);
}
/* The group of the pixels from p on, `next` bytes apart. */
INLINE void load_group(bytes v[GROUP], const uint8_t *p, int64_t next)
{
    bytes a = load_bytes(p), b = load_bytes(p + next), c = load_bytes(p + 2 * next),
          d   = load_bytes(p + 3 * next);
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
/* To the nearest whole numbers, at least `low` >= 0; at most 255 is true already. */
INLINE bytes narrow(const vec v[4], int low)
{
    __m512i first =
        _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)v[0]), _mm512_cvtps_epi32((__m512)v[1]));
    __m512i second =
        _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)v[2]), _mm512_cvtps_epi32((__m512)v[3]));

    return _mm512_max_epu8(_mm512_packus_epi16(first, second), _mm512_set1_epi8((char)low));
}
#elif !defined(KD_WORDS)
typedef __m256i bytes;
INLINE bytes    load_bytes(const uint8_t *p) { return _mm256_loadu_si256((const __m256i_u *)p); }
INLINE void     store_bytes(uint8_t *p, bytes v, int64_t n)
{
    uint8_t part[FILTER_BLOCK];

    if (n >= FILTER_BLOCK) {
        _mm256_storeu_si256((__m256i_u *)p, v);
        return;
    }
    _mm256_storeu_si256((__m256i_u *)part, v);
    memcpy(p, part, (size_t)n);
}
INLINE void load_group(bytes v[GROUP], const uint8_t *p, int64_t next)
{
    bytes a = load_bytes(p), b = load_bytes(p + next), c = load_bytes(p + 2 * next),
          d   = load_bytes(p + 3 * next);
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
INLINE bytes narrow(const vec v[4], int low)
{
    __m256i first =
        _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)v[0]), _mm256_cvtps_epi32((__m256)v[1]));
    __m256i second =
        _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)v[2]), _mm256_cvtps_epi32((__m256)v[3]));

    return _mm256_max_epu8(_mm256_packus_epi16(first, second), _mm256_set1_epi8((char)low));
}
#else
typedef __m256i bytes; /* in words */
INLINE bytes    load_bytes(const uint8_t *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i_u *)p));
}
/* The lower half. */
INLINE void store_bytes(uint8_t *p, bytes v, int64_t n)
{
    uint8_t part[FILTER_BLOCK];
    __m128i half = _mm256_castsi256_si128(v);

    if (n >= FILTER_BLOCK) {
        _mm_storeu_si128((__m128i_u *)p, half);
        return;
    }
    _mm_storeu_si128((__m128i_u *)part, half);
    memcpy(p, part, (size_t)n);
}
INLINE void load_group(bytes v[GROUP], const uint8_t *p, int64_t next)
{
    bytes a = load_bytes(p), b = load_bytes(p + next);

    v[0] = _mm256_unpacklo_epi16(a, b);
    v[1] = _mm256_unpackhi_epi16(a, b);
}
INLINE vec dot(vec acc, bytes x, const char *w)
{
    __m256i products = _mm256_madd_epi16(x, _mm256_loadu_si256((const __m256i_u *)w));
    vec     sum      = (vec)_mm256_add_epi32((__m256i)acc, products);

    /* Else the compiler adds products to one another, and has all of them in memory until then. */
    __asm__("" : IN_REGISTER(sum));
    return sum;
}
/* Into the lower half. */
INLINE bytes narrow(const vec v[GROUP], int low)
{
    __m256i words =
        _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)v[0]), _mm256_cvtps_epi32((__m256)v[1]));
    __m256i twice = _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), 0x08);

    return _mm256_max_epu8(twice, _mm256_set1_epi8((char)low));
}
#endif

/* ---- a row of outputs ---- */

/* A block of one output, from the order of the lanes to the channels' own. n: its channels that exist. */
INLINE void store_block(char *to, const vec v[GROUP], c_type type, int64_t n, float low)
{
    float sorted[FILTER_BLOCK];
    char  stored[FILTER_BLOCK * sizeof(float)];

    if (type == C_NUMBERS) {
        store_bytes((uint8_t *)to, narrow(v, (int)low), n);
        return;
    }
    for (int64_t i = 0; i < FILTER_BLOCK; i++)
        sorted[i] = ((const float *)v)[filter_lane(i)];
    for (int64_t i = 0; i < FILTER_BLOCK; i += LANES)
        if (type == C_BF16)
            store_bf16((uint16_t *)stored + i, load_f(sorted + i));
        else
            store_f((float *)stored + i, load_f(sorted + i));
    memcpy(to, stored, (size_t)(n * c_size_of(type)));
}

/* The form of a filter, constants where these functions are inlined. */
typedef struct filter_form {
    int k, strip, groups, stride; /* k: rows and columns; 0: see the filter */
} filter_form;

/* Does output o of a strip read a pixel of group g? */
INLINE bool reads_group(const filter_form w, int o, int g)
{
    return !w.k || (g * GROUP < o * w.stride + w.k && (g + 1) * GROUP > o * w.stride);
}

/* The sums of a strip. `at`: of its first pixel and of the block in the rows. */
INLINE void strip_sums(vec acc[MOST_STRIP][GROUP], const char *block, const uint8_t *const *row,
                       int64_t at, int64_t C, const int kh, const filter_form w)
{
    for (int i = 0; i < kh; i++)
#pragma GCC unroll 4
        for (int g = 0; g < w.groups; g++) {
            bytes x[GROUP];

            load_group(x, row[i] + at + GROUP * g * C, C);
#pragma GCC unroll 4
            for (int o = 0; o < w.strip; o++)
#pragma GCC unroll 4
                for (int j = 0; j < GROUP; j++)
                    if (reads_group(w, o, g))
                        acc[o][j] = dot(acc[o][j], x[j],
                                        block + (((i * w.strip + o) * w.groups + g) * GROUP + j) *
                                                    LANES * 4);
        }
}

/* What requantises a block, in registers: stores of results might alias it in memory. */
typedef struct block_scale {
    vec factor[GROUP], offset[GROUP], low, high;
} block_scale;

INLINE block_scale load_scale(const float *factor, kd_requantise r)
{
    block_scale s = { .low = (vec){ 0 } + r.low, .high = (vec){ 0 } + r.high };

#pragma GCC unroll 4
    for (int j = 0; j < GROUP; j++) {
        s.factor[j] = load_f(factor + j * LANES);
        s.offset[j] = load_f(factor + FILTER_BLOCK + j * LANES);
    }
    return s;
}

/* The requantised block of an output. */
INLINE void requantise_block(vec v[GROUP], const block_scale *s, c_type type)
{
#pragma GCC unroll 4
    for (int j = 0; j < GROUP; j++) {
        v[j] = min_v(fma_v(sums_as_floats(v[j]), s->factor[j], s->offset[j]), s->high);
        if (type != C_NUMBERS) v[j] = max_v(v[j], s->low); /* else narrow() does it */
    }
}

/* A block of channels of a row: where its sums start, and how many of the block exist. */
typedef struct row_block {
    const char  *weights;
    const float *start;
    block_scale  scale;
    int64_t      c, n;
} row_block;

/* The strip from output x on: all of it, or if not `whole` the outputs before `width`. The compiler must not find a product that is
 * wanted only under a condition: it would compute each output after the others, with all products in memory. */
INLINE void filter_strip(char *to, const int8_filter *f, const row_block *b,
                         const uint8_t *const *row, int64_t x, const bool whole, int64_t width,
                         c_type type, float low, const int kh, const filter_form w)
{
    const int64_t size = c_size_of(type), C = f->C;
    vec           acc[MOST_STRIP][GROUP];

#pragma GCC unroll 4
    for (int o = 0; o < w.strip; o++)
#pragma GCC unroll 4
        for (int j = 0; j < GROUP; j++)
            acc[o][j] = load_f(b->start + j * LANES);
    strip_sums(acc, b->weights, row, x * w.stride * C + b->c, C, kh, w);
#pragma GCC unroll 4
    for (int o = 0; o < w.strip; o++) {
        requantise_block(acc[o], &b->scale, type);
        if (whole || x + o < width)
            store_block(to + ((x + o) * C + b->c) * size, acc[o], type, b->n, low);
    }
}

INLINE void filter_row_of(char *to, const int8_filter *f, const uint8_t *const *row, int64_t width,
                          c_type type, kd_requantise r, const int kh, const filter_form w)
{
    const int64_t pixels = f->pixels, step = w.strip * pixels;

    for (int64_t c = 0; c < f->C; c += FILTER_BLOCK) {
        const char  *weights = filter_block(f, c);
        const float *start = (const float *)(weights + kh * w.strip * w.groups * FILTER_BLOCK * 4);
        row_block    b     = { weights, start, load_scale(start + FILTER_BLOCK, r), c, f->C - c };
        int64_t      x     = 0;

        if (pixels > 1 || b.n > FILTER_BLOCK) b.n = FILTER_BLOCK;
        for (; x + step <= width; x += step)
            filter_strip(to, f, &b, row, x, true, width, type, r.low, kh, w);
        if (x == width) continue;
        if (pixels > 1) b.n = f->C * (width - x);
        filter_strip(to, f, &b, row, x, false, width, type, r.low, kh, w);
    }
}

/* `width` outputs of one row, dense. row[i]: row i of the filter, from the first pixel that output 0 reads. */
static void __attribute__((unused))
filter_row(char *to, const int8_filter *f, const uint8_t *const *row, int64_t width, c_type type,
           kd_requantise r)
{
    filter_form w    = { 0, (int)f->strip, (int)f->groups, (int)f->stride };
    int64_t     form = 100 * f->kh + 10 * f->strip + f->stride;

#define FORM(k, strip, groups, stride)                                    \
    case 100 * (k) + 10 * (strip) + (stride):                             \
        filter_row_of(to, f, row, width, C_NUMBERS, r, k,                 \
                      (filter_form){ (k), (strip), (groups), (stride) }); \
        return;
    switch (type == C_NUMBERS && f->kh == f->kw ? form : 0) {
#ifdef KD_WORDS
        FORM(3, 4, 3, 1)
        FORM(3, 2, 3, 2)
        FORM(5, 4, 4, 1)
        FORM(5, 2, 4, 2)
#else
        FORM(3, 1, 1, 1)
        FORM(3, 1, 1, 2)
        FORM(5, 4, 2, 1)
        FORM(5, 2, 2, 2)
#endif
    default: break;
    }
#undef FORM
    filter_row_of(to, f, row, width, type, r, (int)f->kh, w);
}

#endif
