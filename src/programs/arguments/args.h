/* args.h - command lines: a table of options, read and explained. */
#ifndef PROGRAMS_ARGS_H
#define PROGRAMS_ARGS_H
#include <stdbool.h>
#include <stdint.h>

typedef enum option_kind {
    OPTION_GROUP, /* no option: a heading in the help          */
    OPTION_FLAG,  /* to: bool                                  */
    OPTION_TEXT,  /* to: const char *                          */
    OPTION_WHOLE, /* to: int64_t, low..high                    */
    OPTION_REAL,  /* to: double, low..high                     */
    OPTION_SIZE,  /* to: int64_t[2], height and width; a multiple of 32 each, "N" or "HxW" */
    OPTION_CHOICE /* to: int64_t, which of the words of `value`, "one|other", from 0   */
} option_kind;

typedef struct option {
    option_kind kind;
    const char *name;  /* "--batch", or the heading        */
    const char *value; /* what the help calls its value    */
    void       *to;
    double      low, high;
    const char *help;
} option;

typedef struct program {
    const char   *name;
    const char   *usage; /* what follows the name in the help, one form a line */
    const char   *about; /* a paragraph above the options                      */
    const option *options;
    int           count;
    const char   *after; /* a paragraph below them, or NULL                    */
    const char   *exits; /* what its exit statuses mean; NULL: EXIT_CODES      */
} program;

/* Read a command line: "--name value", "--name=value", "--" ends the options. What is no option
 * is moved to the front of argv[1..], *rest says how many. Returns -1 to go on, else the exit
 * code: after --help and --version 0, after a sentence about a wrong option EXIT_USAGE. */
int args_read(const program *p, int argc, char **argv, int *rest);
/* Say what is wrong with the command line; returns EXIT_USAGE. */
int args_wrong(const program *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The whole command line as a shell would read it. The caller frees it. */
char *args_joined(int argc, char **argv);
/* "0.75,1,1.25" into at most `room` numbers; how many, or -1 where the text is not that. */
int args_list(const char *text, float *out, int room);
#endif
