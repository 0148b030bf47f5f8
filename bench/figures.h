/* figures.h - the figures of kdas-bench: inference, a distillation step, and live frames. */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H
#include <kdas/kdas.h>
#include <stdbool.h>

/* The figures of --only, one row each; after each its profile, if that is wanted. */
bool run_figures(kdas_context *ctx);
#endif
