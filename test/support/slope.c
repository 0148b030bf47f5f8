/* slope.c - see slope.h. */
#include "support/slope.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "support/check_util.h"

enum { OUTPUTS = 4 };

float *kd_test_values(const kdas_model *m, const char *name, int64_t *count)
{
    int32_t i = kdas_model_find(m, name);
    int64_t dims[4];
    float  *v;

    ck_assert_msg(i >= 0, "there is no %s", name);
    kdas_model_tensor(m, i, NULL, dims, NULL);
    *count = dims[0] * dims[1] * dims[2] * dims[3];
    v      = malloc((size_t)*count * sizeof *v);
    kd_assert_ok(kdas_model_read(m, i, v));
    return v;
}

/* Forward; the sum, in double. weight[i] is drawn for output i. */
static double value_of(kdas_model *m, kdas_batch *b, float *weight[OUTPUTS])
{
    const char *name;
    int64_t     d[4];
    double      sum = 0;

    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, b));
    for (int i = 0; (name = kdas_model_output(m, i, d)); i++) {
        int64_t n   = d[0] * d[1] * d[2] * d[3];
        float  *map = malloc((size_t)n * sizeof *map);
        char    draw[16];

        ck_assert_int_lt(i, OUTPUTS);
        snprintf(draw, sizeof draw, "weight.%d", i);
        if (!weight[i]) {
            weight[i] = malloc((size_t)n * sizeof *map);
            kd_test_fill(weight[i], n, draw, 1e-2, 5e-3);
        }
        kd_assert_ok(kdas_model_read_output(m, name, map));
        for (int64_t k = 0; k < n; k++)
            sum += (double)map[k] * (double)weight[i][k];
        free(map);
    }
    return sum;
}

void kd_test_assert_slope(kdas_model *m, kdas_batch *b, const char *name, double apart)
{
    int64_t n;
    int32_t i = kdas_model_find(m, name);
    float  *v = kd_test_values(m, name, &n), *g = malloc((size_t)n * sizeof *g),
          *moved           = malloc((size_t)n * sizeof *g);
    float *weight[OUTPUTS] = { NULL };
    double squares         = 0, change[2], step;

    kd_assert_ok(kdas_model_zero_gradients(m));
    value_of(m, b, weight);
    kd_assert_ok(kdas_model_backward(m, (const float *const *)weight));
    kd_assert_ok(kdas_model_read_gradient(m, i, g));
    for (int64_t k = 0; k < n; k++)
        squares += (double)g[k] * (double)g[k];
    ck_assert_msg(squares > 0, "%s has no gradient", name);
    /* a small gradient needs a longer way to change the sum by more than its rounding */
    step = (squares < 0.1 ? 1e-3 : 3e-4) / sqrt(squares);
    for (int way = 0; way < 2; way++) {
        for (int64_t k = 0; k < n; k++)
            moved[k] = v[k] + (float)(way ? -step : step) * g[k];
        kd_assert_ok(kdas_model_write(m, i, moved));
        change[way] = value_of(m, b, weight);
    }
    kd_assert_ok(kdas_model_write(m, i, v));
    ck_assert_msg(fabs((change[0] - change[1]) / (2 * step * squares) - 1) < apart,
                  "%s: %g instead of %g", name, (change[0] - change[1]) / (2 * step), squares);
    for (int k = 0; k < OUTPUTS; k++)
        free(weight[k]);
    free(v);
    free(g);
    free(moved);
}
