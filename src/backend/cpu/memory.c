/* memory.c - device memory of the CPU backends: the host's own, through its hooks. */
#include <string.h>
#include "backend/cpu/cpu.h"

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

kdas_status kd_cpu_zero(kdas_device *device, void *memory, size_t bytes)
{
    (void)device;
    if (bytes) memset(memory, 0, bytes);
    return KDAS_OK;
}

kdas_status kd_cpu_sync(kdas_device *device)
{
    (void)device;
    return KDAS_OK;
}
