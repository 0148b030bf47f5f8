/* common_history.c - what a training run has told: its curves, kept for the report. */
#include "common_history.h"
#include <stdlib.h>
#include <string.h>
#include "common_say.h"

void history_begin(history *h, const char *label)
{
    *h = (history){ .label = label, .best_dice = -1 };
}

void history_end(history *h)
{
    free(h->steps);
    free(h->epochs);
    *h = (history){ 0 };
}

static step_point *add_step(history *h)
{
    if (h->step_count == h->step_room) {
        h->step_room = h->step_room ? 2 * h->step_room : 256;
        h->steps     = need_more(h->steps, (size_t)h->step_room * sizeof *h->steps);
    }
    return memset(&h->steps[h->step_count++], 0, sizeof *h->steps);
}

static epoch_point *add_epoch(history *h)
{
    if (h->epoch_count == h->epoch_room) {
        h->epoch_room = h->epoch_room ? 2 * h->epoch_room : 32;
        h->epochs     = need_more(h->epochs, (size_t)h->epoch_room * sizeof *h->epochs);
    }
    return memset(&h->epochs[h->epoch_count++], 0, sizeof *h->epochs);
}

void history_note(history *h, const kdas_train_state *state)
{
    h->seconds           = state->seconds;
    h->images_per_second = state->images_per_second;
    h->waited            = state->waited;
    if (state->event == KDAS_EVENT_EPOCH) {
        *add_epoch(h) = (epoch_point){ (double)state->epoch, state->validation_dice, state->validation_loss };
        h->best_dice  = state->best_dice;
        h->best_epoch = state->best_epoch;
    } else {
        const kdas_step_report *report = state->report;
        step_point             *point  = add_step(h);

        point->epoch = (double)(state->epoch - 1) + (double)state->batch / (double)state->batches;
        point->total = report->total;
        point->lr    = report->lr;
        memcpy(point->raw, report->raw, sizeof point->raw);
        memcpy(point->weighted, report->weighted, sizeof point->weighted);
        memcpy(point->gradient, report->gradient, sizeof point->gradient);
    }
}
