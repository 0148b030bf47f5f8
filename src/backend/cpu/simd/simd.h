/* simd.h - the dialect that all kernels of this folder are written in; README.md explains it with an example.
 *
 * Each file is compiled once for each instruction set, with KD_ISA set to avx512, avx2 or plain and the compiler's flags to
 * match, and exports KD_SIMD(name): kd_<name>_<isa>. Everything else in the headers here is static, so that the linker
 * cannot replace a copy by one for another instruction set.
 *
 * KD_ISA bf16 (KD_HALF) is a fourth copy, for AVX-512 with BF16 instructions. Its activations have 16 bits: they are of type
 * `elem`, which is float in the other copies. Arithmetic is in f32 everywhere; parameters and statistics are float. num(x)
 * reads an element, set(x, value) writes one; load() and store() do so with a vector, of floats as well.
 *
 * KD_ISA vnni, avxvnni and avx2_int8 (KD_INT8) are copies of the files of integer nodes, int8_*.c, for AVX-512 VNNI, for
 * AVX-VNNI and for AVX2. Their elements are the numbers of a grid (base/grid.h), of type uint8_t. That for AVX2 (KD_WORDS)
 * multiplies words of 16 bits: products of bytes would saturate there.
 *
 * KD_ISA amx (KD_AMX) is the bf16 copy of the files with matrix products, which it computes with AMX tiles.
 *
 * Work is divided by part_begin(n, t, T): a range is cut into T parts, one for each thread of the device. Scratch belongs to
 * a part, not to the thread that happens to run it. So a result depends on the inputs and the thread count alone,
 * whichever thread runs which part. Parallel regions run on the context's threads: regions.h. */
#ifndef KD_SIMD_H
#define KD_SIMD_H
#include <immintrin.h>
#ifdef KD_AVX512_EMULATED
#include "backend/cpu/simd/avx512.h"
#endif
#include <math.h>
#include <string.h>
#include "backend/cpu/cpu.h"
#include "base/regions.h"

#define KD_JOIN_(name, isa) kd_##name##_##isa
#define KD_JOIN(name, isa)  KD_JOIN_(name, isa)
#define KD_SIMD(name)       KD_JOIN(name, KD_ISA)

#if defined(__AVX512F__) || defined(KD_AVX512_EMULATED)
#define KD_AVX512
#endif

/* Lanes of a vector; rows of a register tile of the matrix product, which leave registers for A and B. */
#if defined(KD_AVX512)
enum { LANES = 16, TILE_ROWS = 14 };
#elif defined(__AVX2__)
enum { LANES = 8, TILE_ROWS = 6 };
#else
enum { LANES = 4, TILE_ROWS = 5 };
#endif
typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
/* the same at any address */
typedef float loose_vec
    __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

/* The operand of an asm that reads and writes a vec. */
#ifdef KD_AVX512_EMULATED
#define IN_REGISTER "+m"
#else
#define IN_REGISTER "+v"
#endif

#define INLINE static inline __attribute__((always_inline, unused))

/* ---- elements ---- */

/* The upper half of a float's bits. */
typedef struct bf16 {
    uint16_t bits;
} bf16;

#ifdef KD_HALF
typedef bf16 elem;
enum { HALF = 1 };
#elif defined(KD_INT8)
typedef uint8_t elem;
enum { HALF = 0 };
#if !defined(KD_AVX512) && !defined(__AVXVNNI__)
#define KD_WORDS
#endif
#else
typedef float elem;
enum { HALF = 0 };
#endif
#define LINE ((int64_t)(64 / sizeof(elem))) /* elements of a cache line */

INLINE float from_bf16(bf16 v)
{
    uint32_t bits = (uint32_t)v.bits << 16;
    float    f;

    memcpy(&f, &bits, sizeof f);
    return f;
}
/* To nearest, ties to even; NaN stays NaN. */
INLINE bf16 to_bf16(float f)
{
    uint32_t bits, up;

    memcpy(&bits, &f, sizeof bits);
    up = bits + 0x7fffu + (bits >> 16 & 1u);
    up = (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : up;
    return (bf16){ (uint16_t)(up >> 16) };
}
INLINE float same_f(float f) { return f; }

#define num(x)        _Generic((x), bf16 : from_bf16, float : same_f)(x)
#define set(x, value) ((x) = _Generic((x), bf16 : to_bf16, float : same_f)(value))

INLINE vec  load_f(const float *p) { return *(const loose_vec *)p; }
INLINE void store_f(float *p, vec v) { *(loose_vec *)p = v; }
/* A streaming (non-temporal) store: p must be aligned to a whole vector. A large output is evicted before its reader comes;
 * streaming saves reading its lines in only to overwrite them. */
INLINE void stream_f(float *p, vec v)
{
#if defined(KD_AVX512)
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
    _mm256_stream_ps(p, (__m256)v);
#else
    _mm_stream_ps(p, (__m128)v);
#endif
}

#ifdef KD_HALF
INLINE vec load_h(const bf16 *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)p));

    return (vec)_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
