/* batch_norm.cu - BATCH_NORM over N,H,W for each channel of x (rows,C), and STANDARDIZE at the end.
 *
 * saved: the mean and r = 1/sqrt(var + eps) that were used, (2,C). Backward, with h = (x - mean) r and M rows:
 * dg = sum dy h, db = sum dy, and
 *   batch statistics: dx = g r (dy - (db + h dg) / M);  running ones: dx = g r dy.
 * Sums over rows are made in parts, see columns.cu: blocks of 32 columns by 8 rows, then a warp for each channel. A part has
 * its mean and its sum of squared distances, which are combined by the parallel formula (Chan et al.). Sums of x and of x x
 * would cancel where the mean is large. */
#include "backend/cuda/wide.h"

enum { LANES = 8 }; /* rows of a block */

/* ---- batch statistics ---- */

/* Statistics of a part, from the rows of one thread: every eighth. Distances from the first of them are small enough to be
 * squared and summed. */
KERNEL(batch_norm_parts)
(const elem *x, float *part_mean, float *part_square, int64_t rows, int64_t C, int64_t part_rows)
{
    __shared__ float means[LANES][33], squares[LANES][33];
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32;
    int64_t          c = (int64_t)blockIdx.x * 32 + lane, first = (int64_t)blockIdx.y * part_rows;
    int64_t          end  = first + part_rows < rows ? first + part_rows : rows;
    float            base = 0, sum = 0, square = 0, mean = 0, n = 0;

    if (c < C && first + row < end) base = num(x[(first + row) * C + c]);
    for (int64_t r = first + row; c < C && r < end; r += LANES) {
        float d = num(x[r * C + c]) - base;

        sum += d;
        square += d * d;
        n += 1;
    }
    if (n > 0) {
        mean = base + sum / n;
        square -= sum * sum / n;
        if (square < 0) square = 0;
    }
    means[row][lane]   = mean;
    squares[row][lane] = square;
    __syncthreads();
    if (row > 0 || c >= C) return;
    mean = square = 0;
    for (int i = 0; i < LANES; i++)
        mean += means[i][lane] * (float)((end - first - i + LANES - 1) / LANES);
    mean /= (float)(end - first);
    for (int i = 0; i < LANES; i++) {
        float d = means[i][lane] - mean;

        square += squares[i][lane] + d * d * (float)((end - first - i + LANES - 1) / LANES);
    }
    part_mean[blockIdx.y * C + c]   = mean;
    part_square[blockIdx.y * C + c] = square;
}

static __device__ __forceinline__ float rows_in(int64_t p, int64_t rows, int64_t part_rows)
{
    return (float)((p + 1) * part_rows < rows ? part_rows : rows - p * part_rows);
}

/* Combine the parts of channel c to the mean and the sum of squared distances, by a warp; every thread gets both. */
static __device__ __forceinline__ void combine_parts(float *mean, float *square,
                                                     const float *part_mean,
                                                     const float *part_square, int64_t c,
                                                     int64_t rows, int64_t C, int64_t part_rows)
{
    int64_t count = (rows + part_rows - 1) / part_rows;

    *mean = *square = 0;
    EACH_IN_ROW(p, count, 32) *mean += part_mean[p * C + c] * rows_in(p, rows, part_rows);
    *mean = warp_sum(*mean) / (float)rows;
    EACH_IN_ROW(p, count, 32)
    {
        float d = part_mean[p * C + c] - *mean;

        *square += part_square[p * C + c] + d * d * rows_in(p, rows, part_rows);
    }
    *square = warp_sum(*square);
}

/* Statistics of all parts, to saved. The running statistics are updated unless these are not finite: one bad batch must not
 * spoil the model. */
KERNEL(batch_norm_statistics)
(const float *part_mean, const float *part_square, float *saved, float *running_mean,
 float *running_var, int64_t rows, int64_t C, int64_t part_rows, float eps, float momentum)
{
    EACH_ROW_BY(c, C, 32)
    {
        float mean, square, unbiased;

        combine_parts(&mean, &square, part_mean, part_square, c, rows, C, part_rows);
        if (threadIdx.x % 32 > 0) continue;
        unbiased     = square / (float)(rows > 1 ? rows - 1 : 1);
        saved[c]     = mean;
        saved[C + c] = 1.0f / sqrtf(square / (float)rows + eps);
        if (mean - mean != 0 || unbiased - unbiased != 0) continue;
        running_mean[c] = (1.0f - momentum) * running_mean[c] + momentum * mean;
        running_var[c]  = (1.0f - momentum) * running_var[c] + momentum * unbiased;
    }
}

