/* loss.c - BCE, OVERLAP, KL and SQUARE_ERROR, one value for each image (N,1,1,1), and MEAN of all elements.
 *
 * Sums run over chunks of fixed length: f32 lanes within a chunk, f64 over the chunks, in order. So they depend on the shape
 * alone, not on the thread count. `saved` holds what backward would have to sum again. */
#include "backend/cpu/simd/fmath.h"

enum { CHUNK = 8192, MOST_SUMS = 4 };

typedef struct shape {
    int64_t images, size, chunks; /* size: elements of an image */
} shape;

static shape shape_of(const kdas_node_desc *node)
{
    shape s = { node->in[0].dim[0], image_numel(&node->in[0]), 0 };

    s.chunks = ceil_div(s.size, CHUNK);
    return s;
}

/* Scratch: MOST_SUMS doubles for each chunk. Saved: as many floats for each image. */
static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node);

    (void)device;
    plan->saved        = float_bytes(s.images * MOST_SUMS);
    plan->work_forward = double_bytes(s.images * s.chunks * MOST_SUMS);
    return KDAS_OK;
}

/* One chunk: elements begin .. end-1, counted over all images. */
typedef struct chunk {
    int64_t image, begin, end;
} chunk;

static chunk chunk_of(const shape *s, int64_t i)
{
    int64_t image = i / s->chunks, at = i % s->chunks * CHUNK;
    int64_t n = s->size - at < CHUNK ? s->size - at : CHUNK;

    return (chunk){ image, image * s->size + at, image * s->size + at + n };
}

/* A parallel loop over all chunks of a shape s. It declares the chunk c. */
/* clang-format off */
#define EACH_CHUNK(c, s)                                                \
    _Pragma("omp parallel for schedule(static)")                        \
    for (int64_t k_ = 0; k_ < (s).images * (s).chunks; k_++)            \
        for (chunk c = chunk_of(&(s), k_), *once_ = &c; once_; once_ = NULL)
/* clang-format on */

/* Sum number `which` of an image. */
static double sum_of(const shape *s, const double *sums, int64_t image, int which)
{
    double sum = 0;

    for (int64_t k = 0; k < s->chunks; k++)
        sum += sums[(image * s->chunks + k) * MOST_SUMS + which];
    return sum;
}

static double *chunk_sums(const kdas_call *call, const shape *s, const chunk *c)
{
    int64_t k = (c->begin - c->image * s->size) / CHUNK;

    return (double *)call->work + (c->image * s->chunks + k) * MOST_SUMS;
}

static const float *weights_of(const kdas_call *call)
{
    return call->node->inputs > 2 && call->node->in[2].dim[0] ? call->in[2] : NULL;
}

/* ---- bce ---- */

INLINE void bce_chunk(const float *p, const float *y, const float *w, chunk c, double *sums)
{
    float loss = 0, weight = 0;

    if (w)
#pragma omp simd reduction(+ : loss, weight)
        for (int64_t i = c.begin; i < c.end; i++) {
            loss += w[i] * bce_f(p[i], y[i]);
            weight += w[i];
        }
    else
#pragma omp simd reduction(+ : loss)
        for (int64_t i = c.begin; i < c.end; i++)
            loss += bce_f(p[i], y[i]);
    sums[0] = loss;
    sums[1] = w ? weight : (double)(c.end - c.begin);
}

static kdas_status bce_forward(kdas_device *device, const kdas_call *call)
{
    shape        s = shape_of(call->node);
    const float *p = call->in[0], *y = call->in[1], *w = weights_of(call);
    float       *out = call->out, *saved = call->saved;

    (void)device;
    EACH_CHUNK(c, s)
    bce_chunk(p, y, w, c, chunk_sums(call, &s, &c));
    for (int64_t n = 0; n < s.images; n++) {
        double weight = sum_of(&s, call->work, n, 1);

        out[n]               = (float)(sum_of(&s, call->work, n, 0) / weight);
        saved[n * MOST_SUMS] = (float)(1 / weight);
    }
    return KDAS_OK;
}

/* dp = share w (sigmoid(p) - y), `weighted` and `add` constants */
INLINE void bce_chunk_backward(const float *p, const float *y, const float *w, float *dp, chunk c,
                               float share, const bool weighted, const bool add)
{
#pragma omp simd
    for (int64_t i = c.begin; i < c.end; i++) {
        float d = share * (weighted ? w[i] : 1.0f) * (logistic_f(p[i]) - y[i]);

        dp[i] = add ? dp[i] + d : d;
    }
}

