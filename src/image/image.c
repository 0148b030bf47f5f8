/* image.c - images as handles, views of pixels, loading and saving. */
#include <string.h>
#include "image/image.h"

#define MAX_FILE (512u * 1024 * 1024) /* bytes of an image file; the decoder counts with int */

/* ---- Views ----------------------------------------------------------------------------------- */

int kd_pixel_samples(kdas_pixel pixel)
{
    switch (pixel) {
    case KDAS_PIXEL_GREY8:
    case KDAS_PIXEL_GREYF32: return 1;
    case KDAS_PIXEL_RGB8:
    case KDAS_PIXEL_BGR8:
    case KDAS_PIXEL_RGBF32:
    case KDAS_PIXEL_NV12:
    case KDAS_PIXEL_I420:
    case KDAS_PIXEL_P010: return 3;
    case KDAS_PIXEL_RGBA8:
    case KDAS_PIXEL_BGRA8: return 4;
    }
    return 0;
}

int kd_pixel_colours(kdas_pixel pixel) { return KD_MIN(kd_pixel_samples(pixel), 3); }

bool kd_pixel_is_float(kdas_pixel pixel)
{
    return pixel == KDAS_PIXEL_GREYF32 || pixel == KDAS_PIXEL_RGBF32;
}

bool kd_pixel_is_yuv(kdas_pixel pixel)
{
    return pixel == KDAS_PIXEL_NV12 || pixel == KDAS_PIXEL_I420 || pixel == KDAS_PIXEL_P010;
}

bool kd_pixel_is_bgr(kdas_pixel pixel)
{
    return pixel == KDAS_PIXEL_BGR8 || pixel == KDAS_PIXEL_BGRA8;
}

/* Of a row of pixels, or of luma. */
static int64_t row_bytes(const kdas_view *view)
{
    if (kd_pixel_is_yuv(view->pixel)) return view->width * (view->pixel == KDAS_PIXEL_P010 ? 2 : 1);
    return view->width * kd_pixel_samples(view->pixel) *
           (kd_pixel_is_float(view->pixel) ? (int64_t)sizeof(float) : 1);
}

int64_t kd_view_stride(const kdas_view *view)
{
    return view->stride ? view->stride : row_bytes(view);
}

int kd_view_planes(kd_plane out[KD_PLANES], const kdas_view *view)
{
    int64_t pairs = (view->width + 1) / 2; /* a sample of each kind for two pixels */
    int     n     = !kd_pixel_is_yuv(view->pixel) ? 1 : view->pixel == KDAS_PIXEL_I420 ? 3 : 2;

    out[0] = (kd_plane){ view->data, kd_view_stride(view), row_bytes(view), view->height };
    for (int i = 1; i < n; i++) {
        int64_t row    = pairs * (n == 3 ? 1 : view->pixel == KDAS_PIXEL_NV12 ? 2 : 4);
        int64_t stride = view->chroma_stride[i - 1];

        out[i] =
            (kd_plane){ view->chroma[i - 1], stride ? stride : row, row, (view->height + 1) / 2 };
    }
    return n;
}

bool kd_stride_fits(int64_t stride, int64_t row)
{
    int64_t most = INT64_MAX / (KDAS_IMAGE_MAX_SIDE + 1);

    return !stride || (stride >= row && stride <= most) || (stride <= -row && stride >= -most);
}

/* The addresses from a picture's lowest byte to behind its highest. */
typedef struct extent {
    uintptr_t low, high;
} extent;

static extent extent_of(const void *top, int64_t stride, int64_t row, int64_t height)
{
    int64_t last = (height - 1) * stride; /* from the top row to the bottom one */

    return (extent){ (uintptr_t)top + (uintptr_t)KD_MIN(last, 0),
                     (uintptr_t)top + (uintptr_t)(KD_MAX(last, 0) + row) };
}

/* Two views of one canvas may lie beside each other. With equal strides, their offsets within a row
 * decide whether they overlap. */
