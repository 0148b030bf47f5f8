/* yuv_util.c - YUV frames for tests, and what real numbers make of them. */
#include "support/yuv_util.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"

const kdas_pixel kd_test_yuv_kinds[3] = { KDAS_PIXEL_NV12, KDAS_PIXEL_I420, KDAS_PIXEL_P010 };

/* ---- Frames ---- */

static kd_test_yuv blank(const kdas_view *like, int64_t pad, bool turned)
{
    kd_test_yuv f    = { .view = *like, .planes = like->pixel == KDAS_PIXEL_I420 ? 3 : 2 };
    int64_t     deep = like->pixel == KDAS_PIXEL_P010 ? 2 : 1, pairs = (like->width + 1) / 2;

    for (int i = 0; i < f.planes; i++) {
        int64_t  rows = i ? (like->height + 1) / 2 : like->height, stride;
        uint8_t *top;

        f.row[i]    = deep * (i == 0 ? like->width : f.planes == 2 ? 2 * pairs : pairs);
        stride      = f.row[i] + pad;
        f.bytes[i]  = (size_t)(stride * (rows - 1) + f.row[i]);
        f.memory[i] = malloc(f.bytes[i]);
        memset(f.memory[i], 0xA5, f.bytes[i]);
        top    = turned ? f.memory[i] + stride * (rows - 1) : f.memory[i];
        stride = turned ? -stride : pad ? stride : 0;
        if (i) {
            f.view.chroma[i - 1]        = top;
            f.view.chroma_stride[i - 1] = stride;
        } else {
            f.view.data   = top;
            f.view.stride = stride;
        }
    }
    return f;
}

/* A sample's place: bytes from the plane's top row are offset by it. */
static uint8_t *place(const kdas_view *v, int component, int64_t x, int64_t y)
{
    int64_t deep = v->pixel == KDAS_PIXEL_P010 ? 2 : 1, pairs = (v->width + 1) / 2, stride;
    bool    apart = v->pixel == KDAS_PIXEL_I420;
    int     plane = apart ? component - 1 : 0;

    if (component == 0) {
        stride = v->stride ? v->stride : v->width * deep;
        return (uint8_t *)v->data + y * stride + x * deep;
    }
    stride = v->chroma_stride[plane] ? v->chroma_stride[plane] : pairs * deep * (apart ? 1 : 2);
    return (uint8_t *)v->chroma[plane] + y / 2 * stride +
           (apart ? x / 2 : (x / 2 * 2 + component - 1) * deep);
}

int kd_test_yuv_get(const kdas_view *view, int component, int64_t x, int64_t y)
{
    const uint8_t *at = place(view, component, x, y);

    return view->pixel == KDAS_PIXEL_P010 ? (at[0] + 256 * at[1]) / 64 : at[0];
}

void kd_test_yuv_put(const kdas_view *view, int component, int64_t x, int64_t y, int value)
{
    uint8_t *at = place(view, component, x, y);

    if (view->pixel == KDAS_PIXEL_P010) {
        at[0] = (uint8_t)(value % 4 * 64);
        at[1] = (uint8_t)(value / 4);
    } else {
        *at = (uint8_t)value;
    }
}

/* 0..1 */
static double wanted(int component, int64_t x, int64_t y, kd_test_fill_kind kind)
{
    double u = kd_test_unit("yuv", (uint64_t)((y * 5000 + x) * 3 + component));

    if (kind == KD_TEST_NOISE) return fmin(fmax(0.5 + 0.55 * u, 0), 1); /* the ends often */
    if (component == 0)
        return 0.5 + 0.22 * sin(0.11 * (double)x) * cos(0.07 * (double)y) + 0.04 * u;
    return 0.5 + 0.1 * sin(0.05 * (double)(x + 3 * component) + 0.09 * (double)y) + 0.02 * u;
}

kd_test_yuv kd_test_yuv_make(kdas_pixel pixel, int64_t width, int64_t height, int64_t pad,
                             bool turned, kd_test_fill_kind kind)
{
    kdas_view   v    = { .width  = width,
                         .height = height,
                         .pixel  = pixel,
                         .matrix = KDAS_MATRIX_BT601,
                         .range  = KDAS_RANGE_LIMITED };
    kd_test_yuv f    = blank(&v, pad, turned);
    int         most = pixel == KDAS_PIXEL_P010 ? 1023 : 255;

    for (int c = 0; c < 3; c++)
        for (int64_t y = 0; y < height; y += c ? 2 : 1)
            for (int64_t x = 0; x < width; x += c ? 2 : 1)
                kd_test_yuv_put(&f.view, c, x, y, (int)lround(most * wanted(c, x, y, kind)));
    return f;
}

