/* frames.h - how even live frames are: percentiles of the time of a frame, with and without bound threads. */
#ifndef BENCH_FRAMES_H
#define BENCH_FRAMES_H
#include <stdbool.h>

/* Rows frames_WxH_p50, _p99 and _max, and frames_WxH_pin_... where threads can be bound. */
bool run_frames(void);
#endif
