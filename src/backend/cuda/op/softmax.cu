/* softmax.cu - SOFTMAX, CENTER and NORMALIZE over the last axis of x (rows,C), MEAN of all elements; f32 only. A row is reduced by a
 * warp, a long one by a block. */
#include "backend/cuda/wide.h"

enum { MEAN_BLOCKS = 1024 };

/* y may be x: a thread reads and writes only its own elements. */
static __device__ __forceinline__ void softmax(const float *in, float *out, int64_t rows, int64_t C,
                                               const int threads)
{
    EACH_ROW_BY(r, rows, threads)
    {
        const float *x    = in + r * C;
        float        most = x[0], sum = 0;

        EACH_IN_ROW(c, C, threads) most = x[c] > most || x[c] != x[c] ? x[c] : most;
        most                            = row_max(most, threads);
        EACH_IN_ROW(c, C, threads) sum += expf(x[c] - most);
        sum                                       = 1.0f / row_sum(sum, threads);
        EACH_IN_ROW(c, C, threads) out[r * C + c] = expf(x[c] - most) * sum;
    }
}

KERNEL(softmax_forward)(const float *x, float *y, int64_t rows, int64_t C, int threads)
{
    DISPATCH_THREADS(threads, softmax, x, y, rows, C);
}

/* dx = y (dy - sum y dy); dx may be dy. */
static __device__ __forceinline__ void softmax_dx(const float *out, const float *dout, float *din,
                                                  int64_t rows, int64_t C, int add,
                                                  const int threads)
{
    EACH_ROW_BY(r, rows, threads)
    {
        const float *y = out + r * C, *dy = dout + r * C;
        float        dot = 0;

        EACH_IN_ROW(c, C, threads) dot += y[c] * dy[c];
        dot = row_sum(dot, threads);
        EACH_IN_ROW(c, C, threads) accumulate(&din[r * C + c], y[c] * (dy[c] - dot), add);
    }
}

KERNEL(softmax_backward)
(const float *y, const float *dy, float *dx, int64_t rows, int64_t C, int add, int threads)
{
    DISPATCH_THREADS(threads, softmax_dx, y, dy, dx, rows, C, add);
}

/* to = or += from - mean(from) for each row. */
static __device__ __forceinline__ void center(const float *from, float *to, int64_t rows, int64_t C,
                                              int add, const int threads)
{
    EACH_ROW_BY(r, rows, threads)
    {
        const float *x   = from + r * C;
        float        sum = 0;

        EACH_IN_ROW(c, C, threads) sum += x[c];
        sum = row_sum(sum, threads) / (float)C;
        EACH_IN_ROW(c, C, threads) accumulate(&to[r * C + c], x[c] - sum, add);
    }
}

KERNEL(center_accumulate)
(const float *from, float *to, int64_t rows, int64_t C, int add, int threads)
{
    DISPATCH_THREADS(threads, center, from, to, rows, C, add);
}

/* y = x / max(|x|, eps); y may be x. */
static __device__ __forceinline__ void normalize(const float *in, float *out, int64_t rows,
                                                 int64_t C, float eps, const int threads)
{
    EACH_ROW_BY(r, rows, threads)
    {
        const float *x    = in + r * C;
        float        norm = 0;

        EACH_IN_ROW(c, C, threads) norm += x[c] * x[c];
        norm                                      = sqrtf(row_sum(norm, threads));
        norm                                      = 1.0f / (norm < eps ? eps : norm);
        EACH_IN_ROW(c, C, threads) out[r * C + c] = x[c] * norm;
    }
}

KERNEL(normalize_forward)(const float *x, float *y, int64_t rows, int64_t C, float eps, int threads)
{
    DISPATCH_THREADS(threads, normalize, x, y, rows, C, eps);
}

/* dx = (dy - x (x dy) / |x|^2) / |x|, or dy / eps; dx may be dy. */
static __device__ __forceinline__ void normalize_dx(const float *in, const float *dout, float *din,
                                                    int64_t rows, int64_t C, float eps, int add,
                                                    const int threads)
{
    EACH_ROW_BY(r, rows, threads)
    {
        const float *x = in + r * C, *dy = dout + r * C;
        float        square = 0, along = 0, norm;

        EACH_IN_ROW(c, C, threads)
        {
            square += x[c] * x[c];
            along += x[c] * dy[c];
        }
        square = row_sum(square, threads);
        along  = row_sum(along, threads);
        norm   = sqrtf(square);
        along  = norm < eps ? 0 : along / square;
        norm   = 1.0f / (norm < eps ? eps : norm);
        EACH_IN_ROW(c, C, threads) accumulate(&din[r * C + c], (dy[c] - x[c] * along) * norm, add);
    }
}

