/* consumer.c - a host compiled against some version of the headers, for growth.sh, which runs it on libraries with more
 * terms of the loss than those headers name, and with fewer. It prints what it reads, one line a term; those of terms that
 * only the library with one more has begin with "extra".
 *   consumer report             evaluate the objective and make a step
 *   consumer train DIR STEPS    resume training, and make so many steps, 0: all there are */
#include <kdas/kdas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE  32
#define FENCE 64

static void must(kdas_status status, const char *what)
{
    if (status == KDAS_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, kdas_status_name(status), kdas_last_error());
    exit(1);
}

static void expect(int holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "it does not hold that %s\n", what);
    exit(1);
}

/* Terms of the headers that growth.sh did not add to. */
#define KNOWN 4

typedef struct fenced_loss_report {
    kdas_loss_report r;
    unsigned char    fence[FENCE];
} fenced_loss_report;

typedef struct fenced_step_report {
    kdas_step_report r;
    unsigned char    fence[FENCE];
} fenced_step_report;

static void check_fence(const unsigned char *fence)
{
    int i;

    for (i = 0; i < FENCE; i++)
        expect(fence[i] == 0xAA, "nothing is written behind a report");
}

/* The arrays of a report, by the library's own number of terms. */
static void show(const char *what, int limited, int32_t terms, double total, const double *raw,
                 const double *weighted, const double *gradient)
{
    double sum = 0;
    int    t;

    expect(terms >= KNOWN && terms <= KDAS_TERM_ROOM, "a report says how many terms there are");
    for (t = 0; t < KDAS_TERM_ROOM; t++) {
        const char *name = kdas_term_name((kdas_term)t);

        sum += weighted[t];
        expect((name != NULL) == (t < terms), "every term has a name");
        if (t < terms)
            printf("%s%s %s %.17g %.17g %.17g\n", t < KNOWN ? "" : "extra ", what, name, raw[t],
                   weighted[t], gradient[t]);
        else
            expect(raw[t] == 0 && weighted[t] == 0 && gradient[t] == 0, "room is zero");
    }
    expect(fabs(sum - total) <= 1e-9 * fabs(total), "the terms sum up to the total");
    if (terms > KNOWN) {
        expect(raw[KNOWN] == raw[KDAS_TERM_SEG], "the extra term has its value");
        if (limited) return; /* by a share: its weight is not the options' */
        expect(weighted[KNOWN] == 0.5 * weighted[KDAS_TERM_SEG], "and its weight");
    }
}

static void evaluate(kdas_context *context)
{
    static float       student[SIDE * SIDE], teacher[SIDE * SIDE], mask[SIDE * SIDE];
    static float       gradient[SIDE * SIDE];
    const float       *s[1], *t[1];
    float             *g[1];
    kdas_maps          of_student = { 0 }, of_teacher = { 0 };
    kdas_loss_options  options;
    kdas_loss         *loss;
    fenced_loss_report report;
    int                i;

    for (i = 0; i < SIDE * SIDE; i++) {
        student[i] = (float)sin(0.1 * i);
        teacher[i] = (float)cos(0.07 * i);
        mask[i]    = (float)(i % 3 == 0);
    }
    s[0] = student, t[0] = teacher, g[0] = gradient;
    of_student.map = s, of_teacher.map = t;
    of_student.maps = of_teacher.maps = 1;
    of_student.count = of_teacher.count = 1;
    of_student.height = of_student.width = of_teacher.height = of_teacher.width = SIDE;
    kdas_loss_options_init(&options, sizeof options);
    must(kdas_loss_create(&loss, context, &options), "loss");
    memset(&report, 0xAA, sizeof report);
    report.r.size = sizeof report.r;
    must(kdas_loss_evaluate(loss, &of_student, &of_teacher, mask, g, &report.r), "evaluate");
    check_fence(report.fence);
    expect(report.r.size == sizeof report.r, "a report keeps its size");
    for (i = 0; i < KDAS_TERM_ROOM; i++)
        expect(report.r.on[i] == (i < report.r.terms && i != KDAS_TERM_FEATURE),
               "a report says which terms are on");
    show("loss", 0, report.r.terms, report.r.total, report.r.raw, report.r.weighted,
         report.r.gradient);
    kdas_loss_destroy(loss);
}

/* ---- a student and its teacher ---- */

