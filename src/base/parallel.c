/* parallel.c - one OpenMP region. It runs on the threads that kernels use, so no
 * thread is created. */
#include "base/parallel.h"
#include <omp.h>
#include "base/context.h"
#include "base/team.h"

void kd_parallel_rows(const kdas_context *ctx, int64_t count, int64_t least, kd_rows_fn rows,
                      void *job)
{
    int64_t blocks = KD_MIN((int64_t)ctx->threads, count / KD_MAX(least, 1));

    if (blocks < 2 || !kd_team_try(ctx->threads)) {
        if (count > 0) rows(job, 0, count, 0);
        return;
    }
#pragma omp parallel num_threads(ctx->threads)
    {
        int64_t n = KD_MIN(blocks, omp_get_num_threads()), t = omp_get_thread_num();

        if (t < n) rows(job, count * t / n, count * (t + 1) / n, (int)t);
    }
}
