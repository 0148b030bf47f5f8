/* parallel.c - see parallel.h. */
#include "base/parallel.h"
#include "base/context.h"
#include "base/team.h"

typedef struct job {
    int64_t    count, blocks;
    kd_rows_fn rows;
    void      *job;
} job;

static void run_block(void *what, int part)
{
    const job *j = what;

    j->rows(j->job, j->count * part / j->blocks, j->count * (part + 1) / j->blocks, part);
}

void kd_parallel_rows(const kdas_context *ctx, int64_t count, int64_t least, kd_rows_fn rows,
                      void *what)
{
    job j = { count, KD_MIN((int64_t)ctx->threads, count / KD_MAX(least, 1)), rows, what };

    if (count <= 0) return;
    if (j.blocks < 2) {
        rows(what, 0, count, 0);
        return;
    }
    kd_team_start(ctx->team);
    kd_team_run(ctx->team, (int)j.blocks, run_block, &j);
}
