/* winograd.h - Winograd's minimal filtering F(4x4, 3x3): 4x4 outputs of a 3x3 filter from 6x6 inputs with 36 products instead
 * of 144. With g the filter, d the inputs and y the outputs of one channel,
 *
 *     y = A' ((G g G') .* (B' d B)) A,    dg = G' ((A dy A') .* (B' d B)) G,
 *
 * where ' is the transpose and .* multiplies element by element (Lavin and Gray, arXiv 1509.09308). Sums over channels, or for dg
 * over tiles, are taken between the transforms: 36 matrix products.
 *
 * The matrices interpolate polynomials at the points 0, P, -P, Q, -Q and infinity. With the usual points 1 and 2 the rounding error in
 * f32 is four times that of a plain sum; with 3/4 and 3/2 it is twice (the coefficients are closer to one another, and exact in f32).
 * Each function below is one side of such a product, for a column or a row whose vectors are `step` apart. `out` may be the
 * input. */
#ifndef KD_WINOGRAD_H
#define KD_WINOGRAD_H
#include "backend/cpu/simd/simd.h"

enum { SIDE = 4, WINDOW = SIDE + 2, TAPS = WINDOW * WINDOW, FILTER = 3 };

#define P  0.75f
#define Q  1.5f
#define PP (P * P)
#define QQ (Q * Q)
/* The filter's share at each point: 1 over the product of the distances from the other points. */
#define AT_0 (1 / (PP * QQ))
#define AT_P (1 / (2 * PP * (PP - QQ)))
#define AT_Q (1 / (2 * QQ * (QQ - PP)))

/* B' d: 6 from 6. */
INLINE void to_points(vec *out, const vec *d, const int step)
{
    vec even_p = d[4 * step] - QQ * d[2 * step], odd_p = P * (d[3 * step] - QQ * d[step]);
    vec even_q = d[4 * step] - PP * d[2 * step], odd_q = Q * (d[3 * step] - PP * d[step]);
    vec first = d[4 * step] - (PP + QQ) * d[2 * step] + PP * QQ * d[0];
    vec last  = d[5 * step] - (PP + QQ) * d[3 * step] + PP * QQ * d[step];

    out[0]        = first;
    out[step]     = even_p + odd_p;
    out[2 * step] = even_p - odd_p;
    out[3 * step] = even_q + odd_q;
    out[4 * step] = even_q - odd_q;
    out[5 * step] = last;
}

/* A' m: 4 from 6. */
INLINE void from_points(vec *out, const vec *m, const int step)
{
    vec sum_p = m[step] + m[2 * step], less_p = P * (m[step] - m[2 * step]);
    vec sum_q = m[3 * step] + m[4 * step], less_q = Q * (m[3 * step] - m[4 * step]);

    out[0]        = m[0] + sum_p + sum_q;
    out[step]     = less_p + less_q;
    out[2 * step] = PP * sum_p + QQ * sum_q;
    out[3 * step] = PP * less_p + QQ * less_q + m[5 * step];
}

/* A dy: 6 from 4. */
INLINE void gradient_to_points(vec *out, const vec *y, const int step)
{
    vec even_p = y[0] + PP * y[2 * step], odd_p = P * (y[step] + PP * y[3 * step]);
    vec even_q = y[0] + QQ * y[2 * step], odd_q = Q * (y[step] + QQ * y[3 * step]);
    vec last = y[3 * step];

    out[0]        = y[0];
    out[step]     = even_p + odd_p;
    out[2 * step] = even_p - odd_p;
    out[3 * step] = even_q + odd_q;
    out[4 * step] = even_q - odd_q;
    out[5 * step] = last;
}

/* G g: 6 from 3. */
INLINE void filter_to_points(vec *out, const vec *g, const int step)
{
    vec even_p = AT_P * (g[0] + PP * g[2 * step]), odd_p = AT_P * P * g[step];
    vec even_q = AT_Q * (g[0] + QQ * g[2 * step]), odd_q = AT_Q * Q * g[step];
    vec last = g[2 * step];

    out[0]        = AT_0 * g[0];
    out[step]     = even_p + odd_p;
    out[2 * step] = even_p - odd_p;
    out[3 * step] = even_q + odd_q;
    out[4 * step] = even_q - odd_q;
    out[5 * step] = last;
}

/* G' u: 3 from 6. */
INLINE void filter_from_points(vec *out, const vec *u, const int step)
{
    vec sum_p = AT_P * (u[step] + u[2 * step]), less_p = AT_P * (u[step] - u[2 * step]);
    vec sum_q = AT_Q * (u[3 * step] + u[4 * step]), less_q = AT_Q * (u[3 * step] - u[4 * step]);

    out[0]        = AT_0 * u[0] + sum_p + sum_q;
    out[step]     = P * less_p + Q * less_q;
    out[2 * step] = PP * sum_p + QQ * sum_q + u[5 * step];
}

/* Both sides, in place, of a square that begins with `from` rows and columns and ends with `to`. Its rows are WINDOW vectors
 * apart. */
#define DEFINE_BOTH_SIDES(name, side, from, to)                  \
    INLINE void name(vec square[TAPS])                           \
    {                                                            \
        _Pragma("GCC unroll 6") for (int i = 0; i < (from); i++) \
            side(square + i, square + i, WINDOW);                \
        _Pragma("GCC unroll 6") for (int i = 0; i < (to); i++)   \
            side(square + i * WINDOW, square + i * WINDOW, 1);   \
    }
/* clang-format off */
DEFINE_BOTH_SIDES(square_to_points, to_points, WINDOW, WINDOW)
DEFINE_BOTH_SIDES(square_from_points, from_points, WINDOW, SIDE)
DEFINE_BOTH_SIDES(gradient_square_to_points, gradient_to_points, SIDE, WINDOW)
DEFINE_BOTH_SIDES(filter_square_to_points, filter_to_points, FILTER, WINDOW)
DEFINE_BOTH_SIDES(filter_square_from_points, filter_from_points, WINDOW, FILTER)
/* clang-format on */
#undef DEFINE_BOTH_SIDES

#endif
