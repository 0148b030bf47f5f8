/* bench_ranks.c - a training step of ranks: its time, and how much of the exchange is hidden behind the backward. Start it
 * under a launcher of MPI; alone, it times the same step in one process.
 *
 *   bench_ranks [-t THREADS] [-b BATCH] [-s SIDE] [-n STEPS] [-m STUDENT] [-f FOLDER] [-y]
 *
 * -b: images of each rank. -f: where the plug-in is. -y: batch norms over all ranks. Rank 0 prints ranks, threads, least and median
 * seconds of a step, seconds that the collective worked in a step, and that the step waited for it. Both contain the
 * time that a rank is ahead of the others. */
#include <kdas/kdas.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/base.h"
#include "ranks/ranks.h"

enum { WARM_UP = 2, MOST = 1000 };

typedef struct bench {
    int             threads, batch, side, steps;
    const char     *student, *folder;
    bool            sync;
    kdas_context   *ctx;
    kdas_ranks     *ranks;
    kdas_model     *model;
    kdas_loss      *loss;
    kdas_optim     *optim;
    kdas_distiller *distiller;
    kdas_batch     *images;
} bench;

static void die_on(kdas_status st)
{
    if (st == KDAS_OK) return;
    fprintf(stderr, "bench_ranks: %s\n", kdas_last_error());
    exit(EXIT_FAILURE);
}

static void read_options(bench *b, int argc, char **argv)
{
    int c;

    *b = (bench){ .threads = 1, .batch = 2, .side = 352, .steps = 10, .student = "polyp_pvt_b0" };
    while ((c = getopt(argc, argv, "t:b:s:n:m:f:y")) != -1)
        switch (c) {
        case 't': b->threads = atoi(optarg); break;
        case 'b': b->batch = atoi(optarg); break;
        case 's': b->side = atoi(optarg); break;
        case 'n': b->steps = atoi(optarg); break;
        case 'm': b->student = optarg; break;
        case 'f': b->folder = optarg; break;
        case 'y': b->sync = true; break;
        default:
            fprintf(stderr, "usage: bench_ranks [-t THREADS] [-b BATCH] [-s SIDE] [-n STEPS] [-m "
                            "STUDENT] [-f FOLDER] [-y]\n");
            exit(2);
        }
    if (b->steps < 1 || b->steps > MOST) b->steps = 10;
}

static void open_context(bench *b)
{
    kdas_context_options context;
    kdas_ranks_options   ranks;

    kdas_context_options_init(&context, sizeof context);
    context.threads = b->threads;
    die_on(kdas_context_create(&b->ctx, &context));
    kdas_ranks_options_init(&ranks, sizeof ranks);
    ranks.plugin_path = b->folder;
    die_on(kdas_ranks_create(&b->ranks, b->ctx, &ranks));
}

/* Images of any values, and masks, that differ from rank to rank. */
static void make_images(bench *b)
{
    size_t    n      = (size_t)b->batch * (size_t)b->side * (size_t)b->side;
    kd_random random = kd_random_make(1, (uint64_t)kdas_ranks_rank(b->ranks));

    die_on(kdas_batch_create(&b->images, b->ctx, b->batch, b->side, b->side));
    for (size_t i = 0; i < 3 * n; i++)
        kdas_batch_images(b->images)[i] = (float)kd_random_between(&random, -1, 1);
    for (size_t i = 0; i < n; i++)
        kdas_batch_masks(b->images)[i] = i / 64 % 2 ? 1.0f : 0.0f;
}

static void open_training(bench *b)
{
    kdas_model_options     model;
    kdas_loss_options      loss;
    kdas_distiller_options distiller;

    kdas_model_options_init(&model, sizeof model);
    if (b->sync) model.ranks = b->ranks;
    die_on(kdas_model_create(&b->model, b->ctx, b->student, &model));
    kdas_loss_options_init(&loss, sizeof loss);
    loss.guidance = "none";
    die_on(kdas_loss_create(&b->loss, b->ctx, &loss));
    die_on(kdas_optim_create(&b->optim, b->model, NULL));
    kdas_distiller_options_init(&distiller, sizeof distiller);
    distiller.ranks = b->ranks;
    die_on(kdas_distiller_create(&b->distiller, NULL, b->model, b->loss, b->optim, &distiller));
    make_images(b);
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void run(bench *b)
{
    double seconds[MOST], worked = 0, waited = 0;

    for (int i = -WARM_UP; i < b->steps; i++) {
        kdas_step_report report = { .size = sizeof report };
        double           start;

        if (i == 0) {
            worked = kd_ranks_worked(b->ranks);
            waited = kd_ranks_waited(b->ranks);
        }
        die_on(kdas_ranks_barrier(b->ranks));
        start = kd_now();
        die_on(kdas_distiller_step(b->distiller, b->images, &report));
        if (i >= 0) seconds[i] = kd_now() - start;
    }
    worked = (kd_ranks_worked(b->ranks) - worked) / b->steps;
    waited = (kd_ranks_waited(b->ranks) - waited) / b->steps;
    qsort(seconds, (size_t)b->steps, sizeof *seconds, by_size);
    if (kdas_ranks_rank(b->ranks) > 0) return;
    printf("%d\t%d\t%.4f\t%.4f\t%.4f\t%.4f\n", kdas_ranks_count(b->ranks), b->threads, seconds[0],
           seconds[b->steps / 2], worked, waited);
}

int main(int argc, char **argv)
{
    bench b;

    read_options(&b, argc, argv);
    open_context(&b);
    open_training(&b);
    run(&b);
    kdas_batch_destroy(b.images);
    kdas_distiller_destroy(b.distiller);
    kdas_optim_destroy(b.optim);
    kdas_loss_destroy(b.loss);
    kdas_model_destroy(b.model);
    kdas_ranks_destroy(b.ranks);
    kdas_context_destroy(b.ctx);
    return 0;
}