static bool beside(const kd_plane *a, const void *out, int64_t stride, int64_t row)
{
    uint64_t apart = (uint64_t)(stride < 0 ? -stride : stride), from;

    if (apart == 0 || (a->stride != stride && a->stride != -stride)) return false;
    from = ((uintptr_t)out % apart + apart - (uintptr_t)a->data % apart) % apart;
    return from >= (uint64_t)a->row && from + (uint64_t)row <= apart;
}

bool kd_view_overlaps(const kdas_view *view, const void *out, int64_t stride, int64_t row)
{
    extent   to = extent_of(out, stride, row, view->height);
    kd_plane plane[KD_PLANES];
    int      n = kd_view_planes(plane, view);

    for (int i = 0; i < n; i++) {
        extent from = extent_of(plane[i].data, plane[i].stride, plane[i].row, plane[i].height);

        if (to.low < from.high && from.low < to.high && !beside(&plane[i], out, stride, row))
            return true;
    }
    return false;
}

static kdas_status check_size(int64_t width, int64_t height, const char *what)
{
    if (width < 1 || height < 1 || width > KDAS_IMAGE_MAX_SIDE || height > KDAS_IMAGE_MAX_SIDE ||
        width * height > KDAS_IMAGE_MAX_PIXELS)
        return kd_fail(
            KDAS_EINVAL, "%s: %lldx%lld pixels; sides are 1 to %d, at most %d pixels in all", what,
            (long long)width, (long long)height, KDAS_IMAGE_MAX_SIDE, KDAS_IMAGE_MAX_PIXELS);
    return KDAS_OK;
}

/* What a YUV frame has besides a view's first members. */
static kdas_status check_yuv(const kdas_view *view, const char *what)
{
    kd_plane plane[KD_PLANES];
    int      n = kd_view_planes(plane, view);

    if ((int)view->matrix < KDAS_MATRIX_AUTO || (int)view->matrix > KDAS_MATRIX_BT709)
        return kd_fail(KDAS_EINVAL, "%s: %d is no kdas_matrix", what, (int)view->matrix);
    if ((int)view->range < KDAS_RANGE_LIMITED || (int)view->range > KDAS_RANGE_FULL)
        return kd_fail(KDAS_EINVAL, "%s: %d is no kdas_range", what, (int)view->range);
    if (view->reserved)
        return kd_fail(KDAS_EINVAL, "%s: the view's `reserved` is %d, not 0", what, view->reserved);
    for (int i = 1; i < n; i++) {
        if (!plane[i].data)
            return kd_fail(KDAS_EINVAL, "%s: the view's chroma[%d] is NULL", what, i - 1);
        if (!kd_stride_fits(view->chroma_stride[i - 1], plane[i].row))
            return kd_fail(KDAS_EINVAL, "%s: chroma_stride[%d] is %lld bytes for rows of %lld",
                           what, i - 1, (long long)view->chroma_stride[i - 1],
                           (long long)plane[i].row);
    }
    return KDAS_OK;
}

kdas_status kd_view_check(const kdas_view *view, const char *what)
{
    if (!view) return kd_fail(KDAS_EINVAL, "%s: the view is NULL", what);
    if (!view->data) return kd_fail(KDAS_EINVAL, "%s: the view has no data", what);
    if (!kd_pixel_samples(view->pixel))
        return kd_fail(KDAS_EINVAL, "%s: %d is no kdas_pixel", what, (int)view->pixel);
    KD_RETURN(check_size(view->width, view->height, what));
    if (!kd_stride_fits(view->stride, row_bytes(view)))
        return kd_fail(KDAS_EINVAL, "%s: a stride of %lld bytes for rows of %lld", what,
                       (long long)view->stride, (long long)row_bytes(view));
    if (kd_pixel_is_float(view->pixel) && (view->stride % 4 || (uintptr_t)view->data % 4))
        return kd_fail(KDAS_EINVAL, "%s: float pixels want data and stride in multiples of 4 bytes",
                       what);
    return kd_pixel_is_yuv(view->pixel) ? check_yuv(view, what) : KDAS_OK;
}

/* ---- Handles --------------------------------------------------------------------------------- */

