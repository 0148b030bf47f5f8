/* half.h - f16 and bf16 in device code: conversion from and to float, to nearest, ties to even. A NaN stays one. */
#ifndef KD_CUDA_HALF_H
#define KD_CUDA_HALF_H
#include <cuda_fp16.h>

static __device__ __forceinline__ float from_f16(uint16_t x)
{
    return __half2float(__ushort_as_half(x));
}

static __device__ __forceinline__ uint16_t to_f16(float x)
{
    return __half_as_ushort(__float2half_rn(x));
}

static __device__ __forceinline__ float from_bf16(uint16_t x)
{
    return __uint_as_float((uint32_t)x << 16);
}

static __device__ __forceinline__ uint16_t to_bf16(float x)
{
    uint32_t bits = __float_as_uint(x);

    if (x != x) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
