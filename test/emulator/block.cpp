// block.cpp - kernels, block by block. Each thread of a block is a fiber. A worker, which is a stack, calls the
// kernel for one thread after another, as long as none of them waits; a thread that waits keeps its worker, and the
// next thread begins on another. So a kernel without barriers costs a call for each thread. When all have begun,
// those whose wait is over are gone through again and again, in an order that a setting varies; where none can go
// on and none is left to come, the block has diverged, and the launch fails.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <pthread.h>
#include <sys/mman.h>
#include "device_code.h"
#include "fiber.h"
#include "inside.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

uint3 threadIdx, blockIdx;
dim3  blockDim, gridDim;

// The section of __shared__ arrays, of all kernels of the object.
extern "C" {
extern char __start_kd_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_kd_shared[] __attribute__((weak, visibility("hidden")));
}

#if defined(__x86_64__)
__asm__(".text\n.globl kd_fiber_switch\n.hidden kd_fiber_switch\n.type kd_fiber_switch, @function\n"
        "kd_fiber_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq "
        "%r15\n"
        "    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n.size kd_fiber_switch, .-kd_fiber_switch\n");
#endif

namespace emulator {
namespace {

constexpr size_t stack_bytes = 64 << 10, page = 4096;

enum state { RUNS, READY, AT_BARRIER, AT_WARP, LEFT };

struct fiber {
    void             *context;
    state             is;
    kd_emulated_place place; // where it waits
    unsigned          mask;
    uint64_t          value; // what it gives, then what it gets
    int               source;
};

// Lanes of a warp that meet, some of which have not come yet.
struct meeting {
    kd_emulated_place place;
    unsigned          mask, come;
};
struct meetings {
    meeting open[32];
    int     count;
};

struct range {
    size_t begin, end; // of the section
    int    looks;      // how often it has been measured
};

// An order of n things: i -> (first + step * i) mod n.
struct order {
    unsigned long long n, first, step;
    unsigned long long operator[](unsigned long long i) const
    {
        return (unsigned long long)((first + (unsigned __int128)step * i) % n);
    }
};

const kd_emulated_kernel *kernel;
fiber                     fibers[MOST_THREADS];
meetings                  warps[MOST_THREADS / 32];
order                     thread_order;
int                       begun, live, current;
char                     *stacks;
int                       idle[MOST_THREADS], idle_count, next_stack;
void                     *scheduler;
cudaError_t               failure;
volatile bool             running; // a kernel, on the thread `runner`
pthread_t                 runner;
const void *volatile fault_address;
volatile bool faulted;
volatile bool fault_misaligned;

// ---- Order ----------------------------------------------------------------------------------------

struct mixer {
    enum { FORWARD, BACKWARD, MIXED } kind;
    uint64_t state;
    uint64_t draw() // splitmix64
    {
        uint64_t z = state += 0x9E3779B97F4A7C15u;
        z          = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z          = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    order make(unsigned long long n)
    {
        if (kind == FORWARD || n == 1) return { n, 0, 1 };
        if (kind == BACKWARD) return { n, n - 1, n - 1 };
        unsigned long long step = 1 + draw() % (n - 1);
        while (std::gcd(step, n) != 1)
            step = step % (n - 1) + 1;
        return { n, draw() % n, step };
    }
} mix;

void set_order()
{
    const char *text = setting("ORDER");

    if (!text || !*text || std::strcmp(text, "forward") == 0)
        mix = { mixer::FORWARD, 0 };
    else if (std::strcmp(text, "backward") == 0)
        mix = { mixer::BACKWARD, 0 };
    else
        mix = { mixer::MIXED, std::strtoull(text, nullptr, 10) };
}

// ---- Waiting -------------------------------------------------------------------------------------

void select_thread(int t)
{
    current     = t;
    threadIdx.x = (unsigned)t;
}

[[noreturn]] void leave_for_good()
{
    void *unused;

    switch_to(&unused, scheduler);
    std::abort(); // nobody comes back here
}

void wait(state why, const kd_emulated_place &place)
{
    fiber &f = fibers[current];

    f.is    = why;
    f.place = place;
    switch_to(&f.context, scheduler);
}

[[noreturn]] void fail_here(const kd_emulated_place &place, const char *what)
{
    failure = explain(cudaErrorLaunchFailure, "'%s', block (%u,%u,%u), thread %d: %s at %s:%d %s",
                      kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, current, place.what,
                      place.file, place.line, what);
    leave_for_good();
}

bool same(const kd_emulated_place &a, const kd_emulated_place &b)
{
    return a.line == b.line && std::strcmp(a.what, b.what) == 0 && std::strcmp(a.file, b.file) == 0;
}

// The lanes of `mask` come together. 1 for the last one, whom the others await with what they gave; it lets
// them go on.
bool meet(const kd_emulated_place &place, unsigned mask, uint64_t value, int source)
{
    fiber         *warp = fibers + current / 32 * 32;
    const int      lane = current % 32;
    const unsigned bit  = 1u << lane;

    if (!(mask & bit)) fail_here(place, "is reached by a lane that its mask does not name");
    fiber    &me   = fibers[current];
    meetings &here = warps[current / 32];
    int       i    = 0;
    me.mask        = mask;
    me.value       = value;
    me.source      = source;
    while (i < here.count && (here.open[i].mask != mask || !same(here.open[i].place, place)))
        i++;
    if (i == here.count) here.open[here.count++] = { place, mask, 0 };
    here.open[i].come |= bit;
    if (here.open[i].come != mask) return false;
    here.open[i] = here.open[--here.count];
    for (unsigned rest = mask & ~bit; rest; rest &= rest - 1)
        warp[__builtin_ctz(rest)].is = READY;
    return true;
}
} // namespace
} // namespace emulator

using namespace emulator;

void kd_emulated_barrier(kd_emulated_place place) { wait(AT_BARRIER, place); }

uint64_t kd_emulated_exchange(kd_emulated_place place, unsigned mask, uint64_t value, int source)
{
    const int me   = current;
    fiber    *warp = fibers + me / 32 * 32;

    if (source < 0 || source > 31 || !(mask & (1u << source)))
        fail_here(place, "reads a lane that its mask does not name");
    if (!meet(place, mask, value, source)) {
        wait(AT_WARP, place);
    } else { // all values first: who gets one also gives one
        uint64_t given[32];
        for (unsigned rest = mask; rest; rest &= rest - 1)
            given[__builtin_ctz(rest)] = warp[__builtin_ctz(rest)].value;
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            fiber &f = warp[__builtin_ctz(rest)];
            f.value  = given[f.source];
        }
    }
    return fibers[me].value;
}

