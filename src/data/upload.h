/* upload.h - the place of a batch on a device. */
#ifndef KD_UPLOAD_H
#define KD_UPLOAD_H
#include <kdas/data.h>
#include "base/base.h"

/* Tells whether device memory was overwritten since it was looked up: the count of writes to it,
 * and that count at the time. NULL: nothing else writes there. */
typedef struct kd_stamp {
    const uint64_t *writes;
    uint64_t        seen;
} kd_stamp;

static inline bool kd_stamp_is_current(const kd_stamp *stamp)
{
    return !stamp->writes || *stamp->writes == stamp->seen;
}

/* Device memory of a batch; NULL: the batch has no such array, or it is not on the device. */
typedef struct kd_batch_place {
    float   *images, *masks, *teacher, *weights;
    kd_stamp stamp;
} kd_batch_place;

/* Find a batch on the context's device: the batch's own memory if device memory is host memory,
 * else the place that kdas_batch_prefetch() or kdas_batch_upload() filled. The place is marked as
 * used, so a prefetch does not overwrite it. Images are NULL if the batch is not on the device. */
kdas_status kd_batch_find(kd_batch_place *out, kdas_context *ctx, kdas_batch *batch);

#endif
