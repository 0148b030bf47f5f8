/* figures.c - the figures of kdas-bench: inference, a distillation step, and live frames. */
#include "figures.h"
#include "frames.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "profile_table.h"
#include "settings.h"
#include "system/say.h"
#include "system/streams.h"
#include "timing.h"
#include "work.h"

/* ---- Timing -------------------------------------------------------------------------------------- */

static bool time_figure(kdas_context *ctx, const figure *f)
{
    double seconds[MAX_REPS], middle;

    if (streams_lost() && !set.profile_tsv) return true; /* for nobody */
    for (int64_t i = -set.warm_up; i < set.reps; i++) {
        double start = now();

        if (!f->run(f->state)) return false;
        if (i >= 0) seconds[i] = now() - start;
    }
    middle = median(seconds, set.reps);
    print_row(f->name, middle, f->images);
    return !set.profile || profile_figure(ctx, f, middle);
}

/* Operations of an image of the size that is set, two for each multiply-accumulate. */
static bool flop_of(double *out, kdas_context *ctx, const char *name)
{
    if (!ok(kdas_model_cost(ctx, name, set.size[0], set.size[1], KDAS_COUNT_MACS, NULL, out)))
        return false;
    *out *= 2;
    return true;
}

/* ---- Inference ----------------------------------------------------------------------------------- */

typedef struct forward {
    kdas_context *ctx;
    kdas_model   *model;
    kdas_batch   *batch;
} forward;

static bool run_forward(void *state)
{
    const forward *f = state;

    return ok(kdas_model_forward(f->model, KDAS_MODE_INFER, f->batch)) &&
           ok(kdas_context_wait(f->ctx));
}

static bool infer(kdas_context *ctx, kdas_model *model, const char *name, const char *who,
                  int64_t count)
{
    forward state = { .ctx = ctx, .model = model };
    figure  f     = { .images = count, .run = run_forward, .state = &state };
    bool    good;

    snprintf(f.name, sizeof f.name, "infer_%s_b%lld", who, (long long)count);
    good = flop_of(&f.flop, ctx, name) &&
           make_batch(&state.batch, ctx, count, set.size[0], set.size[1]);
    f.flop *= (double)count;
    good = good && time_figure(ctx, &f);
    kdas_batch_destroy(state.batch);
    return good;
}

static bool infer_both(kdas_context *ctx, kdas_model *model, const char *name, const char *who)
{
    return infer(ctx, model, name, who, 1) &&
           (set.batch == 1 || infer(ctx, model, name, who, set.batch));
}

/* ---- The step ------------------------------------------------------------------------------------ */

enum { PHASES = 4 };

typedef struct stepping {
    kdas_context *ctx;
    trainer       t;
    double        seconds[PHASES][MAX_REPS]; /* of the last runs, a ring */
    int64_t       runs;
} stepping;

static bool run_step(void *state)
{
    stepping        *s      = state;
    kdas_step_report report = { .size = sizeof report };

    if (!ok(kdas_distiller_step(s->t.distiller, s->t.batch, &report)) ||
        !ok(kdas_context_wait(s->ctx)))
        return false;
    for (int k = 0; k < PHASES; k++)
        s->seconds[k][s->runs % set.reps] = report.seconds[k];
    s->runs++;
    return true;
}

static void print_phases(stepping *s)
{
    static const char *const name[PHASES] = { "  teacher", "  student_forward",
                                              "  objective_backward", "  update" };

    for (int k = 0; k < PHASES; k++)
        print_row(name[k], median(s->seconds[k], set.reps), set.batch);
}

static bool step(kdas_context *ctx, kdas_model *teacher, kdas_model *student)
{
    static stepping s;
    figure          f = { .images = set.batch, .run = run_step, .state = &s };
    double          of_student, of_teacher = 0;
    bool            good;

    s.ctx = ctx;
    s.t   = (trainer){ .student = student, .teacher = teacher };
    snprintf(f.name, sizeof f.name, "step_b%lld", (long long)set.batch);
    good = flop_of(&of_student, ctx, set.student) &&
           (!teacher || flop_of(&of_teacher, ctx, set.teacher));
    if (good) f.flop = (3 * of_student + of_teacher) * (double)set.batch;
    good = good && trainer_open(&s.t, ctx, set.batch, set.size[0], set.size[1]) &&
           time_figure(ctx, &f);
    if (good && set.phases) print_phases(&s);
    trainer_close(&s.t);
    return good;
}

