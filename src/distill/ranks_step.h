/* ranks_step.h - a step over ranks (kdas_distiller_options.ranks), for the step. d->over is NULL where the distiller is
 * alone: then none of these is called, but those that say so.
 *
 * The collective calls of a step, in this order on every rank: a vote after the student's forward, with the number of images;
 * in the first step with a share, votes with the first norms; sums of running statistics, of the projections' gradients
 * and of the student's in buckets, if an update follows; a vote with the values of the terms; and a vote after
 * the update. A rank that has failed takes part until the next vote, and then all fail alike. */
#ifndef KD_RANKS_STEP_H
#define KD_RANKS_STEP_H
#include <kdas/distill.h>
#include "base/base.h"

typedef struct kd_ranks_step kd_ranks_step;

/* A rank's own creation has given `mine`. If all have succeeded, compare what must be equal. d may be NULL, if `mine` is a
 * failure; ranks NULL or a group of one: returns `mine`. */
kdas_status kd_ranks_step_create(kdas_distiller *d, kdas_ranks *ranks, kdas_status mine);
void        kd_ranks_step_destroy(kdas_distiller *d); /* also where the distiller is alone */

/* A vote on `mine`; where the distiller is NULL or alone: `mine`. */
kdas_status kd_ranks_step_vote(const kdas_distiller *d, bool update, kdas_status mine);
/* Before a forward. */
void kd_ranks_step_enter(kdas_distiller *d);
/* After a forward. `read`: the caller reads a report. `last`: an update follows its backward. On failure the student is as
 * before the forward; `mine` tells whether it had one. */
kdas_status kd_ranks_step_forward(kdas_distiller *d, kdas_batch *batch, kdas_status mine, bool read,
                                  bool last);
/* The part of the images of the last forward that is here; alone: 1. */
double kd_ranks_step_part(const kdas_distiller *d);
/* Whether some rank reads the report. */
bool kd_ranks_step_read(const kdas_distiller *d);

/* Around objective and backward. `scale`: of the gradients. The end gives the status of all ranks, and the report of the whole
 * batch. It must follow. */
kdas_status kd_ranks_step_begin(kdas_distiller *d, double scale);
kdas_status kd_ranks_step_end(kdas_distiller *d, kdas_status mine, kdas_loss_report *report);

/* Before an update: sum over the ranks what no backward has summed. On failure abandon the update. */
kdas_status kd_ranks_step_reduce(kdas_distiller *d);
/* Within an update: the running statistics become their means over the ranks. */
kdas_status kd_ranks_step_average(kdas_distiller *d);
/* After an update. */
kdas_status kd_ranks_step_updated(kdas_distiller *d, kdas_status mine);
/* The gradients are no sums any more. */
void kd_ranks_step_forget(kdas_distiller *d);
/* After a restore of a checkpoint, also where the distiller is alone: rank 0 alone keeps accumulated gradients. */
kdas_status kd_ranks_step_restored(kdas_distiller *d);
/* KDAS_ESTATE where a checkpoint would lack gradients that other ranks have; alone: fine. */
kdas_status kd_ranks_step_check_save(const kdas_distiller *d);

#endif
