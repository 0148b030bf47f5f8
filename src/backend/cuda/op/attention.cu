/* attention.cu - ATTENTION: scores by cuBLAS in f32, a softmax kernel that writes probabilities in the activations' type, and
 * their product with the values. q, y (N,L,C); kv (N,M,2C): keys, then values; scores and probabilities (N, heads, L, step).
 * A row's M numbers are padded to a multiple of eight, the alignment that tensor cores want.
 *
 * If the scores of all images would take too much memory, a range of images is computed at a time. */
#include "backend/cuda/kernel.h"

#define MOST_SCORES ((int64_t)1 << 30) /* bytes that scores may take; one image's may be more */

#define LOWEST __uint_as_float(0xff800000u) /* minus infinity */

/* A warp for each row; rows of up to 32 IN_REGISTERS numbers are kept in registers and read once. */
enum { WARPS = KD_BLOCK / 32, IN_REGISTERS = 8 };

static __device__ __forceinline__ float larger(float a, float b)
{
    return b > a || b != b ? b : a; /* propagates NaN */
}

/* One row of up to 32 IN_REGISTERS scores. */
static __device__ __forceinline__ void softmax_short(const float *s, elem *p, int columns,
                                                     bool live)
{
    float v[IN_REGISTERS], top = LOWEST, sum = 0;
    int   lane = threadIdx.x % 32;

    for (int i = 0; i < IN_REGISTERS; i++) {
        v[i] = live && lane + 32 * i < columns ? s[lane + 32 * i] : LOWEST;
        top  = larger(top, v[i]);
    }
    top = warp_max(top);
    for (int i = 0; i < IN_REGISTERS; i++) {
        v[i] = lane + 32 * i < columns ? expf(v[i] - top) : 0;
        sum += v[i];
    }
    sum = 1 / warp_sum(sum);
    for (int i = 0; i < IN_REGISTERS; i++)
        if (live && lane + 32 * i < columns) set(&p[lane + 32 * i], v[i] * sum);
}

static __device__ __forceinline__ void softmax_long(const float *s, elem *p, int columns, bool live)
{
    float top = LOWEST, sum = 0;
    int   lane = threadIdx.x % 32, end = live ? columns : 0;

    for (int i = lane; i < end; i += 32)
        top = larger(top, s[i]);
    top = warp_max(top);
    for (int i = lane; i < end; i += 32)
        sum += expf(s[i] - top);
    sum = 1 / warp_sum(sum);
    for (int i = lane; i < end; i += 32)
        set(&p[i], expf(s[i] - top) * sum);
}

/* p may be the memory of s. */
KERNEL(attention_softmax)(const float *s, elem *p, int64_t rows, int columns, int64_t step)
{
    for (int64_t first = (int64_t)blockIdx.x * WARPS; first < rows;
         first += (int64_t)gridDim.x * WARPS) {
        int64_t r    = first + threadIdx.x / 32;
        bool    live = r < rows;

        if (columns <= 32 * IN_REGISTERS)
            softmax_short(s + r * step, p + r * step, columns, live);
        else
            softmax_long(s + r * step, p + r * step, columns, live);
    }
}

/* ds = p (dp - mean) scale, where the mean of a row of dp is weighted by p. The weights are divided by their sum once more:
 * rounded to 16 bits it is not exactly 1, which would matter where one key has nearly all of it. ds may be the memory
 * of dp. */
KERNEL(attention_slope)
(const elem *p, const float *dp, elem *ds, float scale, int64_t rows, int columns, int64_t step)
{
    for (int64_t first = (int64_t)blockIdx.x * WARPS; first < rows;
         first += (int64_t)gridDim.x * WARPS) {
        int64_t r = first + threadIdx.x / 32, at = r * step;
        int     end  = r < rows ? columns : 0;
        float   mean = 0, weight = 0;

        for (int i = threadIdx.x % 32; i < end; i += 32) {
            mean += num(p[at + i]) * dp[at + i];
            weight += num(p[at + i]);
        }
        mean   = warp_sum(mean);
        weight = warp_sum(weight);
        mean   = end ? mean / weight : 0;
        for (int i = threadIdx.x % 32; i < end; i += 32)
            set(&ds[at + i], num(p[at + i]) * (dp[at + i] - mean) * scale);
    }
}

#ifdef KD_HOST

typedef struct attention_shape {
    int64_t n, l, m, c, heads, d, step;
    int64_t image;  /* elements of scores of one image */
    int64_t images; /* images at a time                */
    float   scale;
} attention_shape;