kdas_status kd_image_make(kdas_image **out, kdas_context *ctx, int64_t width, int64_t height,
                          kdas_pixel pixel)
{
    int         channels = kd_pixel_samples(pixel);
    kdas_image *image    = kd_calloc(ctx, 1, sizeof *image);

    if (!image) return KDAS_ENOMEM;
    *image = (kdas_image){ ctx,      width, height,
                           channels, pixel, kd_alloc(ctx, (size_t)(width * height * channels)) };
    if (!image->pixels) {
        kd_free(ctx, image);
        return KDAS_ENOMEM;
    }
    *out = image;
    return KDAS_OK;
}

kdas_status kdas_image_create(kdas_image **out, kdas_context *context, int64_t width,
                              int64_t height, kdas_pixel pixel)
{
    if (!out) return kd_fail(KDAS_EINVAL, "kdas_image_create: out is NULL");
    *out = NULL;
    if (!context) return kd_fail(KDAS_EINVAL, "kdas_image_create: the context is NULL");
    if (pixel != KDAS_PIXEL_GREY8 && pixel != KDAS_PIXEL_RGB8 && pixel != KDAS_PIXEL_RGBA8)
        return kd_fail(KDAS_EINVAL, "kdas_image_create: pixel %d is not GREY8, RGB8 or RGBA8",
                       (int)pixel);
    KD_RETURN(check_size(width, height, "kdas_image_create"));
    KD_RETURN(kd_image_make(out, context, width, height, pixel));
    memset((*out)->pixels, 0, (size_t)(width * height * (*out)->channels));
    return KDAS_OK;
}

void kdas_image_destroy(kdas_image *image)
{
    if (!image) return;
    kd_free(image->ctx, image->pixels);
    kd_free(image->ctx, image);
}

kdas_view kdas_image_view(const kdas_image *image)
{
    if (!image) return (kdas_view){ 0 };
    return (kdas_view){ image->pixels, image->width, image->height, image->width * image->channels,
                        image->pixel };
}

uint8_t *kdas_image_pixels(kdas_image *image) { return image ? image->pixels : NULL; }

/* ---- Files ----------------------------------------------------------------------------------- */

/* The file's bytes, known to be whole. */
static kdas_status read_whole(kdas_context *ctx, const char *path, kd_image_info *info,
                              uint8_t **bytes, size_t *end)
{
    kdas_status st   = KDAS_OK;
    kd_file    *file = NULL;
    uint64_t    n;

    KD_TRY(kd_image_open(&file, ctx, path));
    KD_TRY(kd_image_info_read(info, file));
    n = kd_file_size(file);
    if (n > MAX_FILE) {
        st = kd_fail(KDAS_EFORMAT, "'%s' has %llu bytes; at most %u are read", path,
                     (unsigned long long)n, MAX_FILE);
        goto done;
    }
    *bytes = kd_alloc(ctx, (size_t)n + KD_CODEC_SPARE);
    if (!*bytes) {
        st = KDAS_ENOMEM;
        goto done;
    }
    KD_TRY(kd_file_read(file, 0, *bytes, (size_t)n));
    memset(*bytes + n, 0, KD_CODEC_SPARE);
    KD_TRY(kd_image_check_whole(info, path, *bytes, (size_t)n, end));
done:
    kd_file_close(file);
    return st;
}

/* Stored samples of 16 bits as 8-bit ones; see kd_image_load_samples. */
static void narrow(uint8_t *to, const uint16_t *from, size_t n, int bits, bool labels)
{
    uint16_t most = 0;

    for (size_t i = 0; labels && bits == 16 && i < n; i++)
        most = KD_MAX(most, from[i]);
    if (bits <= 8 || (labels && most <= 255)) {
        for (size_t i = 0; i < n; i++)
            to[i] = (uint8_t)from[i];
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = (uint8_t)(labels && from[i] && from[i] < 256 ? 1 : from[i] >> 8);
    }
}

