/* common_results.h - what a finished kdas-distill hands over: figures, pictures and the report. */
#ifndef COMMON_RESULTS_H
#define COMMON_RESULTS_H
#include "common_frames.h"
#include "common_scores.h"
#include "common_train.h"

/* All of a run. */
typedef struct work {
    settings      settings;
    kdas_context *context;
    frames        frames;
    kdas_model   *teacher;        /* frozen; NULL: there is none     */
    training      teaching;       /* the teacher's own, if it was trained here */
    training      rows[MAX_ROWS]; /* a student each                  */
    int           row_count;
} work;

/* Measure all models on the test sets (on the frames held out where there are none), print the
 * table, write scores.csv, overlays/ and report.html. False after a sentence or a cancel. */
bool results_write(const work *w);

/* ---- Parts of it, for the files that make it up ---------------------------------------------- */

enum { MAX_MODELS = MAX_ROWS + 1 };

/* Models in the order of the tables: the teacher, if there is one, then the students. */
typedef struct cast {
    kdas_model *model[MAX_MODELS];
    const char *name[MAX_MODELS];
    int         count, students; /* where the students begin */
} cast;

/* The sets that are measured. */
typedef struct stage {
    kdas_dataset **sets;
    char         **names;
    int            count;
} stage;

/* Draw sheets of some frames of a set, from the worst to the best for the last student, into
 * `dir`. Calls `each` for every sheet with a JPEG of it, which is removed afterwards.
 * (common_gallery.c) */
typedef bool (*sheet_fn)(void *user, const char *jpeg, const char *caption);
bool gallery_draw(const work *w, const cast *c, const stage *t, const scores *s, int set,
                  const char *dir, sheet_fn each, void *user);
/* The page. (common_page.c) */
bool page_write(const work *w, const cast *c, const stage *t, const scores *s);
#endif
