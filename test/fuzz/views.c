/* views.c - views of pixels with any format, size and strides. Memory is as large as the view says and not a byte more, so
 * a sanitizer sees what is read or written outside. What the library takes, the test must be able to lay out. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz/fuzz.h"
#include "image/image.h"
#include "support/check_util.h"

enum { MOST = 1 << 20 };

/* Memory of a plane: where its top row is; NULL: it is not laid out. */
typedef struct plane {
    uint8_t *memory;
    void    *top;
} plane;

static int64_t bytes_of(int32_t pixel)
{
    switch (pixel) {
    case KDAS_PIXEL_GREY8:
    case KDAS_PIXEL_NV12:
    case KDAS_PIXEL_I420: return 1;
    case KDAS_PIXEL_RGB8:
    case KDAS_PIXEL_BGR8: return 3;
    case KDAS_PIXEL_P010: return 2;
    case KDAS_PIXEL_RGBA8:
    case KDAS_PIXEL_BGRA8:
    case KDAS_PIXEL_GREYF32: return 4;
    case KDAS_PIXEL_RGBF32: return 12;
    default: return 0;
    }
}

/* Rows of `row` bytes, `stride` apart. False: more than MOST bytes, or rows that overlap. */
static bool lay(plane *p, int64_t row, int64_t height, int64_t stride, uint8_t fill)
{
    int64_t step = stride ? stride : row, total, size;

    *p = (plane){ NULL, NULL };
    if (row < 1 || height < 1 || row > MOST || height > MOST) return false;
    if (height == 1) step = row;
    if (step == INT64_MIN || (step < 0 ? -step : step) < row) return false;
    if (__builtin_mul_overflow(step < 0 ? -step : step, height - 1, &total)) return false;
    if (total > MOST - row) return false;
    size      = total + row;
    p->memory = malloc((size_t)size);
    for (int64_t i = 0; i < size; i++)
        p->memory[i] = (uint8_t)(fill + i * 31);
    p->top = p->memory + (step < 0 ? total : 0);
    return true;
}

typedef struct laid {
    kdas_view view;
    plane     luma, chroma[2];
    bool      whole; /* all of its planes have memory */
} laid;

static laid make(kd_fuzz_bytes *b)
{
    laid       l    = { 0 };
    kdas_view *v    = &l.view;
    uint8_t    sane = kd_fuzz_byte(b);
    int64_t    w, h, wide;

    v->pixel  = sane & 1 ? (int32_t)kd_fuzz_whole(b) : 1 + kd_fuzz_byte(b) % 10;
    v->width  = sane & 2 ? kd_fuzz_whole(b) : 1 + kd_fuzz_byte(b) % 70;
    v->height = sane & 4 ? kd_fuzz_whole(b) : 1 + kd_fuzz_byte(b) % 70;
    v->stride = sane & 8 ? kd_fuzz_whole(b) : 0;
    v->matrix = sane & 16 ? (int32_t)kd_fuzz_whole(b) : kd_fuzz_byte(b) % 3;
    v->range  = sane & 16 ? (int32_t)kd_fuzz_whole(b) : kd_fuzz_byte(b) % 2;
    if (sane & 32)
        for (int i = 0; i < 2; i++)
            v->chroma_stride[i] = kd_fuzz_whole(b);
    if ((sane & 0xC0) == 0xC0) v->reserved = (int32_t)kd_fuzz_whole(b);
    if (v->width > MOST || v->width < 1 || v->height > MOST || v->height < 1) return l;
    l.whole = lay(&l.luma, v->width * bytes_of(v->pixel), v->height, v->stride, sane);
    v->data = l.luma.top;
    w       = (v->width + 1) / 2;
    h       = (v->height + 1) / 2;
    wide    = v->pixel == KDAS_PIXEL_NV12 ? 2 * w : v->pixel == KDAS_PIXEL_P010 ? 4 * w : w;
    for (int i = 0; v->pixel >= KDAS_PIXEL_NV12 && i < (v->pixel == KDAS_PIXEL_I420 ? 2 : 1); i++) {
        l.whole      = lay(&l.chroma[i], wide, h, v->chroma_stride[i], 9) && l.whole;
        v->chroma[i] = l.chroma[i].top;
    }
    return l;
}

static void drop(laid *l)
{
    free(l->luma.memory);
    free(l->chroma[0].memory);
    free(l->chroma[1].memory);
}

static bool usable(kdas_status st)
{
    ck_assert_msg(st == KDAS_OK || st == KDAS_EINVAL || st == KDAS_ESHAPE || st == KDAS_ENOMEM,
                  "%s: %s", kdas_status_name(st), kdas_last_error());
    return st == KDAS_OK;
}

static void convert(const laid *l, kd_fuzz_bytes *b)
{
    int32_t pixel  = kd_fuzz_byte(b) % 12;
    int64_t stride = kd_fuzz_byte(b) & 1 ? kd_fuzz_whole(b) : 0;
    plane   out;

    if (!lay(&out, l->view.width * bytes_of(pixel), l->view.height, stride, 0)) {
        uint8_t one[1];

        if (!bytes_of(pixel))
            kd_assert_status(kdas_view_convert(&l->view, one, stride, (kdas_pixel)pixel),
                             KDAS_EINVAL);
        return;
    }
    usable(kdas_view_convert(&l->view, out.top, stride, (kdas_pixel)pixel));
    free(out.memory);
}

