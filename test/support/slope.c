/* slope.c - see slope.h. */
#include "support/slope.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include "support/check_util.h"

enum { MAPS = 16 };

static double value_of(kdas_model *m, kdas_batch *b, const float *weight)
{
    int64_t n   = kdas_batch_count(b) * kdas_batch_height(b) * kdas_batch_width(b);
    float  *map = malloc((size_t)n * sizeof *map);
    double  sum = 0;

    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, b));
    for (int32_t k = 0; k < kdas_model_maps(m); k++) {
        kd_assert_ok(kdas_model_read_output(m, kdas_model_output(m, k, NULL), map));
        for (int64_t i = 0; i < n; i++)
            sum += (double)map[i] * (double)weight[i];
    }
    free(map);
    return sum;
}

/* The gradient of a tensor, and the sum of its squares. */
static double gradient_of(kdas_model *m, kdas_batch *b, const float *weight, int32_t tensor,
                          float *g, int64_t n)
{
    const float *gradients[MAPS];
    double       squares = 0;

    ck_assert_int_le(kdas_model_maps(m), MAPS);
    for (int k = 0; k < MAPS; k++)
        gradients[k] = weight;
    kd_assert_ok(kdas_model_zero_gradients(m));
    value_of(m, b, weight);
    kd_assert_ok(kdas_model_backward(m, gradients));
    kd_assert_ok(kdas_model_read_gradient(m, tensor, g));
    for (int64_t k = 0; k < n; k++)
        squares += (double)g[k] * (double)g[k];
    return squares;
}

void kd_test_assert_slope(kdas_model *m, kdas_batch *b, const float *weight, const char *name,
                          double tolerance)
{
    int32_t i       = kdas_model_find(m, name);
    int64_t dims[4] = { 0 }, n;
    float  *v, *g, *moved;
    double  squares, step, change[2];

    ck_assert_msg(i >= 0, "there is no %s", name);
    kdas_model_tensor(m, i, NULL, dims, NULL);
    n     = dims[0] * dims[1] * dims[2] * dims[3];
    v     = malloc((size_t)n * sizeof *v);
    g     = malloc((size_t)n * sizeof *g);
    moved = malloc((size_t)n * sizeof *g);
    kd_assert_ok(kdas_model_read(m, i, v));
    squares = gradient_of(m, b, weight, i, g, n);
    ck_assert_msg(squares > 0, "%s has no gradient", name);
    step = 3e-4 / sqrt(squares);
    for (int way = 0; way < 2; way++) {
        for (int64_t k = 0; k < n; k++)
            moved[k] = v[k] + (float)(way ? -step : step) * g[k];
        kd_assert_ok(kdas_model_write(m, i, moved));
        change[way] = value_of(m, b, weight);
    }
    kd_assert_ok(kdas_model_write(m, i, v));
    ck_assert_msg(fabs((change[0] - change[1]) / (2 * step * squares) - 1) < tolerance,
                  "%s of %s: %g instead of %g", name, kdas_model_network(m),
                  (change[0] - change[1]) / (2 * step), squares);
    free(v);
    free(g);
    free(moved);
}
