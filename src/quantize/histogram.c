/* histogram.c - see histogram.h. */
#include "quantize/histogram.h"
#include <math.h>
#include <string.h>

void kd_histogram_clear(kd_histogram *h)
{
    memset(h, 0, sizeof *h);
    h->low  = INFINITY;
    h->high = -INFINITY;
}

/* Two bins become one, on both sides of 0. */
static void double_reach(kd_histogram *h)
{
    uint64_t half[KD_BINS / 2];

    for (int i = 0; i < KD_BINS / 2; i++)
        half[i] = h->bin[2 * i] + h->bin[2 * i + 1];
    memset(h->bin, 0, sizeof h->bin);
    memcpy(h->bin + KD_BINS / 4, half, sizeof half);
    h->reach *= 2;
}

/* The smallest power of two above `most`, at least the smallest normal number. */
static float reach_for(float most)
{
    int e;

    frexpf(most, &e);
    return ldexpf(1, KD_MAX(KD_MIN(e, 127), -100));
}

static void reach_to(kd_histogram *h, float most)
{
    float wanted = reach_for(most);

    if (most == 0) return;
    if (h->reach == 0) h->reach = wanted;
    while (h->reach < wanted)
        double_reach(h);
}

bool kd_histogram_add(kd_histogram *h, const float *x, int64_t n)
{
    float low = h->low, high = h->high, sum = 0, to_bin;

    for (int64_t i = 0; i < n; i++) {
        low  = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        sum += x[i] - x[i]; /* 0, but for NaN and infinities */
    }
    if (sum != 0) return false;
    h->low  = low;
    h->high = high;
    h->total += (uint64_t)n;
    if (n) reach_to(h, fmaxf(-low, high));
    to_bin = h->reach > 0 ? KD_BINS / 2 / h->reach : 0;
    for (int64_t i = 0; i < n; i++) {
        int b = (int)floorf(x[i] * to_bin) + KD_BINS / 2;

        if (x[i] == 0)
            h->zeros++;
        else
            h->bin[KD_MAX(0, KD_MIN(b, KD_BINS - 1))]++;
    }
    return true;
}

void kd_histogram_merge(kd_histogram *to, const kd_histogram *from)
{
    kd_histogram other = *from;

    if (!from->total) return;
    if (other.reach > to->reach && to->reach == 0) to->reach = other.reach;
    while (other.reach > 0 && to->reach < other.reach)
        double_reach(to);
    while (other.reach > 0 && other.reach < to->reach)
        double_reach(&other);
    to->low  = fminf(to->low, other.low);
    to->high = fmaxf(to->high, other.high);
    to->total += other.total;
    to->zeros += other.zeros;
    for (int i = 0; i < KD_BINS; i++)
        to->bin[i] += other.bin[i];
}

float kd_histogram_quantile(const kd_histogram *h, double q)
{
    double wanted = q * (double)h->total, before = 0;

    for (int i = 0; i < KD_BINS; i++) {
        double here = (double)h->bin[i] + (i == KD_BINS / 2 ? (double)h->zeros : 0);
        double left = (double)(i - KD_BINS / 2) * (h->reach / (KD_BINS / 2));

        if (here > 0 && before + here >= wanted) {
            double value = left + (wanted - before) / here * (h->reach / (KD_BINS / 2));

            return fminf(fmaxf((float)value, h->low), h->high);
        }
        before += here;
    }
    return h->high;
}
