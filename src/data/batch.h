/* batch.h - inside of a batch. */
#ifndef KD_BATCH_H
#define KD_BATCH_H
#include <kdas/data.h>
#include "base/base.h"

struct kdas_batch {
    kdas_context *ctx;
    int64_t       count, room; /* places in use, places made */
    int64_t       height, width;
    float        *images; /* (room,height,width,3) */
    float        *masks;  /* (room,height,width,1) */
    bool          pinned; /* images and masks are of the device's own host memory                 */
    bool          ahead;  /* has been uploaded ahead of a step: that may be under way still       */
    _Atomic uint64_t content; /* another number, never used before, whenever the batch is changed */
};

/* What it holds now, as a number; writing through kdas_batch_images() is not noticed. */
uint64_t kd_batch_content(kdas_batch *batch);

/* Put a packed frame of the batch's size at place i: rgb (height,width,3), mask (height,width),
 * where 128 and more is polyp. */
void kd_batch_put(kdas_batch *batch, int64_t i, const uint8_t *rgb, const uint8_t *mask);

#endif
