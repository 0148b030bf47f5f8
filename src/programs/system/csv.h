/* csv.h - tables of text: fields with commas between. */
#ifndef PROGRAMS_CSV_H
#define PROGRAMS_CSV_H
#include <stdio.h>

/* Write a text as a field: in quotes, quotes doubled, where it needs them. */
void csv_text(FILE *to, const char *text);
#endif
