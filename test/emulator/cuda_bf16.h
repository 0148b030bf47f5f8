/* cuda_bf16.h - the host emulation of CUDA: bfloat16 as storage. Conversions round to nearest, ties to even. */
#ifndef KD_EMULATOR_CUDA_BF16_H
#define KD_EMULATOR_CUDA_BF16_H
#include <stdint.h>
#include <string.h>

typedef struct __attribute__((aligned(2))) __nv_bfloat16 {
    unsigned short bits;
} __nv_bfloat16;
typedef struct __attribute__((aligned(4))) __nv_bfloat162 {
    __nv_bfloat16 x, y;
} __nv_bfloat162;
typedef __nv_bfloat16  nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    __nv_bfloat16 h;

    h.bits = bits;
    return h;
}

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }

static inline __nv_bfloat16 __float2bfloat16_rn(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return __ushort_as_bfloat16(0x7fff);
    bits += 0x7fffu + ((bits >> 16) & 1u);
    return __ushort_as_bfloat16((unsigned short)(bits >> 16));
}

static inline __nv_bfloat16 __float2bfloat16(float value) { return __float2bfloat16_rn(value); }

static inline float __bfloat162float(__nv_bfloat16 h)
{
    const uint32_t bits = (uint32_t)h.bits << 16;
    float          value;

    memcpy(&value, &bits, sizeof value);
    return value;
}
#endif
