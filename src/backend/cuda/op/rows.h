/* rows.h - what kernels over the rows of a matrix share: four neighbours in one access, threads along columns,
 * and the kernels of linear.cu that other ops use. */
#ifndef KD_CUDA_ROWS_H
#define KD_CUDA_ROWS_H
#include "backend/cuda/kernel.h"

/* ---- n neighbours at once: n is 1, 2 or 4, known to the compiler; the address is a multiple of n ---- */

typedef struct pair {
    alignas(2 * sizeof(elem)) elem at[2];
} pair;
typedef struct quad {
    alignas(4 * sizeof(elem)) elem at[4];
} quad;
typedef struct float_quad {
    alignas(4 * sizeof(float)) float at[4];
} float_quad;

static __device__ __forceinline__ void load(const int n, float *to, const elem *from)
{
    if (n == 4) {
        quad q = *(const quad *)from;

        for (int i = 0; i < 4; i++)
            to[i] = num(q.at[i]);
    } else if (n == 2) {
        pair p = *(const pair *)from;

        to[0] = num(p.at[0]);
        to[1] = num(p.at[1]);
    } else
        to[0] = num(from[0]);
}

static __device__ __forceinline__ void store(const int n, elem *to, const float *from)
{
    if (n == 4) {
        quad q;

        for (int i = 0; i < 4; i++)
            q.at[i] = made(from[i]);
        *(quad *)to = q;
    } else if (n == 2) {
        pair p;

        p.at[0]     = made(from[0]);
        p.at[1]     = made(from[1]);
        *(pair *)to = p;
    } else
        set(to, from[0]);
}

/* Parameters. */
static __device__ __forceinline__ void load_floats(const int n, float *to, const float *from)
{
    if (n == 4) {
        float_quad q = *(const float_quad *)from;

        for (int i = 0; i < 4; i++)
            to[i] = q.at[i];
    } else
        for (int i = 0; i < n; i++)
            to[i] = from[i];
}

/* A gradient: added to what is there, or put in its place. */
static __device__ __forceinline__ void give_some(const int n, elem *to, const float *from, int add)
{
    float sum[4];

    if (add) load(n, sum, to);
    for (int i = 0; i < n; i++)
        sum[i] = add ? sum[i] + from[i] : from[i];
    store(n, to, sum);
}

/* ---- Rows: `across` neighbouring threads of a block, a power of two, share a row ---- */

#define EACH_ROW(r, rows, across)                                                            \
    for (int64_t r = (int64_t)blockIdx.x * (blockDim.x / (across)) + threadIdx.x / (across); \
         r < (rows); r += (int64_t)gridDim.x * (blockDim.x / (across)))
/* By n columns. */
#define EACH_COLUMN(c, columns, across, n)                                       \
    for (int64_t c = (int64_t)(threadIdx.x & ((across)-1)) * (n); c < (columns); \
         c += (int64_t)(across) * (n))

#ifdef KD_HOST
/* Threads for rows of so many accesses. */
static inline unsigned across_of(int64_t accesses)
{
    unsigned across = 1;

    while (across < KD_BLOCK && across < accesses)
        across *= 2;
    return across;
}

static inline unsigned row_blocks(const kdas_device *device, int64_t rows, unsigned across)
{
    return kd_cuda_grid(device, rows * across);
}

/* What the functions below are lent is of the type that the file is compiled for. */
KDAS_BEGIN
/* y[r] = residual[r] + bias; either may be NULL. (rows, columns). (linear.cu) */
kdas_status KD_TYPED(kd_cuda_fill_rows)(kdas_device *device, void *y, const void *residual,
                                        const float *bias, int64_t rows, int64_t columns);
/* Parameters in the type of activations. (linear.cu) */
kdas_status KD_TYPED(kd_cuda_narrow)(kdas_device *device, void *to, const float *from, int64_t n);
KDAS_END

/* Sums of a gradient's rows into the gradient of a bias; `parts` as in cuda.h. */
#define add_columns KD_TYPED(kd_cuda_add_columns)
#endif
#endif
