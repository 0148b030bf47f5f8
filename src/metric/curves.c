/* curves.c - metrics computed from counts: overlap and E-measure at every threshold, mean error.
 *
 * A pixel is positive when p >= threshold. Going down the thresholds, the counts of true and false
 * positives only grow, so one walk over the tally gives all 256 points. */
#include "metric/metric.h"

/* The least value v with v / 255 >= threshold j. It is 255 - j in exact arithmetic, but the
 * field's thresholds are j * (-1/255) + 1 in double precision, rounded twice, and a quarter of
 * them come out just above (255 - j) / 255, where v = 255 - j does not reach them. Published
 * tables contain that. */
static int lowest_level(int j)
{
    volatile double product   = j * (-1.0 / 255); /* kept from fusing, which rounds once */
    double          threshold = j == KD_THRESHOLDS - 1 ? 0.0 : product + 1.0;
    int             v         = 255 - j;

    while (v < 255 && v / 255.0 < threshold)
        v++;
    return v;
}

/* Agreement of one kind of pixel: b and g less their means, aligned. */
static double alignment(double b, double g)
{
    double s = 2 * g * b / (g * g + b * b + KD_EPS) + 1;

    return s * s / 4;
}

/* E-measure of a binary map: there are four kinds of pixel, so the sum over pixels has four
 * terms. */
static double e_measure(int64_t pixels, int64_t tp, int64_t fp, int64_t fn, int64_t tn)
{
    double n = (double)pixels;
    double b = (double)(tp + fp) / n, g = (double)(tp + fn) / n;
    double sum;

    if (tp + fn == 0)
        sum = (double)tn;
    else if (tp + fn == pixels)
        sum = (double)tp;
    else
        sum = (double)tp * alignment(1 - b, 1 - g) + (double)fp * alignment(1 - b, -g) +
              (double)fn * alignment(-b, 1 - g) + (double)tn * alignment(-b, -g);
    return sum / (n - 1 + KD_EPS);
}

void kd_curves(double out[KD_CURVES][KD_THRESHOLDS], const kd_tally *tally)
{
    int64_t tp = 0, fp = 0;
    int     level = KD_LEVELS; /* values from here up are positive */

    for (int j = 0; j < KD_THRESHOLDS; j++) {
        int64_t fn, tn;
        double  overlap;

        for (int lowest = lowest_level(j); level > lowest;) {
            level--;
            tp += tally->count[1][level];
            fp += tally->count[0][level];
        }
        fn      = tally->polyp - tp;
        tn      = tally->pixels - tally->polyp - fp;
        overlap = (double)tp; /* without overlap the first four are 0 */

        out[KD_DICE][j] = tp ? 2 * overlap / (double)(2 * tp + fn + fp) : 0;
        out[KD_IOU][j]  = tp ? overlap / (double)(tp + fn + fp) : 0;
        out[KD_SEN][j]  = tp ? overlap / (double)(tp + fn) : 0;
        out[KD_SPE][j]  = tp ? (double)tn / (double)(tn + fp) : 0; /* NaN without background */
        out[KD_EM][j]   = e_measure(tally->pixels, tp, fp, fn, tn);
    }
}

double kd_mean_error(const kd_tally *tally)
{
    int64_t sum = 0;

    for (int v = 0; v < KD_LEVELS; v++)
        sum += v * tally->count[0][v] + (255 - v) * tally->count[1][v];
    return (double)sum / 255 / (double)tally->pixels;
}

void kd_overlap_at_half(double *dice, double *iou, const kd_tally *tally)
{
    int64_t tp = 0, fp = 0;

    for (int v = 128; v < KD_LEVELS; v++) { /* the first with v / 255 >= 0.5 */
        tp += tally->count[1][v];
        fp += tally->count[0][v];
    }
    *dice = *iou = 1;
    if (tally->polyp + fp == 0) return;
    *dice = 2 * (double)tp / (double)(tally->polyp + tp + fp);
    *iou  = (double)tp / (double)(tally->polyp + fp);
}