KERNEL(batch_norm_constants)
(const float *mean, const float *var, float *saved, int64_t C, float eps)
{
    EACH(c, C)
    {
        saved[c]     = mean[c];
        saved[C + c] = 1.0f / sqrtf(var[c] + eps);
    }
}

/* ---- y ---- */

static __device__ __forceinline__ void apply(const elem *x, elem *y, const float *saved,
                                             const float *g, const float *b, int64_t rows,
                                             int64_t C, const int width)
{
    cell at   = cell_of(rows, C, width);
    quad mean = { { 0, 0, 0, 0 } }, slope = mean, shift = mean, gain;

    if (at.r < rows) {
        mean  = load_f(saved + at.c, width);
        slope = load_f(saved + C + at.c, width);
    }
    if (at.r < rows && g) { /* else 1 and 0 */
        gain  = load_f(g + at.c, width);
        shift = load_f(b + at.c, width);
        EACH_VALUE(k, width) slope.v[k] *= gain.v[k];
    }
    EACH_ROW(r, at, rows)
    {
        quad v = load(x + r * C + at.c, width);

        EACH_VALUE(k, width) v.v[k] = (v.v[k] - mean.v[k]) * slope.v[k] + shift.v[k];
        store(y + r * C + at.c, v, width);
    }
}

KERNEL(batch_norm_apply)
(const elem *x, elem *y, const float *saved, const float *g, const float *b, int64_t rows,
 int64_t C, int width)
{
    DISPATCH_WIDTH(width, apply, x, y, saved, g, b, rows, C);
}

/* ---- gradients ---- */

/* Sums of dy and of dy h over a part. */
KERNEL(batch_norm_sums)
(const elem *x, const elem *dy, const float *saved, float *part_b, float *part_g, int64_t rows,
 int64_t C, int64_t part_rows)
{
    __shared__ float sums_b[LANES][33], sums_g[LANES][33];
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32;
    int64_t          c = (int64_t)blockIdx.x * 32 + lane, first = (int64_t)blockIdx.y * part_rows;
    int64_t          end  = first + part_rows < rows ? first + part_rows : rows;
    float            mean = c < C ? saved[c] : 0, b = 0, g = 0;

    for (int64_t r = first + row; c < C && r < end; r += LANES) {
        float d = num(dy[r * C + c]);

        b += d;
        g += d * (num(x[r * C + c]) - mean);
    }
    sums_b[row][lane] = b;
    sums_g[row][lane] = g;
    __syncthreads();
    if (row > 0 || c >= C) return;
    for (int i = 1; i < LANES; i++) {
        b += sums_b[i][lane];
        g += sums_g[i][lane];
    }
    part_b[blockIdx.y * C + c] = b;
    part_g[blockIdx.y * C + c] = g * saved[C + c];
}

/* db += sum dy, dg += sum dy h; means (2,C) of both. */
KERNEL(batch_norm_gradients)
(const float *part_b, const float *part_g, float *means, float *db, float *dg, int64_t rows,
 int64_t C, int64_t count)
{
    EACH_ROW_BY(c, C, 32)
    {
        float b = 0, g = 0;

        EACH_IN_ROW(p, count, 32)
        {
            b += part_b[p * C + c];
            g += part_g[p * C + c];
        }
        b = warp_sum(b);
        g = warp_sum(g);
        if (threadIdx.x % 32 > 0) continue;
        means[c]     = b / (float)rows;
        means[C + c] = g / (float)rows;
        if (db) db[c] += b;
        if (dg) dg[c] += g;
    }
}

