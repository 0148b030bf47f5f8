/* metric.h - the metrics of one image, each computed from the smallest sufficient data.
 *
 * A prediction is a map p = value / 255, a truth is g = (value > 127). Most measures depend on how
 * many pixels of each class of the truth have each value, and on nothing else: the tally. Counts
 * are integers, so they are exact. */
#ifndef KD_METRIC_H
#define KD_METRIC_H
#include <kdas/metric.h>
#include "base/base.h"

#define KD_LEVELS     256     /* values of a pixel                                     */
#define KD_THRESHOLDS 256     /* 255/255, 254/255 .. 0/255                             */
#define KD_EPS        0x1p-52 /* double's epsilon; it guards divisions in the formulas */

/* A prediction and its truth, or a window of both: 8-bit, (H,W), strides in bytes. */
typedef struct kd_pair {
    const uint8_t *prediction, *truth;
    int64_t        width, height; /* 0 is an empty window                 */
    int64_t        prediction_stride, truth_stride;
} kd_pair;

static inline bool kd_is_polyp(uint8_t truth) { return truth > 127; }

/* ---- tally.c ---- */

/* Pixels of each class (0 background, 1 polyp) by predicted value, and where the polyp lies. */
typedef struct kd_tally {
    int64_t count[2][KD_LEVELS];
    int64_t pixels, polyp; /* all; those of class 1                      */
    int64_t rows, columns; /* sums of the polyp's row and column numbers */
} kd_tally;
void kd_tally_make(kd_tally *out, const kd_pair *pair);

/* Sum of p and of p * p over a class, in units of 1/255 and 1/255^2. */
typedef struct kd_moments {
    int64_t n, sum, squares;
} kd_moments;
kd_moments kd_tally_moments(const kd_tally *tally, int class);
/* n^2 times the variance in units of 1/255^2, without rounding. */
double kd_moments_spread(kd_moments m);

/* ---- curves.c ---- */

/* Metrics that depend on the threshold. */
typedef enum kd_curve { KD_DICE, KD_IOU, KD_SEN, KD_SPE, KD_EM, KD_CURVES } kd_curve;
/* Metrics of one number per image. */
typedef enum kd_plain { KD_WFM, KD_SM, KD_MAE, KD_DICE_50, KD_IOU_50, KD_PLAINS } kd_plain;

/* (curve, threshold); entry j is the metric at threshold (255 - j) / 255. */
void   kd_curves(double out[KD_CURVES][KD_THRESHOLDS], const kd_tally *tally);
double kd_mean_error(const kd_tally *tally);
/* Dice and IoU at the one threshold 0.5; 1 where prediction and truth are both empty. */
void kd_overlap_at_half(double *dice, double *iou, const kd_tally *tally);

/* ---- s_measure.c ---- */
double kd_s_measure(const kd_pair *pair, const kd_tally *tally);

/* ---- distance.c: exact Euclidean distance to the polyp, and its nearest pixel ---- */

#define KD_NONE (-1)

/* For every pixel the nearest polyp row in its own column, or KD_NONE, into rows (H,W); of two as
 * near the upper one. below (W) is scratch. Sides are at most KDAS_IMAGE_MAX_SIDE. */
void kd_nearest_rows(int16_t *rows, int16_t *below, const kd_pair *pair);
/* For each pixel of row `y`, given that map's row `rows` (W): the column of the nearest polyp
 * pixel, into columns (W); its row is rows[column]; and the squared distance, into squares (W).
 * Of several as near the leftmost, then the upper one. sites (W) is scratch. There is at least
 * one polyp pixel. */
void kd_nearest_in_row(int32_t *columns, int32_t *squares, int32_t *sites, const int16_t *rows,
                       int64_t y, int64_t width);

/* ---- weighted_f.c ---- */
/* Takes scratch memory: KDAS_ENOMEM. 0 for an empty truth. */
kdas_status kd_weighted_f(double *out, kdas_context *ctx, const kd_pair *pair,
                          const kd_tally *tally);

#endif
