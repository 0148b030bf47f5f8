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
};

/* Put a packed frame of the batch's size at place i: rgb (height,width,3), mask (height,width),
 * where 128 and more is polyp. */
void kd_batch_put(kdas_batch *batch, int64_t i, const uint8_t *rgb, const uint8_t *mask);

#endif