INLINE __m256i halves(vec v) { return (__m256i)_mm512_cvtneps_pbh((__m512)v); }
INLINE void    store_h(bf16 *p, vec v) { _mm256_storeu_si256((__m256i_u *)p, halves(v)); }
INLINE void    stream_h(bf16 *p, vec v) { _mm256_stream_si256((__m256i *)p, halves(v)); }
#define BY_TYPE(p, f) \
    _Generic((p), const bf16 * : f##_h, bf16 * : f##_h, const float * : f##_f, float * : f##_f)
#else
#define BY_TYPE(p, f) f##_f
#endif
#define load(p)      BY_TYPE(p, load)(p)
#define store(p, v)  BY_TYPE(p, store)(p, v)
#define stream(p, v) BY_TYPE(p, stream)(p, v)

/* A fence: after streaming stores, before other threads read what was written. */
INLINE void stream_done(void) { _mm_sfence(); }
/* Should an output of `bytes` at p, in rows of `ld` elements, be streamed? */
INLINE bool streams(const kdas_device *device, const elem *p, int64_t ld, size_t bytes)
{
    return bytes > device->large && (uintptr_t)p % 64 == 0 && ld % LINE == 0;
}

/* load_some(p, whole, n), store_some(p, v, whole, n): a whole vector, or if not `whole`, its first n lanes; the other
 * lanes are loaded as zeros, and are not stored. */
#define DEFINE_SOME(type, letter)                                          \
    INLINE vec load_some_##letter(const type *p, bool whole, int64_t n)    \
    {                                                                      \
        type part[LANES] = { 0 };                                          \
                                                                           \
        if (whole) return load_##letter(p);                                \
        memcpy(part, p, (size_t)n * sizeof(type));                         \
        return load_##letter(part);                                        \
    }                                                                      \
    INLINE void store_some_##letter(type *p, vec v, bool whole, int64_t n) \
    {                                                                      \
        type part[LANES];                                                  \
                                                                           \
        if (whole) {                                                       \
            store_##letter(p, v);                                          \
            return;                                                        \
        }                                                                  \
        store_##letter(part, v);                                           \
        memcpy(p, part, (size_t)n * sizeof(type));                         \
    }
DEFINE_SOME(float, f)
#ifdef KD_HALF
DEFINE_SOME(bf16, h)
#endif
#undef DEFINE_SOME
#define load_some(p, whole, n)     BY_TYPE(p, load_some)(p, whole, n)
#define store_some(p, v, whole, n) BY_TYPE(p, store_some)(p, v, whole, n)

/* A loop over n elements, a vector at a time. It declares the index c of the vector's first element,
 * `left`, the number of elements from there to the end, and `whole`: all LANES of them exist. The body
 * is compiled twice, for whole vectors, where load_some() is a plain load, and for the last few elements. */
/* clang-format off */
#define EACH_VECTOR(c, left, whole, n)                                    \
    _Pragma("GCC unroll 2")                                               \
    for (int whole = 1; whole >= 0; whole--)                              \
        for (int64_t c = whole ? 0 : (n) / LANES * LANES, left = (n) - c; \
             left >= (whole ? LANES : 1); c += LANES, left -= LANES)
/* clang-format on */

/* v with zeros in the lanes past the row's end. */
INLINE vec masked(vec v, bool whole, int64_t left)
{
    for (int i = 0; !whole && i < LANES; i++)
        v[i] = i < left ? v[i] : 0;
    return v;
}

/* Lane by lane, the larger. */
INLINE vec max_v(vec a, vec b)
{
#if defined(KD_AVX512)
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return (vec)_mm_max_ps((__m128)a, (__m128)b);
#endif
}

/* Lane by lane, the smaller; the second where either is NaN. */
INLINE vec min_v(vec a, vec b)
{
#if defined(KD_AVX512)
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return (vec)_mm_min_ps((__m128)a, (__m128)b);
#endif
}

/* A value with the activation `post` (kdas_post) applied; a NaN stays a NaN. */
INLINE float post_f(float v, int32_t post)
{
    if (post == KDAS_POST_NONE) return v;
    if (post == KDAS_POST_RELU6 && v > 6) return 6;
    return v < 0 ? 0 : v;
}
/* The same of vectors, without a branch: their limits; a vector between them. */
typedef struct limits {
    vec low, high;
} limits;
INLINE limits limits_of(int32_t post)
{
    const vec zero = { 0 };

    return (limits){ zero + (post == KDAS_POST_NONE ? -INFINITY : 0),
                     zero + (post == KDAS_POST_RELU6 ? 6 : INFINITY) };
}
INLINE vec clamp_v(vec v, limits l) { return min_v(l.high, max_v(l.low, v)); }

#if defined(__AVX2__) && !defined(KD_AVX512)
/* The lower and the upper half of a vector. */
INLINE __m128 low_half(vec v) { return _mm256_castps256_ps128((__m256)v); }
INLINE __m128 high_half(vec v) { return _mm256_extractf128_ps((__m256)v, 1); }
#endif

/* The largest lane; below, the sum of all lanes. */
INLINE float lanes_max(vec v)
{
#if defined(KD_AVX512)
    return _mm512_reduce_max_ps((__m512)v);
#elif defined(__AVX2__)
    __m128 four = _mm_max_ps(low_half(v), high_half(v));
    __m128 two  = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
    float most = v[0];

    for (int i = 1; i < LANES; i++)
        most = v[i] > most ? v[i] : most;
    return most;
#endif
}
INLINE float lanes_sum(vec v)
{
#if defined(KD_AVX512)
    return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__)
    __m128 four = _mm_add_ps(low_half(v), high_half(v));
    __m128 two  = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    float sum = 0;

    for (int i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
#endif
}

/* ---- shapes ---- */

INLINE int64_t numel(const kdas_desc *d) { return d->dim[0] * d->dim[1] * d->dim[2] * d->dim[3]; }
/* Rows of C values: N H W of them. */
INLINE int64_t row_count(const kdas_desc *d) { return d->dim[0] * d->dim[1] * d->dim[2]; }
INLINE int64_t image_numel(const kdas_desc *d) { return d->dim[1] * d->dim[2] * d->dim[3]; }
INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
INLINE int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }

