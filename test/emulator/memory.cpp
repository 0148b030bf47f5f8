// memory.cpp - device memory that tells who touches it and where. Each block ends at a fence: pages that nobody can
// read or write; what lies before it on its first page and after its last byte (up to 63 bytes) is filled with a
// pattern that is NaN in every type of float, and looked at whenever a device section ends. A new block holds NaN.
// A freed one stays a fence: addresses are not used again. Blocks can be touched only within a section.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include "inside.h"

namespace emulator {
namespace {

struct block {
    uintptr_t body;  // its first page; the last one ends where the fence begins
    size_t    pages; // bytes of them
    size_t    bytes; // that were asked for
    int       device;
    bool      open; // can be touched now
    block    *next; // that was opened in this section, before it
    uintptr_t fence() const { return body + pages; }
    uintptr_t start() const { return fence() - (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }
};

using blocks_by_address = std::map<uintptr_t, block>;

constexpr size_t page  = 4096;
constexpr size_t range = (size_t)4 << 40; // of addresses, not of memory
enum { REMEMBERED = 64 };                 // freed blocks, for the sentence

uintptr_t        reserved, next_free;
size_t           used[MOST_DEVICES];
size_t           allocations;
int              depth[MOST_DEVICES]; // of sections
block            freed[REMEMBERED];
size_t           freed_count;
block           *opened[MOST_DEVICES]; // since its section began
std::atomic_flag opening = ATOMIC_FLAG_INIT;
struct sigaction others_action; // what to do about faults that are none of ours
bool             catching;

blocks_by_address &blocks()
{
    static auto *map = new blocks_by_address;
    return *map;
}

// Pinned host memory: first byte, bytes. The mapping is `pages` bytes from first page on.
std::map<uintptr_t, block> &pinned()
{
    static auto *map = new std::map<uintptr_t, block>;
    return *map;
}

bool locks()
{
    const char *text = setting("LOCK");

    return !(text && std::strcmp(text, "0") == 0);
}

constexpr unsigned char pattern[2] = { 0xa5, 0xff }; // by address: even, odd

void paint(uintptr_t from, uintptr_t to)
{
    for (uintptr_t p = from; p < to; p++)
        *(unsigned char *)p = pattern[p % 2];
}

// The first byte in [from, to) that is not the pattern's, or 0.
uintptr_t find_stain(uintptr_t from, uintptr_t to)
{
    for (uintptr_t p = from; p < to; p++) {
        if (*(unsigned char *)p != pattern[p % 2]) return p;
    }
    return 0;
}

void set_open(block &b, bool open)
{
    if (b.open == open) return;
    mprotect((void *)b.body, b.pages, open ? PROT_READ | PROT_WRITE : PROT_NONE);
    b.open = open;
}

// Has anything been written beside the block? Looks `before` bytes back.
void check_around(block &b, size_t before)
{
    const uintptr_t start = b.start();
    uintptr_t       stain = find_stain(start + b.bytes, b.fence());

    if (!stain) stain = find_stain(std::max(b.body, start - before), start);
    if (!stain) return;
    char text[200];
    describe_address((void *)stain, text, sizeof text);
    lose(b.device, explain(cudaErrorIllegalAddress, "a write went %s", text));
    paint(b.body, start);
    paint(start + b.bytes, b.fence());
}

bool reserve()
{
    if (reserved) return true;
    void *p = mmap(nullptr, range, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    reserved  = (uintptr_t)p;
    next_free = reserved + page;
    return true;
}

blocks_by_address::iterator find(const void *memory)
{
    auto it = blocks().upper_bound((uintptr_t)memory);

    return it == blocks().begin() ? blocks().end() : std::prev(it);
}

// A fault outside of kernels: say what it was, and let it be one.
void say_what_the_host_did(const void *address)
{
    char text[200], line[320];

    describe_address(address, text, sizeof text);
    const int n = std::snprintf(line, sizeof line,
                                "emulated CUDA: host code touched device memory, %s\n", text);
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) return;
}

// The first touch of a block in a section of its device opens it: most are not touched in most sections. Products
// touch them from several threads.
bool open_for_section(const void *address)
{
    bool found = false;

    if (!in_device_range(address)) return false;
    while (opening.test_and_set(std::memory_order_acquire)) {
    }
    const auto it = find(address);
    if (it != blocks().end()) {
        block          &b  = it->second;
        const uintptr_t at = (uintptr_t)address;

        found = depth[b.device] > 0 && at >= b.body && at < b.fence();
        if (found && !b.open) {
            set_open(b, true);
            b.next           = opened[b.device];
            opened[b.device] = &b;
        }
    }
    opening.clear(std::memory_order_release);
    return found;
}

void on_fault(int, siginfo_t *info, void *)
{
    if (info->si_code == SEGV_ACCERR && open_for_section(info->si_addr)) return;
    // Without an address: the instruction wants alignment.
    kernel_fault(info->si_addr, info->si_code == SI_KERNEL);
    if (in_device_range(info->si_addr)) say_what_the_host_did(info->si_addr);
    sigaction(SIGSEGV, &others_action, nullptr); // the instruction is tried again, and faults
}

__attribute__((destructor)) void leave()
{
    struct sigaction now;

    if (catching && sigaction(SIGSEGV, nullptr, &now) == 0 && now.sa_sigaction == on_fault)
        sigaction(SIGSEGV, &others_action, nullptr);
}
} // namespace

// Anew for every launch: something else may have taken the signal in between.
void catch_faults()
{
    struct sigaction action, now;

    if (sigaction(SIGSEGV, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
        now.sa_sigaction == on_fault)
        return;
    std::memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags     = SA_SIGINFO | SA_NODEFER; // the handler may not return
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSEGV, &action, &others_action) == 0) catching = true;
}

section::section(int which) : device(which)
{
    catch_faults();
    if (depth[device]++ == 0) opened[device] = nullptr;
}

section::~section()
{
    if (--depth[device] > 0) return;
    if (locks()) {
        for (block *b = opened[device]; b; b = b->next) {
            check_around(*b, ALIGNMENT);
            set_open(*b, false);
        }
        return;
    }
    for (auto &[_, b] : blocks()) {
        if (b.device != device) continue;
        set_open(b, true);
        check_around(b, ALIGNMENT);
    }
}

int in_device_range(const void *memory)
{
    return reserved && (uintptr_t)memory >= reserved && (uintptr_t)memory < reserved + range;
}

int is_device(const void *memory, size_t bytes, int *device)
{
    const auto      it = find(memory);
    const uintptr_t at = (uintptr_t)memory;

    if (it == blocks().end()) return 0;
    const block &b = it->second;
    if (at - b.start() > b.bytes || bytes > b.bytes - (at - b.start())) return 0;
    if (device) *device = b.device;
    return 1;
}

int is_pointer_of(const void *memory, int device)
{
    int owner;

    return is_device(memory, 0, &owner) && owner == device;
}

int is_pinned(const void *memory, size_t bytes)
{
    const uintptr_t at = (uintptr_t)memory;
    auto            it = pinned().upper_bound(at);

    if (it == pinned().begin()) return 0;
    const block &b = std::prev(it)->second;
    return at - b.start() <= b.bytes && bytes <= b.bytes - (at - b.start());
}

void describe_address(const void *memory, char *text, size_t size)
{
    const uintptr_t at = (uintptr_t)memory;

    const auto near = [&](const block &b, const char *what) {
        const uintptr_t start = b.start(), end = start + b.bytes;
        if (at + page < start || at >= end + 2 * page) return false;
        if (at < start)
            std::snprintf(text, size, "%zu bytes before a %s of %zu bytes", (size_t)(start - at),
                          what, b.bytes);
        else if (at < end)
            std::snprintf(text, size, "to byte %zu of a %s of %zu bytes", (size_t)(at - start),
                          what, b.bytes);
        else
            std::snprintf(text, size, "%zu bytes after the end of a %s of %zu bytes",
                          (size_t)(at - end), what, b.bytes);
        return true;
    };
    auto it = blocks().upper_bound(at);
    if (it != blocks().begin() && near(std::prev(it)->second, "block")) return;
    for (size_t i = 0; i < std::min<size_t>(freed_count, REMEMBERED); i++) {
        if (near(freed[i], "freed block")) return;
    }
    if (it != blocks().end() && near(it->second, "block")) return;
    if (at < page)
        std::snprintf(text, size, "to address %zu, which is NULL", (size_t)at);
    else
        std::snprintf(text, size, "to address 0x%zx, where the device has nothing", (size_t)at);
}

static cudaError_t allocate(void **out, size_t bytes)
{
    const int    device  = current_device();
    const size_t total   = memory_of_device(),
                 rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    block b;

    *out = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (rounded < bytes || rounded > total || used[device] > total - rounded)
        return cudaErrorMemoryAllocation;
    b.bytes  = bytes;
    b.pages  = (rounded + page - 1) / page * page;
    b.device = device;
    b.open   = true;
    if (!reserve() || next_free - reserved > range - b.pages - page)
        return cudaErrorMemoryAllocation;
    b.body = next_free;
    if (mmap((void *)b.body, b.pages, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    next_free += b.pages + page;
    paint(b.body, b.start());
    std::memset((void *)b.start(), 0xff, bytes);
    paint(b.start() + bytes, b.fence());
    if (depth[device] == 0 && locks()) set_open(b, false);
    catch_faults();
    used[device] += rounded;
    allocations++;
    *out = (void *)b.start();
    blocks().emplace(b.start(), b);
    return cudaSuccess;
}

static void release(blocks_by_address::iterator it)
{
    block &b = it->second;

    set_open(b, true);
    check_around(b, page);
    mmap((void *)b.body, b.pages, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    used[b.device] -= b.fence() - b.start();
    freed[freed_count++ % REMEMBERED] = b;
    blocks().erase(it);
}
} // namespace emulator

using namespace emulator;

size_t kd_emulator_used_bytes(void)
{
    size_t sum = 0;

    for (size_t bytes : used)
        sum += bytes;
    return sum;
}

size_t kd_emulator_allocations(void) { return allocations; }

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    lock        held;
    cudaError_t error = ready();

    if (error == cudaSuccess) error = outside_captures("cudaMalloc");
    return give(error == cudaSuccess ? allocate(memory, bytes) : error);
}

// Memory of a lost device goes, too: a test may count what is left.
cudaError_t cudaFree(void *memory)
{
    lock        held;
    cudaError_t error = ready();

    if (!memory) return give(error);
    const cudaError_t captured = outside_captures("cudaFree");
    if (captured != cudaSuccess) return give(captured);
    const auto it = blocks().find((uintptr_t)memory);
    if (it == blocks().end())
        return give(
            explain(cudaErrorInvalidValue, "cudaFree of what is no block of device memory"));
    const int device = it->second.device;
    if (lost(device) == cudaSuccess) run_device(device);
    release(it);
    if (error == cudaSuccess) error = lost(device);
    return give(error);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    lock              held;
    const cudaError_t error = ready();

    if (error != cudaSuccess) return give(error);
    *total     = memory_of_device();
    *available = *total > used[current_device()] ? *total - used[current_device()] : 0;
    return cudaSuccess;
}

// Pinned memory ends at a fence, too, and holds NaN.
cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    lock        held;
    cudaError_t error = ready();
    block       b;

    if (error == cudaSuccess) error = outside_captures("cudaMallocHost");
    if (error != cudaSuccess) return give(error);
    *memory = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (bytes > range) return give(cudaErrorMemoryAllocation);
    b.bytes  = bytes;
    b.pages  = (bytes + ALIGNMENT + page - 1) / page * page;
    b.device = -1;
    b.open   = true;
    void *p =
        mmap(nullptr, b.pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return give(cudaErrorMemoryAllocation);
    b.body = (uintptr_t)p;
    mprotect((void *)b.fence(), page, PROT_NONE);
    std::memset((void *)b.start(), 0xff, bytes);
    pinned().emplace(b.start(), b);
    host_blocks++;
    *memory = (void *)b.start();
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
    lock        held;
    cudaError_t error = ready();

    if (!memory) return give(error);
    const cudaError_t captured = outside_captures("cudaFreeHost");
    if (captured != cudaSuccess) return give(captured);
    const auto it = pinned().find((uintptr_t)memory);
    if (it == pinned().end())
        return give(explain(cudaErrorInvalidValue, "cudaFreeHost of what is no pinned memory"));
    for (int i = 0; i < device_count(); i++) {
        if (lost(i) == cudaSuccess) run_device(i);
    }
    munmap((void *)it->second.body, it->second.pages + page);
    pinned().erase(it);
    host_blocks--;
    return give(error == cudaSuccess ? ready() : error);
}
