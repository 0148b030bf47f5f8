/* pool.cu - POOL_AVG and POOL_MAX over space, CHANNEL_MEAN and CHANNEL_MAX over channels, x (N,H,W,C). The maxima save the index
 * that receives the gradient, the first of the largest; a NaN counts as the largest. The pixels of an image are cut into
 * parts of the rows of a (pixels,C) matrix, see columns.cu. */
#include "backend/cuda/wide.h"

enum { LANES = 8 }; /* rows of a block of 32 columns */

/* ---- adaptive average: window i covers low(i) .. high(i)-1 ---- */

static __device__ __forceinline__ int64_t low_of(int64_t i, int64_t in, int64_t out)
{
    return over(i * in, out);
}

static __device__ __forceinline__ int64_t high_of(int64_t i, int64_t in, int64_t out)
{
    return over((i + 1) * in + out - 1, out);
}

/* Sides of images. */
typedef struct sides {
    int64_t high, wide;
} sides;

static __device__ __forceinline__ void average(const elem *x, elem *y, sides in, sides out,
                                               int64_t rows, int64_t C, const int width)
{
    cell at = cell_of(rows, C, width);

    EACH_ROW(r, at, rows)
    {
        int64_t n = over(r, out.high * out.wide), i = r - n * out.high * out.wide;
        int64_t oy = over(i, out.wide), ox = i - oy * out.wide;
        int64_t y0 = low_of(oy, in.high, out.high), y1 = high_of(oy, in.high, out.high);
        int64_t x0 = low_of(ox, in.wide, out.wide), x1 = high_of(ox, in.wide, out.wide);
        float   share = 1.0f / (float)((y1 - y0) * (x1 - x0));
        quad    sum   = { { 0, 0, 0, 0 } };

        for (int64_t p = y0; p < y1; p++)
            for (int64_t q = x0; q < x1; q++) {
                quad v = load(x + ((n * in.high + p) * in.wide + q) * C + at.c, width);

                EACH_VALUE(k, width) sum.v[k] += v.v[k];
            }
        EACH_VALUE(k, width) sum.v[k] *= share;
        store(y + r * C + at.c, sum, width);
    }
}

KERNEL(pool_avg_forward)
(const elem *x, elem *y, sides in, sides out, int64_t rows, int64_t C, int width)
{
    DISPATCH_WIDTH(width, average, x, y, in, out, rows, C);
}

/* A pixel of dx sums over the windows that cover it; neighbouring windows may overlap. */
static __device__ __forceinline__ void average_dx(const elem *dy, elem *dx, sides in, sides out,
                                                  int64_t rows, int64_t C, int add, const int width)
{
    cell at = cell_of(rows, C, width);

    EACH_ROW(r, at, rows)
    {
        int64_t n = over(r, in.high * in.wide), i = r - n * in.high * in.wide;
        int64_t y = over(i, in.wide), x = i - y * in.wide;
        int64_t y1 = high_of(y, out.high, in.high), x1 = high_of(x, out.wide, in.wide);
        quad    sum = { { 0, 0, 0, 0 } };

        for (int64_t p = low_of(y, out.high, in.high); p < y1; p++)
            for (int64_t q = low_of(x, out.wide, in.wide); q < x1; q++) {
                quad  d = load(dy + ((n * out.high + p) * out.wide + q) * C + at.c, width);
                float h = (float)(high_of(p, in.high, out.high) - low_of(p, in.high, out.high));
                float w = (float)(high_of(q, in.wide, out.wide) - low_of(q, in.wide, out.wide));

                EACH_VALUE(k, width) sum.v[k] += d.v[k] / (h * w);
            }
        accumulate_quad(dx + r * C + at.c, sum, add, width);
    }
}

KERNEL(pool_avg_backward)
(const elem *dy, elem *dx, sides in, sides out, int64_t rows, int64_t C, int add, int width)
{
    DISPATCH_WIDTH(width, average_dx, dy, dx, in, out, rows, C, add);
}

/* A single window: parts[p][n][c] = the sum over part p of image n's pixels. */
KERNEL(pool_avg_parts)
(const elem *x, float *parts, int64_t images, int64_t pixels, int64_t C, int64_t part_rows)
{
    __shared__ float sums[LANES][33];
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32;
    int64_t          c = (int64_t)blockIdx.x * 32 + lane, first = (int64_t)blockIdx.y * part_rows;
    int64_t          end = first + part_rows < pixels ? first + part_rows : pixels;

    for (int64_t n = blockIdx.z; n < images; n += gridDim.z) {
        float sum = 0;

        for (int64_t p = first + row; c < C && p < end; p += LANES)
            sum += num(x[(n * pixels + p) * C + c]);
        __syncthreads(); /* the last sums have been read */
        sums[row][lane] = sum;
        __syncthreads();
        if (row > 0 || c >= C) continue;
        for (int i = 1; i < LANES; i++)
            sum += sums[i][lane];
        parts[(blockIdx.y * images + n) * C + c] = sum;
    }
}

