// stream.h - what a stream and an event are; for stream.cpp and graph.cpp.
#ifndef KD_EMULATOR_STREAM_H
#define KD_EMULATOR_STREAM_H
#include <vector>
#include <pthread.h>
#include "inside.h"

enum { MOST_ITEMS = 4096 }; // in a queue, before it is run

struct CUstream_st {
    int                   device      = 0;
    bool                  nonblocking = false;
    emulator::tape        queue;
    emulator::tape       *capture = nullptr; // work goes here while the stream is captured
    bool                  broken  = false;   // the capture: by a call that it forbids
    cudaStreamCaptureMode mode    = cudaStreamCaptureModeGlobal;
    pthread_t             thread  = {};
};

struct CUevent_st {
    int                   device   = 0;
    int                   owners   = 1;
    unsigned long long    ticket   = 0; // of the last mark, and of the last one reached
    unsigned long long    done     = 0;
    cudaStream_t          stream   = nullptr; // where the last mark is
    const emulator::tape *captured = nullptr; // last recorded in this graph
};

#pragma GCC visibility push(hidden)
namespace emulator {
std::vector<cudaStream_t> &all_streams();
bool                       is_stream(cudaStream_t stream);
} // namespace emulator
#pragma GCC visibility pop
#endif
