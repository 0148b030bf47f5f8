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
int     kd_pixel_colours(kdas_pixel pixel); /* of them not alpha: 1 or 3 */
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

/* Whether the CPU has AVX2 (resize_avx2.c). */
bool kd_has_avx2(void);

/* ---- What a file says (info.c) --------------------------------------------------------------- */

typedef enum kd_image_kind { KD_IMAGE_JPEG = 1, KD_IMAGE_PNG = 2, KD_IMAGE_BMP = 3 } kd_image_kind;

typedef struct kd_image_info {
    kd_image_kind kind;
    int64_t       width, height;
    int           channels; /* as stored: 1 grey, 2 grey and alpha, 3 colour or palette, 4 */
    int           bits;     /* of a PNG's sample, else 8                                   */
} kd_image_info;

/* Read the header alone. Fails as kdas_image_load does for a file that it would refuse on sight:
 * another kind, 0 pixels, too large. */
kdas_status kd_image_info_read(kd_image_info *out, kd_file *file);
kdas_status kd_image_info_load(kd_image_info *out, kdas_context *ctx, const char *path);
/* Walk a file in memory and check that it is whole, since decoders fill missing parts with grey.
 * *end is where its image ends: for JPEG the offset of the end marker. A JPEG that ends within its
 * last scan passes, with *end at the end of the data; kd_codec_decode judges it. */
kdas_status kd_image_check_whole(const kd_image_info *info, const char *path, const uint8_t *bytes,
                                 size_t n, size_t *end);

/* Load a grey PNG as 16-bit samples (height,width), from kd_alloc; 8-bit ones are times 257. *info
 * says what the file has. KDAS_EFORMAT for colours and other kinds of files; else as
 * kdas_image_load. */
kdas_status kd_image_load_grey16(uint16_t **out, kd_image_info *info, kdas_context *ctx,
                                 const char *path);
/* Check that the header is that of a grey PNG. */
kdas_status kd_image_check_grey(const kd_image_info *info, const char *path);

/* ---- Codecs (codec.c) ------------------------------------------------------------------------ */

/* Room behind the file's bytes that the decoder may write to. */
#define KD_CODEC_SPARE 16

/* Decode a file that passed kd_image_check_whole into `to` (height,width,channels); channels is 1
 * or 3, and 1 only where the file has no colour. `path` is for the sentence. */
kdas_status kd_codec_decode(kdas_context *ctx, uint8_t *to, int channels, const kd_image_info *info,
                            const char *path, uint8_t *bytes, size_t end);
/* Decode a grey PNG likewise, into 16-bit samples (height,width). */
kdas_status kd_codec_decode16(kdas_context *ctx, uint16_t *to, const kd_image_info *info,
                              const char *path, uint8_t *bytes, size_t end);
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
