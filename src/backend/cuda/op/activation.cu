/* activation.cu - GELU, RELU, RELU6, SIGMOID: elementwise. */
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

#ifdef KD_HOST

#define FORWARD(name)                                                                         \
    static kdas_status name(kdas_device *device, const kdas_call *call)                       \
    {                                                                                         \
        int64_t n = elements(&call->node->out);                                               \
                                                                                              \
        return LAUNCH_EACH(device, name, n, (const elem *)call->in[0], (elem *)call->out, n); \
    }
/* Backward from the input (GELU), or from the output. */
#define BACKWARD(name, value)                                                              \
    static kdas_status name(kdas_device *device, const kdas_call *call)                    \
    {                                                                                      \
        int64_t n = elements(&call->node->out);                                            \
                                                                                           \
        if (!call->din[0]) return KDAS_OK;                                                 \
        return LAUNCH_EACH(device, name, n, (const elem *)value, (const elem *)call->dout, \
                           (elem *)call->din[0], adds(call, 0), n);                        \
    }

FORWARD(gelu_forward)
BACKWARD(gelu_backward, call->in[0])
FORWARD(relu_forward)
BACKWARD(relu_backward, call->out)
FORWARD(relu6_forward)
BACKWARD(relu6_backward, call->out)
FORWARD(sigmoid_forward)
BACKWARD(sigmoid_backward, call->out)

KD_OP(gelu, NULL, NULL, NULL, gelu_forward, gelu_backward)
KD_OP(relu, NULL, NULL, NULL, relu_forward, relu_backward)
KD_OP(relu6, NULL, NULL, NULL, relu6_forward, relu6_backward)
KD_OP(sigmoid, NULL, NULL, NULL, sigmoid_forward, sigmoid_backward)

#endif
