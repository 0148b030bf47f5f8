/* device.c - a card: probe, open, close, describe. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/cuda/cuda.h"

#define SMALL_BYTES ((size_t)1 << 20)

/* Any kernel of this library: the file has code for a card for all of them or for none. */
extern const void *const kd_cuda_sample_kernel;

/* ---- probe ---- */

static int no(char *why, size_t size, const char *format, int a, int b)
{
    if (why && size) snprintf(why, size, format, a, b);
    return 0;
}

static int count_cards(char *why, size_t size)
{
    int         count = 0, driver = 0, runtime = 0;
    cudaError_t error = cudaGetDeviceCount(&count);

    if (error == cudaSuccess && count > 0) return count;
    cudaGetLastError();
    if (error == cudaErrorInsufficientDriver) {
        if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
            return no(why, size, "there is no NVIDIA driver", 0, 0);
        cudaRuntimeGetVersion(&runtime);
        return no(why, size,
                  "the NVIDIA driver is too old: it knows CUDA %d, this plug-in is of CUDA %d",
                  driver / 1000, runtime / 1000);
    }
    if (error == cudaSuccess || error == cudaErrorNoDevice)
        return no(why, size, "there is no NVIDIA card", 0, 0);
    if (why && size) snprintf(why, size, "%s", cudaGetErrorString(error));
    return 0;
}

int kd_cuda_probe(int32_t index, char *why, size_t size)
{
    struct cudaFuncAttributes attributes;
    int                       count = count_cards(why, size), major = 0, minor = 0, before = 0;
    cudaError_t               error;

    if (count == 0) return 0;
    if (index < 0 || index >= count)
        return no(why, size, "there is no card %d: the last one is %d", index, count - 1);
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index) != cudaSuccess) {
        cudaGetLastError();
        return no(why, size, "card %d does not answer", index, 0);
    }
    if (major < 7)
        return no(why, size, "the card is too old: compute capability %d.%d, below 7.0", major,
                  minor);
    cudaGetDevice(&before);
    error = cudaSetDevice(index);
    if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, kd_cuda_sample_kernel);
    if (error != cudaSuccess) cudaGetLastError();
    if (cudaSetDevice(before) != cudaSuccess)
        cudaGetLastError(); /* the other card may have failed */
    if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction)
        return no(why, size, "this plug-in was built without code for compute capability %d.%d",
                  major, minor);
    if (error != cudaSuccess) {
        if (why && size) snprintf(why, size, "%s", cudaGetErrorString(error));
        return 0;
    }
    return 100;
}

/* ---- open ---- */

static kdas_status read_card(kdas_device *device)
{
    struct cudaDeviceProp card;

    KD_RETURN(kd_cuda_check(device, cudaSetDevice(device->index), "cudaSetDevice"));
    KD_RETURN(kd_cuda_check(device, cudaGetDeviceProperties(&card, device->index),
                            "cudaGetDeviceProperties"));
    device->major      = card.major;
    device->minor      = card.minor;
    device->processors = card.multiProcessorCount;
    snprintf(device->name, sizeof device->name, "%.63s", card.name);
    return KDAS_OK;
}

static kdas_status open_streams(kdas_device *device)
{
    KD_RETURN(kd_cuda_check(device,
                            cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking),
                            "cudaStreamCreate"));
    KD_RETURN(kd_cuda_check(device,
                            cudaStreamCreateWithFlags(&device->ahead, cudaStreamNonBlocking),
                            "cudaStreamCreate"));
    KD_RETURN(kd_cuda_check(device,
                            cudaEventCreateWithFlags(&device->computed, cudaEventDisableTiming),
                            "cudaEventCreate"));
    KD_RETURN(kd_cuda_check(
        device, cudaMalloc((void **)&device->sums, KD_CUDA_SUMS * sizeof(double)), "cudaMalloc"));
    return kd_cuda_check(device, cudaMallocHost((void **)&device->small, SMALL_BYTES),
                         "cudaMallocHost");
}

