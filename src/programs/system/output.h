/* output.h - files that a program writes: whole or not at all. */
#ifndef PROGRAMS_OUTPUT_H
#define PROGRAMS_OUTPUT_H
#include <stdbool.h>
#include <stdio.h>
#include "system/sink.h"

/* A path of "-" means standard output: tell this for each path before anything is printed. What the
 * program prints then goes to standard error, so that the table is alone on standard output. */
void output_claim(const char *path);
/* Whether two paths, either of which may be NULL, are one output: through all links, "." and "..", also of files and
 * folders that are not there yet. */
bool output_same(const char *a, const char *b);

typedef struct output {
    FILE *file;
    sink *to;
    char *name, *path; /* as it was told; where links lead */
    char *temp;        /* the file that becomes `path` at the end; NULL: standard output, a device
                        * or a pipe, written as it is */
} output;

/* Whether a file can be made there, before long work is done for it; true of what is no file. False after a sentence. */
bool output_ready(const char *path);
/* Begin a file. It is written beside its place, under a name that no other process has. False after a
 * sentence. */
bool output_open(output *o, const char *path);
/* Bring the file to the disk and into its place. False after a sentence: what stood there is
 * untouched. Also true where it was standard output and nobody reads on: see streams.h. */
bool output_close(output *o);
/* Move a file that is on the disk to its place in the same folder. False after a sentence. */
bool output_move(const char *from, const char *to);
/* Drop the file: what stood there is untouched. */
void output_drop(output *o);
#endif
