/* output.h - tables and lists that a program writes into a file. */
#ifndef PROGRAMS_OUTPUT_H
#define PROGRAMS_OUTPUT_H
#include <stdbool.h>
#include <stdio.h>

/* A path of "-" means standard output: tell this for each path before anything is printed. What the
 * program prints then goes to standard error, so that the table is alone on standard output. */
void output_claim(const char *path);
/* Whether two paths, either of which may be NULL, are one output. */
bool output_same(const char *a, const char *b);

typedef struct output {
    FILE       *file;
    const char *path;
    char *
        part; /* the file that becomes `path` at the end; NULL: a device or pipe, written as it is */
} output;

/* Begin a file, or go on with standard output. `path` must stay valid. False after a sentence. */
bool output_open(output *o, const char *path);
/* Put the file in its place. False after a sentence: what stood there is untouched. */
bool output_close(output *o);
#endif
