/* ranks.c - several processes that work on one thing: each adds up its share, and all know the sum.
 *
 *   ranks                           alone
 *   mpirun -n 4 ranks               with Open MPI or MPICH, whose plug-in `make` has built
 *   mpirun.mpich -n 4 ranks mpich   a plug-in by name
 *
 * Where there is no plug-in of that name, it works alone, too: for every call NULL is a group of one. */
#include <kdas/kdas.h>
#include <math.h>
#include <stdio.h>

enum { PARTS = 1000000 };

/* The library's sentence. Of a call that all ranks make together it begins with the rank that has failed. */
static int failed(void)
{
    fprintf(stderr, "%s\n", kdas_last_error());
    return 1;
}

/* A part of the area under 4 / (1 + x * x) from 0 to 1: every count-th strip, from strip `rank` on. */
static kdas_status add_share(double *sum, int rank, int count)
{
    *sum = 0;
    for (int i = rank; i < PARTS; i += count) {
        double x = (i + 0.5) / PARTS;

        *sum += 4 / (1 + x * x) / PARTS;
    }
    return isfinite(*sum) ? KDAS_OK : KDAS_ENUMERIC;
}

int main(int words, char **word)
{
    kdas_context      *ctx   = NULL;
    kdas_ranks        *ranks = NULL;
    kdas_ranks_options options;
    kdas_status        st;
    double             sum;

    if (kdas_context_create(&ctx, NULL) != KDAS_OK) return failed();
    kdas_ranks_options_init(&options, sizeof options);
    if (words > 1) options.collective = word[1];
    options.timeout = 60; /* seconds that a call waits for the others */
    st              = kdas_ranks_create(&ranks, ctx, &options);
    if (st != KDAS_OK && st != KDAS_ENOTFOUND) {
        kdas_context_destroy(ctx);
        return failed();
    }

    /* A rank that fails must not leave the others waiting: all vote before they go on. */
    st = add_share(&sum, kdas_ranks_rank(ranks), kdas_ranks_count(ranks));
    st = kdas_ranks_vote(ranks, st);
    if (st == KDAS_OK) st = kdas_ranks_sum(ranks, &sum, 1);
    if (st != KDAS_OK)
        failed();
    else if (kdas_ranks_rank(ranks) == 0)
        printf("%s: pi is about %.6f\n", ranks ? kdas_ranks_describe(ranks) : "alone", sum);
    kdas_ranks_destroy(ranks);
    kdas_context_destroy(ctx);
    return st != KDAS_OK;
}
