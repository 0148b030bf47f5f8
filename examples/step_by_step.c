/* step_by_step.c - drive every phase of distillation yourself: load a batch, forward, backward,
 * look at the gradients, update. The teacher here is untrained; give it weights with
 * kdas_model_load(). */
#include <kdas/kdas.h>
#include <stdio.h>

#define TRY(call)                                                  \
    do {                                                           \
        if ((call) != KDAS_OK) {                                   \
            fprintf(stderr, "%s: %s\n", #call, kdas_last_error()); \
            goto done;                                             \
        }                                                          \
    } while (0)

enum { BATCH = 4, SIDE = 64, STEPS = 6 };

int main(void)
{
    kdas_context   *context = NULL;
    kdas_model     *teacher = NULL, *student = NULL;
    kdas_loss      *loss      = NULL;
    kdas_optim     *optim     = NULL;
    kdas_distiller *distiller = NULL;
    kdas_dataset   *scenes    = NULL;
    kdas_loader    *loader    = NULL;
    int             failed    = 1;

    kdas_scene_options     scene_options;
    kdas_loader_options    loader_options;
    kdas_optim_options     optim_options;
    kdas_distiller_options distiller_options;

    kdas_scene_options_init(&scene_options, sizeof scene_options);
    scene_options.count = 3 * BATCH;
    scene_options.width = scene_options.height = SIDE;
    kdas_loader_options_init(&loader_options, sizeof loader_options);
    loader_options.batch  = BATCH;
    loader_options.height = loader_options.width = SIDE;
    kdas_optim_options_init(&optim_options, sizeof optim_options);
    optim_options.lr = 5e-4f;
    kdas_distiller_options_init(&distiller_options, sizeof distiller_options);
    distiller_options.accumulate = 2; /* two batches make one update */

    TRY(kdas_context_create(&context, NULL));
    TRY(kdas_model_create(&teacher, context, "polyp_pvt_b1", NULL));
    TRY(kdas_model_create(&student, context, "polyp_pvt_b0", NULL));
    TRY(kdas_loss_create(&loss, context, NULL)); /* the paper's objective */
    TRY(kdas_optim_create(&optim, student, &optim_options));
    TRY(kdas_distiller_create(&distiller, teacher, student, loss, optim, &distiller_options));
    TRY(kdas_dataset_synthetic(&scenes, context, &scene_options));
    TRY(kdas_loader_create(&loader, scenes, &loader_options));

    for (int step = 1; step <= STEPS; step++) {
        kdas_step_report report = { .size = sizeof report };
        kdas_batch      *batch;
        double           norm;

        TRY(kdas_loader_next(loader, &batch));
        if (!batch) TRY(kdas_loader_next(loader, &batch)); /* NULL was the end of an epoch */
        TRY(kdas_distiller_forward(distiller, batch));     /* both networks */
        TRY(kdas_distiller_backward(distiller,
                                    &report));       /* the objective, and gradients gathered */
        TRY(kdas_optim_gradient_norm(optim, &norm)); /* look, before anything changes */
        printf("step %d: loss %.4f = seg %.4f + kd %.4f + sgm %.4f, gradient norm %.3f", step,
               report.total, report.weighted[KDAS_TERM_SEG], report.weighted[KDAS_TERM_KD],
               report.weighted[KDAS_TERM_SGM], norm);
        if (step % 2 == 0) {
            TRY(kdas_distiller_update(distiller, &report));
            printf(", updated at lr %g", report.lr);
        }
        putchar('\n');
    }
    failed = 0;
done:
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(scenes);
    kdas_distiller_destroy(distiller);
    kdas_optim_destroy(optim);
    kdas_loss_destroy(loss);
    kdas_model_destroy(student);
    kdas_model_destroy(teacher);
    kdas_context_destroy(context);
    return failed;
}
