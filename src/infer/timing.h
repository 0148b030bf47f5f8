/* timing.h - how long the stages of a segmenter's last frames took. */
#ifndef KD_TIMING_H
#define KD_TIMING_H
#include <kdas/infer.h>
#include "base/base.h"

typedef struct kd_timing {
    kdas_context *ctx;
    double *ring;   /* (stage,KDAS_TIMING_WINDOW) seconds; frame i is in i % KDAS_TIMING_WINDOW */
    double *sorted; /* scratch of a query */
    int64_t frames;
    /* As in kdas_timing_report. */
    int64_t overrun, repeated, given_up;
    double  repeated_max;
} kd_timing;

kdas_status kd_timing_init(kd_timing *timing, kdas_context *ctx);
void        kd_timing_finish(kd_timing *timing);
/* When a frame's input, network and output began, and its end. */
void kd_timing_add(kd_timing *timing, const double at[KDAS_STAGES]);
/* A call of so many seconds that repeated a result. */
void kd_timing_repeat(kd_timing *timing, double seconds, bool given_up);
void kd_timing_reset(kd_timing *timing);
void kd_timing_get(kd_timing *timing, kdas_timing_report *out);

#endif
