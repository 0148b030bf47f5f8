/* histogram.h - how often a tensor had which value, in memory of a fixed size, and the ranges that are
 * chosen from it. */
#ifndef KD_HISTOGRAM_H
#define KD_HISTOGRAM_H
#include <kdas/quantize.h>
#include "base/base.h"

/* An even number of bins from -reach to reach, a power of two that doubles when a value is larger: two
 * bins then become one. So the counts depend neither on the order of the values nor on batches. */
enum { KD_BINS = 8192 };

typedef struct kd_histogram {
    float    low, high; /* of all values; low > high: there are none */
    float    reach;     /* 0: all values were 0                        */
    uint64_t total, zeros;
    uint64_t bin[KD_BINS]; /* all but zeros */
} kd_histogram;

void kd_histogram_clear(kd_histogram *h);
/* False, with h undefined: a value is NaN or infinite. */
bool kd_histogram_add(kd_histogram *h, const float *x, int64_t n);
void kd_histogram_merge(kd_histogram *to, const kd_histogram *from);

/* The value below which the share `q` of all values lies, to a bin. */
float kd_histogram_quantile(const kd_histogram *h, double q);

typedef struct kd_range_rule {
    int32_t method; /* a kdas_range_method */
    float   percentile;
    float   floor; /* values below it count as it, and cost nothing; -INFINITY: none */
} kd_range_rule;

/* Choose a range. (range.c) */
void kd_choose_range(float range[2], const kd_histogram *h, const kd_range_rule *rule);
/* The sum of squares of what rounding to the grid of a range changes, and of the values. */
void kd_range_error(double *error, double *square, const kd_histogram *h, const float range[2],
                    float floor);
/* The share of values that the range cuts off: more than half a step beyond its grid's ends. */
double kd_range_clipped(const kd_histogram *h, const float range[2], float floor);

#endif
