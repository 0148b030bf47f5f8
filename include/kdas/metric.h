/* kdas/metric.h - the field's measures of a segmentation, for an image and for a set.
 *
 * A prediction is a map of probabilities p in 0..1, stored in 8 bits; a truth is a mask. Curves
 * are taken at the 256 thresholds 255/255, 254/255 .. 0/255: a pixel is positive where p >=
 * threshold. Figures of a set are means over its images; the max* figures are the largest value
 * of the set's mean curve. docs/metrics.md has the formulas, and a table of what each figure is
 * where mask or map is empty or full. In short: with an empty truth the Dice, IoU, sensitivity
 * and specificity curves and wFm are 0, while Sm, Em and mae judge the map alone, and dice@0.5
 * and iou@0.5 are 1 if the map is empty too. A truth without background has no specificity:
 * meanSpe and maxSpe are NaN, those of its set too. */
#ifndef KDAS_METRIC_H
#define KDAS_METRIC_H
#include <kdas/image.h>
KDAS_BEGIN

/* Figures, in the order of the field's table. */
typedef enum kdas_metric {
    KDAS_METRIC_MEAN_DICE = 0,  /* "meanDice": mean of the curve, then over images            */
    KDAS_METRIC_MEAN_IOU  = 1,  /* "meanIoU"                                                  */
    KDAS_METRIC_WFM       = 2,  /* "wFm": weighted F-measure                                  */
    KDAS_METRIC_SM        = 3,  /* "Sm": structure measure                                    */
    KDAS_METRIC_MEAN_EM   = 4,  /* "meanEm": enhanced-alignment measure                       */
    KDAS_METRIC_MAE       = 5,  /* "mae": mean absolute error; of this alone less is better   */
    KDAS_METRIC_MAX_EM    = 6,  /* "maxEm"                                                    */
    KDAS_METRIC_MAX_DICE  = 7,  /* "maxDice"                                                  */
    KDAS_METRIC_MAX_IOU   = 8,  /* "maxIoU"                                                   */
    KDAS_METRIC_MEAN_SEN  = 9,  /* "meanSen": sensitivity                                     */
    KDAS_METRIC_MAX_SEN   = 10, /* "maxSen": 1 where no truth is empty, thanks to threshold 0 */
    KDAS_METRIC_MEAN_SPE  = 11, /* "meanSpe": specificity                                     */
    KDAS_METRIC_MAX_SPE   = 12, /* "maxSpe"                                                   */
    KDAS_METRIC_DICE_50   = 13, /* "dice@0.5": at the one threshold 0.5                       */
    KDAS_METRIC_IOU_50    = 14  /* "iou@0.5"                                                  */
} kdas_metric;
/* Those that these headers name; a later library may have more: kdas_metric_name(). */
#define KDAS_METRICS 15

/* Name as printed, "meanDice". Static; NULL: no such metric. Any thread. Since 0.1. */
KDAS_API const char *kdas_metric_name(kdas_metric metric);
/* Metric of that name, or -1. Any thread. Since 0.1. */
KDAS_API int32_t kdas_metric_find(const char *name);

/* Collects the images of a set. It keeps their figures, not their pixels. */
typedef struct kdas_evaluator kdas_evaluator;

/* Make an evaluator without images. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_evaluator_create(kdas_evaluator **out, kdas_context *context);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_evaluator_destroy(kdas_evaluator *evaluator);
/* Forget all images (NULL: none). Since 0.1. */
KDAS_API void kdas_evaluator_reset(kdas_evaluator *evaluator);

/* Add an image: `prediction` GREY8 (the min-max normalised map times 255) and `truth` GREY8
 * (> 127 is polyp) of the same size, sides at most KDAS_IMAGE_MAX_SIDE. `name` (may be NULL) is
 * copied, for reports and sentences. Figures depend neither on the thread count nor, but for the
 * last digits of a mean, on the order of images. KDAS_ESHAPE (sizes differ), KDAS_EINVAL,
 * KDAS_ENOMEM; on failure nothing was added. Since 0.1. */
KDAS_API kdas_status kdas_evaluator_add(kdas_evaluator *evaluator, const char *name,
                                        const kdas_view *prediction, const kdas_view *truth);
/* Add an image of logits (height x width floats, already at the truth's size): sigmoid, then
 * min-max normalised over the image, (p - min) / (max - min + 1e-8), times 255, cut to 8 bits.
 * Logits that are all the same give an empty map. KDAS_ENUMERIC (a logit is NaN or infinite), and
 * as above. Since 0.1. */
KDAS_API kdas_status kdas_evaluator_add_logits(kdas_evaluator *evaluator, const char *name,
                                               const float *logits, const kdas_view *truth);

/* Images added (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_evaluator_count(const kdas_evaluator *evaluator);
/* How many of their truths were empty (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_evaluator_empty(const kdas_evaluator *evaluator);
/* Name of image `i`, "" if it has none; NULL out of range and for NULL. Valid until reset. Since 0.1. */
KDAS_API const char *kdas_evaluator_name(const kdas_evaluator *evaluator, int64_t i);
/* Figure of the whole set (i < 0) or of image i alone. KDAS_ESTATE without images, KDAS_EINVAL
 * (no such image or metric). Since 0.1. */
KDAS_API kdas_status kdas_evaluator_get(const kdas_evaluator *evaluator, int64_t i,
                                        kdas_metric metric, double *out);
KDAS_END
#endif
