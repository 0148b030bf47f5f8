/* noise.c - smooth noise, a row at a time, fast enough for a dozen octaves per picture. */
#include "scene/scene.h"
#include "base/plain_math.h"

/* Uniform cubic B-spline weights at t in [0,1) between the second and the third lattice value. */
static void spline(float t, float weight[4])
{
    float u = 1 - t;

    weight[0] = u * u * u * (1 / 6.0f);
    weight[1] = (4 + t * t * (3 * t - 6)) * (1 / 6.0f);
    weight[2] = (4 + u * u * (3 * u - 6)) * (1 / 6.0f);
    weight[3] = t * t * t * (1 / 6.0f);
}

void kd_noise_finish(kd_noise *noise, kdas_context *ctx)
{
    kd_free(ctx, noise->lattice);
    kd_free(ctx, noise->column);
    kd_free(ctx, noise->first);
    kd_free(ctx, noise->weight);
    *noise = (kd_noise){ 0 };
}

kdas_status kd_noise_init(kd_noise *noise, kdas_context *ctx, uint64_t seed, float cells,
                          const kd_scene *scene)
{
    *noise         = (kd_noise){ .width = scene->width, .step = cells / scene->side };
    noise->columns = (int64_t)((float)scene->width * noise->step) + 5;
    noise->rows    = (int64_t)((float)scene->height * noise->step) + 5;
    noise->lattice = kd_alloc(ctx, (size_t)(noise->rows * noise->columns) * sizeof(float));
    noise->column  = kd_alloc(ctx, (size_t)noise->columns * sizeof(float));
    noise->first   = kd_alloc(ctx, (size_t)noise->width * sizeof(int32_t));
    noise->weight  = kd_alloc(ctx, (size_t)noise->width * 4 * sizeof(float));
    if (!noise->lattice || !noise->column || !noise->first || !noise->weight) {
        kd_noise_finish(noise, ctx);
        return KDAS_ENOMEM;
    }
    /* A value depends on its position alone, so a wider picture extends a narrower one. */
    for (int64_t y = 0; y < noise->rows; y++)
        for (int64_t x = 0; x < noise->columns; x++) {
            uint64_t bits = kd_mix64(seed ^ kd_mix64((uint64_t)y << 32 | (uint64_t)x));

            noise->lattice[y * noise->columns + x] = (float)(int32_t)(bits >> 32) * 0x1p-31f;
        }
    for (int64_t x = 0; x < noise->width; x++) {
        float at = ((float)x + 0.5f) * noise->step;

        noise->first[x] = (int32_t)at;
        spline(at - (float)noise->first[x], noise->weight + 4 * x);
    }
    return KDAS_OK;
}

void kd_noise_row(kd_noise *noise, int64_t y, float amount, float *row)
{
    float        at  = ((float)y + 0.5f) * noise->step, w[4];
    int64_t      top = (int64_t)at, n = noise->columns;
    const float *below = noise->lattice + top * n;

    spline(at - (float)top, w);
    for (int64_t x = 0; x < n; x++)
        noise->column[x] = amount * (w[0] * below[x] + w[1] * below[n + x] +
                                     w[2] * below[2 * n + x] + w[3] * below[3 * n + x]);
    for (int64_t x = 0; x < noise->width; x++) {
        const float *v = noise->column + noise->first[x], *h = noise->weight + 4 * x;

        row[x] += h[0] * v[0] + h[1] * v[1] + h[2] * v[2] + h[3] * v[3];
    }
}
