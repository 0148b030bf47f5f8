/* step_by_step.c - a step of distillation by its parts, as kdas_distiller_step() makes it: both forwards on one batch,
 * the objective on their outputs, backward, the gradient norm, update. If a part fails, the student stays as its last update
 * left it. The teacher here is untrained; give it weights with kdas_model_load(). */
#include <kdas/kdas.h>
#include <stdio.h>

#define TRY(call)                                                  \
    do {                                                           \
        if ((call) != KDAS_OK) {                                   \
            fprintf(stderr, "%s: %s\n", #call, kdas_last_error()); \
            goto done;                                             \
        }                                                          \
    } while (0)

enum { BATCH = 4, SIDE = 64, STEPS = 6, MICRO = 2 }; /* two batches make one update */

typedef struct parts {
    kdas_model *teacher, *student;
    kdas_loss  *loss;
    kdas_optim *optim;
} parts;

/* Accumulate the gradients of one batch in the student; report->size is set. */
static kdas_status accumulate(const parts *p, kdas_batch *batch, kdas_loss_report *report)
{
    kdas_loss_run_options options;
    kdas_status           st;

    kdas_loss_run_options_init(&options, sizeof options);
    options.scale = (float)kdas_optim_loss_scale(p->optim) / MICRO;
    st            = kdas_batch_upload(batch); /* once, for both networks and the objective */
    if (st == KDAS_OK) st = kdas_model_forward(p->teacher, KDAS_MODE_INFER, batch);
    if (st == KDAS_OK) st = kdas_model_forward(p->student, KDAS_MODE_TRAIN, batch);
    if (st == KDAS_OK) st = kdas_loss_run(p->loss, p->student, p->teacher, batch, &options, report);
    if (st == KDAS_OK) st = kdas_model_backward(p->student, NULL); /* from the loss's gradients */
    if (st == KDAS_OK) st = kdas_batch_settle(batch);
    return st;
}

/* Before the first batch of an update: marks the state that roll_back() restores. */
static kdas_status begin(const parts *p)
{
    kdas_status st = kdas_loss_mark(p->loss);

    return st == KDAS_OK ? kdas_model_mark(p->student) : st;
}

/* After a failure: restore the student as its last update left it. */
static void roll_back(const parts *p)
{
    kdas_loss_rollback(p->loss);
    kdas_model_rollback(p->student);
    kdas_model_zero_gradients(p->student);
}

static kdas_status update(const parts *p)
{
    kdas_status st = kdas_optim_step(p->optim);

    return st == KDAS_OK ? kdas_model_zero_gradients(p->student) : st;
}

/* One batch, and after every MICRO-th an update. */
static int step(const parts *p, kdas_batch *batch, int number)
{
    kdas_loss_report report = { .size = sizeof report };
    double           norm;

    if ((number - 1) % MICRO == 0) TRY(begin(p));
    TRY(accumulate(p, batch, &report));
    TRY(kdas_optim_gradient_norm(p->optim, &norm)); /* look, before anything changes */
    printf("step %d: loss %.4f = seg %.4f + kd %.4f + sgm %.4f, gradient norm %.3f", number,
           report.total, report.weighted[KDAS_TERM_SEG], report.weighted[KDAS_TERM_KD],
           report.weighted[KDAS_TERM_SGM], norm);
    if (number % MICRO == 0) {
        printf(", updated at lr %g", kdas_optim_lr(p->optim));
        TRY(update(p));
    }
    putchar('\n');
    return 1;
done:
    roll_back(p);
    return 0;
}

int main(void)
{
    kdas_context *context = NULL;
    kdas_dataset *scenes  = NULL;
    kdas_loader  *loader  = NULL;
    parts         p       = { 0 };
    int           failed  = 1;

    kdas_scene_options  scene_options;
    kdas_loader_options loader_options;
    kdas_optim_options  optim_options;

    kdas_scene_options_init(&scene_options, sizeof scene_options);
    scene_options.count = 3 * BATCH;
    scene_options.width = scene_options.height = SIDE;
    kdas_loader_options_init(&loader_options, sizeof loader_options);
    loader_options.batch  = BATCH;
    loader_options.height = loader_options.width = SIDE;
    kdas_optim_options_init(&optim_options, sizeof optim_options);
    optim_options.lr = 5e-4f;

    TRY(kdas_context_create(&context, NULL));
    TRY(kdas_model_create(&p.teacher, context, "polyp_pvt_b1", NULL));
    TRY(kdas_model_create(&p.student, context, "polyp_pvt_b0", NULL));
    TRY(kdas_loss_create(&p.loss, context, NULL)); /* the paper's objective */
    TRY(kdas_optim_create(&p.optim, p.student, &optim_options));
    TRY(kdas_dataset_synthetic(&scenes, context, &scene_options));
    TRY(kdas_loader_create(&loader, scenes, &loader_options));

    for (int number = 1; number <= STEPS; number++) {
        kdas_batch *batch;

        TRY(kdas_loader_next(loader, &batch));
        if (!batch) TRY(kdas_loader_next(loader, &batch)); /* NULL was the end of an epoch */
        if (!step(&p, batch, number)) goto done;
    }
    failed = 0;
done:
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(scenes);
    kdas_optim_destroy(p.optim);
    kdas_loss_destroy(p.loss);
    kdas_model_destroy(p.student);
    kdas_model_destroy(p.teacher);
    kdas_context_destroy(context);
    return failed || fflush(stdout) != 0; /* a full disk */
}
