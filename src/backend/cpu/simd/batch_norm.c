/* batch_norm.c - BATCH_NORM, its halves MOMENTS and APPLY_MOMENTS, and STANDARDIZE over N,H,W for each channel of x (rows,C);
 * backend.h defines the statistics.
 *
 * saved: the mean and 1/sqrt(var + eps) that were used, (2,C), each padded to whole cache lines. The variance is two-pass
 * within a block of 64 rows, which stays in the cache: the block's mean first, then the squared distances from it. So x is
 * read from memory once for both. Sums are f32 within blocks and f64 over the blocks, so that rounding does not accumulate.
 * Backward, h = (x - mean) r, M rows: dg = sum dy h, db = sum dy, and
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

/* The scratch of a part: two rows of floats for a block, then two of doubles for all blocks. */
typedef struct scratch {
    float  *block_first, *block_second;
    double *first, *second;
} scratch;

static scratch scratch_of(void *work, int part, int64_t C)
{
    void   *at = (char *)work + (size_t)part * part_bytes(C);
    scratch s;

    s.block_first  = bump_alloc(&at, float_bytes(C));
    s.block_second = bump_alloc(&at, float_bytes(C));
    s.first        = bump_alloc(&at, double_bytes(C));
    s.second       = at;
    return s;
}

/* ---- statistics of x ---- */

/* Means and sums of squared distances of n values and of m more become those of all. */
INLINE void merge(double *mean, double *squares, double more_mean, double more_squares, double n,
                  double m)
{
    double d = more_mean - *mean;

    *mean += d * (m / (n + m));
    *squares += more_squares + d * d * (n * m / (n + m));
}

/* Mean and sum of squared distances of a block of rows. */
static void block_moments(const elem *x, int64_t rows, int64_t C, float *mean, float *squares)
{
    memset(mean, 0, (size_t)C * sizeof(float));
    memset(squares, 0, (size_t)C * sizeof(float));
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            mean[c] += num(x[i * C + c]);
#pragma omp simd
    for (int64_t c = 0; c < C; c++)
        mean[c] /= (float)rows;
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            squares[c] += (num(x[i * C + c]) - mean[c]) * (num(x[i * C + c]) - mean[c]);
}

/* The same of one part of the rows, to the doubles of its scratch. */
static void part_moments(const elem *x, int64_t begin, int64_t end, int64_t C, const scratch *s)
{
    memset(s->first, 0, (size_t)C * sizeof(double));
    memset(s->second, 0, (size_t)C * sizeof(double));
    for (int64_t r = begin; r < end; r += BLOCK) {
        int64_t m = end - r < BLOCK ? end - r : BLOCK;

        block_moments(x + r * C, m, C, s->block_first, s->block_second);
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            merge(&s->first[c], &s->second[c], s->block_first[c], s->block_second[c],
                  (double)(r - begin), (double)m);
    }
}

/* The same of all rows; the result is in the scratch of part 0. */
static scratch all_moments(const elem *x, int64_t rows, int64_t C, void *work, int parts)
{
    scratch all = scratch_of(work, 0, C);

#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        scratch s = scratch_of(work, t, C);

        part_moments(x, part_begin(rows, t, parts), part_begin(rows, t + 1, parts), C, &s);
    }
    for (int t = 1; t < parts; t++) {
        scratch s = scratch_of(work, t, C);
        int64_t n = part_begin(rows, t, parts), m = part_begin(rows, t + 1, parts) - n;

        for (int64_t c = 0; m && c < C; c++)
            merge(&all.first[c], &all.second[c], s.first[c], s.second[c], (double)n, (double)m);
    }
    return all;
}

/* ---- sums of the gradient ---- */

/* What is summed over rows for each channel: dy, and dy times (x - mean) r. `mean` NULL: times x. `dx`: then dy times
 * `scale` goes there, or is added; it may be the memory of dy. */
typedef struct sums {
    const elem  *x, *dy;
    const float *mean, *r;
    const float *scale;
    elem        *dx;
    bool         add;
} sums;

