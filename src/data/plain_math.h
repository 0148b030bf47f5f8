/* plain_math.h - sine and cosine from + - * alone, so that scenes and augmentation are the same
 * bits on every machine with IEEE arithmetic. Include it last: it keeps the file that includes it
 * from being compiled with fused multiply-adds, which round once where others round twice. */
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

#endif
