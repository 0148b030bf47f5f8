/* check_util.c - fill rule and comparisons of the tests. */
#include "support/check_util.h"
#include <check.h>
#include <kdas/base.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Written out here and not taken from the library, so that the tests do not share its mistakes. */
static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

static double draw(uint64_t hash, uint64_t i)
{
    uint64_t z = hash + (i + 1) * 0x9E3779B97F4A7C15u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z = z ^ (z >> 31);
    return 2.0 * (double)(z >> 11) / 9007199254740992.0 - 1.0;
}

double kd_test_unit(const char *name, uint64_t i) { return draw(name_hash(name), i); }

void kd_test_fill(float *out, int64_t n, const char *name, double scale, double shift)
{
    uint64_t hash = name_hash(name);

    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(shift + scale * draw(hash, (uint64_t)i));
}

void kd_test_ellipses(float *out, int64_t n, int64_t h, int64_t w, const char *name)
{
    for (int64_t b = 0; b < n; b++) {
        double cy = h * (0.5 + 0.2 * kd_test_unit(name, 4 * b));
        double cx = w * (0.5 + 0.2 * kd_test_unit(name, 4 * b + 1));
        double ry = h * (0.25 + 0.1 * kd_test_unit(name, 4 * b + 2));
        double rx = w * (0.25 + 0.1 * kd_test_unit(name, 4 * b + 3));

        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++, out++) {
                double dy = (y + 0.5 - cy) / ry, dx = (x + 0.5 - cx) / rx;
                *out = dy * dy + dx * dx <= 1;
            }
    }
}

void kd_test_to_nhwc(float *out, const float *in, int64_t n, int64_t c, int64_t h, int64_t w)
{
    for (int64_t b = 0; b < n; b++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t i = 0; i < h * w; i++)
                out[(b * h * w + i) * c + k] = in[(b * c + k) * h * w + i];
}

void kd_test_to_nchw(float *out, const float *in, int64_t n, int64_t c, int64_t h, int64_t w)
{
    for (int64_t b = 0; b < n; b++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t i = 0; i < h * w; i++)
                out[(b * c + k) * h * w + i] = in[(b * h * w + i) * c + k];
}

double kd_test_worst(const float *got, const float *want, int64_t n, double floor, int64_t *at)
{
    double worst = 0, largest = floor;

    if (at) *at = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);

        if (got[i] == want[i] || (isnan(got[i]) && isnan(want[i]))) d = 0; /* infinities, NaNs */
        if (isnan(d)) d = INFINITY;
        if (isfinite(want[i])) largest = fmax(largest, fabs(want[i]));
        if (d > worst) {
            worst = d;
            if (at) *at = i;
        }
    }
    return worst == 0 ? 0 : worst / largest;
}

double kd_test_rms_error(const float *got, const float *want, int64_t n)
{
    double error = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    return error == 0 ? 0 : sqrt(error / size);
}

bool kd_test_same_bits(const void *a, const void *b, size_t bytes)
{
    return bytes == 0 || memcmp(a, b, bytes) == 0;
}

void kd_test_assert_close(const float *got, const float *want, int64_t n, double tolerance,
                          const char *what, const char *file, int line)
{
    int64_t at;
    double  worst = kd_test_worst(got, want, n, 1e-30, &at);

    if (!(worst <= tolerance))
        ck_abort_msg("%s:%d: %s[%lld] is %.9g, not %.9g: error %.3g, allowed %.3g", file, line,
                     what, (long long)at, got[at], want[at], worst, tolerance);
}

void kd_test_assert_status(int got, int want, const char *what, const char *file, int line)
{
    if (got != want)
        ck_abort_msg("%s:%d: %s gave %s, not %s; the last error: %s", file, line, what,
                     kdas_status_name((kdas_status)got), kdas_status_name((kdas_status)want),
                     kdas_last_error());
}

void kd_test_assert_sentence(const char *part, const char *file, int line)
{
    if (!strstr(kdas_last_error(), part))
        ck_abort_msg("%s:%d: the error '%s' does not name '%s'", file, line, kdas_last_error(),
                     part);
}

const char *kd_test_shared(const char *name)
{
    static char path[512];
    struct stat info;

    snprintf(path, sizeof path, "../shared/%s", name);
    if (stat(path, &info) == 0) return path;
    printf("SKIP: %s is not here\n", path);
    return NULL;
}
