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
} kd_timing;

kdas_status kd_timing_init(kd_timing *timing, kdas_context *ctx);
void        kd_timing_finish(kd_timing *timing);
/* When a frame's input, network and output began, and its end. */
void kd_timing_add(kd_timing *timing, const double at[KDAS_STAGES]);
void kd_timing_get(kd_timing *timing, kdas_timing_report *out);

#endif
