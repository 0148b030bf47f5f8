// check_emulator_runtime.cpp - the host emulation of CUDA is strict: memory has fences, work waits in queues until
// somebody waits for it, captures take what they may, errors last as long as CUDA's do.
#include <csignal>
#include <pthread.h>
#include "harness.h"

namespace {

extern "C" {

__global__ void add_one(float *x, int n)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

    if (i < n) x[i] += 1.0f;
}

__global__ void write_at(float *x, long long i) { x[i] = 1.0f; }

__global__ void read_at(const float *x, long long i, float *out) { *out = x[i]; }

__global__ void read_four(const float *x, float *out)
{
    const float4 v = *(const float4 *)x;

    *out = v.x + v.y + v.z + v.w;
}

__global__ void index_past_shared(float *out, int i)
{
    __shared__ float part[32];

    part[i] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = part[threadIdx.x];
}

__global__ void read_through(float *const *table, float *out) { *out = *table[0]; }

__global__ void sink(float *out)
{
    volatile char deep[40 << 10];

    deep[0] = 1;
    __syncthreads();
    out[threadIdx.x] = (float)deep[0];
}
} // extern "C"

#define good(call) ck_assert_int_eq(call, cudaSuccess)

// ---- Memory ----------------------------------------------------------------------------------------

START_TEST(new_memory_holds_nan)
{
    bench  b;
    float *x;

    good(cudaMalloc(&x, 1000 * sizeof *x));
    for (float v : from_device(b, x, 1000))
        ck_assert(std::isnan(v));
    good(cudaFree(x));
    float *pinned;
    good(cudaMallocHost((void **)&pinned, 10 * sizeof *pinned));
    ck_assert(std::isnan(pinned[9]));
    good(cudaFreeHost(pinned));
}
END_TEST

const struct {
    long long   element;
    const char *sentence;
} outside[] = { { 1000, "0 bytes after the end of a block of 4000 bytes" },
                { 1016, "64 bytes after the end of a block of 4000 bytes" },
                { -1, "4 bytes before a block of 4000 bytes" },
                { -1000, "4000 bytes before a block of 4000 bytes" },
                { 1ll << 38, "where the device has nothing" } };

START_TEST(a_write_outside_of_a_block_is_a_lost_device)
{
    bench  b;
    float *x = on_device<float>(1000);

    good(KD_LAUNCH(&b, write_at, 1, 1, x, outside[_i].element));
    ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
    says(outside[_i].sentence);
    ck_assert_int_eq(KD_LAUNCH(&b, write_at, 1, 1, x, 0), cudaErrorIllegalAddress);
    ck_assert_ptr_nonnull(
        std::strstr(cudaGetErrorString(cudaErrorIllegalAddress), "illegal memory"));
    ck_assert_ptr_nonnull(
        std::strstr(cudaGetErrorString(cudaErrorIllegalAddress), outside[_i].sentence));
}
END_TEST

START_TEST(a_read_past_a_block_is_reported_or_nan)
{
    bench  b;
    float *x = on_device<float>(1000), *out = on_device<float>(1);

    good(KD_LAUNCH(&b, read_at, 1, 1, x, 1003, out)); // in the last 64 bytes
    ck_assert(std::isnan(from_device(b, out, 1)[0]));
    good(KD_LAUNCH(&b, read_at, 1, 1, x, 1008, out)); // beyond
    ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
    says("'read_at', block (0,0,0), thread 0");
}
END_TEST

START_TEST(freed_memory_is_out_of_reach)
{
    bench   b;
    float  *x = on_device<float>(100), *out = on_device<float>(1);
    float **table = on_device(std::vector<float *>{ x });

    good(KD_LAUNCH(&b, read_through, 1, 1, table, out));
    good(b.sync());
    good(cudaFree(x));
    ck_assert_int_eq(cudaFree(x), cudaErrorInvalidValue);
    cudaGetLastError();
    good(KD_LAUNCH(&b, read_through, 1, 1, table, out));
    ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
    says("a freed block of 400 bytes");
}
END_TEST

