/* cores.c - see cores.h. */
#define _GNU_SOURCE
#include "base/cores.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include "base/text.h"

enum { MOST = 1024 };

/* 0: the variable is not set, or is no number from 1 on. */
static int32_t asked_for(kdas_context *ctx)
{
    const char *text = getenv("OMP_NUM_THREADS"), *end;
    int64_t     n;

    if (!text || !*text) return 0;
    if (kd_parse_whole(text, &end, &n) && n >= 1 && n <= MOST) {
        while (*end == ' ' || *end == '\t')
            end++;
        if (*end == 0 || *end == ',') return (int32_t)n;
    }
    kd_warn(ctx, "OMP_NUM_THREADS is '%.32s', not a number from 1 to %d: it is ignored", text,
            MOST);
    return 0;
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
    int64_t n = asked_for(ctx), quota;

    if (n) return (int32_t)n;
    n     = kd_affinity_cpus();
    quota = kd_quota_cpus("");
    if (quota) n = KD_MIN(n, quota);
    return (int32_t)KD_MIN(n, MOST);
}
