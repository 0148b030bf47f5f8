/* warm_up.c - a black frame on the way of real ones, so that they find everything made. */
#include <string.h>
#include "image/overlay.h"
#include "infer/segmenter.h"

enum { RUNS = 2 }; /* a device that captures the network does so in its second run */

typedef struct picture {
    kdas_view view;
    uint8_t  *pixels; /* all planes */
    uint8_t  *mask;
    uint8_t  *drawn; /* as the view, or RGB8 */
} picture;

static void picture_finish(picture *p, kdas_context *ctx)
{
    kd_free(ctx, p->pixels);
    kd_free(ctx, p->mask);
    kd_free(ctx, p->drawn);
}

/* Planes one after the other; black enough. */
static kdas_status picture_init(picture *p, kdas_context *ctx)
{
    size_t   area = (size_t)(p->view.width * p->view.height), bytes = 0, at = 0;
    kd_plane plane[KD_PLANES];
    int      planes = kd_view_planes(plane, &p->view);

    for (int i = 0; i < planes; i++)
        bytes += (size_t)(plane[i].row * plane[i].height);
    p->pixels = kd_calloc(ctx, bytes, 1);
    p->mask   = kd_alloc(ctx, area);
    p->drawn  = kd_alloc(ctx, area * 4);
    if (!p->pixels || !p->mask || !p->drawn) return KDAS_ENOMEM;
    p->view.data = p->pixels;
    for (int i = 1; i < planes; i++) {
        at += (size_t)(plane[i - 1].row * plane[i - 1].height);
        p->view.chroma[i - 1] = p->pixels + at;
    }
    return KDAS_OK;
}

/* Forms of results beside the mask. */
static void write_other_forms(kdas_segmenter *s, const picture *p)
{
    kd_overlay overlay;

    kd_frame_probability(s->frame, p->mask, 0, s->sum);
    if (kd_pixel_is_float(p->view.pixel) ||
        kd_overlay_init(&overlay, &p->view, p->drawn, 0, NULL, "segmenter") != KDAS_OK)
        return;
    overlay.yuv.vectors = overlay.yuv.vectors && !s->ctx->plain;
    kd_frame_overlay(s->frame, &overlay, s->sum, s->edges);
}

/* The last run, a mask alone, tells how long a frame takes. */
static kdas_status run_picture(kdas_segmenter *s, const picture *p)
{
    double seconds = 0;

    for (int i = 0; i < RUNS; i++) {
        KD_RETURN(kd_segmenter_begin(s, &p->view));
        if (i == 0) write_other_forms(s, p);
        kd_frame_mask(s->frame, p->mask, 0, s->sum, s->edges);
        seconds = kd_segmenter_end(s);
        kdas_segmenter_reset(s); /* before another result could be made of this one */
    }
    kd_segmenter_learn(s, seconds);
    return KDAS_OK;
}

/* The view that such frames have, once there are pixels. */
static kdas_status check_kind(kdas_view *out, const kdas_segmenter *s, int64_t height,
                              int64_t width, kdas_pixel pixel)
{
    const kdas_segmenter_options *o = &s->options;
    static const float            dot;

    if (height == 0 && width == 0) {
        height = o->frame_height;
        width  = o->frame_width;
        if (height == 0)
            return kd_fail(KDAS_EINVAL, "kdas_segmenter_warm_up: which size? The options state "
                                        "none, and height and width are 0");
    }
    *out = (kdas_view){
        .data = &dot, .width = width, .height = height, .pixel = pixel, .chroma = { &dot, &dot }
    };
    KD_RETURN(kd_segmenter_check_frame(s, out));
    if (!kd_pixel_is_yuv(pixel)) out->chroma[0] = out->chroma[1] = NULL;
    return KDAS_OK;
}

kdas_status kdas_segmenter_warm_up(kdas_segmenter *s, int64_t height, int64_t width,
                                   kdas_pixel pixel)
{
    picture     p = { { 0 } };
    kdas_status st;

    if (!s) return kd_fail(KDAS_EINVAL, "kdas_segmenter_warm_up: the segmenter is NULL");
    KD_RETURN(check_kind(&p.view, s, height, width, pixel));
    kdas_segmenter_reset(s);
    KD_TRY(picture_init(&p, s->ctx));
    KD_TRY(run_picture(s, &p));
done:
    picture_finish(&p, s->ctx);
    if (st != KDAS_OK) kdas_segmenter_reset(s);
    return st;
}
