/* augment.h - random flips and rotation, the same for a frame and its mask. */
#ifndef KD_AUGMENT_H
#define KD_AUGMENT_H
#include "base/base.h"

typedef struct kd_augment {
    bool   flip_x, flip_y;
    double cos, sin; /* of the rotation */
} kd_augment;

/* The dice for a frame in an epoch: two flips, and an angle uniform in +-rotation degrees. */
kd_augment kd_augment_draw(uint64_t seed, uint64_t epoch, uint64_t frame, double rotation);
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

#endif
