/* distiller.h - the inside of kdas_distiller. */
#ifndef KD_DISTILLER_H
#define KD_DISTILLER_H
#include <kdas/distill.h>
#include "base/context.h"
#include "distill/feature_step.h"
#include "loss/loss.h"
#include "model/model.h"

/* A place on the device for a batch. `batch`: what was uploaded ahead and waits for its step, by its number, for the
 * host may have destroyed it since. */
typedef struct kd_upload {
    kd_staging images, masks, teacher, weights;
    uint64_t   batch;     /* 0: nothing waits here                           */
    uint64_t   content;   /* of the batch then                               */
    bool       under_way; /* upload_wait() has not been called since         */
    uint64_t   when;      /* it was uploaded, in prefetches of the distiller */
} kd_upload;
enum { KD_UPLOADS = 2 };

/* Masks and weights of a batch in which frames without a mask learn from the teacher's output (pseudo.c). */
typedef struct kd_pseudo {
    float     *host; /* mask, weights, one map of the teacher; grows */
    size_t     count;
    kd_staging device; /* mask, weights */
} kd_pseudo;

/* What micro-batches change besides gradients, as it was before the first of them. */
typedef struct kd_mark {
    kd_model_state student;
    kd_share       share[KDAS_TERMS]; /* of the loss */
} kd_mark;

typedef enum kd_phase { KD_PHASE_IDLE, KD_PHASE_FORWARD, KD_PHASE_BACKWARD } kd_phase;

struct kdas_distiller {
    kdas_context          *ctx;
    kdas_model            *teacher; /* NULL: none, or the host's own */
    kdas_model            *student;
    kdas_loss             *loss;
    kdas_optim            *optim;
    kdas_distiller_options options;
    kd_phase               phase;
    int32_t                micro;   /* batches whose gradients are gathered since the last update */
    uint64_t               zeroed;  /* the student's count when the first of them was */
    kd_mark                mark;    /* what goes back if one of them fails            */
    kd_loss_place          at;      /* the maps of the last forward */
    kd_feature            *feature; /* NULL: the objective has no features */
    double                 factor;  /* of the guidance, in the last forward */
    uint64_t
        holds[2]; /* generations of teacher and student, whose values it reads; teacher 0: none */
    int32_t   teacher_maps; /* of the teacher in the last forward */
    float    *teacher_map[KD_MAX_MAPS];
    kd_upload upload[KD_UPLOADS];
    int       upload_used; /* by the last forward */
    uint64_t  uploads;
    struct {
        float  *memory; /* host_maps x n x h x w, device */
        size_t  bytes;
        int32_t maps;
        int64_t n, h, w;
        bool    fresh; /* set since the last forward */
    } host_teacher;
    struct {
        float *values; /* device, as many as the student's; NULL: none is kept           */
        bool   begun;  /* by the first update; until then the average is the student     */
    } average;
    kd_pseudo pseudo;
};

/* Micro-batches whose gradients are gathered; gradients that the host has zeroed are not. (distiller.c) */
int32_t kd_distiller_gathered(const kdas_distiller *d);

/* ---- teacher.c ---- */

typedef struct kd_uploaded kd_uploaded;

/* How many one-channel maps a network ends in; 0 where its outputs are features. */
int32_t kd_maps_of(const kdas_model *m);
/* Run or find the teacher of a batch, put d->at's maps to it, and label frames without a mask. */
kdas_status kd_teacher_run(kdas_distiller *d, kdas_batch *batch, const kd_uploaded *on);

/* ---- pseudo.c ---- */

/* Whether some frame of the batch has neither a mask nor a teacher's map: it waits for the teacher's output. */
bool kd_pseudo_wanted(const kdas_batch *batch);
/* Fill mask and weights of such frames from the teacher's maps of this forward, and put d->at's mask and weight to
 * them; other frames keep the batch's. */
kdas_status kd_pseudo_fill(kdas_distiller *d, kdas_batch *batch);
void        kd_pseudo_finish(kdas_distiller *d);

/* ---- upload.c ---- */

/* Where a batch is on the device. */
struct kd_uploaded {
    float *images, *masks;
    float *teacher, *weights; /* NULL: the batch has none */
};

/* The batch on the device: where it was uploaded ahead, or uploaded now. */
kdas_status kd_upload_batch(kdas_distiller *d, kdas_batch *batch, kd_uploaded *out);
void        kd_upload_finish(kdas_distiller *d);

/* ---- average.c: all do nothing where no average is kept ---- */

kdas_status kd_average_init(kdas_distiller *d);
void        kd_average_finish(kdas_distiller *d);
/* After each update that was made. */
kdas_status kd_average_update(kdas_distiller *d);

#endif