/* The workspace is ours, because cuBLAS would allocate its own during a capture. NVIDIA recommends this size. */
static kdas_status open_blas(kdas_device *device)
{
    const size_t bytes = (size_t)(device->major >= 9 ? 32 : 4) << 20;

    KD_RETURN(kd_cuda_check_blas(device, cublasCreate(&device->blas), "cublasCreate"));
    KD_RETURN(kd_cuda_check_blas(device, cublasSetStream(device->blas, device->stream),
                                 "cublasSetStream"));
    KD_RETURN(kd_cuda_check(device, cudaMalloc(&device->blas_work, bytes), "cudaMalloc"));
    KD_RETURN(kd_cuda_check_blas(device, cublasSetWorkspace(device->blas, device->blas_work, bytes),
                                 "cublasSetWorkspace"));
    return kd_cuda_check_blas(device,
                              cublasSetAtomicsMode(device->blas, device->deterministic
                                                                     ? CUBLAS_ATOMICS_NOT_ALLOWED
                                                                     : CUBLAS_ATOMICS_ALLOWED),
                              "cublasSetAtomicsMode");
}

/* KDAS_CUDA_CUDNN=0 disables cuDNN: convolutions are then products of cuBLAS. */
static kdas_status open_dnn(kdas_device *device)
{
#ifdef KD_CUDNN
    const char *wanted = getenv("KDAS_CUDA_CUDNN");

    if (wanted && !strcmp(wanted, "0")) return KDAS_OK;
    KD_RETURN(kd_cuda_check_dnn(device, cudnnCreate(&device->dnn), "cudnnCreate"));
    KD_RETURN(
        kd_cuda_check_dnn(device, cudnnSetStream(device->dnn, device->stream), "cudnnSetStream"));
#endif
    (void)device;
    return KDAS_OK;
}

kdas_status kd_cuda_open(kdas_device **out, const kdas_host *host,
                         const kdas_device_options *options)
{
    kdas_device *device = host->alloc(host->user, sizeof *device);
    kdas_status  st;

    *out = NULL;
    if (!device) return host->fail(KDAS_ENOMEM, "cuda: no memory for the device");
    memset(device, 0, sizeof *device);
    device->host          = *host;
    device->index         = options->index;
    device->deterministic = options->deterministic;
    st                    = read_card(device);
    device->tf32          = options->tf32 && kd_cuda_has_tf32(device);
    if (st == KDAS_OK) st = open_streams(device);
    if (st == KDAS_OK) st = open_blas(device);
    if (st == KDAS_OK) st = open_dnn(device);
    if (st != KDAS_OK) {
        kd_cuda_close(device);
        return st;
    }
    *out = device;
    return KDAS_OK;
}

/* Also called for a card that was lost or never fully opened: errors here are ignored. */
void kd_cuda_close(kdas_device *device)
{
    kdas_host host;

    if (!device) return;
    host = device->host;
    kd_cuda_enter(device);
    if (device->stream) cudaStreamSynchronize(device->stream);
    if (device->ahead) cudaStreamSynchronize(device->ahead);
#ifdef KD_CUDNN
    if (device->dnn) cudnnDestroy(device->dnn);
#endif
    if (device->blas) cublasDestroy(device->blas);
    if (device->blas_work) cudaFree(device->blas_work);
    if (device->sums) cudaFree(device->sums);
    if (device->small) cudaFreeHost(device->small);
    if (device->computed) cudaEventDestroy(device->computed);
    if (device->ahead) cudaStreamDestroy(device->ahead);
    if (device->stream) cudaStreamDestroy(device->stream);
    cudaGetLastError();
    host.free(host.user, device);
}

/* ---- the rest ---- */

/* Clears an error that another card left in the thread. */
void kd_cuda_enter(kdas_device *device)
{
    int now = -1;

    if (cudaGetDevice(&now) == cudaSuccess && now == device->index) return;
    cudaSetDevice(device->index);
    cudaGetLastError();
}

int kd_cuda_has_tf32(kdas_device *device) { return device->major >= 8; }

static bool has_dnn(const kdas_device *device)
{
#ifdef KD_CUDNN
    return device->dnn;
#else
    (void)device;
    return false;
#endif
}

void kd_cuda_describe(kdas_device *device, char *text, size_t size)
{
    int version = 0;

    cudaRuntimeGetVersion(&version);
    snprintf(text, size, "cuda:%d: %s, sm_%d%d, %d processors, CUDA %d.%d%s%s", device->index,
             device->name, device->major, device->minor, device->processors, version / 1000,
             version % 1000 / 10, has_dnn(device) ? ", cuDNN" : "", device->tf32 ? ", TF32" : "");
}

unsigned kd_cuda_grid(const kdas_device *device, int64_t n)
{
    int64_t blocks = KD_CEIL(n, KD_BLOCK), most = (int64_t)device->processors * 16;

    return (unsigned)KD_MAX(KD_MIN(blocks, most), 1);
}
