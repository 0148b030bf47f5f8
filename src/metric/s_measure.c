/* s_measure.c - structure measure: likeness of the object's values, and of four regions around
 * it.
 *
 * After Fan et al., "Structure-measure: a new way to evaluate foreground maps", ICCV 2017. Means
 * and variances come from integer sums, so a region of one value has a variance of exactly zero,
 * as the special cases of the region term presume. */
#include <math.h>
#include "metric/metric.h"

/* How uniformly high a class of pixels is, from its mean and standard deviation. */
static double object_likeness(double mean, double deviation)
{
    return 2 * mean / (mean * mean + 1 + deviation + KD_EPS);
}

static double object_part(const kd_tally *tally)
{
    kd_moments in = kd_tally_moments(tally, 1), out = kd_tally_moments(tally, 0);
    double     share = (double)in.n / (double)tally->pixels;
    double     n1 = 255 * (double)in.n, n0 = 255 * (double)out.n;
    double     object = object_likeness((double)in.sum / n1, sqrt(kd_moments_spread(in)) / n1);
    double     rest = object_likeness(1 - (double)out.sum / n0, sqrt(kd_moments_spread(out)) / n0);

    return share * object + (1 - share) * rest;
}

/* Structural similarity of prediction and truth within a region that has pixels. */
static double region_likeness(const kd_tally *tally)
{
    kd_moments in = kd_tally_moments(tally, 1), out = kd_tally_moments(tally, 0);
    kd_moments all = { in.n + out.n, in.sum + out.sum, in.squares + out.squares };
    double     n = (double)all.n, k = n * (n - 1 + KD_EPS);
    double     x = (double)all.sum / 255 / n, y = (double)in.n / n;
    double     xx    = kd_moments_spread(all) / (255 * 255) / k;
    double     yy    = (double)((__int128)in.n * out.n) / k; /* n * sum(g * g) - sum(g)^2 */
    double     xy    = (double)((__int128)all.n * in.sum - (__int128)all.sum * in.n) / 255 / k;
    double     alpha = 4 * x * y * xy, beta = (x * x + y * y) * (xx + yy);

    if (alpha != 0) return alpha / (beta + KD_EPS);
    return beta == 0 ? 1 : 0;
}

/* The four regions that meet at the polyp's centre, each weighted by its area. */
static double region_part(const kd_pair *pair, const kd_tally *tally)
{
    /* rint rounds halves to even, as NumPy does; the cut runs above and left of the centre */
    int64_t row    = (int64_t)rint((double)tally->rows / (double)tally->polyp);
    int64_t column = (int64_t)rint((double)tally->columns / (double)tally->polyp);
    double  sum    = 0;

    for (int part = 0; part < 4; part++) {
        int64_t  top = part & 2 ? row : 0, left = part & 1 ? column : 0;
        kd_pair  window = *pair;
        kd_tally inside;

        window.height = part & 2 ? pair->height - row : row;
        window.width  = part & 1 ? pair->width - column : column;
        window.prediction += top * pair->prediction_stride + left;
        window.truth += top * pair->truth_stride + left;
        if (window.width == 0 || window.height == 0) continue;
        kd_tally_make(&inside, &window);
        sum += region_likeness(&inside) * (double)inside.pixels / (double)tally->pixels;
    }
    return sum;
}

double kd_s_measure(const kd_pair *pair, const kd_tally *tally)
{
    kd_moments in = kd_tally_moments(tally, 1), out = kd_tally_moments(tally, 0);
    double     mean = (double)(in.sum + out.sum) / 255 / (double)tally->pixels;

    if (in.n == 0) return 1 - mean;
    if (out.n == 0) return mean;
    return fmax(0, 0.5 * object_part(tally) + 0.5 * region_part(pair, tally));
}
