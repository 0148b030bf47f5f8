/* loss.cu - BCE, OVERLAP, KL and SQUARE_ERROR: one value for each image, (N,1,1,1), from maps (N,H,W,C).
 *
 * A block sums one chunk of an image, so that even one image fills a card. A second kernel adds up the chunks of an image in
 * f64, in order. `saved` holds what backward would have to sum again. */
#include "backend/cuda/kernel.h"

#define CHUNK 2048 /* elements of a block, 8 for each thread                 */
#define SUMS  4    /* floats of each chunk, (image, chunk, SUMS)             */
#define KEPT  8    /* floats of each image in `saved`, (image, KEPT); KL's 5 */

/* The elements of a thread in its block's chunk: begin, begin + KD_BLOCK ... below end, counted over all images. */
typedef struct chunk {
    int64_t image, first, begin, end;
} chunk;

static __device__ __forceinline__ chunk chunk_of(int64_t size, unsigned chunks)
{
    chunk   c;
    int64_t at = (int64_t)(blockIdx.x % chunks) * CHUNK;

    c.image = blockIdx.x / chunks;
    c.first = c.image * size + at;
    c.begin = c.first + threadIdx.x;
    c.end   = c.first + (size - at < CHUNK ? size - at : CHUNK);
    return c;
}

#define EACH_OF(c, i) for (int64_t i = (c).begin; i < (c).end; i += KD_BLOCK)

static __device__ __forceinline__ float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

/* The first threads store the sums of the block to its place in `parts`. */
static __device__ __forceinline__ void put_sums(float *parts, float a, float b)
{
    if (threadIdx.x > 0) return;
    parts[(int64_t)blockIdx.x * SUMS]     = a;
    parts[(int64_t)blockIdx.x * SUMS + 1] = b;
}

/* Sum number `which` of image blockIdx.x. */
static __device__ double image_sum(const float *parts, unsigned chunks, int which)
{
    const float *own = parts + (int64_t)blockIdx.x * chunks * SUMS + which;
    double       sum = 0;

    for (unsigned k = threadIdx.x; k < chunks; k += KD_BLOCK)
        sum += own[(int64_t)k * SUMS];
    return block_sum_f64(sum);
}

/* out[image] = factor * its sum. */
KERNEL(loss_join)(const float *parts, float *out, unsigned chunks, double factor)
{
    double sum = image_sum(parts, chunks, 0);

    if (threadIdx.x == 0) out[blockIdx.x] = (float)(factor * sum);
}

/* ---- bce ---- */

KERNEL(bce_parts)
(const float *p, const float *y, const float *w, float *parts, int64_t size, unsigned chunks)
{
    chunk c    = chunk_of(size, chunks);
    float loss = 0, weight = 0;

    EACH_OF(c, i)
    {
        float of = w ? w[i] : 1.0f, x = p[i];

        loss += of * (fmaxf(x, 0.0f) - x * y[i] + log1pf(expf(-fabsf(x))));
        weight += of;
    }
    loss   = block_sum(loss);
    weight = block_sum(weight);
    put_sums(parts, loss, weight);
}

/* saved: 1 / sum(w) */
KERNEL(bce_join)(const float *parts, float *out, float *saved, unsigned chunks)
{
    double loss = image_sum(parts, chunks, 0), weight = image_sum(parts, chunks, 1);

    if (threadIdx.x > 0) return;
    out[blockIdx.x]          = (float)(loss / weight);
    saved[blockIdx.x * KEPT] = (float)(1 / weight);
}

/* dp = dout w (sigmoid(p) - y) / sum(w) */
KERNEL(bce_backward)
(const float *p, const float *y, const float *w, const float *saved, const float *dout, float *dp,
 int add, int64_t size, unsigned chunks)
{
    chunk c     = chunk_of(size, chunks);
    float share = dout[c.image] * saved[c.image * KEPT];

    EACH_OF(c, i) accumulate(&dp[i], (w ? w[i] : 1.0f) * share * (logistic(p[i]) - y[i]), add);
}

/* ---- overlap ---- */