unsigned kd_emulated_vote(kd_emulated_place place, unsigned mask, int yes)
{
    const int me   = current;
    fiber    *warp = fibers + me / 32 * 32;

    if (!meet(place, mask, yes != 0, 0)) {
        wait(AT_WARP, place);
    } else {
        unsigned votes = 0;
        for (unsigned rest = mask; rest; rest &= rest - 1)
            votes |= (unsigned)warp[__builtin_ctz(rest)].value << __builtin_ctz(rest);
        for (unsigned rest = mask; rest; rest &= rest - 1)
            warp[__builtin_ctz(rest)].value = votes;
    }
    return (unsigned)fibers[me].value;
}

// ---- Checks that the compiler puts into kernels -------------------------------------------------

#if !defined(__SANITIZE_ADDRESS__)
// Kernels are compiled with -fsanitize=alignment,bounds and without its library: what it would call is here. Each check
// begins its data with the place.
struct checked_place {
    const char *file;
    uint32_t    line, column;
};

[[noreturn]] static void fail_check(cudaError_t error, const checked_place *place, const char *what,
                                    unsigned long long value)
{
    char text[128];

    std::snprintf(text, sizeof text, what, value);
    if (!running) {
        std::fprintf(stderr, "%s:%u: %s\n", place->file, place->line, text);
        std::abort();
    }
    failure = explain(error, "'%s', block (%u,%u,%u), thread %d: %s at %s:%u", kernel->name,
                      blockIdx.x, blockIdx.y, blockIdx.z, current, text, place->file, place->line);
    leave_for_good();
}

