// device_code.h - what a kernel sees of the machine that runs it: its indices, barriers, shuffles and votes.
// Kernels run on one host thread at a time, so the indices are plain variables, and __shared__ arrays are static
// ones in a section of their own, which is filled with NaN before every block. A wait names its place in the
// source: two threads of a block that wait at different places have diverged. (Not the address of the call: the
// compiler may have made two of one.) A shared array belongs into a kernel or a static function, not an inline one.
#ifndef KD_EMULATOR_DEVICE_CODE_H
#define KD_EMULATOR_DEVICE_CODE_H
#include <cstdint>
#include <cstring>
#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__   static __attribute__((section("kd_shared")))
#define __constant__

#pragma GCC visibility push(hidden)
extern uint3           threadIdx, blockIdx;
extern dim3            blockDim, gridDim;
constexpr int          warpSize = 32;

// A place in the source, and what the threads meet there for.
struct kd_emulated_place {
    const char *what, *file;
    int         line;
};

// All threads of the block.
void kd_emulated_barrier(kd_emulated_place place);
// The lanes of `mask`: each gives 64 bits and gets those of lane `source`.
uint64_t kd_emulated_exchange(kd_emulated_place place, unsigned mask, uint64_t value, int source);
// The lanes of `mask`: bit i of the result says that lane i gave 1.
unsigned               kd_emulated_vote(kd_emulated_place place, unsigned mask, int yes);
#pragma GCC visibility pop

inline int kd_emulated_lane() { return (int)(threadIdx.x % warpSize); }

template <class T>
inline T kd_emulated_shuffle(kd_emulated_place place, unsigned mask, T value, int source)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves 8 bytes at most");
    uint64_t bits = 0;

    std::memcpy(&bits, &value, sizeof value);
    bits = kd_emulated_exchange(place, mask, bits, source);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Which lane each kind of shuffle reads, in segments of `width` lanes.
template <class T>
inline T kd_emulated_shfl(kd_emulated_place place, unsigned mask, T value, int from,
                          int width = warpSize)
{
    const int first = kd_emulated_lane() & ~(width - 1);

    return kd_emulated_shuffle(place, mask, value, first | (from & (width - 1)));
}

template <class T>
inline T kd_emulated_shfl_up(kd_emulated_place place, unsigned mask, T value, unsigned by,
                             int width = warpSize)
{
    const int lane = kd_emulated_lane(), source = lane - (int)by;

    return kd_emulated_shuffle(place, mask, value, source < (lane & ~(width - 1)) ? lane : source);
}

template <class T>
inline T kd_emulated_shfl_down(kd_emulated_place place, unsigned mask, T value, unsigned by,
                               int width = warpSize)
{
    const int lane = kd_emulated_lane(), source = lane + (int)by;

    return kd_emulated_shuffle(place, mask, value, source > (lane | (width - 1)) ? lane : source);
}

template <class T>
inline T kd_emulated_shfl_xor(kd_emulated_place place, unsigned mask, T value, int bits,
                              int width = warpSize)
{
    const int lane = kd_emulated_lane(), source = lane ^ bits;

    return kd_emulated_shuffle(place, mask, value, source > (lane | (width - 1)) ? lane : source);
}

inline void kd_emulated_sync(kd_emulated_place place, unsigned mask = 0xffffffffu)
{
    kd_emulated_vote(place, mask, 0);
}
inline int kd_emulated_any(kd_emulated_place place, unsigned mask, int yes)
{
    return kd_emulated_vote(place, mask, yes) != 0;
}
inline int kd_emulated_all(kd_emulated_place place, unsigned mask, int yes)
{
    return kd_emulated_vote(place, mask, yes) == mask;
}

#define KD_EMULATED_PLACE(what) (kd_emulated_place{ what, __FILE__, __LINE__ })
#define __syncthreads()         kd_emulated_barrier(KD_EMULATED_PLACE("__syncthreads"))
#define __syncwarp(...)         kd_emulated_sync(KD_EMULATED_PLACE("__syncwarp") __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_sync(...)        kd_emulated_shfl(KD_EMULATED_PLACE("__shfl_sync"), __VA_ARGS__)
#define __shfl_up_sync(...)     kd_emulated_shfl_up(KD_EMULATED_PLACE("__shfl_up_sync"), __VA_ARGS__)
#define __shfl_down_sync(...) \
    kd_emulated_shfl_down(KD_EMULATED_PLACE("__shfl_down_sync"), __VA_ARGS__)
#define __shfl_xor_sync(...) kd_emulated_shfl_xor(KD_EMULATED_PLACE("__shfl_xor_sync"), __VA_ARGS__)
#define __ballot_sync(mask, yes) \
    kd_emulated_vote(KD_EMULATED_PLACE("__ballot_sync"), mask, (yes) != 0)
#define __any_sync(mask, yes) kd_emulated_any(KD_EMULATED_PLACE("__any_sync"), mask, (yes) != 0)
#define __all_sync(mask, yes) kd_emulated_all(KD_EMULATED_PLACE("__all_sync"), mask, (yes) != 0)

inline void __threadfence() {}
inline void __threadfence_block() {}
#endif
