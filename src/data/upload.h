/* upload.h - the place of a batch on a device. */
#ifndef KD_UPLOAD_H
#define KD_UPLOAD_H
#include <kdas/data.h>
#include "base/base.h"

/* A number that changes when device memory is overwritten. NULL: the memory is not shared. */
typedef struct kd_lease {
    const uint64_t *now;
    uint64_t        then;
} kd_lease;

static inline bool kd_lease_holds(const kd_lease *lease)
{
    return !lease->now || *lease->now == lease->then;
}

/* Device memory of a batch; NULL: the batch has no such array, or it is not on the device. */
typedef struct kd_batch_place {
    float   *images, *masks, *teacher, *weights;
    kd_lease lease;
} kd_batch_place;

/* Find a batch on the context's device: the batch's own memory if device memory is host memory,
 * else the place that kdas_batch_prefetch() or kdas_batch_upload() filled. The place is marked as
 * used, so a prefetch does not overwrite it. Images are NULL if the batch is not on the device. */
kdas_status kd_batch_find(kd_batch_place *out, kdas_context *ctx, kdas_batch *batch);

#endif
