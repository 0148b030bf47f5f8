/* batch.h - inside of a batch. */
#ifndef KD_BATCH_H
#define KD_BATCH_H
#include <kdas/data.h>
#include "base/base.h"

extern const float kd_batch_mean[3], kd_batch_deviation[3]; /* ImageNet's, of colours in 0..1 */

/* A reader: it has read a batch in a forward, and reads it again in the backward. Destroying the
 * batch clears the reader's pointer. */
typedef struct kd_reader kd_reader;
struct kd_reader {
    kdas_batch *batch;   /* NULL: none, or it was destroyed */
    uint64_t    content; /* when it was read                */
    kd_reader  *next, **at;
};

struct kdas_batch {
    kdas_context    *ctx;
    int64_t          count, room; /* places in use, places made */
    int64_t          height, width;
    float           *images;     /* (room,height,width,3)                           */
    float           *masks;      /* (room,height,width,1); NULL: there are none     */
    float           *teacher;    /* logits, shape of masks; NULL: there are none    */
    float           *weights;    /* of pixels, shape of masks; NULL: all 1          */
    uint8_t         *mapped;     /* (room): whether the place's map has been set    */
    uint8_t         *unlabelled; /* (room)                                          */
    bool             pinned;     /* floats are in the device's own host memory      */
    bool             wrapped;    /* images and masks are caller-owned               */
    bool             placed;     /* has had a place on the device (upload.c)        */
    uint64_t         id;         /* no other batch of the process has had it; not 0 */
    kd_reader       *readers;
    _Atomic uint64_t content; /* a new, unused number after each change */
};

/* Read another batch from now on; NULL: none. A new reader is zeroed. */
void kd_reader_set(kd_reader *reader, kdas_batch *batch);
/* The batch if it is unchanged. NULL: it was changed or destroyed, or there is none. */
kdas_batch *kd_reader_batch(const kd_reader *reader);

/* The batch has another content from now on: it is changed, or will be. */
void kd_batch_change(kdas_batch *batch);

/* The number of the current content. Writes through kdas_batch_images() do not change it. */
uint64_t kd_batch_content(kdas_batch *batch);

/* Put a packed frame of the batch's size at place i: rgb (height,width,3), mask (height,width),
 * where 128 and more is polyp. The place is labelled then, without a teacher's map, its weights
 * 1. */
void kd_batch_put(kdas_batch *batch, int64_t i, const uint8_t *rgb, const uint8_t *mask);

/* Allocate teacher's maps (zeros) or weights (ones) if they are not allocated yet. */
kdas_status kd_batch_make_teacher(kdas_batch *batch);
kdas_status kd_batch_make_weights(kdas_batch *batch);
/* Put a teacher's map of the batch's size at place i, which has room: probabilities, held off 0 and
 * 1 by `least`. */
void kd_batch_put_teacher(kdas_batch *batch, int64_t i, const float *probability, float least);
/* Whether all places have a teacher's map. KDAS_ESTATE: some have. */
kdas_status kd_batch_has_teacher(const kdas_batch *batch, bool *has);
/* Whether mask and weights of place i wait for a teacher: it is not labelled, and has no map. */
bool kd_batch_waits(const kdas_batch *batch, int64_t i);

/* The least weight of a pixel of a frame without a mask. It keeps a frame's sum of weights above
 * 0. */
#define KD_PSEUDO_LEAST 0x1p-10f
/* Pseudo-labels for a frame without a mask: compute mask and weights of n pixels from a teacher's
 * logits. The logits may be in the mask's memory. */
void kd_pseudo_label(float *mask, float *weights, const float *logits, int64_t n);

#endif
