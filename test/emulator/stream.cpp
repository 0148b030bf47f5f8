// stream.cpp - streams are queues of noted-down work, and events are marks in them. Work is done when somebody waits
// for it, so that a wait that is missing shows. A stream that is captured notes down in a graph instead.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>
#include <pthread.h>
#include "inside.h"
#include "stream.h"

namespace emulator {

std::vector<cudaStream_t> &all_streams()
{
    static auto *list = new std::vector<cudaStream_t>;
    return *list;
}

// ---- Tapes ----------------------------------------------------------------------------------------

void *tape::add(cudaError_t (*run)(int, void *), size_t bytes, void (*drop)(void *))
{
    constexpr size_t least = 64 << 10, align = 16;
    const size_t     head  = (sizeof(item) + align - 1) / align * align;
    const size_t     whole = (head + bytes + align - 1) / align * align;

    if (!chunks || chunks->size - chunks->used < whole) {
        const size_t size = std::max(whole, least);
        chunk       *c    = (chunk *)std::malloc(sizeof(chunk) + align + size); // aligned to 16
        if (!c) return nullptr;
        *c     = { chunks, 0, size };
        chunks = c;
    }
    char *memory = (char *)chunks + (sizeof(chunk) + align - 1) / align * align + chunks->used;
    chunks->used += whole;
    // The item ends where its payload begins, which is aligned.
    item *it                    = new (memory + head - sizeof(item)) item{ run, drop, nullptr };
    (last ? last->next : first) = it;
    last                        = it;
    count++;
    return it->payload();
}

item *tape::take()
{
    item *it = first;

    if (!it) return nullptr;
    first = it->next;
    if (!first) last = nullptr;
    count--;
    return it;
}

void tape::clear()
{
    while (item *it = take()) {
        if (it->drop) it->drop(it->payload());
    }
    while (chunks) {
        chunk *next = chunks->next;
        std::free(chunks);
        chunks = next;
    }
}

void disown(tape *t)
{
    if (--t->owners > 0) return;
    t->clear();
    delete t;
}

// ---- Running queues -----------------------------------------------------------------------------

bool is_stream(cudaStream_t stream)
{
    const auto &list = all_streams();

    return stream && std::find(list.begin(), list.end(), stream) != list.end();
}

int device_of(cudaStream_t stream) { return is_stream(stream) ? stream->device : -1; }

bool is_capturing(cudaStream_t stream) { return is_stream(stream) && stream->capture; }

// Until the queue is empty, or `event` has reached `ticket`.
static cudaError_t run_until(cudaStream_t stream, cudaEvent_t event, unsigned long long ticket)
{
    const int device = stream->device;
    tape     &queue  = stream->queue;

    if (lost(device) == cudaSuccess && queue.first) {
        section opened(device);
        while (lost(device) == cudaSuccess && !(event && event->done >= ticket)) {
            item *it = queue.take();
            if (!it) break;
            const cudaError_t error = it->run(device, it->payload());
            if (error != cudaSuccess) lose(device, error);
            if (it->drop) it->drop(it->payload());
        }
    }
    if (lost(device) != cudaSuccess || !queue.first) queue.clear();
    return lost(device);
}

cudaError_t run_stream(cudaStream_t stream) { return run_until(stream, nullptr, 0); }

cudaError_t run_device(int device, bool all)
{
    for (size_t i = 0; i < all_streams().size(); i++) {
        cudaStream_t s = all_streams()[i];
        if (s->device == device && (all || !s->nonblocking)) run_stream(s);
    }
    return lost(device);
}

// The stream, if the caller may give it work.
static cudaError_t usable(cudaStream_t stream)
{
    const cudaError_t error = ready();

    if (error != cudaSuccess) return error;
    if (!is_stream(stream))
        return explain(cudaErrorInvalidResourceHandle, "the stream is none, or has been destroyed");
    return lost(stream->device);
}

void *enqueue(cudaError_t *error, cudaStream_t stream, cudaError_t (*run)(int, void *),
              size_t bytes, void (*drop)(void *))
{
    *error = usable(stream);
    if (*error == cudaSuccess && stream->broken) *error = cudaErrorStreamCaptureInvalidated;
    if (*error == cudaSuccess && !stream->capture && stream->queue.count >= MOST_ITEMS)
        *error = run_stream(stream);
    if (*error != cudaSuccess) return nullptr;
    void *payload = (stream->capture ? *stream->capture : stream->queue).add(run, bytes, drop);
    if (!payload) *error = cudaErrorMemoryAllocation;
    return payload;
}
} // namespace emulator

using namespace emulator;

kd_emulated_kernel *kd_emulated_launch(cudaStream_t stream, const char *name, dim3 blocks,
                                       long long threads, size_t bytes)
{
    lock         held;
    cudaError_t  error = cudaSuccess;
    const size_t head  = (sizeof(kd_emulated_kernel) + 15) / 16 * 16;

    if (threads < 1 || threads > MOST_THREADS || blocks.x < 1 || blocks.y < 1 || blocks.z < 1 ||
        blocks.x > 0x7fffffffu || blocks.y > 65535 || blocks.z > 65535)
        error = explain(cudaErrorInvalidConfiguration,
                        "'%s' launched with (%u,%u,%u) blocks of %lld threads", name, blocks.x,
                        blocks.y, blocks.z, threads);
    else if (is_stream(stream) && stream->device != current_device())
        error = explain(cudaErrorInvalidResourceHandle,
                        "'%s' launched in a stream of another device", name);
    else if (compute_capability() < 70)
        error = cudaErrorNoKernelImageForDevice;
    auto *k = error != cudaSuccess
                  ? nullptr
                  : (kd_emulated_kernel *)enqueue(&error, stream, run_kernel, head + bytes);
    give(error);
    if (!k) return nullptr;
    k->name      = name;
    k->arguments = (char *)k + head;
    k->blocks    = blocks;
    k->threads   = (int)threads;
    k->pointers  = 0;
    return k;
}

