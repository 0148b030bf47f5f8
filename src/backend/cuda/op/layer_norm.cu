/* layer_norm.cu - LAYER_NORM over the last axis of x (rows,C): y = (x - mean) / sqrt(var + eps) g + b.
 *
 * saved: mean and r = 1/sqrt(var + eps) of each row, (rows,2). Backward, with h = (x - mean) r, the normalised row, and
 * e = dy g:
 *   dx = r (e - mean(e) - h mean(e h)),  dg = sum dy h,  db = sum dy.
 * The variance is two-pass: the mean first, then the squared distances from it.
 *
 * Rows of up to LONGEST_ROW values: a warp for each row, whose lanes keep the row in registers, so both passes read memory
 * once. Backward, a block has a part of the rows (see columns.cu), and each lane sums its columns of dg and db on the way.
 * Longer rows: a block for each row, which reads it once for each pass; dg and db are column sums. */
#include "backend/cuda/wide.h"

enum {
    SHORT_PER_LANE = 4,
    MAX_PER_LANE   = 16,
    LONGEST_ROW    = 32 * MAX_PER_LANE
}; /* values of a row that a lane keeps, for short rows and for others */

/* ---- rows in registers ---- */

/* A lane's values of a row, in groups of `width`: group i of the lane begins at column c, and the groups of a warp are
 * adjacent. It declares i and c, and is unrolled over i, so that arrays indexed by i are registers. */
#define EACH_LANE_GROUP(i, c, C, width, per_lane)                                        \
    UNROLL for (int i = 0; i < (per_lane) / (width);                                     \
                i++) for (int c = (i * 32 + (int)threadIdx.x % 32) * (width), once_ = 1; \
                          once_ && c < (C); once_ = 0)

static __device__ __forceinline__ void forward_rows(const elem *x, const float *g, const float *b,
                                                    elem *y, float *saved, int64_t rows, int C,
                                                    float eps, const int per_lane, const int width)
{
    EACH_ROW_BY(row, rows, 32)
    {
        float v[MAX_PER_LANE], sum = 0, square = 0, mean, r;

        EACH_LANE_GROUP(i, c, C, width, per_lane)
        {
            quad f = load(x + row * C + c, width);

            EACH_VALUE(k, width) sum += v[i * width + k] = f.v[k];
        }
        mean = warp_sum(sum) / (float)C;
        EACH_LANE_GROUP(i, c, C, width, per_lane)
        EACH_VALUE(k, width) square += (v[i * width + k] - mean) * (v[i * width + k] - mean);
        r = 1.0f / sqrtf(warp_sum(square) / (float)C + eps);
        EACH_LANE_GROUP(i, c, C, width, per_lane)
        {
            quad gain = load_f(g + c, width), f = load_f(b + c, width);

            EACH_VALUE(k, width) f.v[k] += (v[i * width + k] - mean) * r * gain.v[k];
            store(y + row * C + c, f, width);
        }
        if (threadIdx.x % 32 > 0) continue;
        saved[2 * row]     = mean;
        saved[2 * row + 1] = r;
    }
}

KERNEL(layer_norm_forward)
(const elem *x, const float *g, const float *b, elem *y, float *saved, int64_t rows, int C,
 float eps, int width)
{
    DISPATCH_WIDTH(width, forward_rows, x, g, b, y, saved, rows, C, eps, MAX_PER_LANE);
}

KERNEL(layer_norm_forward_short)
(const elem *x, const float *g, const float *b, elem *y, float *saved, int64_t rows, int C,
 float eps, int width)
{
    DISPATCH_WIDTH(width, forward_rows, x, g, b, y, saved, rows, C, eps, SHORT_PER_LANE);
}

typedef struct gradients {
    const elem  *x, *dy;
    const float *g, *saved;
    elem        *dx;              /* NULL: not wanted; may be dy itself        */
    float       *part_g, *part_b; /* of each part, (parts,C); NULL: not wanted */
    int64_t      rows, part_rows;
    int          C, add;
} gradients;

