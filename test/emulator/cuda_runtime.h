/* cuda_runtime.h - the host emulation of CUDA: the runtime API and, for C++, what kernels are written with. A .cu
 * file is compiled as C++ with this header before its first line, as nvcc does. */
#ifndef KD_EMULATOR_CUDA_RUNTIME_H
#define KD_EMULATOR_CUDA_RUNTIME_H
#include "cuda_runtime_api.h"
#ifdef __cplusplus
#include "device_code.h"
#include "device_math.h"
#include "launch.h"
#endif
#endif
