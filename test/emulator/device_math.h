// device_math.h - vectors and functions that device code has and C++ has not, or has elsewhere. The fast forms
// (__expf ...) are the exact ones here: their error on a GPU is not what the emulation shows.
#ifndef KD_EMULATOR_DEVICE_MATH_H
#define KD_EMULATOR_DEVICE_MATH_H
#include <cmath>
#include <math.h>
#include <cstdint>
#include <cstring>

// Aligned as on the device: code that reads a vector where none can be may fault here as it does there.
#define KD_EMULATED_VECTORS(type, name)                                                  \
    struct __attribute__((aligned(2 * sizeof(type)))) name##2 { type x, y; };            \
    struct name##3 { type x, y, z; };                                                    \
    struct __attribute__((aligned(4 * sizeof(type)))) name##4 { type x, y, z, w; };      \
    static inline name##2 make_##name##2(type x, type y) { return { x, y }; }            \
    static inline name##3 make_##name##3(type x, type y, type z) { return { x, y, z }; } \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return { x, y, z, w }; }
KD_EMULATED_VECTORS(float, float)
KD_EMULATED_VECTORS(int, int)
KD_EMULATED_VECTORS(unsigned short, ushort)
#undef KD_EMULATED_VECTORS
struct __attribute__((aligned(8))) uint2 {
    unsigned x, y;
};
struct __attribute__((aligned(16))) uint4 {
    unsigned x, y, z, w;
};
struct __attribute__((aligned(16))) double2 {
    double x, y;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return { x, y }; }
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return { x, y, z }; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return { x, y, z, w };
}
static inline double2 make_double2(double x, double y) { return { x, y }; }

static inline float  rsqrtf(float x) { return (float)(1.0 / std::sqrt((double)x)); }
static inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
// Macros, since the C library has functions of these names behind its own.
#define __expf(x)    expf(x)
#define __exp10f(x)  powf(10.0f, x)
#define __logf(x)    logf(x)
#define __log2f(x)   log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x)    sinf(x)
#define __cosf(x)    cosf(x)
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

#define KD_EMULATED_LEAST(type)                                      \
    static inline type min(type a, type b) { return b < a ? b : a; } \
    static inline type max(type a, type b) { return a < b ? b : a; }
KD_EMULATED_LEAST(int)
KD_EMULATED_LEAST(unsigned)
KD_EMULATED_LEAST(long)
KD_EMULATED_LEAST(unsigned long)
KD_EMULATED_LEAST(long long)
KD_EMULATED_LEAST(unsigned long long)
#undef KD_EMULATED_LEAST
static inline float  min(float a, float b) { return fminf(a, b); }
static inline float  max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

template <class To, class From> static inline To kd_emulated_bits(From from)
{
    To to;

    static_assert(sizeof to == sizeof from, "the same number of bits");
    std::memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned  __float_as_uint(float x) { return kd_emulated_bits<unsigned>(x); }
static inline int       __float_as_int(float x) { return kd_emulated_bits<int>(x); }
static inline float     __uint_as_float(unsigned x) { return kd_emulated_bits<float>(x); }
static inline float     __int_as_float(int x) { return kd_emulated_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return kd_emulated_bits<long long>(x); }
static inline double    __longlong_as_double(long long x) { return kd_emulated_bits<double>(x); }
static inline int       __float2int_rn(float x) { return (int)nearbyintf(x); }
static inline int       __float2int_rz(float x) { return (int)x; }
static inline int       __float2int_rd(float x) { return (int)floorf(x); }
static inline float     __int2float_rn(int x) { return (float)x; }
static inline float     __uint2float_rn(unsigned x) { return (float)x; }
static inline float     __double2float_rn(double x) { return (float)x; }
static inline int       __popc(unsigned x) { return __builtin_popcount(x); }
static inline int       __ffs(int x) { return __builtin_ffs(x); }
static inline int       __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline unsigned  __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((uint64_t)a * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

template <class T> static inline T __ldg(const T *x) { return *x; }
#endif