static kdas_status bce_backward(kdas_device *device, const kdas_call *call)
{
    shape        s = shape_of(call->node);
    const float *p = call->in[0], *y = call->in[1], *w = weights_of(call), *dout = call->dout;
    const float *saved = call->saved;
    float       *dp    = call->din[0];
    bool         add   = adds(call, 0);

    (void)device;
    if (!dp) return KDAS_OK;
    EACH_CHUNK(c, s)
    {
        float share = dout[c.image] * saved[c.image * MOST_SUMS];

        if (w && add)
            bce_chunk_backward(p, y, w, dp, c, share, true, true);
        else if (w)
            bce_chunk_backward(p, y, w, dp, c, share, true, false);
        else if (add)
            bce_chunk_backward(p, y, w, dp, c, share, false, true);
        else
            bce_chunk_backward(p, y, w, dp, c, share, false, false);
    }
    return KDAS_OK;
}

/* ---- overlap ---- */

/* sums: w s y and w (s + y) */
INLINE void overlap_chunk(const float *p, const float *y, const float *w, chunk c, double *sums,
                          const bool weighted)
{
    float both = 0, all = 0;

#pragma omp simd reduction(+ : both, all)
    for (int64_t i = c.begin; i < c.end; i++) {
        float q = logistic_f(p[i]), weight = weighted ? w[i] : 1.0f;

        both += weight * q * y[i];
        all += weight * (q + y[i]);
    }
    sums[0] = both;
    sums[1] = all;
}

/* saved: numerator and denominator of the overlap */
static kdas_status overlap_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_overlap_attr *attr = call->node->attr;
    shape                    s    = shape_of(call->node);
    const float             *p = call->in[0], *y = call->in[1], *w = weights_of(call);
    float                   *out = call->out, *saved = call->saved;

    (void)device;
    EACH_CHUNK(c, s)
    {
        if (w)
            overlap_chunk(p, y, w, c, chunk_sums(call, &s, &c), true);
        else
            overlap_chunk(p, y, w, c, chunk_sums(call, &s, &c), false);
    }
    for (int64_t n = 0; n < s.images; n++) {
        double both = sum_of(&s, call->work, n, 0), all = sum_of(&s, call->work, n, 1);
        double above = (attr->jaccard ? both : 2 * both) + attr->smooth;
        double below = (attr->jaccard ? all - both : all) + attr->smooth;

        out[n]                   = (float)(1 - above / below);
        saved[n * MOST_SUMS]     = (float)above;
        saved[n * MOST_SUMS + 1] = (float)below;
    }
    return KDAS_OK;
}

/* The terms of a gradient: d = share w (overlap (1 - below_y y) - above_y y) s (1 - s). */
typedef struct slope {
    float share, overlap, above_y, below_y;
} slope;

INLINE void overlap_chunk_backward(const float *p, const float *y, const float *w, float *dp,
                                   chunk c, slope k, const bool weighted, const bool add)
{
#pragma omp simd
    for (int64_t i = c.begin; i < c.end; i++) {
        float q = logistic_f(p[i]), weight = weighted ? w[i] : 1.0f;
        float d = k.overlap * (1.0f - k.below_y * y[i]) - k.above_y * y[i];

        d *= k.share * weight * q * (1.0f - q);
        dp[i] = add ? dp[i] + d : d;
    }
}

/* With A/B the overlap: (A B' - A' B) / B^2 s (1 - s); dice: A' = 2 w y, B' = w; jaccard: A' = w y,
 * B' = w (1 - y). */
static kdas_status overlap_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_overlap_attr *attr = call->node->attr;
    shape                    s    = shape_of(call->node);
    const float *p = call->in[0], *y = call->in[1], *w = weights_of(call), *dout = call->dout;
    const float *saved = call->saved;
    float       *dp    = call->din[0];
    bool         add   = adds(call, 0);

    (void)device;
    if (!dp) return KDAS_OK;
    EACH_CHUNK(c, s)
    {
        float above = saved[c.image * MOST_SUMS], below = saved[c.image * MOST_SUMS + 1];
        slope k = { dout[c.image] / below, above / below, attr->jaccard ? 1 : 2,
                    attr->jaccard ? 1 : 0 };

        if (w && add)
            overlap_chunk_backward(p, y, w, dp, c, k, true, true);
        else if (w)
            overlap_chunk_backward(p, y, w, dp, c, k, true, false);
        else if (add)
            overlap_chunk_backward(p, y, w, dp, c, k, false, true);
        else
            overlap_chunk_backward(p, y, w, dp, c, k, false, false);
    }
    return KDAS_OK;
}

