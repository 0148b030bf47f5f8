/* grow.c - how time and memory grow with the batch and with the size of the image: both a pixel, against the best
 * of their kind. Every line has networks of its own; its time is the fastest run, which suffers least
 * from whatever else the machine does. */
#define KDAS_EXPERIMENTAL
#include "grow.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "settings.h"
#include "system/say.h"
#include "timing.h"
#include "work.h"

enum { MOST_LINES = 32 };

typedef struct line {
    int64_t count, side;
    double  seconds, arena, packed; /* arena, packed: bytes by the library's own account */
    bool    left_out;
} line;

/* Bytes that the system can still give, or a lot where it does not tell. */
static double memory_left(void)
{
    FILE  *f = fopen("/proc/meminfo", "r");
    char   text[128];
    double kib = 1e15;

    while (f && fgets(text, sizeof text, f))
        if (sscanf(text, "MemAvailable: %lf", &kib) == 1) break;
    if (f) fclose(f);
    return 1024 * kib;
}

static bool add_memory(line *l, kdas_model *model, kdas_mode mode)
{
    size_t arena, packed;

    if (!ok(kdas_model_memory(model, mode, l->count, l->side, l->side, &arena, &packed)))
        return false;
    l->arena += (double)arena;
    l->packed += (double)packed;
    return true;
}

static bool time_forward(line *l, kdas_context *ctx)
{
    kdas_model *student = NULL;
    kdas_batch *batch   = NULL;
    bool        good    = make_model(&student, ctx, set.student, false) &&
                make_batch(&batch, ctx, l->count, l->side, l->side);

    for (int64_t i = -set.warm_up; good && i < set.reps; i++) {
        double start = now(), took;

        good =
            ok(kdas_model_forward(student, KDAS_MODE_INFER, batch)) && ok(kdas_context_wait(ctx));
        took = now() - start;
        if (i >= 0 && (l->seconds == 0 || took < l->seconds)) l->seconds = took;
    }
    good = good && add_memory(l, student, KDAS_MODE_INFER);
    kdas_batch_destroy(batch);
    kdas_model_destroy(student);
    return good;
}

static bool time_step(line *l, kdas_context *ctx)
{
    trainer t    = { 0 };
    bool    good = make_model(&t.student, ctx, set.student, true) &&
                make_model(&t.teacher, ctx, set.teacher, false) &&
                trainer_open(&t, ctx, l->count, l->side, l->side);

    for (int64_t i = -set.warm_up; good && i < set.reps; i++) {
        double start = now(), took;

        good = ok(kdas_distiller_step(t.distiller, t.batch, NULL)) && ok(kdas_context_wait(ctx));
        took = now() - start;
        if (i >= 0 && (l->seconds == 0 || took < l->seconds)) l->seconds = took;
    }
    good = good && add_memory(l, t.student, KDAS_MODE_TRAIN) &&
           add_memory(l, t.teacher, KDAS_MODE_INFER);
    trainer_close(&t);
    kdas_model_destroy(t.teacher);
    kdas_model_destroy(t.student);
    return good;
}

static void print_lines(const char *what, const line *lines, int count)
{
    double best = 0, least = 0;

    for (int i = 0; i < count; i++) {
        double pixels = (double)(lines[i].count * lines[i].side * lines[i].side);

        if (lines[i].left_out) continue;
        if (best == 0 || lines[i].seconds / pixels < best) best = lines[i].seconds / pixels;
        if (least == 0 || lines[i].arena / pixels < least) least = lines[i].arena / pixels;
    }
    for (int i = 0; i < count; i++) {
        const line *l      = &lines[i];
        double      pixels = (double)(l->count * l->side * l->side);

        if (l->left_out) {
            printf("# %s of %lld at %lld left out: it would need more memory than there is\n", what,
                   (long long)l->count, (long long)l->side);
            continue;
        }
        printf("%s\t%lld\t%lld\t%.5f\t%.2f\t%.3f\t%.0f\t%.0f\t%.1f\t%.3f\n", what,
               (long long)l->count, (long long)l->side, l->seconds, 1e9 * l->seconds / pixels,
               l->seconds / pixels / best, l->packed / (1 << 20), l->arena / (1 << 20),
               l->arena / pixels, l->arena / pixels / least);
    }
    fflush(stdout);
}

/* Time all lines, smallest first. What a line will need is told by the one before; beyond half of what the
 * system can give, it is left out. */
static bool grow(kdas_context *ctx, const char *what, line *lines, int count,
                 bool (*run)(line *, kdas_context *))
{
    double a_pixel = 0;

    for (int i = 0; i < count; i++) {
        double pixels = (double)(lines[i].count * lines[i].side * lines[i].side);

        lines[i].left_out = a_pixel * pixels > memory_left() / 2;
        if (lines[i].left_out) continue;
        if (!run(&lines[i], ctx)) return false;
        a_pixel = (lines[i].arena + lines[i].packed) / pixels;
    }
    print_lines(what, lines, count);
    return true;
}

static bool over_batches(kdas_context *ctx, const char *what, bool (*run)(line *, kdas_context *))
{
    line lines[MOST_LINES] = { { 0 } };
    int  count             = 0;

    for (int64_t n = 1; n <= set.batch; n *= 2)
        lines[count++] = (line){ .count = n, .side = set.size[0] };
    return grow(ctx, what, lines, count, run);
}

/* About nine sides from 7/11 to twice --size: 224 to 704 of 352. */
static bool over_sizes(kdas_context *ctx, const char *what, int64_t images,
                       bool (*run)(line *, kdas_context *))
{
    line    lines[MOST_LINES] = { { 0 } };
    int64_t first = set.size[0] * 7 / 11 / 32 * 32, last = 2 * set.size[0], pace;
    int     count = 0;

    if (first < 32) first = 32;
    pace = ((last - first) / 8 + 16) / 32 * 32;
    if (pace < 32) pace = 32;
    for (int64_t side = first; side < last && count < MOST_LINES - 1; side += pace)
        lines[count++] = (line){ .count = images, .side = side };
    lines[count++] = (line){ .count = images, .side = last };
    return grow(ctx, what, lines, count, run);
}

bool run_growth(kdas_context *ctx)
{
    puts("# seconds: the fastest run. A pixel: of all images of a run. Times: of the best line of "
         "the "
         "table.\n"
         "# Arena and packed (weights in the kernels' layout): the library's own account; of a "
         "step, "
         "student and teacher.\n"
         "# figure\tbatch\tside\tseconds\tns/pixel\ttimes\tpacked MiB\tarena "
         "MiB\tarena B/pixel\ttimes");
    return over_batches(ctx, "infer_batch", time_forward) &&
           over_batches(ctx, "step_batch", time_step) &&
           over_sizes(ctx, "infer_size_b1", 1, time_forward) &&
           over_sizes(ctx, "infer_size_b2", 2, time_forward) &&
           over_sizes(ctx, "step_size_b2", 2, time_step);
}