INLINE void add_row(const sums *s, int64_t row, int64_t C, float *first, float *second)
{
    const elem  *x = s->x + row * C, *dy = s->dy + row * C;
    const float *mean = s->mean, *r = s->r;

    if (mean)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            first[c] += num(dy[c]);
            second[c] += num(dy[c]) * (num(x[c]) - mean[c]) * r[c];
        }
    else
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            first[c] += num(dy[c]);
            second[c] += num(dy[c]) * num(x[c]);
        }
}

/* dx = dy scale. */
INLINE void scale_row(const sums *s, int64_t row, int64_t C)
{
    const elem  *dy    = s->dy + row * C;
    elem        *dx    = s->dx + row * C;
    const float *scale = s->scale;

    if (s->add)
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            set(dx[c], num(dx[c]) + num(dy[c]) * scale[c]);
    else
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            set(dx[c], num(dy[c]) * scale[c]);
}

/* Sums of one part of the rows into the doubles of its scratch. */
static void sum_part(const sums *s, int64_t begin, int64_t end, int64_t C, const scratch *to)
{
    memset(to->first, 0, (size_t)C * sizeof(double));
    memset(to->second, 0, (size_t)C * sizeof(double));
    for (int64_t r = begin; r < end; r += BLOCK) {
        memset(to->block_first, 0, (size_t)C * sizeof(float));
        memset(to->block_second, 0, (size_t)C * sizeof(float));
        for (int64_t i = r; i < r + BLOCK && i < end; i++) {
            add_row(s, i, C, to->block_first, to->block_second);
            if (s->dx) scale_row(s, i, C);
        }
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            to->first[c] += to->block_first[c];
            to->second[c] += to->block_second[c];
        }
    }
}

/* Sums over all rows; the result is in the scratch of part 0. */
static scratch sum_rows(const sums *s, int64_t rows, int64_t C, void *work, int parts)
{
    scratch all = scratch_of(work, 0, C);

#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        scratch to = scratch_of(work, t, C);

        sum_part(s, part_begin(rows, t, parts), part_begin(rows, t + 1, parts), C, &to);
    }
    for (int t = 1; t < parts; t++) {
        scratch from = scratch_of(work, t, C);

        for (int64_t c = 0; c < C; c++) {
            all.first[c] += from.first[c];
            all.second[c] += from.second[c];
        }
    }
    return all;
}

/* ---- BATCH_NORM ---- */

/* Batch statistics to mean and r; updates the running ones (state inputs 3 and 4). */
static void batch_statistics(kdas_device *device, const kdas_call *call, float *mean, float *r)
{
    const kdas_norm_attr *a = call->node->attr;
    int64_t               C = call->node->out.dim[3], rows = row_count(&call->node->out);
    float                *running_mean = call->in[3], *running_var = call->in[4];
    double                M   = (double)rows;
    scratch               all = all_moments(call->in[0], rows, C, call->work, device->threads);

    for (int64_t c = 0; c < C; c++) {
        double var = all.second[c] / M, unbiased = rows > 1 ? all.second[c] / (M - 1) : var;

        mean[c] = (float)all.first[c];
        r[c]    = (float)(1.0 / sqrt(var + a->eps));
        if (!isfinite(mean[c]) || !isfinite(unbiased)) continue;
        running_mean[c] = (1.0f - a->momentum) * running_mean[c] + a->momentum * mean[c];
        running_var[c]  = (1.0f - a->momentum) * running_var[c] + a->momentum * (float)unbiased;
    }
}

