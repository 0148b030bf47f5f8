// graph.cpp - capture of a stream into a graph, and its runs; copies and fills, which go into queues or graphs.
#include <cstring>
#include <new>
#include "inside.h"
#include "stream.h"

struct CUgraph_st {
    emulator::tape *work;
};
struct CUgraphExec_st {
    emulator::tape *work;
    int             device;
};

namespace emulator {

cudaError_t outside_captures(const char *what)
{
    cudaError_t error = cudaSuccess;

    for (cudaStream_t s : all_streams()) {
        if (!s->capture || s->mode == cudaStreamCaptureModeRelaxed) continue;
        if (s->mode == cudaStreamCaptureModeThreadLocal &&
            !pthread_equal(s->thread, pthread_self()))
            continue;
        s->broken = true;
        error = explain(cudaErrorStreamCaptureUnsupported, "%s while a stream is captured", what);
    }
    return error;
}

namespace {

// Is `call` the one that KDAS_EMULATOR_CAPTURE lets fail?
bool denied(const char *call)
{
    const char *which = setting("CAPTURE");

    return which && std::strcmp(which, call) == 0;
}

// ---- Copies and fills ------------------------------------------------------------------------------

struct copy {
    void          *to;
    const void    *from;
    size_t         bytes;
    cudaMemcpyKind kind;
};

struct fill {
    void  *memory;
    int    value;
    size_t bytes;
};

// Does the copy's kind fit its ends, and do these lie inside of blocks?
cudaError_t check_copy(const copy &c)
{
    const bool to_device   = c.kind == cudaMemcpyHostToDevice || c.kind == cudaMemcpyDeviceToDevice;
    const bool from_device = c.kind == cudaMemcpyDeviceToHost || c.kind == cudaMemcpyDeviceToDevice;

    if (c.kind < cudaMemcpyHostToHost || c.kind > cudaMemcpyDeviceToDevice)
        return cudaErrorInvalidMemcpyDirection;
    if (to_device ? !is_device(c.to, c.bytes, nullptr) : in_device_range(c.to))
        return explain(cudaErrorInvalidValue, "a copy of %zu bytes, to what is %s", c.bytes,
                       to_device ? "not inside one block of device memory"
                                 : "not the host's memory");
    if (from_device ? !is_device(c.from, c.bytes, nullptr) : in_device_range(c.from))
        return explain(cudaErrorInvalidValue, "a copy of %zu bytes, from what is %s", c.bytes,
                       from_device ? "not inside one block of device memory"
                                   : "not the host's memory");
    return cudaSuccess;
}

cudaError_t run_copy(int device, void *payload)
{
    const copy &c  = *(copy *)payload;
    int         to = device, from = device;

    if (check_copy(c) != cudaSuccess)
        return explain(cudaErrorIllegalAddress, "a copy ran after its memory had been freed");
    is_device(c.to, 0, &to);
    is_device(c.from, 0, &from);
    section one(to), other(from);
    std::memmove(c.to, c.from, c.bytes);
    return cudaSuccess;
}

cudaError_t run_fill(int device, void *payload)
{
    const fill &f  = *(fill *)payload;
    int         of = device;

    if (!is_device(f.memory, f.bytes, &of))
        return explain(cudaErrorIllegalAddress, "a fill ran after its memory had been freed");
    section opened(of);
    std::memset(f.memory, f.value, f.bytes);
    return cudaSuccess;
}

cudaMemcpyKind kind_of(const void *to, const void *from, cudaMemcpyKind kind)
{
    if (kind != cudaMemcpyDefault) return kind;
    return (cudaMemcpyKind)(2 * (in_device_range(from) != 0) + (in_device_range(to) != 0));
}

cudaError_t check_fill(const void *memory, size_t bytes)
{
    if (is_device(memory, bytes, nullptr)) return cudaSuccess;
    return explain(cudaErrorInvalidValue,
                   "a fill of %zu bytes of what is not inside one block of device memory", bytes);
}

// Runs in its turn, and so does all of the graph.
struct replay {
    tape *work;
};

cudaError_t run_graph(int device, void *payload)
{
    for (item *it = ((replay *)payload)->work->first; it; it = it->next) {
        const cudaError_t error = it->run(device, it->payload());
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

void drop_graph(void *payload) { disown(((replay *)payload)->work); }
} // namespace
} // namespace emulator

using namespace emulator;

// Pageable memory is read at the call; pinned memory, and all memory of a captured copy, when the copy runs. A copy to
// pageable memory is done when the call returns.
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    lock        held;
    copy        c     = { to, from, bytes, kind_of(to, from, kind) };
    cudaError_t error = ready();

