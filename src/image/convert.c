/* convert.c - pixels of one kind as another.
 * It and image.c call each other: a conversion reads views, and packing a view converts it. */
#include <string.h>
#include "image/image.h"
#include "image/yuv.h"

/* A row of n pixels, both kinds 8-bit. Between kinds alpha goes along, or is 255 where
 * there is none. */
static void row_as(uint8_t *to, kdas_pixel pixel, const uint8_t *p, kdas_pixel from, int64_t n)
{
    int  step = kd_pixel_samples(from), samples = kd_pixel_samples(pixel);
    bool bgr = kd_pixel_is_bgr(from);
    int  r = bgr ? 2 : 0, g = 1, b = bgr ? 0 : 2, red = kd_pixel_is_bgr(pixel) ? 2 : 0;

    if (pixel == from) {
        memcpy(to, p, (size_t)(n * step));
        return;
    }
    if (step == 1) r = g = b = 0;
    for (int64_t x = 0; x < n; x++, p += step, to += samples) {
        if (samples == 1) {
            to[0] = kd_luma(p[r], p[g], p[b]);
            continue;
        }
        to[red]     = p[r];
        to[1]       = p[g];
        to[2 - red] = p[b];
        if (samples == 4) to[3] = step == 4 ? p[3] : 255;
    }
}

/* A row of a YUV frame, as its RGB8 pixels would come out. */
static void yuv_row_as(uint8_t *to, kdas_pixel pixel, const kd_yuv *yuv, int64_t y)
{
    enum { PIECE = 256 };
    uint8_t rgb[3 * PIECE];
    int64_t width = yuv->view->width;

    if (pixel == KDAS_PIXEL_RGB8) {
        kd_yuv_row(yuv, to, y, 0, width);
        return;
    }
    for (int64_t x = 0; x < width; x += PIECE) {
        int64_t n = KD_MIN(PIECE, width - x);

        kd_yuv_row(yuv, rgb, y, x, n);
        row_as(to + x * kd_pixel_samples(pixel), pixel, rgb, KDAS_PIXEL_RGB8, n);
    }
}

static void convert(uint8_t *to, int64_t stride, kdas_pixel pixel, const kdas_view *view)
{
    bool   is_yuv = kd_pixel_is_yuv(view->pixel);
    kd_yuv yuv;

    if (is_yuv) kd_yuv_init(&yuv, view, kd_has_avx2());
    for (int64_t y = 0; y < view->height; y++) {
        uint8_t *row = to + y * stride;

        if (is_yuv)
            yuv_row_as(row, pixel, &yuv, y);
        else
            row_as(row, pixel, kd_view_row(view, y), view->pixel, view->width);
    }
}

void kd_view_pack(uint8_t *to, kdas_pixel pixel, const kdas_view *view)
{
    convert(to, view->width * kd_pixel_samples(pixel), pixel, view);
}

static kdas_status check_from(const kdas_view *view, const char *what)
{
    KD_RETURN(kd_view_check(view, what));
    if (!kd_pixel_is_float(view->pixel)) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "%s: pixels must be 8-bit or YUV", what);
}

kdas_status kdas_view_convert(const kdas_view *view, void *out, int64_t stride, kdas_pixel pixel)
{
    static const char what[] = "kdas_view_convert";
    int64_t           row;

    KD_RETURN(check_from(view, what));
    if (!out) return kd_fail(KDAS_EINVAL, "%s: out is NULL", what);
    if (!kd_pixel_samples(pixel) || kd_pixel_is_float(pixel) || kd_pixel_is_yuv(pixel))
        return kd_fail(KDAS_EINVAL, "%s: pixel %d is no 8-bit kind", what, (int)pixel);
    row = view->width * kd_pixel_samples(pixel);
    if (!kd_stride_fits(stride, row))
        return kd_fail(KDAS_EINVAL, "%s: rows of %lld bytes do not fit a stride of %lld", what,
                       (long long)row, (long long)stride);
    if (!stride) stride = row;
    if (kd_view_overlaps(view, out, stride, row))
        return kd_fail(KDAS_EINVAL, "%s: out overlaps the view", what);
    convert(out, stride, pixel, view);
    return KDAS_OK;
}

kdas_status kdas_image_convert(kdas_image **out, kdas_context *context, const kdas_view *view,
                               kdas_pixel pixel)
{
    if (!out) return kd_fail(KDAS_EINVAL, "kdas_image_convert: out is NULL");
    *out = NULL;
    if (!context) return kd_fail(KDAS_EINVAL, "kdas_image_convert: the context is NULL");
    KD_RETURN(check_from(view, "kdas_image_convert"));
    if (pixel != KDAS_PIXEL_GREY8 && pixel != KDAS_PIXEL_RGB8 && pixel != KDAS_PIXEL_RGBA8)
        return kd_fail(KDAS_EINVAL, "kdas_image_convert: pixel %d is not GREY8, RGB8 or RGBA8",
                       (int)pixel);
    KD_RETURN(kd_image_make(out, context, view->width, view->height, pixel));
    kd_view_pack((*out)->pixels, pixel, view);
    return KDAS_OK;
}
