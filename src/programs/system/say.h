/* say.h - how the programs speak: sentences on stderr, a line that is redrawn, exit
 * codes. */
#ifndef PROGRAMS_SAY_H
#define PROGRAMS_SAY_H
#include <kdas/base.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

enum {
    EXIT_FINE        = 0,
    EXIT_FAILED      = 1,
    EXIT_USAGE       = 2,
    EXIT_INTERRUPTED = 130,
    EXIT_CLOSED      = 141 /* nobody reads what is printed: as if SIGPIPE had ended the program */
};

#define SAY_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define COUNT(array)     ((int)(sizeof(array) / sizeof((array)[0])))

/* The name that sentences begin with. To be called first: it also begins to watch the standard
 * streams (streams.h), and lets a write beyond the limit on the size of files fail. */
void        say_as(const char *program);
const char *say_name(void);
/* From now on this process is a rank of several. All but the first are silent, but for errors, which begin with "rank N: ":
 * what they print goes nowhere, and an error of another rank is said by the first. */
void say_as_rank(int rank);
/* Whether this process is the first rank, or has none. Safe in a signal handler. */
bool say_is_first(void);
/* "program: sentence" on stderr. */
void say_error(const char *format, ...) SAY_PRINTF(1, 2);
/* True on success. Else the library's sentence is said, but for a cancel, which the user asked
 * for. */
bool ok(kdas_status status);
/* Receives a context's log (kdas_log_fn): errors are said, a warning once, the rest is dropped, but
 * for lines between say_more(true) and say_more(false). */
void say_more(bool more);
void say_log(void *user, kdas_log_level level, const char *text);

/* Draw `line` over the one drawn last, as far as the terminal is wide; NULL takes it away. What is
 * said in between appears above it. */
void say_redraw(const char *line);
/* Columns of the terminal, 80 where it does not tell. */
int say_columns(void);

/* Memory and text that must be there: without it the program ends with a sentence. */
void *need(size_t bytes);
void *need_more(void *memory, size_t bytes);
char *text_of(const char *format, ...) SAY_PRINTF(1, 2);
char *text_of_list(const char *format, va_list list) SAY_PRINTF(1, 0);
#endif