/* `means` NULL: the statistics are constants. */
static __device__ __forceinline__ void backward_dx(const elem *x, const elem *dy, elem *dx,
                                                   const float *saved, const float *g,
                                                   const float *means, int64_t rows, int64_t C,
                                                   int add, const int width)
{
    cell at   = cell_of(rows, C, width);
    quad mean = { { 0, 0, 0, 0 } }, slope = mean, shift = mean, bend = mean, r_of = mean;

    if (at.r < rows) {
        r_of = slope = load_f(saved + C + at.c, width);
    }
    if (at.r < rows && g) { /* else 1 */
        slope = load_f(g + at.c, width);
        EACH_VALUE(k, width) slope.v[k] *= r_of.v[k];
    }
    if (at.r < rows && means) {
        mean  = load_f(saved + at.c, width);
        shift = load_f(means + at.c, width);
        bend  = load_f(means + C + at.c, width);
        EACH_VALUE(k, width) bend.v[k] *= r_of.v[k];
    }
    EACH_ROW(r, at, rows)
    {
        quad d = load(dy + r * C + at.c, width), v;

        if (means) {
            v = load(x + r * C + at.c, width);
            EACH_VALUE(k, width) d.v[k] -= shift.v[k] + (v.v[k] - mean.v[k]) * bend.v[k];
        }
        EACH_VALUE(k, width) d.v[k] *= slope.v[k];
        accumulate_quad(dx + r * C + at.c, d, add, width);
    }
}

KERNEL(batch_norm_backward)
(const elem *x, const elem *dy, elem *dx, const float *saved, const float *g, const float *means,
 int64_t rows, int64_t C, int add, int width)
{
    DISPATCH_WIDTH(width, backward_dx, x, dy, dx, saved, g, means, rows, C, add);
}

/* ---- MOMENTS and APPLY_MOMENTS: the halves of a batch norm ---- */

/* out (2C+1): means, biased variances, and how many values. */
KERNEL(moments_of_parts)
(const float *part_mean, const float *part_square, float *out, int64_t rows, int64_t C,
 int64_t part_rows)
{
    EACH_ROW_BY(c, C, 32)
    {
        float mean, square;

        combine_parts(&mean, &square, part_mean, part_square, c, rows, C, part_rows);
        if (threadIdx.x % 32 > 0) continue;
        out[c]     = mean;
        out[C + c] = square / (float)rows;
        if (c == 0) out[2 * C] = (float)rows;
    }
}

/* dx = (dmean + 2 (x - mean) dvar) / rows. */
KERNEL(moments_gradient)
(const elem *x, elem *dx, const float *moments, const float *dout, int64_t rows, int64_t C, int add)
{
    float share = 1.0f / (float)rows;

    EACH(i, rows * C)
    {
        int64_t c = i - over(i, C) * C;
        float   d = (dout[c] + 2.0f * (num(x[i]) - moments[c]) * dout[C + c]) * share;

        accumulate(&dx[i], d, add);
    }
}

/* saved (2,C): the means, and r = 1/sqrt(var + eps). The running statistics, NULL where they stay, follow those that are
 * finite. */
KERNEL(moments_constants)
(const float *moments, float *saved, float *running_mean, float *running_var, int64_t C, float eps,
 float momentum)
{
    float count = moments[2 * C], by = count > 1 ? count / (count - 1) : 1;

    EACH(c, C)
    {
        float mean = moments[c], unbiased = moments[C + c] * by;

        saved[c]     = mean;
        saved[C + c] = 1.0f / sqrtf(moments[C + c] + eps);
        if (!running_mean || mean - mean != 0 || unbiased - unbiased != 0) continue;
        running_mean[c] = (1.0f - momentum) * running_mean[c] + momentum * mean;
        running_var[c]  = (1.0f - momentum) * running_var[c] + momentum * unbiased;
    }
}

/* dmean = -g r sum(dy), dvar = -g r^2 sum(dy h) / 2, of the means over rows that batch_norm_gradients has made. */
KERNEL(apply_moments_gradients)
(const float *means, const float *saved, const float *g, float *dm, int64_t rows, int64_t C,
 int add)
{
    EACH(c, C)
    {
        float r = saved[C + c], slope = -g[c] * r * (float)rows;
        float dmean = slope * means[c], dvar = 0.5f * slope * r * means[C + c];

        dm[c]     = add ? dm[c] + dmean : dmean;
        dm[C + c] = add ? dm[C + c] + dvar : dvar;
        if (c == 0 && !add) dm[2 * C] = 0;
    }
}

