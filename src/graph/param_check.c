/* param_check.c - whether a model's values are finite. A network may hide a NaN: a threshold or a
 * zero behind it gives numbers, and a mask that means nothing. */
#include <math.h>
#include <stdatomic.h>
#include "base/parallel.h"
#include "graph/device.h"
#include "graph/param_inside.h"

typedef struct scan_job {
    const float *value;
    atomic_bool  wild; /* a value is not finite */
} scan_job;

static void scan_values(void *user, int64_t begin, int64_t end, int thread)
{
    scan_job    *job   = user;
    const float *value = job->value;
    float        check = 0; /* NaN once a value is not finite */

    (void)thread;
#pragma omp simd reduction(+ : check)
    for (int64_t i = begin; i < end; i++)
        check += value[i] * 0.0f;
    if (!isfinite(check)) atomic_store(&job->wild, true);
}

/* *wild: a value among the first `count` is not finite, or, on a device, they are too large for the
 * sum of their squares. */
static kdas_status scan(kd_params *p, int64_t count, bool *wild)
{
    scan_job job = { .value = kd_params_values(p) };
    double   sum = 0;

    if (p->ctx->host_memory) {
        kd_parallel_rows(p->ctx, count, 65536, scan_values, &job);
        *wild = atomic_load(&job.wild);
        return KDAS_OK;
    }
    if (!p->squares) p->squares = kd_device_alloc(p->ctx, sizeof *p->squares);
    if (!p->squares) return KDAS_ENOMEM;
    KD_RETURN(kd_device_sum_squares(p->ctx, p->squares, p->values, count));
    KD_RETURN(kd_device_download(p->ctx, &sum, p->squares, sizeof sum));
    *wild = !isfinite(sum);
    return KDAS_OK;
}

/* Name the first value that is not finite, if there is one. */
static kdas_status name_wild(kd_params *p, const char *network)
{
    float      *value = kd_alloc(p->ctx, (size_t)p->total * sizeof *value);
    kdas_status st    = value ? KDAS_OK : KDAS_ENOMEM;

    for (int i = 0; i < kd_params_count(p) && st == KDAS_OK; i++) {
        const kd_param_entry *e = kd_params_at(p, i);

        if (e->init.kind == KD_COUNTER || kd_param_is_idle(e)) continue;
        st = kd_params_read(p, i, value);
        for (int64_t k = 0; k < e->count && st == KDAS_OK; k++)
            if (!isfinite(value[k]))
                st = kd_fail(KDAS_ENUMERIC, "'%s': tensor '%s' has %s at element %lld", network,
                             e->name, isnan(value[k]) ? "a NaN" : "an infinity", (long long)k);
    }
    kd_free(p->ctx, value);
    return st;
}

kdas_status kd_params_check(kd_params *p, const char *network, bool training)
{
    int64_t count = p->trainable + p->running; /* what is idle comes behind */
    bool    wild  = false;

    if (p->checked.given == p->given &&
        (training ||
         (p->checked.version == p->version && p->checked.stats_version == p->stats_version)))
        return KDAS_OK;
    if (count) KD_RETURN(scan(p, count, &wild));
    if (wild) KD_RETURN(name_wild(p, network));
    p->checked.version       = p->version;
    p->checked.stats_version = p->stats_version;
    p->checked.given         = p->given;
    return KDAS_OK;
}
