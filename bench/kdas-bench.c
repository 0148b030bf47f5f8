/* kdas-bench.c - seconds, images a second and peak memory of a distillation step and of inference: the
 * same figures as a PyTorch peer would print, one TSV row each.
 *
 * A step is: student forward (training mode), teacher forward (inference), the objective, backward, clamp,
 * AdamW. Each figure is the median of --reps runs after --warm-up runs; making models and compiling for the
 * size are outside the timer, everything in kdas_distiller_step and kdas_model_forward is inside. */
#include <kdas/kdas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include "../examples/common_args.h"
#include "../examples/common_say.h"

#define MAX_REPS 1000

typedef struct settings {
    const char *student, *teacher, *device, *isa, *only;
    int64_t     batch, size[2], threads, reps, warm_up;
    bool        phases;
} settings;

static settings set = { .student = "polyp_pvt_b0",
                        .teacher = "polyp_pvt_b2",
                        .device  = "cpu",
                        .batch   = 8,
                        .size    = { 352, 352 },
                        .reps    = 5,
                        .warm_up = 2 };

static const option options[] = {
    { OPTION_TEXT, "--student", "MODEL", &set.student, 0, 0, "default polyp_pvt_b0" },
    { OPTION_TEXT, "--teacher", "MODEL", &set.teacher, 0, 0, "default polyp_pvt_b2" },
    { OPTION_WHOLE, "--batch", "N", &set.batch, 1, 1024, "images in a step; default 8" },
    { OPTION_SIZE, "--size", "N|HxW", set.size, 32, 4096, "pixels, multiples of 32; default 352" },
    { OPTION_WHOLE, "--threads", "N", &set.threads, 0, 1024, "0 (default): one for each core" },
    { OPTION_TEXT, "--device", "NAME", &set.device, 0, 0,
      "cpu (default), reference, or a plug-in" },
    { OPTION_TEXT, "--isa", "NAME", &set.isa, 0, 0,
      "most the kernels may use: avx512, avx2, plain" },
    { OPTION_WHOLE, "--reps", "N", &set.reps, 1, MAX_REPS, "timed runs; default 5" },
    { OPTION_WHOLE, "--warm-up", "N", &set.warm_up, 1, MAX_REPS, "runs before; default 2" },
    { OPTION_TEXT, "--only", "FIGURE", &set.only, 0, 0, "infer or step; default both" },
    { OPTION_FLAG, "--phases", NULL, &set.phases, 0, 0, "split the step into its phases" },
};

