/* update.c - kernels that run outside graphs, on flat blocks of floats: optimizers, norms, sums
 * of gradients. */
#include "op/op_util.h"

/* The gradient that the optimizers use: scaled, then clamped to +-clamp (0: not clamped). A NaN
 * stays a NaN. */
static double gradient_of(float g, float scale, float clamp)
{
    double v = (double)g * scale;

    if (clamp > 0 && v > clamp) return clamp;
    if (clamp > 0 && v < -clamp) return -clamp;
    return v;
}

/* Decoupled decay, which does not pass through the moments. Then Adam with bias correction of
 * both moments. */
static kdas_status adamw_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_adamw_attr *a = call->node->attr;
    float                 *p = call->in[0], *m = call->in[2], *v = call->in[3];
    const float           *grad   = call->in[1];
    double                 first  = 1 - pow(a->beta1, (double)a->step);
    double                 second = sqrt(1 - pow(a->beta2, (double)a->step));

    (void)device;
    for (int64_t i = 0; i < call->node->in[0].dim[0]; i++) {
        double g       = gradient_of(grad[i], a->grad_scale, a->clamp);
        double m_new   = m[i] + (1 - (double)a->beta1) * (g - m[i]);
        double v_new   = (double)a->beta2 * v[i] + (1 - (double)a->beta2) * g * g;
        double decayed = p[i] * (1 - (double)a->lr * a->weight_decay);

        p[i] = (float)(decayed - a->lr / first * m_new / (sqrt(v_new) / second + a->eps));
        m[i] = (float)m_new;
        v[i] = (float)v_new;
    }
    return KDAS_OK;
}

/* Decay is part of the gradient. The first step sets the momentum to the gradient. */
static kdas_status sgd_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_sgd_attr *a = call->node->attr;
    float               *p = call->in[0], *m = call->in[2];
    const float         *grad = call->in[1];

    (void)device;
    for (int64_t i = 0; i < call->node->in[0].dim[0]; i++) {
        double g = gradient_of(grad[i], a->grad_scale, a->clamp) + (double)a->weight_decay * p[i];

        if (m) {
            double m_new = a->step == 1 ? g : (double)a->momentum * m[i] + g;

            m[i] = (float)m_new;
            g    = a->nesterov ? g + a->momentum * m_new : m_new;
        }
        p[i] = (float)(p[i] - a->lr * g);
    }
    return KDAS_OK;
}

static kdas_status sum_squares_forward(kdas_device *device, const kdas_call *call)
{
    const float *x   = call->in[0];
    double       sum = 0;

    (void)device;
    for (int64_t i = 0; i < call->node->in[0].dim[0]; i++)
        sum += (double)x[i] * x[i];
    *(double *)call->out = sum;
    return KDAS_OK;
}

static kdas_status axpy_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_scale_attr *attr = call->node->attr;
    const float           *x    = call->in[1];
    float                 *y    = call->in[0];

    (void)device;
    for (int64_t i = 0; i < call->node->in[0].dim[0]; i++)
        y[i] += attr->factor * x[i];
    return KDAS_OK;
}

static kdas_status lerp_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_scale_attr *attr = call->node->attr;
    const float           *x    = call->in[1];
    float                 *y    = call->in[0];

    (void)device;
    for (int64_t i = 0; i < call->node->in[0].dim[0]; i++)
        y[i] += attr->factor * (x[i] - y[i]);
    return KDAS_OK;
}

const kdas_kernel kd_update_adamw       = { .op = KDAS_OP_ADAMW, .forward = adamw_forward };
const kdas_kernel kd_update_sgd         = { .op = KDAS_OP_SGD, .forward = sgd_forward };
const kdas_kernel kd_update_sum_squares = { .op      = KDAS_OP_SUM_SQUARES,
                                            .forward = sum_squares_forward };
const kdas_kernel kd_update_axpy        = { .op = KDAS_OP_AXPY, .forward = axpy_forward };
const kdas_kernel kd_update_lerp        = { .op = KDAS_OP_LERP, .forward = lerp_forward };
