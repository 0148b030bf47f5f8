/* live.h - a stream of frames in, a stream of masks or overlays out. */
#ifndef PROGRAMS_LIVE_H
#define PROGRAMS_LIVE_H
#include <kdas/infer.h>
#include <stdbool.h>

typedef enum live_output { LIVE_MASK, LIVE_PROBABILITY, LIVE_OVERLAY } live_output;

/* Segment standard input to standard output, frames of `format` (see stream.h), until it ends; then, if
 * `times`, say on stderr how long it took. Returns the exit code. */
int live_run(kdas_segmenter *segmenter, const kdas_view *format, live_output output, bool times);
#endif
