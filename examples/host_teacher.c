/* host_teacher.c - a teacher outside of libkdas: its maps are passed as plain buffers. Here they are
 * blurred masks at half the frames' size; they could come from any other library. */
#include <kdas/kdas.h>
#include <stdio.h>

enum { BATCH = 2, SIDE = 64, HALF = SIDE / 2, STEPS = 5 };

static float deep[BATCH * HALF * HALF], shallow[BATCH * HALF * HALF]; /* (N,H,W) logits */

/* Logits of a confident (deep) and an uncertain (shallow) teacher from masks (N,SIDE,SIDE,1). */
static void fill_maps(const float *masks)
{
    for (int n = 0; n < BATCH; n++) {
        for (int y = 0; y < HALF; y++) {
            for (int x = 0; x < HALF; x++) {
                const float *m  = masks + ((n * SIDE + 2 * y) * SIDE + 2 * x);
                float        is = (m[0] + m[1] + m[SIDE] + m[SIDE + 1]) / 4;
                int          i  = (n * HALF + y) * HALF + x;

                deep[i]    = 8 * is - 4;
                shallow[i] = 3 * is - 2;
            }
        }
    }
}

static int distil(kdas_distiller *distiller, kdas_batch *batch)
{
    const float *const both[] = { shallow, deep };
    const kdas_maps    maps   = { both, 2, BATCH, HALF, HALF };

    for (int step = 1; step <= STEPS; step++) {
        kdas_step_report report = { .size = sizeof report };

        fill_maps(kdas_batch_masks(batch));
        if (kdas_distiller_set_teacher_maps(distiller, &maps) != KDAS_OK ||
            kdas_distiller_step(distiller, batch, &report) != KDAS_OK) {
            return 1;
        }
        printf("step %d: loss %.4f, of it kd %.4f and sgm %.4f\n", step, report.total,
               report.weighted[KDAS_TERM_KD], report.weighted[KDAS_TERM_SGM]);
    }
    return 0;
}

/* Draw two scenes into a batch. */
static int fill(kdas_context *context, kdas_batch *batch)
{
    int failed = 0;

    for (int64_t i = 0; i < BATCH && !failed; i++) {
        kdas_image *image, *mask;
        kdas_view   views[2];

        if (kdas_scene_draw(&image, &mask, context, i, NULL) != KDAS_OK) return 1;
        views[0] = kdas_image_view(image);
        views[1] = kdas_image_view(mask);
        failed   = kdas_batch_set(batch, i, &views[0], &views[1]) != KDAS_OK;
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    return failed;
}

int main(void)
{
    kdas_context   *context   = NULL;
    kdas_model     *student   = NULL;
    kdas_loss      *loss      = NULL;
    kdas_optim     *optim     = NULL;
    kdas_distiller *distiller = NULL;
    kdas_batch     *batch     = NULL;

    int failed = kdas_context_create(&context, NULL) ||
                 kdas_model_create(&student, context, "polyp_pvt_b0", NULL) ||
                 kdas_loss_create(&loss, context, NULL) ||
                 kdas_optim_create(&optim, student, NULL) ||
                 kdas_distiller_create(&distiller, NULL, student, loss, optim, NULL) ||
                 kdas_batch_create(&batch, context, BATCH, SIDE, SIDE) || fill(context, batch) ||
                 distil(distiller, batch);

    if (failed) fprintf(stderr, "host_teacher: %s\n", kdas_last_error());
    kdas_batch_destroy(batch);
    kdas_distiller_destroy(distiller);
    kdas_optim_destroy(optim);
    kdas_loss_destroy(loss);
    kdas_model_destroy(student);
    kdas_context_destroy(context);
    return failed || fflush(stdout) != 0; /* a full disk */
}
