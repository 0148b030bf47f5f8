/* train.h - one training: a model, its objective and a folder for its files. */
#ifndef PROGRAMS_TRAIN_H
#define PROGRAMS_TRAIN_H
#include <kdas/train.h>
#include "distill/frames.h"
#include "distill/history.h"

typedef struct training {
    char       *label;   /* what the user calls it           */
    char       *dir;     /* for last.kdas, best.safetensors, log.csv */
    kdas_model *model;   /* trained                          */
    kdas_model *teacher; /* NULL: the objective needs none   */
    kdas_loss  *loss;
    int64_t     epochs;
    double      lr;
    int64_t     seed; /* of weights, order and augmentation */
    uint64_t    start; /* hash of the values that files gave the model; 0: none did */
    history     history;
    kdas_status status; /* of the run                       */
} training;

/* Make model and objective, and load the weights to start from, so that what is wrong with them is
 * said before any work is done. `weights`, `backbone`, those of the backbone alone, and `entry`, which
 * chooses in both, may be NULL. `quantize`: on 8-bit grids, as the settings say. `label` and `dir` are taken over. */
bool training_begin(training *t, kdas_context *context, const settings *s, char *label,
                    const char *model, const kdas_loss_options *loss, const char *weights,
                    const char *backbone, const char *entry, int64_t seed, bool quantize,
                    char *dir);
void training_end(training *t);
/* Give back model and objective; what the run has told stays. */
void training_release(training *t);
/* Rename what an earlier run has left in the folder: a run that starts anew must not be the end of
 * that, nor go on from it when it is stopped and taken up. False after a sentence. */
bool training_set_aside(const char *dir);
/* The run is done, as an earlier call has found: take its log in place of training. */
void training_remember(training *t);
/* See that loader and optimizer can be made as they are asked for, before anything is trained. */
bool training_check(training *t, const settings *s, const frames *f);
/* Train, then give the model the weights of its best epoch. False after a sentence or a cancel. */
bool training_run(training *t, const settings *s, const frames *f);
#endif
