/* softmax.c - SOFTMAX, CENTER and NORMALIZE over the last axis of x (rows,C). */
#include "backend/cpu/simd/fmath.h"

static kdas_status softmax_forward(kdas_device *device, const kdas_call *call)
{
    const float *in   = call->in[0];
    float       *out  = call->out;
    int64_t      rows = row_count(&call->node->out), C = call->node->out.dim[3];

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *x = in + r * C;
        float       *y = out + r * C, most = x[0], sum = 0;

#pragma omp simd reduction(max : most)
        for (int64_t c = 0; c < C; c++)
            most = x[c] > most ? x[c] : most;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < C; c++) {
            y[c] = exp_f(x[c] - most);
            sum += y[c];
        }
        sum = 1.0f / sum;
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            y[c] *= sum;
    }
    return KDAS_OK;
}

/* dx = y (dy - sum y dy) */
static kdas_status softmax_backward(kdas_device *device, const kdas_call *call)
{
    const float *out = call->out, *dout = call->dout;
    float       *din  = call->din[0];
    int64_t      rows = row_count(&call->node->out), C = call->node->out.dim[3];
    bool         add = adds(call, 0);

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *y = out + r * C, *dy = dout + r * C;
        float       *dx = din + r * C, dot = 0;

#pragma omp simd reduction(+ : dot)
        for (int64_t c = 0; c < C; c++)
            dot += y[c] * dy[c];
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            dx[c] = (add ? dx[c] : 0) + y[c] * (dy[c] - dot);
    }
    return KDAS_OK;
}

/* to = or += from - mean(from) for each row: forward and backward alike. */
static void center(const kdas_desc *d, float *to, const float *from, bool add)
{
    int64_t rows = row_count(d), C = d->dim[3];

#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *x = from + r * C;
        float       *y = to + r * C, mean = 0;

#pragma omp simd reduction(+ : mean)
        for (int64_t c = 0; c < C; c++)
            mean += x[c];
        mean /= (float)C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            y[c] = (add ? y[c] : 0) + (x[c] - mean);
    }
}

static kdas_status center_forward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    center(&call->node->out, call->out, call->in[0], false);
    return KDAS_OK;
}

static kdas_status center_backward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    center(&call->node->out, call->din[0], call->dout, adds(call, 0));
    return KDAS_OK;
}

static float eps_of(const kdas_call *call)
{
    return ((const kdas_normalize_attr *)call->node->attr)->eps;
}

static kdas_status normalize_forward(kdas_device *device, const kdas_call *call)
{
    const float *in  = call->in[0];
    float       *out = call->out, eps = eps_of(call);
    int64_t      rows = row_count(&call->node->out), C = call->node->out.dim[3];

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *x = in + r * C;
        float       *y = out + r * C, norm = 0;

#pragma omp simd reduction(+ : norm)
        for (int64_t c = 0; c < C; c++)
            norm += x[c] * x[c];
        norm = sqrtf(norm);
        norm = 1.0f / (norm < eps ? eps : norm);
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            y[c] = x[c] * norm;
    }
    return KDAS_OK;
}

/* dx = (dy - x (x dy) / |x|^2) / |x|, or dy / eps; dx may be dy */
static kdas_status normalize_backward(kdas_device *device, const kdas_call *call)
{
    const float *in = call->in[0], *dout = call->dout;
    float       *din = call->din[0], eps = eps_of(call);
    int64_t      rows = row_count(&call->node->out), C = call->node->out.dim[3];
    bool         add = adds(call, 0);

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *x = in + r * C, *dy = dout + r * C;
        float       *dx = din + r * C, square = 0, along = 0, norm;

#pragma omp simd reduction(+ : square, along)
        for (int64_t c = 0; c < C; c++) {
            square += x[c] * x[c];
            along += x[c] * dy[c];
        }
        norm  = sqrtf(square);
        along = norm < eps ? 0 : along / square;
        norm  = 1.0f / (norm < eps ? eps : norm);
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            dx[c] = (add ? dx[c] : 0) + (dy[c] - x[c] * along) * norm;
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(softmax) = { .forward = softmax_forward, .backward = softmax_backward };
const kd_cpu_kernel KD_SIMD(center)  = { .forward = center_forward, .backward = center_backward };
const kd_cpu_kernel KD_SIMD(normalize) = { .forward  = normalize_forward,
                                           .backward = normalize_backward };
