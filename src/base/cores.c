/* cores.c - see cores.h. */
#define _GNU_SOURCE
#include "base/cores.h"
#include <errno.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include "base/text.h"

enum { MOST = 1024 };

/* The first number of OMP_NUM_THREADS; MOST where it is not set, or is no number from 1 on. */
static int64_t openmp_number(kdas_context *ctx)
{
    const char *text = getenv("OMP_NUM_THREADS"), *end;
    int64_t     n;

    if (!text || !*text) return MOST;
    if (kd_parse_whole(text, &end, &n) && n >= 1) {
        while (*end == ' ' || *end == '\t')
            end++;
        if (*end == 0 || *end == ',') return n;
    }
    kd_warn(ctx, "OMP_NUM_THREADS is '%.32s', not a number from 1 on: it is ignored", text);
    return MOST;
}

/* The kernel refuses a mask that is smaller than its own, without saying how large that is. */
int64_t kd_affinity_cpus(void)
{
    for (int cpus = CPU_SETSIZE; cpus <= 1 << 20; cpus *= 2) {
        size_t     bytes = CPU_ALLOC_SIZE((size_t)cpus);
        cpu_set_t *set   = CPU_ALLOC((size_t)cpus);
        int        failed, count;

        if (!set) return 1;
        failed = sched_getaffinity(0, bytes, set) != 0 ? errno : 0;
        count  = failed ? 0 : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (!failed) return KD_MAX(count, 1);
        if (failed != EINVAL) return 1;
    }
    return 1;
}

int32_t kd_default_threads(kdas_context *ctx)
{
    int64_t n = KD_MIN(kd_affinity_cpus(), openmp_number(ctx)), quota = kd_quota_cpus("");

    if (quota) n = KD_MIN(n, quota);
    n = KD_MIN(n, omp_get_thread_limit());
    return (int32_t)KD_MIN(n, MOST);
}