kd_test_yuv kd_test_yuv_copy(const kd_test_yuv *yuv, int64_t pad, bool turned)
{
    kd_test_yuv f = blank(&yuv->view, pad, turned);

    for (int c = 0; c < 3; c++)
        for (int64_t y = 0; y < f.view.height; y += c ? 2 : 1)
            for (int64_t x = 0; x < f.view.width; x += c ? 2 : 1)
                kd_test_yuv_put(&f.view, c, x, y, kd_test_yuv_get(&yuv->view, c, x, y));
    return f;
}

void kd_test_yuv_free(kd_test_yuv *yuv)
{
    for (int i = 0; i < 3; i++)
        free(yuv->memory[i]);
}

/* ---- Formulas: ITU-R BT.601-7, BT.709-6; full range as in JFIF ---- */

static void weights_of(double k[3], const kdas_view *view)
{
    bool hd = view->matrix == KDAS_MATRIX_BT709 ||
              (view->matrix == KDAS_MATRIX_AUTO && view->height >= 720);

    k[0] = hd ? 0.2126 : 0.299;
    k[2] = hd ? 0.0722 : 0.114;
    k[1] = 1 - k[0] - k[2];
}

void kd_test_yuv_rgb(double rgb[3], const kdas_view *view, int64_t x, int64_t y)
{
    double bits = view->pixel == KDAS_PIXEL_P010 ? 4 : 1, k[3], luma, cb, cr;

    weights_of(k, view);
    luma = kd_test_yuv_get(view, 0, x, y);
    cb   = kd_test_yuv_get(view, 1, x, y) - 128 * bits;
    cr   = kd_test_yuv_get(view, 2, x, y) - 128 * bits;
    if (view->range == KDAS_RANGE_FULL) {
        luma /= 256 * bits - 1;
        cb /= 256 * bits - 1;
        cr /= 256 * bits - 1;
    } else {
        luma = (luma - 16 * bits) / (219 * bits);
        cb /= 224 * bits;
        cr /= 224 * bits;
    }
    rgb[0] = luma + 2 * (1 - k[0]) * cr;
    rgb[2] = luma + 2 * (1 - k[2]) * cb;
    rgb[1] = (luma - k[0] * rgb[0] - k[2] * rgb[2]) / k[1];
    for (int c = 0; c < 3; c++)
        rgb[c] = 255 * fmin(fmax(rgb[c], 0), 1);
}

void kd_test_yuv_of(double yuv[3], const kdas_view *view, const uint8_t rgb[3])
{
    double bits = view->pixel == KDAS_PIXEL_P010 ? 4 : 1, k[3], luma, cb, cr;

    weights_of(k, view);
    luma = (k[0] * rgb[0] + k[1] * rgb[1] + k[2] * rgb[2]) / 255;
    cb   = (rgb[2] / 255.0 - luma) / (2 * (1 - k[2]));
    cr   = (rgb[0] / 255.0 - luma) / (2 * (1 - k[0]));
    if (view->range == KDAS_RANGE_FULL) {
        yuv[0] = luma * (256 * bits - 1);
        yuv[1] = cb * (256 * bits - 1) + 128 * bits;
        yuv[2] = cr * (256 * bits - 1) + 128 * bits;
    } else {
        yuv[0] = (16 + 219 * luma) * bits;
        yuv[1] = (128 + 224 * cb) * bits;
        yuv[2] = (128 + 224 * cr) * bits;
    }
}

double *kd_test_yuv_exact(const kdas_view *view)
{
    double *rgb = malloc((size_t)(view->width * view->height * 3) * sizeof *rgb);

    for (int64_t y = 0; y < view->height; y++)
        for (int64_t x = 0; x < view->width; x++)
            kd_test_yuv_rgb(rgb + (y * view->width + x) * 3, view, x, y);
    return rgb;
}

uint8_t *kd_test_yuv_bytes(const kdas_view *view)
{
    uint8_t *rgb = malloc((size_t)(view->width * view->height * 3));

    kd_assert_ok(kdas_view_convert(view, rgb, 0, KDAS_PIXEL_RGB8));
    return rgb;
}
