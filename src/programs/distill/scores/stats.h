/* stats.h - what several seeds tell: mean and spread, differences between rows in pairs of
 * runs with the same seed, and whether one row is ahead. Plain C, nothing of the library.
 * docs/measuring.md has the rule. */
#ifndef PROGRAMS_STATS_H
#define PROGRAMS_STATS_H
#include <stdbool.h>
#include <stddef.h>

typedef struct spread {
    int    count;
    double mean;
    double deviation; /* standard deviation over count - 1; NaN of fewer than two values */
} spread;

/* Differences of two rows, seed by seed. */
typedef struct paired {
    spread difference;
    int    agree; /* how many of the differences have the sign of their mean */
} paired;

spread spread_of(const double *values, int count);
/* a[i] - b[i]; each pair has a seed of its own. */
paired paired_of(const double *a, const double *b, int count);
/* The quantile of Student's t for 95 %, both sides; `freedom` >= 1. Above 30 that of 30. */
double student_t(int freedom);
/* All differences have one sign, and their mean is above student_t(count - 1) standard errors.
 * Never of fewer than two pairs. */
bool paired_is_clear(const paired *p);

/* Rows to be compared: values are (rows,seeds), more is better. */
typedef struct contest {
    const char *const *names;
    const double      *values;
    int                rows, seeds;
    int                baseline; /* which row the others are compared with; below 0: none */
} contest;

/* The row of the largest mean. */
int contest_leader(const contest *c);
/* A sentence: which row is ahead of the baseline (without one, or where the baseline itself is
 * ahead: of the next row), and whether the seeds allow to say so. */
void contest_verdict(const contest *c, char *text, size_t size);
#endif
