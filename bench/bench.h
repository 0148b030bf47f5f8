/* bench.h - what the parts of kdas-bench share: its settings, timing, and the work that is timed. */
#ifndef BENCH_H
#define BENCH_H
#include <kdas/kdas.h>
#include <stdbool.h>
#include "arguments/context.h"
#include "system/say.h"

#define MAX_REPS 1000

typedef struct settings {
    const char *student, *teacher, *only, *frame_text, *profile_tsv;
    int64_t     batch, size[2], reps, warm_up;
    machine     machine;
    int64_t     frame[2]; /* height, width */
    bool        phases, profile, grow;
} settings;
extern settings set;

double now(void);
/* The middle of `values`, which are put in order. */
double median(double *values, int64_t n);
/* Most memory that this process ever had. */
double peak_mib(void);
void   print_row(const char *figure, double seconds, int64_t images);

/* A figure: work that is repeated. */
typedef struct figure {
    char    name[64];
    int64_t images; /* in one run                                                           */
    double  flop;   /* of one run's multiply-accumulates, two for each; 0: they are not told */
    bool (*run)(void *state);
    void *state;
} figure;

/* Settings that ask for a figure of this name. */
bool wanted(const char *name);
/* The figures of --only, one row each; after each its profile, if that is wanted. */
bool run_figures(kdas_context *ctx);

/* ---- what a step is made of ---- */

typedef struct trainer {
    kdas_model     *student, *teacher; /* the caller's */
    kdas_loss      *loss;
    kdas_optim     *optim;
    kdas_distiller *distiller;
    kdas_batch     *batch;
} trainer;
bool trainer_open(trainer *t, kdas_context *ctx, int64_t count, int64_t height, int64_t width);
void trainer_close(trainer *t);
/* A student for inference or for training, or a frozen teacher, of the settings' names. */
bool make_model(kdas_model **out, kdas_context *ctx, const char *name, bool trainable);
bool make_batch(kdas_batch **out, kdas_context *ctx, int64_t count, int64_t height, int64_t width);

/* ---- profile.c ---- */

/* Measure the machine in a process of its own, whose memory does not count here, and print it. Before the first
 * context of this process. */
bool profile_roofline(const kdas_context_options *options);
/* Open --profile-tsv; true if there is nothing to open. */
bool profile_open(void);
bool profile_close(void);
/* Run the figure with the profile on, and print its tables. `seconds`: of a run without. */
bool profile_figure(kdas_context *ctx, const figure *f, double seconds);

/* ---- grow.c ---- */

/* Time and memory a pixel, over batch sizes and over image sizes. */
bool run_growth(kdas_context *ctx);

#endif
