/* overlay.c - masks shown on frames. Where the mask is not, bytes stay as they are. */
#include "io/overlay.h"
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

kdas_status kd_tint_init(kd_tint *tint, const kdas_overlay_options *options, kdas_pixel pixel)
{
    bool                 bgr = pixel == KDAS_PIXEL_BGR8 || pixel == KDAS_PIXEL_BGRA8;
    kdas_overlay_options o;
    uint8_t              colour[3];
    int                  share;

    kdas_overlay_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_overlay_options"));
    if (!(o.opacity >= 0 && o.opacity <= 1))
        return kd_fail(KDAS_EINVAL, "overlay: opacity is %g, not 0 to 1", (double)o.opacity);
    share         = (int)(o.opacity * 255 + 0.5f);
    tint->samples = kd_pixel_samples(pixel);
    tint->colours = kd_pixel_colours(pixel);
    for (int c = 0; c < 3; c++)
        colour[c] = o.colour[bgr ? 2 - c : c];
    if (tint->colours == 1) {
        kdas_view one = { o.colour, 1, 1, 0, KDAS_PIXEL_RGB8 };

        kd_view_pack(colour, KDAS_PIXEL_GREY8, &one);
    }
    for (int c = 0; c < tint->colours; c++)
        for (int v = 0; v < 256; v++)
            tint->to[c][v] = (uint8_t)((v * (255 - share) + colour[c] * share + 127) / 255);
    return KDAS_OK;
}

/* One pixel after the other; `samples` and `colours` are constants where it is used. */
static inline void tint_pixels(const kd_tint *tint, uint8_t *pixels, const uint8_t *mask,
                               int64_t width, int samples, int colours)
{
    for (int64_t x = 0; x < width; x++) {
        uint64_t eight;

        if (x + 8 <= width && (memcpy(&eight, mask + x, 8), !(eight & 0x8080808080808080u))) {
            x += 7;
            continue;
        }
        if (mask[x] < 128) continue;
        for (int c = 0; c < colours; c++)
            pixels[x * samples + c] = tint->to[c][pixels[x * samples + c]];
    }
}

void kd_tint_row(const kd_tint *tint, uint8_t *pixels, const uint8_t *mask, int64_t width)
{
    switch (tint->samples) {
    case 1: tint_pixels(tint, pixels, mask, width, 1, 1); break;
    case 3: tint_pixels(tint, pixels, mask, width, 3, 3); break;
    default: tint_pixels(tint, pixels, mask, width, 4, 3); break;
    }
}

/* ---- Where it is drawn ----------------------------------------------------------------------- */

static int64_t row_bytes(const kdas_view *frame)
{
    return frame->width * kd_pixel_samples(frame->pixel);
}

kdas_status kd_overlay_check(const kdas_view *frame, const void *out, int64_t stride,
                             const char *what)
{
    int64_t row = row_bytes(frame), step = stride ? stride : row;

    if (!out) return kd_fail(KDAS_EINVAL, "%s: out is NULL", what);
    if (kd_pixel_is_float(frame->pixel))
        return kd_fail(KDAS_EINVAL, "%s: pixels must be 8-bit", what);
    if (!kd_stride_fits(stride, row))
        return kd_fail(KDAS_EINVAL, "%s: rows of %lld bytes do not fit a stride of %lld", what,
                       (long long)row, (long long)stride);
    if (out == frame->data && frame->height > 1 && step != kd_view_stride(frame))
        return kd_fail(KDAS_EINVAL,
                       "%s: out is the frame's memory, with a stride of %lld and not %lld", what,
                       (long long)step, (long long)kd_view_stride(frame));
    if (out != frame->data &&
        kd_rows_overlap(out, step, row, frame->data, kd_view_stride(frame), row, frame->height))
        return kd_fail(KDAS_EINVAL, "%s: out overlaps the frame and is not the same", what);
    return KDAS_OK;
}

uint8_t *kd_overlay_row(const kdas_view *frame, void *out, int64_t stride, int64_t y)
{
    uint8_t *row = (uint8_t *)out + y * (stride ? stride : row_bytes(frame));

    if (out != frame->data) memcpy(row, kd_view_row(frame, y), (size_t)row_bytes(frame));
    return row;
}

kdas_status kdas_image_overlay(const kdas_view *frame, const kdas_view *mask, void *out,
                               int64_t stride, const kdas_overlay_options *options)
{
    kd_tint tint;

    KD_RETURN(kd_view_check(frame, "kdas_image_overlay"));
    KD_RETURN(kd_view_check(mask, "kdas_image_overlay: mask"));
    if (mask->pixel != KDAS_PIXEL_GREY8)
        return kd_fail(KDAS_EINVAL, "kdas_image_overlay: the mask's pixels are not GREY8");
    if (mask->width != frame->width || mask->height != frame->height)
        return kd_fail(KDAS_ESHAPE,
                       "kdas_image_overlay: a mask of %lldx%lld on a frame of %lldx%lld",
                       (long long)mask->width, (long long)mask->height, (long long)frame->width,
                       (long long)frame->height);
    KD_RETURN(kd_overlay_check(frame, out, stride, "kdas_image_overlay"));
    KD_RETURN(kd_tint_init(&tint, options, frame->pixel));
    for (int64_t y = 0; y < frame->height; y++)
        kd_tint_row(&tint, kd_overlay_row(frame, out, stride, y), kd_view_row(mask, y),
                    frame->width);
    return KDAS_OK;
}
