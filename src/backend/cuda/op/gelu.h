/* gelu.h - GELU and its slope, for the op itself and for what has it inside. */
#ifndef KD_CUDA_GELU_H
#define KD_CUDA_GELU_H
#include "backend/cuda/kernel.h"

static __device__ __forceinline__ float gelu(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}

/* Of gelu: the normal distribution's integral, and x times its density. */
static __device__ __forceinline__ float gelu_derivative(float x)
{
    return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

#endif