KERNEL(pool_avg_finish)(const float *parts, elem *y, int64_t count, int64_t n, int64_t pixels)
{
    EACH(i, n)
    {
        float sum = 0;

        for (int64_t p = 0; p < count; p++)
            sum += parts[p * n + i];
        set(&y[i], sum / (float)pixels);
    }
}

/* ---- largest of each channel: saved, the pixel's index (N,C) as i32 ---- */

typedef struct largest {
    float value;
    int   at; /* -1: none yet */
} largest;

/* Does `a` win over b? Of equal ones, the first. */
static __device__ __forceinline__ bool beats(largest a, largest b)
{
    bool a_nan = a.value != a.value, b_nan = b.value != b.value;

    if (a.at < 0 || b.at < 0) return b.at < 0 && a.at >= 0;
    if (a_nan != b_nan) return a_nan;
    return a.value > b.value || ((a_nan || a.value == b.value) && a.at < b.at);
}

KERNEL(pool_max_parts)
(const elem *x, float *values, int *places, int64_t images, int pixels, int64_t C, int part_rows)
{
    __shared__ float value[LANES][33];
    __shared__ int   place[LANES][33];
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32;
    int64_t          c     = (int64_t)blockIdx.x * 32 + lane;
    int              first = (int)blockIdx.y * part_rows;
    int              end   = pixels - first < part_rows ? pixels : first + part_rows;

    for (int64_t n = blockIdx.z; n < images; n += gridDim.z) {
        largest best = { 0, -1 };

        for (int p = first + row; c < C && p < end; p += LANES) {
            largest v = { num(x[(n * pixels + p) * C + c]), p };

            if (beats(v, best)) best = v;
        }
        __syncthreads(); /* the last ones have been read */
        value[row][lane] = best.value;
        place[row][lane] = best.at;
        __syncthreads();
        if (row > 0 || c >= C) continue;
        for (int i = 1; i < LANES; i++) {
            largest v = { value[i][lane], place[i][lane] };

            if (beats(v, best)) best = v;
        }
        values[(blockIdx.y * images + n) * C + c] = best.value;
        places[(blockIdx.y * images + n) * C + c] = best.at;
    }
}

KERNEL(pool_max_finish)
(const float *values, const int *places, elem *y, int *saved, int count, int64_t n)
{
    EACH(i, n)
    {
        largest best = { values[i], places[i] };

        for (int p = 1; p < count; p++) {
            largest v = { values[p * n + i], places[p * n + i] };

            if (beats(v, best)) best = v;
        }
        set(&y[i], best.value);
        saved[i] = best.at;
    }
}

KERNEL(pool_max_backward)
(const elem *dy, elem *dx, const int *saved, int64_t rows, int pixels, int64_t C)
{
    cell at = cell_of(rows, C, 1);

    EACH_ROW(r, at, rows)
    {
        int64_t n = over(r, pixels), i = n * C + at.c;

        set(&dx[r * C + at.c], saved[i] == (int)(r - n * pixels) ? num(dy[i]) : 0);
    }
}

/* Each output has its own place in dx: no two threads write to one. */
KERNEL(pool_max_add)
(const elem *dy, elem *dx, const int *saved, int64_t n, int64_t pixels, int64_t C)
{
    EACH(i, n)
    {
        int64_t image = over(i, C);

        accumulate(&dx[(image * pixels + saved[i]) * C + i - image * C], num(dy[i]), 1);
    }
}

/* ---- over channels: a warp for each pixel ---- */

KERNEL(channel_mean_forward)(const elem *x, elem *y, int64_t rows, int64_t C)
{
    EACH_ROW_BY(r, rows, 32)
    {
        float sum = 0;

        EACH_IN_ROW(c, C, 32) sum += num(x[r * C + c]);
        sum = warp_sum(sum) / (float)C;
        if (threadIdx.x % 32 == 0) set(&y[r], sum);
    }
}

