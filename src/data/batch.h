/* batch.h - inside of a batch. */
#ifndef KD_BATCH_H
#define KD_BATCH_H
#include <kdas/data.h>
#include "base/base.h"

/* Who has read a batch in a forward, and will again in the backward: it hears of the batch's end. */
typedef struct kd_reader kd_reader;
struct kd_reader {
    kdas_batch *batch;   /* NULL: none, or it was destroyed */
    uint64_t    content; /* when it was read                */
    kd_reader  *next, **at;
};

struct kdas_batch {
    kdas_context *ctx;
    int64_t       count, room; /* places in use, places made */
    int64_t       height, width;
    float        *images;     /* (room,height,width,3) */
    float        *masks;      /* (room,height,width,1); NULL: there are none  */
    float        *teacher;    /* logits, likewise; NULL: there are none       */
    float        *weights;    /* of the masks' pixels, likewise; NULL: all 1  */
    uint8_t      *mapped;     /* (room): whether the place's map has been set */
    uint8_t      *unlabelled; /* (room)                                      */
    bool          pinned; /* floats are of the device's own host memory                          */
    bool       wrapped;   /* images and masks are the host's                                      */
    bool       placed;    /* has been given a place on the device (upload.c)                      */
    uint64_t   id;        /* no other batch of the process has had it; not 0                      */
    kd_reader *readers;
    _Atomic uint64_t content; /* another number, never used before, whenever the batch is changed */
};

/* Read another batch from now on; NULL: none. A reader that is none begins as zeros. */
void kd_reader_set(kd_reader *reader, kdas_batch *batch);
/* The batch, while it is as it was; NULL: it was changed or destroyed, or there is none. */
kdas_batch *kd_reader_batch(const kd_reader *reader);

/* What it holds now, as a number; writing through kdas_batch_images() is not noticed. */
uint64_t kd_batch_content(kdas_batch *batch);

/* Put a packed frame of the batch's size at place i: rgb (height,width,3), mask (height,width),
 * where 128 and more is polyp. The place is labelled then, without a teacher's map, its weights 1. */
void kd_batch_put(kdas_batch *batch, int64_t i, const uint8_t *rgb, const uint8_t *mask);

/* Make room for teacher's maps (zeros), or for weights (ones), unless there is. */
kdas_status kd_batch_make_teacher(kdas_batch *batch);
kdas_status kd_batch_make_weights(kdas_batch *batch);
/* Put a teacher's map of the batch's size at place i, which has room: probabilities, held off 0 and 1 by
 * `least`. */
void kd_batch_put_teacher(kdas_batch *batch, int64_t i, const float *probability, float least);
/* Whether all places have a teacher's map. KDAS_ESTATE: some have. */
kdas_status kd_batch_has_teacher(const kdas_batch *batch, bool *has);
/* Whether mask and weights of place i wait for a teacher: it is not labelled, and has no map. */
bool kd_batch_waits(const kdas_batch *batch, int64_t i);

/* Least that a pixel of a frame without a mask weighs, so that no frame weighs nothing. */
#define KD_PSEUDO_LEAST 0x1p-10f
/* What a frame without a mask learns from: mask and weights of n pixels by a teacher's logits, which may be in
 * the mask's memory. */
void kd_pseudo_label(float *mask, float *weights, const float *logits, int64_t n);

#endif
