/* range.c - a range for the values of a histogram. */
#include <math.h>
#include "base/grid.h"
#include "quantize/histogram.h"

/* The value that stands for a bin. */
static float centre(const kd_histogram *h, int i)
{
    return ((float)(i - KD_BINS / 2) + 0.5f) * (h->reach / (KD_BINS / 2));
}

void kd_range_error(double *error, double *square, const kd_histogram *h, const float range[2],
                    float floor)
{
    kd_grid g = kd_grid_of(range);
    double  e = 0, s = 0;

    for (int i = 0; i < KD_BINS; i++) {
        double n = (double)h->bin[i], x, d;

        if (n == 0) continue;
        x = fmin(fmax(centre(h, i), h->low), h->high);
        s += n * x * x;
        if (x < floor) x = floor;
        d = kd_grid_round(&g, (float)x) - x;
        e += n * d * d;
    }
    if (error) *error = e;
    if (square) *square = s;
}

double kd_range_clipped(const kd_histogram *h, const float range[2], float floor)
{
    kd_grid  g    = kd_grid_of(range);
    float    low  = ((float)-g.zero - 0.5f) * g.scale;
    float    high = ((float)(255 - g.zero) + 0.5f) * g.scale;
    uint64_t out  = 0;

    for (int i = 0; i < KD_BINS; i++) {
        float x = fminf(fmaxf(centre(h, i), h->low), h->high);

        if (x > high || (x < low && low > floor)) out += h->bin[i];
    }
    return h->total ? (double)out / (double)h->total : 0;
}

/* ---- the least square error ---- */

enum { STEPS = 64 }; /* shares of the whole range that are tried at each end */

typedef struct search {
    const kd_histogram *h;
    float               low, high, floor; /* the whole range */
    float               best[2];
    double              least;
} search;

static void try_range(search *s, float low, float high)
{
    float  range[2] = { low, high };
    double error;

    kd_range_error(&error, NULL, s->h, range, s->floor);
    if (!(error < s->least)) return;
    s->least   = error;
    s->best[0] = low;
    s->best[1] = high;
}

/* First both ends together, then each by itself, until neither gets better. */
static void least_error(float range[2], search *s)
{
    double before;

    s->least = INFINITY;
    for (int i = STEPS; i > STEPS / 8; i--)
        try_range(s, s->low * (float)i / STEPS, s->high * (float)i / STEPS);
    do {
        float low = s->best[0], high;

        before = s->least;
        for (int i = STEPS; i > 0; i--)
            try_range(s, low, s->high * (float)i / STEPS);
        high = s->best[1];
        for (int i = STEPS; i > 0; i--)
            try_range(s, s->low * (float)i / STEPS, high);
    } while (s->least < before * 0.999);
    range[0] = s->best[0];
    range[1] = s->best[1];
}

void kd_choose_range(float range[2], const kd_histogram *h, const kd_range_rule *rule)
{
    search s = { .h     = h,
                 .low   = fmaxf(fminf(h->low, 0), rule->floor),
                 .high  = fmaxf(h->high, 0),
                 .floor = rule->floor };

    range[0] = s.low;
    range[1] = s.high;
    if (rule->method == KDAS_RANGE_PERCENTILE) {
        double q = (double)rule->percentile / 100;

        range[0] = fmaxf(fminf(kd_histogram_quantile(h, 1 - q), 0), s.low);
        range[1] = fmaxf(kd_histogram_quantile(h, q), 0);
    }
    if (rule->method == KDAS_RANGE_MSE) least_error(range, &s);
    if (range[1] - range[0] > 0) return;
    range[0] = s.low; /* a percentile may leave nothing but 0 */
    range[1] = s.high;
}
