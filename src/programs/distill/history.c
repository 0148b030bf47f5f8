/* history.c - what a training run has told: its curves, kept for the report. */
#include "distill/history.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "system/files.h"
#include "system/say.h"

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
        /* An epoch that the limit of steps cuts short ends where its last step is. */
        double at = h->step_count ? h->steps[h->step_count - 1].epoch : (double)state->epoch;

        *add_epoch(h) = (epoch_point){ at, state->validation_dice, state->validation_loss };
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

/* ---- Epochs of an earlier call, from log.csv ------------------------------------------------- */

/* The cell of `line` under the column that `header` calls `name`; NaN where it is empty or
 * missing. */
static double cell(const char *header, const char *line, const char *name)
{
    size_t length = strlen(name);

    for (;;) {
        size_t      wide = strcspn(header, ",\n");
        const char *rest = line + strcspn(line, ",\n");
        char       *end;

        if (wide == length && !memcmp(header, name, length)) {
            double value = strtod(line, &end);

            return end == line ? NAN : value;
        }
        if (header[wide] != ',' || *rest != ',') return NAN;
        header += wide + 1;
        line = rest + 1;
    }
}

static double kind_cell(const char *header, const char *line, const char *term, const char *kind)
{
    char   name[32];
    double value;

    snprintf(name, sizeof name, "%s_%s", term, kind);
    value = cell(header, line, name);
    return isnan(value) ? 0 : value; /* a log of an earlier version lacks terms that came later */
}

static void take_line(history *h, const char *header, const char *line)
{
    double      epoch = cell(header, line, "epoch"), dice = cell(header, line, "validation_dice");
    step_point *point = add_step(h);

    point->epoch = epoch - 0.5; /* its means belong to the middle */
    point->total = cell(header, line, "total");
    point->lr    = cell(header, line, "lr");
    for (int i = 0; i < KDAS_TERM_ROOM; i++) {
        const char *term = kdas_term_name((kdas_term)i);

        if (!term) break;
        point->raw[i]      = kind_cell(header, line, term, "raw");
        point->weighted[i] = kind_cell(header, line, term, "weighted");
        point->gradient[i] = kind_cell(header, line, term, "gradient");
    }
    *add_epoch(h) =
        (epoch_point){ epoch, isnan(dice) ? -1 : dice, cell(header, line, "validation_loss") };
    if (cell(header, line, "best") > 0) {
        h->best_epoch = (int64_t)epoch;
        h->best_dice  = isnan(dice) ? -1 : dice;
    }
    h->seconds += cell(header, line, "seconds");
    h->waited += cell(header, line, "waited");
    h->images_per_second = cell(header, line, "images_per_second");
}

void history_read_log(history *h, const char *path)
{
    FILE   *file = open_to_read(path);
    char    header[1024], line[1024];
    history all;
    double  first = h->step_count ? floor(h->steps[0].epoch - 1e-9) + 1 : INFINITY;

    if (!file) return;
    history_begin(&all, h->label);
    if (fgets(header, sizeof header, file)) {
        while (fgets(line, sizeof line, file)) {
            if (cell(header, line, "epoch") < first) take_line(&all, header, line);
        }
    }
    fclose(file);
    for (int64_t i = 0; i < h->step_count; i++)
        *add_step(&all) = h->steps[i];
    for (int64_t i = 0; i < h->epoch_count; i++)
        *add_epoch(&all) = h->epochs[i];
    all.seconds += h->seconds;
    all.waited += h->waited;
    if (h->step_count) all.images_per_second = h->images_per_second;
    if (h->epoch_count) {
        all.best_dice  = h->best_dice;
        all.best_epoch = h->best_epoch;
    }
    history_end(h);
    *h = all;
}
