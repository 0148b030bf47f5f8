/* boundary.c - BOUNDARY: 1 + gain |box(y) - y|, box the window x window mean with zeros outside; y (N,H,W,C).
 *
 * Two running sums: down the columns, where a row enters and one leaves, then along the row. Each strip of rows starts its
 * own sums (f64): they stay short, and strips run in parallel. */
#include "backend/cpu/simd/simd.h"

enum { STRIP = 32 };

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    plan->work_forward =
        double_bytes(node->in[0].dim[2] * node->in[0].dim[3]) * (size_t)device->threads;
    return KDAS_OK;
}

/* column += sign * row, unless the row lies outside of the image */
static void slide(double *column, const float *image, int64_t row, int64_t H, int64_t n,
                  double sign)
{
    if (row < 0 || row >= H) return;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        column[i] += sign * image[row * n + i];
}

/* A row of outputs from the sums of its columns, (W,C). */
static void finish_row(const double *column, const float *y, float *out, int64_t W, int64_t C,
                       int64_t half, const kdas_boundary_attr *a)
{
    double area = (double)a->window * a->window;

    for (int64_t c = 0; c < C; c++) {
        double box = 0;

        for (int64_t x = 0; x < half && x < W; x++)
            box += column[x * C + c];
        for (int64_t x = 0; x < W; x++) {
            if (x + half < W) box += column[(x + half) * C + c];
            if (x > half) box -= column[(x - half - 1) * C + c];
            out[x * C + c] = (float)(1 + a->gain * fabs(box / area - y[x * C + c]));
        }
    }
}

static void strip(const kdas_node_desc *node, const float *image, float *out, int64_t first,
                  double *column)
{
    const kdas_boundary_attr *a = node->attr;
    int64_t H = node->in[0].dim[1], W = node->in[0].dim[2], C = node->in[0].dim[3], n = W * C;
    int64_t half = a->window / 2, end = first + STRIP < H ? first + STRIP : H;

    memset(column, 0, (size_t)n * sizeof(double));
    for (int64_t r = first - half; r < first + half; r++)
        slide(column, image, r, H, n, 1);
    for (int64_t y = first; y < end; y++) {
        slide(column, image, y + half, H, n, 1);
        finish_row(column, image + y * n, out + y * n, W, C, half, a);
        slide(column, image, y - half, H, n, -1);
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_desc *d    = &call->node->in[0];
    int64_t          size = image_numel(d), strips = ceil_div(d->dim[1], STRIP);
    int64_t          tasks = d->dim[0] * strips;
    const float     *y     = call->in[0];
    float           *out   = call->out;

#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        double *column =
            (double *)((char *)call->work + double_bytes(d->dim[2] * d->dim[3]) * (size_t)t);

        for (int64_t i = part_begin(tasks, t, device->threads);
             i < part_begin(tasks, t + 1, device->threads); i++)
            strip(call->node, y + i / strips * size, out + i / strips * size, i % strips * STRIP,
                  column);
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(boundary) = { .prepare = prepare, .forward = forward };
