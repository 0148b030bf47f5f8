/* plain_math.h - sine, cosine, exponential and logarithm from + - * / alone, so that scenes and
 * augmentation are the same bits on every machine with IEEE arithmetic. Include it last: it
 * disables fused multiply-adds in the file that includes it, since they round once where separate
 * operations round twice. */
#ifndef KD_PLAIN_MATH_H
#define KD_PLAIN_MATH_H
#include <stdint.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

/* sin(2 pi t); Taylor's series on a quarter turn, wrong by less than 1e-12. |t| < 2^31. */
static inline double kd_sin_turns(double t)
{
    double z, s;

    t -= (double)(int64_t)t; /* (-1, 1) */
    if (t > 0.5) t -= 1;
    if (t < -0.5) t += 1;
    if (t > 0.25) t = 0.5 - t;
    if (t < -0.25) t = -0.5 - t;
    t *= 6.283185307179586;
    z = t * t;
    s = 1 - z / 210 * (1 - z / 272);
    s = 1 - z / 72 * (1 - z / 110 * (1 - z / 156 * s));
    return t * (1 - z / 6 * (1 - z / 20 * (1 - z / 42 * s)));
}

static inline double kd_cos_turns(double t) { return kd_sin_turns(t + 0.25); }

/* e^x, |x| <= 50: Taylor's series on x/64, squared six times; wrong by less than 1e-12 of
 * itself. */
static inline double kd_plain_exp(double x)
{
    double t = x / 64, s = 1;

    for (int k = 18; k > 0; k--)
        s = 1 + t / k * s;
    for (int k = 0; k < 6; k++)
        s *= s;
    return s;
}

/* The natural logarithm of x, 1e-6 <= x <= 1e6, wrong by less than 1e-12: powers of two taken out,
 * then 2 atanh(z), z = (x - 1) / (x + 1). */
static inline double kd_plain_log(double x)
{
    double powers = 0, z, s = 0;

    for (; x > 1.5; x /= 2)
        powers += 1;
    for (; x < 0.75; x *= 2)
        powers -= 1;
    z = (x - 1) / (x + 1);
    for (int k = 23; k > 0; k -= 2)
        s = 1.0 / k + z * z * s;
    return 0.6931471805599453 * powers + 2 * z * s;
}

#endif
