/* threads.c - OpenMP's thread count of a run. Everything that computes on a device is called between kd_cpu_enter() and
 * kd_cpu_leave(). Our kernels run on the context's team, and each of its threads calls oneDNN and OpenBLAS for a part of the work:
 * these use one thread. A file of its own, because amx.c calls it, and device.c calls amx.c. */
#include <omp.h>
#include "backend/cpu/cpu.h"

void kd_cpu_enter(kdas_device *device)
{
    device->outer_threads = omp_get_max_threads();
    omp_set_num_threads(1);
}

void kd_cpu_leave(kdas_device *device) { omp_set_num_threads(device->outer_threads); }