/* sums: w s y and w (s + y) */
KERNEL(overlap_parts)
(const float *p, const float *y, const float *w, float *parts, int64_t size, unsigned chunks)
{
    chunk c    = chunk_of(size, chunks);
    float both = 0, all = 0;

    EACH_OF(c, i)
    {
        float of = w ? w[i] : 1.0f, s = logistic(p[i]);

        both += of * s * y[i];
        all += of * (s + y[i]);
    }
    both = block_sum(both);
    all  = block_sum(all);
    put_sums(parts, both, all);
}

/* saved: numerator and denominator of the overlap */
KERNEL(overlap_join)
(const float *parts, float *out, float *saved, unsigned chunks, int jaccard, float smooth)
{
    double both = image_sum(parts, chunks, 0), all = image_sum(parts, chunks, 1);
    double above = (jaccard ? both : 2 * both) + smooth;
    double below = (jaccard ? all - both : all) + smooth;

    if (threadIdx.x > 0) return;
    out[blockIdx.x]              = (float)(1 - above / below);
    saved[blockIdx.x * KEPT]     = (float)above;
    saved[blockIdx.x * KEPT + 1] = (float)below;
}

/* With A/B the overlap: (A B' - A' B) / B^2 s (1 - s); dice: A' = 2 w y, B' = w; jaccard: A' = w y,
 * B' = w (1 - y). */
KERNEL(overlap_backward)
(const float *p, const float *y, const float *w, const float *saved, const float *dout, float *dp,
 int add, int jaccard, int64_t size, unsigned chunks)
{
    chunk c     = chunk_of(size, chunks);
    float above = saved[c.image * KEPT], below = saved[c.image * KEPT + 1];
    float share = dout[c.image] / below, overlap = above / below;
    float above_y = jaccard ? 1.0f : 2.0f, below_y = jaccard ? 1.0f : 0.0f;

    EACH_OF(c, i)
    {
        float s = logistic(p[i]), of = w ? w[i] : 1.0f;
        float slope = overlap * (1.0f - below_y * y[i]) - above_y * y[i];

        accumulate(&dp[i], slope * share * of * s * (1.0f - s), add);
    }
}

/* ---- kl ---- */

/* sums: the chunk's largest x, sum(e^((x - largest) / tau)) */
static __device__ void chunk_softmax(const float *x, chunk c, float inverse_tau, float *parts)
{
    float most = x[c.first], sum = 0;

    EACH_OF(c, i) most = x[i] > most || x[i] != x[i] ? x[i] : most;
    most               = block_max(most);
    EACH_OF(c, i) sum += expf((x[i] - most) * inverse_tau);
    sum = block_sum(sum);
    put_sums(parts, most, sum);
}

KERNEL(kl_softmax_parts)
(const float *s, const float *t, float *parts, float inverse_tau, int64_t size, unsigned chunks)
{
    chunk c = chunk_of(size, chunks);

    chunk_softmax(s, c, inverse_tau, parts);
    chunk_softmax(t, c, inverse_tau, parts + 2);
}

/* kept: the image's largest x and 1 / sum(e^((x - largest) / tau)); the result: log(sum(e^(x / tau))). */
static __device__ double join_softmax(const float *parts, unsigned chunks, double tau, float *kept)
{
    const float *own  = parts + (int64_t)blockIdx.x * chunks * SUMS;
    float        most = own[0];
    double       sum  = 0;

    for (unsigned k = threadIdx.x; k < chunks; k += KD_BLOCK) {
        float x = own[(int64_t)k * SUMS];

        most = x > most || x != x ? x : most;
    }
    most = block_max(most);
    for (unsigned k = threadIdx.x; k < chunks; k += KD_BLOCK)
        sum += own[(int64_t)k * SUMS + 1] * exp(((double)own[(int64_t)k * SUMS] - most) / tau);
    sum = block_sum_f64(sum);
    if (threadIdx.x == 0) {
        kept[0] = most;
        kept[1] = (float)(1 / sum);
    }
    return most / tau + log(sum);
}

/* saved: most and inverse of s, most and inverse of t, the difference of the logarithms of their sums */
KERNEL(kl_softmax_join)(const float *parts, float *saved, double tau, unsigned chunks)
{
    float *own = saved + (int64_t)blockIdx.x * KEPT;
    double s   = join_softmax(parts, chunks, tau, own);
    double t   = join_softmax(parts + 2, chunks, tau, own + 2);

    if (threadIdx.x == 0) own[4] = (float)(s - t);
}

