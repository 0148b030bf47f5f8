/* settings.h - what kdas-bench is told on its command line. */
#ifndef BENCH_SETTINGS_H
#define BENCH_SETTINGS_H
#include <stdbool.h>
#include <stdint.h>
#include "arguments/context.h"

#define MAX_REPS 1000

typedef struct settings {
    const char *student, *teacher, *only, *frame_text, *profile_tsv;
    int64_t     batch, size[2], reps, warm_up;
    machine     machine;
    int64_t     frame[2]; /* height, width */
    int64_t     frames;   /* of the figure of that name */
    bool        phases, profile, timeline, grow;
} settings;
extern settings set;

/* Settings that ask for a figure of this name. */
bool wanted(const char *name);
#endif