START_TEST(a_kernel_gets_no_pointer_of_the_host_or_of_another_device)
{
    float  on_host = 0.0f;
    float *elsewhere;

    good(cudaSetDevice(1));
    elsewhere = on_device<float>(4);
    good(cudaSetDevice(0));
    bench b;
    good(KD_LAUNCH(&b, add_one, 1, 1, _i ? elsewhere : &on_host, 1));
    ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
    says("pointer 0 of its arguments is not to memory of device 0");
    ck_assert_float_eq(on_host, 0.0f);
}
END_TEST

START_TEST(memory_of_another_device_is_out_of_reach)
{
    good(cudaSetDevice(1));
    float *elsewhere = on_device<float>(4);
    good(cudaSetDevice(0));
    bench   b;
    float  *out   = on_device<float>(1);
    float **table = on_device(std::vector<float *>{ elsewhere });
    good(KD_LAUNCH(&b, read_through, 1, 1, table, out));
    ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
}
END_TEST

START_TEST(a_misaligned_vector_and_null_are_reported)
{
    bench  b;
    float *x = on_device<float>(64), *out = on_device<float>(1);

    if (_i == 0) {
        good(KD_LAUNCH(&b, read_four, 1, 1, (const float *)nullptr, out));
        ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
        says("NULL");
    } else {
        good(KD_LAUNCH(&b, read_four, 1, 1, x + 1, out));
        ck_assert_int_eq(b.sync(), cudaErrorMisalignedAddress);
        says("check_emulator_runtime.cpp:");
    }
}
END_TEST

START_TEST(an_index_past_a_shared_array_is_reported)
{
    bench  b;
    float *out = on_device<float>(32);

    good(KD_LAUNCH(&b, index_past_shared, 1, 32, out, 31));
    good(b.sync());
    good(KD_LAUNCH(&b, index_past_shared, 1, 32, out, 32));
    ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
    says("index 32");
}
END_TEST

START_TEST(the_host_cannot_touch_device_memory)
{
    bench  b;
    float *x = on_device<float>(100);

    good(KD_LAUNCH(&b, add_one, 1, 100, x, 100));
    good(b.sync());
    if (_i == 0) kd_emulator_set("LOCK", "0");
    if (_i == 0) good(cudaMemset(x, 0, 4)); // the section after which it stays open
    *(volatile float *)(x + 99) = 3.0f;
    ck_assert_int_eq(_i, 0);
    ck_assert_float_eq(from_device(b, x, 100)[99], 3.0f);
}
END_TEST

START_TEST(a_deep_stack_of_many_waiting_threads_is_there)
{
    bench  b;
    float *out = on_device<float>(1024);

    good(KD_LAUNCH(&b, sink, 2, 1024, out));
    ck_assert_float_eq(from_device(b, out, 1024)[1023], 1.0f);
}
END_TEST

START_TEST(memory_ends_and_comes_back)
{
    size_t available, total;
    void  *first, *second;

    kd_emulator_set("MEMORY", "1048576");
    good(cudaMemGetInfo(&available, &total));
    ck_assert_uint_eq(total, 1048576);
    ck_assert_uint_eq(available, 1048576);
    good(cudaMalloc(&first, 1000000));
    good(cudaMemGetInfo(&available, &total));
    ck_assert_uint_eq(available, 1048576 - 1000000);
    ck_assert_int_eq(cudaMalloc(&second, 1000000), cudaErrorMemoryAllocation);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
    ck_assert_int_eq(cudaGetLastError(), cudaSuccess); // nothing is lost by that
    ck_assert_int_eq(cudaMalloc(&second, ~(size_t)0), cudaErrorMemoryAllocation);
    cudaGetLastError();
    good(cudaSetDevice(1));
    good(cudaMalloc(&second, 1000000));
    ck_assert_uint_eq(kd_emulator_used_bytes(), 2000000);
    good(cudaFree(second));
    good(cudaFree(first));
    good(cudaFree(nullptr));
    ck_assert_uint_eq(kd_emulator_used_bytes(), 0);
}
END_TEST

