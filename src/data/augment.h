/* augment.h - random views of a frame: where its pixels come from, the same for frame and mask
 * (augment.c), and what happens to the frame's colours (colour.c). */
#ifndef KD_AUGMENT_H
#define KD_AUGMENT_H
#include "base/base.h"

/* What is drawn, as the members of kdas_loader_options say; all off: zeros, and scales, crop and
 * crop_aspect of 1. */
typedef struct kd_augment_rules {
    double rotation;
    double scale_min, scale_max;
    double crop, crop_aspect;
    double brightness, contrast, saturation, hue;
    double blur, cutout;
} kd_augment_rules;

/* One draw. Lengths are shares of the sides. */
typedef struct kd_augment {
    bool   flip_x, flip_y;
    double cos, sin;                                        /* of the rotation       */
    double zoom;                                            /* 1: none               */
    double crop_x, crop_y, crop_width, crop_height;         /* whole: 0, 0, 1, 1     */
    double brightness, contrast, saturation;                /* factors               */
    double hue;                                             /* turns                 */
    double blur;                                            /* sigma at 352 pixels, 0: none */
    double cutout_x, cutout_y, cutout_width, cutout_height; /* width 0: none        */
} kd_augment;

/* The draw of a view `view` in an epoch. Flips and rotation come first in the stream, and every other draw
 * is made whether it is used or not: switching one thing on leaves the others as they were. */
kd_augment kd_augment_draw(uint64_t seed, uint64_t epoch, uint64_t view,
                           const kd_augment_rules *rules);

/* Apply to a packed frame: rgb (height,width,3), bilinear, black where nothing is; mask
 * (height,width), nearest, 0 where nothing is. The picture may have been squeezed from another
 * shape: `aspect` is how much more it was shrunk across than down, and the rotation is then the
 * one in the picture's own shape. */
void kd_augment_apply(const kd_augment *augment, double aspect, int64_t width, int64_t height,
                      uint8_t *rgb, uint8_t *mask, const uint8_t *from_rgb,
                      const uint8_t *from_mask);
/* The same for a plane (height,width) of floats that goes with the frame: bilinear, `outside` where nothing is. */
void kd_augment_plane(const kd_augment *augment, double aspect, int64_t width, int64_t height,
                      float *to, const float *from, float outside);

/* ---- colour.c ---- */

/* Whether a draw does anything to colours. */
bool kd_colour_acts(const kd_augment *augment);

/* Colours, blur and cutout, in this order, of a frame in place: rgb (height,width,3). `from` is the frame
 * before geometry, of the same size: its mean is what contrast keeps and cutout shows. `scratch` has room
 * for 3 height width numbers; used where augment->blur is not 0. */
void kd_colour_apply(const kd_augment *augment, int64_t width, int64_t height, uint8_t *rgb,
                     const uint8_t *from, uint16_t *scratch);

#endif
