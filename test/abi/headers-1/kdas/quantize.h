/* kdas/quantize.h - calibration: from a trained network to one on 8-bit grids, without training. */
#ifndef KDAS_QUANTIZE_H
#define KDAS_QUANTIZE_H
#include <kdas/model.h>
KDAS_BEGIN

/* A calibrator chooses the ranges of a model on grids (kdas_model_options.quantize) by the values that
 * the network has on frames like those that it will see:
 *
 *     kdas_calibrator_create(&calibrator, model, NULL);
 *     for each batch: kdas_calibrator_add(calibrator, batch);
 *     kdas_calibrator_finish(calibrator);             the model's ranges are set
 *     kdas_calibrator_make(&best, calibrator);        a model in which the worst layers are wide
 *
 * docs/int8.md has the definitions. A calibrator copies the model's values when it is created and uses
 * no memory of its activations; it keeps a histogram for each range, and a few frames. It computes in
 * f32, whatever the context's precision. The model and its context must outlive it. Threads: those of
 * the context. */
typedef struct kdas_calibrator kdas_calibrator;

/* How a range is chosen from the values that it is for. GELU is 0 below about -4, so its range never
 * begins below that. */
typedef enum kdas_range_method {
    KDAS_RANGE_MIN_MAX    = 0, /* all values: nothing is cut off */
    KDAS_RANGE_PERCENTILE = 1, /* a share of the smallest and of the largest is cut off */
    KDAS_RANGE_MSE        = 2  /* that with the least square error of rounding and cutting off */
} kdas_range_method;

typedef struct kdas_calibrator_options {
    size_t  size;
    int32_t method;       /* a kdas_range_method; default KDAS_RANGE_MSE */
    float   percentile;   /* of KDAS_RANGE_PERCENTILE, above 50 to 100: the range has the values
                           from 100 - percentile to percentile per cent. Default 99.99 */
    int32_t least_frames; /* kdas_calibrator_finish() refuses fewer; 1 on. Default 16 */
    /* Frames of the first batches that are kept to measure output errors, 0 to 64; 0: those are NaN,
     * and no layer becomes wide. Each layer costs a run of them. Default 4 */
    int32_t probe_frames;
    /* Layers whose output error is above this are kept wide, the worst first, at most `most_wide` of
     * them. Defaults 0.05, 0 */
    float   wide_error;
    int32_t most_wide;
} kdas_calibrator_options;
/* Write the defaults; pass sizeof *options. Since 0.4. */
KDAS_API void kdas_calibrator_options_init(kdas_calibrator_options *options, size_t size);

/* Create a calibrator of a model on grids. Ranges that the model has already play no part. `options`
 * may be NULL (defaults). KDAS_EINVAL (range; a model that is not on grids, or has no layer that could
 * be), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_calibrator_create(kdas_calibrator **out, kdas_model *model,
                                            const kdas_calibrator_options *options);
/* NULL is fine. Since 0.4. */
KDAS_API void kdas_calibrator_destroy(kdas_calibrator *calibrator);

/* Run the network on the batch's images, (N,H,W,3), and count the values before each grid. The batch
 * is not kept. Neither order nor division into batches matters for the ranges. If it fails, the batch
 * does not count. KDAS_EINVAL, KDAS_ESHAPE, KDAS_ENUMERIC (a NaN or an infinity in the images, or one
 * that the network makes of them: the message names the layer), KDAS_ENOMEM, KDAS_ECANCELLED.
 * Since 0.4. */
KDAS_API kdas_status kdas_calibrator_add(kdas_calibrator *calibrator, kdas_batch *batch);
/* Add the first `limit` frames of a dataset (0: all), resized to height x width as a loader does
 * without augmentation; both 0: the size that the weights were trained for (kdas_model_input_size).
 * Masks are not needed. If it fails, the frames before count; the message names the frame. As
 * kdas_calibrator_add() and kdas_dataset_get(), and KDAS_EINVAL (limit). Since 0.4. */
KDAS_API kdas_status kdas_calibrator_add_dataset(kdas_calibrator *calibrator, kdas_dataset *dataset,
                                                 int64_t height, int64_t width, int64_t limit);
/* Number of frames so far (NULL: 0). Since 0.4. */
KDAS_API int64_t kdas_calibrator_frames(const kdas_calibrator *calibrator);

/* Choose the ranges, measure the errors, and set the model's ranges. May be called again after more
 * batches. On failure the model is unchanged. KDAS_EINVAL (NULL; wide_error and most_wide leave no layer
 * with weights on a grid), KDAS_ESTATE (fewer frames than least_frames),
 * KDAS_ENUMERIC (the input of a layer has one value everywhere, so it has no range: the message names
 * the layer), KDAS_ENOMEM, KDAS_ECANCELLED. Since 0.4. */
KDAS_API kdas_status kdas_calibrator_finish(kdas_calibrator *calibrator);
/* Make the calibrated model: like the calibrator's, with its present values and facts, the layers of
 * kdas_calibrator_wide() off grids, and the ranges of the others. KDAS_ESTATE (not finished),
 * KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_calibrator_make(kdas_model **out, const kdas_calibrator *calibrator);
/* The layers that should be wide, as in kdas_model_options.wide: the model's, and those that the last
 * kdas_calibrator_finish() chose. Valid until the next. NULL for NULL. Since 0.4. */
KDAS_API const char *kdas_calibrator_wide(const kdas_calibrator *calibrator);

/* A layer on a grid. Errors are relative: the root of the mean square of the change over that of the
 * values. */
typedef struct kdas_calibrated_layer {
    size_t      size;      /* set it to sizeof before the call */
    const char *name;      /* as in kdas_model_options.wide; valid while the calibrator lives */
    const char *grid;      /* the layer that has the range; another one where two read one value */
    float       low, high; /* the range; the grid's own begins and ends at or beyond 0 */
    int32_t     wide;      /* 1: kdas_calibrator_make() keeps it off grids */
    int32_t     reserved;  /* 0 */
    double      clipped;   /* share of the values that lie further out than rounding moves any */
    double      input_error;  /* of the input: rounded and cut off */
    double      weight_error; /* of the rounded weights; 0: it has none (GELU) */
    /* Of the network's answer, if this layer alone, with its range, is rounded: the sigmoid of the sum
     * of its maps, or the outputs of a network without maps. NaN without probe frames. */
    double output_error;
} kdas_calibrated_layer;
/* Number of layers on grids, in the order in which they run; known from the start (NULL: 0).
 * Since 0.4. */
KDAS_API int32_t kdas_calibrator_layers(const kdas_calibrator *calibrator);
/* Read layer `i`, from 0, as the last kdas_calibrator_finish() found it. KDAS_EINVAL (NULL, or size not
 * set), KDAS_ENOTFOUND (past the last), KDAS_ESTATE (not finished). Since 0.4. */
KDAS_API kdas_status kdas_calibrator_layer(const kdas_calibrator *calibrator, int32_t i,
                                           kdas_calibrated_layer *out);
/* The error of the network's answer with all layers rounded, as kdas_calibrated_layer.output_error:
 * without and with the layers that finish chose to be wide. Either output may be NULL. KDAS_EINVAL,
 * KDAS_ESTATE (not finished). Since 0.4. */
KDAS_API kdas_status kdas_calibrator_error(const kdas_calibrator *calibrator, double *all,
                                           double *with_wide);

KDAS_END
#endif