KERNEL(normalize_backward)
(const float *x, const float *dy, float *dx, int64_t rows, int64_t C, float eps, int add,
 int threads)
{
    DISPATCH_THREADS(threads, normalize_dx, x, dy, dx, rows, C, eps, add);
}

KERNEL(mean_parts)(const float *x, float *parts, int64_t n)
{
    float sum = 0;

    EACH(i, n) sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

/* One block. */
KERNEL(mean_finish)(const float *parts, float *y, int count, int64_t n)
{
    float sum = 0;

    for (int i = threadIdx.x; i < count; i += KD_BLOCK)
        sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = sum / (float)n;
}

KERNEL(mean_backward)(const float *dy, float *dx, int64_t n, int add)
{
    float share = *dy / (float)n;

    EACH(i, n) accumulate(&dx[i], share, add);
}

#ifdef KD_HOST

static kdas_status softmax_to(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int     threads = threads_per_row(C);

    return LAUNCH_ROWS(device, softmax_forward, rows, threads, (const float *)call->in[0],
                       (float *)call->out, rows, C, threads);
}

static kdas_status softmax_from(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int     threads = threads_per_row(C);

    if (!call->din[0]) return KDAS_OK;
    return LAUNCH_ROWS(device, softmax_backward, rows, threads, (const float *)call->out,
                       (const float *)call->dout, (float *)call->din[0], rows, C, adds(call, 0),
                       threads);
}

KD_OP(softmax, NULL, NULL, NULL, softmax_to, softmax_from)

/* The same forward and backward. */
static kdas_status centered(kdas_device *device, const kdas_call *call, void *to, const void *from,
                            int add)
{
    int64_t rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int     threads = threads_per_row(C);

    return LAUNCH_ROWS(device, center_accumulate, rows, threads, (const float *)from, (float *)to,
                       rows, C, add, threads);
}

static kdas_status center_to(kdas_device *device, const kdas_call *call)
{
    return centered(device, call, call->out, call->in[0], 0);
}

static kdas_status center_from(kdas_device *device, const kdas_call *call)
{
    if (!call->din[0]) return KDAS_OK;
    return centered(device, call, call->din[0], call->dout, adds(call, 0));
}

KD_OP(center, NULL, NULL, NULL, center_to, center_from)

static float eps_of(const kdas_call *call)
{
    return ((const kdas_normalize_attr *)call->node->attr)->eps;
}

static kdas_status normalize_to(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int     threads = threads_per_row(C);

    return LAUNCH_ROWS(device, normalize_forward, rows, threads, (const float *)call->in[0],
                       (float *)call->out, rows, C, eps_of(call), threads);
}

static kdas_status normalize_from(kdas_device *device, const kdas_call *call)
{
    int64_t rows = rows_of(&call->node->out), C = call->node->out.dim[3];
    int     threads = threads_per_row(C);

    if (!call->din[0]) return KDAS_OK;
    return LAUNCH_ROWS(device, normalize_backward, rows, threads, (const float *)call->in[0],
                       (const float *)call->dout, (float *)call->din[0], rows, C, eps_of(call),
                       adds(call, 0), threads);
}

KD_OP(normalize, NULL, NULL, NULL, normalize_to, normalize_from)

static kdas_status mean_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    (void)device, (void)node;
    plan->work_forward = MEAN_BLOCKS * sizeof(float);
    return KDAS_OK;
}

static kdas_status mean_to(kdas_device *device, const kdas_call *call)
{
    int64_t n      = elements(&call->node->in[0]);
    int     blocks = (int)KD_MIN(kd_cuda_grid(device, n), (unsigned)MEAN_BLOCKS);

    KD_RETURN(LAUNCH(device, mean_parts, (unsigned)blocks, KD_BLOCK, (const float *)call->in[0],
                     (float *)call->work, n));
    return LAUNCH(device, mean_finish, 1, KD_BLOCK, (const float *)call->work, (float *)call->out,
                  blocks, n);
}

static kdas_status mean_from(kdas_device *device, const kdas_call *call)
{
    int64_t n = elements(&call->node->in[0]);

    if (!call->din[0]) return KDAS_OK;
    return LAUNCH_EACH(device, mean_backward, n, (const float *)call->dout, (float *)call->din[0],
                       n, adds(call, 0));
}

KD_OP(mean, mean_prepare, NULL, NULL, mean_to, mean_from)

#endif