/* The same for pixels whose last sample is alpha, which is no label: it has its own scale. */
static void narrow_with_alpha(uint8_t *to, const uint16_t *from, size_t pixels, int channels,
                              int bits, bool labels)
{
    uint16_t most = 0;

    for (size_t i = 0; labels && i < pixels; i++)
        for (int c = 0; c < channels - 1; c++)
            most = KD_MAX(most, from[i * (size_t)channels + (size_t)c]);
    for (size_t i = 0; i < pixels; i++, to += channels, from += channels) {
        narrow(to, from, (size_t)channels - 1, labels && most <= 255 ? 8 : bits, false);
        for (int c = 0; labels && c < channels - 1; c++)
            if (from[c] && !to[c]) to[c] = 1;
        narrow(to + channels - 1, from + channels - 1, 1, bits, false);
    }
}

/* Decode by way of 16 bits: all TIFF files, and PNGs of labels. */
static kdas_status decode_wide(uint8_t *to, kdas_context *ctx, int channels,
                               const kd_image_info *info, const char *path, uint8_t *bytes,
                               size_t end, bool labels)
{
    size_t      pixels = (size_t)(info->width * info->height);
    uint16_t   *wide   = kd_alloc(ctx, pixels * (size_t)channels * sizeof *wide);
    kdas_status st;

    if (!wide) return KDAS_ENOMEM;
    st = info->kind == KD_IMAGE_TIFF
             ? kd_tiff_decode(ctx, wide, channels, info, path, bytes, end)
             : kd_codec_decode16(ctx, wide, channels, info, path, bytes, end);
    if (st == KDAS_OK) {
        if (channels % 2 == 0)
            narrow_with_alpha(to, wide, pixels, channels, info->bits, labels);
        else
            narrow(to, wide, pixels * (size_t)channels, info->bits, labels);
    }
    kd_free(ctx, wide);
    return st;
}

/* Turn *pixels of `size` bytes each to be seen. */
static kdas_status turn(void **pixels, kdas_context *ctx, size_t size, const kd_image_info *info)
{
    void *turned;

    if (info->turn <= 1) return KDAS_OK;
    turned = kd_alloc(ctx, (size_t)(info->width * info->height) * size);
    if (!turned) return KDAS_ENOMEM;
    kd_image_turn(turned, *pixels, size, info);
    kd_free(ctx, *pixels);
    *pixels = turned;
    return KDAS_OK;
}

/* Decode a file in memory to `channels` samples for a pixel, as it is seen. */
static kdas_status decode(uint8_t **out, kdas_context *ctx, int channels, const kd_image_info *info,
                          const char *path, uint8_t *bytes, size_t end, bool labels)
{
    uint8_t    *pixels = kd_alloc(ctx, (size_t)(info->width * info->height * channels));
    void       *turned = pixels;
    kdas_status st;

    if (!pixels) return KDAS_ENOMEM;
    st = info->kind == KD_IMAGE_TIFF || (labels && info->bits == 16)
             ? decode_wide(pixels, ctx, channels, info, path, bytes, end, labels)
             : kd_codec_decode(ctx, pixels, channels, info, path, bytes, end);
    if (st == KDAS_OK) st = turn(&turned, ctx, (size_t)channels, info);
    if (st == KDAS_OK)
        *out = turned;
    else
        kd_free(ctx, turned);
    return st;
}

kdas_status kd_image_load_samples(uint8_t **out, kd_image_info *info, int *channels,
                                  kdas_context *ctx, const char *path, bool labels)
{
    kdas_status st    = KDAS_OK;
    uint8_t    *bytes = NULL;
    size_t      end   = 0;

    *out = NULL;
    KD_TRY(read_whole(ctx, path, info, &bytes, &end));
    *channels = info->kind == KD_IMAGE_JPEG ? (info->channels == 1 ? 1 : 3)
                : info->channels <= 2       ? 2
                                            : 4;
    st        = decode(out, ctx, *channels, info, path, bytes, end, labels);
done:
    kd_free(ctx, bytes);
    return st;
}

/* Put a grey image in the place of a colour one. */
static kdas_status drop_colour(kdas_image **image)
{
    kdas_view   view = kdas_image_view(*image);
    kdas_image *grey;

    KD_RETURN(kd_image_make(&grey, (*image)->ctx, view.width, view.height, KDAS_PIXEL_GREY8));
    kd_view_pack(grey->pixels, KDAS_PIXEL_GREY8, &view);
    kdas_image_destroy(*image);
    *image = grey;
    return KDAS_OK;
}