extern "C" {
__attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1_abort(void *data,
                                                                                 void *address);
__attribute__((visibility("hidden"))) void __ubsan_handle_out_of_bounds_abort(void *data,
                                                                              void *index);

void __ubsan_handle_type_mismatch_v1_abort(void *data, void *address)
{
    fail_check(cudaErrorMisalignedAddress, (const checked_place *)data,
               "address 0x%llx is not aligned as its type wants",
               (unsigned long long)(uintptr_t)address);
}

void __ubsan_handle_out_of_bounds_abort(void *data, void *index)
{
    fail_check(cudaErrorIllegalAddress, (const checked_place *)data,
               "index %llu is outside of its array", (unsigned long long)(uintptr_t)index);
}
}
#endif

namespace emulator {
namespace {

// ---- A block --------------------------------------------------------------------------------------

// The bottom of each worker's stack.
void work()
{
    const int stack = next_stack;

    while (begun < kernel->threads) {
        select_thread((int)thread_order[(unsigned)begun++]);
        fibers[current].is = RUNS;
        kernel->call(kernel->function, kernel->arguments);
        fibers[current].is = LEFT;
        live--;
    }
    idle[idle_count++] = stack;
    leave_for_good();
}

bool make_stacks()
{
    if (stacks) return true;
    void *p = mmap(nullptr, MOST_THREADS * (stack_bytes + page), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED) return false;
    stacks = (char *)p;
    for (int i = 0; i < MOST_THREADS; i++) // a fence below each
        mprotect(stacks + i * (stack_bytes + page), page, PROT_NONE);
    return true;
}

void all_idle()
{
    idle_count = MOST_THREADS;
    for (int i = 0; i < MOST_THREADS; i++)
        idle[i] = MOST_THREADS - 1 - i;
}

// A worker on an idle stack. Tops differ in their place within a page, else they would share cache lines' sets.
void start_worker()
{
    next_stack   = idle[--idle_count];
    char *bottom = stacks + next_stack * (stack_bytes + page) + page;

#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(bottom, stack_bytes);
#endif
    switch_to(&scheduler, new_context(bottom, bottom + stack_bytes - next_stack % 32 * 192, work));
}

void describe_state(int t, char *text, size_t size)
{
    const fiber &f = fibers[t];

    if (t >= kernel->threads)
        std::snprintf(text, size, "there is no thread %d", t);
    else if (f.is == LEFT)
        std::snprintf(text, size, "thread %d has left", t);
    else
        std::snprintf(text, size, "thread %d waits in %s at %s:%d", t, f.place.what, f.place.file,
                      f.place.line);
}

// A thread that keeps thread t waiting, or -1.
int who_is_missing(int t)
{
    const fiber &f = fibers[t];

    for (int i = 0; i < (f.is == AT_WARP ? 32 : kernel->threads); i++) {
        const int other = f.is == AT_WARP ? t / 32 * 32 + i : i;
        if (f.is == AT_WARP && !(f.mask >> i & 1)) continue;
        if (other >= kernel->threads || fibers[other].is != f.is ||
            !same(fibers[other].place, f.place) ||
            (f.is == AT_WARP && fibers[other].mask != f.mask))
            return other;
    }
    return -1;
}

// All that live wait, and no lane can go on: is it a barrier that all threads have come to? Else the block has
// diverged.
void release_barrier()
{
    int t = 0;

    while (fibers[t].is == LEFT)
        t++;
    const int other = who_is_missing(t);
    if (other < 0) {
        for (int i = 0; i < kernel->threads; i++)
            fibers[i].is = READY;
        thread_order = mix.make((unsigned)kernel->threads);
        return;
    }
    char one[160], two[160];
    describe_state(t, one, sizeof one);
    describe_state(other, two, sizeof two);
    failure = explain(cudaErrorLaunchFailure, "'%s', block (%u,%u,%u), has diverged: %s, %s",
                      kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, one, two);
}

void run_block()
{
    const int threads = kernel->threads;

    thread_order = mix.make((unsigned)threads);
    begun        = 0;
    live         = threads;
    for (int w = 0; w < (threads + 31) / 32; w++)
        warps[w].count = 0;
    while (begun < threads && failure == cudaSuccess)
        start_worker();
    while (live > 0 && failure == cudaSuccess) {
        bool went_on = false;
        for (int i = 0; i < threads && failure == cudaSuccess; i++) {
            const int t = (int)thread_order[(unsigned)i];
            if (fibers[t].is != READY) continue;
            went_on      = true;
            fibers[t].is = RUNS;
            select_thread(t);
            switch_to(&scheduler, fibers[t].context);
        }
        if (!went_on && failure == cudaSuccess) release_barrier();
    }
}

// ---- Shared memory ------------------------------------------------------------------------------

// NaN into the shared arrays. Those of one kernel are found by looking what its blocks have written, in the first
// launches of it: all kernels' together are too many to be filled for every block.
struct shared_memory {
    char  *memory = __start_kd_shared;
    size_t size   = (size_t)(__stop_kd_shared - __start_kd_shared);
    range *known;
    bool   look;

