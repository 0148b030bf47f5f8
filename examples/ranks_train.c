/* ranks_train.c - a host's own loop over several processes, which train one student: each with its share of every batch.
 *
 *   ranks_train                               alone
 *   mpirun -n 2 ranks_train                   with Open MPI or MPICH, whose plug-in `make` has built
 *   mpirun.mpich -n 2 ranks_train mpich       a plug-in by name
 *
 * The loss that is printed, and the hash of the student, are the same on all ranks. But for rounding, the loss does not depend
 * on their number. A call that is not collective, such as kdas_loader_next(), may fail on one rank alone: all vote before the
 * next collective call, so that none waits for it. */
#include <kdas/kdas.h>
#include <stdio.h>

enum { IMAGES = 4, SIDE = 64, STEPS = 5 }; /* images of all ranks together */

#define TRY(call)                                \
    do {                                         \
        if ((st = (call)) != KDAS_OK) goto done; \
    } while (0)

typedef struct host {
    kdas_context   *ctx;
    kdas_ranks     *ranks; /* NULL: alone */
    kdas_dataset   *frames;
    kdas_loader    *loader;
    kdas_model     *student;
    kdas_loss      *loss;
    kdas_optim     *optim;
    kdas_distiller *distiller;
} host;

/* Without a plug-in of that name it works alone, as with every NULL handle. */
static kdas_status join(host *h, const char *collective)
{
    kdas_ranks_options o;
    kdas_status        st;

    kdas_ranks_options_init(&o, sizeof o);
    if (collective) o.collective = collective;
    o.timeout = 60; /* seconds that a call waits for the others */
    st        = kdas_ranks_create(&h->ranks, h->ctx, &o);
    return st == KDAS_ENOTFOUND ? KDAS_OK : st;
}

/* What each rank makes by itself; the other ranks are not asked. */
static kdas_status make_own(host *h)
{
    kdas_scene_options scenes;
    kdas_loss_options  loss;
    kdas_model_options model;
    kdas_status        st;

    kdas_scene_options_init(&scenes, sizeof scenes); /* a real host: kdas_dataset_open() */
    scenes.count = STEPS * IMAGES;
    scenes.width = scenes.height = SIDE;
    kdas_loss_options_init(&loss, sizeof loss);
    TRY(kdas_loss_options_preset(&loss, "baseline"));
    kdas_model_options_init(&model, sizeof model);
    model.ranks     = h->ranks; /* batch norms over the images of all */
    model.drop_path = 0;        /* each rank would draw its own */
    TRY(kdas_dataset_synthetic(&h->frames, h->ctx, &scenes));
    TRY(kdas_model_create(&h->student, h->ctx, "lite_fpn0",
                          &model)); /* its seed is the same on all */
    TRY(kdas_loss_create(&h->loss, h->ctx, &loss));
    TRY(kdas_optim_create(&h->optim, h->student, NULL));
done:
    return st;
}

/* What all make together: the calls compare options, frames and weights. */
static kdas_status make_shared(host *h)
{
    kdas_loader_options    loader;
    kdas_distiller_options distiller;
    kdas_status            st;

    kdas_loader_options_init(&loader, sizeof loader);
    loader.batch  = IMAGES / kdas_ranks_count(h->ranks);
    loader.height = loader.width = SIDE;
    loader.ranks                 = h->ranks;
    TRY(kdas_loader_create(&h->loader, h->frames, &loader));
    kdas_distiller_options_init(&distiller, sizeof distiller);
    distiller.ranks = h->ranks;
    TRY(kdas_distiller_create(&h->distiller, NULL, h->student, h->loss, h->optim, &distiller));
done:
    return st;
}

static kdas_status train(host *h)
{
    kdas_step_report report = { .size = sizeof report };
    kdas_batch      *batch;
    kdas_status      st = KDAS_OK;

    for (int i = 1; i <= STEPS; i++) {
        TRY(kdas_ranks_vote(h->ranks, kdas_loader_next(h->loader, &batch)));
        if (!batch) break; /* the end of the epoch, which all reach together */
        TRY(kdas_distiller_step(h->distiller, batch, &report));
        if (kdas_ranks_rank(h->ranks) == 0) printf("step %d: loss %.6f\n", i, report.total);
    }
done:
    return st;
}

int main(int words, char **word)
{
    host        h    = { 0 };
    uint64_t    hash = 0;
    kdas_status st;

    TRY(kdas_context_create(&h.ctx, NULL));
    TRY(join(&h, words > 1 ? word[1] : NULL));
    TRY(kdas_ranks_vote(h.ranks, make_own(&h)));
    TRY(make_shared(&h));
    TRY(train(&h));
    TRY(kdas_ranks_vote(h.ranks, kdas_model_hash(h.student, &hash)));
    printf("rank %d of %d: student %016llx\n", (int)kdas_ranks_rank(h.ranks),
           (int)kdas_ranks_count(h.ranks), (unsigned long long)hash);
done:
    if (st != KDAS_OK) fprintf(stderr, "%s\n", kdas_last_error());
    kdas_distiller_destroy(h.distiller);
    kdas_optim_destroy(h.optim);
    kdas_loss_destroy(h.loss);
    kdas_model_destroy(h.student);
    kdas_loader_destroy(h.loader);
    kdas_dataset_destroy(h.frames);
    kdas_ranks_destroy(h.ranks);
    kdas_context_destroy(h.ctx);
    return st != KDAS_OK;
}