static void make_images(kdas_context *ctx, const laid *l, kd_fuzz_bytes *b)
{
    kdas_image *image;
    int64_t     w = kd_fuzz_byte(b) & 1 ? kd_fuzz_whole(b) : 1 + kd_fuzz_byte(b) % 50;
    int64_t     h = kd_fuzz_byte(b) & 1 ? kd_fuzz_whole(b) : 1 + kd_fuzz_byte(b) % 50;

    if (w > 1 << 10 || h > 1 << 10) w = KD_MIN(w, 2), h = KD_MIN(h, 2);
    if (usable(kdas_image_resize(&image, ctx, &l->view, w, h))) {
        kdas_view view = kdas_image_view(image);

        ck_assert(view.width == w && view.height == h);
    }
    kdas_image_destroy(image);
    if (usable(kdas_image_convert(&image, ctx, &l->view, (kdas_pixel)(kd_fuzz_byte(b) % 12))))
        ck_assert_int_eq(kdas_image_view(image).width, l->view.width);
    kdas_image_destroy(image);
}

static void overlay(const laid *l, kd_fuzz_bytes *b)
{
    kdas_overlay_options o;
    int64_t              stride = kd_fuzz_byte(b) & 1 ? kd_fuzz_whole(b) : 0;
    int64_t              bytes  = l->view.pixel >= KDAS_PIXEL_NV12 ? 3 : bytes_of(l->view.pixel);
    bool                 inside = kd_fuzz_byte(b) & 1;
    kdas_view            mask   = { .width  = l->view.width,
                                    .height = l->view.height,
                                    .pixel  = KDAS_PIXEL_GREY8 };
    plane                of, out;

    kdas_overlay_options_init(&o, sizeof o);
    o.opacity = (float)kd_fuzz_real(b);
    if (!lay(&of, l->view.width, l->view.height, 0, kd_fuzz_byte(b))) return;
    mask.data = of.top;
    if (inside)
        usable(kdas_image_overlay(&l->view, &mask, (void *)(uintptr_t)l->view.data, l->view.stride,
                                  &o));
    else if (lay(&out, l->view.width * bytes, l->view.height, stride, 0)) {
        usable(kdas_image_overlay(&l->view, &mask, out.top, stride, &o));
        free(out.memory);
    }
    free(of.memory);
}

static void save(kdas_context *ctx, const laid *l, kd_fuzz_bytes *b)
{
    const char *path = kd_fuzz_path(kd_fuzz_byte(b) & 1 ? "view.jpg" : "view.png");
    kdas_image *image;

    if (l->view.width * l->view.height > 4096) return;
    if (!usable(kdas_image_save(ctx, path, &l->view))) return;
    kd_assert_ok(kdas_image_load(&image, ctx, path, KDAS_PIXEL_RGB8));
    ck_assert(kdas_image_view(image).width == l->view.width &&
              kdas_image_view(image).height == l->view.height);
    kdas_image_destroy(image);
}

static void run(const uint8_t *data, size_t size)
{
    kd_fuzz_bytes b   = { data, data + size };
    kdas_context *ctx = kd_fuzz_begin();
    laid          l   = make(&b);
    kdas_batch   *batch;
    uint8_t       what = kd_fuzz_byte(&b);

    if (!l.whole) {
        kdas_image *image;

        kd_assert_status(kdas_image_resize(&image, ctx, &l.view, 3, 3), KDAS_EINVAL);
        ck_assert_ptr_null(image);
        kd_assert_status(kdas_image_save(ctx, kd_fuzz_path("none.png"), &l.view), KDAS_EINVAL);
    } else if (what % 5 == 0)
        convert(&l, &b);
    else if (what % 5 == 1)
        make_images(ctx, &l, &b);
    else if (what % 5 == 2)
        overlay(&l, &b);
    else if (what % 5 == 3)
        save(ctx, &l, &b);
    else {
        kd_assert_ok(kdas_batch_create(&batch, ctx, 2, 32, 32));
        usable(kdas_batch_set(batch, kd_fuzz_whole(&b), &l.view, NULL));
        usable(kdas_batch_set(batch, 0, &l.view, &l.view));
        usable(kdas_batch_set_weights(batch, 0, &l.view));
        usable(kdas_batch_set_teacher(batch, 1, &l.view));
        kdas_batch_destroy(batch);
    }
    drop(&l);
    kd_fuzz_end();
}

static void seeds(void)
{
    /* flags, then for each flag that is off its small value: pixel, width, height, matrix, range; what; ... */
    for (uint8_t pixel = 0; pixel < 10; pixel++)
        for (uint8_t what = 0; what < 5; what++) {
            const uint8_t seed[] = { 0, pixel, 12, 8, pixel, pixel, what, pixel, 0, 4, 6, 1, 0 };
            const char    name[] = { 'v', (char)('a' + pixel), (char)('0' + what), 0 };

            kd_fuzz_seed(name, seed, sizeof seed);
        }
}

const kd_fuzz_target kd_fuzz_views = { "views", run, NULL, seeds };
