/* grow.h - how time and memory grow with the batch and with the size of the image. */
#ifndef BENCH_GROW_H
#define BENCH_GROW_H
#include <kdas/kdas.h>
#include <stdbool.h>

/* Time and memory a pixel, over batch sizes and over image sizes. */
bool run_growth(kdas_context *ctx);
#endif
