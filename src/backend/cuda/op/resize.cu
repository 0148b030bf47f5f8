/* resize.cu - RESIZE: bilinear, x (N,H,W,C) -> (N,H',W',C).
 *
 * Output i of an axis has the source position s = (a i + b) / den, clamped to the samples, and interpolates between the samples
 * on both sides. a, b and den are integers, so that the one division is the only rounding:
 * corners aligned: s = i (in-1) / (out-1); else s = ((2 i + 1) in - out) / (2 out).
 * Backward gathers, it does not scatter: sample j sums over the outputs with |s - j| < 1, which are consecutive, with weights
 * 1 - |s - j|; first along W into scratch (N,H',W,C), then along H. */
#include "backend/cuda/wide.h"

typedef struct axis {
    int64_t in, out, a, b, den;
} axis;

/* s den of output i. */
static __device__ __forceinline__ int64_t position(const axis *x, int64_t i)
{
    int64_t s = x->a * i + x->b, most = (x->in - 1) * x->den;

    return s < 0 ? 0 : s > most ? most : s;
}

/* ---- forward ---- */

/* x[at0] + share (x[at1] - x[at0]) */
typedef struct mix {
    int64_t at0, at1;
    float   share;
} mix;

static __device__ __forceinline__ mix mix_of(const axis *x, int64_t i)
{
    int64_t s = position(x, i);
    mix     m;

    m.at0   = over(s, x->den);
    m.at1   = m.at0 + 1 < x->in ? m.at0 + 1 : m.at0;
    m.share = (float)(s - m.at0 * x->den) / (float)x->den;
    return m;
}

static __device__ __forceinline__ quad mixed(quad from, quad to, float share, const int width)
{
    EACH_VALUE(k, width) from.v[k] += share * (to.v[k] - from.v[k]);
    return from;
}

/* A thread has a column of y and a channel: its source position along W is computed once. */
static __device__ __forceinline__ void resize(const elem *x, elem *y, const axis *high,
                                              const axis *wide, int64_t rows, int64_t C,
                                              const int width)
{
    int64_t n  = wide->out * C;
    cell    at = cell_of(rows, n, width);
    int64_t j = over(at.c, C), c = at.c - j * C;
    mix     w = mix_of(wide, j);

    EACH_ROW(r, at, rows)
    {
        int64_t     i = over(r, high->out);
        mix         h = mix_of(high, r - i * high->out);
        const elem *p = x + (i * high->in + h.at0) * wide->in * C + c;
        const elem *q = x + (i * high->in + h.at1) * wide->in * C + c;
        quad top = mixed(load(p + w.at0 * C, width), load(p + w.at1 * C, width), w.share, width);
        quad low = mixed(load(q + w.at0 * C, width), load(q + w.at1 * C, width), w.share, width);

        store(y + r * n + at.c, mixed(top, low, h.share, width), width);
    }
}

KERNEL(resize_forward)
(const elem *x, elem *y, axis high, axis wide, int64_t rows, int64_t C, int width)
{
    DISPATCH_WIDTH(width, resize, x, y, &high, &wide, rows, C);
}

/* ---- backward ---- */

/* The first output with s >= j, unclamped. */
static __device__ __forceinline__ int64_t first_from(const axis *x, int64_t j)
{
    int64_t top = j * x->den - x->b, i;

    if (top <= 0) return 0;
    i = over(top + x->a - 1, x->a);
    return i < x->out ? i : x->out;
}

/* Outputs that read sample j: low .. end-1. */
typedef struct run {
    int64_t low, end;
} run;

static __device__ __forceinline__ run run_of(const axis *x, int64_t j)
{
    run r = { 0, x->out };

    if (x->a == 0) return r; /* a single sample, which every output reads */
    if (j > 0) r.low = first_from(x, j - 1);
    if (j < x->in - 1) r.end = first_from(x, j + 1);
    return r;
}

static __device__ __forceinline__ float weight_of(const axis *x, int64_t i, int64_t j, float scale)
{
    int64_t d = position(x, i) - j * x->den;

    if (d < 0) d = -d;
    return d < x->den ? (float)(x->den - d) * scale : 0;
}

