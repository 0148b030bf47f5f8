/* image.h - inside of images: views of pixels, what a file's header says, codecs, the resize. */
#ifndef KD_IMAGE_H
#define KD_IMAGE_H
#include <kdas/image.h>
#include "base/base.h"
#include "io/file.h"

struct kdas_image {
    kdas_context *ctx;
    int64_t       width, height;
    int           channels;
    kdas_pixel    pixel;
    uint8_t      *pixels; /* (height,width,channels) */
};

/* ---- Views (image.c) ------------------------------------------------------------------------- */

/* Samples in a pixel: 1, 3 or 4, of YUV kinds 3, since they are read as RGB8; 0: no such pixel. */
int     kd_pixel_samples(kdas_pixel pixel);
int     kd_pixel_colours(kdas_pixel pixel); /* samples that are not alpha: 1 or 3 */
bool    kd_pixel_is_float(kdas_pixel pixel);
bool    kd_pixel_is_yuv(kdas_pixel pixel);
bool    kd_pixel_is_bgr(kdas_pixel pixel);     /* blue comes first                         */
int64_t kd_view_stride(const kdas_view *view); /* bytes, with 0 resolved; of YUV the luma's */

static inline const void *kd_view_row(const kdas_view *view, int64_t y)
{
    return (const char *)view->data + y * kd_view_stride(view);
}

/* A plane of a view: of packed pixels the only one; of YUV luma, then chroma. */
enum { KD_PLANES = 3 };
typedef struct kd_plane {
    const uint8_t *data;
    int64_t        stride, row; /* bytes from row to row, 0 resolved, and in a row */
    int64_t        height;
} kd_plane;
int kd_view_planes(kd_plane out[KD_PLANES], const kdas_view *view); /* how many */

/* Whether rows of `row` bytes may lie `stride` bytes apart, up or down; 0: packed. No picture of
 * rows that do goes beyond what an offset can hold. */
bool kd_stride_fits(int64_t stride, int64_t row);
/* Whether a picture of the view's height, its top row of `row` bytes at `out`, shares a byte
 * with the view. */
bool kd_view_overlaps(const kdas_view *view, const void *out, int64_t stride, int64_t row);
/* KDAS_EINVAL with a sentence that begins with `what` unless every member makes sense. */
kdas_status kd_view_check(const kdas_view *view, const char *what);
/* An image with unset pixels; the caller has checked the size. */
kdas_status kd_image_make(kdas_image **out, kdas_context *ctx, int64_t width, int64_t height,
                          kdas_pixel pixel);
/* Copy an 8-bit or YUV view as `pixel`, an 8-bit kind, into `to` (height,width,samples)
 * (convert.c). Grey is Rec. 601 luma, rounded as Pillow does. */
void kd_view_pack(uint8_t *to, kdas_pixel pixel, const kdas_view *view);

