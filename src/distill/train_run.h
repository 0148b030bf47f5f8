/* train_run.h - a run under way, for the files that begin it (train_start.c) and that make its steps (train.c). */
#ifndef KD_TRAIN_RUN_H
#define KD_TRAIN_RUN_H
#include "distill/train.h"
#include "ranks/ranks.h"

typedef struct kd_run {
    kdas_context      *ctx;
    kdas_distiller    *distiller;
    kdas_model        *student;
    kdas_loss         *loss;
    kdas_optim        *optim;
    kdas_loader       *loader;
    kdas_ranks        *ranks; /* of loader and distiller; NULL: alone. Rank 0 alone has files */
    kdas_dataset      *validation;
    kdas_train_options options;
    char              *last, *best; /* paths; NULL without an output folder */
    kdas_run_folder   *folder;      /* of both; held while it runs         */
    kd_train_log       log;
    kd_facts           facts;     /* what the run is of, where files are kept  */
    kd_train_manifest  manifest;  /* run.json, where files are kept            */
    kd_train_notes     notes;     /* of it, for the student's weights          */
    kdas_evaluator    *evaluator; /* of the validation set                     */
    kdas_model      *average; /* holds the average for validation; NULL: the student is validated */
    kdas_progress    progress;
    double           sum[KD_SUMS];
    int64_t          update; /* the step of the last update; -1: not in this call         */
    double           update_sum[KD_SUMS]; /* as they were after it */
    bool             every;               /* step is an update */
    bool             undone; /* a step has failed: the student is as that update left it  */
    kdas_step_report report;
    kdas_train_state state;
    int64_t          batches, steps; /* in an epoch; in the whole run                 */
    int64_t          batch;          /* done in the epoch under way                   */
    double           factor;         /* of the guidance as the host had it            */
    bool             held;           /* the host keeps the student's ranges           */
    bool             stop;           /* the host's callback has asked to              */
    bool             looks_ahead;    /* the next batch is uploaded during a step      */
    kdas_batch      *ahead;          /* which waits for its step; NULL: none          */
    kdas_batch      *now;            /* of the step under way; NULL: none             */
    double           started;        /* this call                                     */
    int64_t          steps_here;     /* steps and validations of this call, and their */
    int64_t          checks_here;    /* seconds: for the estimate of the time left    */
    double           step_seconds, check_seconds;
} kd_run;

static inline int64_t kd_run_step(const kd_run *r)
{
    return r->progress.epoch * r->batches + r->batch;
}

/* After what may fail on one rank: all fail. */
static inline kdas_status kd_run_together(const kd_run *r, kdas_status st)
{
    return kdas_ranks_vote(r->ranks, st);
}

/* ---- train_start.c ---- */

/* Loader and distiller have the same ranks: KDAS_EINVAL, with the ranks to tell. */
kdas_status kd_run_take_ranks(kd_run *r);
/* Check options and sizes. */
kdas_status kd_run_check(kd_run *r);
/* Open all that the run needs, and resume it. Finish it also on failure. */
kdas_status kd_run_start(kd_run *r);
void        kd_run_finish(kd_run *r);

#endif