/* ---- kl ---- */

/* Of one image's softmax(x / tau): its largest x and 1 / sum(e^((x - largest) / tau)). */
typedef struct softmax {
    float  most, inverse;
    double log_sum;
} softmax;

/* Combine the chunks: sums[at] is the largest value of a chunk, sums[at + 1] its sum. */
static softmax join_softmax(const shape *s, const double *sums, int64_t image, int at, double tau)
{
    const double *chunk0 = sums + image * s->chunks * MOST_SUMS + at;
    double        most = chunk0[0], sum = 0;

    for (int64_t k = 1; k < s->chunks; k++)
        most = chunk0[k * MOST_SUMS] > most ? chunk0[k * MOST_SUMS] : most;
    for (int64_t k = 0; k < s->chunks; k++)
        sum += chunk0[k * MOST_SUMS + 1] * exp((chunk0[k * MOST_SUMS] - most) / tau);
    return (softmax){ (float)most, (float)(1 / sum), most / tau + log(sum) };
}

static void chunk_softmax(const float *x, int64_t begin, int64_t end, float inverse_tau,
                          double *sums)
{
    float most = x[begin], sum = 0;

#pragma omp simd reduction(max : most)
    for (int64_t i = begin; i < end; i++)
        most = x[i] > most ? x[i] : most;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; i++)
        sum += exp_f((x[i] - most) * inverse_tau);
    sums[0] = most;
    sums[1] = sum;
}

/* A term of KL(pt || ps), d = log ps - log pt. As ps and pt both sum to 1, the sum of pt (e^d - 1 - d) equals that of -pt d.
 * Its terms are never negative, so nothing cancels, and two nearly equal maps give an exact result. Near 0 it is
 * computed from the series. */
INLINE float kl_term(float ps, float pt, float d)
{
    float near =
        pt * d * d * (0.5f + d * (1.66666667e-1f + d * (4.16666667e-2f + d * 8.33333333e-3f)));

    return fabsf(d) < 0.1f ? near : ps - pt - pt * d;
}

/* saved: most and inverse of s, most and inverse of t */
static kdas_status kl_forward(kdas_device *device, const kdas_call *call)
{
    shape        s   = shape_of(call->node);
    double       tau = ((const kdas_kl_attr *)call->node->attr)->tau;
    const float *x = call->in[0], *t = call->in[1], inverse_tau = (float)(1 / tau);
    float       *out = call->out, *saved = call->saved;

    (void)device;
    EACH_CHUNK(c, s)
    {
        chunk_softmax(x, c.begin, c.end, inverse_tau, chunk_sums(call, &s, &c));
        chunk_softmax(t, c.begin, c.end, inverse_tau, chunk_sums(call, &s, &c) + 2);
    }
    for (int64_t n = 0; n < s.images; n++) {
        softmax ps = join_softmax(&s, call->work, n, 0, tau);
        softmax pt = join_softmax(&s, call->work, n, 2, tau);

        saved[n * MOST_SUMS]     = ps.most;
        saved[n * MOST_SUMS + 1] = ps.inverse;
        saved[n * MOST_SUMS + 2] = pt.most;
        saved[n * MOST_SUMS + 3] = pt.inverse;
        out[n]                   = (float)(ps.log_sum - pt.log_sum); /* read below, then replaced */
    }
    EACH_CHUNK(c, s)
    {
        const float *of = saved + c.image * MOST_SUMS, shift = out[c.image];
        float        sum = 0, x0 = of[0], xs = of[1], t0 = of[2], ts = of[3];

#pragma omp simd reduction(+ : sum)
        for (int64_t i = c.begin; i < c.end; i++)
            sum +=
                kl_term(xs * exp_f((x[i] - x0) * inverse_tau),
                        ts * exp_f((t[i] - t0) * inverse_tau), (x[i] - t[i]) * inverse_tau - shift);
        chunk_sums(call, &s, &c)[0] = sum;
    }
    for (int64_t n = 0; n < s.images; n++)
        out[n] = (float)(tau * tau * sum_of(&s, call->work, n, 0));
    return KDAS_OK;
}

