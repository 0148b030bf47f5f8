/* distiller.h - the inside of kdas_distiller. distiller.c, teacher.c and note.c use models,
 * objective, optimizer and batches through the public headers alone, as a host's own loop does. */
#ifndef KD_DISTILLER_H
#define KD_DISTILLER_H
#include <kdas/distill.h>
#include "base/base.h"
#include "distill/feature_step.h"
#include "distill/ranks_step.h"

/* A copy of the maps of the host's own teacher. */
typedef struct kd_host_maps {
    float       *memory; /* maps x count x height x width; grows */
    size_t       room;   /* numbers                              */
    const float *map[8]; /* in it                                */
    kdas_maps    maps;
} kd_host_maps;

/* Those of the last forward, which its backward reads, and those of the coming one. They share one
 * copy, unless the latter are set between that forward and its backward. */
typedef struct kd_host_teacher {
    kd_host_maps copy[2];
    int          last, next; /* indices */
    bool         fresh;      /* next: set since the last forward */
    bool         taken;      /* last: by the last forward        */
} kd_host_teacher;

/* Sizes of the batches so far, for the student's facts. */
enum { KD_SIZES = 8 };
typedef struct kd_size {
    int64_t height, width, batches;
} kd_size;
typedef struct kd_sizes {
    kd_size size[KD_SIZES];
    int     count;
    kd_size noted; /* zeros: none yet */
} kd_sizes;

typedef enum kd_phase { KD_PHASE_IDLE, KD_PHASE_FORWARD, KD_PHASE_BACKWARD } kd_phase;

struct kdas_distiller {
    kdas_context          *ctx;
    kdas_model            *teacher; /* NULL: none, or the host's own */
    kdas_model            *student;
    kdas_loss             *loss;
    kdas_optim            *optim;
    kdas_distiller_options options;
    kd_phase               phase;
    int32_t                micro;   /* batches accumulated since the last update      */
    uint64_t               zeroed;  /* the student's count when the first of them was */
    bool                   marked;  /* a mark to roll back to on failure is set */
    kdas_batch            *batch;   /* of the last forward, until its backward  */
    double                 factor;  /* of the guidance, in the last forward     */
    kd_feature            *feature; /* NULL: the objective has no features      */
    kd_ranks_step         *over;    /* NULL: alone, not one of several ranks    */
    /* Generations of teacher and student, whose values it reads; teacher 0: none. */
    uint64_t        holds[2];
    kd_host_teacher host_teacher;
    kd_sizes        sizes;
    struct {
        float *values; /* device, as many as the student's; NULL: none is kept           */
        bool   begun;  /* by the first update; until then the average is the student     */
    } average;
};

/* The number of accumulated micro-batches; 0 if the host has zeroed the gradients. (distiller.c) */
int32_t kd_distiller_accumulated(const kdas_distiller *d);
/* Go back to the last update and drop the gradients. Returns `st`. (distiller.c) */
kdas_status kd_distiller_abandon(kdas_distiller *d, kdas_status st);

/* ---- note.c ---- */

/* Before each forward: tell the student's weights what they learn from. It allocates in the first
 * step alone. KDAS_ENOMEM: the batch was not counted. */
kdas_status kd_distiller_note(kdas_distiller *d, const kdas_batch *batch);

/* ---- average.c: all do nothing where no average is kept ---- */

kdas_status kd_average_init(kdas_distiller *d);
void        kd_average_finish(kdas_distiller *d);
/* After each update that was made. */
kdas_status kd_average_update(kdas_distiller *d);

#endif
