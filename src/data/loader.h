/* loader.h - inside of the loader: the plan (what each batch holds), making one sample. */
#ifndef KD_LOADER_H
#define KD_LOADER_H
#include <pthread.h>
#include "data/augment.h"
#include "data/batch.h"
#include "data/dataset.h"

enum { KD_LOADER_SCALES = 8, KD_LOADER_WORKERS = 64, KD_LOADER_AHEAD = 1024 };

/* What batches are made of: options that have been checked. The frames of the batches of all ranks
 * are a group, of which each rank has a share; a group makes one batch for each scale. Group
 * numbers continue across epochs. */
typedef struct kd_loader_plan {
    kdas_dataset *dataset;
    int64_t       batch, frames; /* places of a batch, frames of the dataset */
    int64_t       whole;         /* frames of a group: the batches of all ranks */
    int64_t       groups;        /* in an epoch                              */
    int32_t       rank, ranks;   /* this process's number, and how many share a group */
    int           scales;
    int64_t       height[KD_LOADER_SCALES], width[KD_LOADER_SCALES];
    bool          shuffle, augment;
    bool          maps;       /* the frames have a teacher's maps          */
    bool          unlabelled; /* some frames have no mask                  */
    uint64_t      seed;

    kd_augment_rules rules;
    uint8_t         *empty;        /* (frames) 1: no polyp; NULL: no resampling */
    int64_t          empties, ask; /* such frames; their number in an epoch     */
} kd_loader_plan;

/* Check a host's options (NULL: defaults) and make the plan of them; *o receives all options. */
kdas_status kd_loader_plan_init(kd_loader_plan *plan, kdas_loader_options *o, kdas_dataset *dataset,
                                const kdas_loader_options *options);
void        kd_loader_plan_finish(kd_loader_plan *plan);
/* With ranks: tell the others whether this rank's checks have succeeded, and compare options and frames. Without: `mine`. */
kdas_status kd_loader_agree(const kdas_loader_options *o, const kdas_dataset *dataset,
                            kdas_status mine);
/* The order of an epoch's views, into order (frames). A view is a frame's number, plus `frames` for
 * each time that the frame has come before in the epoch. */
void kd_loader_plan_order(const kd_loader_plan *plan, int64_t epoch, int64_t *order);
/* This process's share of a group's frames: how many, and where it begins in the epoch's order. Not
 * empty. */
int64_t kd_loader_plan_share(const kd_loader_plan *plan, int64_t group, int64_t *first);

/* A worker's own memory: a frame at the largest size, before and after augmentation. */
typedef struct kd_loader_scratch {
    uint8_t *rgb[2], *mask[2];

    uint16_t *blur; /* NULL where nothing is blurred */
    float    *map;  /* a teacher's, after augmentation; NULL: there are none */
} kd_loader_scratch;
kdas_status kd_loader_scratch_init(kd_loader_scratch *scratch, const kd_loader_plan *plan);
void        kd_loader_scratch_finish(kd_loader_scratch *scratch, const kd_loader_plan *plan);

/* Put a view of the dataset, as epoch `epoch` shows it, at place i of every scale's batch. */
kdas_status kd_loader_make(const kd_loader_plan *plan, kd_loader_scratch *scratch, int64_t epoch,
                           int64_t view, int64_t i, kdas_batch *const *batch);

/* ---- sampling.c: how often empty frames come ---- */

/* Look at every mask, and set plan->empty and the counts for a share; if all frames are of one
 * kind, they are not resampled and a warning is logged. */
kdas_status kd_sampling_init(kd_loader_plan *plan, double share);
/* The views of an epoch in the dataset's order, into order (frames). */
void kd_sampling_views(const kd_loader_plan *plan, kd_random *r, int64_t *order);

#endif
