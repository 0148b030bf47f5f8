/* work.h - what is timed: models, batches and what a step needs. */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H
#include <kdas/kdas.h>
#include <stdbool.h>

typedef struct trainer {
    kdas_model     *student, *teacher; /* the caller's; teacher NULL: no guidance */
    kdas_loss      *loss;
    kdas_optim     *optim;
    kdas_distiller *distiller;
    kdas_batch     *batch;
} trainer;
bool trainer_open(trainer *t, kdas_context *ctx, int64_t count, int64_t height, int64_t width);
void trainer_close(trainer *t);
/* A network of this name for inference or for training. */
bool make_model(kdas_model **out, kdas_context *ctx, const char *name, bool trainable);
/* Images of any values, and masks. */
bool make_batch(kdas_batch **out, kdas_context *ctx, int64_t count, int64_t height, int64_t width);
#endif
