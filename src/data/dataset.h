/* dataset.h - inside of a dataset: an ordered choice of the frames in a store. */
#ifndef KD_DATASET_H
#define KD_DATASET_H
#include "data/frames.h"

struct kdas_dataset {
    kdas_context *ctx;
    kd_frames    *frames;
    size_t       *index; /* (count): place in the store */
    int64_t       count;
};

/* Borrow frame i, 0 <= i < count; kd_loan_return() it. Any thread. */
static inline kdas_status kd_dataset_lend(kd_loan *out, const kdas_dataset *dataset, int64_t i)
{
    return kd_frames_lend(out, dataset->frames, dataset->index[i]);
}

#endif
