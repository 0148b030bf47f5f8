/* overlay.h - masks shown on frames: made ready once, then drawn row by row. */
#ifndef KD_OVERLAY_H
#define KD_OVERLAY_H
#include "image/image.h"
#include "image/yuv.h"

typedef struct kd_overlay {
    const kdas_view *frame;
    void            *out;
    int64_t          stride;     /* of its rows                                           */
    int              rows;       /* drawn at a time: 2 into the planes of a frame, else 1 */
    int              samples;    /* of a pixel that is drawn                              */
    int              colours;    /* samples that are not alpha                            */
    uint8_t          to[3][256]; /* the output for each value of a sample, in order       */
    kd_yuv           yuv;        /* of a YUV frame                                        */
    int              colour[3];  /* the tint in its samples                               */
    int              share;      /* of the tint, 0..255                                   */
} kd_overlay;

/* Check that `frame`, already checked itself, can be shown in `out`, and make ready; `options` may
 * be NULL. KDAS_EINVAL with a sentence that begins with `what`. */
kdas_status kd_overlay_init(kd_overlay *overlay, const kdas_view *frame, void *out, int64_t stride,
                            const kdas_overlay_options *options, const char *what);
/* Put the frame's rows y .. y + rows - 1 into `out` with a tint where the mask's are 128 or more; y
 * is a multiple of `rows`, mask[1] NULL beyond the last row. */
void kd_overlay_draw(const kd_overlay *overlay, int64_t y, const uint8_t *const mask[2]);

#endif
