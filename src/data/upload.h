/* upload.h - where a batch is on a device. */
#ifndef KD_UPLOAD_H
#define KD_UPLOAD_H
#include <kdas/data.h>
#include "base/base.h"

/* A number that tells whether memory on the device still holds what it did. NULL: it is not shared with others. */
typedef struct kd_lease {
    const uint64_t *now;
    uint64_t        then;
} kd_lease;

static inline bool kd_lease_holds(const kd_lease *lease)
{
    return !lease->now || *lease->now == lease->then;
}

/* Device memory of a batch; NULL: the batch has none, or it is not there. */
typedef struct kd_batch_place {
    float   *images, *masks, *teacher, *weights;
    kd_lease lease;
} kd_batch_place;

/* Find a batch on the context's device: its own memory where that is the host's, else where kdas_batch_prefetch() or
 * kdas_batch_upload() has put it. Whoever was given it there has used it: a prefetch spares it. Images are NULL where it
 * is not there. */
kdas_status kd_batch_find(kd_batch_place *out, kdas_context *ctx, kdas_batch *batch);

#endif
