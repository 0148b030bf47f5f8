/* progress.c - a training run as its user sees it: a bar on a terminal, plain lines
 * elsewhere. */
#include "distill/progress.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "system/say.h"

enum {
    FEWEST_CELLS  = 4,
    MOST_CELLS    = 32,
    BETWEEN_LINES = 10 /* seconds, where there is no terminal */
};

void progress_begin(progress *p, history *h, tensorboard *board, bool quiet)
{
    *p = (progress){
        .history = h, .board = board, .quiet = quiet, .terminal = isatty(STDOUT_FILENO)
    };
}

static const char *clock_text(char *text, size_t size, double seconds)
{
    long whole = isfinite(seconds) && seconds > 0 ? lround(seconds) : 0;

    if (whole >= 3600) {
        snprintf(text, size, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    } else {
        snprintf(text, size, "%ld:%02ld", whole / 60, whole % 60);
    }
    return text;
}

/* "loss 1.234 (seg 1.1 kd 0.1)": shares of the total, those that are not switched off. */
static void loss_text(char *text, size_t size, const kdas_step_report *r)
{
    int at = snprintf(text, size, "loss %.3f", r->total), shown = 0;

    for (int i = 0; i < r->terms; i++) {
        if (r->raw[i] == 0 && r->weighted[i] == 0) continue;
        at += snprintf(text + at, size - (size_t)at, "%s%s %.3g", shown++ ? " " : " (",
                       kdas_term_name((kdas_term)i), r->weighted[i]);
    }
    if (shown) snprintf(text + at, size - (size_t)at, ")");
}

/* "[===>    ] " in what the rest of the line leaves free; "" where that is too little. */
static void bar_text(char *text, int room, double done)
{
    int cells = room - 3 < MOST_CELLS ? room - 3 : MOST_CELLS, filled = (int)(cells * done);

    *text = '\0';
    if (cells < FEWEST_CELLS) return;
    *text++ = '[';
    for (int i = 0; i < cells; i++)
        *text++ = i < filled ? '=' : i == filled ? '>' : ' ';
    memcpy(text, "] ", 3);
}

static void tell_step(progress *p, const kdas_train_state *s)
{
    char head[120], tail[280], loss[160], left[32], bar[MOST_CELLS + 4], line[448];

    if (!p->terminal && s->seconds - p->told < BETWEEN_LINES) return;
    p->told = s->seconds;
    loss_text(loss, sizeof loss, s->report);
    snprintf(head, sizeof head, "%.40s %lld/%lld ", p->history->label, (long long)s->epoch,
             (long long)s->epochs);
    snprintf(tail, sizeof tail, "%lld/%lld  %s left  %s  lr %.3g  %.1f images/s",
             (long long)s->batch, (long long)s->batches,
             clock_text(left, sizeof left, s->seconds_left), loss, s->report->lr,
             s->images_per_second);
    bar_text(bar, p->terminal ? say_columns() - 1 - (int)(strlen(head) + strlen(tail)) : 0,
             (double)s->batch / (double)s->batches);
    snprintf(line, sizeof line, "%s%s%s", head, bar, tail);
    if (p->terminal) {
        say_redraw(line);
    } else {
        puts(line);
        fflush(stdout);
    }
}

static void tell_epoch(progress *p, const kdas_train_state *s)
{
    char dice[64] = "", skipped[48] = "", time[32];

    if (s->validation_dice >= 0) {
        snprintf(dice, sizeof dice, "  validation Dice %.4f%s", s->validation_dice,
                 s->is_best ? " (best)" : "");
    }
    if (s->skipped) snprintf(skipped, sizeof skipped, "  %lld skipped", (long long)s->skipped);
    say_redraw(NULL);
    printf("%s  epoch %lld/%lld  mean loss %.4f%s  lr %.3g  %.1f images/s%s  %s\n",
           p->history->label, (long long)s->epoch, (long long)s->epochs, s->mean_total, dice,
           s->report ? s->report->lr : 0.0, s->images_per_second, skipped,
           clock_text(time, sizeof time, s->seconds));
    if (s->stopped_early)
        printf("%s  stopped early: nothing better since epoch %lld\n", p->history->label,
               (long long)s->best_epoch);
    fflush(stdout);
    p->told = s->seconds;
}

int progress_event(void *user, const kdas_train_state *state)
{
    progress *p = user;

    history_note(p->history, state);
    tensorboard_note(p->board, state);
    if (p->quiet) return 0;
    if (state->event == KDAS_EVENT_EPOCH) {
        tell_epoch(p, state);
    } else {
        tell_step(p, state);
    }
    return 0;
}
