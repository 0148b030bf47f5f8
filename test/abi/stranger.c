/* stranger.c - a host that knows libkdas only as installed: C99, public headers alone, one training step. */
#include <kdas/kdas.h>
#include <stdio.h>

typedef struct host {
    kdas_context   *context;
    kdas_model     *student;
    kdas_loss      *loss;
    kdas_optim     *optim;
    kdas_distiller *distiller;
    kdas_batch     *batch;
} host;

static kdas_status make(host *h)
{
    kdas_context_options context;
    kdas_loss_options    loss;
    kdas_status          st;

    kdas_context_options_init(&context, sizeof context);
    context.threads = 1;
    kdas_loss_options_init(&loss, sizeof loss);
    st = kdas_loss_options_preset(&loss, "baseline");
    if (!st) st = kdas_context_create(&h->context, &context);
    if (!st) st = kdas_model_create(&h->student, h->context, "polyp_pvt_b0", NULL);
    if (!st) st = kdas_loss_create(&h->loss, h->context, &loss);
    if (!st) st = kdas_optim_create(&h->optim, h->student, NULL);
    if (!st) st = kdas_distiller_create(&h->distiller, NULL, h->student, h->loss, h->optim, NULL);
    if (!st) st = kdas_batch_create(&h->batch, h->context, 2, 64, 64);
    return st;
}

/* A bright square on a dark ground, another one in each image. */
static void draw(kdas_batch *batch)
{
    float *image = kdas_batch_images(batch), *mask = kdas_batch_masks(batch);
    int    n, y, x;

    for (n = 0; n < 2; n++)
        for (y = 0; y < 64; y++)
            for (x = 0; x < 64; x++) {
                int   inside = x > 10 + 20 * n && x < 40 && y > 15 && y < 50 - 10 * n;
                float value  = inside ? 1.5f : -1.0f;

                *image++ = value;
                *image++ = value;
                *image++ = value;
                *mask++  = (float)inside;
            }
}

int main(void)
{
    host             h = { NULL, NULL, NULL, NULL, NULL, NULL };
    kdas_step_report report;
    kdas_status      st;

    if (kdas_version() != KDAS_VERSION || kdas_abi() != KDAS_ABI) {
        fprintf(stderr, "headers of %d, library of %d\n", KDAS_VERSION, kdas_version());
        return 1;
    }
    report.size = sizeof report;
    st          = make(&h);
    if (!st) {
        draw(h.batch);
        st = kdas_distiller_step(h.distiller, h.batch, &report);
    }
    if (st) {
        fprintf(stderr, "%s: %s\n", kdas_status_name(st), kdas_last_error());
    } else {
        printf("libkdas %s on %s: loss %.4f\n", kdas_version_string(),
               kdas_context_device(h.context), report.total);
        if (!(report.total > 0) || !report.updated || kdas_optim_updates(h.optim) != 1) {
            fprintf(stderr, "the step did not update the student\n");
            st = KDAS_ESTATE;
        }
    }
    kdas_distiller_destroy(h.distiller);
    kdas_optim_destroy(h.optim);
    kdas_loss_destroy(h.loss);
    kdas_batch_destroy(h.batch);
    kdas_model_destroy(h.student);
    kdas_context_destroy(h.context);
    return st ? 1 : 0;
}
