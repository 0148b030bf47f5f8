/* manual.h - what else is made of a program's table of options: its man page and its completion for
 * bash. `make install` asks each program for both, so they name the options that the program
 * has. */
#ifndef PROGRAMS_MANUAL_H
#define PROGRAMS_MANUAL_H
#include "arguments/args.h"

/* What the exit codes of every program mean. */
#define EXIT_CODES                                                                            \
    "0 done, 1 failed (also if output was lost), 2 wrong usage, 130 interrupted, 141 nobody " \
    "reads "                                                                                  \
    "the output"

/* Print the page in roff, with the macros of man(7). */
void manual_page(const program *p);
/* Print a script that bash reads. */
void manual_completion(const program *p);
#endif
