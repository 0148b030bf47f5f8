/* live_video.c - segment a video frame by frame: the segmenter is opened once for a frame size and warmed
 * up, then nothing is allocated. A frame that takes too long shows the mask before it.
 * The frames here are drawn, a moving disc, and the network is untrained; give it weights with
 * kdas_model_load(). */
#include <kdas/kdas.h>
#include <stdio.h>

enum { WIDTH = 320, HEIGHT = 240, FRAMES = 12 };

static void next_frame(uint8_t *rgb, int t) /* what a camera would do */
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            int dx = x - 80 - 10 * t, dy = y - 120, inside = dx * dx + dy * dy < 2500;

            *rgb++ = (uint8_t)(inside ? 210 : 150 + x % 16);
            *rgb++ = (uint8_t)(inside ? 120 : 70 + y % 16);
            *rgb++ = 80;
        }
}

int main(void)
{
    static uint8_t rgb[WIDTH * HEIGHT * 3];
    kdas_view frame = { .data = rgb, .width = WIDTH, .height = HEIGHT, .pixel = KDAS_PIXEL_RGB8 };
    kdas_context          *context   = NULL;
    kdas_model            *model     = NULL;
    kdas_segmenter        *segmenter = NULL;
    kdas_timing_report     timing    = { .size = sizeof timing };
    kdas_status            status;
    kdas_segmenter_options options;

    kdas_segmenter_options_init(&options, sizeof options);
    options.frame_width  = WIDTH;
    options.frame_height = HEIGHT;
    options.smoothing    = 0.6f; /* steady from frame to frame ...  */
    options.hysteresis   = 0.4f; /* ... and no flicker at the edges */

    options.frame_deadline = 1.0 / 25; /* else the mask before it: seconds */
    if ((status = kdas_context_create(&context, NULL)) == KDAS_OK &&
        (status = kdas_model_create(&model, context, "polyp_pvt_b0", NULL)) == KDAS_OK)
        status = kdas_segmenter_create(&segmenter, model, &options);
    if (status == KDAS_OK) status = kdas_segmenter_warm_up(segmenter, 0, 0, KDAS_PIXEL_RGB8);
    for (int t = 0; t < FRAMES && status == KDAS_OK; t++) {
        next_frame(rgb, t);
        status = kdas_segmenter_overlay(segmenter, &frame, rgb, 0, NULL); /* in place */
        /* ... show rgb; kdas_segmenter_repeated(segmenter) says whether its mask is an earlier one; at a
         * cut, kdas_segmenter_reset(segmenter) */
    }
    if (status == KDAS_OK) status = kdas_segmenter_timing(segmenter, &timing);
    if (status == KDAS_OK)
        printf("%d frames: half took no longer than %.1f ms, of which the network took %.1f ms; "
               "%d more repeated a mask\n",
               (int)timing.frames, 1e3 * timing.p50[KDAS_STAGE_WHOLE],
               1e3 * timing.p50[KDAS_STAGE_NETWORK], (int)timing.repeated);
    else
        fprintf(stderr, "%s\n", kdas_last_error());
    kdas_segmenter_destroy(segmenter);
    kdas_model_destroy(model);
    kdas_context_destroy(context);
    return status != KDAS_OK || fflush(stdout) != 0; /* a full disk */
}
