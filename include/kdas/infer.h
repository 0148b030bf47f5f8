/* kdas/infer.h - segmenting frames with a trained network: fixed size, nothing allocated after opening. */
#ifndef KDAS_INFER_H
#define KDAS_INFER_H
#include <kdas/model.h>
KDAS_BEGIN

typedef struct kdas_segmenter kdas_segmenter;

typedef struct kdas_segmenter_options {
    size_t  size;
    int64_t height, width; /* of the network's input, multiples of 32; default 352 x 352 */
    int64_t frame_height,
        frame_width; /* of the frames; 0 (default): of any size, the first of a size allocates */
    float threshold; /* polyp is where the probability is at least this, 0..1; default 0.5 */
} kdas_segmenter_options;
KDAS_API void kdas_segmenter_options_init(kdas_segmenter_options *options, size_t size);

/* Open for a polyp_pvt model, which must outlive it; new weights of the model are used from then on. Runs it
 * once, so that a backward of an earlier forward is lost. KDAS_EINVAL (a model without one-channel maps, range),
 * KDAS_ESHAPE (sides that 32 does not divide), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_create(kdas_segmenter **out, kdas_model *model,
                                           const kdas_segmenter_options *options);
KDAS_API void        kdas_segmenter_destroy(kdas_segmenter *segmenter); /* NULL is fine */

/* Logits P1 + P2 at the frame's size (height x width floats, bilinear, half-pixel). The frame is resized to the
 * network's size as kdas_batch_set does; of grey pixels all three colours are made. KDAS_EINVAL, KDAS_ESHAPE (a
 * frame of another size than stated), KDAS_ENUMERIC (weights that give NaN), KDAS_ECANCELLED. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_logits(kdas_segmenter *segmenter, const kdas_view *frame,
                                           float *out);
/* Mask at the frame's size, 0 and 255, one byte a pixel, rows `stride` bytes apart (0: packed). Since 0.1. */
KDAS_API kdas_status kdas_segmenter_mask(kdas_segmenter *segmenter, const kdas_view *frame,
                                         uint8_t *out, int64_t stride);
/* Probability times 255, rounded, likewise. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_probability(kdas_segmenter *segmenter, const kdas_view *frame,
                                                uint8_t *out, int64_t stride);
KDAS_END
#endif