    if (bytes == 0 || error != cudaSuccess) return give(error);
    error = check_copy(c);
    if (error != cudaSuccess) return give(error);
    const bool reads_now =
        c.kind == cudaMemcpyHostToDevice && !is_pinned(from, bytes) && !is_capturing(stream);
    const bool writes_now =
        c.kind == cudaMemcpyDeviceToHost && !is_pinned(to, bytes) && !is_capturing(stream);
    copy *queued = (copy *)enqueue(&error, stream, run_copy, sizeof c + (reads_now ? bytes : 0));
    if (!queued) return give(error);
    *queued = c;
    if (reads_now) queued->from = std::memcpy(queued + 1, from, bytes);
    return give(writes_now ? run_stream(stream) : cudaSuccess);
}

// These belong to the legacy stream, which waits for blocking streams alone.
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    lock        held;
    copy        c     = { to, from, bytes, kind_of(to, from, kind) };
    cudaError_t error = ready();

    if (error == cudaSuccess) error = outside_captures("cudaMemcpy");
    if (error == cudaSuccess) error = run_device(current_device(), false);
    if (error == cudaSuccess && bytes > 0) error = check_copy(c);
    return give(error == cudaSuccess && bytes > 0 ? run_copy(current_device(), &c) : error);
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    lock        held;
    fill        f     = { memory, value, bytes };
    cudaError_t error = ready();

    if (error == cudaSuccess) error = outside_captures("cudaMemset");
    if (error == cudaSuccess) error = run_device(current_device(), false);
    if (error == cudaSuccess && bytes > 0) error = check_fill(memory, bytes);
    return give(error == cudaSuccess && bytes > 0 ? run_fill(current_device(), &f) : error);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    lock        held;
    cudaError_t error = ready();

    if (bytes == 0 || error != cudaSuccess) return give(error);
    error = check_fill(memory, bytes);
    if (error != cudaSuccess) return give(error);
    fill *f = (fill *)enqueue(&error, stream, run_fill, sizeof *f);
    if (f) *f = { memory, value, bytes };
    return give(error);
}

// ---- Capture and graphs ----------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    lock        held;
    cudaError_t error = ready();

    if (error != cudaSuccess) return give(error);
    if (!is_stream(stream)) return give(cudaErrorInvalidResourceHandle);
    if (denied("0"))
        return give(explain(cudaErrorNotSupported, "no capture, as KDAS_EMULATOR_CAPTURE asks"));
    if (stream->capture || mode < 0 || mode > cudaStreamCaptureModeRelaxed)
        return give(cudaErrorInvalidValue);
    stream->capture = new (std::nothrow) tape;
    if (!stream->capture) return give(cudaErrorMemoryAllocation);
    stream->mode   = mode;
    stream->broken = false;
    stream->thread = pthread_self();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    lock        held;
    cudaError_t error = cudaSuccess;

    *out = nullptr;
    if (!is_stream(stream)) return give(cudaErrorInvalidResourceHandle);
    if (!stream->capture) return give(cudaErrorInvalidValue);
    if (stream->mode != cudaStreamCaptureModeRelaxed &&
        !pthread_equal(stream->thread, pthread_self()))
        return give(cudaErrorStreamCaptureWrongThread);
    if (stream->broken) error = cudaErrorStreamCaptureInvalidated;
    if (error == cudaSuccess) error = lost(stream->device);
    if (error == cudaSuccess && denied("end"))
        error = explain(cudaErrorStreamCaptureUnjoined, "no end, as KDAS_EMULATOR_CAPTURE asks");
    tape *work      = stream->capture;
    stream->capture = nullptr;
    stream->broken  = false;
    cudaGraph_t g   = error == cudaSuccess ? new (std::nothrow) CUgraph_st : nullptr;
    if (!g) {
        disown(work);
        return give(error == cudaSuccess ? cudaErrorMemoryAllocation : error);
    }
    g->work = work;
    graphs++;
    *out = g;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph,
                                          unsigned long long)
{
    lock              held;
    const cudaError_t error = ready();

    *out = nullptr;
    if (error != cudaSuccess) return give(error);
    if (!graph) return give(cudaErrorInvalidValue);
    if (denied("instantiate"))
        return give(explain(cudaErrorNotSupported, "no instance, as KDAS_EMULATOR_CAPTURE asks"));
    cudaGraphExec_t exec = new (std::nothrow) CUgraphExec_st;
    if (!exec) return give(cudaErrorMemoryAllocation);
    exec->work   = graph->work;
    exec->device = current_device();
    exec->work->owners++;
    graphs++;
    *out = exec;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    lock        held;
    cudaError_t error = exec ? ready() : cudaErrorInvalidValue;

    if (error == cudaSuccess && device_of(stream) != exec->device)
        error = explain(cudaErrorInvalidResourceHandle,
                        "a graph launched in a stream of another device");
    if (error != cudaSuccess) return give(error);
    replay *r = (replay *)enqueue(&error, stream, run_graph, sizeof *r, drop_graph);
    if (!r) return give(error);
    r->work = exec->work;
    r->work->owners++;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    lock held;

    if (!exec) return give(cudaErrorInvalidValue);
    disown(exec->work);
    delete exec;
    graphs--;
    return give(ready());
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    lock held;

    if (!graph) return give(cudaErrorInvalidValue);
    disown(graph->work);
    delete graph;
    graphs--;
    return give(ready());
}
