/* settings.h - the command line of kdas-doctor. */
#ifndef DOCTOR_SETTINGS_H
#define DOCTOR_SETTINGS_H
#include "arguments/context.h"
#include "arguments/group.h"
#include "doctor/pairs.h"

typedef struct settings {
    const char *data, *train, *test, *unlabelled; /* folders; lists with commas but for `data` */
    const char *csv, *report, *keep, *drop;
    limits      at;
    int         leave; /* reasons to leave a frame out, LEAVE_... */
    int64_t     pictures;
    group       group; /* whose ranks are joined with the context */
    machine     machine;
    char       *command; /* the whole line, owned */
} settings;

/* -1 to go on, else the exit code. */
int settings_read(settings *s, int argc, char **argv);
#endif
