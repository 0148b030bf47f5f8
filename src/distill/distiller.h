/* distiller.h - the inside of kdas_distiller. */
#ifndef KD_DISTILLER_H
#define KD_DISTILLER_H
#include <kdas/distill.h>
#include "base/context.h"
#include "distill/feature_step.h"
#include "loss/loss.h"
#include "model/model.h"

/* A place on the device for a batch. `batch`: what was uploaded ahead and waits for its step. */
typedef struct kd_upload {
    kd_staging        images, masks;
    const kdas_batch *batch;     /* NULL: nothing waits here                      */
    uint64_t          content;   /* of the batch then                             */
    bool              under_way; /* arrive() has not been called since            */
    uint64_t          when;      /* it was uploaded, in prefetches of the distiller */
} kd_upload;
enum { KD_UPLOADS = 2 };

typedef enum kd_phase { KD_PHASE_IDLE, KD_PHASE_FORWARD, KD_PHASE_BACKWARD } kd_phase;

struct kdas_distiller {
    kdas_context          *ctx;
    kdas_model            *teacher; /* NULL: none, or the host's own */
    kdas_model            *student;
    kdas_loss             *loss;
    kdas_optim            *optim;
    kdas_distiller_options options;
    kd_phase               phase;
    int32_t                micro; /* batches whose gradients are gathered since the last update */
    kd_loss_place          at;    /* the maps of the last forward */
    kd_feature            *feature; /* NULL: the objective has no features */
    kd_share               share[KDAS_TERMS]; /* the loss's before the step, for one that fails */
    kd_upload              upload[KD_UPLOADS];
    int                    upload_used; /* by the last forward */
    uint64_t               uploads;
    struct {
        float  *memory; /* host_maps x n x h x w, device */
        size_t  bytes;
        int32_t maps;
        int64_t n, h, w;
        bool    fresh; /* set since the last forward */
    } host_teacher;
};

/* ---- upload.c ---- */

/* The batch on the device: where it was uploaded ahead, or uploaded now. */
kdas_status kd_upload_batch(kdas_distiller *d, kdas_batch *batch, float **images, float **masks);
/* Let go of batches that wait: the host may use their memory again, and has to upload them anew. */
kdas_status kd_upload_settle(kdas_distiller *d);
void        kd_upload_finish(kdas_distiller *d);

#endif
