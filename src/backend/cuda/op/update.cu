/* update.cu - ADAMW, SGD, AXPY, LERP and SUM_SQUARES over flat blocks of in[0].dim[0] elements. */
#include "backend/cuda/kernel.h"

/* The scaled and clamped gradient; a NaN stays one. */
static __device__ __forceinline__ float gradient_of(float g, float scale, float limit)
{
    float v = g * scale;

    v = v > limit ? limit : v;
    return v < -limit ? -limit : v;
}

/* Scalars of a step of AdamW, computed in f64 by the host: rate = lr / (1 - beta1^step), root = 1 / sqrt(1 - beta2^step),
 * fresh = 1 - beta, decay = 1 - lr weight_decay. */
typedef struct adamw_step {
    float rate, root, decay, eps, fresh1, beta2, fresh2, scale, limit;
} adamw_step;

/* Decoupled weight decay first, then Adam. */
KERNEL(adamw_forward)(float *p, const float *grad, float *m, float *v, adamw_step a, int64_t n)
{
    EACH(i, n)
    {
        float g     = gradient_of(grad[i], a.scale, a.limit);
        float m_new = m[i] + a.fresh1 * (g - m[i]);
        float v_new = a.beta2 * v[i] + a.fresh2 * g * g;

        p[i] = a.decay * p[i] - a.rate * m_new / (sqrtf(v_new) * a.root + a.eps);
        m[i] = m_new;
        v[i] = v_new;
    }
}

/* p -= lr (own g + rest m): with Nesterov's momentum 1 and the momentum, else 0 and 1. */
typedef struct sgd_step {
    float lr, momentum, decay, scale, limit, own, rest;
    int   first; /* the first step: the momentum is set to the gradient */
} sgd_step;

/* Weight decay is added to the gradient. Without momentum m is NULL. */
KERNEL(sgd_forward)(float *p, const float *grad, float *m, sgd_step a, int64_t n)
{
    EACH(i, n)
    {
        float g = gradient_of(grad[i], a.scale, a.limit) + a.decay * p[i];

        if (m) {
            float m_new = a.first ? g : a.momentum * m[i] + g;

            m[i] = m_new;
            g    = a.own * g + a.rest * m_new;
        }
        p[i] -= a.lr * g;
    }
}

/* y += factor x */
KERNEL(axpy_forward)(float *y, const float *x, float factor, int64_t n)
{
    EACH(i, n) y[i] += factor * x[i];
}

/* y += factor (x - y) */
KERNEL(lerp_forward)(float *y, const float *x, float factor, int64_t n)
{
    EACH(i, n) y[i] += factor * (x[i] - y[i]);
}

/* A thread adds SHORT squares in f32, then goes on in f64, which is slow on many cards. */
#define SHORT 16

KERNEL(sum_squares_parts)(const float *x, double *parts, int64_t n)
{
    int64_t step = (int64_t)gridDim.x * KD_BLOCK;
    int64_t i    = (int64_t)blockIdx.x * KD_BLOCK + threadIdx.x;
    double  sum  = 0;

    while (i < n) {
        float some = 0;

        for (int k = 0; k < SHORT && i < n; k++, i += step)
            some += x[i] * x[i];
        sum += some;
    }
    sum = block_sum_f64(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

KERNEL(sum_squares_join)(const double *parts, double *out, int count)
{
    double sum = 0;

    for (int k = threadIdx.x; k < count; k += KD_BLOCK)
        sum += parts[k];
    sum = block_sum_f64(sum);
    if (threadIdx.x == 0) *out = sum;
}

#ifdef KD_HOST

/* A clamp of 0 means none: infinity, which no finite number exceeds. */
static float limit_of(float clamp) { return clamp > 0 ? clamp : (float)HUGE_VAL; }

static kdas_status adamw_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_adamw_attr *a = (const kdas_adamw_attr *)call->node->attr;
    int64_t                n = call->node->in[0].dim[0];
    adamw_step             step;

    step.rate   = (float)(a->lr / (1 - pow((double)a->beta1, (double)a->step)));
    step.root   = (float)(1 / sqrt(1 - pow((double)a->beta2, (double)a->step)));
    step.decay  = (float)(1 - (double)a->lr * a->weight_decay);
    step.eps    = a->eps;
    step.fresh1 = (float)(1 - (double)a->beta1);
    step.beta2  = a->beta2;
    step.fresh2 = (float)(1 - (double)a->beta2);
    step.scale  = a->grad_scale;
    step.limit  = limit_of(a->clamp);
    return LAUNCH_EACH(device, adamw_forward, n, (float *)call->in[0], (const float *)call->in[1],
                       (float *)call->in[2], (float *)call->in[3], step, n);
}

static kdas_status sgd_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_sgd_attr *a = (const kdas_sgd_attr *)call->node->attr;
    int64_t              n = call->node->in[0].dim[0];
    sgd_step             step;

    step.lr       = a->lr;
    step.momentum = a->momentum;
    step.decay    = a->weight_decay;
    step.scale    = a->grad_scale;
    step.limit    = limit_of(a->clamp);
    step.own      = a->nesterov ? 1.0f : 0.0f;
    step.rest     = a->nesterov ? a->momentum : 1.0f;
    step.first    = a->step == 1;
    return LAUNCH_EACH(device, sgd_forward, n, (float *)call->in[0], (const float *)call->in[1],
                       (float *)call->in[2], step, n);
}

static kdas_status axpy_forward(kdas_device *device, const kdas_call *call)
{
    float   factor = ((const kdas_scale_attr *)call->node->attr)->factor;
    int64_t n      = call->node->in[0].dim[0];

    return LAUNCH_EACH(device, axpy_forward, n, (float *)call->in[0], (const float *)call->in[1],
                       factor, n);
}

static kdas_status lerp_forward(kdas_device *device, const kdas_call *call)
{
    float   factor = ((const kdas_scale_attr *)call->node->attr)->factor;
    int64_t n      = call->node->in[0].dim[0];

    return LAUNCH_EACH(device, lerp_forward, n, (float *)call->in[0], (const float *)call->in[1],
                       factor, n);
}

/* The number of parts depends only on the length, and so do the bits. */
static kdas_status sum_squares_forward(kdas_device *device, const kdas_call *call)
{
    int64_t n     = call->node->in[0].dim[0];
    int     count = (int)KD_MIN(KD_CEIL(n, (int64_t)KD_BLOCK * SHORT), (int64_t)KD_CUDA_SUMS);

    if (count > 0)
        KD_RETURN(LAUNCH(device, sum_squares_parts, count, KD_BLOCK, (const float *)call->in[0],
                         device->sums, n));
    return LAUNCH(device, sum_squares_join, 1, KD_BLOCK, device->sums, (double *)call->out, count);
}

KD_OP(adamw, NULL, NULL, NULL, adamw_forward, NULL)
KD_OP(sgd, NULL, NULL, NULL, sgd_forward, NULL)
KD_OP(sum_squares, NULL, NULL, NULL, sum_squares_forward, NULL)
KD_OP(axpy, NULL, NULL, NULL, axpy_forward, NULL)
KD_OP(lerp, NULL, NULL, NULL, lerp_forward, NULL)

#endif
