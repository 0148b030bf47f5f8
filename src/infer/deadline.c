/* deadline.c - see deadline.h. */
#include "infer/deadline.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Nearest rank: the smallest of the recent values that `share` of them do not exceed. */
static double rank(const kd_deadline *d, const double *recent, double share)
{
    int    n = (int)KD_MIN(d->frames, KD_DEADLINE_FRAMES), at;
    double sorted[KD_DEADLINE_FRAMES];

    if (n == 0) return 0;
    memcpy(sorted, recent, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    at = (int)ceil(share * n);
    return sorted[KD_MIN(KD_MAX(at, 1), n) - 1];
}

double kd_deadline_estimate(const kd_deadline *d, double share) { return rank(d, d->whole, share); }

bool kd_deadline_may_repeat(const kd_deadline *d) { return d->seconds > 0 && d->in_row < d->limit; }

bool kd_deadline_hopeless(const kd_deadline *d)
{
    return d->frames >= KD_DEADLINE_LEAST && kd_deadline_estimate(d, 0.5) > d->seconds;
}

double kd_deadline_stop(const kd_deadline *d) { return d->seconds - rank(d, d->output, 0.5); }

static void add(kd_deadline *d, double whole, double output)
{
    int at = (int)(d->frames++ % KD_DEADLINE_FRAMES);

    d->whole[at]  = whole;
    d->output[at] = output;
}

/* A frame in time although half were not: what they say does not hold any more. */
void kd_deadline_computed(kd_deadline *d, double whole, double output)
{
    if (d->seconds > 0 && whole <= d->seconds && kd_deadline_hopeless(d)) kd_deadline_forget(d);
    add(d, whole, output);
    d->in_row = 0;
}

/* Its own time is not known: longer than the deadline. */
void kd_deadline_given_up(kd_deadline *d)
{
    add(d, nextafter(d->seconds, INFINITY), rank(d, d->output, 0.5));
    d->in_row++;
}

void kd_deadline_repeated(kd_deadline *d) { d->in_row++; }

void kd_deadline_forget(kd_deadline *d)
{
    d->frames = 0;
    d->in_row = 0;
}
