/* tensorboard.h - scalars of a training as an event file that TensorBoard reads. */
#ifndef PROGRAMS_TENSORBOARD_H
#define PROGRAMS_TENSORBOARD_H
#include <kdas/train.h>
#include <stdbool.h>

typedef struct tensorboard tensorboard;

/* Begin DIR/RUN/events.out.tfevents.*, a new file beside those of earlier calls. NULL after a
 * sentence. */
tensorboard *tensorboard_begin(const char *dir, const char *run);
/* Write what kdas_train told: of a step the total, the learning rate and each term that is on; of
 * an epoch what validation found, if anything, and the speed. NULL: nothing happens. */
void tensorboard_note(tensorboard *t, const kdas_train_state *state);
/* NULL is fine. False after a sentence if the file is not complete. */
bool tensorboard_end(tensorboard *t);
#endif
