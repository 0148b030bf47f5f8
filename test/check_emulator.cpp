// check_emulator.cpp - the host emulation of CUDA runs kernels as a GPU may run them, and reports those that a GPU
// must not be given: small kernels, right ones and wrong ones.
#include "harness.h"

namespace {

const char *const orders[]    = { "forward", "backward", "1", "2", "33" };
constexpr int     order_count = sizeof orders / sizeof orders[0];

extern "C" {

__global__ void write_index(int *out, dim3 *seen)
{
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned i     = block * blockDim.x + threadIdx.x;

    out[i]  = (int)i;
    seen[i] = dim3(blockIdx.x, blockIdx.y, blockIdx.z);
}

// Sums of each block's values, by halves of the block.
__global__ void sum_in_shared(const float *x, float *out)
{
    __shared__ float part[256];

    part[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    if (threadIdx.x == 0) out[blockIdx.x] = part[0];
}

// The same without the barrier.
__global__ void sum_with_race(const float *x, float *out)
{
    __shared__ float part[256];

    part[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    if (threadIdx.x == 0) out[blockIdx.x] = part[0];
}

// Trusts that shared memory begins with zeros, or with what the block before left.
__global__ void read_unwritten(float *out)
{
    __shared__ float left[64];

    if (blockIdx.x == 0) left[threadIdx.x] = 1.0f;
    out[blockIdx.x * blockDim.x + threadIdx.x] = left[threadIdx.x];
}

// Blocks that hand something on from one to the next.
__global__ void chain_blocks(int *out)
{
    if (threadIdx.x == 0) out[blockIdx.x + 1] = out[blockIdx.x] + 1;
}

__global__ void shuffle_all(int *out)
{
    const int lane = (int)(threadIdx.x % 32), t = (int)threadIdx.x;
    int      *mine = out + 8 * threadIdx.x;

    mine[0] = __shfl_sync(0xffffffffu, t, 5);
    mine[1] = __shfl_xor_sync(0xffffffffu, t, 3);
    mine[2] = __shfl_down_sync(0xffffffffu, t, 4);
    mine[3] = __shfl_up_sync(0xffffffffu, t, 4, 8);
    mine[4] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
    mine[5] = __any_sync(0xffffffffu, t == 40);
    mine[6] = __all_sync(0xffffffffu, t < 40);
    mine[7] = 0;
    for (int half = 16; half > 0; half /= 2)
        mine[7] += __shfl_xor_sync(0xffffffffu, mine[7] + t, half);
    if (lane < 16)
        mine[7] = __shfl_sync(0x0000ffffu, t, 3); // two groups of one warp at once
    else
        mine[7] = __shfl_sync(0xffff0000u, t, 20);
    __syncwarp();
}

__global__ void skip_barrier(float *out)
{
    if (threadIdx.x != 7) __syncthreads();
    out[threadIdx.x] = 1.0f;
}

__global__ void two_barriers(float *out)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1.0f;
}

__global__ void skip_shuffle(float *out)
{
    if (threadIdx.x % 32 < 31) out[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0);
}

__global__ void shuffle_unnamed(float *out)
{
    out[threadIdx.x] = __shfl_sync(0x00ffffffu, 1.0f, 0);
}

__global__ void shuffle_from_outside(float *out)
{
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}

__global__ void wait_apart(float *out)
{
    if (threadIdx.x == 0)
        __syncwarp();
    else
        __syncthreads();
    out[threadIdx.x] = 1.0f;
}

__global__ void fill(float *out, int n, float value)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

    if (i < n) out[i] = value;
}

__global__ void count_up(unsigned long long *out, uint64_t a, uint8_t b, double c)
{
    out[threadIdx.x] = a + b + (unsigned long long)c;
}
} // extern "C"

struct setup : bench {
    setup() { kd_emulator_set("ORDER", nullptr); }
};

START_TEST(every_thread_of_every_block_runs_once)
{
    setup          s;
    const unsigned n    = 3 * 2 * 2 * 70;
    int           *out  = on_device<int>(n);
    dim3          *seen = on_device<dim3>(n);

    kd_emulator_set("ORDER", orders[_i]);
    ck_assert_int_eq(KD_LAUNCH(&s, write_index, dim3(3, 2, 2), 70, out, seen), cudaSuccess);
    const auto indices = from_device(s, out, n);
    const auto blocks  = from_device(s, seen, n);
    for (unsigned i = 0; i < n; i++) {
        ck_assert_int_eq(indices[i], (int)i);
        ck_assert_uint_eq(blocks[i].x, i / 70 % 3);
        ck_assert_uint_eq(blocks[i].y, i / 210 % 2);
        ck_assert_uint_eq(blocks[i].z, i / 420);
    }
}
END_TEST

START_TEST(barriers_order_threads_of_a_block)
{
    setup              s;
    std::vector<float> x(4 * 256);

    for (size_t i = 0; i < x.size(); i++)
        x[i] = (float)(i % 97);
    float *in = on_device(x), *out = on_device<float>(4);
    kd_emulator_set("ORDER", orders[_i]);
    ck_assert_int_eq(KD_LAUNCH(&s, sum_in_shared, 4, 256, in, out), cudaSuccess);
    const auto sums = from_device(s, out, 4);
    for (int b = 0; b < 4; b++) {
        float sum = 0.0f;
        for (int i = 0; i < 256; i++)
            sum += x[(size_t)(b * 256 + i)];
        ck_assert_float_eq(sums[(size_t)b], sum);
    }
}
END_TEST

// Some order shows what a missing barrier does; a race is no certain failure in a given one.
START_TEST(a_missing_barrier_shows)
{
    setup              s;
    std::vector<float> x(256, 1.0f);
    float             *in = on_device(x), *out = on_device<float>(1);
    int                wrong = 0;

    for (const char *order : orders) {
        kd_emulator_set("ORDER", order);
        KD_LAUNCH(&s, sum_with_race, 1, 256, in, out);
        wrong += !(from_device(s, out, 1)[0] == 256.0f);
    }
    ck_assert_int_ge(wrong, 4);
}
END_TEST

START_TEST(shared_memory_holds_nan_in_every_block)
{
    setup  s;
    float *out = on_device<float>(20 * 64);

    for (int times = 0; times < 12; times++) {
        KD_LAUNCH(&s, read_unwritten, 20, 64, out);
        const auto values = from_device(s, out, 20 * 64);
        for (size_t i = 0; i < values.size(); i++) {
            if (i < 64)
                ck_assert_float_eq(values[i], 1.0f);
            else
                ck_assert(std::isnan(values[i]));
        }
    }
}
END_TEST

START_TEST(blocks_that_depend_on_each_other_show)
{
    setup s;
    int  *out   = on_device<int>(9);
    int   wrong = 0;

    for (const char *order : orders) {
        kd_emulator_set("ORDER", order);
        cudaMemset(out, 0, 9 * sizeof *out);
        KD_LAUNCH(&s, chain_blocks, 8, 32, out);
        wrong += from_device(s, out, 9)[8] != 8;
    }
    ck_assert_int_eq(wrong, order_count - 1); // forward is the order that it trusts in
}
END_TEST

START_TEST(lanes_exchange_as_cuda_defines)
{
    setup s;
    int  *out = on_device<int>(8 * 64);

    kd_emulator_set("ORDER", orders[_i]);
    KD_LAUNCH(&s, shuffle_all, 1, 64, out);
    const auto v = from_device(s, out, 8 * 64);
    for (int t = 0; t < 64; t++) {
        const int  lane = t % 32, warp = t - lane;
        const int *mine = &v[(size_t)(8 * t)];
        ck_assert_int_eq(mine[0], warp + 5);
        ck_assert_int_eq(mine[1], t ^ 3);
        ck_assert_int_eq(mine[2], lane + 4 < 32 ? t + 4 : t);
        ck_assert_int_eq(mine[3], lane % 8 >= 4 ? t - 4 : t);
        ck_assert_uint_eq((unsigned)mine[4], 0x49249249u);
        ck_assert_int_eq(mine[5], warp == 32);
        ck_assert_int_eq(mine[6], warp == 0);
        ck_assert_int_eq(mine[7], lane < 16 ? warp + 3 : warp + 20);
    }
}
END_TEST

START_TEST(arguments_are_converted_and_kept_as_they_were)
{
    setup               s;
    unsigned long long *out   = on_device<unsigned long long>(1);
    int                 small = 7;

    KD_LAUNCH(&s, count_up, 1, 1, out, small, 300, 2); // 300 is 44 as uint8_t
    small = 1000;
    ck_assert_uint_eq(from_device(s, out, 1)[0], 7 + 44 + 2);
}
END_TEST

const struct {
    void (*kernel)(float *);
    const char *sentence;
} misuses[] = { { skip_barrier, "thread 7 has left" },
                { two_barriers, "thread 32 waits in __syncthreads" },
                { skip_shuffle, "thread 31 has left" },
                { shuffle_unnamed, "a lane that its mask does not name" },
                { shuffle_from_outside, "reads a lane that its mask does not name" },
                { wait_apart, "thread 1 waits in __syncthreads" } };

START_TEST(threads_that_diverge_at_a_barrier_are_reported)
{
    setup  s;
    float *out = on_device<float>(64);

    ck_assert_int_eq(KD_LAUNCH(&s, misuses[_i].kernel, 1, 64, out), cudaSuccess);
    ck_assert_int_eq(s.sync(), cudaErrorLaunchFailure);
    says(misuses[_i].sentence);
    says("misuses");
    ck_assert_int_eq(cudaGetLastError(), cudaErrorLaunchFailure);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorLaunchFailure); // the device is lost
    ck_assert_int_eq(KD_LAUNCH(&s, fill, 1, 32, out, 32, 1), cudaErrorLaunchFailure);
}
END_TEST

