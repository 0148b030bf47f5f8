/* threads.c - the OpenMP thread count of a run. Everything that computes on a device is called between kd_cpu_enter() and
 * kd_cpu_leave(), so that our kernels and oneDNN use the device's count. A file of its own, because amx.c calls it, and
 * device.c calls amx.c. */
#include <omp.h>
#include "backend/cpu/cpu.h"

void kd_cpu_enter(kdas_device *device)
{
    device->outer_threads = omp_get_max_threads();
    omp_set_num_threads(device->threads);
}

void kd_cpu_leave(kdas_device *device) { omp_set_num_threads(device->outer_threads); }
