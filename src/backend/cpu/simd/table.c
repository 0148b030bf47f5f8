/* table.c - the kernels of one instruction set by the op's number. */
#include "backend/cpu/simd/simd.h"

#define KERNEL(NUMBER, name, needs, flags, backward) extern const kd_cpu_kernel KD_SIMD(name);
#include "backend/cpu/kernels.def"
#undef KERNEL

const kd_cpu_code KD_SIMD(code) = {
#define KERNEL(NUMBER, name, needs, flags, backward) [KDAS_OP_##NUMBER] = &KD_SIMD(name),
#include "backend/cpu/kernels.def"
#undef KERNEL
};
