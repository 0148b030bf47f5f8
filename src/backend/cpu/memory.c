/* memory.c - device memory of the CPU backends: the host's own, through its hooks. */
#include <string.h>
#include "backend/cpu/cpu.h"
#include "base/team.h"

#define LARGE_BLOCK ((size_t)1 << 20)

void *kd_cpu_alloc(kdas_device *device, size_t bytes)
{
    return device->host.alloc(device->host.user, bytes);
}

void kd_cpu_free(kdas_device *device, void *memory)
{
    device->host.free(device->host.user, memory);
}

kdas_status kd_cpu_copy(kdas_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes) memmove(to, from, bytes);
    return KDAS_OK;
}

/* Large blocks, such as all gradients of a model, are zeroed by all threads. */
kdas_status kd_cpu_zero(kdas_device *device, void *memory, size_t bytes)
{
    int    parts = bytes >= LARGE_BLOCK ? device->threads : 1;
    size_t lines = bytes / KDAS_ALIGNMENT;

    if (!bytes) return KDAS_OK;
    if (parts > 1 && !kd_team_try(parts)) parts = 1;
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int t = 0; t < parts; t++) {
        size_t begin = lines * (size_t)t / (size_t)parts * KDAS_ALIGNMENT;
        size_t end   = lines * (size_t)(t + 1) / (size_t)parts * KDAS_ALIGNMENT;

        memset((char *)memory + begin, 0, (t + 1 == parts ? bytes : end) - begin);
    }
    return KDAS_OK;
}

kdas_status kd_cpu_sync(kdas_device *device)
{
    (void)device;
    return KDAS_OK;
}
