/* table.c - the kernels of one instruction set by the op's number. */
#include "backend/cpu/simd/simd.h"

/* The copies that those for AMX take the other rows from. */
#ifdef KD_AVX512_EMULATED
#define HALF_COPY emulated_bf16
#define INT8_COPY emulated_vnni
#else
#define HALF_COPY bf16
#define INT8_COPY vnni
#endif

#ifdef KD_INT8
/* The copies for integers have only INTEGER rows. That for AMX has only INTEGER_PRODUCT rows of its own, and takes the
 * others from the vnni copy. */
#define KERNEL(NUMBER, name, needs, flags, backward)
#define BOTH(NUMBER, name, needs, flags, backward, half)

#ifdef KD_AMX
#define OTHER(name) KD_JOIN(name, INT8_COPY)
#else
#define OTHER(name) KD_SIMD(name)
#endif

#define INTEGER_PRODUCT(NUMBER, name) extern const kd_cpu_kernel KD_SIMD(name);
#define INTEGER(NUMBER, name)         extern const kd_cpu_kernel OTHER(name);
#include "backend/cpu/kernels.def"

const kd_cpu_code KD_SIMD(code) = {
#define INTEGER_PRODUCT(NUMBER, name) [KDAS_OP_##NUMBER] = &KD_SIMD(name),
#define INTEGER(NUMBER, name)         [KDAS_OP_##NUMBER] = &OTHER(name),
#include "backend/cpu/kernels.def"
};
#else
/* The bf16 copy has only BOTH and PRODUCT rows. The amx copy has only PRODUCT rows of its own, and takes BOTH rows from
 * the bf16 copy. */
#ifdef KD_HALF
#define KERNEL(NUMBER, name, needs, flags, backward)
#else
#define KERNEL(NUMBER, name, needs, flags, backward) BOTH(NUMBER, name, needs, flags, backward, 0)
#endif

#ifdef KD_AMX
#define OTHER(name) KD_JOIN(name, HALF_COPY)
#else
#define OTHER(name) KD_SIMD(name)
#endif

#ifndef KD_HALF
#define FEW(NUMBER, name) extern const kd_cpu_kernel KD_SIMD(name);
#endif
#define PRODUCT(NUMBER, name, needs, flags, backward, half) \
    extern const kd_cpu_kernel KD_SIMD(name);
#define BOTH(NUMBER, name, needs, flags, backward, half) extern const kd_cpu_kernel OTHER(name);
#include "backend/cpu/kernels.def"
#undef BOTH

const kd_cpu_code KD_SIMD(code) = {
#ifndef KD_HALF
#define FEW(NUMBER, name) [KDAS_OP_##NUMBER] = &KD_SIMD(name),
#endif
#define PRODUCT(NUMBER, name, needs, flags, backward, half) [KDAS_OP_##NUMBER] = &KD_SIMD(name),
#define BOTH(NUMBER, name, needs, flags, backward, half)    [KDAS_OP_##NUMBER] = &OTHER(name),
#include "backend/cpu/kernels.def"
#undef BOTH
};
#endif
