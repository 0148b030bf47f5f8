/* halves.c - see halves.h. */
#include "support/halves.h"
#include <math.h>

/* Binary formats by what defines them: bits of fraction, the exponent of the smallest normal number, the largest. */
typedef struct format {
    int    fraction, least;
    double largest;
} format;

static format format_of(int32_t dtype)
{
    return dtype == KDAS_F16 ? (format){ 10, -14, 65504 } : (format){ 7, -126, 0x1.FEp127 };
}

/* The exponent of a finite value's binade, at least that of the smallest normal one. */
static int exponent_of(double value, const format *f)
{
    int e;

    frexp(value, &e);
    return value == 0 || e - 1 < f->least ? f->least : e - 1;
}

float kd_test_round_half(float f, int32_t dtype)
{
    format t = format_of(dtype);
    double step, steps, below;

    if ((dtype != KDAS_BF16 && dtype != KDAS_F16) || !isfinite(f)) return f;
    step  = ldexp(1, exponent_of(f, &t) - t.fraction);
    steps = fabs((double)f) / step;
    below = floor(steps);
    if (steps - below > 0.5 || (steps - below == 0.5 && fmod(below, 2) == 1)) below++;
    return copysignf(below * step > t.largest ? INFINITY : (float)(below * step), f);
}

uint16_t kd_test_half_bits(float f, int32_t dtype)
{
    format   t    = format_of(dtype);
    uint16_t sign = signbit(f) ? 0x8000u : 0, infinite = dtype == KDAS_F16 ? 0x7c00u : 0x7f80u;
    int      e;
    double   steps;

    if (isnan(f)) return (uint16_t)(infinite | 1u << (t.fraction - 1));
    if (isinf(f)) return sign | infinite;
    e = exponent_of(f, &t);
    steps =
        ldexp(fabs((double)f), t.fraction - e); /* a leading one counts as a step of the exponent */
    return (uint16_t)(sign | (((unsigned)(e - t.least) << t.fraction) + (unsigned)steps));
}

float kd_test_half_value(uint16_t bits, int32_t dtype)
{
    format   t        = format_of(dtype);
    unsigned fraction = bits & ((1u << t.fraction) - 1), exponent = (bits & 0x7fffu) >> t.fraction;
    unsigned last = dtype == KDAS_F16 ? 31 : 255;
    double   value;

    if (exponent == last && fraction) return NAN;
    if (exponent == last)
        value = INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, t.least - t.fraction);
    else
        value = ldexp((double)(fraction + (1u << t.fraction)),
                      (int)exponent - 1 + t.least - t.fraction);
    return (float)copysign(value, bits & 0x8000u ? -1 : 1);
}