    explicit shared_memory(const void *function)
    {
        static auto *ranges = new std::map<const void *, range>;
        enum { LOOKS = 8 };

        known = &ranges->emplace(function, range{ size, 0, 0 }).first->second;
        look  = size > 0 && known->looks < LOOKS;
        if (look) {
            known->looks++;
            std::memset(memory, 0xff, size);
        }
    }
    void before_block()
    {
        if (known->end > known->begin)
            std::memset(memory + known->begin, 0xff, known->end - known->begin);
    }
    void after_first_block()
    {
        size_t begin = 0, end = size;

        if (!look) return;
        while (begin < size && memory[begin] == (char)0xff)
            begin++;
        while (end > begin && memory[end - 1] == (char)0xff)
            end--;
        if (begin == end) return;
        known->begin = begin < known->begin ? begin : known->begin;
        known->end   = end > known->end ? end : known->end;
    }
};

// ---- A launch -------------------------------------------------------------------------------------

cudaError_t run_blocks()
{
    const unsigned long long blocks      = (unsigned long long)gridDim.x * gridDim.y * gridDim.z;
    const order              block_order = mix.make(blocks);
    shared_memory            shared(kernel->function);

    for (unsigned long long i = 0; i < blocks && failure == cudaSuccess; i++) {
        const unsigned long long b = block_order[i];
        blockIdx.x                 = (unsigned)(b % gridDim.x);
        blockIdx.y                 = (unsigned)(b / gridDim.x % gridDim.y);
        blockIdx.z                 = (unsigned)(b / gridDim.x / gridDim.y);
        shared.before_block();
        run_block();
        if (i == 0) shared.after_first_block();
    }
    return failure;
}

cudaError_t report_fault()
{
    char text[200];

    if (fault_misaligned)
        return explain(
            cudaErrorMisalignedAddress,
            "'%s', block (%u,%u,%u), thread %d: a vector is not aligned, or the address is none",
            kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, current);
    describe_address((const void *)fault_address, text, sizeof text);
    return explain(cudaErrorIllegalAddress, "'%s', block (%u,%u,%u), thread %d: an access %s",
                   kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, current, text);
}
} // namespace

void kernel_fault(const void *address, bool misaligned)
{
    if (!running || !pthread_equal(runner, pthread_self())) return;
    fault_address    = address;
    fault_misaligned = misaligned;
    failure          = cudaErrorIllegalAddress;
    faulted          = true;
    leave_for_good();
}

cudaError_t run_kernel(int device, void *payload)
{
    const kd_emulated_kernel *k     = (const kd_emulated_kernel *)payload;
    cudaError_t               error = count_launch(k->name);

    for (int i = 0; i < k->pointers && error == cudaSuccess; i++) {
        const void *p = k->pointer[i];
        if (p && !is_pointer_of(p, device) && !is_pinned(p, 0))
            error = explain(cudaErrorIllegalAddress,
                            "'%s': pointer %d of its arguments is not to memory of device %d",
                            k->name, i, device);
    }
    if (error != cudaSuccess) return error;
    if (!make_stacks()) return cudaErrorLaunchOutOfResources;
    kernel        = k;
    gridDim       = k->blocks;
    blockDim      = dim3((unsigned)k->threads);
    threadIdx     = { 0, 0, 0 };
    failure       = cudaSuccess;
    fault_address = nullptr;
    faulted       = false;
    set_order();
    all_idle();
    catch_faults();
    runner  = pthread_self();
    running = true;
    error   = run_blocks();
    running = false;
    if (faulted) error = report_fault();
    return error;
}
} // namespace emulator
