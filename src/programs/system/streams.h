/* streams.h - standard input, output and error. A program that was asked for output and lost it does not end as if all
 * were well: say_as() begins to watch, and at exit a sentence says what was lost and the exit status is EXIT_FAILED, or
 * EXIT_CLOSED and no sentence where nobody reads on. A status that is worse stays. */
#ifndef PROGRAMS_STREAMS_H
#define PROGRAMS_STREAMS_H
#include <stdbool.h>

/* To be called first. Descriptors 0 to 2 that are closed are taken by /dev/null, in the direction that fails: else the
 * next file would be opened as one of them, and messages written into it. A write that nobody reads fails, instead of
 * ending the program. */
void streams_begin(void);
/* The exit status of a program that failed: where output is lost, or memory has run out (EXIT_FAILED). */
void streams_failed_as(int status);
int  streams_failure(void);
/* Whether standard output takes no more: there is no sense in computing what would only be printed. */
bool streams_lost(void);

/* From now on, what is printed goes to standard error: standard output is for a table alone. Returns the descriptor for
 * it, the same one each time; -1 with errno. */
int streams_claim(void);
/* Report that a write to it failed. */
void streams_lose(int error);
#endif