static __device__ __forceinline__ void backward_row(const gradients *to, int64_t row, float *dg,
                                                    float *db, const int per_lane, const int width)
{
    int   C = to->C;
    float h[MAX_PER_LANE], e[MAX_PER_LANE], e_sum = 0, eh_sum = 0;
    float mean = to->saved[2 * row], r = to->saved[2 * row + 1];

    EACH_LANE_GROUP(i, c, C, width, per_lane)
    {
        quad x = load(to->x + row * C + c, width), d = load(to->dy + row * C + c, width);
        quad gain = load_f(to->g + c, width);

        EACH_VALUE(k, width)
        {
            int at = i * width + k;

            h[at] = (x.v[k] - mean) * r;
            e[at] = d.v[k] * gain.v[k];
            e_sum += e[at];
            eh_sum += e[at] * h[at];
            dg[at] += d.v[k] * h[at];
            db[at] += d.v[k];
        }
    }
    if (!to->dx) return;
    e_sum  = warp_sum(e_sum) / (float)C;
    eh_sum = warp_sum(eh_sum) / (float)C;
    if (C == 1) r = 0; /* the value is its mean, so dx is exactly 0; r would magnify rounding */
    EACH_LANE_GROUP(i, c, C, width, per_lane)
    {
        quad f;

        EACH_VALUE(k, width) f.v[k] = r * (e[i * width + k] - e_sum - h[i * width + k] * eh_sum);
        accumulate_quad(to->dx + row * C + c, f, to->add, width);
    }
}

/* Reduce the sums of the warps of a block, one warp after the other: the same bits every time. */
static __device__ __forceinline__ void reduce_warps(float *part, const float *sums, float *shared,
                                                    int C, const int per_lane, const int width)
{
    for (int w = 0; w < KD_BLOCK / 32; w++) {
        if ((int)threadIdx.x / 32 == w) EACH_LANE_GROUP(i, c, C, width, per_lane)
        EACH_VALUE(k, width) shared[c + k] = (w ? shared[c + k] : 0) + sums[i * width + k];
        __syncthreads();
    }
    for (int c = threadIdx.x; c < C; c += KD_BLOCK)
        part[(int64_t)blockIdx.x * C + c] = shared[c];
    __syncthreads();
}

static __device__ __forceinline__ void backward_rows(const gradients *to, float *shared,
                                                     const int per_lane, const int width)
{
    float   dg[MAX_PER_LANE], db[MAX_PER_LANE];
    int64_t first = blockIdx.x * to->part_rows, end = first + to->part_rows;

    UNROLL for (int i = 0; i < per_lane; i++) dg[i] = db[i] = 0;
    if (end > to->rows) end = to->rows;
    for (int64_t row = first + threadIdx.x / 32; row < end; row += KD_BLOCK / 32)
        backward_row(to, row, dg, db, per_lane, width);
    if (to->part_g) reduce_warps(to->part_g, dg, shared, to->C, per_lane, width);
    if (to->part_b) reduce_warps(to->part_b, db, shared, to->C, per_lane, width);
}

KERNEL(layer_norm_backward)(gradients to, int width)
{
    __shared__ float sums[LONGEST_ROW];

    DISPATCH_WIDTH(width, backward_rows, &to, sums, MAX_PER_LANE);
}

KERNEL(layer_norm_backward_short)(gradients to, int width)
{
    __shared__ float sums[32 * SHORT_PER_LANE];

    DISPATCH_WIDTH(width, backward_rows, &to, sums, SHORT_PER_LANE);
}

/* ---- longer rows ---- */

KERNEL(layer_norm_long_forward)
(const elem *x, const float *g, const float *b, elem *y, float *saved, int64_t rows, int64_t C,
 float eps)
{
    EACH_ROW_BY(row, rows, KD_BLOCK)
    {
        const elem *from = x + row * C;
        float       sum = 0, square = 0, mean, r;

        EACH_IN_ROW(c, C, KD_BLOCK) sum += num(from[c]);
        mean = block_sum(sum) / (float)C;
        EACH_IN_ROW(c, C, KD_BLOCK) square += (num(from[c]) - mean) * (num(from[c]) - mean);
        r = 1.0f / sqrtf(block_sum(square) / (float)C + eps);
        EACH_IN_ROW(c, C, KD_BLOCK)
        set(&y[row * C + c], (num(from[c]) - mean) * r * g[c] + b[c]);
        if (threadIdx.x > 0) continue;
        saved[2 * row]     = mean;
        saved[2 * row + 1] = r;
    }
}

KERNEL(layer_norm_long_dx)(gradients to)
{
    int64_t C = to.C;

    EACH_ROW_BY(row, to.rows, KD_BLOCK)
    {
        const elem *x = to.x + row * C, *dy = to.dy + row * C;
        float       mean = to.saved[2 * row], r = to.saved[2 * row + 1], e_sum = 0, eh_sum = 0;

        EACH_IN_ROW(c, C, KD_BLOCK)
        {
            float e = num(dy[c]) * to.g[c];

            e_sum += e;
            eh_sum += e * (num(x[c]) - mean) * r;
        }
        e_sum  = block_sum(e_sum) / (float)C;
        eh_sum = block_sum(eh_sum) / (float)C;
        EACH_IN_ROW(c, C, KD_BLOCK)
        {
            float h = (num(x[c]) - mean) * r;

            accumulate(&to.dx[row * C + c], r * (num(dy[c]) * to.g[c] - e_sum - h * eh_sum),
                       to.add);
        }
    }
}

