/* kernel.h - the common part of the files in op/. Each has an op's kernels and, behind KD_HOST, the host functions that
 * launch them. A file is compiled once for each activation type: `elem` is a float, or with KD_TYPE_f16 or KD_TYPE_bf16 a
 * 16-bit type. Sums, statistics and parameters are always floats.
 *
 * KD_DEVICE_ONLY leaves the host part out, for compilers that know device code only. */
#ifndef KD_CUDA_KERNEL_H
#define KD_CUDA_KERNEL_H

#ifdef KD_DEVICE_ONLY
typedef signed int         int32_t;
typedef signed long long   int64_t;
typedef unsigned short     uint16_t;
typedef unsigned int       uint32_t;
typedef unsigned long long uint64_t;
#define KD_BLOCK 256
#else
#define KD_HOST
#include "backend/cuda/cuda.h"
#include <math.h>
#include <stdint.h>
#endif

/* ---- Types and names --------------------------------------------------------------------------------- */

#if defined KD_TYPE_f16
#include "backend/cuda/half.h"
#define KD_TYPED(name) name##_f16
typedef uint16_t                        elem;
static __device__ __forceinline__ float num(elem x) { return from_f16(x); }
static __device__ __forceinline__ elem  made(float x) { return to_f16(x); }
#elif defined                           KD_TYPE_bf16
#include "backend/cuda/half.h"
#define KD_TYPED(name) name##_bf16
typedef uint16_t                        elem;
static __device__ __forceinline__ float num(elem x) { return from_bf16(x); }
static __device__ __forceinline__ elem  made(float x) { return to_bf16(x); }
#else
#define KD_TYPED(name) name##_f32
typedef float                           elem;
static __device__ __forceinline__ float num(elem x) { return x; }
static __device__ __forceinline__ elem  made(float x) { return x; }
#endif
#ifdef KD_HOST
#if defined KD_TYPE_f16
#define KD_ELEM KDAS_F16
#elif defined KD_TYPE_bf16
#define KD_ELEM KDAS_BF16
#else
#define KD_ELEM KDAS_F32
#endif
#endif

static __device__ __forceinline__ void set(elem *to, float x) { *to = made(x); }
/* A gradient: *to = or += x. */
static __device__ __forceinline__ void accumulate(elem *to, float x, int add)
{
    *to = made(add ? num(*to) + x : x);
}

/* A kernel, named for its type: KERNEL(relu_forward)(elem *y, ...) { ... }. The launch bounds let two blocks of KD_BLOCK
 * threads be resident on a multiprocessor, so that one computes while the other waits for memory. */
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(KD_BLOCK, 2) KD_TYPED(name)

/* A grid-stride loop over i, 0 .. n-1, by all threads of a one-dimensional grid. It declares i. */
#define EACH(i, n)                                                            \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); \
         i += (int64_t)gridDim.x * blockDim.x)

/* ---- Reductions over a warp, and over a block of KD_BLOCK threads: all call them, all get the result ---- */

#define KD_ALL 0xffffffffu

static __device__ __forceinline__ float warp_sum(float x)
{
    for (int d = 16; d > 0; d >>= 1)
        x += __shfl_xor_sync(KD_ALL, x, d);
    return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
    for (int d = 16; d > 0; d >>= 1) {
        float y = __shfl_xor_sync(KD_ALL, x, d);

        x = y > x || y != y ? y : x; /* propagates NaN */
    }
    return x;
}

static __device__ __forceinline__ float block_sum(float x)
{
    __shared__ float part[KD_BLOCK / 32];
    float            sum = 0;

    x = warp_sum(x);
    __syncthreads(); /* the parts of the previous call have been read */
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    for (int i = 0; i < KD_BLOCK / 32; i++)
        sum += part[i];
    return sum;
}

static __device__ __forceinline__ float block_max(float x)
{
    __shared__ float part[KD_BLOCK / 32];

    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    x = part[0];
    for (int i = 1; i < KD_BLOCK / 32; i++)
        x = part[i] > x || part[i] != part[i] ? part[i] : x;
    return x;
}

/* For the last step of a reduction. */
static __device__ __forceinline__ double block_sum_f64(double x)
{
    __shared__ double part[KD_BLOCK];

    __syncthreads(); /* the result of the previous call has been read */
    part[threadIdx.x] = x;
    for (unsigned n = KD_BLOCK / 2; n > 0; n /= 2) {
        __syncthreads();
        if (threadIdx.x < n) part[threadIdx.x] += part[threadIdx.x + n];
    }
    __syncthreads();
    return part[0];
}

/* ---- The host part -----------------------------------------------------------------------------------  */

#ifdef KD_HOST

/* Launch a kernel on the stream of the device; returns a status. */
#ifndef KD_LAUNCH
#define KD_LAUNCH(device, function, blocks, threads, ...)             \
    (function<<<blocks, threads, 0, (device)->stream>>>(__VA_ARGS__), \
     kd_cuda_launched(device, #function))
#endif
/* The same for KERNEL(kernel). */
#define LAUNCH(device, kernel, blocks, threads, ...) \
    KD_LAUNCH(device, KD_TYPED(kernel), blocks, threads, __VA_ARGS__)
/* The usual launch: for a kernel with a loop EACH() over n. */
#define LAUNCH_EACH(device, kernel, n, ...) \
    ((n) > 0 ? LAUNCH(device, kernel, kd_cuda_grid(device, n), KD_BLOCK, __VA_ARGS__) : KDAS_OK)

/* An op in the table: KD_OP(relu, prepare, release, pack, forward, backward); NULL where there is nothing to do. */
#define KD_OP(name, ...)                                                    \
    extern "C" {                                                            \
    extern const kd_cuda_kernel KD_TYPED(kd_cuda_##name);                   \
    const kd_cuda_kernel        KD_TYPED(kd_cuda_##name) = { __VA_ARGS__ }; \
    }

static inline int64_t elements(const kdas_desc *d)
{
    return d->dim[0] * d->dim[1] * d->dim[2] * d->dim[3];
}
static inline int64_t rows_of(const kdas_desc *d) { return d->dim[0] * d->dim[1] * d->dim[2]; }
/* Does the gradient of input i add to what is there? */
static inline int adds(const kdas_call *call, int i) { return (int)(call->add >> i & 1); }

#endif
#endif
