/* report.h - what only kdas-distill's report.html has: curves and tables of scores. */
#ifndef PROGRAMS_REPORT_H
#define PROGRAMS_REPORT_H
#include "distill/history.h"
#include "distill/scores/scores.h"
#include "html/page.h"

/* Curves of runs laid over each other; colours[i] is the run's, as in the legend. */
void report_curves(report *r, const history *runs, const int *colours, int count);
/* A table for each set, the field's columns; the best figure of each column stands out. */
void report_scores(report *r, const scores *s);
/* Differences to the baseline in mean Dice, a column for each set; nothing where there are none. */
void report_differences(report *r, const scores *s);
/* A legend of coloured words above pictures. */
void report_legend(report *r);
#endif
