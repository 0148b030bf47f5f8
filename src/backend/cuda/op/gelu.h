/* gelu.h - GELU and its derivative, for the op itself and for fused ops. */
#ifndef KD_CUDA_GELU_H
#define KD_CUDA_GELU_H
#include "backend/cuda/kernel.h"

static __device__ __forceinline__ float gelu(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}

/* The derivative of gelu: the normal distribution function plus x times its density. */
static __device__ __forceinline__ float gelu_derivative(float x)
{
    return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

#endif
