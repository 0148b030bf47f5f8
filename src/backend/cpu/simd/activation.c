/* activation.c - GELU, RELU, RELU6, SIGMOID, ABS, SILU, LEAKY_RELU, ELU, SCALE, DROP_PATH and DROPOUT: elementwise ops. All
 * may run in place, forward and backward. */
#include "backend/cpu/simd/fmath.h"

/* Backward over all elements i: x = value, or x += value where `add`. The test is outside of the loop, so that both loops
 * are vectorised. It declares i. */
#define EACH_GRADIENT(i, n, device, add, x, value)               \
    do {                                                         \
        if (add)                                                 \
            EACH_ELEMENT(i, n, device) set(x, num(x) + (value)); \
        else                                                     \
            EACH_ELEMENT(i, n, device) set(x, value);            \
    } while (0)

/* GELU has the largest tensors of a network, so its results may be streamed: in blocks, through a buffer in the L1 cache. */
enum { BLOCK = 256 };

INLINE void gelu_block(const elem *x, float *y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = num(x[i]) * normal_f(num(x[i]));
}

/* d/dx x F(x) = F(x) + x f(x), f the normal density. */
INLINE void gelu_block_backward(const elem *from, const elem *dy, float *dx, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float x = num(from[i]);

        dx[i] = num(dy[i]) * (normal_f(x) + 0.398942280f * x * exp_f(-0.5f * x * x));
    }
}

/* to = fresh, or to += fresh, or streamed; then n is a multiple of LANES. */
INLINE void store_block(elem *to, const float *fresh, int64_t n, bool add, bool streamed)
{
    if (streamed && n == BLOCK)
        for (int64_t i = 0; i < n; i += LANES)
            stream(to + i, load_f(fresh + i));
    else
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            set(to[i], add ? num(to[i]) + fresh[i] : fresh[i]);
}

/* Forward, `dy` NULL: to = gelu(x). Backward: to = or += dy gelu'(x). */
static void gelu(const kdas_device *device, const kdas_desc *d, const elem *x, const elem *dy,
                 elem *to, bool add)
{
    int64_t n = numel(d);
    bool    streamed =
        !add && to != x && to != dy && streams(device, to, LINE, (size_t)n * sizeof *to);

#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t end = line_part_begin(n, t + 1, device->threads);

        for (int64_t i = line_part_begin(n, t, device->threads); i < end; i += BLOCK) {
            int64_t m = end - i < BLOCK ? end - i : BLOCK;
            float   fresh[BLOCK];

            if (dy)
                gelu_block_backward(x + i, dy + i, fresh, m);
            else
                gelu_block(x + i, fresh, m);
            store_block(to + i, fresh, m, add, streamed);
        }
        stream_done();
    }
}

static kdas_status gelu_forward(kdas_device *device, const kdas_call *call)
{
    gelu(device, &call->node->out, call->in[0], NULL, call->out, false);
    return KDAS_OK;
}

static kdas_status gelu_backward(kdas_device *device, const kdas_call *call)
{
    gelu(device, &call->node->out, call->in[0], call->dout, call->din[0], adds(call, 0));
    return KDAS_OK;
}

static kdas_status relu_forward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0];
    elem       *y = call->out;
    int64_t     n = numel(&call->node->out);

    EACH_ELEMENT(i, n, device) set(y[i], num(x[i]) < 0 ? 0 : num(x[i])); /* a NaN stays one */
    return KDAS_OK;
}

static kdas_status relu_backward(kdas_device *device, const kdas_call *call)
{
    const elem *y = call->out, *dy = call->dout;
    elem       *dx = call->din[0];
    int64_t     n  = numel(&call->node->out);

    EACH_GRADIENT(i, n, device, adds(call, 0), dx[i], num(y[i]) > 0 ? num(dy[i]) : 0);
    return KDAS_OK;
}

static void relu6_part(elem *y, const elem *x, int64_t n)
{
    const vec zero = { 0 };

    EACH_VECTOR(c, left, whole, n)
    store_some(y + c, min_v(zero + 6, max_v(zero, load_some(x + c, whole, left))), whole, left);
}

static kdas_status relu6_forward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0];
    elem       *y = call->out;
    int64_t     n = numel(&call->node->out);

#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t begin = line_part_begin(n, t, device->threads);

        relu6_part(y + begin, x + begin, line_part_begin(n, t + 1, device->threads) - begin);
    }
    return KDAS_OK;
}

static void relu6_part_backward(elem *dx, const elem *y, const elem *dy, int64_t n, bool add)
{
    typedef int32_t bits __attribute__((vector_size(sizeof(vec))));
    const vec       zero = { 0 };

    EACH_VECTOR(c, left, whole, n)
    {
        vec at = load_some(y + c, whole, left), g = load_some(dy + c, whole, left);

        g = (vec)((bits)g & (bits)((at > zero) & (at < zero + 6)));
        if (add) g += load_some(dx + c, whole, left);
        store_some(dx + c, g, whole, left);
    }
}

