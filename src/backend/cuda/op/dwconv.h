/* dwconv.h - depthwise convolution, shared by DWCONV2D and MIX_FFN. x (N,H,W,C). Filters are packed (taps, C) in f32:
 * neighbouring threads have neighbouring channels and read neighbouring addresses (coalesced).
 *
 * The 3x3 filter of stride 1 and padding 1, the only one in the networks, slides along rows. A thread has `width` channels of a
 * segment of a row. It reads each column of three inputs once, and keeps the accumulators of the three outputs that the
 * column contributes to. A block has eight rows, so that the second and third read of a row hit the cache. */
#ifndef KD_CUDA_DWCONV_H
#define KD_CUDA_DWCONV_H
#include "backend/cuda/op/gelu.h"
#include "backend/cuda/wide.h"
#ifdef KD_HOST
#include <string.h>
#endif

enum { DW_TAPS = 9, DW_ROWS = KD_BLOCK / 32, DW_STRETCH = 16 };

/* The epilogue: what is done with an output of the filter. */
enum {
    DW_PLAIN,        /* it is stored, or added                                                 */
    DW_GELU,         /* gelu of it is stored                                                   */
    DW_GELU_BACKWARD /* the same, and dy becomes the gradient of the filter's output, in place */
};

/* x (N,H,W,C) -> (N,P,Q,C). */
typedef struct dwconv_shape {
    int64_t n, h, w, c, p, q, kh, kw, stride, top, left; /* top, left: the padding before */
} dwconv_shape;

/* A 3x3 filter over a whole batch. */
typedef struct dwconv_job {
    const elem  *x;
    elem        *y, *dy;        /* NULL where the epilogue does not use them */
    const float *filter, *bias; /* (9,C), (C) or NULL                        */
    int64_t      rows;          /* N H                                       */
    int32_t      h, w, c, width;
    int32_t      segment, segments; /* outputs of a segment; segments of a row   */
    int32_t      rotated;           /* rotated by 180 degrees: the gradient of x */
    int32_t      add;
} dwconv_job;

/* ---- device part ---- */

/* Column `at` of the three rows above, at and below the output, or zeros. */
static __device__ __forceinline__ void dwconv_column(quad v[3], const dwconv_job *j,
                                                     const elem *row, int y, int at,
                                                     const int width)
{
    int64_t line = (int64_t)j->w * j->c;

    EACH_VALUE(k, 3)
    {
        bool inside = at >= 0 && at < j->w && y + k >= 1 && y + k <= j->h;
        quad zero   = { { 0, 0, 0, 0 } };

        v[k] = zero;
        if (inside) v[k] = load(row + (k - 1) * line + (int64_t)at * j->c, width);
    }
}

/* sum += the taps of one column of the filter. */
static __device__ __forceinline__ void dwconv_taps(quad *sum, const quad v[3],
                                                   const quad filter[DW_TAPS], const int column,
                                                   const int width)
{
    EACH_VALUE(k, 3) EACH_VALUE(i, width) sum->v[i] += v[k].v[i] * filter[3 * k + column].v[i];
}

static __device__ __forceinline__ void dwconv_put(const int purpose, const dwconv_job *j,
                                                  int64_t at, quad sum, const int width)
{
    quad dy, active;

    if (purpose == DW_PLAIN) {
        accumulate_quad(j->y + at, sum, j->add, width);
        return;
    }
    EACH_VALUE(i, width) active.v[i] = gelu(sum.v[i]);
    if (j->y) store(j->y + at, active, width);
    if (purpose == DW_GELU || !j->dy) return;
    dy = load(j->dy + at, width);
    EACH_VALUE(i, width) dy.v[i] *= gelu_derivative(sum.v[i]);
    store(j->dy + at, dy, width);
}

