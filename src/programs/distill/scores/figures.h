/* figures.h - the figures of one model on one set of frames, and a file that keeps those of
 * all sets, so that a run that is taken up again need not measure anew. */
#ifndef PROGRAMS_FIGURES_H
#define PROGRAMS_FIGURES_H
#include <kdas/data.h>
#include <kdas/metric.h>
#include <stdbool.h>

typedef struct figures {
    int64_t frames;              /* 0: not measured */
    int64_t empty;               /* masks without polyp */
    double  value[KDAS_METRICS]; /* means over the frames */
    double *dice;                /* (frames): Dice at 0.5 of each */
} figures;

/* The sets that are measured. */
typedef struct stage {
    kdas_dataset **sets;
    char         **names;
    int            count;
} stage;

/* False after a sentence. figures_free() gives it back. */
bool figures_take(figures *f, const kdas_evaluator *evaluator);
void figures_free(figures *f);
/* Write those of all sets, whole or not at all. `key` says what they are of. False after a
 * sentence. */
bool figures_save(const figures *f, const stage *t, const char *key, const char *path);
/* Read them back; false, and nothing is said, where there is no such file or it is of another key
 * or other frames. */
bool figures_load(figures *f, const stage *t, const char *key, const char *path);
#endif