// ---- Streams --------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned int flags)
{
    lock              held;
    const cudaError_t error = ready();

    if (error != cudaSuccess) return give(error);
    if (flags > cudaStreamNonBlocking) return give(cudaErrorInvalidValue);
    cudaStream_t s = new (std::nothrow) CUstream_st;
    if (!s) return give(cudaErrorMemoryAllocation);
    s->device      = current_device();
    s->nonblocking = flags == cudaStreamNonBlocking;
    all_streams().push_back(s);
    streams++;
    *out = s;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out) { return cudaStreamCreateWithFlags(out, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    lock held;

    if (!is_stream(stream)) return give(cudaErrorInvalidResourceHandle);
    run_stream(stream);
    if (stream->capture) disown(stream->capture);
    auto &list = all_streams();
    list.erase(std::find(list.begin(), list.end(), stream));
    stream->queue.clear();
    const int device = stream->device;
    delete stream;
    streams--;
    return give(lost(device));
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    lock        held;
    cudaError_t error = usable(stream);

    if (error == cudaSuccess && stream->capture) {
        stream->broken = true;
        error =
            explain(cudaErrorStreamCaptureUnsupported, "a captured stream cannot be waited for");
    }
    return give(error == cudaSuccess ? run_stream(stream) : error);
}

cudaError_t cudaDeviceSynchronize(void)
{
    lock        held;
    cudaError_t error = ready();

    if (error == cudaSuccess) error = outside_captures("cudaDeviceSynchronize");
    return give(error == cudaSuccess ? run_device(current_device()) : error);
}

// ---- Events ---------------------------------------------------------------------------------------

namespace {

struct mark { // of an event in a queue
    cudaEvent_t        event;
    unsigned long long ticket;
    cudaStream_t       stream; // wait: where the mark is
};

void forget(cudaEvent_t event)
{
    if (--event->owners == 0) delete event;
}

// Done or dropped: nobody waits for it any more.
void drop_mark(void *payload)
{
    mark *m = (mark *)payload;

    m->event->done = std::max(m->event->done, m->ticket);
    forget(m->event);
}

cudaError_t reach_mark(int, void *payload)
{
    mark *m = (mark *)payload;

    m->event->done = std::max(m->event->done, m->ticket);
    return cudaSuccess;
}

void drop_wait(void *payload) { forget(((mark *)payload)->event); }

cudaError_t await(cudaEvent_t event, unsigned long long ticket, cudaStream_t stream)
{
    return event->done < ticket && is_stream(stream) ? run_until(stream, event, ticket)
                                                     : cudaSuccess;
}

cudaError_t await_mark(int, void *payload)
{
    const mark *m = (mark *)payload;

    await(m->event, m->ticket, m->stream); // a lost device is its own affair
    return cudaSuccess;
}
} // namespace

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned int)
{
    lock              held;
    const cudaError_t error = ready();

    if (error != cudaSuccess) return give(error);
    cudaEvent_t e = new (std::nothrow) CUevent_st;
    if (!e) return give(cudaErrorMemoryAllocation);
    e->device = current_device();
    events++;
    *out = e;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    lock held;

    if (!event) return give(cudaErrorInvalidResourceHandle);
    const int device = event->device;
    forget(event);
    events--;
    return give(lost(device));
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    lock        held;
    cudaError_t error = usable(stream);

    if (error == cudaSuccess && event->device != stream->device)
        error = explain(cudaErrorInvalidResourceHandle,
                        "an event recorded in a stream of another device");
    if (error != cudaSuccess) return give(error);
    if (stream->capture) { // it says nothing but an order within the graph
        event->captured = stream->broken ? nullptr : stream->capture;
        return give(stream->broken ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
    }
    mark *m = (mark *)enqueue(&error, stream, reach_mark, sizeof *m, drop_mark);
    if (!m) return give(error);
    event->captured = nullptr;
    event->stream   = stream;
    event->owners++;
    *m = { event, ++event->ticket, stream };
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int)
{
    lock        held;
    cudaError_t error = usable(stream);

    if (error != cudaSuccess) return give(error);
    if (stream->capture && event->captured == stream->capture) return cudaSuccess;
    if (stream->capture && event->ticket) {
        stream->broken = true;
        return give(
            explain(cudaErrorStreamCaptureIsolation,
                    "a captured stream was told to wait for an event outside of the capture"));
    }
    if (event->captured) {
        for (cudaStream_t s : all_streams())
            s->broken |= s->capture == event->captured;
        return give(explain(cudaErrorStreamCaptureUnsupported,
                            "a capture of two streams, which the emulation has not"));
    }
    if (event->done >= event->ticket) return cudaSuccess;
    mark *m = (mark *)enqueue(&error, stream, await_mark, sizeof *m, drop_wait);
    if (!m) return give(error);
    event->owners++;
    *m = { event, event->ticket, event->stream };
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    lock        held;
    cudaError_t error = ready();

    if (error == cudaSuccess && event->captured) error = cudaErrorCapturedEvent;
    if (error == cudaSuccess) error = lost(event->device);
    return give(error == cudaSuccess ? await(event, event->ticket, event->stream) : error);
}
