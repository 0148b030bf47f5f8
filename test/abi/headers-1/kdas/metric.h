/* kdas/metric.h - segmentation metrics, for one image and for a set.
 *
 * A prediction is a map of probabilities p in 0..1, stored in 8 bits. A truth is a mask. Curves are
 * taken at the 256 thresholds 255/255, 254/255 .. 0/255; a pixel is positive if p >= threshold.
 * A metric of a set is its mean over the images. A max* metric is the largest value of the set's
 * mean curve.
 *
 * Empty and full masks: with an empty truth, the Dice, IoU, sensitivity and specificity curves and
 * wFm are 0; Sm, Em and mae depend on the map alone; dice@0.5 and iou@0.5 are 1 if the map is empty
 * too. With a truth without background, specificity is undefined: meanSpe and maxSpe are NaN, for
 * the image and for its set. docs/metrics.md has the formulas and all such cases. */
#ifndef KDAS_METRIC_H
#define KDAS_METRIC_H
#include <kdas/image.h>
#include <kdas/ranks.h>
KDAS_BEGIN

/* Metrics, in the order of published result tables. */
typedef enum kdas_metric {
    KDAS_METRIC_MEAN_DICE = 0,  /* "meanDice": mean over the curve, then over images */
    KDAS_METRIC_MEAN_IOU  = 1,  /* "meanIoU" */
    KDAS_METRIC_WFM       = 2,  /* "wFm": weighted F-measure */
    KDAS_METRIC_SM        = 3,  /* "Sm": structure measure */
    KDAS_METRIC_MEAN_EM   = 4,  /* "meanEm": enhanced-alignment measure */
    KDAS_METRIC_MAE       = 5,  /* "mae": mean absolute error; the only one where less is better */
    KDAS_METRIC_MAX_EM    = 6,  /* "maxEm" */
    KDAS_METRIC_MAX_DICE  = 7,  /* "maxDice" */
    KDAS_METRIC_MAX_IOU   = 8,  /* "maxIoU" */
    KDAS_METRIC_MEAN_SEN  = 9,  /* "meanSen": sensitivity */
    KDAS_METRIC_MAX_SEN   = 10, /* "maxSen": 1 if no truth is empty, because of threshold 0 */
    KDAS_METRIC_MEAN_SPE  = 11, /* "meanSpe": specificity */
    KDAS_METRIC_MAX_SPE   = 12, /* "maxSpe" */
    KDAS_METRIC_DICE_50   = 13, /* "dice@0.5": at threshold 0.5 only */
    KDAS_METRIC_IOU_50    = 14  /* "iou@0.5" */
} kdas_metric;
/* Number of metrics in these headers. A newer library may have more; see kdas_metric_name(). */
#define KDAS_METRICS 15

/* Name as printed, "meanDice". Static; NULL if there is no such metric. Any thread. Since 0.1. */
KDAS_API const char *kdas_metric_name(kdas_metric metric);
/* Find a metric by name; -1 if there is none. Any thread. Since 0.1. */
KDAS_API int32_t kdas_metric_find(const char *name);

/* Accumulates the metrics of a set of images. It does not keep pixels. */
typedef struct kdas_evaluator kdas_evaluator;

/* Create an evaluator without images. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_evaluator_create(kdas_evaluator **out, kdas_context *context);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_evaluator_destroy(kdas_evaluator *evaluator);
/* Remove all images, and the mark. NULL is fine. Since 0.1. */
KDAS_API void kdas_evaluator_reset(kdas_evaluator *evaluator);
/* Mark the images added so far, before a set that may fail half-way. An evaluator has one mark, the
 * last; kdas_evaluate() and its like set it. Nothing is allocated. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_evaluator_mark(kdas_evaluator *evaluator);
/* Remove the images added since the mark, any number of times: the figures have the bits that they
 * had. KDAS_EINVAL, KDAS_ESTATE (no mark). Since 0.4. */
KDAS_API kdas_status kdas_evaluator_rollback(kdas_evaluator *evaluator);

/* Add an image. `prediction` is GREY8, the min-max normalised map times 255. `truth` is GREY8, >
 * 127 is polyp. Both have the same size, sides at most KDAS_IMAGE_MAX_SIDE. `name` (may be NULL) is
 * copied, for reports and error messages. Results do not depend on the thread count; the order of
 * images changes at most the last digits of a mean. KDAS_ESHAPE (sizes differ), KDAS_EINVAL,
 * KDAS_ENOMEM; on failure nothing is added. Since 0.1. */
KDAS_API kdas_status kdas_evaluator_add(kdas_evaluator *evaluator, const char *name,
                                        const kdas_view *prediction, const kdas_view *truth);
/* Add an image given as logits, height x width floats at the truth's size. They go through a
 * sigmoid, are min-max normalised over the image, (p - min) / (max - min + 1e-8), multiplied by 255
 * and truncated to 8 bits. Constant logits give an empty map. KDAS_ENUMERIC (a logit is NaN or
 * infinite) and the errors of kdas_evaluator_add(). Since 0.1. */
KDAS_API kdas_status kdas_evaluator_add_logits(kdas_evaluator *evaluator, const char *name,
                                               const float *logits, const kdas_view *truth);

/* Share the evaluator among ranks (NULL: no longer): kdas_evaluate() and its like then divide their
 * frames among them, are collective, and give each rank the whole table, with the bits of one process
 * alone. All ranks call it with the same images in their evaluators, such as none. They must outlive it
 * or its sharing. KDAS_EINVAL (ranks of another context), KDAS_ESTATE (images that were not gathered),
 * KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_evaluator_share(kdas_evaluator *evaluator, kdas_ranks *ranks);
/* The ranks that it is shared among; NULL: none. Since 0.4. */
KDAS_API kdas_ranks *kdas_evaluator_ranks(const kdas_evaluator *evaluator);
/* Put together the images that the ranks have added since the last call: on every rank those of rank 0
 * come first, then those of rank 1, and so on. For hosts that add images by themselves; without ranks
 * nothing happens. Collective. A mark needs gathered images. On failure, which all ranks share, the
 * images since the last call are removed. KDAS_EINVAL (NULL), KDAS_ENOMEM, KDAS_EBACKEND (a rank is
 * lost), KDAS_ESTATE (a forked child). Since 0.4. */
KDAS_API kdas_status kdas_evaluator_gather(kdas_evaluator *evaluator);

/* Number of images added (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_evaluator_count(const kdas_evaluator *evaluator);
/* Number of images whose truth was empty (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_evaluator_empty(const kdas_evaluator *evaluator);
/* Name of image `i`, "" if it has none; NULL out of range and for NULL. Valid until reset.
 * Since 0.1. */
KDAS_API const char *kdas_evaluator_name(const kdas_evaluator *evaluator, int64_t i);
/* Read a metric of the whole set (i < 0) or of image `i`. KDAS_ESTATE (no images), KDAS_EINVAL (no
 * such image or metric). Since 0.1. */
KDAS_API kdas_status kdas_evaluator_get(const kdas_evaluator *evaluator, int64_t i,
                                        kdas_metric metric, double *out);
KDAS_END
#endif
