/* random.c - draws that are a pure function of (seed, stream, counter), so that state
 * is two numbers. */
#include <math.h>
#include <string.h>
#include "base/base.h"

#define GOLDEN 0x9E3779B97F4A7C15u

uint64_t kd_mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t kd_hash_bytes(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t             h = 0xCBF29CE484222325u;

    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

uint64_t kd_hash64(const char *text) { return kd_hash_bytes(text, strlen(text)); }

kd_random kd_random_make(uint64_t seed, uint64_t stream)
{
    return (kd_random){ kd_mix64(seed + GOLDEN) ^ kd_mix64(stream * GOLDEN + 1), 0 };
}

uint64_t kd_random_u64(kd_random *r) { return kd_mix64(r->seed + ++r->counter * GOLDEN); }

double kd_random_unit(kd_random *r) { return (double)(kd_random_u64(r) >> 11) * 0x1p-53; }

double kd_random_between(kd_random *r, double low, double high)
{
    return low + (high - low) * kd_random_unit(r);
}

double kd_random_normal(kd_random *r) /* Box-Muller, one of the pair */
{
    double radius = sqrt(-2 * log(1 - kd_random_unit(r)));

    return radius * cos(6.283185307179586 * kd_random_unit(r));
}

int64_t kd_random_below(kd_random *r, int64_t n)
{
    return (int64_t)(((unsigned __int128)kd_random_u64(r) * (uint64_t)n) >> 64);
}
