/* yuv.h - YUV frames: rows of them as RGB8. Integers alone, so vector code and the plain loop have
 * the same bits. */
#ifndef KD_YUV_H
#define KD_YUV_H
#include "image/image.h"

/* Pixels as weights of samples, in units of 2^-shift, for a frame that passed kd_view_check. */
typedef struct kd_yuv {
    const kdas_view *view;
    kd_plane         plane[KD_PLANES];
    bool             vectors;
    bool             deep; /* samples are words with 10 bits on top */
    int              shift;
    int16_t          luma;           /* in all three colours                  */
    int16_t          chroma[3][2];   /* of Cb and Cr in red, green, blue      */
    int32_t          constant[3];    /* with a half, for rounding             */
    double           from_rgb[3][3]; /* luma, Cb, Cr samples of 8-bit colours */
    double           zero[3];        /* and of black                          */
} kd_yuv;

void kd_yuv_init(kd_yuv *yuv, const kdas_view *view, bool vectors);
/* Pixels begin .. begin + n - 1 of row y; `begin` is even. */
void kd_yuv_row(const kd_yuv *yuv, uint8_t *rgb, int64_t y, int64_t begin, int64_t n);
/* The samples of a colour, rounded. */
void kd_yuv_colour(int out[3], const kd_yuv *yuv, const uint8_t rgb[3]);

/* Where the samples of pixel (x, y) and of those behind it are, `step` bytes from one chroma sample
 * to the next of its kind; x is even. */
typedef struct kd_yuv_samples {
    const uint8_t *luma, *cb, *cr;
    int            step;
} kd_yuv_samples;
kd_yuv_samples kd_yuv_samples_at(const kd_yuv *yuv, int64_t y, int64_t x);

/* yuv_avx2.c: the first pixels of a row, only where kd_has_avx2(); how many were done,
 * an even number. */
int64_t kd_yuv_row_avx2(const kd_yuv *yuv, uint8_t *rgb, const kd_yuv_samples *from, int64_t n);
#endif