/* A term of KL(pt || ps), d = log ps - log pt. As ps and pt both sum to 1, the sum of pt (e^d - 1 - d) equals that of -pt d. Its
 * terms are never negative, so nothing cancels, and two nearly equal maps give an exact result. Near 0 it is computed
 * from the series. */
static __device__ __forceinline__ float kl_term(float ps, float pt, float d)
{
    float near_0 =
        pt * d * d * (0.5f + d * (1.66666667e-1f + d * (4.16666667e-2f + d * 8.33333333e-3f)));

    return fabsf(d) < 0.1f ? near_0 : ps - pt - pt * d;
}

KERNEL(kl_parts)
(const float *s, const float *t, const float *saved, float *parts, float inverse_tau, int64_t size,
 unsigned chunks)
{
    chunk        c   = chunk_of(size, chunks);
    const float *of  = saved + c.image * KEPT;
    float        sum = 0, s_most = of[0], s_inverse = of[1], t_most = of[2], t_inverse = of[3];
    float        shift = of[4];

    EACH_OF(c, i)
    {
        float ps = s_inverse * expf((s[i] - s_most) * inverse_tau);
        float pt = t_inverse * expf((t[i] - t_most) * inverse_tau);

        sum += kl_term(ps, pt, (s[i] - t[i]) * inverse_tau - shift);
    }
    sum = block_sum(sum);
    put_sums(parts, sum, 0);
}

/* ds = dout tau (ps - pt) */
KERNEL(kl_backward)
(const float *s, const float *t, const float *saved, const float *dout, float *ds, int add,
 float tau, int64_t size, unsigned chunks)
{
    chunk        c      = chunk_of(size, chunks);
    const float *of     = saved + c.image * KEPT;
    float        s_most = of[0], s_inverse = of[1], t_most = of[2], t_inverse = of[3];
    float        inverse_tau = 1.0f / tau, share = dout[c.image] * tau;

    EACH_OF(c, i)
    {
        float ps = s_inverse * expf((s[i] - s_most) * inverse_tau);
        float pt = t_inverse * expf((t[i] - t_most) * inverse_tau);

        accumulate(&ds[i], share * (ps - pt), add);
    }
}

/* ---- square error ---- */

KERNEL(square_error_parts)
(const float *a, const float *b, float *parts, int64_t size, unsigned chunks)
{
    chunk c   = chunk_of(size, chunks);
    float sum = 0;

    EACH_OF(c, i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    sum = block_sum(sum);
    put_sums(parts, sum, 0);
}

KERNEL(square_error_backward)
(const float *a, const float *b, const float *dout, float *da, int add, int64_t size,
 unsigned chunks)
{
    chunk c     = chunk_of(size, chunks);
    float share = (float)(2.0 * dout[c.image] / (double)size);

    EACH_OF(c, i) accumulate(&da[i], share * (a[i] - b[i]), add);
}

#ifdef KD_HOST

typedef struct shape {
    int64_t  size; /* elements of an image */
    unsigned images, chunks, blocks;
} shape;

static shape shape_of(const kdas_node_desc *node)
{
    shape s;

    s.size   = elements(&node->in[0]) / node->in[0].dim[0];
    s.images = (unsigned)node->in[0].dim[0];
    s.chunks = (unsigned)KD_CEIL(s.size, (int64_t)CHUNK);
    s.blocks = s.images * s.chunks;
    return s;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node);

    (void)device;
    plan->saved        = (size_t)s.images * KEPT * sizeof(float);
    plan->work_forward = (size_t)s.blocks * SUMS * sizeof(float);
    return KDAS_OK;
}

static const float *weights_of(const kdas_call *call)
{
    return call->node->inputs > 2 && call->node->in[2].dim[0] ? (const float *)call->in[2] : NULL;
}

static float *saved_of(const kdas_call *call) { return (float *)call->saved; }

/* The operands by their types. */
#define OPERANDS(call)                                                                \
    const float *a = (const float *)(call)->in[0], *b = (const float *)(call)->in[1]; \
    shape        s = shape_of((call)->node)
#define OPERANDS_FORWARD(call) \
    OPERANDS(call);            \
    float *parts = (float *)(call)->work, *out = (float *)(call)->out
