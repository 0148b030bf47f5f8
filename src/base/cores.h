/* cores.h - how many threads the process may use at a time, for contexts that do not say. */
#ifndef KD_CORES_H
#define KD_CORES_H
#include "base/base.h"

/* The smallest of: the CPUs that the calling thread may run on, the whole CPUs of its cgroups'
 * quotas, the first number of OMP_NUM_THREADS, OMP_THREAD_LIMIT, and 1024; at least 1. A value of
 * OMP_NUM_THREADS that is no such number is logged. */
int32_t kd_default_threads(kdas_context *ctx);

/* The CPUs of the calling thread's affinity mask, however many the machine has; at least 1. */
int64_t kd_affinity_cpus(void);
/* Whole CPUs, at least 1, of the tightest quota on the process's cgroup and those above it, v1 or
 * v2; 0: there is none. `root`: "" on the machine itself, else a folder that stands for "/". */
int64_t kd_quota_cpus(const char *root);

#endif
