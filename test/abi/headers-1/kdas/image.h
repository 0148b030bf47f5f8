/* kdas/image.h - pixels: views of caller-owned memory, image files, resize and overlay. */
#ifndef KDAS_IMAGE_H
#define KDAS_IMAGE_H
#include <kdas/base.h>
KDAS_BEGIN

/* Order and type of a pixel's samples. 8-bit samples run 0..255, float ones 0..1. */
typedef enum kdas_pixel {
    KDAS_PIXEL_GREY8   = 1,
    KDAS_PIXEL_RGB8    = 2,
    KDAS_PIXEL_BGR8    = 3,
    KDAS_PIXEL_RGBA8   = 4, /* alpha is ignored */
    KDAS_PIXEL_BGRA8   = 5,
    KDAS_PIXEL_GREYF32 = 6,
    KDAS_PIXEL_RGBF32  = 7,
    /* YUV, as video decoders produce it: a luma plane, and chroma at half its width and height,
     * rounded up. One chroma sample covers 2 x 2 pixels, fewer at an odd edge. Since 0.4. */
    KDAS_PIXEL_NV12 = 8, /* chroma[0]: Cb, Cr interleaved */
    KDAS_PIXEL_I420 = 9, /* chroma[0]: Cb, chroma[1]: Cr */
    KDAS_PIXEL_P010 = 10 /* NV12 in 16-bit little-endian words, upper 10 bits used */
} kdas_pixel;

/* Colour matrix between YUV and RGB. Since 0.4. */
typedef enum kdas_matrix {
    KDAS_MATRIX_AUTO  = 0, /* for streams that do not say: BT709 from 720 rows on, else BT601 */
    KDAS_MATRIX_BT601 = 1,
    KDAS_MATRIX_BT709 = 2
} kdas_matrix;

/* Value range of YUV samples. Since 0.4. */
typedef enum kdas_range {
    KDAS_RANGE_LIMITED = 0, /* luma 16..235, chroma 16..240; with 10 bits, times four */
    KDAS_RANGE_FULL    = 1  /* 0..255; with 10 bits, 0..1023 */
} kdas_range;

/* Pixels in caller-owned memory, top row first. Plain value: fill every member, or begin with
 * { 0 }. For a bottom-up image, point `data` at the top row and set a negative stride. `matrix` and
 * the members after it are read only for YUV.
 *
 * Every call that takes a YUV frame uses its RGB8 pixels: each luma sample is converted with the
 * chroma sample that covers it, by `matrix` and `range`, rounded and clamped to 0..255. The result
 * is within 0.55 of exact arithmetic. The segmenter, kdas_batch_set(), kdas_image_*() and
 * kdas_view_convert() take YUV. Calls that need grey pixels, masks or maps refuse it. */
typedef struct kdas_view {
    const void *data;             /* top row; for YUV, of the luma plane */
    int64_t     width, height;    /* pixels, >= 1 */
    int64_t     stride;           /* bytes between rows; 0: packed */
    int32_t     pixel;            /* kdas_pixel */
    int32_t     matrix;           /* kdas_matrix */
    int32_t     range;            /* kdas_range */
    int32_t     reserved;         /* 0 */
    const void *chroma[2];        /* top rows of chroma; NV12, P010 use one plane */
    int64_t     chroma_stride[2]; /* as `stride` */
} kdas_view;

/* An image owned by the library: 8-bit, packed rows. */
typedef struct kdas_image kdas_image;

/* Largest side and area of an image file. A larger file is refused before memory is allocated. */
#define KDAS_IMAGE_MAX_SIDE   16384
#define KDAS_IMAGE_MAX_PIXELS (64 * 1024 * 1024)

/* Create a black image; `pixel` is GREY8, RGB8 or RGBA8. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_image_create(kdas_image **out, kdas_context *context, int64_t width,
                                       int64_t height, kdas_pixel pixel);
/* Read a JPEG, PNG, BMP or TIFF file as GREY8 (colours become Rec. 601 luma) or RGB8. The type is
 * detected from the content. 16-bit samples are truncated to 8, alpha is dropped. The image is
 * turned as its EXIF orientation says (JPEG and PNG; TIFF has a tag of its own), so width and
 * height are those that a viewer shows; this is logged as a warning (since 0.4). A truncated file
 * is refused. TIFF (since 0.4; if libtiff 4.5 was there when the library was built): the first
 * page; grey, RGB, RGBA or a palette of 1 to 16 bits; PackBits, LZW, deflate, CCITT or not packed.
 * libtiff's own memory does not come from the context's allocator. KDAS_ENOTFOUND (no such file),
 * KDAS_EIO (open, read), KDAS_EFORMAT (another type, truncated, damaged, 0 pixels, too large),
 * KDAS_EUNSUPPORTED (a TIFF, and built without libtiff), KDAS_ENOMEM; the message names the file.
 * Since 0.1. */
KDAS_API kdas_status kdas_image_load(kdas_image **out, kdas_context *context, const char *path,
                                     kdas_pixel pixel);

