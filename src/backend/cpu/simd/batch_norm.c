/* batch_norm.c - BATCH_NORM and STANDARDIZE over N,H,W for each channel of x (rows,C); backend.h defines the statistics.
 *
 * saved: the mean and 1/sqrt(var + eps) that were used, (2,C), each padded to whole cache lines. The variance is two-pass:
 * the mean first, then the squared distances from it. Sums over rows are f32 within blocks of 64 rows and f64 over the
 * blocks, so that rounding does not accumulate. Backward, h = (x - mean) r, M rows: dg = sum dy h, db = sum dy, and
 *   batch statistics: dx = g r (dy - (db + h dg) / M);  running ones: dx = g r dy. */
#include "backend/cpu/simd/simd.h"

enum { BLOCK = 64 };

static bool of_batch(const kdas_call *call) { return call->node->flags & KDAS_NODE_TRAIN; }

static size_t part_bytes(int64_t C) { return 2 * float_bytes(C) + 2 * double_bytes(C); }

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t C = node->in[0].dim[3];

    plan->saved         = 2 * float_bytes(C);
    plan->work_forward  = part_bytes(C) * (size_t)device->threads;
    plan->work_backward = part_bytes(C) * (size_t)device->threads + 2 * float_bytes(C);
    return KDAS_OK;
}

/* What is summed over rows for each channel: a first and a second quantity. */
typedef struct sums {
    const elem  *x, *dy;   /* dy NULL: forward                           */
    const float *mean, *r; /* mean NULL: the sum of x, or of dy and dy x */
} sums;

INLINE void add_row(const sums *s, int64_t row, int64_t C, float *first, float *second)
{
    const elem  *x = s->x + row * C, *dy = s->dy ? s->dy + row * C : NULL;
    const float *mean = s->mean, *r = s->r;

    if (dy && !mean)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            first[c] += num(dy[c]);
            second[c] += num(dy[c]) * num(x[c]);
        }
    else if (dy)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            first[c] += num(dy[c]);
            second[c] += num(dy[c]) * (num(x[c]) - mean[c]) * r[c];
        }
    else if (mean)
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            first[c] += (num(x[c]) - mean[c]) * (num(x[c]) - mean[c]);
    else
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            first[c] += num(x[c]);
}

/* Sums of one part of the rows into the doubles of its scratch. */
static void sum_part(const sums *s, int64_t begin, int64_t end, int64_t C, char *work)
{
    void   *at    = work;
    float  *first = bump_alloc(&at, float_bytes(C)), *second = bump_alloc(&at, float_bytes(C));
    double *all_first = bump_alloc(&at, double_bytes(C)), *all_second = at;

    memset(all_first, 0, 2 * double_bytes(C));
    for (int64_t r = begin; r < end; r += BLOCK) {
        memset(first, 0, 2 * float_bytes(C));
        for (int64_t i = r; i < r + BLOCK && i < end; i++)
            add_row(s, i, C, first, second);
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            all_first[c] += first[c];
            all_second[c] += second[c];
        }
    }
}

/* Sums over all rows; the result is in the scratch of part 0. */
static void sum_rows(const sums *s, int64_t rows, int64_t C, char *work, int parts, double **first,
                     double **second)
{
#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++)
        sum_part(s, part_begin(rows, t, parts), part_begin(rows, t + 1, parts), C,
                 work + (size_t)t * part_bytes(C));
    *first  = (double *)(work + 2 * float_bytes(C));
    *second = (double *)(work + 2 * float_bytes(C) + double_bytes(C));
    for (int t = 1; t < parts; t++) {
        const double *from = (const double *)((char *)*first + (size_t)t * part_bytes(C));

        for (int64_t c = 0; c < C; c++) {
            (*first)[c] += from[c];
            (*second)[c] += from[(int64_t)(double_bytes(C) / sizeof(double)) + c];
        }
    }
}