START_TEST(configurations_that_no_gpu_takes_are_refused)
{
    setup  s;
    float *out = on_device<float>(64);

    ck_assert_int_eq(KD_LAUNCH(&s, fill, 0, 32, out, 1, 1), cudaErrorInvalidConfiguration);
    ck_assert_int_eq(KD_LAUNCH(&s, fill, 1, 0, out, 1, 1), cudaErrorInvalidConfiguration);
    ck_assert_int_eq(KD_LAUNCH(&s, fill, 1, 1025, out, 1, 1), cudaErrorInvalidConfiguration);
    ck_assert_int_eq(KD_LAUNCH(&s, fill, dim3(1, 65536), 1, out, 1, 1),
                     cudaErrorInvalidConfiguration);
    ck_assert_int_eq(KD_LAUNCH(&s, fill, 2, 1024, out, 64, 1), cudaSuccess);
    ck_assert_float_eq(from_device(s, out, 64)[63], 1.0f);
}
END_TEST

START_TEST(an_old_device_has_no_code_for_a_kernel)
{
    setup              s;
    float             *out = on_device<float>(1);
    cudaFuncAttributes a;

    ck_assert_int_eq(cudaFuncGetAttributes(&a, fill), cudaSuccess);
    kd_emulator_set("CC", "6.1");
    ck_assert_int_eq(cudaFuncGetAttributes(&a, fill), cudaErrorNoKernelImageForDevice);
    ck_assert_int_eq(KD_LAUNCH(&s, fill, 1, 1, out, 1, 1), cudaErrorNoKernelImageForDevice);
    ck_assert_int_eq(s.sync(), cudaSuccess);
}
END_TEST

