/* overlay.h - masks shown on frames: a tint made ready once, then put on row by row. */
#ifndef KD_OVERLAY_H
#define KD_OVERLAY_H
#include "io/image.h"

typedef struct kd_tint {
    int     samples;    /* of a pixel                                       */
    int     colours;    /* of them not alpha                                */
    uint8_t to[3][256]; /* what becomes of each value of a sample, in order */
} kd_tint;

/* Check options and make a tint for pixels of a kind; `options` may be NULL. KDAS_EINVAL. */
kdas_status kd_tint_init(kd_tint *tint, const kdas_overlay_options *options, kdas_pixel pixel);
/* Tint `width` pixels where the mask is 128 or more. */
void kd_tint_row(const kd_tint *tint, uint8_t *pixels, const uint8_t *mask, int64_t width);
/* KDAS_EINVAL unless `frame`, already checked, can be shown in `out`. */
kdas_status kd_overlay_check(const kdas_view *frame, const void *out, int64_t stride,
                             const char *what);
/* Row y of `out`, with the frame's pixels in it. */
uint8_t *kd_overlay_row(const kdas_view *frame, void *out, int64_t stride, int64_t y);

#endif