/* ---- STANDARDIZE: f32 alone ---- */

#if !defined KD_TYPE_f16 && !defined KD_TYPE_bf16

/* saved (3,C): the mean, r = 1 / (deviation + eps) and k = (deviation + eps) / ((M - 1) deviation). Backward:
 * dx = r (dy - sum(dy) / M - y k sum(dy y)), where y = (x - mean) r. */
KERNEL(standardize_statistics)
(const float *part_mean, const float *part_square, float *saved, int64_t rows, int64_t C,
 int64_t part_rows, float eps)
{
    EACH_ROW_BY(c, C, 32)
    {
        float mean, square, deviation;

        combine_parts(&mean, &square, part_mean, part_square, c, rows, C, part_rows);
        if (threadIdx.x % 32 > 0) continue;
        deviation        = rows > 1 ? sqrtf(square / (float)(rows - 1)) : 0;
        saved[c]         = mean;
        saved[C + c]     = 1.0f / (deviation + eps);
        saved[2 * C + c] = 0;
        if (deviation > 0) saved[2 * C + c] = (deviation + eps) / ((float)(rows - 1) * deviation);
    }
}

/* shift (C) = sum(dy) / M, bend (C) = k sum(dy y). */
KERNEL(standardize_gradients)
(const float *part_b, const float *part_g, const float *saved, float *shift, float *bend,
 int64_t rows, int64_t C, int64_t count)
{
    EACH_ROW_BY(c, C, 32)
    {
        float b = 0, g = 0;

        EACH_IN_ROW(p, count, 32)
        {
            b += part_b[p * C + c];
            g += part_g[p * C + c];
        }
        b = warp_sum(b);
        g = warp_sum(g);
        if (threadIdx.x % 32 > 0) continue;
        shift[c] = b / (float)rows;
        bend[c]  = g * saved[2 * C + c];
    }
}

#endif

#ifdef KD_HOST

static bool of_batch(const kdas_node_desc *node) { return node->flags & KDAS_NODE_TRAIN; }

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t C     = node->out.dim[3];
    size_t  parts = 2 * kd_cuda_parts_bytes(rows_of(&node->out), C);

    (void)device;
    plan->saved = 2 * (size_t)C * sizeof(float);
    if (of_batch(node)) plan->work_forward = parts;
    plan->work_backward = parts + plan->saved;
    return KDAS_OK;
}

static dim3 parts_grid(int64_t rows, int64_t C)
{
    return dim3((unsigned)KD_CEIL(C, 32), (unsigned)kd_cuda_parts(rows));
}

static kdas_status batch_statistics(kdas_device *device, const kdas_call *call)
{
    const kdas_norm_attr *a    = (const kdas_norm_attr *)call->node->attr;
    int64_t               rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int64_t               part_rows = kd_cuda_part_rows(rows);
    float                *means = (float *)call->work, *squares = means + kd_cuda_parts(rows) * C;

    KD_RETURN(LAUNCH(device, batch_norm_parts, parts_grid(rows, C), KD_BLOCK,
                     (const elem *)call->in[0], means, squares, rows, C, part_rows));
    return LAUNCH_ROWS(device, batch_norm_statistics, C, 32, means, squares, (float *)call->saved,
                       (float *)call->in[3], (float *)call->in[4], rows, C, part_rows, a->eps,
                       a->momentum);
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_norm_attr *a = (const kdas_norm_attr *)call->node->attr;
    const elem           *x = (const elem *)call->in[0];
    const float          *g = (const float *)call->in[1], *b = (const float *)call->in[2];
    int64_t               rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int width = KD_MIN(width_of(C, x, call->out, NULL, NULL), width_of(C, call->saved, g, b, NULL));

    if (of_batch(call->node))
        KD_RETURN(batch_statistics(device, call));
    else
        KD_RETURN(LAUNCH_EACH(device, batch_norm_constants, C, (const float *)call->in[3],
                              (const float *)call->in[4], (float *)call->saved, C, a->eps));
    return LAUNCH_MATRIX(device, batch_norm_apply, rows, C, width, x, (elem *)call->out,
                         (const float *)call->saved, g, b, rows, C, width);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const elem  *x = (const elem *)call->in[0], *dy = (const elem *)call->dout;
    const float *g = (const float *)call->in[1], *saved = (const float *)call->saved;
    float       *dg = (float *)call->din[1], *db = (float *)call->din[2];
    int64_t      rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int64_t      count = kd_cuda_parts(rows);
    float       *means = (float *)call->work, *part_b = means + 2 * C, *part_g = part_b + count * C;
    int  width = KD_MIN(width_of(C, x, dy, call->din[0], NULL), width_of(C, saved, g, means, NULL));
    bool varies = of_batch(call->node);

    if (dg || db || varies) {
        KD_RETURN(LAUNCH(device, batch_norm_sums, parts_grid(rows, C), KD_BLOCK, x, dy, saved,
                         part_b, part_g, rows, C, kd_cuda_part_rows(rows)));
        KD_RETURN(LAUNCH_ROWS(device, batch_norm_gradients, C, 32, (const float *)part_b,
                              (const float *)part_g, means, db, dg, rows, C, count));
    }
    if (!call->din[0]) return KDAS_OK;
    return LAUNCH_MATRIX(device, batch_norm_backward, rows, C, width, x, dy, (elem *)call->din[0],
                         saved, g, varies ? (const float *)means : (const float *)NULL, rows, C,
                         adds(call, 0), width);
}

