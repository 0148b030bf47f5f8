/* reference.c - the backend "reference": host memory and no kernels, so that every node runs on the plain-C kernel of its
 * op. Other backends are compared with it. */
#include <stdio.h>
#include "backend/cpu/cpu.h"

static int reference_probe(int32_t index, char *why, size_t size)
{
    if (index == 0) return 1;
    if (why && size) snprintf(why, size, "there is one reference device, with index 0");
    return 0;
}

static kdas_status reference_open(kdas_device **out, const kdas_host *host,
                                  const kdas_device_options *options)
{
    kdas_device *device;

    (void)options;
    *out   = NULL;
    device = host->alloc(host->user, sizeof *device);
    if (!device) return KDAS_ENOMEM;
    *device = (kdas_device){ .host = *host, .threads = 1, .isa = "plain" };
    *out    = device;
    return KDAS_OK;
}

static void reference_close(kdas_device *device)
{
    kdas_host host;

    if (!device) return;
    host = device->host;
    host.free(host.user, device);
}

static void reference_describe(kdas_device *device, char *text, size_t size)
{
    (void)device;
    snprintf(text, size, "reference: plain C, 1 thread");
}

static const kdas_kernel none[] = { { .op = 0 } };

const kdas_backend kd_backend_reference = {
    .abi         = KDAS_BACKEND_ABI,
    .size        = sizeof(kdas_backend),
    .name        = "reference",
    .kernels     = none,
    .host_memory = 1,
    .probe       = reference_probe,
    .open        = reference_open,
    .close       = reference_close,
    .describe    = reference_describe,
    .alloc       = kd_cpu_alloc,
    .free        = kd_cpu_free,
    .upload      = kd_cpu_copy,
    .download    = kd_cpu_copy,
    .zero        = kd_cpu_zero,
    .sync        = kd_cpu_sync,
};