/* One image's softmaxes as kl_forward() saved them, and the factor of its gradient. */
typedef struct pair {
    float s_most, s_inverse, t_most, t_inverse, inverse_tau, share;
} pair;

INLINE void kl_chunk_backward(const float *x, const float *t, float *ds, chunk c, pair k,
                              const bool add)
{
#pragma omp simd
    for (int64_t i = c.begin; i < c.end; i++) {
        float ps = k.s_inverse * exp_f((x[i] - k.s_most) * k.inverse_tau);
        float pt = k.t_inverse * exp_f((t[i] - k.t_most) * k.inverse_tau);
        float d  = k.share * (ps - pt);

        ds[i] = add ? ds[i] + d : d;
    }
}

/* ds = dout tau (ps - pt) */
static kdas_status kl_backward(kdas_device *device, const kdas_call *call)
{
    shape        s   = shape_of(call->node);
    float        tau = ((const kdas_kl_attr *)call->node->attr)->tau;
    const float *x = call->in[0], *t = call->in[1], *dout = call->dout, *saved = call->saved;
    float       *ds  = call->din[0];
    bool         add = adds(call, 0);

    (void)device;
    if (!ds) return KDAS_OK;
    EACH_CHUNK(c, s)
    {
        const float *of = saved + c.image * MOST_SUMS;
        pair         k  = { of[0], of[1], of[2], of[3], 1.0f / tau, dout[c.image] * tau };

        if (add)
            kl_chunk_backward(x, t, ds, c, k, true);
        else
            kl_chunk_backward(x, t, ds, c, k, false);
    }
    return KDAS_OK;
}

/* ---- square error ---- */

static kdas_status square_error_forward(kdas_device *device, const kdas_call *call)
{
    shape        s = shape_of(call->node);
    const float *a = call->in[0], *b = call->in[1];
    float       *out = call->out;

    (void)device;
    EACH_CHUNK(c, s)
    {
        float sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t i = c.begin; i < c.end; i++)
            sum += (a[i] - b[i]) * (a[i] - b[i]);
        chunk_sums(call, &s, &c)[0] = sum;
    }
    for (int64_t n = 0; n < s.images; n++)
        out[n] = (float)(sum_of(&s, call->work, n, 0) / (double)s.size);
    return KDAS_OK;
}

static kdas_status square_error_backward(kdas_device *device, const kdas_call *call)
{
    shape        s = shape_of(call->node);
    const float *a = call->in[0], *b = call->in[1], *dout = call->dout;
    float       *da  = call->din[0];
    bool         add = adds(call, 0);

    (void)device;
    if (!da) return KDAS_OK;
    EACH_CHUNK(c, s)
    {
        float share = dout[c.image] * (float)(2.0 / (double)s.size);

#pragma omp simd
        for (int64_t i = c.begin; i < c.end; i++)
            da[i] = (add ? da[i] : 0) + share * (a[i] - b[i]);
    }
    return KDAS_OK;
}

/* ---- mean of all ---- */

static kdas_status mean_forward(kdas_device *device, const kdas_call *call)
{
    shape        s   = shape_of(call->node);
    const float *x   = call->in[0];
    double       all = 0;

    (void)device;
    EACH_CHUNK(c, s)
    {
        float sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t i = c.begin; i < c.end; i++)
            sum += x[i];
        chunk_sums(call, &s, &c)[0] = sum;
    }
    for (int64_t n = 0; n < s.images; n++)
        all += sum_of(&s, call->work, n, 0);
    *(float *)call->out = (float)(all / (double)(s.images * s.size));
    return KDAS_OK;
}

static kdas_status mean_backward(kdas_device *device, const kdas_call *call)
{
    shape  s  = shape_of(call->node);
    float *dx = call->din[0], share = *(const float *)call->dout / (float)(s.images * s.size);
    bool   add = adds(call, 0);

    (void)device;
    EACH_CHUNK(c, s)
#pragma omp simd
    for (int64_t i = c.begin; i < c.end; i++)
        dx[i] = add ? dx[i] + share : share;
    return KDAS_OK;
}

#define LOSS(name)                        \
    const kd_cpu_kernel KD_SIMD(name) = { \
        .prepare  = prepare,              \
        .forward  = name##_forward,       \
        .backward = name##_backward,      \
    };

LOSS(bce)
LOSS(overlap)
LOSS(kl)
LOSS(square_error)
LOSS(mean)