KD_OP(batch_norm, prepare, NULL, NULL, forward, backward)

static kdas_status moments_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    (void)device;
    plan->work_forward = 2 * kd_cuda_parts_bytes(rows_of(&node->in[0]), node->in[0].dim[3]);
    return KDAS_OK;
}

static kdas_status moments_forward(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->in[0]), C = call->node->in[0].dim[3];
    int64_t part_rows = kd_cuda_part_rows(rows);
    float  *means = (float *)call->work, *squares = means + kd_cuda_parts(rows) * C;

    KD_RETURN(LAUNCH(device, batch_norm_parts, parts_grid(rows, C), KD_BLOCK,
                     (const elem *)call->in[0], means, squares, rows, C, part_rows));
    return LAUNCH_ROWS(device, moments_of_parts, C, 32, (const float *)means,
                       (const float *)squares, (float *)call->out, rows, C, part_rows);
}

static kdas_status moments_backward(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->in[0]), C = call->node->in[0].dim[3];

    return LAUNCH_EACH(device, moments_gradient, rows * C, (const elem *)call->in[0],
                       (elem *)call->din[0], (const float *)call->out, (const float *)call->dout,
                       rows, C, adds(call, 0));
}

KD_OP(moments, moments_prepare, NULL, NULL, moments_forward, moments_backward)

static kdas_status apply_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t C = node->out.dim[3];

    (void)device;
    plan->saved         = 2 * (size_t)C * sizeof(float);
    plan->work_backward = 2 * kd_cuda_parts_bytes(rows_of(&node->out), C) + plan->saved;
    return KDAS_OK;
}

static kdas_status apply_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_norm_attr *a = (const kdas_norm_attr *)call->node->attr;
    const elem           *x = (const elem *)call->in[0];
    const float          *g = (const float *)call->in[2], *b = (const float *)call->in[3];
    int64_t               rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    bool                  moves = of_batch(call->node);
    int width = KD_MIN(width_of(C, x, call->out, NULL, NULL), width_of(C, call->saved, g, b, NULL));

    KD_RETURN(LAUNCH_EACH(device, moments_constants, C, (const float *)call->in[1],
                          (float *)call->saved, moves ? (float *)call->in[4] : (float *)NULL,
                          (float *)call->in[5], C, a->eps, a->momentum));
    return LAUNCH_MATRIX(device, batch_norm_apply, rows, C, width, x, (elem *)call->out,
                         (const float *)call->saved, g, b, rows, C, width);
}