KERNEL(layer_norm_long_parts)(gradients to)
{
    __shared__ float sums_g[8][33], sums_b[8][33];
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32, C = to.C;
    int              c     = (int)blockIdx.x * 32 + lane;
    int64_t          first = blockIdx.y * to.part_rows;
    int64_t          end   = first + to.part_rows < to.rows ? first + to.part_rows : to.rows;
    float            dg = 0, db = 0;

    for (int64_t r = first + row; c < C && r < end; r += 8) {
        float d = num(to.dy[r * C + c]);

        db += d;
        dg += d * (num(to.x[r * C + c]) - to.saved[2 * r]) * to.saved[2 * r + 1];
    }
    sums_g[row][lane] = dg;
    sums_b[row][lane] = db;
    __syncthreads();
    if (row > 0 || c >= C) return;
    for (int i = 1; i < 8; i++) {
        dg += sums_g[i][lane];
        db += sums_b[i][lane];
    }
    if (to.part_g) to.part_g[(int64_t)blockIdx.y * C + c] = dg;
    if (to.part_b) to.part_b[(int64_t)blockIdx.y * C + c] = db;
}

#ifdef KD_HOST

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t rows = rows_of(&node->out), C = node->out.dim[3];

    if (C > INT32_MAX)
        return device->host.fail(KDAS_EUNSUPPORTED,
                                 "cuda:%d: layer_norm: rows of %lld values are too long",
                                 device->index, (long long)C);
    plan->saved = 2 * (size_t)rows * sizeof(float);
    if (node->wants & 6) plan->work_backward = 2 * kd_cuda_parts_bytes(rows, C);
    return KDAS_OK;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const elem  *x = (const elem *)call->in[0];
    const float *g = (const float *)call->in[1], *b = (const float *)call->in[2];
    elem        *y     = (elem *)call->out;
    float       *saved = (float *)call->saved;
    int64_t      rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    float        eps   = ((const kdas_norm_attr *)call->node->attr)->eps;
    int          width = width_of(C, x, g, b, y);

    if (C > LONGEST_ROW)
        return LAUNCH_ROWS(device, layer_norm_long_forward, rows, KD_BLOCK, x, g, b, y, saved, rows,
                           C, eps);
    if (C > 32 * SHORT_PER_LANE)
        return LAUNCH_ROWS(device, layer_norm_forward, rows, 32, x, g, b, y, saved, rows, (int)C,
                           eps, width);
    return LAUNCH_ROWS(device, layer_norm_forward_short, rows, 32, x, g, b, y, saved, rows, (int)C,
                       eps, width);
}

static kdas_status backward_long(kdas_device *device, const gradients *to)
{
    if (to->part_g || to->part_b) {
        dim3 grid((unsigned)KD_CEIL(to->C, 32), (unsigned)kd_cuda_parts(to->rows));

        KD_RETURN(LAUNCH(device, layer_norm_long_parts, grid, KD_BLOCK, *to));
    }
    if (!to->dx) return KDAS_OK;
    return LAUNCH_ROWS(device, layer_norm_long_dx, to->rows, KD_BLOCK, *to);
}

static kdas_status backward_parts(kdas_device *device, const gradients *to)
{
    unsigned blocks = (unsigned)kd_cuda_parts(to->rows);
    int      width  = width_of(to->C, to->x, to->dy, to->g, to->dx);

    if (to->C > LONGEST_ROW) return backward_long(device, to);
    if (to->C > 32 * SHORT_PER_LANE)
        return LAUNCH(device, layer_norm_backward, blocks, KD_BLOCK, *to, width);
    return LAUNCH(device, layer_norm_backward_short, blocks, KD_BLOCK, *to, width);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    float    *dg = (float *)call->din[1], *db = (float *)call->din[2];
    int64_t   rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int64_t   count  = kd_cuda_parts(rows);
    float    *part_g = (float *)call->work, *part_b = part_g + count * C;
    gradients to = { (const elem *)call->in[0],
                     (const elem *)call->dout,
                     (const float *)call->in[1],
                     (const float *)call->saved,
                     (elem *)call->din[0],
                     dg ? part_g : NULL,
                     db ? part_b : NULL,
                     rows,
                     kd_cuda_part_rows(rows),
                     (int)C,
                     adds(call, 0) };

    KD_RETURN(backward_parts(device, &to));
    if (dg) KD_RETURN(kd_cuda_add_parts(device, dg, part_g, count, C));
    if (db) KD_RETURN(kd_cuda_add_parts(device, db, part_b, count, C));
    return KDAS_OK;
}

KD_OP(layer_norm, prepare, NULL, NULL, forward, backward)

#endif
