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

typedef struct block {
    char  *memory;
    size_t bytes;
    int    parts;
} block;

static void zero_part(void *job, int part)
{
    const block *b     = job;
    size_t       lines = b->bytes / KDAS_ALIGNMENT;
    size_t       begin = lines * (size_t)part / (size_t)b->parts * KDAS_ALIGNMENT;
    size_t       end   = lines * (size_t)(part + 1) / (size_t)b->parts * KDAS_ALIGNMENT;

    memset(b->memory + begin, 0, (part + 1 == b->parts ? b->bytes : end) - begin);
}

/* Large blocks, such as all gradients of a model, are zeroed by all threads. */
kdas_status kd_cpu_zero(kdas_device *device, void *memory, size_t bytes)
{
    block b = { memory, bytes, bytes >= LARGE_BLOCK ? kd_team_parts() : 1 };

    (void)device;
    if (bytes) kd_team_do(b.parts, zero_part, &b);
    return KDAS_OK;
}

kdas_status kd_cpu_sync(kdas_device *device)
{
    (void)device;
    return KDAS_OK;
}