/* A segment of a thread: an output accumulates the column at its left, then its own, then the one at its right. */
static __device__ __forceinline__ void dwconv_walk(const int purpose, const dwconv_job *j,
                                                   const int width)
{
    int         c  = (int)(blockIdx.y * 32 + threadIdx.x % 32) * width;
    int64_t     r  = (int64_t)(blockIdx.x / j->segments) * DW_ROWS + threadIdx.x / 32;
    int         x0 = (int)(blockIdx.x % j->segments) * j->segment;
    int         x1 = x0 + j->segment < j->w ? x0 + j->segment : j->w, y = (int)(r % j->h);
    int64_t     start = r * j->w * j->c + c;
    const elem *row   = j->x + start;
    quad        filter[DW_TAPS], bias = { { 0, 0, 0, 0 } }, v[3], next[3], left, own;

    if (r >= j->rows || c >= j->c) return;
    EACH_VALUE(k, DW_TAPS)
    filter[k] = load_f(j->filter + (j->rotated ? DW_TAPS - 1 - k : k) * j->c + c, width);
    if (j->bias) bias = load_f(j->bias + c, width);
    left = own = bias;
    dwconv_column(v, j, row, y, x0 - 1, width);
    dwconv_column(next, j, row, y, x0, width);
    dwconv_taps(&own, v, filter, 0, width);
    for (int x = x0; x <= x1; x++) {
        EACH_VALUE(k, 3) v[k] = next[k];
        dwconv_column(next, j, row, y, x < x1 ? x + 1 : -1, width); /* prefetched */
        dwconv_taps(&left, v, filter, 2, width);
        if (x > x0) dwconv_put(purpose, j, start + (int64_t)(x - 1) * j->c, left, width);
        dwconv_taps(&own, v, filter, 1, width);
        left = own;
        own  = bias;
        dwconv_taps(&own, v, filter, 0, width);
    }
}

/* ---- host part ---- */

#ifdef KD_HOST

static inline dwconv_shape dwconv_shape_of(const int64_t *x, const int64_t *out, int64_t kh,
                                           int64_t kw, int64_t stride, int64_t top, int64_t left)
{
    dwconv_shape s = { x[0], x[1], x[2], out[3], out[1], out[2], kh, kw, stride, top, left };

    return s;
}

/* Does dwconv_walk() support it? */
static inline bool dwconv_is_same(const dwconv_shape *s)
{
    return s->kh == 3 && s->kw == 3 && s->stride == 1 && s->top == 1 && s->left == 1 &&
           s->p == s->h && s->q == s->w && s->h < INT32_MAX && s->w < INT32_MAX - DW_STRETCH &&
           s->c < INT32_MAX / DW_TAPS;
}

/* Segments of a row: of even length, shorter where there would be too quad threads. */
static inline dwconv_job dwconv_job_of(const kdas_device *device, const dwconv_shape *s)
{
    int64_t    most    = DW_STRETCH;
    int64_t    threads = s->n * s->h * s->c / (s->c % 4 ? 1 : 4);
    dwconv_job j;

    while (most > 4 && threads * KD_CEIL(s->w, most) < (int64_t)device->processors * 1024)
        most /= 2;
    memset(&j, 0, sizeof j);
    j.rows     = s->n * s->h;
    j.h        = (int32_t)s->h;
    j.w        = (int32_t)s->w;
    j.c        = (int32_t)s->c;
    j.width    = s->c % 4 ? 1 : 4;
    j.segments = (int32_t)KD_CEIL(s->w, most);
    j.segment  = (int32_t)KD_CEIL(s->w, (int64_t)j.segments);
    return j;
}

static inline dim3 dwconv_blocks(const dwconv_job *j)
{
    return dim3((unsigned)(KD_CEIL(j->rows, DW_ROWS) * j->segments),
                (unsigned)KD_CEIL(j->c, 32 * j->width));
}

KDAS_BEGIN
/* The filters of w (C,taps) as (taps,C). (dwconv2d.cu) */
kdas_status KD_TYPED(kd_cuda_dwconv_pack)(kdas_device *device, float *packed, const float *w,
                                          int64_t taps, int64_t channels);
/* A job with the epilogue DW_PLAIN. */
kdas_status KD_TYPED(kd_cuda_dwconv_same)(kdas_device *device, const dwconv_job *job);
/* Add to the gradients of w and the bias; NULL: not wanted. `parts` has kd_cuda_dwconv_parts_bytes() bytes. */
kdas_status KD_TYPED(kd_cuda_dwconv_parameters)(kdas_device *device, const dwconv_shape *s,
                                                const elem *x, const elem *dy, float *dw, float *db,
                                                float *parts);
size_t      KD_TYPED(kd_cuda_dwconv_parts_bytes)(const dwconv_shape *s);
KDAS_END

#endif
#endif
