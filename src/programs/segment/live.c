/* live.c - a stream of frames in, a stream of masks or overlays out. */
#include "segment/live.h"
#include <stdlib.h>
#include <time.h>
#include "segment/stream.h"
#include "system/say.h"
#include "system/stop.h"

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* `out` is the frame's own memory for overlays, which are drawn into the planes of YUV frames. */
static kdas_status segment(kdas_segmenter *segmenter, const kdas_view *frame, live_output output,
                           uint8_t *out)
{
    switch (output) {
    case LIVE_PROBABILITY: return kdas_segmenter_probability(segmenter, frame, out, 0);
    case LIVE_OVERLAY: return kdas_segmenter_overlay(segmenter, frame, out, 0, NULL);
    default: return kdas_segmenter_mask(segmenter, frame, out, 0);
    }
}

/* How even the frames were, and what the deadline did. */
static void say_deadline(kdas_segmenter *segmenter, const kdas_timing_report *r)
{
    kdas_segmenter_options o = { .size = sizeof o };

    if (r->frames && r->p50[KDAS_STAGE_WHOLE] > 0)
        fprintf(stderr, "  p99/p50    %8.2f\n",
                r->p99[KDAS_STAGE_WHOLE] / r->p50[KDAS_STAGE_WHOLE]);
    if (!ok(kdas_segmenter_get_options(segmenter, &o)) || o.frame_deadline == 0) return;
    fprintf(stderr,
            "  deadline of %g ms: %lld repeated (%lld at once, %lld given up, at most %.2f ms), "
            "%lld late\n",
            1e3 * o.frame_deadline, (long long)r->repeated, (long long)(r->repeated - r->given_up),
            (long long)r->given_up, 1e3 * r->repeated_max, (long long)r->overrun);
}

static void say_times(kdas_segmenter *segmenter, const kdas_view *format, double seconds)
{
    kdas_timing_report r = { .size = sizeof r };
    int64_t            all;

    if (!ok(kdas_segmenter_timing(segmenter, &r)) || !(all = r.frames + r.repeated)) return;
    fprintf(stderr, "%s: %lld frame%s of %lldx%lld, %.1f frames/s\n", say_name(), (long long)all,
            all == 1 ? "" : "s", (long long)format->width, (long long)format->height,
            (double)all / seconds);
    fprintf(stderr, "  last %-5lld       p50      p99      max ms\n", (long long)r.window);
    for (int i = 0; i < r.stages; i++) {
        fprintf(stderr, "  %-10s %8.2f %8.2f %8.2f\n",
                kdas_segmenter_stage_name((kdas_segmenter_stage)i), 1e3 * r.p50[i], 1e3 * r.p99[i],
                1e3 * r.max[i]);
    }
    say_deadline(segmenter, &r);
}

int live_run(kdas_segmenter *segmenter, const kdas_view *format, live_output output, bool times)
{
    size_t       pixels = (size_t)(format->width * format->height), bytes = stream_bytes(format);
    uint8_t     *memory = need(bytes), *mask = need(pixels);
    uint8_t     *out   = output == LIVE_OVERLAY ? memory : mask;
    kdas_view    frame = stream_view(format, memory);
    stream_state state;
    double       begun  = 0;
    long long    frames = 0;
    int          code   = EXIT_FINE;

    stream_begin();
    if (!ok(kdas_segmenter_warm_up(segmenter, 0, 0, format->pixel))) {
        free(memory);
        free(mask);
        return stop_asked() ? EXIT_INTERRUPTED : EXIT_FAILED;
    }
    while ((state = stream_read(memory, bytes, frames + 1)) == STREAM_FINE) {
        if (!frames) begun = now();
        if (!ok(segment(segmenter, &frame, output, out))) {
            code = EXIT_FAILED;
            break;
        }
        state = stream_write(out, output == LIVE_OVERLAY ? bytes : pixels);
        if (state != STREAM_FINE) break;
        frames++;
    }
    if (state == STREAM_ENDS && !frames) say_error("no frame came on standard input");
    if (state == STREAM_BREAKS || (state == STREAM_ENDS && !frames)) code = EXIT_FAILED;
    if (state == STREAM_CLOSED) code = EXIT_CLOSED;
    if (stop_asked()) code = EXIT_INTERRUPTED;
    if (times && code != EXIT_CLOSED) say_times(segmenter, format, now() - begun);
    free(memory);
    free(mask);
    return code;
}