static kdas_status apply_backward(kdas_device *device, const kdas_call *call)
{
    const elem  *x = (const elem *)call->in[0], *dy = (const elem *)call->dout;
    const float *g = (const float *)call->in[2], *saved = (const float *)call->saved;
    int64_t      rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int64_t      count = kd_cuda_parts(rows);
    float       *means = (float *)call->work, *part_b = means + 2 * C, *part_g = part_b + count * C;
    int width = KD_MIN(width_of(C, x, dy, call->din[0], NULL), width_of(C, saved, g, NULL, NULL));

    if (call->din[1] || call->din[2] || call->din[3]) {
        KD_RETURN(LAUNCH(device, batch_norm_sums, parts_grid(rows, C), KD_BLOCK, x, dy, saved,
                         part_b, part_g, rows, C, kd_cuda_part_rows(rows)));
        KD_RETURN(LAUNCH_ROWS(device, batch_norm_gradients, C, 32, (const float *)part_b,
                              (const float *)part_g, means, (float *)call->din[3],
                              (float *)call->din[2], rows, C, count));
    }
    if (call->din[1])
        KD_RETURN(LAUNCH_EACH(device, apply_moments_gradients, C, (const float *)means, saved, g,
                              (float *)call->din[1], rows, C, adds(call, 1)));
    if (!call->din[0]) return KDAS_OK;
    return LAUNCH_MATRIX(device, batch_norm_backward, rows, C, width, x, dy, (elem *)call->din[0],
                         saved, g, (const float *)NULL, rows, C, adds(call, 0), width);
}

KD_OP(apply_moments, apply_prepare, NULL, NULL, apply_forward, apply_backward)

#if !defined KD_TYPE_f16 && !defined KD_TYPE_bf16

static kdas_status standardize_prepare(kdas_device *device, const kdas_node_desc *node,
                                       kdas_plan *plan)
{
    int64_t C     = node->out.dim[3];
    size_t  parts = 2 * kd_cuda_parts_bytes(rows_of(&node->out), C);

    (void)device;
    plan->saved         = 3 * (size_t)C * sizeof(float);
    plan->work_forward  = parts;
    plan->work_backward = parts + 2 * (size_t)C * sizeof(float);
    return KDAS_OK;
}

static kdas_status standardize_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_standardize_attr *a    = (const kdas_standardize_attr *)call->node->attr;
    const float                 *x    = (const float *)call->in[0];
    int64_t                      rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int64_t                      part_rows = kd_cuda_part_rows(rows);
    float *means = (float *)call->work, *squares = means + kd_cuda_parts(rows) * C;
    int    width = width_of(C, x, call->out, call->saved, NULL);

    KD_RETURN(LAUNCH(device, batch_norm_parts, parts_grid(rows, C), KD_BLOCK, x, means, squares,
                     rows, C, part_rows));
    KD_RETURN(LAUNCH_ROWS(device, standardize_statistics, C, 32, (const float *)means,
                          (const float *)squares, (float *)call->saved, rows, C, part_rows,
                          a->eps));
    return LAUNCH_MATRIX(device, batch_norm_apply, rows, C, width, x, (float *)call->out,
                         (const float *)call->saved, (const float *)NULL, (const float *)NULL, rows,
                         C, width);
}

static kdas_status standardize_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = (const float *)call->in[0], *dy = (const float *)call->dout;
    const float *saved = (const float *)call->saved;
    int64_t      rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int64_t      count = kd_cuda_parts(rows);
    float       *means = (float *)call->work, *part_b = means + 2 * C, *part_g = part_b + count * C;
    int          width =
        KD_MIN(width_of(C, x, dy, call->din[0], NULL), width_of(C, saved, means, NULL, NULL));

    KD_RETURN(LAUNCH(device, batch_norm_sums, parts_grid(rows, C), KD_BLOCK, x, dy, saved, part_b,
                     part_g, rows, C, kd_cuda_part_rows(rows)));
    KD_RETURN(LAUNCH_ROWS(device, standardize_gradients, C, 32, (const float *)part_b,
                          (const float *)part_g, saved, means, means + C, rows, C, count));
    return LAUNCH_MATRIX(device, batch_norm_backward, rows, C, width, x, dy, (float *)call->din[0],
                         saved, (const float *)NULL, (const float *)means, rows, C, adds(call, 0),
                         width);
}

KD_OP(standardize, standardize_prepare, NULL, NULL, standardize_forward, standardize_backward)

#endif

#endif
