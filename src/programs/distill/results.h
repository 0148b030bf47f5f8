/* results.h - what a finished kdas-distill hands over: figures, pictures and the report. */
#ifndef PROGRAMS_RESULTS_H
#define PROGRAMS_RESULTS_H
#include "distill/frames.h"
#include "distill/scores/scores.h"
#include "distill/train.h"

/* All of a run: a student for each preset (a row) and seed. */
typedef struct work {
    settings      settings;
    kdas_context *context;
    frames        frames;
    kdas_model   *teacher;  /* frozen; NULL: there is none               */
    training      teaching; /* the teacher's own, if it was trained here */
    training     *runs;     /* (row_count, seeds of settings)            */
    int           row_count;
    char         *made;   /* the demo's folder of frames                    */
    scores        scores; /* the teacher, if there is one, then the rows */
} work;

training   *work_run(const work *w, int row, int seed);
const char *work_row_name(const work *w, int row);

/* ---- Figures, as the trainings end ----------------------------------------------------------- */

/* Make room for the figures, when the teacher is known; `has_teacher`: there will be one. */
void results_begin(work *w, bool has_teacher);
void results_end(work *w);
/* Whether an earlier call of the same command has trained and measured this; then its figures are
 * taken. */
bool results_known(work *w, int row, int seed);
bool results_teacher_known(work *w);
/* Measure on the test sets (on the frames held out where there are none), and keep the figures in
 * the training's folder. False after a sentence or a cancel. */
bool results_measure(work *w, int row, int seed);
bool results_measure_teacher(work *w);

/* ---- The end --------------------------------------------------------------------------------- */

/* Print the table, write scores.csv, summary.csv, overlays/ and report.html. False after a sentence
 * or a cancel. */
bool results_write(const work *w);

/* ---- Parts of it, for the files that make it up ---------------------------------------------- */

enum { MAX_MODELS = MAX_ROWS + 1 };

/* Models in the order of the tables, of the first seed: the teacher, if there is one, then the
 * students. */
typedef struct cast {
    kdas_model *model[MAX_MODELS]; /* NULL where no pictures are drawn */
    const char *name[MAX_MODELS];
    int         count, students; /* where the students begin */
} cast;

/* Draw sheets of some frames of a set, from the worst to the best for the last student, into
 * `dir`. Calls `each` for every sheet with a JPEG of it, which is removed afterwards.
 * (gallery.c) */
typedef bool (*sheet_fn)(void *user, const char *jpeg, const char *caption);
bool gallery_draw(const work *w, const cast *c, int set, const char *dir, sheet_fn each,
                  void *user);
/* The page. (page.c) */
bool page_write(const work *w, const cast *c);
#endif
