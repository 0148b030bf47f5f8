/* update.c - ADAMW, SGD, AXPY, LERP and SUM_SQUARES over flat blocks of in[0].dim[0] elements. */
#include "backend/cpu/simd/simd.h"

/* The scaled and clamped gradient; a NaN stays one. */
INLINE float gradient_of(float g, float scale, float limit)
{
    float v = g * scale;

    v = v > limit ? limit : v;
    return v < -limit ? -limit : v;
}

/* A clamp of 0 means none: infinity, which no finite number exceeds. */
static float limit_of(float clamp) { return clamp > 0 ? clamp : INFINITY; }

/* Decoupled decay first, then Adam: p -= lr/c1 m / (sqrt(v)/c2 + eps), c1 = 1 - beta1^step and
 * c2 = sqrt(1 - beta2^step). */
static kdas_status adamw_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_adamw_attr *a = call->node->attr;
    float                 *p = call->in[0], *m = call->in[2], *v = call->in[3];
    const float           *grad = call->in[1];
    int64_t                n    = call->node->in[0].dim[0];
    double                 c1   = 1 - pow(a->beta1, (double)a->step);
    float rate = (float)(a->lr / c1), decay = (float)(1 - (double)a->lr * a->weight_decay);
    float root = (float)(1 / sqrt(1 - pow(a->beta2, (double)a->step))), eps = a->eps;
    float fresh1 = (float)(1 - (double)a->beta1), fresh2 = (float)(1 - (double)a->beta2);
    float beta2 = a->beta2, scale = a->grad_scale, limit = limit_of(a->clamp);

    EACH_ELEMENT(i, n, device)
    {
        float g = gradient_of(grad[i], scale, limit);

        m[i] += fresh1 * (g - m[i]);
        v[i] = beta2 * v[i] + fresh2 * g * g;
        p[i] = decay * p[i] - rate * m[i] / (sqrtf(v[i]) * root + eps);
    }
    return KDAS_OK;
}

/* Weight decay is added to the gradient; in the first step the momentum is set to it. */
static kdas_status sgd_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_sgd_attr *a = call->node->attr;
    float               *p = call->in[0], *m = call->in[2];
    const float         *grad = call->in[1];
    int64_t              n    = call->node->in[0].dim[0];
    float scale = a->grad_scale, limit = limit_of(a->clamp), decay = a->weight_decay, lr = a->lr;
    float momentum = a->momentum;
    float own = a->nesterov ? 1.0f : 0.0f, rest = a->nesterov ? a->momentum : 1.0f;

    if (!m) {
        EACH_ELEMENT(i, n, device) p[i] -= lr * (gradient_of(grad[i], scale, limit) + decay * p[i]);
        return KDAS_OK;
    }
    if (a->step == 1) memset(m, 0, (size_t)n * sizeof(float));
    EACH_ELEMENT(i, n, device)
    {
        float g = gradient_of(grad[i], scale, limit) + decay * p[i];

        m[i] = momentum * m[i] + g;
        p[i] -= lr * (own * g + rest * m[i]);
    }
    return KDAS_OK;
}

/* y (state) += factor x */
static kdas_status axpy_forward(kdas_device *device, const kdas_call *call)
{
    float        factor = ((const kdas_scale_attr *)call->node->attr)->factor;
    float       *y      = call->in[0];
    const float *x      = call->in[1];
    int64_t      n      = call->node->in[0].dim[0];

    EACH_ELEMENT(i, n, device) y[i] += factor * x[i];
    return KDAS_OK;
}

/* y (state) += factor (x - y) */
static kdas_status lerp_forward(kdas_device *device, const kdas_call *call)
{
    float        factor = ((const kdas_scale_attr *)call->node->attr)->factor;
    float       *y      = call->in[0];
    const float *x      = call->in[1];
    int64_t      n      = call->node->in[0].dim[0];

    EACH_ELEMENT(i, n, device) y[i] += factor * (x[i] - y[i]);
    return KDAS_OK;
}

/* A fixed number of parts, each in blocks: f32 lanes within a block, f64 over the blocks. */
static kdas_status sum_squares_forward(kdas_device *device, const kdas_call *call)
{
    enum { PARTS = 256, BLOCK = 1024 };
    const float *x = call->in[0];
    int64_t      n = call->node->in[0].dim[0];
    double       part[PARTS], all = 0;

    (void)device;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < PARTS; t++) {
        double sum = 0;

        for (int64_t i = part_begin(n, t, PARTS), end = part_begin(n, t + 1, PARTS); i < end;
             i += BLOCK) {
            int64_t stop = end - i < BLOCK ? end : i + BLOCK;
            float   some = 0;

#pragma omp simd reduction(+ : some)
            for (int64_t j = i; j < stop; j++)
                some += x[j] * x[j];
            sum += some;
        }
        part[t] = sum;
    }
    for (int t = 0; t < PARTS; t++)
        all += part[t];
    *(double *)call->out = all;
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(adamw)       = { .forward = adamw_forward };
const kd_cpu_kernel KD_SIMD(sgd)         = { .forward = sgd_forward };
const kd_cpu_kernel KD_SIMD(axpy)        = { .forward = axpy_forward };
const kd_cpu_kernel KD_SIMD(lerp)        = { .forward = lerp_forward };
const kd_cpu_kernel KD_SIMD(sum_squares) = { .forward = sum_squares_forward };
