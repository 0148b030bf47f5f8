// launch.h - KD_LAUNCH of the host emulation: note a kernel down in the queue of the device's stream, with copies of
// its arguments. An argument is converted to the type of the kernel's parameter, as <<<...>>> does; pointers must
// be to memory that the device has.
#ifndef KD_EMULATOR_LAUNCH_H
#define KD_EMULATOR_LAUNCH_H
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>
#include "cuda_runtime_api.h"

enum { KD_EMULATED_POINTERS = 32 };

#pragma GCC visibility push(hidden)
// What the queue keeps of a launch. The arguments follow it, of any type that bytes can copy.
struct kd_emulated_kernel {
    const char *name;
    const void *function;
    void (*call)(const void *function, const void *arguments); // one thread
    const void *arguments;
    dim3        blocks;
    int         threads;
    // Arguments that are pointers, for the check that the device has what they point to.
    int         pointers;
    const void *pointer[KD_EMULATED_POINTERS];
};

// Room for a launch with so many bytes of arguments, at arguments; NULL: it has failed, and cudaGetLastError() says
// how. It runs when the stream is synchronized with.
kd_emulated_kernel    *kd_emulated_launch(cudaStream_t stream, const char *name, dim3 blocks,
                                          long long threads, size_t bytes);
#pragma GCC visibility pop

template <class P> static inline P kd_emulated_convert(P value) { return value; }

template <class P> static inline void kd_emulated_note(kd_emulated_kernel *kernel, const P &value)
{
    if constexpr (std::is_pointer_v<P>) {
        static_assert(!std::is_function_v<std::remove_pointer_t<P>>, "a host function");
        if (kernel->pointers < KD_EMULATED_POINTERS) kernel->pointer[kernel->pointers++] = value;
    }
}

template <class... P, class... A>
static inline void kd_emulated_queue(cudaStream_t stream, const char *name, void (*function)(P...),
                                     dim3 blocks, long long threads, A... argument)
{
    using copy = std::tuple<P...>;
    static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
    static_assert((std::is_trivially_copyable_v<P> && ...), "arguments are copied byte by byte");
    static_assert(alignof(copy) <= 16, "what the queue aligns to");
    kd_emulated_kernel *kernel = kd_emulated_launch(stream, name, blocks, threads, sizeof(copy));

    if (!kernel) return;
    const copy *kept = new ((void *)kernel->arguments) copy(kd_emulated_convert<P>(argument)...);
    std::apply([&](const P &...value) { (kd_emulated_note<P>(kernel, value), ...); }, *kept);
    kernel->function = (const void *)function;
    kernel->call     = [](const void *f, const void *arguments) {
        std::apply((void (*)(P...))f, *(const copy *)arguments);
    };
}

// By way of another macro, so that a kernel's name is that which macros make of it.
#define KD_LAUNCH(device, ...) KD_EMULATED_LAUNCH(device, __VA_ARGS__)
#define KD_EMULATED_LAUNCH(device, kernel, ...)                         \
    (kd_emulated_queue((device)->stream, #kernel, kernel, __VA_ARGS__), \
     kd_cuda_launched((device), #kernel))

// In C++ a kernel may be named without a cast.
template <class T>
static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, T *kernel)
{
    return cudaFuncGetAttributes(out, (const void *)kernel);
}
template <class T> static inline cudaError_t cudaMalloc(T **memory, size_t bytes)
{
    return cudaMalloc((void **)memory, bytes);
}
#endif
