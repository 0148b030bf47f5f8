/* table.c - the kernels of one instruction set by the op's number. */
#include "backend/cpu/simd/simd.h"

/* The copy for bf16 has some of them. */
#ifdef KD_HALF
#define KERNEL(NUMBER, name, needs, flags, backward)
#else
#define KERNEL(NUMBER, name, needs, flags, backward) BOTH(NUMBER, name, needs, flags, backward, 0)
#endif

#define BOTH(NUMBER, name, needs, flags, backward, half) extern const kd_cpu_kernel KD_SIMD(name);
#include "backend/cpu/kernels.def"
#undef BOTH

const kd_cpu_code KD_SIMD(code) = {
#define BOTH(NUMBER, name, needs, flags, backward, half) [KDAS_OP_##NUMBER] = &KD_SIMD(name),
#include "backend/cpu/kernels.def"
#undef BOTH
};