static __device__ __forceinline__ void mean_dx(const elem *dy, elem *dx, int64_t rows, int64_t C,
                                               int add, const int width)
{
    cell at = cell_of(rows, C, width);

    EACH_ROW(r, at, rows)
    {
        quad f;

        f.v[0] = f.v[1] = f.v[2] = f.v[3] = num(dy[r]) / (float)C;
        accumulate_quad(dx + r * C + at.c, f, add, width);
    }
}

KERNEL(channel_mean_backward)
(const elem *dy, elem *dx, int64_t rows, int64_t C, int add, int width)
{
    DISPATCH_WIDTH(width, mean_dx, dy, dx, rows, C, add);
}

/* saved: the channel's index for each pixel, i32 */
KERNEL(channel_max_forward)(const elem *x, elem *y, int *saved, int64_t rows, int C)
{
    EACH_ROW_BY(r, rows, 32)
    {
        largest best = { 0, -1 };

        EACH_IN_ROW(c, C, 32)
        {
            largest v = { num(x[r * C + c]), (int)c };

            if (beats(v, best)) best = v;
        }
        for (int d = 16; d > 0; d >>= 1) {
            largest v = { __shfl_xor_sync(KD_ALL, best.value, d), 0 };

            v.at = __shfl_xor_sync(KD_ALL, best.at, d);
            if (beats(v, best)) best = v;
        }
        if (threadIdx.x % 32 > 0) continue;
        set(&y[r], best.value);
        saved[r] = best.at;
    }
}

KERNEL(channel_max_backward)
(const elem *dy, elem *dx, const int *saved, int64_t rows, int64_t C)
{
    cell at = cell_of(rows, C, 1);

    EACH_ROW(r, at, rows)
    set(&dx[r * C + at.c], saved[r] == (int)at.c ? num(dy[r]) : 0);
}

KERNEL(channel_max_add)(const elem *dy, elem *dx, const int *saved, int64_t rows, int64_t C)
{
    EACH(r, rows) accumulate(&dx[r * C + saved[r]], num(dy[r]), 1);
}

#ifdef KD_HOST

static int64_t pixels_of(const kdas_node_desc *node)
{
    return node->in[0].dim[1] * node->in[0].dim[2];
}

/* Parts of the pixels of one image, and a grid of blocks over all of them. */
static int64_t parts_of(const kdas_node_desc *node) { return kd_cuda_parts(pixels_of(node)); }

static dim3 parts_grid(const kdas_node_desc *node)
{
    return dim3((unsigned)KD_CEIL(node->in[0].dim[3], 32), (unsigned)parts_of(node),
                (unsigned)KD_MIN(node->in[0].dim[0], (int64_t)65535));
}

static kdas_status too_large(kdas_device *device, int64_t n, const char *what)
{
    return device->host.fail(KDAS_EUNSUPPORTED, "cuda:%d: %s: %lld %s are too many", device->index,
                             device->op, (long long)n, what);
}

/* ---- pool_avg ---- */

static bool single_window(const kdas_node_desc *node)
{
    return node->out.dim[1] == 1 && node->out.dim[2] == 1;
}

static kdas_status pool_avg_prepare(kdas_device *device, const kdas_node_desc *node,
                                    kdas_plan *plan)
{
    (void)device;
    if (single_window(node))
        plan->work_forward = (size_t)(parts_of(node) * elements(&node->out)) * sizeof(float);
    return KDAS_OK;
}

static sides sides_of(const kdas_desc *d)
{
    sides s = { d->dim[1], d->dim[2] };

    return s;
}

static kdas_status pool_avg_to(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const elem           *x    = (const elem *)call->in[0];
    elem                 *y    = (elem *)call->out;
    int64_t               C = node->out.dim[3], rows = rows_of(&node->out);
    int64_t               pixels = pixels_of(node), n = elements(&node->out);
    int                   width = width_of(C, x, y, NULL, NULL);

    if (!single_window(node))
        return LAUNCH_MATRIX(device, pool_avg_forward, rows, C, width, x, y, sides_of(&node->in[0]),
                             sides_of(&node->out), rows, C, width);
    KD_RETURN(LAUNCH(device, pool_avg_parts, parts_grid(node), KD_BLOCK, x, (float *)call->work,
                     rows, pixels, C, kd_cuda_part_rows(pixels)));
    return LAUNCH_EACH(device, pool_avg_finish, n, (const float *)call->work, y, parts_of(node), n,
                       pixels);
}

static kdas_status pool_avg_from(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const elem           *dy   = (const elem *)call->dout;
    elem                 *dx   = (elem *)call->din[0];
    int64_t               C = node->out.dim[3], rows = rows_of(&node->in[0]);
    int                   width = width_of(C, dy, dx, NULL, NULL);

    if (!dx) return KDAS_OK;
    return LAUNCH_MATRIX(device, pool_avg_backward, rows, C, width, dy, dx, sides_of(&node->in[0]),
                         sides_of(&node->out), rows, C, adds(call, 0), width);
}

