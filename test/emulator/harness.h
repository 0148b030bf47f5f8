// harness.h - for suites of the emulation: a device that is nothing but a stream, and launches on it.
#ifndef KD_EMULATOR_HARNESS_H
#define KD_EMULATOR_HARNESS_H
#include <check.h>
#include <cmath>
#include <cstring>
#include <vector>
#include "cuda_runtime.h"
#include "emulator.h"

struct bench {
    cudaStream_t stream = nullptr;

    bench()
    {
        ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    }
    cudaError_t sync() { return cudaStreamSynchronize(stream); }
};

// What a launch evaluates to.
static inline cudaError_t kd_cuda_launched(bench *, const char *) { return cudaGetLastError(); }

// Device memory that holds `values`.
template <class T> T *on_device(const std::vector<T> &values)
{
    T *memory = nullptr;

    ck_assert_int_eq(cudaMalloc(&memory, values.size() * sizeof(T)), cudaSuccess);
    ck_assert_int_eq(
        cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
        cudaSuccess);
    return memory;
}

template <class T> T *on_device(size_t n) { return on_device(std::vector<T>(n)); }

// The work of `b` done, then what is at `memory`.
template <class T> std::vector<T> from_device(bench &b, const T *memory, size_t n)
{
    std::vector<T> values(n);

    ck_assert_int_eq(b.sync(), cudaSuccess);
    ck_assert_int_eq(cudaMemcpy(values.data(), memory, n * sizeof(T), cudaMemcpyDeviceToHost),
                     cudaSuccess);
    return values;
}

// A failed launch's sentence names what it should.
#define says(text)                                                                        \
    ck_assert_msg(std::strstr(kd_emulator_message(), text) != nullptr, "'%s' lacks '%s'", \
                  kd_emulator_message(), text)

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);

    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
#endif