/* ---- Live frames --------------------------------------------------------------------------------- */

typedef struct live {
    kdas_segmenter *segmenter;
    kdas_view       frame;
    uint8_t        *mask;
    forward         network;
} live;

static bool open_live(live *l, kdas_context *ctx, kdas_model *model)
{
    kdas_segmenter_options o;
    int64_t                pixels = set.frame[0] * set.frame[1];
    uint8_t               *rgb    = need((size_t)pixels * 3);

    for (int64_t i = 0; i < pixels * 3; i++) /* a soft pattern: nothing depends on it */
        rgb[i] = (uint8_t)(i / 3 % set.frame[1] / 8 + i / 3 / set.frame[1] / 4 + i % 3 * 40);
    l->frame = (kdas_view){
        .data = rgb, .width = set.frame[1], .height = set.frame[0], .pixel = KDAS_PIXEL_RGB8
    };
    l->mask = need((size_t)pixels);
    kdas_segmenter_options_init(&o, sizeof o);
    o.height         = set.size[0];
    o.width          = set.size[1];
    o.frame_height   = set.frame[0];
    o.frame_width    = set.frame[1];
    l->network.ctx   = ctx;
    l->network.model = model;
    return make_batch(&l->network.batch, ctx, 1, set.size[0], set.size[1]) &&
           ok(kdas_segmenter_create(&l->segmenter, model, &o));
}

/* Network and whole frame in turn, so that whatever else the machine does meets both alike. */
static bool frame(kdas_context *ctx, kdas_model *model)
{
    double seconds[2][MAX_REPS], middle[2];
    char   name[64];
    live   l    = { 0 };
    bool   good = open_live(&l, ctx, model);

    for (int64_t i = -set.warm_up; good && i < set.reps; i++) {
        double start = now(), between, end;

        good    = run_forward(&l.network);
        between = now();
        good    = good && ok(kdas_segmenter_mask(l.segmenter, &l.frame, l.mask, 0));
        end     = now();
        if (i < 0) continue;
        seconds[0][i] = between - start;
        seconds[1][i] = end - between;
    }
    if (good) {
        for (int k = 0; k < 2; k++)
            middle[k] = median(seconds[k], set.reps);
        print_row("frame_network", middle[0], 1);
        snprintf(name, sizeof name, "frame_%lldx%lld", (long long)set.frame[1],
                 (long long)set.frame[0]);
        print_row(name, middle[1], 1);
        printf("# %s takes %.3f times the network alone\n", name, middle[1] / middle[0]);
    }
    kdas_segmenter_destroy(l.segmenter);
    kdas_batch_destroy(l.network.batch);
    free((void *)l.frame.data);
    free(l.mask);
    return good;
}

/* ---- All ----------------------------------------------------------------------------------------- */

bool run_figures(kdas_context *ctx)
{
    kdas_model *student = NULL, *teacher = NULL;
    bool        of_student = wanted("infer") || wanted("student");
    bool        of_teacher = wanted("infer") || wanted("teacher");
    bool        good       = make_model(&student, ctx, set.student, wanted("step"));

    if (of_teacher || (wanted("step") && set.teacher))
        good = good && make_model(&teacher, ctx, set.teacher, false);
    if (of_student) good = good && infer_both(ctx, student, set.student, "student");
    if (of_teacher) good = good && infer_both(ctx, teacher, set.teacher, "teacher");
    if (wanted("frame")) good = good && frame(ctx, student);
    if (wanted("frames")) good = good && run_frames();
    if (wanted("step")) good = good && step(ctx, teacher, student);
    kdas_model_destroy(teacher);
    kdas_model_destroy(student);
    return good;
}
