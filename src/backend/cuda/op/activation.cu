/* activation.cu - GELU, RELU, RELU6, SIGMOID, SILU, LEAKY_RELU, ELU, ABS: elementwise. */
#include "backend/cuda/kernel.h"
#include "backend/cuda/op/gelu.h"

static __device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

KERNEL(gelu_forward)(const elem *x, elem *y, int64_t n) { EACH(i, n) set(&y[i], gelu(num(x[i]))); }

KERNEL(gelu_backward)(const elem *x, const elem *dy, elem *dx, int add, int64_t n)
{
    EACH(i, n) accumulate(&dx[i], num(dy[i]) * gelu_derivative(num(x[i])), add);
}

KERNEL(relu_forward)(const elem *x, elem *y, int64_t n)
{
    EACH(i, n)
    {
        float v = num(x[i]);

        set(&y[i], v < 0 ? 0 : v); /* a NaN stays one */
    }
}

KERNEL(relu_backward)(const elem *y, const elem *dy, elem *dx, int add, int64_t n)
{
    EACH(i, n) accumulate(&dx[i], num(y[i]) > 0 ? num(dy[i]) : 0, add);
}

KERNEL(relu6_forward)(const elem *x, elem *y, int64_t n)
{
    EACH(i, n)
    {
        float v = num(x[i]);

        set(&y[i], v < 0 ? 0 : v > 6 ? 6 : v); /* a NaN stays one */
    }
}

KERNEL(relu6_backward)(const elem *y, const elem *dy, elem *dx, int add, int64_t n)
{
    EACH(i, n) accumulate(&dx[i], num(y[i]) > 0 && num(y[i]) < 6 ? num(dy[i]) : 0, add);
}

KERNEL(sigmoid_forward)(const elem *x, elem *y, int64_t n)
{
    EACH(i, n) set(&y[i], sigmoid(num(x[i])));
}

KERNEL(sigmoid_backward)(const elem *y, const elem *dy, elem *dx, int add, int64_t n)
{
    EACH(i, n)
    {
        float s = num(y[i]);

        accumulate(&dx[i], num(dy[i]) * s * (1 - s), add);
    }
}

KERNEL(silu_forward)(const elem *x, elem *y, int64_t n)
{
    EACH(i, n) set(&y[i], num(x[i]) * sigmoid(num(x[i])));
}

KERNEL(silu_backward)(const elem *x, const elem *dy, elem *dx, int add, int64_t n)
{
    EACH(i, n)
    {
        float v = num(x[i]), s = sigmoid(v);

        accumulate(&dx[i], num(dy[i]) * s * (1 + v * (1 - s)), add);
    }
}

KERNEL(abs_forward)(const elem *x, elem *y, int64_t n) { EACH(i, n) set(&y[i], fabsf(num(x[i]))); }

KERNEL(abs_backward)(const elem *x, const elem *dy, elem *dx, int add, int64_t n)
{
    EACH(i, n)
    {
        float v = num(x[i]), d = num(dy[i]);

        accumulate(&dx[i], v > 0 ? d : v < 0 ? -d : 0, add);
    }
}

/* ---- with a parameter: the slope of LEAKY_RELU, ELU's alpha ---- */

KERNEL(leaky_relu_forward)(const elem *x, elem *y, float slope, int64_t n)
{
    EACH(i, n)
    {
        float v = num(x[i]);

        set(&y[i], v > 0 ? v : slope * v);
    }
}

KERNEL(leaky_relu_backward)
(const elem *x, const elem *dy, elem *dx, float slope, int add, int64_t n)
{
    EACH(i, n)
    {
        float d = num(dy[i]);

        accumulate(&dx[i], num(x[i]) > 0 ? d : slope * d, add);
    }
}

KERNEL(elu_forward)(const elem *x, elem *y, float alpha, int64_t n)
{
    EACH(i, n)
    {
        float v = num(x[i]);

        set(&y[i], v > 0 ? v : alpha * expm1f(v));
    }
}

KERNEL(elu_backward)(const elem *x, const elem *dy, elem *dx, float alpha, int add, int64_t n)
{
    EACH(i, n)
    {
        float v = num(x[i]), d = num(dy[i]);

        accumulate(&dx[i], v > 0 ? d : d * alpha * expf(v), add);
    }
}

#ifdef KD_HOST

#define FORWARD(name)                                                                         \
    static kdas_status name(kdas_device *device, const kdas_call *call)                       \
    {                                                                                         \
        int64_t n = elements(&call->node->out);                                               \
                                                                                              \
        return LAUNCH_EACH(device, name, n, (const elem *)call->in[0], (elem *)call->out, n); \
    }
/* Backward from the input, or from the output. */
#define BACKWARD(name, value)                                                              \
    static kdas_status name(kdas_device *device, const kdas_call *call)                    \
    {                                                                                      \
        int64_t n = elements(&call->node->out);                                            \
                                                                                           \
        if (!call->din[0]) return KDAS_OK;                                                 \
        return LAUNCH_EACH(device, name, n, (const elem *)value, (const elem *)call->dout, \
                           (elem *)call->din[0], adds(call, 0), n);                        \
    }

static float slope_of(const kdas_call *call)
{
    return ((const kdas_leaky_attr *)call->node->attr)->slope;
}

#define FORWARD_WITH_SLOPE(name)                                                          \
    static kdas_status name(kdas_device *device, const kdas_call *call)                   \
    {                                                                                     \
        int64_t n = elements(&call->node->out);                                           \
                                                                                          \
        return LAUNCH_EACH(device, name, n, (const elem *)call->in[0], (elem *)call->out, \
                           slope_of(call), n);                                            \
    }
#define BACKWARD_WITH_SLOPE(name)                                                                \
    static kdas_status name(kdas_device *device, const kdas_call *call)                          \
    {                                                                                            \
        int64_t n = elements(&call->node->out);                                                  \
                                                                                                 \
        if (!call->din[0]) return KDAS_OK;                                                       \
        return LAUNCH_EACH(device, name, n, (const elem *)call->in[0], (const elem *)call->dout, \
                           (elem *)call->din[0], slope_of(call), adds(call, 0), n);              \
    }

FORWARD(gelu_forward)
BACKWARD(gelu_backward, call->in[0])
FORWARD(relu_forward)
BACKWARD(relu_backward, call->out)
FORWARD(relu6_forward)
BACKWARD(relu6_backward, call->out)
FORWARD(sigmoid_forward)
BACKWARD(sigmoid_backward, call->out)
FORWARD(silu_forward)
BACKWARD(silu_backward, call->in[0])
FORWARD(abs_forward)
BACKWARD(abs_backward, call->in[0])
FORWARD_WITH_SLOPE(leaky_relu_forward)
BACKWARD_WITH_SLOPE(leaky_relu_backward)
FORWARD_WITH_SLOPE(elu_forward)
BACKWARD_WITH_SLOPE(elu_backward)

KD_OP(gelu, NULL, NULL, NULL, gelu_forward, gelu_backward)
KD_OP(relu, NULL, NULL, NULL, relu_forward, relu_backward)
KD_OP(relu6, NULL, NULL, NULL, relu6_forward, relu6_backward)
KD_OP(sigmoid, NULL, NULL, NULL, sigmoid_forward, sigmoid_backward)
KD_OP(silu, NULL, NULL, NULL, silu_forward, silu_backward)
KD_OP(abs, NULL, NULL, NULL, abs_forward, abs_backward)
KD_OP(leaky_relu, NULL, NULL, NULL, leaky_relu_forward, leaky_relu_backward)
KD_OP(elu, NULL, NULL, NULL, elu_forward, elu_backward)

#endif