static const program self = {
    "kdas-bench", "[OPTION...]",  "Time a distillation step and inference; one TSV row a figure.",
    options,      COUNT(options), NULL
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static double peak_mib(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return (double)use.ru_maxrss / 1024;
}

static void print_row(const char *figure, double seconds, int64_t images)
{
    printf("%s\t%.5f\t%.3f\t%.0f\n", figure, seconds, (double)images / seconds, peak_mib());
    fflush(stdout);
}

/* Any values do: the work does not depend on them. */
static bool make_batch(kdas_batch **out, kdas_context *ctx, int64_t count)
{
    int64_t  n     = count * set.size[0] * set.size[1];
    uint64_t state = 1;

    if (!ok(kdas_batch_create(out, ctx, count, set.size[0], set.size[1]))) return false;
    for (int64_t i = 0; i < n * 3; i++) {
        state                      = state * 6364136223846793005u + 1442695040888963407u;
        kdas_batch_images(*out)[i] = (float)(state >> 40) / 8388608.0f - 1.0f;
        if (i < n) kdas_batch_masks(*out)[i] = (float)(state >> 63);
    }
    return true;
}

/* ---- The figures -------------------------------------------------------------------------------- */

static bool infer(kdas_context *ctx, kdas_model *model, const char *who, int64_t count)
{
    kdas_batch *batch = NULL;
    double      seconds[MAX_REPS];
    char        figure[64];
    bool        good = make_batch(&batch, ctx, count);

    for (int64_t i = -set.warm_up; good && i < set.reps; i++) {
        double start = now();

        good = ok(kdas_model_forward(model, KDAS_MODE_INFER, batch));
        if (i >= 0) seconds[i] = now() - start;
    }
    if (good) {
        snprintf(figure, sizeof figure, "infer_%s_b%lld", who, (long long)count);
        print_row(figure, median(seconds, set.reps), count);
    }
    kdas_batch_destroy(batch);
    return good;
}

static bool step(kdas_context *ctx, kdas_model *teacher, kdas_model *student)
{
    static const char *const phase[4] = { "teacher", "student_forward", "objective_backward",
                                          "update" };
    static double            seconds[5][MAX_REPS];
    kdas_loss               *loss  = NULL;
    kdas_optim              *optim = NULL;
    kdas_distiller          *d     = NULL;
    kdas_batch              *batch = NULL;
    char                     figure[64];
    bool                     good = make_batch(&batch, ctx, set.batch);

    good = good && ok(kdas_loss_create(&loss, ctx, NULL)) &&
           ok(kdas_optim_create(&optim, student, NULL)) &&
           ok(kdas_distiller_create(&d, teacher, student, loss, optim, NULL));
    for (int64_t i = -set.warm_up; good && i < set.reps; i++) {
        kdas_step_report report = { .size = sizeof report };
        double           start  = now();

        good = ok(kdas_distiller_step(d, batch, &report));
        for (int k = 0; i >= 0 && k < 4; k++)
            seconds[k][i] = report.seconds[k];
        if (i >= 0) seconds[4][i] = now() - start;
    }
    for (int k = 0; good && set.phases && k < 4; k++) {
        snprintf(figure, sizeof figure, "  %s", phase[k]);
        print_row(figure, median(seconds[k], set.reps), set.batch);
    }
    if (good) {
        snprintf(figure, sizeof figure, "step_b%lld", (long long)set.batch);
        print_row(figure, median(seconds[4], set.reps), set.batch);
    }
    kdas_distiller_destroy(d);
    kdas_optim_destroy(optim);
    kdas_loss_destroy(loss);
    kdas_batch_destroy(batch);
    return good;
}

static bool run(kdas_context *ctx)
{
    kdas_model_options frozen;
    kdas_model        *student = NULL, *teacher = NULL;
    bool               good;

    kdas_model_options_init(&frozen, sizeof frozen);
    frozen.trainable = 0;
    good             = ok(kdas_model_create(&student, ctx, set.student, NULL)) &&
           ok(kdas_model_create(&teacher, ctx, set.teacher, &frozen));
    if (good && (!set.only || strcmp(set.only, "infer") == 0)) {
        good = infer(ctx, student, "student", 1) &&
               (set.batch == 1 || infer(ctx, student, "student", set.batch)) &&
               infer(ctx, teacher, "teacher", 1) &&
               (set.batch == 1 || infer(ctx, teacher, "teacher", set.batch));
    }
    if (good && (!set.only || strcmp(set.only, "step") == 0)) good = step(ctx, teacher, student);
    kdas_model_destroy(teacher);
    kdas_model_destroy(student);
    return good;
}

int main(int argc, char **argv)
{
    kdas_context_options o;
    kdas_context        *ctx;
    int                  rest, code;
    bool                 good;

    say_as(self.name);
    code = args_read(&self, argc, argv, &rest);
    if (code >= 0) return code;
    if (rest) return args_wrong(&self, "there is nothing to do with '%s'", argv[1]);
    if (set.only && strcmp(set.only, "infer") && strcmp(set.only, "step"))
        return args_wrong(&self, "--only takes infer or step");
    kdas_context_options_init(&o, sizeof o);
    o.device  = set.device;
    o.threads = (int32_t)set.threads;
    o.isa     = set.isa;
    o.log     = say_log;
    if (!ok(kdas_context_create(&ctx, &o))) return EXIT_FAILED;
    printf("# libkdas %s, %s, threads=%d size=%lldx%lld reps=%lld warm-up=%lld\n# "
           "figure\tseconds\timages/s\tpeak MiB\n",
           kdas_version_string(), kdas_context_device(ctx), kdas_context_threads(ctx),
           (long long)set.size[0], (long long)set.size[1], (long long)set.reps,
           (long long)set.warm_up);
    good = run(ctx);
    kdas_context_destroy(ctx);
    return good ? EXIT_FINE : EXIT_FAILED;
}