/* y = (x - mean) r g + b of one row; streamed: C is a multiple of LANES. */
INLINE void forward_row(const elem *x, elem *y, int64_t C, const float *mean, const float *r,
                        const float *g, const float *b, bool streamed)
{
    if (streamed)
        for (int64_t c = 0; c < C; c += LANES)
            stream(y + c, (load(x + c) - load(mean + c)) * load(r + c) * load(g + c) + load(b + c));
    else
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            set(y[c], (num(x[c]) - mean[c]) * r[c] * g[c] + b[c]);
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_norm_attr *a = call->node->attr;
    const elem           *x = call->in[0];
    const float          *g = call->in[1], *b = call->in[2], *var = call->in[4];
    int64_t               C = call->node->out.dim[3], rows = row_count(&call->node->out);
    elem                 *y    = call->out;
    float                *mean = call->saved, *r = mean + float_bytes(C) / sizeof(float);
    bool streamed = y != x && streams(device, y, C, (size_t)(rows * C) * sizeof *y);

    if (of_batch(call)) {
        batch_statistics(device, call, mean, r);
    } else {
        memcpy(mean, call->in[3], (size_t)C * sizeof(float));
        for (int64_t c = 0; c < C; c++)
            r[c] = 1.0f / sqrtf(var[c] + a->eps);
    }
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        for (int64_t i = part_begin(rows, t, device->threads);
             i < part_begin(rows, t + 1, device->threads); i++)
            forward_row(x + i * C, y + i * C, C, mean, r, g, b, streamed);
        stream_done();
    }
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
    float *shift = (float *)(work + part_bytes(C) * (size_t)device->threads), *slope = shift + ld;
    sums   s   = { .x = x, .dy = dy, .mean = mean, .r = r };
    bool   add = adds(call, 0);

    if (dg || db || of_batch(call)) {
        scratch all = sum_rows(&s, rows, C, work, device->threads);

        for (int64_t c = 0; c < C; c++) {
            shift[c] = (float)(all.first[c] / (double)rows);
            slope[c] = (float)(all.second[c] / (double)rows);
            if (dg) dg[c] += (float)all.second[c];
            if (db) db[c] += (float)all.first[c];
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

/* ---- MOMENTS: the mean, the biased variance and the number of values, (2C+1) ---- */

static kdas_status moments_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t C = node->in[0].dim[3];

    plan->work_forward  = part_bytes(C) * (size_t)device->threads;
    plan->work_backward = 2 * float_bytes(C);
    return KDAS_OK;
}

static kdas_status moments_forward(kdas_device *device, const kdas_call *call)
{
    int64_t C = call->node->in[0].dim[3], rows = row_count(&call->node->in[0]);
    float  *out = call->out;
    scratch all = all_moments(call->in[0], rows, C, call->work, device->threads);

    for (int64_t c = 0; c < C; c++) {
        out[c]     = (float)all.first[c];
        out[C + c] = (float)(all.second[c] / (double)rows);
    }
    out[2 * C] = (float)rows;
    return KDAS_OK;
}

/* dx = (dmean + 2 (x - mean) dvar) / rows. */
static kdas_status moments_backward(kdas_device *device, const kdas_call *call)
{
    int64_t      C = call->node->in[0].dim[3], rows = row_count(&call->node->in[0]);
    const elem  *x    = call->in[0];
    const float *mean = call->out, *dout = call->dout;
    elem        *dx    = call->din[0];
    float       *shift = call->work, *slope = shift + float_bytes(C) / sizeof(float);
    bool         add = adds(call, 0);

    (void)device;
    for (int64_t c = 0; c < C; c++) {
        shift[c] = dout[c] / (float)rows;
        slope[c] = 2.0f * dout[C + c] / (float)rows;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int64_t c = i * C; c < (i + 1) * C; c++) {
            int64_t k = c - i * C;
            float   d = shift[k] + (num(x[c]) - mean[k]) * slope[k];

            accumulate(dx[c], d, add);
        }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(moments) = {
    .prepare  = moments_prepare,
    .forward  = moments_forward,
    .backward = moments_backward,
};

/* ---- APPLY_MOMENTS ---- */

static kdas_status apply_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t C = node->in[0].dim[3];

    plan->work_forward  = float_bytes(C);
    plan->work_backward = part_bytes(C) * (size_t)device->threads + 2 * float_bytes(C);
    return KDAS_OK;
}

/* r = 1/sqrt(var + eps). */
static void reciprocals(const kdas_call *call, float *r)
{
    const kdas_norm_attr *a   = call->node->attr;
    int64_t               C   = call->node->out.dim[3];
    const float          *var = (const float *)call->in[1] + C;

    for (int64_t c = 0; c < C; c++)
        r[c] = (float)(1.0 / sqrt((double)var[c] + a->eps));
}

static void move_running(const kdas_call *call)
{
    const kdas_norm_attr *a    = call->node->attr;
    int64_t               C    = call->node->out.dim[3];
    const float          *mean = call->in[1], *var = mean + C;
    float                *running_mean = call->in[4], *running_var = call->in[5];
    double                M = mean[2 * C], by = M > 1 ? M / (M - 1) : 1;

    for (int64_t c = 0; c < C; c++) {
        double unbiased = var[c] * by;

        if (!isfinite(mean[c]) || !isfinite(unbiased)) continue;
        running_mean[c] = (1.0f - a->momentum) * running_mean[c] + a->momentum * mean[c];
        running_var[c]  = (1.0f - a->momentum) * running_var[c] + a->momentum * (float)unbiased;
    }
}

static kdas_status apply_forward(kdas_device *device, const kdas_call *call)
{
    const elem  *x    = call->in[0];
    const float *mean = call->in[1], *g = call->in[2], *b = call->in[3];
    int64_t      C = call->node->out.dim[3], rows = row_count(&call->node->out);
    elem        *y        = call->out;
    float       *r        = call->work;
    bool         streamed = y != x && streams(device, y, C, (size_t)(rows * C) * sizeof *y);

    reciprocals(call, r);
    if (of_batch(call)) move_running(call);
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        for (int64_t i = part_begin(rows, t, device->threads);
             i < part_begin(rows, t + 1, device->threads); i++)
            forward_row(x + i * C, y + i * C, C, mean, r, g, b, streamed);
        stream_done();
    }
    return KDAS_OK;
}