/* mixed (N H', W, C) from dy (N H', W', C). */
static __device__ __forceinline__ void gather_across(const elem *dy, float *mixed, const axis *wide,
                                                     int64_t rows, int64_t C, const int width)
{
    int64_t n  = wide->in * C;
    cell    at = cell_of(rows, n, width);
    int64_t j = over(at.c, C), c = at.c - j * C;
    run     from  = run_of(wide, j);
    float   scale = 1.0f / (float)wide->den;

    EACH_ROW(r, at, rows)
    {
        quad sum = { { 0, 0, 0, 0 } };

        for (int64_t i = from.low; i < from.end; i++) {
            float share = weight_of(wide, i, j, scale);
            quad  d     = load(dy + (r * wide->out + i) * C + c, width);

            EACH_VALUE(k, width) sum.v[k] += share * d.v[k];
        }
        store_f(mixed + r * n + at.c, sum, width);
    }
}

KERNEL(resize_across)
(const elem *dy, float *mixed, axis wide, int64_t rows, int64_t C, int width)
{
    DISPATCH_WIDTH(width, gather_across, dy, mixed, &wide, rows, C);
}

/* dx (N, H, W C) from mixed (N, H', W C). */
static __device__ __forceinline__ void gather_down(const float *mixed, elem *dx, const axis *high,
                                                   int64_t rows, int64_t n, int add,
                                                   const int width)
{
    cell  at    = cell_of(rows, n, width);
    float scale = 1.0f / (float)high->den;

    EACH_ROW(r, at, rows)
    {
        int64_t image = over(r, high->in), j = r - image * high->in;
        run     from = run_of(high, j);
        quad    sum  = { { 0, 0, 0, 0 } };

        for (int64_t i = from.low; i < from.end; i++) {
            float share = weight_of(high, i, j, scale);
            quad  d     = load_f(mixed + (image * high->out + i) * n + at.c, width);

            EACH_VALUE(k, width) sum.v[k] += share * d.v[k];
        }
        accumulate_quad(dx + r * n + at.c, sum, add, width);
    }
}

KERNEL(resize_down)
(const float *mixed, elem *dx, axis high, int64_t rows, int64_t n, int add, int width)
{
    DISPATCH_WIDTH(width, gather_down, mixed, dx, &high, rows, n, add);
}

#ifdef KD_HOST

static axis axis_of(const kdas_node_desc *node, int i)
{
    int64_t in = node->in[0].dim[i], out = node->out.dim[i];
    axis    centred = { in, out, 2 * in, in - out, 2 * out };
    axis    aligned = { in, out, in - 1, 0, KD_MAX(out - 1, (int64_t)1) };

    return ((const kdas_resize_attr *)node->attr)->align ? aligned : centred;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    const int64_t *x = node->in[0].dim, *y = node->out.dim;

    for (int i = 1; i < 3; i++)
        if (x[i] > INT64_MAX / 8 / y[i]) /* positions would overflow */
            return device->host.fail(KDAS_EUNSUPPORTED,
                                     "cuda:%d: resize: from %lld to %lld samples is too far",
                                     device->index, (long long)x[i], (long long)y[i]);
    if (node->wants & 1) plan->work_backward = (size_t)(x[0] * y[1] * x[2] * x[3]) * sizeof(float);
    return KDAS_OK;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    axis                  high = axis_of(node, 1), wide = axis_of(node, 2);
    int64_t               C = node->out.dim[3], rows = node->out.dim[0] * high.out;
    int                   width = width_of(C, call->in[0], call->out, NULL, NULL);

    return LAUNCH_MATRIX(device, resize_forward, rows, wide.out * C, width,
                         (const elem *)call->in[0], (elem *)call->out, high, wide, rows, C, width);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    axis                  high = axis_of(node, 1), wide = axis_of(node, 2);
    int64_t               N = node->out.dim[0], C = node->out.dim[3], n = wide.in * C;
    float                *mixed  = (float *)call->work;
    int                   across = width_of(C, call->dout, mixed, NULL, NULL);
    int                   down   = width_of(n, call->din[0], mixed, NULL, NULL);

    if (!call->din[0]) return KDAS_OK;
    KD_RETURN(LAUNCH_MATRIX(device, resize_across, N * high.out, n, across,
                            (const elem *)call->dout, mixed, wide, N * high.out, C, across));
    return LAUNCH_MATRIX(device, resize_down, N * high.in, n, down, (const float *)mixed,
                         (elem *)call->din[0], high, N * high.in, n, adds(call, 0), down);
}

KD_OP(resize, prepare, NULL, NULL, forward, backward)

#endif
