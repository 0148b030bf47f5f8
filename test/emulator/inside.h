// inside.h - what the files of the emulation share. One lock guards all of it, and is held while queued work runs:
// one piece of device work at a time, on the thread that waits for it.
#ifndef KD_EMULATOR_INSIDE_H
#define KD_EMULATOR_INSIDE_H
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include "cuda_runtime_api.h"
#include "emulator.h"
#include "launch.h"

#pragma GCC visibility push(hidden)
namespace emulator {

enum { MOST_DEVICES = 8, ALIGNMENT = 64, MOST_THREADS = 1024 };

struct lock {
    lock();
    ~lock();
    lock(const lock &) = delete;
};

// ---- device.cpp: settings, errors, devices ------------------------------------------------------

// The value of KDAS_EMULATOR_<name>, or NULL.
const char *setting(const char *name);
int         compute_capability(); // 80 for 8.0
size_t      memory_of_device();
int         device_count();
int         current_device();
// Remember `error` for cudaGetLastError(), and return it.
cudaError_t give(cudaError_t error);
// Note down why something failed, in a sentence that cudaGetErrorString(error) adds to its text; returns error.
cudaError_t explain(cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// The device is lost: every later call on it gives this error.
void        lose(int device, cudaError_t error);
cudaError_t lost(int device);
// What every call asks first: is there a driver, a device, and is it well? The caller holds the lock.
cudaError_t ready();
// One more kernel or library call runs; not cudaSuccess: this is the one that is to fail.
cudaError_t count_launch(const char *name);

extern int streams, events, graphs, host_blocks, handles;

// ---- memory.cpp: fenced blocks --------------------------------------------------------------------

// While one of these lives, the device's memory can be touched. When the last goes, what lies between the blocks is
// checked, and the memory is out of the host's reach.
struct section {
    explicit section(int device);
    ~section();
    section(const section &) = delete;
    int device;
};

// 1: bytes from `memory` on lie inside one live block, whose device is *device (may be NULL).
int is_device(const void *memory, size_t bytes, int *device);
// 1: `memory` is an address of a live block of the device, or its end.
int is_pointer_of(const void *memory, int device);
int is_pinned(const void *memory, size_t bytes);
// 1: among addresses that only devices use.
int  in_device_range(const void *memory);
void describe_address(const void *memory, char *text, size_t size);
void catch_faults();

// ---- stream.cpp, graph.cpp: queues ---------------------------------------------------------------

// A piece of work in a queue; its payload follows. `run` gets the device of the stream; `drop` comes when the item
// goes, run or not.
struct item {
    cudaError_t (*run)(int device, void *payload);
    void (*drop)(void *payload);
    item *next;
    void *payload() { return this + 1; }
};
static_assert(sizeof(item) % 8 == 0, "payloads are aligned");

// Items in order, in memory that does not move.
struct tape {
    struct chunk {
        chunk *next;
        size_t used, size;
    };
    chunk *chunks = nullptr;
    item  *first = nullptr, *last = nullptr;
    size_t count  = 0;
    int    owners = 1; // of a captured one

    void *add(cudaError_t (*run)(int, void *), size_t bytes, void (*drop)(void *));
    item *take(); // the first, out of the list; its memory stays until clear()
    void  clear();
};
void disown(tape *t); // an owner less; the last one's goes

// Put work into the stream's queue, or into its graph while it is captured. The payload to fill in, or NULL: *error
// says why.
void *enqueue(cudaError_t *error, cudaStream_t stream, cudaError_t (*run)(int, void *),
              size_t bytes, void (*drop)(void *) = nullptr);
bool  is_capturing(cudaStream_t stream);
// May a call be made that reaches beyond a stream? Else captures that forbid it are void.
cudaError_t outside_captures(const char *what);
// Run what is in the queues: one; those of a device, all or only those that the legacy stream waits for.
cudaError_t run_stream(cudaStream_t stream);
cudaError_t run_device(int device, bool all = true);
int         device_of(cudaStream_t stream); // -1: no stream

// ---- block.cpp: kernels ---------------------------------------------------------------------------

cudaError_t run_kernel(int device, void *payload); // a kd_emulated_kernel
// A fault at this address: if a kernel runs on this thread, it ends here and this does not return.
void kernel_fault(const void *address, bool misaligned);

// ---- blas.cpp --------------------------------------------------------------------------------------

size_t size_of(cudaDataType type); // 0: none that the emulation has
// n elements to float and back, rounded to nearest, ties to even.
void to_floats(float *out, const void *in, cudaDataType type, size_t n);
void from_floats(void *out, const float *in, cudaDataType type, size_t n);
// Factors of a product as tensor cores take them with TF32: 10 bits of fraction.
void round_to_tf32(float *x, size_t n);
} // namespace emulator
#pragma GCC visibility pop
#endif
