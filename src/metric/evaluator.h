/* evaluator.h - the inside of an evaluator: the images that were added, and those that the ranks of a shared one have not
 * put together yet. */
#ifndef KD_EVALUATOR_H
#define KD_EVALUATOR_H
#include "metric/metric.h"

typedef struct kd_score {
    char  *name;
    double figure[KDAS_METRICS];
} kd_score;

/* What was added: how many images, and sums over them. */
typedef struct kd_evaluated {
    int64_t count, empty;
    double  sum[KD_CURVES][KD_THRESHOLDS]; /* of the images' curves */
} kd_evaluated;

/* What an image adds to the sums. */
typedef struct kd_addend {
    double curves[KD_CURVES][KD_THRESHOLDS];
    double empty; /* 0 or 1 */
} kd_addend;

/* What one rank has to give. */
typedef struct kd_given {
    double images, bytes; /* of their names, each with its end */
} kd_given;

struct kdas_evaluator {
    kdas_context *ctx;
    kd_score     *images;
    size_t        capacity;
    kd_evaluated  now, mark;
    bool          marked;

    kdas_ranks  *ranks;    /* NULL: not shared */
    kd_evaluated gathered; /* the part of `now` that all ranks have */
    kd_addend   *own;      /* of the images after it, which only this rank has */
    size_t       own_room;
    kd_given    *given; /* (ranks) */
};

/* Drop the images from number `first` on; the sums are the caller's. */
void kd_evaluator_drop(kdas_evaluator *evaluator, int64_t first);
/* Room for `count` images, and for the addends of `own` that are not gathered. */
kdas_status kd_evaluator_reserve(kdas_evaluator *evaluator, int64_t count, int64_t own);
/* Add to the sums. */
void kd_evaluator_sum(kd_evaluated *to, const kd_addend *addend);

#endif
