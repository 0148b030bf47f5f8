/* progress.h - a training run as its user sees it: a bar on a terminal, plain lines
 * elsewhere. */
#ifndef PROGRAMS_PROGRESS_H
#define PROGRAMS_PROGRESS_H
#include "distill/history.h"
#include "distill/tensorboard.h"

typedef struct progress {
    history     *history; /* notes everything, too */
    tensorboard *board;   /* notes scalars; NULL: none */
    bool         quiet, terminal;
    double       told; /* seconds of the run at the last line */
} progress;

void progress_begin(progress *p, history *h, tensorboard *board, bool quiet);
/* A kdas_train_fn; `user` is the progress. */
int progress_event(void *user, const kdas_train_state *state);
#endif