START_TEST(a_copy_stays_inside_one_block)
{
    bench              b;
    float             *x = on_device<float>(100);
    std::vector<float> h(101);

    ck_assert_int_eq(cudaMemcpy(x, h.data(), 404, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    ck_assert_int_eq(cudaMemcpy(h.data(), x + 50, 204, cudaMemcpyDeviceToHost),
                     cudaErrorInvalidValue);
    ck_assert_int_eq(cudaMemcpyAsync(h.data(), h.data(), 4, cudaMemcpyHostToDevice, b.stream),
                     cudaErrorInvalidValue);
    ck_assert_int_eq(cudaMemcpy(h.data(), x, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    ck_assert_int_eq(cudaMemset(x, 0, 401), cudaErrorInvalidValue);
    ck_assert_int_eq(cudaMemsetAsync(h.data(), 0, 4, b.stream), cudaErrorInvalidValue);
    good(cudaMemcpy(h.data(), x, 400, cudaMemcpyDefault));
}
END_TEST

// ---- Queues ----------------------------------------------------------------------------------------

START_TEST(work_is_done_when_it_is_waited_for)
{
    bench              b;
    float             *x = on_device<float>(10);
    std::vector<float> seen(10);

    good(KD_LAUNCH(&b, add_one, 1, 10, x, 10));
    // The stream is non-blocking: the legacy stream of this copy does not wait for it.
    good(cudaMemcpy(seen.data(), x, 40, cudaMemcpyDeviceToHost));
    ck_assert_float_eq(seen[0], 0.0f);
    ck_assert_float_eq(from_device(b, x, 10)[9], 1.0f);
    good(KD_LAUNCH(&b, add_one, 1, 10, x, 10));
    good(cudaDeviceSynchronize());
    good(cudaMemcpy(seen.data(), x, 40, cudaMemcpyDeviceToHost));
    ck_assert_float_eq(seen[9], 2.0f);
    cudaStream_t waiting;
    good(cudaStreamCreateWithFlags(&waiting, cudaStreamDefault));
    good(cudaMemsetAsync(x, 0, 40, waiting));
    good(cudaMemcpy(seen.data(), x, 40, cudaMemcpyDeviceToHost)); // this one it waits for
    ck_assert_float_eq(seen[9], 0.0f);
    good(cudaStreamDestroy(waiting));
}
END_TEST

START_TEST(a_long_queue_is_done_in_order)
{
    bench  b;
    float *x = on_device<float>(1);

    for (int i = 0; i < 10000; i++) {
        good(KD_LAUNCH(&b, add_one, 1, 1, x, 1));
        if (i == 5000) good(cudaMemsetAsync(x, 0, 4, b.stream));
    }
    ck_assert_float_eq(from_device(b, x, 1)[0], 4999.0f);
}
END_TEST

START_TEST(pageable_memory_is_read_at_the_call_and_pinned_memory_later)
{
    bench  b;
    float *x = on_device<float>(2), *pinned, pageable = 1.0f;

    good(cudaMallocHost((void **)&pinned, sizeof *pinned));
    *pinned = 1.0f;
    good(cudaMemcpyAsync(x, &pageable, 4, cudaMemcpyHostToDevice, b.stream));
    good(cudaMemcpyAsync(x + 1, pinned, 4, cudaMemcpyHostToDevice, b.stream));
    pageable = *pinned = 2.0f;
    const auto seen    = from_device(b, x, 2);
    ck_assert_float_eq(seen[0], 1.0f);
    ck_assert_float_eq(seen[1], 2.0f);
    good(cudaMemcpyAsync(pinned, x, 4, cudaMemcpyDeviceToHost, b.stream));
    ck_assert_float_eq(*pinned, 2.0f);
    good(b.sync());
    ck_assert_float_eq(*pinned, 1.0f);
    good(cudaMemcpyAsync(&pageable, x, 4, cudaMemcpyDeviceToHost, b.stream));
    ck_assert_float_eq(pageable, 1.0f);
    ck_assert_int_eq(kd_emulator_host_blocks(), 1);
    good(cudaFreeHost(pinned));
    ck_assert_int_eq(kd_emulator_host_blocks(), 0);
}
END_TEST

START_TEST(events_order_streams)
{
    bench       b, c;
    cudaEvent_t filled;
    float      *x = on_device<float>(10);

    good(cudaEventCreateWithFlags(&filled, cudaEventDisableTiming));
    good(cudaMemsetAsync(x, 0, 40, b.stream));
    good(KD_LAUNCH(&b, add_one, 1, 10, x, 10));
    good(cudaEventRecord(filled, b.stream));
    good(KD_LAUNCH(&b, add_one, 1, 10, x, 10));
    if (_i == 1) good(cudaStreamWaitEvent(c.stream, filled, 0));
    good(KD_LAUNCH(&c, add_one, 1, 10, x, 10));
    const float first = from_device(c, x, 10)[3];
    ck_assert_float_eq(first, _i == 1 ? 2.0f : 1.0f); // without: before b's fill
    if (_i == 0) good(cudaEventSynchronize(filled));
    float seen;
    good(cudaMemcpy(&seen, x, 4, cudaMemcpyDeviceToHost));
    ck_assert_float_eq(seen, _i == 1 ? 2.0f : 1.0f); // up to the mark, no further
    ck_assert_float_eq(from_device(b, x, 10)[3], _i == 1 ? 3.0f : 2.0f);
    ck_assert_int_eq(kd_emulator_events(), 1);
    good(cudaEventDestroy(filled));
    ck_assert_int_eq(kd_emulator_events(), 0);
    ck_assert_int_eq(kd_emulator_streams(), 2);
    good(cudaStreamDestroy(c.stream));
    ck_assert_int_eq(kd_emulator_streams(), 1);
    ck_assert_int_eq(KD_LAUNCH(&c, add_one, 1, 10, x, 10), cudaErrorInvalidResourceHandle);
}
END_TEST

START_TEST(a_stream_belongs_to_its_device)
{
    bench  b;
    float *x = on_device<float>(1);

    good(cudaSetDevice(1));
    ck_assert_int_eq(KD_LAUNCH(&b, add_one, 1, 1, x, 1), cudaErrorInvalidResourceHandle);
    says("another device");
    cudaEvent_t event;
    good(cudaEventCreateWithFlags(&event, 0));
    ck_assert_int_eq(cudaEventRecord(event, b.stream), cudaErrorInvalidResourceHandle);
}
END_TEST

// ---- Graphs ------------------------------------------------------------------------------------------

START_TEST(a_graph_runs_what_was_captured_as_often_as_it_is_launched)
{
    bench           b;
    float          *x = on_device<float>(10), *pinned;
    int             n = 10;
    cudaGraph_t     graph;
    cudaGraphExec_t exec;

    good(cudaMallocHost((void **)&pinned, 4));
    good(cudaStreamBeginCapture(b.stream, cudaStreamCaptureModeThreadLocal));
    good(KD_LAUNCH(&b, add_one, 1, 10, x, n));
    good(KD_LAUNCH(&b, add_one, 1, 10, x, n));
    good(cudaMemcpyAsync(pinned, x + 9, 4, cudaMemcpyDeviceToHost, b.stream));
    n = 0;
    good(cudaStreamEndCapture(b.stream, &graph));
    good(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    good(cudaGraphDestroy(graph));
    ck_assert_float_eq(from_device(b, x, 10)[9], 0.0f); // nothing has run
    for (int i = 0; i < 3; i++)
        good(cudaGraphLaunch(exec, b.stream));
    good(cudaGraphExecDestroy(exec)); // what is queued still runs
    ck_assert_float_eq(from_device(b, x, 10)[9], 6.0f);
    ck_assert_float_eq(*pinned, 6.0f);
    ck_assert_int_eq(kd_emulator_graphs(), 0);
}
END_TEST

enum { SYNC, MALLOC, FREE, COPY, DEVICE_SYNC, OUTSIDE_EVENT, FORBIDDEN };

START_TEST(what_a_capture_forbids_ends_it)
{
    bench       b;
    float      *x = on_device<float>(10), host = 1.0f;
    void       *more;
    cudaGraph_t graph = nullptr;
    cudaEvent_t event;
    cudaError_t error = cudaSuccess;

    good(cudaEventCreateWithFlags(&event, 0));
    good(cudaEventRecord(event, b.stream));
    good(b.sync());
    good(cudaStreamBeginCapture(b.stream, cudaStreamCaptureModeGlobal));
    good(KD_LAUNCH(&b, add_one, 1, 10, x, 10));
    switch (_i) {
    case SYNC: error = b.sync(); break;
    case MALLOC: error = cudaMalloc(&more, 4); break;
    case FREE: error = cudaFree(x); break;
    case COPY: error = cudaMemcpy(&host, x, 4, cudaMemcpyDeviceToHost); break;
    case DEVICE_SYNC: error = cudaDeviceSynchronize(); break;
    case OUTSIDE_EVENT: error = cudaStreamWaitEvent(b.stream, event, 0); break;
    }
    ck_assert_int_eq(error, _i == OUTSIDE_EVENT ? cudaErrorStreamCaptureIsolation
                                                : cudaErrorStreamCaptureUnsupported);
    cudaGetLastError();
    ck_assert_int_eq(KD_LAUNCH(&b, add_one, 1, 10, x, 10), cudaErrorStreamCaptureInvalidated);
    ck_assert_int_eq(cudaStreamEndCapture(b.stream, &graph), cudaErrorStreamCaptureInvalidated);
    ck_assert_ptr_null(graph);
    ck_assert_int_eq(kd_emulator_graphs(), 0);
    cudaGetLastError();
    good(KD_LAUNCH(&b, add_one, 1, 10, x, 10)); // the stream is as before
    ck_assert_float_eq(from_device(b, x, 10)[0], 1.0f);
}
END_TEST

void *allocate_elsewhere(void *error)
{
    void *memory;

    *(cudaError_t *)error = cudaMalloc(&memory, 4);
    return nullptr;
}

START_TEST(a_capture_of_one_thread_leaves_the_others_alone)
{
    bench       b;
    cudaGraph_t graph;
    pthread_t   thread;
    cudaError_t error;

    good(cudaStreamBeginCapture(b.stream, _i ? cudaStreamCaptureModeThreadLocal
                                             : cudaStreamCaptureModeGlobal));
    ck_assert_int_eq(pthread_create(&thread, nullptr, allocate_elsewhere, &error), 0);
    pthread_join(thread, nullptr);
    ck_assert_int_eq(error, _i ? cudaSuccess : cudaErrorStreamCaptureUnsupported);
    ck_assert_int_eq(cudaStreamEndCapture(b.stream, &graph),
                     _i ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
}
END_TEST

START_TEST(a_graph_of_freed_memory_is_a_lost_device)
{
    bench           b;
    float          *x = on_device<float>(10);
    cudaGraph_t     graph;
    cudaGraphExec_t exec;

    good(cudaStreamBeginCapture(b.stream, cudaStreamCaptureModeGlobal));
    if (_i == 0)
        good(KD_LAUNCH(&b, add_one, 1, 10, x, 10));
    else
        good(cudaMemsetAsync(x, 0, 40, b.stream));
    good(cudaStreamEndCapture(b.stream, &graph));
    good(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    good(cudaFree(x));
    good(cudaGraphLaunch(exec, b.stream));
    ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
}
END_TEST

// ---- Devices -----------------------------------------------------------------------------------------

START_TEST(devices_are_what_the_settings_say)
{
    int            n = -1, version = -1, value;
    cudaDeviceProp properties;
    cudaStream_t   stream;

    good(cudaGetDeviceCount(&n));
    ck_assert_int_eq(n, 2);
    good(cudaGetDeviceProperties(&properties, 1));
    ck_assert_str_eq(properties.name, "emulated");
    ck_assert_int_eq(properties.major, 8);
    ck_assert_int_eq(cudaSetDevice(2), cudaErrorInvalidDevice);
    ck_assert_int_eq(setenv("KDAS_EMULATOR_CC", "7.5", 1), 0);
    good(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
    ck_assert_int_eq(value, 7);
    good(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMinor, 0));
    ck_assert_int_eq(value, 5);
    kd_emulator_set("DEVICES", "0");
    ck_assert_int_eq(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    ck_assert_int_eq(n, 0);
    kd_emulator_set("DRIVER", "0");
    ck_assert_int_eq(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    good(cudaDriverGetVersion(&version));
    ck_assert_int_eq(version, 0);
    ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, 0), cudaErrorInsufficientDriver);
}
END_TEST

Suite *runtime_suite()
{
    Suite *suite  = suite_create("emulator_runtime");
    TCase *memory = tcase_create("memory"), *queues = tcase_create("queues"),
          *graphs = tcase_create("graphs"), *devices = tcase_create("devices");

    tcase_add_test(memory, new_memory_holds_nan);
    tcase_add_loop_test(memory, a_write_outside_of_a_block_is_a_lost_device, 0,
                        (int)(sizeof outside / sizeof outside[0]));
    tcase_add_test(memory, a_read_past_a_block_is_reported_or_nan);
    tcase_add_test(memory, freed_memory_is_out_of_reach);
    tcase_add_loop_test(memory, a_kernel_gets_no_pointer_of_the_host_or_of_another_device, 0, 2);
    tcase_add_test(memory, memory_of_another_device_is_out_of_reach);
    tcase_add_loop_test(memory, a_misaligned_vector_and_null_are_reported, 0, 2);
    tcase_add_test(memory, an_index_past_a_shared_array_is_reported);
    tcase_add_loop_test(memory, the_host_cannot_touch_device_memory, 0, 1);
    tcase_add_loop_test_raise_signal(memory, the_host_cannot_touch_device_memory, SIGSEGV, 1, 2);
    tcase_add_test(memory, a_deep_stack_of_many_waiting_threads_is_there);
    tcase_add_test(memory, memory_ends_and_comes_back);
    tcase_add_test(memory, a_copy_stays_inside_one_block);
    suite_add_tcase(suite, memory);
    tcase_add_test(queues, work_is_done_when_it_is_waited_for);
    tcase_add_test(queues, a_long_queue_is_done_in_order);
    tcase_add_test(queues, pageable_memory_is_read_at_the_call_and_pinned_memory_later);
    tcase_add_loop_test(queues, events_order_streams, 0, 2);
    tcase_add_test(queues, a_stream_belongs_to_its_device);
    suite_add_tcase(suite, queues);
    tcase_add_test(graphs, a_graph_runs_what_was_captured_as_often_as_it_is_launched);
    tcase_add_loop_test(graphs, what_a_capture_forbids_ends_it, 0, FORBIDDEN);
    tcase_add_loop_test(graphs, a_capture_of_one_thread_leaves_the_others_alone, 0, 2);
    tcase_add_loop_test(graphs, a_graph_of_freed_memory_is_a_lost_device, 0, 2);
    suite_add_tcase(suite, graphs);
    tcase_add_test(devices, devices_are_what_the_settings_say);
    suite_add_tcase(suite, devices);
    return suite;
}
} // namespace

int main() { return run_suite(runtime_suite()); }
