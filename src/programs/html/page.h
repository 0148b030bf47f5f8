/* page.h - pages of HTML: one file that holds its tables and pictures, written from the top down.
 * It needs neither scripts nor other files, and reads in light and dark. */
#ifndef PROGRAMS_HTML_PAGE_H
#define PROGRAMS_HTML_PAGE_H
#include <stdbool.h>
#include <stdio.h>
#include "system/output.h"

typedef struct report {
    FILE  *file; /* of `page` */
    output page;
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
/* A picture file, put into the page itself. */
bool report_picture(report *r, const char *path, const char *type, const char *caption);
/* Pairs of a word and what it stands for: call begin, fact ..., end. */
void report_facts_begin(report *r);
void report_fact(report *r, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void report_facts_end(report *r);

/* Text with <, >, & and quotes made safe for HTML; and the same between two pieces of HTML. */
void html_text(FILE *file, const char *text);
void html_element(FILE *file, const char *open, const char *text, const char *close);
#endif