typedef struct rig {
    kdas_model     *teacher, *student;
    kdas_loss      *loss;
    kdas_optim     *optim;
    kdas_distiller *distiller;
} rig;

static void make(rig *r, kdas_context *context)
{
    kdas_loss_options loss;

    kdas_loss_options_init(&loss, sizeof loss);
    loss.share = 0.5f; /* its means are in checkpoints */
    must(kdas_model_create(&r->teacher, context, "lite_fpn0", NULL), "teacher");
    must(kdas_model_create(&r->student, context, "lite_fpn0", NULL), "student");
    must(kdas_loss_create(&r->loss, context, &loss), "loss");
    must(kdas_optim_create(&r->optim, r->student, NULL), "optim");
    must(kdas_distiller_create(&r->distiller, r->teacher, r->student, r->loss, r->optim, NULL),
         "distiller");
}

static void unmake(rig *r)
{
    kdas_distiller_destroy(r->distiller);
    kdas_optim_destroy(r->optim);
    kdas_loss_destroy(r->loss);
    kdas_model_destroy(r->student);
    kdas_model_destroy(r->teacher);
}

static void step(kdas_context *context)
{
    rig                r;
    kdas_batch        *batch;
    fenced_step_report report;
    float             *image, *mask;
    int                i;

    make(&r, context);
    must(kdas_batch_create(&batch, context, 2, SIDE, SIDE), "batch");
    image = kdas_batch_images(batch);
    mask  = kdas_batch_masks(batch);
    for (i = 0; i < 2 * SIDE * SIDE * 3; i++)
        image[i] = (float)sin(0.01 * i);
    for (i = 0; i < 2 * SIDE * SIDE; i++)
        mask[i] = (float)(i / SIDE % 2);
    memset(&report, 0xAA, sizeof report);
    report.r.size = sizeof report.r;
    must(kdas_distiller_step(r.distiller, batch, &report.r), "step");
    check_fence(report.fence);
    expect(report.r.updated == 1 && report.r.skipped == 0, "a step makes an update");
    expect(report.r.parts == KDAS_STEP_PARTS, "it says how many parts it has");
    for (i = 0; i < KDAS_STEP_PART_ROOM; i++)
        expect(i < report.r.parts ? report.r.seconds[i] > 0 : report.r.seconds[i] == 0,
               "each part takes its time");
    printf("step lr %.17g scale %.17g\n", report.r.lr, report.r.loss_scale);
    show("step", 1, report.r.terms, report.r.total, report.r.raw, report.r.weighted,
         report.r.gradient);
    kdas_batch_destroy(batch);
    unmake(&r);
}

static int32_t on_event(void *user, const kdas_train_state *state)
{
    int *events = user;

    ++*events;
    expect(state->size >= sizeof *state, "a state says its size");
    expect(state->report->terms >= KNOWN && state->report->total > 0, "its report can be read");
    return 0;
}

static void train(kdas_context *context, const char *out, int64_t steps)
{
    rig                 r;
    kdas_scene_options  scenes;
    kdas_loader_options loading;
    kdas_train_options  options;
    kdas_dataset       *data;
    kdas_loader        *loader;
    int                 events = 0;

    make(&r, context);
    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 4;
    scenes.width = scenes.height = SIDE;
    kdas_loader_options_init(&loading, sizeof loading);
    loading.batch  = 2;
    loading.height = loading.width = SIDE;
    kdas_train_options_init(&options, sizeof options);
    options.epochs    = 2;
    options.max_steps = steps;
    options.out       = out;
    options.resume    = 1;
    options.progress  = on_event;
    options.user      = &events;
    must(kdas_dataset_synthetic(&data, context, &scenes), "scenes");
    must(kdas_loader_create(&loader, data, &loading), "loader");
    must(kdas_train(r.distiller, loader, NULL, &options), "train");
    expect(events > 0, "steps are told");
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(data);
    unmake(&r);
}

int main(int argc, char **argv)
{
    kdas_context_options options;
    kdas_context        *context;

    kdas_context_options_init(&options, sizeof options);
    options.threads = 1;
    must(kdas_context_create(&context, &options), "context");
    if (argc == 4 && strcmp(argv[1], "train") == 0) {
        train(context, argv[2], atoi(argv[3]));
    } else {
        evaluate(context);
        step(context);
    }
    kdas_context_destroy(context);
    return 0;
}
