/* frames.c - live frames one after the other, as a camera gives them: the median, the 99th percentile and the longest. Two
 * contexts, one with threads bound to CPUs, take turns, so that whatever else the machine does meets both alike. */
#include "frames.h"
#include <kdas/kdas.h>
#include <stdio.h>
#include <stdlib.h>
#include "settings.h"
#include "system/say.h"
#include "system/stop.h"
#include "timing.h"
#include "work.h"

enum { TURN = 16 }; /* frames in a row on one context */

typedef struct lane {
    const char     *word; /* "" or "_pin" */
    kdas_context   *context;
    kdas_model     *model;
    kdas_segmenter *segmenter;
    double         *seconds;
} lane;

static bool lane_open(lane *l, bool pin)
{
    kdas_context_options   where = context_options(&set.machine);
    kdas_segmenter_options o;

    where.pin_threads = pin;
    l->word           = pin ? "_pin" : "";
    l->seconds        = need((size_t)set.frames * sizeof *l->seconds);
    kdas_segmenter_options_init(&o, sizeof o);
    o.height       = set.size[0];
    o.width        = set.size[1];
    o.frame_height = set.frame[0];
    o.frame_width  = set.frame[1];
    return ok(kdas_context_create(&l->context, &where)) &&
           make_model(&l->model, l->context, set.student, false) &&
           ok(kdas_segmenter_create(&l->segmenter, l->model, &o)) &&
           ok(kdas_segmenter_warm_up(l->segmenter, 0, 0, KDAS_PIXEL_RGB8));
}

static void lane_close(lane *l)
{
    kdas_segmenter_destroy(l->segmenter);
    kdas_model_destroy(l->model);
    kdas_context_destroy(l->context);
    free(l->seconds);
}

/* Frames begin .. end-1. */
static bool lane_run(lane *l, const kdas_view *frame, uint8_t *mask, int64_t begin, int64_t end)
{
    if (!ok(kdas_segmenter_mask(l->segmenter, frame, mask, 0)))
        return false; /* threads are moved */
    for (int64_t i = begin; i < end; i++) {
        double start = now();

        if (stop_asked() || !ok(kdas_segmenter_mask(l->segmenter, frame, mask, 0))) return false;
        l->seconds[i] = now() - start;
    }
    return true;
}

static void lane_print(const lane *l)
{
    static const struct {
        const char *word;
        int64_t     share; /* of 100 */
    } rows[] = { { "p50", 50 }, { "p99", 99 }, { "max", 100 } };
    char name[64];

    median(l->seconds, set.frames); /* puts them in order */
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        snprintf(name, sizeof name, "frames_%lldx%lld%s_%s", (long long)set.frame[1],
                 (long long)set.frame[0], l->word, rows[k].word);
        print_row(name, l->seconds[(set.frames * rows[k].share + 99) / 100 - 1], 1);
    }
}

bool run_frames(void)
{
    lane      lanes[2] = { { 0 } };
    int64_t   pixels   = set.frame[0] * set.frame[1];
    uint8_t  *rgb = need((size_t)pixels * 3), *mask = need((size_t)pixels);
    kdas_view frame = {
        .data = rgb, .width = set.frame[1], .height = set.frame[0], .pixel = KDAS_PIXEL_RGB8
    };
    bool good  = lane_open(&lanes[0], false) && lane_open(&lanes[1], true);
    int  count = good && kdas_context_pinned(lanes[1].context) ? 2 : 1;

    for (int64_t i = 0; i < pixels * 3; i++) /* a soft pattern: nothing depends on it */
        rgb[i] = (uint8_t)(i / 3 % set.frame[1] / 8 + i / 3 / set.frame[1] / 4 + i % 3 * 40);
    for (int64_t i = 0; i < set.frames; i += TURN)
        for (int k = 0; good && k < count; k++)
            good =
                lane_run(&lanes[k], &frame, mask, i, i + TURN < set.frames ? i + TURN : set.frames);
    for (int k = 0; good && k < count; k++)
        lane_print(&lanes[k]);
    if (good) printf("# %lld frames each\n", (long long)set.frames);
    for (int k = 0; k < 2; k++)
        lane_close(&lanes[k]);
    free(rgb);
    free(mask);
    return good;
}
