/* results.h - what a finished kdas-distill hands over: figures, pictures and the report. */
#ifndef PROGRAMS_RESULTS_H
#define PROGRAMS_RESULTS_H
#include "distill/work.h"

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
#endif
