/* pool.c - POOL_AVG and POOL_MAX over space, CHANNEL_MEAN and CHANNEL_MAX over channels, x (N,H,W,C). The maxima save the
 * index that receives the gradient: the first of the largest. */
#include "backend/cpu/simd/simd.h"

/* ---- adaptive average: window i covers low(i) .. high(i)-1 ---- */

INLINE int64_t low_of(int64_t i, int64_t in, int64_t out) { return i * in / out; }
INLINE int64_t high_of(int64_t i, int64_t in, int64_t out) { return ceil_div((i + 1) * in, out); }

static void average_window(const kdas_node_desc *node, const float *x, float *y, int64_t i)
{
    const int64_t *in = node->in[0].dim, *out = node->out.dim;
    int64_t        n = i / (out[1] * out[2]), oy = i / out[2] % out[1], ox = i % out[2], C = in[3];
    int64_t        y0 = low_of(oy, in[1], out[1]), y1 = high_of(oy, in[1], out[1]);
    int64_t        x0 = low_of(ox, in[2], out[2]), x1 = high_of(ox, in[2], out[2]);
    float          share = 1.0f / (float)((y1 - y0) * (x1 - x0));

    y += i * C;
    memset(y, 0, (size_t)C * sizeof(float));
    for (int64_t r = y0; r < y1; r++)
        for (int64_t q = x0; q < x1; q++) {
            const float *from = x + ((n * in[1] + r) * in[2] + q) * C;

#pragma omp simd
            for (int64_t c = 0; c < C; c++)
                y[c] += from[c];
        }
#pragma omp simd
    for (int64_t c = 0; c < C; c++)
        y[c] *= share;
}

static kdas_status pool_avg_forward(kdas_device *device, const kdas_call *call)
{
    int64_t windows = row_count(&call->node->out);

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < windows; i++)
        average_window(call->node, call->in[0], call->out, i);
    return KDAS_OK;
}

/* A row of dx sums over the windows that cover each pixel; neighbouring windows may overlap. */
static void average_row_backward(const kdas_node_desc *node, const float *dy, float *dx,
                                 int64_t row, bool add)
{
    const int64_t *in = node->in[0].dim, *out = node->out.dim;
    int64_t        n = row / in[1], y = row % in[1], C = in[3];

    dx += row * in[2] * C;
    for (int64_t x = 0; x < in[2]; x++, dx += C) {
        if (!add) memset(dx, 0, (size_t)C * sizeof(float));
        for (int64_t oy = low_of(y, out[1], in[1]); oy < high_of(y, out[1], in[1]); oy++)
            for (int64_t ox = low_of(x, out[2], in[2]); ox < high_of(x, out[2], in[2]); ox++) {
                const float *from  = dy + ((n * out[1] + oy) * out[2] + ox) * C;
                int64_t      h     = high_of(oy, in[1], out[1]) - low_of(oy, in[1], out[1]);
                int64_t      w     = high_of(ox, in[2], out[2]) - low_of(ox, in[2], out[2]);
                float        share = 1.0f / (float)(h * w);

#pragma omp simd
                for (int64_t c = 0; c < C; c++)
                    dx[c] += share * from[c];
            }
    }
}

static kdas_status pool_avg_backward(kdas_device *device, const kdas_call *call)
{
    int64_t rows = call->node->in[0].dim[0] * call->node->in[0].dim[1];

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        average_row_backward(call->node, call->dout, call->din[0], r, adds(call, 0));
    return KDAS_OK;
}

/* ---- largest of each channel: saved, the pixel's index (N,C) as i32 ---- */

static kdas_status pool_max_prepare(kdas_device *device, const kdas_node_desc *node,
                                    kdas_plan *plan)
{
    (void)device;
    plan->saved = float_bytes(numel(&node->out));
    return KDAS_OK;
}

static kdas_status pool_max_forward(kdas_device *device, const kdas_call *call)
{
    const int64_t *in     = call->node->in[0].dim;
    int64_t        pixels = in[1] * in[2], C = in[3], lines = ceil_div(C, 16);
    const float   *x     = call->in[0];
    float         *y     = call->out;
    int32_t       *saved = call->saved;

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < in[0] * lines; i++) {
        int64_t      n = i / lines, c0 = i % lines * 16, width = C - c0 < 16 ? C - c0 : 16;
        const float *from = x + n * pixels * C + c0;
        float        most[16];
        int32_t      at[16] = { 0 };

        memcpy(most, from, (size_t)width * sizeof(float));
        for (int64_t p = 1; p < pixels; p++)
#pragma omp simd
            for (int64_t c = 0; c < width; c++) {
                bool more = !(from[p * C + c] <= most[c]) & (most[c] == most[c]); /* a NaN wins */

                most[c] = more ? from[p * C + c] : most[c];
                at[c]   = more ? (int32_t)p : at[c];
            }
        memcpy(y + n * C + c0, most, (size_t)width * sizeof(float));
        memcpy(saved + n * C + c0, at, (size_t)width * sizeof(int32_t));
    }
    return KDAS_OK;
}

