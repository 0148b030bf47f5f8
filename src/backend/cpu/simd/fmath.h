/* fmath.h - exp, expm1, log1p, the logistic function and the normal distribution without calls and branches, so that loops
 * with them are vectorised. Errors are a few units in the last place of f32. */
#ifndef KD_FMATH_H
#define KD_FMATH_H
#include "backend/cpu/simd/simd.h"

/* The Taylor series of (e^r - 1) / r and of e^r up to r^7, |r| <= ln 2 / 2; r is a float or a vec. */
#define EXPM1_SERIES(r)                                                           \
    (((((((1.98412698e-4f * (r) + 1.38888889e-3f) * (r) + 8.33333333e-3f) * (r) + \
         4.16666667e-2f) *                                                        \
            (r) +                                                                 \
        1.66666667e-1f) *                                                         \
           (r) +                                                                  \
       0.5f) *                                                                    \
          (r) +                                                                   \
      1.0f))
#define EXP_SERIES(r) (EXPM1_SERIES(r) * (r) + 1.0f)

/* e^x = 2^n e^r, n the integer nearest to x / ln 2. x is clamped to [-87.3, 88], where the result is 1e-38 and 1e38. */
INLINE float exp_f(float x)
{
    const float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    float       c        = x < -87.3f ? -87.3f : x > 88.0f ? 88.0f : x, n, r, p, scale;
    int32_t     exponent = (int32_t)(c * 1.44269504f + 127.5f);
    uint32_t    bits     = (uint32_t)exponent << 23; /* of 2^n */

    /* an integer subtraction: for float(int(y)) - 127 the compiler would call trunc() */
    n = (float)(int32_t)((uint32_t)exponent - 127u);
    r = (c - n * ln2_high) - n * ln2_low;
    p = EXP_SERIES(r);
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* e^x - 1, without cancellation near 0. */
INLINE float expm1_f(float x) { return fabsf(x) < 0.34f ? EXPM1_SERIES(x) * x : exp_f(x) - 1.0f; }

/* log(1 + x) for 0 <= x <= 1: 2 atanh(s) with s = x / (2 + x) <= 1/3. */
INLINE float log1p_f(float x)
{
    float s = x / (2.0f + x), q = s * s, p;

    p = 6.66666667e-2f;
    p = p * q + 7.69230769e-2f;
    p = p * q + 9.09090909e-2f;
    p = p * q + 1.11111111e-1f;
    p = p * q + 1.42857143e-1f;
    p = p * q + 0.2f;
    p = p * q + 3.33333333e-1f;
    return 2.0f * (s + s * q * p);
}

/* log(x) for normal x > 0: x = 2^n (1 + f) with 0 <= f < 1. */
INLINE float log_f(float x)
{
    int32_t bits, fraction;
    float   m;

    memcpy(&bits, &x, sizeof bits);
    fraction = (bits & 0x007fffff) | 0x3f800000;
    memcpy(&m, &fraction, sizeof m);
    return (float)((bits >> 23) - 127) * 0.693147181f + log1p_f(m - 1.0f);
}

/* 1 / (1 + e^-x), computed with e^-|x|, which does not overflow. */
INLINE float logistic_f(float x)
{
    float e = exp_f(-fabsf(x));

    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

/* log(1 + e^x) - x y: binary cross-entropy of logit x against y. */
INLINE float bce_f(float x, float y)
{
    return (x > 0 ? x : 0.0f) - x * y + log1p_f(exp_f(-fabsf(x)));
}

/* P and Q of normal_f, t a float or a vec. */
#define NORMAL_P(t)                                                                               \
    (((((2.21441451e-8f * (t) + 6.35603649e-6f) * (t) + 1.73833113e-4f) * (t) + 4.70715254e-3f) * \
          (t) +                                                                                   \
      3.43747983e-2f) *                                                                           \
         (t) +                                                                                    \
     3.98942222e-1f)
#define NORMAL_Q(t)                                                                              \
    (((((1.18014013e-6f * (t) + 7.50942154e-5f) * (t) + 1.9128828e-3f) * (t) + 2.89392687e-2f) * \
          (t) +                                                                                  \
      2.52830558e-1f) *                                                                          \
         (t) +                                                                                   \
     1.0f)

/* The normal distribution function as 1/2 + z P(z^2) / Q(z^2): a rational function fitted on [-5.6, 5.6] with an error
 * of 1e-8 before rounding. Outside it is 0 or 1 in f32. */
INLINE float normal_f(float x)
{
    float z = x < -5.6f ? -5.6f : x > 5.6f ? 5.6f : x, t = z * z;

    return 0.5f + z * NORMAL_P(t) / NORMAL_Q(t);
}

/* ---- on vectors ---- */

/* x clamped to +-limit; a NaN stays one. */
INLINE vec clamp(vec x, float limit)
{
    vec high = (vec){ 0 } + limit;
#if defined(KD_AVX512)
    return (vec)_mm512_min_ps((__m512)high, _mm512_max_ps((__m512)-high, (__m512)x));
#elif defined(__AVX2__)
    return (vec)_mm256_min_ps((__m256)high, _mm256_max_ps((__m256)-high, (__m256)x));
#else
    return (vec)_mm_min_ps((__m128)high, _mm_max_ps((__m128)-high, (__m128)x));
#endif
}

/* 2^x = 2^n 2^r, n the integer nearest to x, 2^r by a minimax polynomial of degree 5: relative error 1e-7 on [-1/2, 1/2].
 * x <= 127; below -126 the result is 2^-126 or less. */
INLINE vec exp2_v(vec x)
{
#if defined(KD_AVX512)
    vec n = (vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vec r = x - n;
#else
    typedef int32_t  ints __attribute__((vector_size(sizeof(vec))));
    typedef uint32_t words __attribute__((vector_size(sizeof(vec)))); /* a NaN gives the least integer, which wraps */
    vec              c = clamp(x, 126.0f), n, r;
    words            e = (words) __builtin_convertvector(c + 127.5f, ints);

    n = __builtin_convertvector((ints)(e - 127), vec);
    r = c - n;
#endif
    vec p = r * 1.32764719e-3f + 9.67554133e-3f;

    p = p * r + 5.55071327e-2f;
    p = p * r + 2.40221197e-1f;
    p = p * r + 6.93146967e-1f;
    p = p * r + 1.0f;
#if defined(KD_AVX512)
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return p * (vec)(e << 23);
#endif
}

/* For x of moderate magnitude: x / ln 2 is rounded. */
INLINE vec exp_v(vec x) { return exp2_v(x * 1.44269504f); }

/* The normal distribution function. In the bf16 copy 1/2 + z P(z^2), with an error of at most 3e-5 and no division. */
INLINE vec normal_v(vec x)
{
#ifdef KD_HALF
    vec z = clamp(x, 4.0f), t = z * z, p = t * -1.58078594e-9f + 1.21711088e-7f;

    p = p * t - 4.10086588e-6f;
    p = p * t + 8.06673876e-5f;
    p = p * t - 1.04820434e-3f;
    p = p * t + 9.66487399e-3f;
    p = p * t - 6.61753789e-2f;
    p = p * t + 3.9884751e-1f;
    return 0.5f + z * p;
#else
    vec z = clamp(x, 5.6f), t = z * z;

    return 0.5f + z * NORMAL_P(t) / NORMAL_Q(t);
#endif
}

#endif
