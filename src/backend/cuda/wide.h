/* wide.h - common parts of kernels over matrices: vectorised access of four values, threads laid out over rows and columns,
 * and rows reduced by a warp or by a block.
 *
 * `width` is the number of neighbouring values that a thread handles at once, 1 or 4. `threads` is the number of threads that
 * share a row: 32 (a warp) or KD_BLOCK (a block). Device functions have them as constants: a kernel branches once, by
 * DISPATCH_WIDTH or DISPATCH_THREADS, which call `body` with the constant as its last argument. */
#ifndef KD_CUDA_WIDE_H
#define KD_CUDA_WIDE_H
#include "backend/cuda/kernel.h"

#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

#define DISPATCH_WIDTH(width, body, ...) \
    do {                                 \
        if ((width) == 4)                \
            body(__VA_ARGS__, 4);        \
        else                             \
            body(__VA_ARGS__, 1);        \
    } while (0)
#define DISPATCH_THREADS(threads, body, ...) \
    do {                                     \
        if ((threads) == 32)                 \
            body(__VA_ARGS__, 32);           \
        else                                 \
            body(__VA_ARGS__, KD_BLOCK);     \
    } while (0)

/* ---- Vectorised access ---- */

/* Four values of neighbouring columns, as floats. */
typedef struct quad {
    float v[4]; /* the first `width` are used */
} quad;
typedef struct alignas(4 * sizeof(elem)) elems4 {
    elem v[4];
} elems4;
typedef struct alignas(16) floats4 {
    float v[4];
} floats4;

/* A loop over the first `width` values of a quad; it declares k. */
#define EACH_VALUE(k, width) UNROLL for (int k = 0; k < (width); k++)

static __device__ __forceinline__ quad load(const elem *x, const int width)
{
    quad   f = { { 0, 0, 0, 0 } };
    elems4 all;

    if (width == 4) {
        all                     = *(const elems4 *)x;
        EACH_VALUE(k, 4) f.v[k] = num(all.v[k]);
    } else {
        f.v[0] = num(*x);
    }
    return f;
}

static __device__ __forceinline__ quad load_f(const float *x, const int width)
{
    quad    f = { { 0, 0, 0, 0 } };
    floats4 all;

    if (width == 4) {
        all                     = *(const floats4 *)x;
        EACH_VALUE(k, 4) f.v[k] = all.v[k];
    } else {
        f.v[0] = *x;
    }
    return f;
}

static __device__ __forceinline__ void store(elem *to, quad f, const int width)
{
    elems4 all;

    if (width == 4) {
        EACH_VALUE(k, 4) all.v[k] = made(f.v[k]);
        *(elems4 *)to             = all;
    } else {
        *to = made(f.v[0]);
    }
}

static __device__ __forceinline__ void store_f(float *to, quad f, const int width)
{
    floats4 all;

    if (width == 4) {
        EACH_VALUE(k, 4) all.v[k] = f.v[k];
        *(floats4 *)to            = all;
    } else {
        *to = f.v[0];
    }
}

/* Gradients: to = or += f. */
static __device__ __forceinline__ void accumulate_quad(elem *to, quad f, int add, const int width)
{
    quad old;

    if (add) {
        old = load(to, width);
        EACH_VALUE(k, width) f.v[k] += old.v[k];
    }
    store(to, f, width);
}

/* a / b for numbers that are not negative; 32-bit division is much faster where it suffices. */
static __device__ __forceinline__ int64_t over(int64_t a, int64_t b)
{
    return (a | b) >> 32 ? a / b : (int64_t)((uint32_t)a / (uint32_t)b);
}

/* ---- Rows and columns ---- */

/* The place of a thread of LAUNCH_MATRIX: columns c .. c+width-1 of rows r, r+step, ... So values of a column are read once.
 * Idle threads have r at the end. */
typedef struct cell {
    int64_t r, c, step;
} cell;

/* Threads of a block along a row of `groups` groups of `width` columns. */
static __host__ __device__ __forceinline__ int cells_across(int64_t groups)
{
    int64_t blocks = (groups + KD_BLOCK - 1) / KD_BLOCK;

    return (int)((groups + blocks - 1) / blocks);
}

static __device__ __forceinline__ cell cell_of(int64_t rows, int64_t n, const int width)
{
    int  across = cells_across(n / width), high = KD_BLOCK / across;
    int  y = (int)threadIdx.x / across, x = (int)threadIdx.x - y * across;
    cell at;

    at.c    = ((int64_t)blockIdx.x * across + x) * width;
    at.r    = y < high && at.c < n ? (int64_t)blockIdx.y * high + y : rows;
    at.step = (int64_t)gridDim.y * high;
    return at;
}

#define EACH_ROW(r, at, rows) for (int64_t r = (at).r; r < (rows); r += (at).step)

/* Loops over rows r, each shared by `threads` threads, and over the columns c of a row that fall to a thread. They declare
 * r and c. */
#define EACH_ROW_BY(r, rows, threads)                                                        \
    for (int64_t r = ((int64_t)blockIdx.x * KD_BLOCK + threadIdx.x) / (threads); r < (rows); \
         r += (int64_t)gridDim.x * (KD_BLOCK / (threads)))
#define EACH_IN_ROW(c, n, threads) \
    for (int64_t c = (int)threadIdx.x % (threads); c < (n); c += (threads))

static __device__ __forceinline__ float row_sum(float x, const int threads)
{
    return threads == 32 ? warp_sum(x) : block_sum(x);
}

static __device__ __forceinline__ float row_max(float x, const int threads)
{
    return threads == 32 ? warp_max(x) : block_max(x);
}

/* ---- The host part ---- */

#ifdef KD_HOST

/* 4 if rows of n values can be read four at a time, else 1. */
static inline int width_of(int64_t n, const void *a, const void *b, const void *c, const void *d)
{
    uintptr_t bits = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d;

    return n % 4 == 0 && bits % 16 == 0 ? 4 : 1;
}

/* A warp for a row, or a block where it is long. */
static inline int threads_per_row(int64_t n) { return n > 1024 ? KD_BLOCK : 32; }

static inline dim3 matrix_grid(const kdas_device *device, int64_t rows, int64_t n, int width)
{
    int64_t groups = n / width, across = cells_across(groups), x = KD_CEIL(groups, across);
    int64_t y = KD_CEIL(rows, KD_BLOCK / across), most = (int64_t)device->processors * 16 / x;

    y = KD_MIN(y, KD_MIN(KD_MAX(most, (int64_t)1), (int64_t)65535));
    return dim3((unsigned)x, (unsigned)y);
}

#define LAUNCH_MATRIX(device, kernel, rows, n, width, ...) \
    LAUNCH(device, kernel, matrix_grid(device, rows, n, width), KD_BLOCK, __VA_ARGS__)
#define LAUNCH_ROWS(device, kernel, rows, threads, ...) \
    LAUNCH(device, kernel, kd_cuda_grid(device, (rows) * (threads)), KD_BLOCK, __VA_ARGS__)

#endif
#endif
