/* dataset.h - inside of a dataset: an ordered selection of frames in stores. Either every frame has
 * a teacher's map, or no frame has one. */
#ifndef KD_DATASET_H
#define KD_DATASET_H
#include "data/frames.h"
#include "data/maps.h"

/* A frame of a dataset. It holds a reference to its store and its map. */
typedef struct kd_entry {
    kd_frames *frames;
    size_t     at;  /* place in the store */
    kd_map    *map; /* NULL: none         */
} kd_entry;

struct kdas_dataset {
    kdas_context *ctx;
    kd_entry     *entry; /* (count) */
    int64_t       count;
    kd_skips      skips; /* frames that were left out when folders were read */
};

/* An empty dataset with room for `count` frames, which is its limit (dataset.c). */
kdas_status kd_dataset_make(kdas_dataset **out, kdas_context *ctx, int64_t count);
/* Append an entry to one that has room: the dataset takes references to its store and map. */
void kd_dataset_append(kdas_dataset *dataset, kd_entry entry);

static inline const kd_frame_files *kd_dataset_frame(const kdas_dataset *dataset, int64_t i)
{
    return &dataset->entry[i].frames->frame[dataset->entry[i].at];
}

/* Borrow frame i, 0 <= i < count; kd_loan_return() it. Any thread. */
static inline kdas_status kd_dataset_lend(kd_loan *out, const kdas_dataset *dataset, int64_t i)
{
    return kd_frames_lend(out, dataset->entry[i].frames, dataset->entry[i].at);
}

/* Whether the mask of frame i shows no polyp; false for a frame without a mask. */
static inline kdas_status kd_dataset_empty(bool *out, const kdas_dataset *dataset, int64_t i)
{
    return kd_frames_empty(out, dataset->entry[i].frames, dataset->entry[i].at);
}

/* Whether its frames have a teacher's maps. */
static inline bool kd_dataset_has_maps(const kdas_dataset *dataset)
{
    return dataset->count > 0 && dataset->entry[0].map;
}

#endif