KD_OP(pool_avg, pool_avg_prepare, NULL, NULL, pool_avg_to, pool_avg_from)

/* ---- pool_max ---- */

static kdas_status pool_max_prepare(kdas_device *device, const kdas_node_desc *node,
                                    kdas_plan *plan)
{
    int64_t n = elements(&node->out);

    if (pixels_of(node) > INT32_MAX / 2) return too_large(device, pixels_of(node), "pixels");
    plan->saved        = (size_t)n * sizeof(int32_t);
    plan->work_forward = (size_t)(parts_of(node) * n) * (sizeof(float) + sizeof(int32_t));
    return KDAS_OK;
}

static kdas_status pool_max_to(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node   = call->node;
    int64_t               pixels = pixels_of(node), n = elements(&node->out);
    int64_t               count  = parts_of(node);
    float                *values = (float *)call->work;
    int                  *places = (int *)(values + count * n);

    KD_RETURN(LAUNCH(device, pool_max_parts, parts_grid(node), KD_BLOCK, (const elem *)call->in[0],
                     values, places, node->out.dim[0], (int)pixels, node->out.dim[3],
                     (int)kd_cuda_part_rows(pixels)));
    return LAUNCH_EACH(device, pool_max_finish, n, (const float *)values, (const int *)places,
                       (elem *)call->out, (int *)call->saved, (int)count, n);
}

static kdas_status pool_max_from(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node   = call->node;
    const elem           *dy     = (const elem *)call->dout;
    elem                 *dx     = (elem *)call->din[0];
    const int            *saved  = (const int *)call->saved;
    int64_t               pixels = pixels_of(node), C = node->out.dim[3], n = elements(&node->out);
    int64_t               rows = rows_of(&node->in[0]);

    if (!dx) return KDAS_OK;
    if (adds(call, 0)) return LAUNCH_EACH(device, pool_max_add, n, dy, dx, saved, n, pixels, C);
    return LAUNCH_MATRIX(device, pool_max_backward, rows, C, 1, dy, dx, saved, rows, (int)pixels,
                         C);
}

KD_OP(pool_max, pool_max_prepare, NULL, NULL, pool_max_to, pool_max_from)

/* ---- over channels ---- */

static kdas_status channel_mean_to(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->out);

    return LAUNCH_ROWS(device, channel_mean_forward, rows, 32, (const elem *)call->in[0],
                       (elem *)call->out, rows, call->node->in[0].dim[3]);
}

static kdas_status channel_mean_from(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->out), C = call->node->in[0].dim[3];
    int     width = width_of(C, call->din[0], NULL, NULL, NULL);

    if (!call->din[0]) return KDAS_OK;
    return LAUNCH_MATRIX(device, channel_mean_backward, rows, C, width, (const elem *)call->dout,
                         (elem *)call->din[0], rows, C, adds(call, 0), width);
}

KD_OP(channel_mean, NULL, NULL, NULL, channel_mean_to, channel_mean_from)

static kdas_status channel_max_prepare(kdas_device *device, const kdas_node_desc *node,
                                       kdas_plan *plan)
{
    if (node->in[0].dim[3] > INT32_MAX / 2)
        return too_large(device, node->in[0].dim[3], "channels");
    plan->saved = (size_t)rows_of(&node->out) * sizeof(int32_t);
    return KDAS_OK;
}

static kdas_status channel_max_to(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->out);

    return LAUNCH_ROWS(device, channel_max_forward, rows, 32, (const elem *)call->in[0],
                       (elem *)call->out, (int *)call->saved, rows, (int)call->node->in[0].dim[3]);
}

static kdas_status channel_max_from(kdas_device *device, const kdas_call *call)
{
    const elem *dy    = (const elem *)call->dout;
    elem       *dx    = (elem *)call->din[0];
    const int  *saved = (const int *)call->saved;
    int64_t     rows = rows_of(&call->node->out), C = call->node->in[0].dim[3];

    if (!dx) return KDAS_OK;
    if (adds(call, 0)) return LAUNCH_EACH(device, channel_max_add, rows, dy, dx, saved, rows, C);
    return LAUNCH_MATRIX(device, channel_max_backward, rows, C, 1, dy, dx, saved, rows, C);
}

KD_OP(channel_max, channel_max_prepare, NULL, NULL, channel_max_to, channel_max_from)

#endif
