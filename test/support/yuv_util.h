/* yuv_util.h - YUV frames for tests, and what real numbers make of them: nothing here is the library's. */
#ifndef KD_TEST_YUV_UTIL_H
#define KD_TEST_YUV_UTIL_H
#include <kdas/image.h>
#include <stdbool.h>

extern const kdas_pixel kd_test_yuv_kinds[3];

/* A frame whose planes are blocks from malloc that end with their last row. */
typedef struct kd_test_yuv {
    kdas_view view;
    int       planes;
    uint8_t  *memory[3]; /* luma, and the chroma planes               */
    size_t    bytes[3];  /* of each                                   */
    int64_t   row[3];    /* bytes of each's rows, without what is between */
} kd_test_yuv;

typedef enum kd_test_fill {
    KD_TEST_NOISE,
    KD_TEST_WAVES
} kd_test_fill_kind; /* waves stay in gamut */

/* Rows have `pad` bytes of rubbish between them, and the bottom one comes first if `turned`; with pad 0 and the
 * right way round strides are 0. Matrix and range are BT601 and limited. */
kd_test_yuv kd_test_yuv_make(kdas_pixel pixel, int64_t width, int64_t height, int64_t pad,
                             bool turned, kd_test_fill_kind kind);
void        kd_test_yuv_free(kd_test_yuv *yuv);
/* The frame with the same samples in memory of its own, other rubbish, laid out anew. */
kd_test_yuv kd_test_yuv_copy(const kd_test_yuv *yuv, int64_t pad, bool turned);

/* Sample of a component (luma, Cb, Cr) for pixel (x, y), as stored: 0..255 or 0..1023. */
int  kd_test_yuv_get(const kdas_view *view, int component, int64_t x, int64_t y);
void kd_test_yuv_put(const kdas_view *view, int component, int64_t x, int64_t y, int value);

/* Red, green and blue of a pixel, 0..255, by the standards' formulas; no rounding. */
void kd_test_yuv_rgb(double rgb[3], const kdas_view *view, int64_t x, int64_t y);
/* Luma, Cb and Cr of a colour in the frame's units, no rounding. */
void kd_test_yuv_of(double yuv[3], const kdas_view *view, const uint8_t rgb[3]);
/* The frame as (height,width,3), from malloc: by kd_test_yuv_rgb, or by kdas_view_convert. */
double  *kd_test_yuv_exact(const kdas_view *view);
uint8_t *kd_test_yuv_bytes(const kdas_view *view);
#endif