START_TEST(the_nth_launch_loses_its_device_and_no_other)
{
    setup  first;
    float *out = on_device<float>(8);

    kd_emulator_set("FAIL", "3");
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(KD_LAUNCH(&first, fill, 1, 8, out, 8, i), cudaSuccess);
    ck_assert_int_eq(first.sync(), cudaErrorLaunchFailure);
    says("KDAS_EMULATOR_FAIL");
    ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    float *more;
    ck_assert_int_eq(cudaMalloc(&more, 4), cudaErrorLaunchFailure);
    ck_assert_int_eq(cudaSetDevice(1), cudaSuccess);
    cudaGetLastError();
    setup  second;
    float *other = on_device<float>(8);
    ck_assert_int_eq(KD_LAUNCH(&second, fill, 1, 8, other, 8, 5), cudaSuccess);
    ck_assert_float_eq(from_device(second, other, 8)[7], 5.0f);
    ck_assert_int_eq(cudaSetDevice(0), cudaErrorLaunchFailure);
    ck_assert_int_eq(cudaFree(out), cudaErrorLaunchFailure);
}
END_TEST

Suite *emulator_suite()
{
    Suite *suite = suite_create("emulator");
    TCase *runs = tcase_create("kernels"), *errors = tcase_create("misuse");

    tcase_add_loop_test(runs, every_thread_of_every_block_runs_once, 0, order_count);
    tcase_add_loop_test(runs, barriers_order_threads_of_a_block, 0, order_count);
    tcase_add_test(runs, a_missing_barrier_shows);
    tcase_add_test(runs, shared_memory_holds_nan_in_every_block);
    tcase_add_test(runs, blocks_that_depend_on_each_other_show);
    tcase_add_loop_test(runs, lanes_exchange_as_cuda_defines, 0, order_count);
    tcase_add_test(runs, arguments_are_converted_and_kept_as_they_were);
    suite_add_tcase(suite, runs);
    tcase_add_loop_test(errors, threads_that_diverge_at_a_barrier_are_reported, 0,
                        (int)(sizeof misuses / sizeof misuses[0]));
    tcase_add_test(errors, configurations_that_no_gpu_takes_are_refused);
    tcase_add_test(errors, an_old_device_has_no_code_for_a_kernel);
    tcase_add_test(errors, the_nth_launch_loses_its_device_and_no_other);
    suite_add_tcase(suite, errors);
    return suite;
}
} // namespace

int main() { return run_suite(emulator_suite()); }