static kdas_status relu6_backward(kdas_device *device, const kdas_call *call)
{
    const elem *y = call->out, *dy = call->dout;
    elem       *dx  = call->din[0];
    int64_t     n   = numel(&call->node->out);
    bool        add = adds(call, 0);

#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t begin = line_part_begin(n, t, device->threads);
        int64_t count = line_part_begin(n, t + 1, device->threads) - begin;

        relu6_part_backward(dx + begin, y + begin, dy + begin, count, add);
    }
    return KDAS_OK;
}

static kdas_status sigmoid_forward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0];
    elem       *y = call->out;
    int64_t     n = numel(&call->node->out);

    EACH_ELEMENT(i, n, device) set(y[i], logistic_f(num(x[i])));
    return KDAS_OK;
}

static kdas_status sigmoid_backward(kdas_device *device, const kdas_call *call)
{
    const elem *y = call->out, *dy = call->dout;
    elem       *dx = call->din[0];
    int64_t     n  = numel(&call->node->out);

    EACH_GRADIENT(i, n, device, adds(call, 0), dx[i], num(dy[i]) * num(y[i]) * (1.0f - num(y[i])));
    return KDAS_OK;
}

static kdas_status abs_forward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0];
    elem       *y = call->out;
    int64_t     n = numel(&call->node->out);

    EACH_ELEMENT(i, n, device) set(y[i], fabsf(num(x[i])));
    return KDAS_OK;
}

INLINE float abs_gradient(float x, float dy) { return x > 0 ? dy : x < 0 ? -dy : 0; }

static kdas_status abs_backward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0], *dy = call->dout;
    elem       *dx = call->din[0];
    int64_t     n  = numel(&call->node->out);

    EACH_GRADIENT(i, n, device, adds(call, 0), dx[i], abs_gradient(num(x[i]), num(dy[i])));
    return KDAS_OK;
}

static kdas_status silu_forward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0];
    elem       *y = call->out;
    int64_t     n = numel(&call->node->out);

    EACH_ELEMENT(i, n, device) set(y[i], num(x[i]) * logistic_f(num(x[i])));
    return KDAS_OK;
}

INLINE float silu_slope(float x)
{
    float s = logistic_f(x);

    return s * (1.0f + x * (1.0f - s));
}

static kdas_status silu_backward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0], *dy = call->dout;
    elem       *dx = call->din[0];
    int64_t     n  = numel(&call->node->out);

    EACH_GRADIENT(i, n, device, adds(call, 0), dx[i], num(dy[i]) * silu_slope(num(x[i])));
    return KDAS_OK;
}

static kdas_status leaky_relu_forward(kdas_device *device, const kdas_call *call)
{
    const elem *x     = call->in[0];
    const float slope = ((const kdas_leaky_attr *)call->node->attr)->slope;
    elem       *y     = call->out;
    int64_t     n     = numel(&call->node->out);

    EACH_ELEMENT(i, n, device) set(y[i], num(x[i]) * (num(x[i]) > 0 ? 1.0f : slope));
    return KDAS_OK;
}

static kdas_status leaky_relu_backward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0], *dy = call->dout;
    const float slope = ((const kdas_leaky_attr *)call->node->attr)->slope;
    elem       *dx    = call->din[0];
    int64_t     n     = numel(&call->node->out);

    EACH_GRADIENT(i, n, device, adds(call, 0), dx[i], num(dy[i]) * (num(x[i]) > 0 ? 1.0f : slope));
    return KDAS_OK;
}

static kdas_status elu_forward(kdas_device *device, const kdas_call *call)
{
    const elem *x     = call->in[0];
    const float alpha = ((const kdas_leaky_attr *)call->node->attr)->slope;
    elem       *y     = call->out;
    int64_t     n     = numel(&call->node->out);

    EACH_ELEMENT(i, n, device)
    set(y[i], num(x[i]) > 0 ? num(x[i]) : alpha * expm1_f(num(x[i])));
    return KDAS_OK;
}

static kdas_status elu_backward(kdas_device *device, const kdas_call *call)
{
    const elem *x = call->in[0], *dy = call->dout;
    const float alpha = ((const kdas_leaky_attr *)call->node->attr)->slope;
    elem       *dx    = call->din[0];
    int64_t     n     = numel(&call->node->out);

    EACH_GRADIENT(i, n, device, adds(call, 0), dx[i],
                  num(dy[i]) * (num(x[i]) > 0 ? 1.0f : alpha * exp_f(num(x[i]))));
    return KDAS_OK;
}

static kdas_status scale_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_scale_attr *a      = call->node->attr;
    const elem            *x      = call->in[0];
    const float            factor = a->factor, offset = a->offset;
    elem                  *y = call->out;
    int64_t                n = numel(&call->node->out);

    EACH_ELEMENT(i, n, device) set(y[i], num(x[i]) * factor + offset);
    return KDAS_OK;
}