/* Batch statistics to mean and r; updates the running ones (state inputs 3 and 4). */
static void batch_statistics(kdas_device *device, const kdas_call *call, float *mean, float *r)
{
    const kdas_norm_attr *a = call->node->attr;
    int64_t               C = call->node->out.dim[3], rows = row_count(&call->node->out);
    float                *running_mean = call->in[3], *running_var = call->in[4];
    sums                  s = { .x = call->in[0] };
    double               *first, *second, M = (double)rows;

    sum_rows(&s, rows, C, call->work, device->threads, &first, &second);
    for (int64_t c = 0; c < C; c++)
        mean[c] = (float)(first[c] / M);
    s.mean = mean;
    sum_rows(&s, rows, C, call->work, device->threads, &first, &second);
    for (int64_t c = 0; c < C; c++) {
        double var = first[c] / M, unbiased = rows > 1 ? first[c] / (M - 1) : var;

        r[c] = (float)(1.0 / sqrt(var + a->eps));
        if (!isfinite(mean[c]) || !isfinite(unbiased)) continue;
        running_mean[c] = (1.0f - a->momentum) * running_mean[c] + a->momentum * mean[c];
        running_var[c]  = (1.0f - a->momentum) * running_var[c] + a->momentum * (float)unbiased;
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_norm_attr *a = call->node->attr;
    const elem           *x = call->in[0];
    const float          *g = call->in[1], *b = call->in[2], *var = call->in[4];
    int64_t               C = call->node->out.dim[3], rows = row_count(&call->node->out);
    elem                 *y    = call->out;
    float                *mean = call->saved, *r = mean + float_bytes(C) / sizeof(float);

    if (of_batch(call)) {
        batch_statistics(device, call, mean, r);
    } else {
        memcpy(mean, call->in[3], (size_t)C * sizeof(float));
        for (int64_t c = 0; c < C; c++)
            r[c] = 1.0f / sqrtf(var[c] + a->eps);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            set(y[i * C + c], (num(x[i * C + c]) - mean[c]) * r[c] * g[c] + b[c]);
    return KDAS_OK;
}

/* dx = scale (dy - shift - h slope); shift and slope are NULL with running statistics. */
INLINE void backward_row(const elem *x, const elem *dy, elem *dx, int64_t C, const float *mean,
                         const float *r, const float *g, const float *shift, const float *slope,
                         bool add)
{
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        float d = num(dy[c]);

        if (shift) d -= shift[c] + (num(x[c]) - mean[c]) * r[c] * slope[c];
        d *= g[c] * r[c];
        set(dx[c], add ? num(dx[c]) + d : d);
    }
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    int64_t      C = call->node->out.dim[3], rows = row_count(&call->node->out);
    int64_t      ld   = (int64_t)(float_bytes(C) / sizeof(float));
    const float *mean = call->saved, *r = mean + ld, *g = call->in[1];
    const elem  *x = call->in[0], *dy = call->dout;
    elem        *dx = call->din[0];
    float       *dg = call->din[1], *db = call->din[2];
    char        *work = call->work;
    float  *shift = (float *)(work + part_bytes(C) * (size_t)device->threads), *slope = shift + ld;
    sums    s = { x, dy, mean, r };
    double *sum_dy, *sum_dy_h;
    bool    add = adds(call, 0);

    if (dg || db || of_batch(call)) {
        sum_rows(&s, rows, C, work, device->threads, &sum_dy, &sum_dy_h);
        for (int64_t c = 0; c < C; c++) {
            shift[c] = (float)(sum_dy[c] / (double)rows);
            slope[c] = (float)(sum_dy_h[c] / (double)rows);
            if (dg) dg[c] += (float)sum_dy_h[c];
            if (db) db[c] += (float)sum_dy[c];
        }
    }
    if (!dx) return KDAS_OK;
    if (!of_batch(call)) shift = NULL;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        backward_row(x + i * C, dy + i * C, dx + i * C, C, mean, r, g, shift, slope, add);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(batch_norm) = {
    .prepare  = prepare,
    .forward  = forward,
    .backward = backward,
};

/* ---- STANDARDIZE ---- */

#ifndef KD_HALF
/* saved: r = 1/(deviation + eps) and k = (deviation + eps) / ((M - 1) deviation), (2,C). Backward needs y alone:
 * dx = r (dy - sum(dy) / M - y k sum(dy y)). */
static kdas_status standardize_prepare(kdas_device *device, const kdas_node_desc *node,
                                       kdas_plan *plan)
{
    int64_t C = node->in[0].dim[3];

    plan->saved         = 2 * float_bytes(C);
    plan->work_forward  = part_bytes(C) * (size_t)device->threads + float_bytes(C);
    plan->work_backward = part_bytes(C) * (size_t)device->threads + 2 * float_bytes(C);
    return KDAS_OK;
}

static void standardize_statistics(kdas_device *device, const kdas_call *call, float *mean)
{
    const kdas_standardize_attr *a = call->node->attr;
    int64_t                      C = call->node->out.dim[3], rows = row_count(&call->node->out);
    float                       *r = call->saved, *k = r + float_bytes(C) / sizeof(float);
    sums                         s = { .x = call->in[0] };
    double                      *first, *second, M = (double)rows;

    sum_rows(&s, rows, C, call->work, device->threads, &first, &second);
    for (int64_t c = 0; c < C; c++)
        mean[c] = (float)(first[c] / M);
    s.mean = mean;
    sum_rows(&s, rows, C, call->work, device->threads, &first, &second);
    for (int64_t c = 0; c < C; c++) {
        double deviation = rows > 1 ? sqrt(first[c] / (M - 1)) : 0;

        r[c] = (float)(1 / (deviation + a->eps));
        k[c] = deviation > 0 ? (float)((deviation + a->eps) / ((M - 1) * deviation)) : 0;
    }
}

static kdas_status standardize_forward(kdas_device *device, const kdas_call *call)
{
    int64_t      C = call->node->out.dim[3], rows = row_count(&call->node->out);
    const float *x = call->in[0], *r = call->saved;
    float       *y    = call->out;
    float       *mean = (float *)((char *)call->work + part_bytes(C) * (size_t)device->threads);

    standardize_statistics(device, call, mean);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            y[i * C + c] = (x[i * C + c] - mean[c]) * r[c];
    return KDAS_OK;
}

static kdas_status standardize_backward(kdas_device *device, const kdas_call *call)
{
    int64_t      C = call->node->out.dim[3], rows = row_count(&call->node->out);
    int64_t      ld = (int64_t)(float_bytes(C) / sizeof(float));
    const float *y = call->out, *dy = call->dout, *r = call->saved, *k = r + ld;
    float       *dx    = call->din[0];
    float       *shift = (float *)((char *)call->work + part_bytes(C) * (size_t)device->threads);
    float       *slope = shift + ld;
    sums         s     = { .x = y, .dy = dy };
    double      *sum_dy, *sum_dy_y;
    bool         add = adds(call, 0);

    sum_rows(&s, rows, C, call->work, device->threads, &sum_dy, &sum_dy_y);
    for (int64_t c = 0; c < C; c++) {
        shift[c] = (float)(sum_dy[c] / (double)rows);
        slope[c] = (float)(sum_dy_y[c] * (double)k[c]);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            float d = (dy[i * C + c] - shift[c] - y[i * C + c] * slope[c]) * r[c];

            dx[i * C + c] = add ? dx[i * C + c] + d : d;
        }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(standardize) = {
    .prepare  = standardize_prepare,
    .forward  = standardize_forward,
    .backward = standardize_backward,
};
#endif