/* Rec. 601 luma with weights .299 .587 .114 in 16 bits, rounded. */
static inline uint8_t kd_luma(int r, int g, int b)
{
    return (uint8_t)((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16);
}

/* Whether the CPU has AVX2 (resize_avx2.c). */
bool kd_has_avx2(void);

/* ---- What a file says (info.c) --------------------------------------------------------------- */

typedef enum kd_image_kind {
    KD_IMAGE_JPEG = 1,
    KD_IMAGE_PNG  = 2,
    KD_IMAGE_BMP  = 3,
    KD_IMAGE_TIFF = 4
} kd_image_kind;

typedef struct kd_image_info {
    kd_image_kind kind;
    int64_t       width, height; /* as the picture is seen                                      */
    int           channels;      /* as stored: 1 grey, 2 grey and alpha, 3 colour or palette, 4 */
    int           bits;          /* of a sample of a PNG or TIFF, else 8                        */
    int           turn;          /* EXIF's orientation, 1..8: how the stored rows are turned to be
                                  * seen; 0 and 1: not at all. From 5 on, sides change places     */
} kd_image_info;

/* Width and height as the rows are stored. */
static inline int64_t kd_image_stored_width(const kd_image_info *info)
{
    return info->turn >= 5 ? info->height : info->width;
}
static inline int64_t kd_image_stored_height(const kd_image_info *info)
{
    return info->turn >= 5 ? info->width : info->height;
}

/* Read the header alone. Fails as kdas_image_load does for a file that it would refuse on sight:
 * another kind, 0 pixels, too large. */
kdas_status kd_image_info_read(kd_image_info *out, kd_file *file);
/* kd_file_open, with a sentence for a folder. */
kdas_status kd_image_open(kd_file **out, kdas_context *ctx, const char *path);
kdas_status kd_image_info_load(kd_image_info *out, kdas_context *ctx, const char *path);
/* For a sentence about a frame and a mask whose sizes differ: a clause that names EXIF where they
 * would not differ without it, else "". */
const char *kd_image_turn_note(const kd_image_info *frame, const kd_image_info *mask);
/* Walk a file in memory and check that it is whole, since decoders fill missing parts with grey.
 * *end is where its image ends: for JPEG the offset of the end marker. A JPEG that ends within its
 * last scan passes, with *end at the end of the data; kd_codec_decode judges it. */
kdas_status kd_image_check_whole(const kd_image_info *info, const char *path, const uint8_t *bytes,
                                 size_t n, size_t *end);

/* kdas_image_load without its checks of arguments and its warning; *info says what the file has. */
kdas_status kd_image_load(kdas_image **out, kd_image_info *info, kdas_context *ctx,
                          const char *path, kdas_pixel pixel);
/* Load a grey PNG as 16-bit samples (height,width), from kd_alloc; 8-bit ones are times 257. *info
 * says what the file has. KDAS_EFORMAT for colours and other kinds of files; else as
 * kdas_image_load. */
kdas_status kd_image_load_grey16(uint16_t **out, kd_image_info *info, kdas_context *ctx,
                                 const char *path);
/* Check that the header is that of a grey PNG. */
kdas_status kd_image_check_grey(const kd_image_info *info, const char *path);

/* A file's pixels, 8-bit, as they are seen: of one or three samples, or with alpha as the last one
 * of two or four (255 where the file has none). Samples of 16 bits become their upper bytes; with
 * `labels` no sample but 0 becomes 0, and where none is above 255 all are kept as they are. The
 * caller frees *out with kd_free. Fails as kdas_image_load. */
kdas_status kd_image_load_samples(uint8_t **out, kd_image_info *info, int *channels,
                                  kdas_context *ctx, const char *path, bool labels);

/* ---- How a picture is turned (exif.c) -------------------------------------------------------- */

/* The orientation in `n` bytes of EXIF, which begin with "II" or "MM"; 1 where there is none. */
int kd_exif_orientation(const uint8_t *exif, size_t n);
/* Stored pixels of `size` bytes each, turned to be seen. The sizes are those that info says. */
void kd_image_turn(void *to, const void *from, size_t size, const kd_image_info *info);

/* ---- TIFF (tiff.c), by libtiff; without it each call says so --------------------------------- */

bool        kd_has_tiff(void);
kdas_status kd_tiff_info(kd_image_info *out, kd_file *file);
/* Decode into samples of 16 bits (height,width,channels) as stored, channels 1 to 4, the last one
 * alpha for 2 and 4; those of 8 bits or less are 8-bit numbers. */
kdas_status kd_tiff_decode(kdas_context *ctx, uint16_t *to, int channels, const kd_image_info *info,
                           const char *path, const uint8_t *bytes, size_t n);

/* ---- Codecs (codec.c) ------------------------------------------------------------------------ */

/* Room behind the file's bytes that the decoder may write to. */
#define KD_CODEC_SPARE 16

/* Decode a JPEG, PNG or BMP that passed kd_image_check_whole into `to` (height,width,channels) as
 * it is stored; channels is 1 or 2 only where the file has no colour, and 2 or 4 with alpha. `path`
 * is for the sentence. */
kdas_status kd_codec_decode(kdas_context *ctx, uint8_t *to, int channels, const kd_image_info *info,
                            const char *path, uint8_t *bytes, size_t end);
/* The same for a PNG, into 16-bit samples. */
kdas_status kd_codec_decode16(kdas_context *ctx, uint16_t *to, int channels,
                              const kd_image_info *info, const char *path, uint8_t *bytes,
                              size_t end);
/* Encode 16-bit samples (height,width) as a grey PNG into a writer. */
kdas_status kd_codec_encode16(kdas_context *ctx, kd_writer *writer, const uint16_t *samples,
                              int64_t width, int64_t height);
/* Encode `pixels` (height,width,channels), channels 1 or 3, as PNG or JPEG into a writer. */
kdas_status kd_codec_encode(kdas_context *ctx, kd_writer *writer, kd_image_kind kind,
                            const uint8_t *pixels, int64_t width, int64_t height, int channels);

/* ---- Resize (resize.c): Pillow's BILINEAR ---------------------------------------------------- */

/* A resize whose weights and scratch are made once, for frames of one size. `pixel_bytes` is the
 * most that a pixel takes without alpha: 1 or 3 for 8-bit views, 3 for YUV, 4 or 12 for floats. */
typedef struct kd_resizer kd_resizer;
kdas_status kd_resizer_create(kd_resizer **out, kdas_context *ctx, int64_t width, int64_t height,
                              int64_t from_width, int64_t from_height, size_t pixel_bytes);
void        kd_resizer_destroy(kd_resizer *resizer); /* NULL is fine */
/* Its two passes, for a view of the size stated; nothing is allocated. Rows of a pass may be
 * distributed over threads. First the input rows that count, top .. bottom-1, each to the new
 * width; then output rows y into `to`, (width,colours) of floats or bytes as the view's pixels are.
 * Rows of YUV frames become RGB8 on the way, in `rgb`: room for two of them, KD_RGB_ROWS(width)
 * bytes; else NULL. */
#define KD_RGB_ROWS(width) ((width)*3 * 2)
void kd_resizer_span(const kd_resizer *resizer, int64_t *top, int64_t *bottom);
void kd_resizer_across(kd_resizer *resizer, const kdas_view *from, int64_t begin, int64_t end,
                       uint8_t *rgb);
void kd_resizer_down(const kd_resizer *resizer, void *to, kdas_pixel pixel, int64_t y);

/* An 8-bit view to `to` (height,width,colours), its order kept, alpha dropped, or a YUV one as
 * RGB8. Two 8-bit passes with 22-bit fixed-point weights: Pillow's bits. */
kdas_status kd_resize_bytes(kdas_context *ctx, uint8_t *to, int64_t width, int64_t height,
                            const kdas_view *from);
/* A float view to `to` (height,width,colours), accumulated in double, as Pillow's mode F. */
kdas_status kd_resize_floats(kdas_context *ctx, float *to, int64_t width, int64_t height,
                             const kdas_view *from);

#endif
