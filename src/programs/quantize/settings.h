/* settings.h - what kdas-quantize was asked for. */
#ifndef QUANTIZE_SETTINGS_H
#define QUANTIZE_SETTINGS_H
#include <stdbool.h>
#include <stdint.h>
#include "arguments/context.h"

typedef struct settings {
    const char *model, *weights, *entry, *data, *out, *wide, *csv, *list;
    int64_t     size[2], method, frames, held_out, probes, most_wide, mask_rule;
    double      percentile, wide_error;
    bool        no_masks, skip_bad, resize_masks, allow_empty, quiet;
    machine     machine;
} settings;

/* -1 to go on, else the exit code. */
int settings_read(settings *s, int argc, char **argv);
#endif
