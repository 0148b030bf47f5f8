/* feature_step.h - feature guidance in a step, for the step. */
#ifndef KD_FEATURE_STEP_H
#define KD_FEATURE_STEP_H
#include <kdas/distill.h>
#include "base/base.h"

typedef struct kd_feature kd_feature;

/* All below do nothing where the objective has no features (d->feature is NULL). */

/* Pair the models' taps, keep them, make the projections and add them to the optimizer. */
kdas_status kd_feature_create(kdas_distiller *d);
void        kd_feature_destroy(kdas_distiller *d);
/* Whether this step's features are computed, so the teacher's taps are needed. */
bool kd_feature_wanted(const kdas_distiller *d);
/* Whether this step measures the norm of its gradient for the first time, for a share: over ranks that is a vote. */
bool kd_feature_votes(const kdas_distiller *d);
/* Between the objective of the maps and the student's backward: add the term's gradients to those
 * of the student's taps, accumulate those of the projections, and add the term to `report`. `read`:
 * the caller reads it. */
kdas_status kd_feature_run(kdas_distiller *d, float scale, bool read, kdas_loss_report *report);
/* Drop the projections' gradients; or only if the host has dropped the student's. */
kdas_status kd_feature_zero(kdas_distiller *d);
kdas_status kd_feature_settle(const kdas_distiller *d);

#endif
