/* augment.h - random views of a frame: where its pixels come from, the same for frame and mask
 * (augment.c), and what happens to the frame's colours (colour.c). */
#ifndef KD_AUGMENT_H
#define KD_AUGMENT_H
#include "base/base.h"

/* The ranges of the draws, as in kdas_loader_options. With all off these are zeros, and scales,
 * crop and crop_aspect are 1. */
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

/* The draw of a view `view` in an epoch. Flips and rotation come first in the stream, and every
 * other draw is made even if it is not used. So enabling one option leaves the other draws
 * unchanged. */
kd_augment kd_augment_draw(uint64_t seed, uint64_t epoch, uint64_t view,
                           const kd_augment_rules *rules);

/* Apply to a packed frame: rgb (height,width,3), bilinear, black outside the frame; mask
 * (height,width), nearest, 0 outside the frame. `aspect` is the horizontal reduction of the resize
 * divided by the vertical one. The rotation is done in the original aspect ratio. */
void kd_augment_apply(const kd_augment *augment, double aspect, int64_t width, int64_t height,
                      uint8_t *rgb, uint8_t *mask, const uint8_t *from_rgb,
                      const uint8_t *from_mask);
/* The same for a plane (height,width) of floats of the frame: bilinear, `outside` beyond its
 * edges. */
void kd_augment_plane(const kd_augment *augment, double aspect, int64_t width, int64_t height,
                      float *to, const float *from, float outside);

/* ---- colour.c ---- */

/* Whether a draw does anything to colours. */
bool kd_colour_acts(const kd_augment *augment);

/* Colours, blur and cutout, in this order, of a frame in place: rgb (height,width,3). `from` is the
 * frame before geometry, of the same size: contrast keeps its mean, and cutout fills with it.
 * `scratch` has room for 3 height width numbers; used where augment->blur is not 0. */
void kd_colour_apply(const kd_augment *augment, int64_t width, int64_t height, uint8_t *rgb,
                     const uint8_t *from, uint16_t *scratch);

#endif