static attention_shape shape_of(const kdas_node_desc *node)
{
    const kdas_attention_attr *attr = (const kdas_attention_attr *)node->attr;
    const int64_t             *q = node->in[0].dim, *kv = node->in[1].dim;
    attention_shape            s;

    s.n      = q[0];
    s.l      = q[1] * q[2];
    s.m      = kv[1] * kv[2];
    s.c      = q[3];
    s.heads  = attr->heads;
    s.d      = s.c / s.heads;
    s.step   = KD_CEIL(s.m, (int64_t)8) * 8;
    s.image  = s.heads * s.l * s.step;
    s.images = KD_MAX(KD_MIN(MOST_SCORES / (int64_t)sizeof(float) / s.image, s.n), (int64_t)1);
    s.scale  = attr->scale;
    return s;
}

static size_t score_bytes(const attention_shape *s)
{
    return KD_ALIGN_UP((size_t)(s->images * s->image) * sizeof(float));
}

static kdas_status attention_prepare(kdas_device *device, const kdas_node_desc *node,
                                     kdas_plan *plan)
{
    attention_shape s      = shape_of(node);
    size_t          narrow = KD_ELEM == KDAS_F32 ? 0 : score_bytes(&s) / 2;

    if (s.m > INT32_MAX - 8)
        return device->host.fail(KDAS_EUNSUPPORTED, "cuda:%d: attention: %lld keys are too many",
                                 device->index, (long long)s.m);
    if (node->wants) {
        plan->saved         = (size_t)(s.n * s.image) * sizeof(elem);
        plan->work_forward  = KD_ELEM == KDAS_F32 ? 0 : score_bytes(&s);
        plan->work_backward = score_bytes(&s) + narrow;
    } else
        plan->work_forward = score_bytes(&s) + narrow;
    return KDAS_OK;
}

/* ---- products for every head of every image ---- */

/* An operand of a product: its memory at the first head of the first image of the range, its leading dimension, and the
 * distances to the next head and the next image, in elements of its own type. */
typedef struct operand {
    const void *at;
    int64_t     row, head, image;
    bool        transpose;
} operand;

static operand operand_of(const void *at, int64_t row, int64_t head, int64_t image, bool transpose)
{
    operand o = { at, row, head, image, transpose };

    return o;
}

static operand transposed(operand o)
{
    o.transpose = !o.transpose;
    return o;
}

static size_t size_of(kdas_dtype type) { return type == KDAS_F32 ? sizeof(float) : 2; }

/* c (m x n) = alpha a b + beta c. One batched call covers all images of a head, or all heads of an image, whichever are more:
 * cuBLAS takes one stride between matrices. */
static kdas_status multiply(kdas_device *device, const attention_shape *s, int64_t images,
                            int64_t m, int64_t n, int64_t k, operand a, operand b, operand c,
                            kdas_dtype type_c, float alpha, float beta)
{
    bool            by_head = s->heads <= images;
    int64_t         calls   = by_head ? s->heads : images;
    kd_cuda_product p       = { 0 };

    p.m           = m;
    p.n           = n;
    p.k           = k;
    p.lda         = a.row;
    p.ldb         = b.row;
    p.ldc         = c.row;
    p.transpose_a = a.transpose;
    p.transpose_b = b.transpose;
    p.type        = KD_ELEM;
    p.type_c      = type_c;
    p.alpha       = alpha;
    p.beta        = beta;
    p.batch       = by_head ? images : s->heads;
    p.step_a      = by_head ? a.image : a.head;
    p.step_b      = by_head ? b.image : b.head;
    p.step_c      = by_head ? c.image : c.head;
    for (int64_t i = 0; i < calls; i++) {
        p.a = (const elem *)a.at + i * (by_head ? a.head : a.image);
        p.b = (const elem *)b.at + i * (by_head ? b.head : b.image);
        p.c = (char *)c.at + (size_t)(i * (by_head ? c.head : c.image)) * size_of(type_c);
        KD_RETURN(kd_cuda_multiply(device, &p));
    }
    return KDAS_OK;
}

/* Operands: q, y and their gradients; keys or values and theirs; scores and theirs; from image `first` on. */
static operand queries(const attention_shape *s, const void *q, int64_t first)
{
    return operand_of((const elem *)q + first * s->l * s->c, s->c, s->d, s->l * s->c, false);
}

static operand keys(const attention_shape *s, const void *kv, int64_t first)
{
    return operand_of((const elem *)kv + first * s->m * 2 * s->c, 2 * s->c, s->d, s->m * 2 * s->c,
                      false);
}

