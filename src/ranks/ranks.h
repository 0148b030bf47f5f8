/* ranks.h - the inside of kdas_ranks, for folders that exchange numbers with other ranks while they go on.
 *
 * One thread of the group's own calls the collective. Jobs are done in the order in which they were started, which
 * must be the same on all ranks. */
#ifndef KD_RANKS_H
#define KD_RANKS_H
#include <kdas/ranks.h>
#include "base/base.h"

typedef enum kd_ranks_kind {
    KD_RANKS_OPEN,
    KD_RANKS_SUM_F32,
    KD_RANKS_SUM_F64,
    KD_RANKS_BROADCAST,
    KD_RANKS_BARRIER
} kd_ranks_kind;

/* A piece of work for the thread. The caller's memory, from start to wait. */
typedef struct kd_ranks_job {
    kd_ranks_kind        kind;
    void                *values;
    size_t               count; /* of values, or bytes */
    int32_t              root;
    struct kd_ranks_job *next;
    bool                 done; /* under the group's lock */
    kdas_status          status;
    double               seconds; /* that the collective took */
} kd_ranks_job;

/* Start a job; fill kind, values, count and root before. A group of one does it at once. It cannot fail: wait tells. */
void kd_ranks_start(kdas_ranks *ranks, kd_ranks_job *job);
/* Wait for a job that was started. KDAS_EBACKEND: this one, or one before it, has failed. */
kdas_status kd_ranks_wait(kdas_ranks *ranks, kd_ranks_job *job);
/* Both. */
kdas_status kd_ranks_do(kdas_ranks *ranks, kd_ranks_kind kind, void *values, size_t count,
                        int32_t root);

/* What a rank is about to do together with the others. */
typedef enum kd_ranks_meeting {
    KD_RANKS_AT_VOTE,
    KD_RANKS_AT_SUM,
    KD_RANKS_AT_BROADCAST,
    KD_RANKS_AT_BARRIER,
    KD_RANKS_AT_AGREE,
    KD_RANKS_AT_FORWARD,
    KD_RANKS_AT_BACKWARD,
    KD_RANKS_AT_UPDATE,
    KD_RANKS_AT_GATHER,
    KD_RANKS_AT_MODEL,
    KD_RANKS_AT_EVALUATE,
    KD_RANKS_AT_TRAIN,
    KD_RANKS_AT_LOADER
} kd_ranks_meeting;

/* The exchange that begins a collective call: a vote with the status of the checks before, in which ranks that make different calls
 * find out: KDAS_ESTATE on all, with a sentence that names both. `detail`: a number that must be equal, too. With it the sums of at
 * most KD_RANKS_FEW values, as in kd_ranks_vote_sum(). A group of one: `mine`. */
enum { KD_RANKS_FEW = 4 };
kdas_status kd_ranks_meet(kdas_ranks *ranks, kd_ranks_meeting meeting, uint64_t detail,
                          kdas_status mine, double *values, size_t count);

/* A vote in the midst of a collective call, and in the same exchange the sums of `count` values, at most KD_RANKS_VALUES. The sums are valid on
 * success alone. */
enum { KD_RANKS_VALUES = 64 };
kdas_status kd_ranks_vote_sum(kdas_ranks *ranks, kdas_status mine, double *values, size_t count);

/* Ranks that an object was given must be of its context: KDAS_EINVAL. NULL is fine. */
kdas_status kd_ranks_check(const kdas_ranks *ranks, const kdas_context *ctx, const char *what);
/* Seconds that callers have waited in kd_ranks_wait(), and that the collective has worked. */
double kd_ranks_waited(const kdas_ranks *ranks);
double kd_ranks_worked(const kdas_ranks *ranks);

#endif
