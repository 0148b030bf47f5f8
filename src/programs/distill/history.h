/* history.h - what a training run has told: its curves, kept for the report. */
#ifndef PROGRAMS_HISTORY_H
#define PROGRAMS_HISTORY_H
#include <kdas/train.h>
#include <stdbool.h>

typedef struct step_point {
    double epoch; /* fraction of the run: 2.5 is the middle of the third epoch */
    double total, lr;
    double raw[KDAS_TERM_ROOM], weighted[KDAS_TERM_ROOM],
        gradient[KDAS_TERM_ROOM]; /* by kdas_term */
} step_point;

typedef struct epoch_point {
    double epoch, dice, loss; /* when; what validation found, dice < 0: nothing */
} epoch_point;

typedef struct history {
    const char  *label;
    step_point  *steps;
    int64_t      step_count, step_room;
    epoch_point *epochs;
    int64_t      epoch_count, epoch_room;
    double       best_dice; /* < 0: none */
    int64_t      best_epoch;
    double       seconds, images_per_second, waited;
} history;

void history_begin(history *h, const char *label);
void history_end(history *h);
/* Note what kdas_train told. */
void history_note(history *h, const kdas_train_state *state);
/* After a resumed run: put the epochs that log.csv has from before in front, one point each. */
void history_read_log(history *h, const char *path);
#endif
