/* kdas/image.h - pixels: views of the host's memory, image files, and the input resize. */
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
    /* YUV kinds, as video decoders give them: a plane of luma, and chroma at half its width and height, rounded
     * up, so that a chroma sample stands for 2 x 2 pixels, fewer at an odd edge. Since 0.4. */
    KDAS_PIXEL_NV12 = 8, /* chroma[0]: Cb and Cr in turn                               */
    KDAS_PIXEL_I420 = 9, /* chroma[0]: Cb, chroma[1]: Cr                               */
    KDAS_PIXEL_P010 = 10 /* NV12 of 16-bit little-endian words, their upper 10 bits    */
} kdas_pixel;

/* How a YUV frame is made of red, green and blue. Since 0.4. */
typedef enum kdas_matrix {
    KDAS_MATRIX_AUTO  = 0, /* where a stream does not say: BT709 from 720 rows on, else BT601 */
    KDAS_MATRIX_BT601 = 1,
    KDAS_MATRIX_BT709 = 2
} kdas_matrix;

/* What its samples run over. Since 0.4. */
typedef enum kdas_range {
    KDAS_RANGE_LIMITED = 0, /* luma 16..235, chroma 16..240; of 10 bits, four times that */
    KDAS_RANGE_FULL    = 1  /* all there is: 0..255, 0..1023                             */
} kdas_range;

/* Pixels in the host's memory, top row first. A plain value: fill every member, or begin with { 0 }. Where the
 * rows of a picture lie the other way round, the bottom one first, `data` is still the top row and the stride is
 * negative. The members from `matrix` on are read for YUV kinds alone.
 *
 * A YUV frame stands for its pixels as RGB8, in every call that takes it: each is converted by matrix and range,
 * with the chroma sample that stands for it, rounded to 8 bits and held to 0..255; what comes out is within 0.55
 * of what real numbers give. The segmenter, kdas_batch_set(), kdas_image_*() and kdas_view_convert() take YUV
 * frames; calls that want grey pixels, masks or maps refuse them. */
typedef struct kdas_view {
    const void *data;             /* the top row; of a YUV frame, of its luma          */
    int64_t     width, height;    /* pixels, >= 1                                      */
    int64_t     stride;           /* bytes from a row to the next; 0: rows are packed  */
    int32_t     pixel;            /* kdas_pixel                                        */
    int32_t     matrix;           /* kdas_matrix                                       */
    int32_t     range;            /* kdas_range                                        */
    int32_t     reserved;         /* 0                                                 */
    const void *chroma[2];        /* top rows of the chroma planes; NV12, P010: of one */
    int64_t     chroma_stride[2]; /* as `stride`                                       */
} kdas_view;

/* An image owned by the library: 8-bit, packed rows. */
typedef struct kdas_image kdas_image;

/* Largest side and area that a file may have; more is refused before memory is taken. */
#define KDAS_IMAGE_MAX_SIDE   16384
#define KDAS_IMAGE_MAX_PIXELS (64 * 1024 * 1024)

/* Make an empty (black) image; `pixel` is GREY8, RGB8 or RGBA8. KDAS_EINVAL, KDAS_ENOMEM.
 * Since 0.1. */
KDAS_API kdas_status kdas_image_create(kdas_image **out, kdas_context *context, int64_t width,
                                       int64_t height, kdas_pixel pixel);
/* Read a JPEG, PNG or BMP file, told apart by content, as GREY8 (of colours: Rec. 601 luma) or
 * RGB8. 16-bit samples are cut to 8, alpha is dropped, EXIF orientation is not applied. A file that
 * is not whole is refused, never filled up. KDAS_ENOTFOUND (no such file), KDAS_EIO (open, read),
 * KDAS_EFORMAT (not an image of these kinds, cut off, damaged, 0 pixels, too large), KDAS_ENOMEM;
 * the sentence names the file. Since 0.1. */
KDAS_API kdas_status kdas_image_load(kdas_image **out, kdas_context *context, const char *path,
                                     kdas_pixel pixel);
/* Write 8-bit pixels or a YUV frame as PNG, or JPEG (quality 90) where the path ends in .jpg or .jpeg; through a
 * temporary file, so that `path` is whole or untouched. Alpha is not written. GREYF32 becomes a
 * grey PNG of 16 bits, 0..1 as 0..65535, what is outside cut (since 0.4). KDAS_EIO, KDAS_EINVAL,
 * KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_image_save(kdas_context *context, const char *path,
                                     const kdas_view *view);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_image_destroy(kdas_image *image);

/* A view of an image's pixels, valid as long as the image (NULL: all zeros). Since 0.1. */
KDAS_API kdas_view kdas_image_view(const kdas_image *image);
/* The same memory, to write to. NULL for NULL. Since 0.1. */
KDAS_API uint8_t *kdas_image_pixels(kdas_image *image);

/* Resize as Pillow's BILINEAR, to the bit: a triangle filter, widened when shrinking (antialiased),
 * in two 8-bit passes. `view` is 8-bit or YUV; out has its pixel order without alpha, or is RGB8.
 * KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_image_resize(kdas_image **out, kdas_context *context,
                                       const kdas_view *view, int64_t width, int64_t height);

/* Make an image of 8-bit pixels or of a YUV frame; `pixel` is GREY8 (of colours: Rec. 601 luma), RGB8 or RGBA8
 * (alpha goes along, or is 255 where there is none). KDAS_EINVAL, KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_image_convert(kdas_image **out, kdas_context *context,
                                        const kdas_view *view, kdas_pixel pixel);
/* The same into the host's memory, without allocating: `pixel` may be BGR8 and BGRA8, too; rows are `stride`
 * bytes apart (0: packed; negative: `out` is the top row and the others lie before it), and what lies between
 * them is not written. `out` may not overlap the view. Any thread. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_view_convert(const kdas_view *view, void *out, int64_t stride,
                                       kdas_pixel pixel);

/* How a mask is shown on a frame. Call kdas_overlay_options_init() first. */
typedef struct kdas_overlay_options {
    size_t size; /* set by init; members are only added at the end                           */
    uint8_t
        colour[3];    /* red, green, blue; default orange, 255 160 30. Grey frames take its luma  */
    uint8_t reserved; /* 0 */
    float   opacity;  /* of the tint, 0 (nothing to see) .. 1 (nothing else); default 0.275       */
} kdas_overlay_options;
/* Write the defaults; pass sizeof *options. Since 0.2. */
KDAS_API void kdas_overlay_options_init(kdas_overlay_options *options, size_t size);

/* Tint a frame where a mask of its size (GREY8) is 128 or more. `out` has the frame's pixel order, rows
 * `stride` bytes apart (0: packed; negative: `out` is the top row and the others lie before it); all other
 * pixels, and alpha, are the frame's bytes, and what lies between its rows is not written. `out` may be the
 * frame's own memory, with its stride, and then nothing else is touched; it may not overlap the frame otherwise.
 *
 * Of a YUV frame (since 0.4), `out` is RGB8, unless it is the frame's own memory, frame->data: then the tint is
 * drawn into the planes, all of which must be the host's to write. A chroma sample takes as much of the tint as
 * the mask has of its pixels; samples that the mask does not touch keep their bits.
 *
 * `options` may be NULL (defaults). Any thread. KDAS_EINVAL (a view, stride or option out of range, float
 * pixels), KDAS_ESHAPE (sizes differ). Since 0.2. */
KDAS_API kdas_status kdas_image_overlay(const kdas_view *frame, const kdas_view *mask, void *out,
                                        int64_t stride, const kdas_overlay_options *options);
KDAS_END
#endif