static operand values(const attention_shape *s, const void *kv, int64_t first)
{
    return keys(s, (const elem *)kv + s->c, first);
}

static operand scores(const attention_shape *s, const void *p)
{
    return operand_of(p, s->step, s->l * s->step, s->image, false);
}

static unsigned softmax_blocks(const kdas_device *device, int64_t rows)
{
    return kd_cuda_grid(device, rows * 32);
}

/* ---- forward ---- */

static kdas_status attend(kdas_device *device, const kdas_call *call, const attention_shape *s,
                          int64_t first, int64_t images, float *score, elem *p)
{
    int64_t rows = images * s->heads * s->l;

    KD_RETURN(multiply(device, s, images, s->l, s->m, s->d, queries(s, call->in[0], first),
                       transposed(keys(s, call->in[1], first)), scores(s, score), KDAS_F32,
                       s->scale, 0));
    KD_RETURN(LAUNCH(device, attention_softmax, softmax_blocks(device, rows), KD_BLOCK, score, p,
                     rows, (int)s->m, s->step));
    return multiply(device, s, images, s->l, s->d, s->m, scores(s, p),
                    values(s, call->in[1], first), queries(s, call->out, first), KD_ELEM, 1, 0);
}

static kdas_status attention_forward(kdas_device *device, const kdas_call *call)
{
    attention_shape s = shape_of(call->node);

    for (int64_t i = 0; i < s.n; i += s.images) {
        char *work  = (char *)call->work;
        elem *p     = call->saved ? (elem *)call->saved + i * s.image : (elem *)work;
        void *score = work;

        if (KD_ELEM == KDAS_F32)
            score = p;
        else if (!call->saved)
            p = (elem *)(work + score_bytes(&s));
        KD_RETURN(attend(device, call, &s, i, KD_MIN(s.images, s.n - i), (float *)score, p));
    }
    return KDAS_OK;
}

/* ---- backward ---- */

/* The gradient of the scores, before the scale that multiplies q k'. */
static kdas_status scores_gradient(kdas_device *device, const kdas_call *call,
                                   const attention_shape *s, int64_t first, int64_t images,
                                   const elem *p, float *dp, elem *ds)
{
    int64_t rows = images * s->heads * s->l;

    KD_RETURN(multiply(device, s, images, s->l, s->m, s->d, queries(s, call->dout, first),
                       transposed(values(s, call->in[1], first)), scores(s, dp), KDAS_F32, 1, 0));
    return LAUNCH(device, attention_slope, softmax_blocks(device, rows), KD_BLOCK, p, dp, ds,
                  s->scale, rows, (int)s->m, s->step);
}

static kdas_status backward_images(kdas_device *device, const kdas_call *call,
                                   const attention_shape *s, int64_t first, int64_t images)
{
    const elem *p  = (const elem *)call->saved + first * s->image;
    float      *dp = (float *)call->work;
    elem       *ds =
        KD_ELEM == KDAS_F32 ? (elem *)call->work : (elem *)((char *)call->work + score_bytes(s));
    void   *dq = call->din[0], *dkv = call->din[1];
    float   add_q = (float)adds(call, 0), add_kv = (float)adds(call, 1);
    int64_t l = s->l, m = s->m, d = s->d;

    KD_RETURN(scores_gradient(device, call, s, first, images, p, dp, ds));
    if (dq)
        KD_RETURN(multiply(device, s, images, l, d, m, scores(s, ds), keys(s, call->in[1], first),
                           queries(s, dq, first), KD_ELEM, 1, add_q));
    if (!dkv) return KDAS_OK;
    KD_RETURN(multiply(device, s, images, m, d, l, transposed(scores(s, ds)),
                       queries(s, call->in[0], first), keys(s, dkv, first), KD_ELEM, 1, add_kv));
    return multiply(device, s, images, m, d, l, transposed(scores(s, p)),
                    queries(s, call->dout, first), values(s, dkv, first), KD_ELEM, 1, add_kv);
}

static kdas_status attention_backward(kdas_device *device, const kdas_call *call)
{
    attention_shape s = shape_of(call->node);

    for (int64_t i = 0; i < s.n; i += s.images)
        KD_RETURN(backward_images(device, call, &s, i, KD_MIN(s.images, s.n - i)));
    return KDAS_OK;
}

KD_OP(attention, attention_prepare, NULL, NULL, attention_forward, attention_backward)

#endif
