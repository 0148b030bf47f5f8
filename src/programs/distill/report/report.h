/* report.h - report.html: one file that holds its curves, tables and pictures, written
 * from the top down. Needs neither scripts nor other files, and reads in light and dark. */
#ifndef PROGRAMS_REPORT_H
#define PROGRAMS_REPORT_H
#include <stdbool.h>
#include <stdio.h>
#include "distill/history.h"
#include "distill/scores/scores.h"

typedef struct report {
    FILE *file;
    char *path, *part; /* the page, and the file beside it that becomes the page at the end */
} report;

/* `verdict` is the page's first line, or NULL. False after a sentence. */
bool report_begin(report *r, const char *path, const char *title, const char *verdict,
                  const char *subtitle);
/* Put the page in its place, or drop it. False after a sentence: what stood there is untouched. */
bool report_end(report *r, bool keep);

void report_section(report *r, const char *title, const char *text);
void report_text(report *r, const char *text); /* a paragraph more */
/* Large figures in a row: call begin, tile ..., end. */
void report_tiles_begin(report *r);
void report_tile(report *r, const char *label, const char *figure, const char *note);
void report_tiles_end(report *r);
/* Curves of runs laid over each other; colours[i] is the run's, as in the legend. */
void report_curves(report *r, const history *runs, const int *colours, int count);
/* A table for each set, the field's columns; the best figure of each column stands out. */
void report_scores(report *r, const scores *s);
/* Differences to the baseline in mean Dice, a column for each set; nothing where there are none. */
void report_differences(report *r, const scores *s);
/* A picture file, put into the page itself; a legend of coloured words above pictures. */
void report_legend(report *r);
bool report_picture(report *r, const char *path, const char *type, const char *caption);
/* Pairs of a word and what it stands for: call begin, fact ..., end. */
void report_facts_begin(report *r);
void report_fact(report *r, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void report_facts_end(report *r);
#endif
