/* timing.h - seconds, memory, a row of the output, and work that is repeated. */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H
#include <stdbool.h>
#include <stdint.h>

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
#endif