/* Which pixels of a mask file are polyp. docs/data.md has a table with reasons. Since 0.4. */
typedef enum kdas_mask_rule {
    KDAS_MASK_AUTO    = 0, /* found from the files of the set; refused if it is not clear */
    KDAS_MASK_BRIGHT  = 1, /* luma above 127; alpha does not count */
    KDAS_MASK_NONZERO = 2, /* all but black: any colour sample above 0 (class numbers, palettes) */
    KDAS_MASK_ALPHA   = 3, /* alpha above half of the file's largest */
    /* All but black, with tolerance for JPEG and soft edges: grey files with values above 127 as
     * BRIGHT; others where the largest colour sample is above half of the dimmest area's. */
    KDAS_MASK_COLOUR = 4
} kdas_mask_rule;
/* "auto", "bright", "nonzero", "alpha", "colour"; NULL for other numbers, which begin after the
 * last rule. Since 0.4. */
KDAS_API const char *kdas_mask_rule_name(kdas_mask_rule rule);
/* Find the rule by which `count` mask files of one set are read; never AUTO. Every file is decoded
 * once. Any thread. KDAS_EFORMAT (it is not clear: the message names a file and the cure), else
 * as kdas_image_load(). Since 0.4. */
KDAS_API kdas_status kdas_mask_find_rule(kdas_context *context, const char *const *paths,
                                         int64_t count, kdas_mask_rule *out);
/* Read a mask file as GREY8, 255 where there is a polyp, else 0. With AUTO the file is its own set;
 * for several files of one set find their rule first, since a single one may be read otherwise. In
 * COLOUR, NONZERO and ALPHA, pixels of alpha up to half of the file's largest are background; alpha
 * of one value says nothing. Samples of 16 bits count by their upper byte (not 0 stays not 0), or,
 * if none of the file is above 255, as they are. Any thread. Errors as kdas_image_load();
 * KDAS_EFORMAT also for an unclear file with AUTO, and for ALPHA where alpha has one value.
 * Since 0.4. */
KDAS_API kdas_status kdas_mask_load(kdas_image **out, kdas_context *context, const char *path,
                                    kdas_mask_rule rule);

/* Write 8-bit pixels or a YUV frame: as JPEG (quality 90) if `path` ends in .jpg or .jpeg, else as
 * PNG. Alpha is not written. GREYF32 becomes a 16-bit grey PNG: 0..1 maps to 0..65535, other values
 * are clamped (since 0.4). The file is written to a temporary name and renamed, so `path` is
 * complete or unchanged. KDAS_EIO, KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_image_save(kdas_context *context, const char *path,
                                     const kdas_view *view);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_image_destroy(kdas_image *image);

/* View of an image's pixels, valid while the image lives (NULL: all zeros). Since 0.1. */
KDAS_API kdas_view kdas_image_view(const kdas_image *image);
/* The same memory, writable. NULL for NULL. Since 0.1. */
KDAS_API uint8_t *kdas_image_pixels(kdas_image *image);

/* Resize; bit-identical to Pillow's BILINEAR: a triangle filter, widened when shrinking
 * (antialiased), in two 8-bit passes. `view` is 8-bit or YUV. `out` keeps its pixel order without
 * alpha; YUV gives RGB8. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_image_resize(kdas_image **out, kdas_context *context,
                                       const kdas_view *view, int64_t width, int64_t height);

/* Convert 8-bit pixels or a YUV frame to a new image. `pixel` is GREY8 (colours become Rec. 601
 * luma), RGB8 or RGBA8 (alpha is copied, or 255 if there is none). KDAS_EINVAL, KDAS_ENOMEM.
 * Since 0.4. */
KDAS_API kdas_status kdas_image_convert(kdas_image **out, kdas_context *context,
                                        const kdas_view *view, kdas_pixel pixel);
/* Convert into caller-owned memory; nothing is allocated. `pixel` may also be BGR8 or BGRA8. Rows
 * of `out` are `stride` bytes apart; 0 means packed. With a negative stride, `out` is the top row
 * and later rows come before it in memory. Bytes between rows are not written. `out` must not
 * overlap the view. Any thread. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_view_convert(const kdas_view *view, void *out, int64_t stride,
                                       kdas_pixel pixel);

/* How a mask is shown on a frame. Call kdas_overlay_options_init() first. */
typedef struct kdas_overlay_options {
    size_t  size;      /* set by init; members are only added at the end */
    uint8_t colour[3]; /* R, G, B; default orange 255 160 30. Grey frames use its luma */
    uint8_t reserved;  /* 0 */
    float   opacity;   /* of the tint, 0 (invisible) .. 1 (opaque); default 0.275 */
} kdas_overlay_options;
/* Write the defaults; pass sizeof *options. Since 0.2. */
KDAS_API void kdas_overlay_options_init(kdas_overlay_options *options, size_t size);

/* Tint a frame wherever the mask is 128 or more. The mask is GREY8 and has the frame's size. `out`
 * has the frame's pixel order and a stride as in kdas_view_convert(). Other pixels, and alpha, are
 * copied unchanged; bytes between rows are not written. `out` may be the frame's own memory with
 * the frame's stride: then only tinted pixels are written. Any other overlap is not allowed.
 *
 * For a YUV frame (since 0.4) `out` is RGB8. If `out` is the frame's own memory (frame->data), the
 * tint is drawn into the planes instead, and all planes must be writable. A chroma sample is tinted
 * in proportion to how many of its pixels the mask covers. Samples outside the mask keep their
 * bits.
 *
 * `options` may be NULL (defaults). Any thread. KDAS_EINVAL (a view, stride or option out of range,
 * float pixels), KDAS_ESHAPE (sizes differ). Since 0.2. */
KDAS_API kdas_status kdas_image_overlay(const kdas_view *frame, const kdas_view *mask, void *out,
                                        int64_t stride, const kdas_overlay_options *options);
KDAS_END
#endif
