/* memory.c - device memory, copies, and pinned host memory. */
#include <string.h>
#include "backend/cuda/cuda.h"

#define SMALL_BYTES ((size_t)1 << 20) /* of the ring in device.c          */
#define SMALL_MOST  ((size_t)1 << 16) /* uploads up to this go through it */

/* Make the card current; fails if it is lost. */
static kdas_status begin(kdas_device *device, const char *op)
{
    device->op = NULL;
    kd_cuda_enter(device);
    if (device->lost == KDAS_OK) return KDAS_OK;
    return device->host.fail(device->lost,
                             "cuda:%d: %s: the card has failed and is not used any more",
                             device->index, op);
}

void *kd_cuda_alloc(kdas_device *device, size_t bytes)
{
    void *memory = NULL;

    if (begin(device, "allocate") != KDAS_OK) return NULL;
    if (kd_cuda_check(device, cudaMalloc(&memory, KD_MAX(bytes, 1)), "cudaMalloc") != KDAS_OK)
        return NULL;
    return memory;
}

void kd_cuda_free(kdas_device *device, void *memory)
{
    if (!memory) return;
    kd_cuda_enter(device);
    if (cudaFree(memory) != cudaSuccess) cudaGetLastError();
}

kdas_status kd_cuda_memory(kdas_device *device, size_t *available, size_t *total)
{
    KD_RETURN(begin(device, "memory"));
    return kd_cuda_check(device, cudaMemGetInfo(available, total), "cudaMemGetInfo");
}

/* ---- copies ---- */

/* Through the ring of pinned memory; waits for the card only when the ring wraps around. */
static kdas_status upload_small(kdas_device *device, void *to, const void *from, size_t bytes)
{
    if (device->small_at + bytes > SMALL_BYTES) {
        KD_RETURN(kd_cuda_check(device, cudaStreamSynchronize(device->stream), "upload"));
        device->small_at = 0;
    }
    memcpy(device->small + device->small_at, from, bytes);
    from = device->small + device->small_at;
    device->small_at += KD_ALIGN_UP(bytes);
    return kd_cuda_check(
        device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, device->stream), "upload");
}

kdas_status kd_cuda_upload(kdas_device *device, void *to, const void *from_host, size_t bytes)
{
    KD_RETURN(begin(device, "upload"));
    if (bytes == 0) return KDAS_OK;
    if (bytes <= SMALL_MOST) return upload_small(device, to, from_host, bytes);
    KD_RETURN(kd_cuda_check(
        device, cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, device->stream),
        "upload"));
    return kd_cuda_check(device, cudaStreamSynchronize(device->stream), "upload");
}

kdas_status kd_cuda_download(kdas_device *device, void *to_host, const void *from, size_t bytes)
{
    KD_RETURN(begin(device, "download"));
    if (bytes > 0)
        KD_RETURN(kd_cuda_check(
            device, cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, device->stream),
            "download"));
    return kd_cuda_check(device, cudaStreamSynchronize(device->stream), "download");
}

kdas_status kd_cuda_zero(kdas_device *device, void *memory, size_t bytes)
{
    KD_RETURN(begin(device, "zero"));
    if (bytes == 0) return KDAS_OK;
    return kd_cuda_check(device, cudaMemsetAsync(memory, 0, bytes, device->stream), "zero");
}

kdas_status kd_cuda_sync(kdas_device *device)
{
    KD_RETURN(begin(device, "sync"));
    return kd_cuda_check(device, cudaStreamSynchronize(device->stream), "sync");
}

/* ---- uploads ahead of the step ---- */

void *kd_cuda_host_alloc(kdas_device *device, size_t bytes)
{
    void *memory = NULL;

    kd_cuda_enter(device);
    if (cudaMallocHost(&memory, KD_MAX(bytes, 1)) == cudaSuccess) return memory;
    cudaGetLastError();
    return NULL;
}

void kd_cuda_host_free(kdas_device *device, void *memory)
{
    if (!memory) return;
    kd_cuda_enter(device);
    if (cudaFreeHost(memory) != cudaSuccess) cudaGetLastError();
}

kdas_status kd_cuda_upload_async(kdas_device *device, void *to, const void *from, size_t bytes)
{
    KD_RETURN(begin(device, "upload_async"));
    KD_RETURN(
        kd_cuda_check(device, cudaEventRecord(device->computed, device->stream), "upload_async"));
    KD_RETURN(kd_cuda_check(device, cudaStreamWaitEvent(device->ahead, device->computed, 0),
                            "upload_async"));
    return kd_cuda_check(device,
                         cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, device->ahead),
                         "upload_async");
}

/* The host waits, too: afterwards the host memory may be reused. As the copy began a step ago, it is usually done. */
kdas_status kd_cuda_upload_wait(kdas_device *device)
{
    KD_RETURN(begin(device, "upload_wait"));
    return kd_cuda_check(device, cudaStreamSynchronize(device->ahead), "upload_wait");
}
