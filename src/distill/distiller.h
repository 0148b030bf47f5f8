/* distiller.h - the inside of kdas_distiller. */
#ifndef KD_DISTILLER_H
#define KD_DISTILLER_H
#include <kdas/distill.h>
#include "base/context.h"
#include "loss/loss.h"
#include "model/model.h"

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
    kd_staging             images, masks;
    struct {
        float  *memory; /* host_maps x n x h x w, device */
        size_t  bytes;
        int32_t maps;
        int64_t n, h, w;
        bool    fresh; /* set since the last forward */
    } host_teacher;
};

#endif
