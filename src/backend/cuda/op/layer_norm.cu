/* layer_norm.cu - LAYER_NORM over the last axis of x (rows,C): y = (x - mean) / sqrt(var + eps) g + b.
 *
 * saved: mean and 1/sqrt(var + eps) of each row, (rows,2). With h = (x - mean) r and e = dy g:
 *   dx = r (e - mean(e) - h mean(e h)),  dg = sum dy h,  db = sum dy.
 * A warp has a row, whose values its lanes keep where C is at most 512: memory is read once. Backward, a block has
 * a stretch of rows (see columns.cu), and each lane sums its columns of dg and db on the way. Longer
 * rows are read again instead of kept, by a block each, and dg and db are sums down columns. */
#include "backend/cuda/wide.h"

enum { NARROW = 4, KEPT = 16, LONGEST = 32 * KEPT }; /* values of a lane */

/* ---- rows that lanes keep ---- */

/* Lane's values of a row: groups of `width`, a warp of groups after the other. */
#define EACH_GROUP(i, c, C, width, kept)                                                \
    UNROLL for (int i = 0; i < (kept) / (width);                                        \
                i++) for (int c = (i * 32 + (int)threadIdx.x % 32) * (width), once = 1; \
                          once && c < (C); once = 0)

static __device__ __forceinline__ void forward_rows(const elem *x, const float *g, const float *b,
                                                    elem *y, float *saved, int64_t rows, int C,
                                                    float eps, const int kept, const int width)
{
    EACH_TEAM(row, rows, 32)
    {
        float v[KEPT], sum = 0, square = 0, mean, r;

        EACH_GROUP(i, c, C, width, kept)
        {
            few f = load(x + row * C + c, width);

            FEW(k, width) sum += v[i * width + k] = f.v[k];
        }
        mean = warp_sum(sum) / (float)C;
        EACH_GROUP(i, c, C, width, kept)
        FEW(k, width) square += (v[i * width + k] - mean) * (v[i * width + k] - mean);
        r = 1.0f / sqrtf(warp_sum(square) / (float)C + eps);
        EACH_GROUP(i, c, C, width, kept)
        {
            few gain = load_f(g + c, width), f = load_f(b + c, width);

            FEW(k, width) f.v[k] += (v[i * width + k] - mean) * r * gain.v[k];
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
    WIDTHS(width, forward_rows, x, g, b, y, saved, rows, C, eps, KEPT);
}

KERNEL(layer_norm_forward_narrow)
(const elem *x, const float *g, const float *b, elem *y, float *saved, int64_t rows, int C,
 float eps, int width)
{
    WIDTHS(width, forward_rows, x, g, b, y, saved, rows, C, eps, NARROW);
}

typedef struct gradients {
    const elem  *x, *dy;
    const float *g, *saved;
    elem        *dx;              /* NULL: not wanted, or dy itself              */
    float       *part_g, *part_b; /* of each stretch, (parts,C); NULL: not wanted */
    int64_t      rows, stretch;
    int          C, add;
} gradients;

static __device__ __forceinline__ void backward_row(const gradients *to, int64_t row, float *dg,
                                                    float *db, const int kept, const int width)
{
    int   C = to->C;
    float h[KEPT], e[KEPT], e_sum = 0, eh_sum = 0;
    float mean = to->saved[2 * row], r = to->saved[2 * row + 1];

    EACH_GROUP(i, c, C, width, kept)
    {
        few x = load(to->x + row * C + c, width), d = load(to->dy + row * C + c, width);
        few gain = load_f(to->g + c, width);

        FEW(k, width)
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
    if (C == 1) r = 0; /* a value is its own mean: exactly 0, where r would magnify rounding */
    EACH_GROUP(i, c, C, width, kept)
    {
        few f;

        FEW(k, width) f.v[k] = r * (e[i * width + k] - e_sum - h[i * width + k] * eh_sum);
        give_few(to->dx + row * C + c, f, to->add, width);
    }
}

/* The sums of a block's warps, one after the other: the same bits every time. */
static __device__ __forceinline__ void join_warps(float *part, const float *sums, float *shared,
                                                  int C, const int kept, const int width)
{
    for (int w = 0; w < KD_BLOCK / 32; w++) {
        if ((int)threadIdx.x / 32 == w) EACH_GROUP(i, c, C, width, kept)
        FEW(k, width) shared[c + k] = (w ? shared[c + k] : 0) + sums[i * width + k];
        __syncthreads();
    }
    for (int c = threadIdx.x; c < C; c += KD_BLOCK)
        part[(int64_t)blockIdx.x * C + c] = shared[c];
    __syncthreads();
}

static __device__ __forceinline__ void backward_rows(const gradients *to, float *shared,
                                                     const int kept, const int width)
{
    float   dg[KEPT], db[KEPT];
    int64_t first = blockIdx.x * to->stretch, end = first + to->stretch;

    UNROLL for (int i = 0; i < kept; i++) dg[i] = db[i] = 0;
    if (end > to->rows) end = to->rows;
    for (int64_t row = first + threadIdx.x / 32; row < end; row += KD_BLOCK / 32)
        backward_row(to, row, dg, db, kept, width);
    if (to->part_g) join_warps(to->part_g, dg, shared, to->C, kept, width);
    if (to->part_b) join_warps(to->part_b, db, shared, to->C, kept, width);
}

KERNEL(layer_norm_backward)(gradients to, int width)
{
    __shared__ float sums[LONGEST];

    WIDTHS(width, backward_rows, &to, sums, KEPT);
}

KERNEL(layer_norm_backward_narrow)(gradients to, int width)
{
    __shared__ float sums[32 * NARROW];

    WIDTHS(width, backward_rows, &to, sums, NARROW);
}

/* ---- longer rows ---- */

KERNEL(layer_norm_long_forward)
(const elem *x, const float *g, const float *b, elem *y, float *saved, int64_t rows, int64_t C,
 float eps)
{
    EACH_TEAM(row, rows, KD_BLOCK)
    {
        const elem *from = x + row * C;
        float       sum = 0, square = 0, mean, r;

        EACH_OF_ROW(c, C, KD_BLOCK) sum += num(from[c]);
        mean = block_sum(sum) / (float)C;
        EACH_OF_ROW(c, C, KD_BLOCK) square += (num(from[c]) - mean) * (num(from[c]) - mean);
        r = 1.0f / sqrtf(block_sum(square) / (float)C + eps);
        EACH_OF_ROW(c, C, KD_BLOCK)
        set(&y[row * C + c], (num(from[c]) - mean) * r * g[c] + b[c]);
        if (threadIdx.x > 0) continue;
        saved[2 * row]     = mean;
        saved[2 * row + 1] = r;
    }
}

KERNEL(layer_norm_long_dx)(gradients to)
{
    int64_t C = to.C;

    EACH_TEAM(row, to.rows, KD_BLOCK)
    {
        const elem *x = to.x + row * C, *dy = to.dy + row * C;
        float       mean = to.saved[2 * row], r = to.saved[2 * row + 1], e_sum = 0, eh_sum = 0;

        EACH_OF_ROW(c, C, KD_BLOCK)
        {
            float e = num(dy[c]) * to.g[c];

            e_sum += e;
            eh_sum += e * (num(x[c]) - mean) * r;
        }
        e_sum  = block_sum(e_sum) / (float)C;
        eh_sum = block_sum(eh_sum) / (float)C;
        EACH_OF_ROW(c, C, KD_BLOCK)
        {
            float h = (num(x[c]) - mean) * r;

            give(&to.dx[row * C + c], r * (num(dy[c]) * to.g[c] - e_sum - h * eh_sum), to.add);
        }
    }
}

KERNEL(layer_norm_long_parts)(gradients to)
{
    __shared__ float sums_g[8][33], sums_b[8][33];
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32, C = to.C;
    int              c     = (int)blockIdx.x * 32 + lane;
    int64_t          first = blockIdx.y * to.stretch;
    int64_t          end   = first + to.stretch < to.rows ? first + to.stretch : to.rows;
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

    if (C > LONGEST)
        return LAUNCH_TEAMS(device, layer_norm_long_forward, rows, KD_BLOCK, x, g, b, y, saved,
                            rows, C, eps);
    if (C > 32 * NARROW)
        return LAUNCH_TEAMS(device, layer_norm_forward, rows, 32, x, g, b, y, saved, rows, (int)C,
                            eps, width);
    return LAUNCH_TEAMS(device, layer_norm_forward_narrow, rows, 32, x, g, b, y, saved, rows,
                        (int)C, eps, width);
}

static kdas_status backward_long(kdas_device *device, const gradients *to)
{
    if (to->part_g || to->part_b) {
        dim3 grid((unsigned)KD_CEIL(to->C, 32), (unsigned)kd_cuda_parts(to->rows));

        KD_RETURN(LAUNCH(device, layer_norm_long_parts, grid, KD_BLOCK, *to));
    }
    if (!to->dx) return KDAS_OK;
    return LAUNCH_TEAMS(device, layer_norm_long_dx, to->rows, KD_BLOCK, *to);
}

static kdas_status backward_parts(kdas_device *device, const gradients *to)
{
    unsigned blocks = (unsigned)kd_cuda_parts(to->rows);
    int      width  = width_of(to->C, to->x, to->dy, to->g, to->dx);

    if (to->C > LONGEST) return backward_long(device, to);
    if (to->C > 32 * NARROW)
        return LAUNCH(device, layer_norm_backward, blocks, KD_BLOCK, *to, width);
    return LAUNCH(device, layer_norm_backward_narrow, blocks, KD_BLOCK, *to, width);
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