static kdas_status scale_backward(kdas_device *device, const kdas_call *call)
{
    const elem *dy     = call->dout;
    const float factor = ((const kdas_scale_attr *)call->node->attr)->factor;
    elem       *dx     = call->din[0];
    int64_t     n      = numel(&call->node->out);

    EACH_GRADIENT(i, n, device, adds(call, 0), dx[i], num(dy[i]) * factor);
    return KDAS_OK;
}

/* The factor of image n: 1/(1-p), or 0 if it is dropped. */
static float kept(const kdas_call *call, int64_t n)
{
    float keep = 1.0f - ((const kdas_drop_attr *)call->node->attr)->p;

    if (!(call->node->flags & KDAS_NODE_TRAIN)) return 1.0f;
    return kdas_unit(call->seed, (uint64_t)n) < keep ? 1.0f / keep : 0.0f;
}

/* to = or += factor from; a dropped image is zero whatever `from` holds. */
static void drop_part(elem *to, const elem *from, int64_t n, float factor, bool add)
{
    if (factor == 0.0f && add) return;
    if (factor == 1.0f && !add && to == from) return;
    if (factor == 0.0f)
        memset(to, 0, (size_t)n * sizeof(elem));
    else
        EACH_VECTOR(c, left, whole, n)
        {
            vec v = factor * load_some(from + c, whole, left);

            if (add) v += load_some(to + c, whole, left);
            store_some(to + c, v, whole, left);
        }
}

/* Each thread has a part of every image, so that a dropped image leaves no thread idle. */
static void drop(kdas_device *device, const kdas_call *call, elem *to, const elem *from, bool add)
{
    int64_t size = image_numel(&call->node->out), images = call->node->out.dim[0];

#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t begin = line_part_begin(size, t, device->threads);
        int64_t count = line_part_begin(size, t + 1, device->threads) - begin;

        for (int64_t n = 0; n < images; n++)
            drop_part(to + n * size + begin, from + n * size + begin, count, kept(call, n), add);
    }
}

static kdas_status drop_path_forward(kdas_device *device, const kdas_call *call)
{
    drop(device, call, call->out, call->in[0], false);
    return KDAS_OK;
}

static kdas_status drop_path_backward(kdas_device *device, const kdas_call *call)
{
    drop(device, call, call->din[0], call->dout, adds(call, 0));
    return KDAS_OK;
}

/* The factor of element i: kdas_unit(seed, i) < 1-p, compared as the integers that it is made of. */
INLINE float mask_at(uint64_t seed, int64_t i, int32_t limit, float factor)
{
    uint64_t z = seed + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z = z ^ (z >> 31);
    return (int32_t)(z >> 40) < limit ? factor : 0.0f;
}

/* to = or += from, times the mask. */
static void dropout(kdas_device *device, const kdas_call *call, elem *to, const elem *from,
                    bool add)
{
    const float    keep  = 1.0f - ((const kdas_drop_attr *)call->node->attr)->p;
    const int32_t  limit = (int32_t)ceilf(keep * 16777216.0f);
    const uint64_t seed  = call->seed;
    int64_t        n     = numel(&call->node->out);

    if (call->node->flags & KDAS_NODE_TRAIN)
        EACH_GRADIENT(i, n, device, add, to[i],
                      num(from[i]) * mask_at(seed, i, limit, 1.0f / keep));
    else if (add || to != from)
        EACH_GRADIENT(i, n, device, add, to[i], num(from[i]));
}

static kdas_status dropout_forward(kdas_device *device, const kdas_call *call)
{
    dropout(device, call, call->out, call->in[0], false);
    return KDAS_OK;
}

static kdas_status dropout_backward(kdas_device *device, const kdas_call *call)
{
    dropout(device, call, call->din[0], call->dout, adds(call, 0));
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(gelu)    = { .forward = gelu_forward, .backward = gelu_backward };
const kd_cpu_kernel KD_SIMD(relu)    = { .forward = relu_forward, .backward = relu_backward };
const kd_cpu_kernel KD_SIMD(relu6)   = { .forward = relu6_forward, .backward = relu6_backward };
const kd_cpu_kernel KD_SIMD(sigmoid) = { .forward = sigmoid_forward, .backward = sigmoid_backward };
const kd_cpu_kernel KD_SIMD(scale)   = { .forward = scale_forward, .backward = scale_backward };
const kd_cpu_kernel KD_SIMD(drop_path) = { .forward  = drop_path_forward,
                                           .backward = drop_path_backward };
const kd_cpu_kernel KD_SIMD(abs)       = { .forward = abs_forward, .backward = abs_backward };
const kd_cpu_kernel KD_SIMD(silu)      = { .forward = silu_forward, .backward = silu_backward };
const kd_cpu_kernel KD_SIMD(elu)       = { .forward = elu_forward, .backward = elu_backward };
const kd_cpu_kernel KD_SIMD(dropout) = { .forward = dropout_forward, .backward = dropout_backward };
const kd_cpu_kernel KD_SIMD(leaky_relu) = { .forward  = leaky_relu_forward,
                                            .backward = leaky_relu_backward };
