// device.cpp - the emulated devices: what the settings say that there is, errors and how long they last.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <pthread.h>
#include "inside.h"

namespace emulator {

int streams, events, graphs, host_blocks, handles;

namespace {

pthread_mutex_t              mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
cudaError_t                  fate[MOST_DEVICES]; // why a device is lost
thread_local int             chosen;
thread_local int             last_error;
char                         message[512];
cudaError_t                  message_error;
size_t                       launches;
std::string                  fail_setting; // as last seen
unsigned long long           fail_after;   // launches until one fails; 0: none will
constexpr unsigned long long default_memory = 4ull << 30;

// Kept to the end of the process: other destructors may still call.
std::map<std::string, std::string> &overrides()
{
    static auto *map = new std::map<std::string, std::string>;
    return *map;
}

const struct {
    cudaError_t error;
    const char *text;
} errors[] = {
    { cudaSuccess, "no error" },
    { cudaErrorInvalidValue, "invalid argument" },
    { cudaErrorMemoryAllocation, "out of memory" },
    { cudaErrorInitializationError, "initialization error" },
    { cudaErrorCudartUnloading, "driver shutting down" },
    { cudaErrorInvalidConfiguration, "invalid configuration argument" },
    { cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy" },
    { cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version" },
    { cudaErrorDevicesUnavailable, "CUDA-capable devices are busy or unavailable" },
    { cudaErrorInvalidDeviceFunction, "invalid device function" },
    { cudaErrorNoDevice, "no CUDA-capable device is detected" },
    { cudaErrorInvalidDevice, "invalid device ordinal" },
    { cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device" },
    { cudaErrorECCUncorrectable, "uncorrectable ECC error encountered" },
    { cudaErrorInvalidResourceHandle, "invalid resource handle" },
    { cudaErrorNotReady, "device not ready" },
    { cudaErrorIllegalAddress, "an illegal memory access was encountered" },
    { cudaErrorLaunchOutOfResources, "too many resources requested for launch" },
    { cudaErrorLaunchTimeout, "the launch timed out and was terminated" },
    { cudaErrorAssert, "device-side assert triggered" },
    { cudaErrorHardwareStackError, "hardware stack error" },
    { cudaErrorIllegalInstruction, "an illegal instruction was encountered" },
    { cudaErrorMisalignedAddress, "misaligned address" },
    { cudaErrorInvalidPc, "invalid program counter" },
    { cudaErrorLaunchFailure, "unspecified launch failure" },
    { cudaErrorNotPermitted, "operation not permitted" },
    { cudaErrorNotSupported, "operation not supported" },
    { cudaErrorSystemNotReady, "system not yet initialized" },
    { cudaErrorSystemDriverMismatch,
      "system has unsupported display driver / cuda driver combination" },
    { cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing" },
    { cudaErrorStreamCaptureInvalidated,
      "operation failed due to a previous error during capture" },
    { cudaErrorStreamCaptureMerge,
      "operation would result in a merge of separate capture sequences" },
    { cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began" },
    { cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work" },
    { cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream" },
    { cudaErrorStreamCaptureImplicit,
      "operation would make the legacy stream depend on a capturing blocking stream" },
    { cudaErrorCapturedEvent,
      "operation not permitted on an event last recorded in a capturing stream" },
    { cudaErrorStreamCaptureWrongThread,
      "attempt to terminate a thread-local capture sequence from another thread" },
    { cudaErrorUnknown, "unknown error" },
};
} // namespace

lock::lock() { pthread_mutex_lock(&mutex); }
lock::~lock() { pthread_mutex_unlock(&mutex); }

const char *setting(const char *name)
{
    lock        held;
    const auto &over  = overrides();
    const auto  found = over.find(name);
    char        variable[64];

    if (found != over.end()) return found->second.c_str();
    std::snprintf(variable, sizeof variable, "KDAS_EMULATOR_%s", name);
    return std::getenv(variable);
}

static unsigned long long number(const char *name, unsigned long long otherwise)
{
    const char *text = setting(name);

    return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

int compute_capability()
{
    const char *text  = setting("CC");
    int         major = 8, minor = 0;

    if (text && std::sscanf(text, "%d.%d", &major, &minor) < 2) minor = 0;
    return 10 * major + minor;
}

size_t memory_of_device() { return number("MEMORY", default_memory); }

int device_count()
{
    const unsigned long long n = number("DEVICES", 2);

    return n > MOST_DEVICES ? MOST_DEVICES : (int)n;
}

int current_device() { return chosen; }

cudaError_t give(cudaError_t error)
{
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
    return error;
}

cudaError_t explain(cudaError_t error, const char *format, ...)
{
    lock    held;
    va_list arguments;

    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    message_error = error;
    return error;
}

void lose(int device, cudaError_t error)
{
    if (fate[device] == cudaSuccess) fate[device] = error;
}

cudaError_t lost(int device) { return fate[device]; }

static cudaError_t driver()
{
    if (number("DRIVER", 1) == 0) return cudaErrorInsufficientDriver;
    return device_count() == 0 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t ready()
{
    const cudaError_t error = driver();

    if (error != cudaSuccess) return error;
    return chosen < device_count() ? fate[chosen] : cudaErrorInvalidDevice;
}

cudaError_t count_launch(const char *name)
{
    const char *text = setting("FAIL");

    launches++;
    if (!text) text = "";
    if (fail_setting != text) { // it has been changed: count anew
        fail_setting = text;
        fail_after   = std::strtoull(text, nullptr, 10);
    }
    if (fail_after == 0 || --fail_after > 0) return cudaSuccess;
    return explain(cudaErrorLaunchFailure,
                   "the device was lost in '%s', as KDAS_EMULATOR_FAIL asks", name);
}
} // namespace emulator

using namespace emulator;

void kd_emulator_set(const char *name, const char *value)
{
    lock held;

    if (value)
        overrides()[name] = value;
    else
        overrides().erase(name);
    if (std::strcmp(name, "FAIL") == 0) fail_setting = "(new)";
}

const char *kd_emulator_message(void) { return message; }
int         kd_emulator_streams(void) { return streams; }
int         kd_emulator_events(void) { return events; }
int         kd_emulator_graphs(void) { return graphs; }
int         kd_emulator_host_blocks(void) { return host_blocks; }
int         kd_emulator_handles(void) { return handles; }
size_t      kd_emulator_launches(void) { return launches; }

const char *cudaGetErrorString(cudaError_t error)
{
    static thread_local char text[640];

    for (const auto &e : errors) {
        if (e.error != error) continue;
        if (error == cudaSuccess || error != message_error) return e.text;
        std::snprintf(text, sizeof text, "%s: %s", e.text, message);
        return text;
    }
    return "unrecognized error code";
}

cudaError_t cudaGetLastError(void)
{
    lock              held;
    const cudaError_t error = fate[chosen] != cudaSuccess ? fate[chosen] : (cudaError_t)last_error;

    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    const cudaError_t error = driver();

    *count = error == cudaSuccess ? device_count() : 0;
    return give(error);
}

cudaError_t cudaSetDevice(int device)
{
    const cudaError_t error = driver();

    if (error != cudaSuccess) return give(error);
    if (device < 0 || device >= device_count()) return give(cudaErrorInvalidDevice);
    chosen = device;
    return give(fate[device]);
}

cudaError_t cudaGetDevice(int *device)
{
    const cudaError_t error = driver();

    if (error == cudaSuccess) *device = chosen;
    return give(error);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = number("DRIVER", 1) == 0 ? 0 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device)
{
    const cudaError_t error = driver();

    if (error != cudaSuccess) return give(error);
    if (device < 0 || device >= device_count()) return give(cudaErrorInvalidDevice);
    std::memset(out, 0, sizeof *out);
    std::snprintf(out->name, sizeof out->name, "emulated");
    out->totalGlobalMem      = memory_of_device();
    out->sharedMemPerBlock   = 48 << 10;
    out->warpSize            = 32;
    out->maxThreadsPerBlock  = MOST_THREADS;
    out->major               = compute_capability() / 10;
    out->minor               = compute_capability() % 10;
    out->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp    it;
    const cudaError_t error = cudaGetDeviceProperties(&it, device);

    if (error != cudaSuccess) return error;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = it.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)it.sharedMemPerBlock; break;
    case cudaDevAttrWarpSize: *value = it.warpSize; break;
    case cudaDevAttrMultiProcessorCount: *value = it.multiProcessorCount; break;
    case cudaDevAttrComputeCapabilityMajor: *value = it.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = it.minor; break;
    default: return give(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *kernel)
{
    lock              held;
    const cudaError_t error = ready();

    if (error != cudaSuccess) return give(error);
    if (!kernel) return give(cudaErrorInvalidDeviceFunction);
    if (compute_capability() < 70) return give(cudaErrorNoKernelImageForDevice);
    std::memset(out, 0, sizeof *out);
    out->maxThreadsPerBlock = MOST_THREADS;
    out->numRegs            = 32;
    out->ptxVersion         = 70;
    out->binaryVersion      = 70;
    return cudaSuccess;
}