#define OPERANDS_BACKWARD(call)                      \
    OPERANDS(call);                                  \
    const float *dout = (const float *)(call)->dout; \
    float       *da   = (float *)(call)->din[0];     \
    if (!da) return KDAS_OK

static kdas_status bce_forward(kdas_device *device, const kdas_call *call)
{
    OPERANDS_FORWARD(call);

    KD_RETURN(LAUNCH(device, bce_parts, s.blocks, KD_BLOCK, a, b, weights_of(call), parts, s.size,
                     s.chunks));
    return LAUNCH(device, bce_join, s.images, KD_BLOCK, parts, out, saved_of(call), s.chunks);
}

static kdas_status bce_backward(kdas_device *device, const kdas_call *call)
{
    OPERANDS_BACKWARD(call);

    return LAUNCH(device, bce_backward, s.blocks, KD_BLOCK, a, b, weights_of(call), saved_of(call),
                  dout, da, adds(call, 0), s.size, s.chunks);
}

static kdas_status overlap_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_overlap_attr *attr = (const kdas_overlap_attr *)call->node->attr;
    OPERANDS_FORWARD(call);

    KD_RETURN(LAUNCH(device, overlap_parts, s.blocks, KD_BLOCK, a, b, weights_of(call), parts,
                     s.size, s.chunks));
    return LAUNCH(device, overlap_join, s.images, KD_BLOCK, parts, out, saved_of(call), s.chunks,
                  attr->jaccard, attr->smooth);
}

static kdas_status overlap_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_overlap_attr *attr = (const kdas_overlap_attr *)call->node->attr;
    OPERANDS_BACKWARD(call);

    return LAUNCH(device, overlap_backward, s.blocks, KD_BLOCK, a, b, weights_of(call),
                  saved_of(call), dout, da, adds(call, 0), attr->jaccard, s.size, s.chunks);
}

static kdas_status kl_forward(kdas_device *device, const kdas_call *call)
{
    double tau     = ((const kdas_kl_attr *)call->node->attr)->tau;
    float  inverse = (float)(1 / tau);
    OPERANDS_FORWARD(call);

    KD_RETURN(LAUNCH(device, kl_softmax_parts, s.blocks, KD_BLOCK, a, b, parts, inverse, s.size,
                     s.chunks));
    KD_RETURN(
        LAUNCH(device, kl_softmax_join, s.images, KD_BLOCK, parts, saved_of(call), tau, s.chunks));
    KD_RETURN(LAUNCH(device, kl_parts, s.blocks, KD_BLOCK, a, b, saved_of(call), parts, inverse,
                     s.size, s.chunks));
    return LAUNCH(device, loss_join, s.images, KD_BLOCK, parts, out, s.chunks, tau * tau);
}

static kdas_status kl_backward(kdas_device *device, const kdas_call *call)
{
    float tau = ((const kdas_kl_attr *)call->node->attr)->tau;
    OPERANDS_BACKWARD(call);

    return LAUNCH(device, kl_backward, s.blocks, KD_BLOCK, a, b, saved_of(call), dout, da,
                  adds(call, 0), tau, s.size, s.chunks);
}

static kdas_status square_error_forward(kdas_device *device, const kdas_call *call)
{
    OPERANDS_FORWARD(call);

    KD_RETURN(
        LAUNCH(device, square_error_parts, s.blocks, KD_BLOCK, a, b, parts, s.size, s.chunks));
    return LAUNCH(device, loss_join, s.images, KD_BLOCK, parts, out, s.chunks, 1 / (double)s.size);
}

static kdas_status square_error_backward(kdas_device *device, const kdas_call *call)
{
    OPERANDS_BACKWARD(call);

    return LAUNCH(device, square_error_backward, s.blocks, KD_BLOCK, a, b, dout, da, adds(call, 0),
                  s.size, s.chunks);
}

KD_OP(bce, prepare, NULL, NULL, bce_forward, bce_backward)
KD_OP(overlap, prepare, NULL, NULL, overlap_forward, overlap_backward)
KD_OP(kl, prepare, NULL, NULL, kl_forward, kl_backward)
KD_OP(square_error, prepare, NULL, NULL, square_error_forward, square_error_backward)

#endif
