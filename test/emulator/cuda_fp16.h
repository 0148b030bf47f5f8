/* cuda_fp16.h - the host emulation of CUDA: half precision as storage. Conversions round to nearest, ties to even,
 * with subnormals; there is no arithmetic, which the plug-in does in float. */
#ifndef KD_EMULATOR_CUDA_FP16_H
#define KD_EMULATOR_CUDA_FP16_H
#include <stdint.h>
#include <string.h>

typedef struct __attribute__((aligned(2))) __half {
    unsigned short bits;
} __half;
typedef struct __attribute__((aligned(4))) __half2 {
    __half x, y;
} __half2;
typedef __half  half;
typedef __half2 half2;

static inline __half __ushort_as_half(unsigned short bits)
{
    __half h;

    h.bits = bits;
    return h;
}

static inline unsigned short __half_as_ushort(__half h) { return h.bits; }

static inline __half __float2half_rn(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return __ushort_as_half(0x7fff);
    if (size >= 0x477ff000u) return __ushort_as_half((unsigned short)(sign | 0x7c00u));
    if (size <
        0x38800000u) { /* below 2^-14: 0.5 has the last place of such a half, so the sum rounds */
        float    sum = (value < 0.0f ? -value : value) + 0.5f;
        uint32_t out;
        memcpy(&out, &sum, sizeof out);
        return __ushort_as_half((unsigned short)(sign | (out - 0x3f000000u)));
    }
    /* the exponent's bias from 127 to 15, and half of the last place less a bit for ties */
    const uint32_t rounded = size - (112u << 23) + 0xfffu + ((size >> 13) & 1u);
    return __ushort_as_half((unsigned short)(sign | (rounded >> 13)));
}

static inline __half __float2half(float value) { return __float2half_rn(value); }

static inline float __half2float(__half h)
{
    const uint32_t sign = (uint32_t)(h.bits & 0x8000u) << 16, exponent = (h.bits >> 10) & 31u,
                   fraction = h.bits & 0x3ffu;
    uint32_t bits;
    float    value;

    if (exponent == 0) {
        value = (float)fraction * (1.0f / 16777216.0f);
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline __half2 __floats2half2_rn(float x, float y)
{
    __half2 pair;

    pair.x = __float2half_rn(x);
    pair.y = __float2half_rn(y);
    return pair;
}
static inline float __low2float(__half2 pair) { return __half2float(pair.x); }
static inline float __high2float(__half2 pair) { return __half2float(pair.y); }
#endif
