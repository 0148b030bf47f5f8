/* scores.h - figures of several models on several sets of frames, each with one or more
 * seeds: printed, written, compared. */
#ifndef PROGRAMS_SCORES_H
#define PROGRAMS_SCORES_H
#include "distill/scores/figures.h"
#include "distill/scores/stats.h"

typedef struct scores {
    stage          stage; /* the sets; the caller's                                              */
    int            models, seeds;
    int            students;    /* the models before this one are no rows: they have one seed    */
    int            baseline;    /* the model that the others are compared with; below 0: none    */
    const char   **model_names; /* filled in by the caller, alive as long as the scores          */
    const int64_t *seed_values; /* the caller's                                                  */
    figures       *cells;       /* (models,seeds,sets)                                           */
} scores;

enum { ALL_SETS = -1 }; /* in place of a set: the mean over the sets */

void scores_begin(scores *s, const stage *t, int models, int students, int seeds,
                  const int64_t *seed_values);
void scores_end(scores *s);
/* Figures of all sets. */
figures *scores_cells(const scores *s, int model, int seed);
/* Seeds of a model: all, or one of what is no row. */
int scores_seeds(const scores *s, int model);
/* Over the seeds; NaN where it was not measured. */
spread scores_get(const scores *s, int set, int model, kdas_metric metric);
/* Whether there is a difference of this model to the baseline with a spread, and that of mean Dice.
 * */
bool   scores_compared(const scores *s, int model);
paired scores_paired(const scores *s, int set, int model);
/* One sentence: which row is ahead. The caller frees it; NULL where nothing was measured. */
char *scores_verdict(const scores *s);
/* A table for the terminal: the figures that are quoted most, then the sentence. */
void scores_print(const scores *s);
/* Every figure that there is, in full precision: of each seed, and mean, spread and difference to
 * the baseline over the seeds. False after a sentence. */
bool scores_write_csv(const scores *s, const char *path);
bool scores_write_summary(const scores *s, const char *path);
#endif
