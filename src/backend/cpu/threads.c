/* threads.c - the OpenMP thread count of a run. Everything that computes on a device is called between
 * kd_cpu_enter() and kd_cpu_leave(): the count holds for our kernels and for oneDNN alike.
 *
 * This is a file of its own because both device.c's callers and amx.c, which device.c calls, need it. */
#include <omp.h>
#include "backend/cpu/cpu.h"

void kd_cpu_enter(kdas_device *device)
{
    device->outer_threads = omp_get_max_threads();
    omp_set_num_threads(device->threads);
}

void kd_cpu_leave(kdas_device *device) { omp_set_num_threads(device->outer_threads); }
