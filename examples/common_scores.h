/* common_scores.h - figures of several models on several sets of frames: printed, written,
 * compared. */
#ifndef COMMON_SCORES_H
#define COMMON_SCORES_H
#include <kdas/metric.h>
#include <stdbool.h>

typedef struct scores {
    int              sets, models;
    const char     **set_names, **model_names; /* the caller's, alive as long as the scores */
    kdas_evaluator **cells;                    /* (sets,models); NULL: not measured         */
} scores;

/* Room for so many; the names are filled in by the caller. False after a sentence. */
bool            scores_begin(scores *s, kdas_context *context, int sets, int models);
void            scores_end(scores *s);
kdas_evaluator *scores_cell(const scores *s, int set, int model);
/* NaN where it was not measured. */
double scores_get(const scores *s, int set, int model, kdas_metric metric);
/* A table for the terminal: the figures that are quoted most. */
void scores_print(const scores *s);
/* Every figure in full precision. False after a sentence. */
bool scores_write_csv(const scores *s, const char *path);
#endif
