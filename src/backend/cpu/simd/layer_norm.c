/* layer_norm.c - LAYER_NORM over the last axis: y = (x - mean) / sqrt(var + eps) g + b, x (rows,C).
 *
 * saved: mean and 1/sqrt(var + eps) of each row, (rows,2). With h = (x - mean) r and e = dy g:
 *   dx = r (e - mean(e) - h mean(e h)),  dg = sum dy h,  db = sum dy. */
#include "backend/cpu/simd/simd.h"

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t C = node->in[0].dim[3];

    plan->saved         = floats(2 * row_count(&node->in[0]));
    plan->work_backward = 2 * floats(C) * (size_t)device->threads;
    return KDAS_OK;
}

INLINE void forward_row(const elem *x, const float *g, const float *b, elem *y, float *saved,
                        int64_t C, float eps)
{
    float mean = 0, var = 0, r;

#pragma omp simd reduction(+ : mean)
    for (int64_t c = 0; c < C; c++)
        mean += num(x[c]);
    mean /= (float)C;
#pragma omp simd reduction(+ : var)
    for (int64_t c = 0; c < C; c++)
        var += (num(x[c]) - mean) * (num(x[c]) - mean);
    r = 1.0f / sqrtf(var / (float)C + eps);
#pragma omp simd
    for (int64_t c = 0; c < C; c++)
        set(y[c], (num(x[c]) - mean) * r * g[c] + b[c]);
    saved[0] = mean;
    saved[1] = r;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const elem  *x = call->in[0];
    const float *g = call->in[1], *b = call->in[2];
    elem        *y     = call->out;
    float       *saved = call->saved;
    int64_t      rows = row_count(&call->node->out), C = call->node->out.dim[3];
    float        eps = ((const kdas_norm_attr *)call->node->attr)->eps;

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        forward_row(x + r * C, g, b, y + r * C, saved + 2 * r, C, eps);
    return KDAS_OK;
}

/* `dg`, `db`: sums of the part; `dx` may be NULL, or dy itself. */
INLINE void backward_row(const elem *x, const float *g, const elem *dy, const float *saved,
                         elem *dx, float *dg, float *db, int64_t C, bool add)
{
    float mean = saved[0], r = saved[1], m1 = 0, m2 = 0;

#pragma omp simd reduction(+ : m1, m2)
    for (int64_t c = 0; c < C; c++) {
        float d = num(dy[c]), h = (num(x[c]) - mean) * r, e = d * g[c];

        m1 += e;
        m2 += e * h;
        dg[c] += d * h;
        db[c] += d;
    }
    m1 /= (float)C;
    m2 /= (float)C;
    if (!dx) return;
    if (C == 1) { /* a value is its own mean: exactly 0, where r would magnify rounding */
        if (!add) set(dx[0], 0);
        return;
    }
    if (add)
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            set(dx[c], num(dx[c]) + r * (num(dy[c]) * g[c] - m1 - (num(x[c]) - mean) * r * m2));
    else
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            set(dx[c], r * (num(dy[c]) * g[c] - m1 - (num(x[c]) - mean) * r * m2));
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const elem  *x = call->in[0], *dy = call->dout;
    const float *g = call->in[1], *saved = call->saved;
    elem        *dx   = call->din[0];
    float       *sums = call->work;
    int64_t      rows = row_count(&call->node->out), C = call->node->out.dim[3];
    int64_t      ld    = (int64_t)(floats(C) / sizeof(float));
    int          parts = device->threads;

#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        float *dg = sums + 2 * t * ld, *db = dg + ld;

        memset(dg, 0, 2 * floats(C));
        for (int64_t r = PART(rows, t, parts); r < PART(rows, t + 1, parts); r++)
            backward_row(x + r * C, g, dy + r * C, saved + 2 * r, dx ? dx + r * C : NULL, dg, db, C,
                         adds(call, 0));
    }
    if (call->din[1]) add_parts(call->din[1], sums, C, 2 * ld, parts);
    if (call->din[2]) add_parts(call->din[2], sums + ld, C, 2 * ld, parts);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(layer_norm) = {
    .prepare  = prepare,
    .forward  = forward,
    .backward = backward,
};
