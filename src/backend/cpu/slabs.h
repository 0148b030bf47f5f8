/* slabs.h - a convolution cut into parts for threads: the rows of all images one after the other, in equal shares. A part is up to
 * three slabs: the end of an image, whole images, the begin of an image. A slab is a convolution of its own. */
#ifndef KD_SLABS_H
#define KD_SLABS_H
#include "base/base.h"

/* A convolution along its images and rows. `wide` is the side whose rows the windows slide over: x of a convolution, out
 * of a transposed one. `narrow` has a row for each window. */
typedef struct kd_rows {
    int64_t images, wide, narrow;
    int64_t stride, pad, pad_end;
    int64_t window; /* rows that a window reaches over: (kernel - 1) * dilation + 1 */
} kd_rows;

/* A cut is along one side: each of its rows belongs to one slab. Of the other side a slab reads the rows that it needs,
 * which neighbours may read as well. */
typedef enum kd_cut { KD_CUT_NARROW, KD_CUT_WIDE } kd_cut;

typedef struct kd_slab {
    int     part;
    int64_t image, images;
    int64_t wide, wides;     /* its first row of the wide side, and how many */
    int64_t narrow, narrows; /* the same of the narrow side                  */
    int64_t pad, pad_end;    /* at its own upper and lower edge              */
} kd_slab;

enum { KD_SLABS_OF_PART = 3 };

/* Cut into at most `parts`; `out` has room for KD_SLABS_OF_PART each. Returns the number of slabs. Where a slab would see
 * nothing but padding there is one part: everything. */
int kd_slabs_cut(kd_slab *out, const kd_rows *rows, kd_cut cut, int parts);

#endif