static void zero(kdas_device *device, float *to, int64_t n)
{
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t begin = line_part_begin(n, t, device->threads),
                end   = line_part_begin(n, t + 1, device->threads);

        memset(to + begin, 0, (size_t)(end - begin) * sizeof(float));
    }
}

static kdas_status pool_max_backward(kdas_device *device, const kdas_call *call)
{
    const int64_t *in     = call->node->in[0].dim;
    int64_t        pixels = in[1] * in[2], C = in[3];
    const float   *dy    = call->dout;
    float         *dx    = call->din[0];
    const int32_t *saved = call->saved;

    if (!adds(call, 0)) zero(device, dx, numel(&call->node->in[0]));
    for (int64_t i = 0; i < in[0] * C; i++)
        dx[(i / C * pixels + saved[i]) * C + i % C] += dy[i];
    return KDAS_OK;
}

/* ---- over channels ---- */

static kdas_status channel_mean_forward(kdas_device *device, const kdas_call *call)
{
    const float *x    = call->in[0];
    float       *y    = call->out;
    int64_t      rows = row_count(&call->node->out), C = call->node->in[0].dim[3];

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < C; c++)
            sum += x[r * C + c];
        y[r] = sum / (float)C;
    }
    return KDAS_OK;
}

static kdas_status channel_mean_backward(kdas_device *device, const kdas_call *call)
{
    const float *dy   = call->dout;
    float       *dx   = call->din[0];
    int64_t      rows = row_count(&call->node->out), C = call->node->in[0].dim[3];
    bool         add = adds(call, 0);

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float share = dy[r] / (float)C;

#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            dx[r * C + c] = add ? dx[r * C + c] + share : share;
    }
    return KDAS_OK;
}

/* saved: the channel's index for each pixel, i32 */
static kdas_status channel_max_prepare(kdas_device *device, const kdas_node_desc *node,
                                       kdas_plan *plan)
{
    (void)device;
    plan->saved = float_bytes(row_count(&node->out));
    return KDAS_OK;
}

static kdas_status channel_max_forward(kdas_device *device, const kdas_call *call)
{
    const float *in    = call->in[0];
    float       *out   = call->out;
    int32_t     *saved = call->saved;
    int64_t      rows = row_count(&call->node->out), C = call->node->in[0].dim[3];

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *x    = in + r * C;
        float        most = x[0];
        int32_t      at   = (int32_t)C - 1;
        int          nan  = 0;

#pragma omp simd reduction(max : most) reduction(| : nan)
        for (int64_t c = 0; c < C; c++) {
            most = x[c] > most ? x[c] : most;
            nan |= x[c] != x[c];
        }
        if (nan) { /* the first one wins */
            for (at = 0; x[at] == x[at];)
                at++;
            out[r]   = x[at];
            saved[r] = at;
            continue;
        }
#pragma omp simd reduction(min : at)
        for (int32_t c = 0; c < (int32_t)C; c++)
            at = x[c] == most && c < at ? c : at;
        out[r]   = most;
        saved[r] = at;
    }
    return KDAS_OK;
}

static kdas_status channel_max_backward(kdas_device *device, const kdas_call *call)
{
    const float   *dy    = call->dout;
    float         *dx    = call->din[0];
    const int32_t *saved = call->saved;
    int64_t        rows = row_count(&call->node->out), C = call->node->in[0].dim[3];
    bool           add = adds(call, 0);

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        if (!add) memset(dx + r * C, 0, (size_t)C * sizeof(float));
        dx[r * C + saved[r]] += dy[r];
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(pool_avg) = { .forward  = pool_avg_forward,
                                          .backward = pool_avg_backward };
const kd_cpu_kernel KD_SIMD(pool_max) = {
    .prepare  = pool_max_prepare,
    .forward  = pool_max_forward,
    .backward = pool_max_backward,
};
const kd_cpu_kernel KD_SIMD(channel_mean) = {
    .forward  = channel_mean_forward,
    .backward = channel_mean_backward,
};
const kd_cpu_kernel KD_SIMD(channel_max) = {
    .prepare  = channel_max_prepare,
    .forward  = channel_max_forward,
    .backward = channel_max_backward,
};