/* dx = g r dy, dmean = -g r db, dvar = -g r^2 dg / 2. */
static kdas_status apply_backward(kdas_device *device, const kdas_call *call)
{
    int64_t      C = call->node->out.dim[3], rows = row_count(&call->node->out);
    const float *mean = call->in[1], *g = call->in[2];
    float       *dm = call->din[1], *dg = call->din[2], *db = call->din[3];
    float       *r     = (float *)((char *)call->work + part_bytes(C) * (size_t)device->threads);
    float       *scale = r + float_bytes(C) / sizeof(float);
    sums         s     = { call->in[0], call->dout, mean, r, scale, call->din[0], adds(call, 0) };
    scratch      all;

    reciprocals(call, r);
    for (int64_t c = 0; c < C; c++)
        scale[c] = g[c] * r[c];
    all = sum_rows(&s, rows, C, call->work, device->threads);
    for (int64_t c = 0; c < C; c++) {
        if (dg) dg[c] += (float)all.second[c];
        if (db) db[c] += (float)all.first[c];
        if (!dm) continue;
        accumulate(dm[c], (float)(-all.first[c] * scale[c]), adds(call, 1));
        accumulate(dm[C + c], (float)(-0.5 * all.second[c] * scale[c] * r[c]), adds(call, 1));
    }
    if (dm) accumulate(dm[2 * C], 0.0f, adds(call, 1));
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(apply_moments) = {
    .prepare  = apply_prepare,
    .forward  = apply_forward,
    .backward = apply_backward,
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
    double                       M = (double)rows;
    scratch all                    = all_moments(call->in[0], rows, C, call->work, device->threads);

    for (int64_t c = 0; c < C; c++) {
        double deviation = rows > 1 ? sqrt(all.second[c] / (M - 1)) : 0;

        mean[c] = (float)all.first[c];
        r[c]    = (float)(1 / (deviation + a->eps));
        k[c]    = deviation > 0 ? (float)((deviation + a->eps) / ((M - 1) * deviation)) : 0;
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
    scratch      all   = sum_rows(&s, rows, C, call->work, device->threads);
    bool         add   = adds(call, 0);

    for (int64_t c = 0; c < C; c++) {
        shift[c] = (float)(all.first[c] / (double)rows);
        slope[c] = (float)(all.second[c] * (double)k[c]);
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
