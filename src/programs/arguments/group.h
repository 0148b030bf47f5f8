/* group.h - programs that share their work with the other processes of a job (--ranks): the options, joining, and what all
 * decide together. Without --ranks a group is this process alone, and all calls return at once.
 *
 * Rank 0 alone prints, draws and writes; the others say errors alone. Where something can fail on one rank only, such as a
 * file that rank 0 writes, group_all() follows: so no rank waits for one that has ended. */
#ifndef PROGRAMS_GROUP_H
#define PROGRAMS_GROUP_H
#include <kdas/model.h>
#include <kdas/ranks.h>
#include <stdbool.h>
#include "arguments/context.h"

typedef struct group {
    const char *collective; /* NULL: alone */
    double      timeout;    /* seconds; 0: the library's */
    kdas_ranks *ranks;      /* NULL: alone, or not joined yet */
} group;

/* Rows of an option table that write to `g`, a group of zeros. */
/* clang-format off */
#define GROUP_OPTIONS(g)                                                              \
    { OPTION_TEXT, "--ranks", "NAME", &(g).collective, 0, 0,                          \
      "share the work with the other processes of the job, by the\nplug-in NAME, such as mpi; the first one prints and writes" }, \
    { OPTION_REAL, "--ranks-timeout", "S", &(g).timeout, 0.001, 1000000,              \
      "seconds that a rank waits for the others (300)" }
/* clang-format on */

/* Join, if --ranks asks for it. From here on the ranks but the first are silent, and SIGUSR1 and SIGUSR2 stop a program, too.
 * False after a sentence. */
bool group_join(group *g, kdas_context *context, const machine *m);
void group_leave(group *g);
/* Whether this process is the one that prints and writes. */
bool group_first(const group *g);
/* Whether all ranks say that it is fine. A rank that says no has said why. */
bool group_all(const group *g, bool fine);
/* Whether all ranks have this text, which decides what they do next; `what` names it. False after a sentence. */
bool group_agrees(const group *g, const char *what, const char *text);
/* What the first rank says. False where a rank is lost. */
bool group_told(const group *g, bool *answer);
/* Give a model the values of the first rank's. */
bool group_copy(const group *g, kdas_model *model);
/* The exit code of all: the largest of theirs. */
int group_code(const group *g, int code);

#endif
