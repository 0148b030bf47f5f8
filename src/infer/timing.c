/* timing.c - a ring of the last frames' seconds, sorted at a query. */
#include "infer/timing.h"
#include <stdlib.h>

kdas_status kd_timing_init(kd_timing *t, kdas_context *ctx)
{
    *t        = (kd_timing){ .ctx = ctx };
    t->ring   = kd_calloc(ctx, (size_t)KDAS_STAGES * KDAS_TIMING_WINDOW, sizeof *t->ring);
    t->sorted = kd_calloc(ctx, KDAS_TIMING_WINDOW, sizeof *t->sorted);
    return t->ring && t->sorted ? KDAS_OK : KDAS_ENOMEM;
}

const char *kdas_segmenter_stage_name(kdas_segmenter_stage stage)
{
    static const char *const names[KDAS_STAGES] = { "input", "network", "output", "whole" };

    return (unsigned)stage < KDAS_STAGES ? names[stage] : NULL;
}

void kd_timing_finish(kd_timing *t)
{
    if (!t->ctx) return;
    kd_free(t->ctx, t->ring);
    kd_free(t->ctx, t->sorted);
}

void kd_timing_add(kd_timing *t, const double at[KDAS_STAGES])
{
    double *slot = t->ring + t->frames++ % KDAS_TIMING_WINDOW;

    slot[KDAS_STAGE_INPUT * KDAS_TIMING_WINDOW]   = at[1] - at[0];
    slot[KDAS_STAGE_NETWORK * KDAS_TIMING_WINDOW] = at[2] - at[1];
    slot[KDAS_STAGE_OUTPUT * KDAS_TIMING_WINDOW]  = at[3] - at[2];
    slot[KDAS_STAGE_WHOLE * KDAS_TIMING_WINDOW]   = at[3] - at[0];
}

void kd_timing_repeat(kd_timing *t, double seconds, bool given_up)
{
    t->repeated++;
    t->given_up += given_up;
    t->repeated_max = KD_MAX(t->repeated_max, seconds);
}

void kd_timing_reset(kd_timing *t)
{
    t->frames = t->overrun = t->repeated = t->given_up = 0;
    t->repeated_max                                    = 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The smallest value that at least `share` percent of n sorted ones do not exceed. */
static double percentile(const double *sorted, int64_t n, int64_t share)
{
    return sorted[(n * share + 99) / 100 - 1];
}

void kd_timing_get(kd_timing *t, kdas_timing_report *out)
{
    int64_t n = KD_MIN(t->frames, KDAS_TIMING_WINDOW);

    out->frames       = t->frames;
    out->window       = n;
    out->overrun      = t->overrun;
    out->repeated     = t->repeated;
    out->given_up     = t->given_up;
    out->repeated_max = t->repeated_max;
    for (int stage = 0; stage < KDAS_STAGES && n > 0; stage++) {
        const double *ring = t->ring + stage * KDAS_TIMING_WINDOW;

        for (int64_t i = 0; i < n; i++)
            t->sorted[i] = ring[i];
        qsort(t->sorted, (size_t)n, sizeof *t->sorted, by_value);
        out->last[stage] = ring[(t->frames - 1) % KDAS_TIMING_WINDOW];
        out->p50[stage]  = percentile(t->sorted, n, 50);
        out->p99[stage]  = percentile(t->sorted, n, 99);
        out->max[stage]  = t->sorted[n - 1];
    }
}