/* An image that owns these pixels from then on; they are freed on failure. */
static kdas_status wrap(kdas_image **out, kdas_context *ctx, const kd_image_info *info,
                        kdas_pixel pixel, uint8_t *pixels)
{
    kdas_image *image = kd_calloc(ctx, 1, sizeof *image);

    if (!image) {
        kd_free(ctx, pixels);
        return KDAS_ENOMEM;
    }
    *image = (kdas_image){ ctx, info->width, info->height, kd_pixel_samples(pixel), pixel, pixels };
    *out   = image;
    return KDAS_OK;
}

kdas_status kd_image_load(kdas_image **out, kd_image_info *info, kdas_context *ctx,
                          const char *path, kdas_pixel pixel)
{
    kdas_status st    = KDAS_OK;
    kdas_image *image = NULL;
    uint8_t    *bytes = NULL, *pixels;
    size_t      end   = 0;
    kdas_pixel  decoded;

    *out = NULL;
    KD_TRY(read_whole(ctx, path, info, &bytes, &end));
    decoded = pixel == KDAS_PIXEL_GREY8 && info->channels <= 2 ? KDAS_PIXEL_GREY8 : KDAS_PIXEL_RGB8;
    KD_TRY(decode(&pixels, ctx, kd_pixel_samples(decoded), info, path, bytes, end, false));
    KD_TRY(wrap(&image, ctx, info, decoded, pixels));
    if (decoded != pixel) KD_TRY(drop_colour(&image));
    *out  = image;
    image = NULL;
done:
    kd_free(ctx, bytes);
    kdas_image_destroy(image);
    return st;
}

kdas_status kdas_image_load(kdas_image **out, kdas_context *context, const char *path,
                            kdas_pixel pixel)
{
    kd_image_info info;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_image_load: out is NULL");
    *out = NULL;
    if (!context || !path)
        return kd_fail(KDAS_EINVAL, "kdas_image_load: the %s is NULL",
                       context ? "path" : "context");
    if (pixel != KDAS_PIXEL_GREY8 && pixel != KDAS_PIXEL_RGB8)
        return kd_fail(KDAS_EINVAL, "kdas_image_load: pixel %d is not GREY8 or RGB8", (int)pixel);
    KD_RETURN(kd_image_load(out, &info, context, path, pixel));
    if (info.turn > 1)
        kd_warn(context,
                "'%s' is turned as its EXIF orientation says (%d): it is used as it is seen, "
                "%lldx%lld",
                path, info.turn, (long long)info.width, (long long)info.height);
    return KDAS_OK;
}

kdas_status kd_image_check_grey(const kd_image_info *info, const char *path)
{
    if (info->kind != KD_IMAGE_PNG)
        return kd_fail(KDAS_EFORMAT, "'%s' is no PNG, whatever its name says", path);
    if (info->channels > 2)
        return kd_fail(KDAS_EFORMAT, "'%s' has colours; a map is grey, of 8 or 16 bits", path);
    return KDAS_OK;
}

kdas_status kd_image_load_grey16(uint16_t **out, kd_image_info *info, kdas_context *ctx,
                                 const char *path)
{
    kdas_status st      = KDAS_OK;
    uint8_t    *bytes   = NULL;
    void       *samples = NULL;
    size_t      end     = 0;

    *out = NULL;
    KD_TRY(read_whole(ctx, path, info, &bytes, &end));
    KD_TRY(kd_image_check_grey(info, path));
    samples = kd_alloc(ctx, (size_t)(info->width * info->height) * sizeof **out);
    if (!samples) {
        st = KDAS_ENOMEM;
        goto done;
    }
    KD_TRY(kd_codec_decode16(ctx, samples, 1, info, path, bytes, end));
    KD_TRY(turn(&samples, ctx, sizeof **out, info));
    *out    = samples;
    samples = NULL;
done:
    kd_free(ctx, bytes);
    kd_free(ctx, samples);
    return st;
}

