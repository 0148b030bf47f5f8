/* overlay.c - masks shown on frames. Bytes outside the mask are unchanged. */
#include "image/overlay.h"
#include <string.h>

void kdas_overlay_options_init(kdas_overlay_options *options, size_t size)
{
    kdas_overlay_options defaults = { .size    = size,
                                      .colour  = { 0xff, 0xa0, 0x1e },
                                      .opacity = 0.275f };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* ---- Ready ----------------------------------------------------------------------------------- */

/* Tables for the samples of packed pixels. */
static void fill_tables(kd_overlay *o, kdas_pixel pixel, const uint8_t rgb[3])
{
    bool    bgr = kd_pixel_is_bgr(pixel);
    uint8_t colour[3];

    o->samples = kd_pixel_samples(pixel);
    o->colours = kd_pixel_colours(pixel);
    for (int c = 0; c < 3; c++)
        colour[c] = rgb[bgr ? 2 - c : c];
    if (o->colours == 1) {
        kdas_view one = { rgb, 1, 1, 0, KDAS_PIXEL_RGB8 };

        kd_view_pack(colour, KDAS_PIXEL_GREY8, &one);
    }
    for (int c = 0; c < o->colours; c++)
        for (int v = 0; v < 256; v++)
            o->to[c][v] = (uint8_t)((v * (255 - o->share) + colour[c] * o->share + 127) / 255);
}

/* Whether the tint goes into the frame's own memory. */
static bool in_place(const kd_overlay *o) { return o->out == o->frame->data; }

/* `row`: bytes of one that is drawn. */
static kdas_status check_out(const kd_overlay *o, int64_t row, int64_t stride, const char *what)
{
    if (!kd_stride_fits(stride, row))
        return kd_fail(KDAS_EINVAL, "%s: rows of %lld bytes do not fit a stride of %lld", what,
                       (long long)row, (long long)stride);
    if (in_place(o) && o->frame->height > 1 && o->stride != kd_view_stride(o->frame))
        return kd_fail(KDAS_EINVAL,
                       "%s: out is the frame's memory, with a stride of %lld and not %lld", what,
                       (long long)o->stride, (long long)kd_view_stride(o->frame));
    if (!in_place(o) && kd_view_overlaps(o->frame, o->out, o->stride, row))
        return kd_fail(KDAS_EINVAL, "%s: out overlaps the frame and is not the same", what);
    return KDAS_OK;
}

kdas_status kd_overlay_init(kd_overlay *o, const kdas_view *frame, void *out, int64_t stride,
                            const kdas_overlay_options *options, const char *what)
{
    bool                 is_yuv = kd_pixel_is_yuv(frame->pixel);
    kdas_overlay_options given;
    int64_t              row;

    if (!out) return kd_fail(KDAS_EINVAL, "%s: out is NULL", what);
    if (kd_pixel_is_float(frame->pixel))
        return kd_fail(KDAS_EINVAL, "%s: pixels must be 8-bit or YUV", what);
    kdas_overlay_options_init(&given, sizeof given);
    KD_RETURN(kd_take_options(&given, sizeof given, options, "kdas_overlay_options"));
    KD_RETURN(kd_check_reserved(given.reserved, "kdas_overlay_options"));
    if (!(given.opacity >= 0 && given.opacity <= 1))
        return kd_fail(KDAS_EINVAL, "overlay: opacity is %g, not 0 to 1", (double)given.opacity);

    *o = (kd_overlay){ .frame = frame, .out = out, .rows = 1 };
    if (is_yuv) kd_yuv_init(&o->yuv, frame, kd_has_avx2());
    if (is_yuv && in_place(o)) o->rows = 2;
    o->share = (int)(given.opacity * 255 + 0.5f);
    if (o->rows == 2) {
        kd_yuv_colour(o->colour, &o->yuv, given.colour);
        row = o->yuv.plane[0].row;
    } else {
        fill_tables(o, is_yuv ? KDAS_PIXEL_RGB8 : frame->pixel, given.colour);
        row = frame->width * o->samples;
    }
    o->stride = stride ? stride : row;
    return check_out(o, row, stride, what);
}

/* ---- Packed pixels --------------------------------------------------------------------------- */

/* Whether all eight mask bytes from x on are below 128. */
static inline bool eight_outside(const uint8_t *mask, int64_t x, int64_t width)
{
    uint64_t eight;

    if (x + 8 > width) return false;
    memcpy(&eight, mask + x, 8);
    return !(eight & 0x8080808080808080u);
}

/* One pixel after the other; `samples` and `colours` are constants where it is used. */
static inline void tint_pixels(const kd_overlay *o, uint8_t *pixels, const uint8_t *mask,
                               int samples, int colours)
{
    int64_t width = o->frame->width;

    for (int64_t x = 0; x < width; x++) {
        if (eight_outside(mask, x, width)) {
            x += 7;
            continue;
        }
        if (mask[x] < 128) continue;
        for (int c = 0; c < colours; c++)
            pixels[x * samples + c] = o->to[c][pixels[x * samples + c]];
    }
}

static void draw_packed(const kd_overlay *o, int64_t y, const uint8_t *mask)
{
    const kdas_view *frame = o->frame;
    uint8_t         *row   = (uint8_t *)o->out + y * o->stride;

    if (kd_pixel_is_yuv(frame->pixel))
        kd_yuv_row(&o->yuv, row, y, 0, frame->width);
    else if (!in_place(o))
        memcpy(row, kd_view_row(frame, y), (size_t)(frame->width * o->samples));
    switch (o->samples) {
    case 1: tint_pixels(o, row, mask, 1, 1); break;
    case 3: tint_pixels(o, row, mask, 3, 3); break;
    default: tint_pixels(o, row, mask, 4, 3); break;
    }
}

/* ---- Planes ---------------------------------------------------------------------------------- */

/* Tint a sample in proportion to `quarters`, the share of its pixels in the mask. */
static inline void tint_sample(const kd_overlay *o, uint8_t *at, int plane, int quarters)
{
    int share = o->share * quarters, colour = o->colour[plane];
    int value = o->yuv.deep ? (at[0] | at[1] << 8) >> 6 : *at;

    value = (value * (1020 - share) + colour * share + 510) / 1020;
    if (o->yuv.deep) {
        at[0] = (uint8_t)(value << 6);
        at[1] = (uint8_t)(value >> 2);
    } else {
        *at = (uint8_t)value;
    }
}

static void draw_luma(const kd_overlay *o, int64_t y, const uint8_t *mask)
{
    int64_t  width = o->frame->width, bytes = o->yuv.deep ? 2 : 1;
    uint8_t *row = (uint8_t *)o->out + y * o->stride;

    for (int64_t x = 0; x < width; x++) {
        if (eight_outside(mask, x, width))
            x += 7;
        else if (mask[x] >= 128)
            tint_sample(o, row + x * bytes, 0, 4);
    }
}

/* Chroma of rows y and, unless it is beyond the last, y + 1. */
static void draw_chroma(const kd_overlay *o, int64_t y, const uint8_t *const mask[2])
{
    const kd_yuv_samples from  = kd_yuv_samples_at(&o->yuv, y, 0);
    int64_t              width = o->frame->width;

    for (int64_t x = 0; x < width; x += 2) {
        int pixels = 0, inside = 0;

        for (int i = 0; i < 2 && mask[i]; i++)
            for (int64_t k = x; k < KD_MIN(x + 2, width); k++, pixels++)
                inside += mask[i][k] >= 128;
        if (!inside) continue;
        tint_sample(o, (uint8_t *)from.cb + x / 2 * from.step, 1, 4 * inside / pixels);
        tint_sample(o, (uint8_t *)from.cr + x / 2 * from.step, 2, 4 * inside / pixels);
    }
}

/* ---- Draw ------------------------------------------------------------------------------------ */

void kd_overlay_draw(const kd_overlay *o, int64_t y, const uint8_t *const mask[2])
{
    if (o->rows == 1) {
        draw_packed(o, y, mask[0]);
        return;
    }
    for (int i = 0; i < 2 && mask[i]; i++)
        draw_luma(o, y + i, mask[i]);
    draw_chroma(o, y, mask);
}

kdas_status kdas_image_overlay(const kdas_view *frame, const kdas_view *mask, void *out,
                               int64_t stride, const kdas_overlay_options *options)
{
    kd_overlay o;

    KD_RETURN(kd_view_check(frame, "kdas_image_overlay"));
    KD_RETURN(kd_view_check(mask, "kdas_image_overlay: mask"));
    if (mask->pixel != KDAS_PIXEL_GREY8)
        return kd_fail(KDAS_EINVAL, "kdas_image_overlay: the mask's pixels are not GREY8");
    if (mask->width != frame->width || mask->height != frame->height)
        return kd_fail(KDAS_ESHAPE,
                       "kdas_image_overlay: a mask of %lldx%lld on a frame of %lldx%lld",
                       (long long)mask->width, (long long)mask->height, (long long)frame->width,
                       (long long)frame->height);
    KD_RETURN(kd_overlay_init(&o, frame, out, stride, options, "kdas_image_overlay"));
    for (int64_t y = 0; y < frame->height; y += o.rows) {
        const uint8_t *rows[2] = { kd_view_row(mask, y),
                                   y + 1 < frame->height ? kd_view_row(mask, y + 1) : NULL };

        kd_overlay_draw(&o, y, rows);
    }
    return KDAS_OK;
}
