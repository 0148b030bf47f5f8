/* frame.h - the pixels' side of segmenting, for frames of one size: a frame into the network's
 * input, and the network's map of logits into masks. Rows are shared out among the context's
 * threads; nothing is allocated after kd_frame_create. */
#ifndef KD_FRAME_H
#define KD_FRAME_H
#include "image/image.h"
#include "image/overlay.h"

typedef struct kd_frame kd_frame;

typedef struct kd_frame_sizes {
    int64_t height, width; /* of the frames */
    int64_t input_height, input_width;
    int64_t map_height, map_width;
} kd_frame_sizes;

/* `keep`: the last mask is kept and affects the next one (hysteresis). */
kdas_status kd_frame_create(kd_frame **out, kdas_context *ctx, const kd_frame_sizes *sizes,
                            bool keep);
void        kd_frame_destroy(kd_frame *frame); /* NULL is fine */
bool        kd_frame_fits(const kd_frame *frame, const kdas_view *view);
void        kd_frame_forget(kd_frame *frame); /* the last mask */

/* Resize and normalise a view of the size stated into (input_height,input_width,3) floats. */
void kd_frame_input(kd_frame *frame, float *input, const kdas_view *view);

/* From here on `map` is (map_height,map_width) logits, finite; what comes out has the frame's size.
 * Bilinear with half-pixel centres: first between two rows of the map, then along the row. */
void kd_frame_logits(kd_frame *frame, float *out, const float *map);
void kd_frame_probability(kd_frame *frame, uint8_t *out, int64_t stride, const float *map);

/* A pixel becomes polyp at a logit of `on` or more, and stays so, where the last mask is kept, down
 * to `off`, which is not above it. */
typedef struct kd_edges {
    float on, off;
    bool  hold; /* the last mask that is kept affects this one, and stays as it is */
} kd_edges;

void kd_frame_mask(kd_frame *frame, uint8_t *out, int64_t stride, const float *map, kd_edges edges);
/* The mask as a tint; the overlay's frame has the size stated. */
void kd_frame_overlay(kd_frame *frame, const kd_overlay *overlay, const float *map, kd_edges edges);

#endif