/* Floats of 0..1 as a grey PNG of 16 bits. */
static kdas_status save_grey16(kdas_context *ctx, const char *path, const kdas_view *view)
{
    kdas_status st     = KDAS_OK;
    kd_writer  *writer = NULL;
    uint16_t   *to     = kd_alloc(ctx, (size_t)(view->width * view->height) * sizeof *to);

    if (!to) return KDAS_ENOMEM;
    for (int64_t y = 0; y < view->height; y++) {
        const float *row = kd_view_row(view, y);

        for (int64_t x = 0; x < view->width; x++) {
            float v = row[x] > 0 ? KD_MIN(row[x], 1.0f) : 0;

            to[y * view->width + x] = (uint16_t)(v * 65535.0f + 0.5f);
        }
    }
    KD_TRY(kd_writer_open(&writer, ctx, path));
    KD_TRY(kd_codec_encode16(ctx, writer, to, view->width, view->height));
    st = kd_writer_commit(&writer);
done:
    kd_writer_discard(writer);
    kd_free(ctx, to);
    return st;
}

kdas_status kdas_image_save(kdas_context *context, const char *path, const kdas_view *view)
{
    kdas_status    st     = KDAS_OK;
    kd_writer     *writer = NULL;
    uint8_t       *packed = NULL;
    const uint8_t *pixels;
    kdas_pixel     pixel;
    bool           jpeg;

    if (!context || !path)
        return kd_fail(KDAS_EINVAL, "kdas_image_save: the %s is NULL",
                       context ? "path" : "context");
    KD_RETURN(kd_view_check(view, "kdas_image_save"));
    jpeg = kd_path_has_extension(path, ".jpg") || kd_path_has_extension(path, ".jpeg");
    if (view->pixel == KDAS_PIXEL_GREYF32 && !jpeg) return save_grey16(context, path, view);
    if (kd_pixel_is_float(view->pixel))
        return kd_fail(KDAS_EINVAL, "kdas_image_save: pixels must be 8-bit or YUV to go to '%s'",
                       path);

    pixel  = kd_pixel_colours(view->pixel) == 1 ? KDAS_PIXEL_GREY8 : KDAS_PIXEL_RGB8;
    pixels = view->data;
    if (view->pixel != (int32_t)pixel || kd_view_stride(view) != row_bytes(view)) {
        pixels = packed =
            kd_alloc(context, (size_t)(view->width * view->height * kd_pixel_samples(pixel)));
        if (!packed) return KDAS_ENOMEM;
        kd_view_pack(packed, pixel, view);
    }
    KD_TRY(kd_writer_open(&writer, context, path));
    KD_TRY(kd_codec_encode(context, writer, jpeg ? KD_IMAGE_JPEG : KD_IMAGE_PNG, pixels,
                           view->width, view->height, kd_pixel_samples(pixel)));
    st = kd_writer_commit(&writer);
done:
    kd_writer_discard(writer);
    kd_free(context, packed);
    return st;
}

kdas_status kdas_image_resize(kdas_image **out, kdas_context *context, const kdas_view *view,
                              int64_t width, int64_t height)
{
    kdas_status st    = KDAS_OK;
    kdas_image *image = NULL;
    kdas_pixel  pixel;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_image_resize: out is NULL");
    *out = NULL;
    if (!context) return kd_fail(KDAS_EINVAL, "kdas_image_resize: the context is NULL");
    KD_RETURN(kd_view_check(view, "kdas_image_resize"));
    if (kd_pixel_is_float(view->pixel))
        return kd_fail(KDAS_EINVAL, "kdas_image_resize: pixels must be 8-bit or YUV");
    KD_RETURN(check_size(width, height, "kdas_image_resize"));

    pixel = kd_pixel_colours(view->pixel) == 1 ? KDAS_PIXEL_GREY8
            : kd_pixel_is_bgr(view->pixel)     ? KDAS_PIXEL_BGR8
                                               : KDAS_PIXEL_RGB8;
    KD_TRY(kd_image_make(&image, context, width, height, pixel));
    KD_TRY(kd_resize_bytes(context, image->pixels, width, height, view));
    *out  = image;
    image = NULL;
done:
    kdas_image_destroy(image);
    return st;
}