/* ---- work ---- */

/* The range 0 .. n-1 is divided into T parts: the first index of part t, which ends where part t+1
 * begins. */
INLINE int64_t part_begin(int64_t n, int64_t t, int64_t T) { return n * t / T; }
/* The same for single elements, in whole cache lines: no two threads write to one line. */
INLINE int64_t line_part_begin(int64_t n, int t, int T)
{
    int64_t at = part_begin((n + LINE - 1) / LINE, t, T) * LINE;

    return at < n ? at : n;
}

/* A loop over elements i of 0 .. n-1: each thread of the device has one part of whole cache lines, and the
 * compiler vectorises it. The body is one statement, or a block. */
/* clang-format off */
#define EACH_ELEMENT(i, n, device)                                     \
    _Pragma("omp parallel for schedule(static)")                       \
    for (int t_ = 0; t_ < (device)->threads; t_++)                     \
        _Pragma("omp simd")                                            \
        for (int64_t i = line_part_begin(n, t_, (device)->threads);    \
             i < line_part_begin(n, t_ + 1, (device)->threads); i++)
/* clang-format on */

/* Bytes of n values, rounded up to whole cache lines: the sizes that bump_alloc() is called with. */
INLINE size_t float_bytes(int64_t n) { return ((size_t)n * sizeof(float) + 63) & ~(size_t)63; }
INLINE size_t elem_bytes(int64_t n) { return ((size_t)n * sizeof(elem) + 63) & ~(size_t)63; }
INLINE size_t double_bytes(int64_t n) { return ((size_t)n * sizeof(double) + 63) & ~(size_t)63; }
/* Bump-allocate: returns *at and moves it by `bytes`. */
INLINE void *bump_alloc(void **at, size_t bytes)
{
    void *taken = *at;

    *at = (char *)*at + bytes;
    return taken;
}

/* x += value where `add`, else x = value: what gradients need. x is an element or a float. */
#define accumulate(x, value, add)     \
    do {                              \
        if (add)                      \
            set(x, num(x) + (value)); \
        else                          \
            set(x, value);            \
    } while (0)

/* How results are written: over what was there, added to it, or streamed (set, past the caches: where
 * streams() allows it). */
typedef enum store_mode { SET, ADD, STREAM } store_mode;
INLINE store_mode store_mode_of(bool add) { return add ? ADD : SET; }

/* Does backward add to din[i], rather than set it? */
INLINE bool adds(const kdas_call *call, int i) { return call->add >> i & 1; }

/* out (n) += `parts` rows of `part`, `ld` floats apart. The order is fixed, so the bits are the same every time. */
static void __attribute__((unused))
add_parts(float *out, const float *part, int64_t n, int64_t ld, int parts)
{
#pragma omp parallel for schedule(static) if (n * parts > 16384)
    for (int64_t b = 0; b < n; b += 256) {
        int64_t end = b + 256 < n ? b + 256 : n;

        for (int t = 0; t < parts; t++)
#pragma omp simd
            for (int64_t i = b; i < end; i++)
                out[i] += part[t * ld + i];
    }
}

#ifndef KD_INT8
/* sum (n) += the rows of dy (rows,n): the gradient of a bias. */
static void __attribute__((unused)) add_columns(float *sum, const elem *dy, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++)
#pragma omp simd
        for (int64_t o = 0; o < n; o++)
            sum[o] += num(dy[r * n + o]);
}
#endif

#endif
