/* resize.h - inside of the input resize: where samples come from, and its vector rows. */
#ifndef KD_RESIZE_H
#define KD_RESIZE_H
#include "image/image.h"

#define KD_RESIZE_FRACTION 22 /* bits of the 8-bit passes' weights */
#define KD_RESIZE_HALF     (1 << (KD_RESIZE_FRACTION - 1))

/* Where the samples along an axis come from: output i is the sum of weight[i * taps + k] times
 * input first[i] + k over k < count[i]. */
typedef struct kd_axis {
    int64_t  size, from, taps;
    int32_t *first, *count;
    double  *weight;
    int32_t *fixed; /* weight in units of 2^-KD_RESIZE_FRACTION */

    /* For the vector rows, else NULL: taps in fours, each as the halves w >> 12 and w & 4095 of its
     * fixed weights, 16 bits wide: high 0 1 2 3, low 0 1 2 3. Taps past the last weigh 0. */
    int16_t *split;
    int64_t  fours; /* of each output sample                                              */
    int64_t  inner; /* outputs whose fours lie within a row, from 0 on; less than `size`  */
} kd_axis;

enum { KD_RESIZE_SPLIT = 12 };

/* resize_avx2.c; only where kd_has_avx2(). The bits are those of the plain rows. */
/* Outputs 0 .. inner-1 of two rows of pixels of `step` samples, 3 or 4; three samples come out. */
void kd_resize_rows_avx2(uint8_t *to[2], const uint8_t *const from[2], const kd_axis *axis,
                         int step);
/* An output row of n samples from `count` rows of them, the first at `rows`; how many were done. */
int64_t kd_resize_column_avx2(uint8_t *to, const uint8_t *rows, int64_t n, const int32_t *weight,
                              int32_t count);
#endif
