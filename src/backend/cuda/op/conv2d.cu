/* conv2d.cu - CONV2D: by cuDNN where it can, else as matrix products (im2col). A row of that matrix has the inputs of one
 * output in the order (kh,kw,C). Weights are packed (O,kh,kw,C) for both. A 1x1 filter uses x itself as the matrix; a filter
 * whose stride is its size copies each input once, so im2col wastes nothing and cuDNN is not asked.
 *
 * At most KD_CONV_WORK bytes of rows (or those of one image) are made at a time. */
#include "backend/cuda/op/linear.h"
#ifdef KD_HOST
#include "backend/cuda/dnn.h"
#endif

/* x (N,H,W,C), y (N,P,Q,O); width = kh kw C. */
typedef struct conv_shape {
    int64_t n, h, w, c, p, q, o, kh, kw, stride, pad, width;
} conv_shape;

/* ---- im2col and col2im ---- */

static __device__ __forceinline__ void rows_of_x(elem *rows, const elem *x, int64_t count,
                                                 const conv_shape *s, const int width)
{
    cell at  = cell_of(count, s->width, width);
    int  tap = (int)at.c / (int)s->c, c = (int)at.c % (int)s->c, kw = (int)s->kw;
    int  i = tap / kw - (int)s->pad, j = tap % kw - (int)s->pad, w = (int)s->w;

    EACH_ROW(r, at, count)
    {
        int64_t line = over(r, s->q), image = over(line, s->p);
        int     y  = (int)((line - image * s->p) * s->stride) + i;
        int     to = (int)((r - line * s->q) * s->stride) + j;
        quad    v  = { { 0, 0, 0, 0 } };

        if (y >= 0 && y < s->h && to >= 0 && to < w)
            v = load(x + ((image * s->h + y) * w + to) * s->c + c, width);
        store(rows + r * s->width + at.c, v, width);
    }
}

KERNEL(conv2d_rows)(elem *rows, const elem *x, int64_t count, conv_shape s, int width)
{
    DISPATCH_WIDTH(width, rows_of_x, rows, x, count, &s);
}

/* col2im: dx from the gradients of the rows. Each input sums over the outputs that cover it: those p with
 * h = p stride - pad + i, 0 <= i < kh. */
static __device__ __forceinline__ void x_of_rows(elem *dx, const elem *rows, int64_t count, int add,
                                                 const conv_shape *s, const int width)
{
    cell at     = cell_of(count, s->c, width);
    int  stride = (int)s->stride, kh = (int)s->kh, kw = (int)s->kw;

    EACH_ROW(r, at, count)
    {
        int64_t     line = over(r, s->w), image = over(line, s->h);
        const elem *from = rows + image * s->p * s->q * s->width + at.c;
        int         h = (int)(line - image * s->h + s->pad), w = (int)(r - line * s->w + s->pad);
        int         p0 = h < kh ? 0 : (h - kh) / stride + 1, p1 = h / stride;
        int         q0 = w < kw ? 0 : (w - kw) / stride + 1, q1 = w / stride;
        quad        sum = { { 0, 0, 0, 0 } };

        p1 = p1 < s->p ? p1 : (int)s->p - 1;
        q1 = q1 < s->q ? q1 : (int)s->q - 1;
        for (int p = p0; p <= p1; p++)
            for (int q = q0; q <= q1; q++) {
                int  tap = (h - p * stride) * kw + w - q * stride;
                quad v   = load(from + (p * s->q + q) * s->width + tap * s->c, width);

                EACH_VALUE(k, width) sum.v[k] += v.v[k];
            }
        accumulate_quad(dx + r * s->c + at.c, sum, add, width);
    }
}

KERNEL(conv2d_col2im)
(elem *dx, const elem *rows, int64_t count, int add, conv_shape s, int width)
{
    DISPATCH_WIDTH(width, x_of_rows, dx, rows, count, add, &s);
}

/* ---- weights: (O,C,taps) and (O,taps,C) ---- */

KERNEL(conv2d_pack)(elem *packed, const float *w, int64_t n, int c, int taps)
{
    EACH(i, n)
    {
        int64_t o = i / ((int64_t)c * taps);
        int     k = (int)(i - o * c * taps);

        set(&packed[i], w[(o * c + k % c) * taps + k / c]);
    }
}

static __device__ __forceinline__ int64_t packed_index(int64_t i, int c, int taps)
{
    int64_t o = i / ((int64_t)c * taps);
    int     k = (int)(i - o * c * taps);

    return (o * taps + k % taps) * c + k / taps;
}

/* dw += the packed gradient, which cuBLAS leaves in f32, and cuDNN in the type of activations. */
KERNEL(conv2d_add)(float *dw, const float *packed, int64_t n, int c, int taps)
{
    EACH(i, n) dw[i] += packed[packed_index(i, c, taps)];
}

KERNEL(conv2d_add_narrow)(float *dw, const elem *packed, int64_t n, int c, int taps)
{
    EACH(i, n) dw[i] += num(packed[packed_index(i, c, taps)]);
}

#ifdef KD_HOST

static conv_shape shape_of(const kdas_node_desc *node)
{
    const kdas_conv_attr *attr = (const kdas_conv_attr *)node->attr;
    const int64_t        *x = node->in[0].dim, *w = node->in[1].dim, *y = node->out.dim;
    conv_shape            s = { x[0], x[1], x[2], x[3],         y[1],      y[2],
                                w[0], w[2], w[3], attr->stride, attr->pad[0], w[1] * w[2] * w[3] };

    return s;
}

/* Is x itself the matrix of rows? */
static bool is_product(const conv_shape *s)
{
    return s->kh == 1 && s->kw == 1 && s->stride == 1 && s->p == s->h && s->q == s->w;
}

/* Does no input belong to two outputs? */
static bool is_copy(const conv_shape *s)
{
    return s->kh == s->stride && s->kw == s->stride && s->pad == 0;
}

/* Weights that need no packing. */
static bool is_packed(const conv_shape *s) { return is_product(s) && KD_ELEM == KDAS_F32; }

/* ---- scratch ---- */

/* Images whose rows are made at a time. */
static int64_t images_of(const conv_shape *s)
{
    int64_t image = s->p * s->q * s->width * (int64_t)sizeof(elem);

    return KD_MAX(KD_MIN((int64_t)KD_CONV_WORK / image, s->n), (int64_t)1);
}

/* Scratch of backward: rows, or what cuDNN asks for; the packed gradient of the weights; the parts of the bias's gradient.
 * Forward has only the first. */
typedef struct scratch {
    size_t rows, weights, parts;
} scratch;

static scratch scratch_of(const kdas_node_desc *node, const conv_shape *s, const kd_cuda_dnn *dnn)
{
    scratch t = { 0, 0, 0 };

    if (dnn)
        t.rows = KD_MAX(kd_cuda_dnn_work(dnn, KD_DNN_DX), kd_cuda_dnn_work(dnn, KD_DNN_DW));
    else if (!is_product(s) && (node->wants & 3))
        t.rows = (size_t)(images_of(s) * s->p * s->q * s->width) * sizeof(elem);
    t.rows = KD_ALIGN_UP(t.rows);
    if ((node->wants & 2) && !is_product(s))
        t.weights = KD_ALIGN_UP((size_t)(s->o * s->width) * (dnn ? sizeof(elem) : sizeof(float)));
    if (node->wants & 4) t.parts = kd_cuda_parts_bytes(s->n * s->p * s->q, s->o);
    return t;
}

static kdas_status conv2d_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    conv_shape   s   = shape_of(node);
    kd_cuda_dnn *dnn = NULL;
    scratch      t;

    if (s.width > INT32_MAX || s.h + 2 * s.pad > INT32_MAX || s.w + 2 * s.pad > INT32_MAX)
        return device->host.fail(
            KDAS_EUNSUPPORTED, "cuda:%d: conv2d: a map of %lld x %lld, or its filter, is too large",
            device->index, (long long)s.h, (long long)s.w);
    if (!is_product(&s) && !is_copy(&s)) KD_RETURN(kd_cuda_dnn_open(device, node, &dnn));
    t           = scratch_of(node, &s, dnn);
    plan->state = dnn;
    if (!is_packed(&s)) plan->packed = (size_t)(s.o * s.width) * sizeof(elem);
    plan->pack_key = 1;
    if (dnn)
        plan->work_forward = kd_cuda_dnn_work(dnn, KD_DNN_FORWARD);
    else if (!is_product(&s))
        plan->work_forward = (size_t)(images_of(&s) * s.p * s.q * s.width) * sizeof(elem);
    if (node->wants) plan->work_backward = t.rows + t.weights + t.parts;
    return KDAS_OK;
}

static void conv2d_release(kdas_device *device, void *state)
{
    kd_cuda_dnn_close(device, (kd_cuda_dnn *)state);
}

static kdas_status conv2d_pack(kdas_device *device, const kdas_call *call)
{
    conv_shape s = shape_of(call->node);

    if (is_packed(&s)) return KDAS_OK;
    return LAUNCH_EACH(device, conv2d_pack, s.o * s.width, (elem *)call->packed,
                       (const float *)call->in[1], s.o * s.width, (int)s.c, (int)(s.kh * s.kw));
}

static const void *weights(const kdas_call *call, const conv_shape *s)
{
    return is_packed(s) ? call->in[1] : call->packed;
}

/* ---- as products ---- */

/* A range of images. */
typedef struct image_range {
    const elem   *x, *y; /* its first image, in x and in out or its gradient */
    int64_t       first;
    kd_cuda_layer layer;
} image_range;

static image_range image_range_of(const kdas_call *call, const conv_shape *s, const void *y,
                                  int64_t first)
{
    int64_t     images = is_product(s) ? s->n : KD_MIN(images_of(s), s->n - first);
    image_range t;

    t.x          = (const elem *)call->in[0] + first * s->h * s->w * s->c;
    t.y          = (const elem *)y + first * s->p * s->q * s->o;
    t.first      = first;
    t.layer.type = KD_ELEM;
    t.layer.rows = images * s->p * s->q;
    t.layer.in   = s->width;
    t.layer.out  = s->o;
    return t;
}

static int64_t step_of(const conv_shape *s) { return is_product(s) ? s->n : images_of(s); }

/* The rows of a range: x itself, or im2col in scratch. */
static kdas_status make_rows(kdas_device *device, const kdas_call *call, const conv_shape *s,
                             const image_range *t, const void **out)
{
    int width = s->c % 4 ? 1 : 4;

    *out = t->x;
    if (is_product(s)) return KDAS_OK;
    *out = call->work;
    return LAUNCH_MATRIX(device, conv2d_rows, t->layer.rows, s->width, width, (elem *)call->work,
                         t->x, t->layer.rows, *s, width);
}

static kdas_status multiply_forward(kdas_device *device, const kdas_call *call, const conv_shape *s,
                                    float beta)
{
    for (int64_t i = 0; i < s->n; i += step_of(s)) {
        image_range t = image_range_of(call, s, call->out, i);
        const void *rows;

        KD_RETURN(make_rows(device, call, s, &t, &rows));
        KD_RETURN(
            kd_cuda_layer_forward(device, &t.layer, rows, weights(call, s), (void *)t.y, beta));
    }
    return KDAS_OK;
}

static kdas_status multiply_dx(kdas_device *device, const kdas_call *call, const conv_shape *s,
                               const image_range *t)
{
    int     width  = s->c % 4 ? 1 : 4;
    int64_t pixels = t->layer.rows / (s->p * s->q) * s->h * s->w;
    elem   *dx     = (elem *)call->din[0] + t->first * s->h * s->w * s->c;

    if (is_product(s))
        return kd_cuda_layer_dx(device, &t->layer, t->y, weights(call, s), dx,
                                (float)adds(call, 0));
    KD_RETURN(kd_cuda_layer_dx(device, &t->layer, t->y, weights(call, s), call->work, 0));
    return LAUNCH_MATRIX(device, conv2d_col2im, pixels, s->c, width, dx, (const elem *)call->work,
                         pixels, adds(call, 0), *s, width);
}

/* dw, which is (O,C) itself where it needs no packing, or the packed gradient. */
static kdas_status multiply_backward(kdas_device *device, const kdas_call *call,
                                     const conv_shape *s, float *packed)
{
    float      *dw = is_product(s) ? (float *)call->din[1] : packed;
    const void *rows;

    for (int64_t i = 0; i < s->n; i += step_of(s)) {
        image_range t = image_range_of(call, s, call->dout, i);

        if (call->din[1]) {
            KD_RETURN(make_rows(device, call, s, &t, &rows));
            KD_RETURN(
                kd_cuda_layer_dw(device, &t.layer, t.y, rows, dw, is_product(s) || i ? 1 : 0));
        }
        if (call->din[0]) KD_RETURN(multiply_dx(device, call, s, &t));
    }
    if (!call->din[1] || is_product(s)) return KDAS_OK;
    return LAUNCH_EACH(device, conv2d_add, s->o * s->width, (float *)call->din[1],
                       (const float *)packed, s->o * s->width, (int)s->c, (int)(s->kh * s->kw));
}

/* ---- by cuDNN ---- */

static kdas_status dnn_backward(kdas_device *device, const kdas_call *call, const conv_shape *s,
                                const kd_cuda_dnn *dnn, elem *packed)
{
    if (call->din[0])
        KD_RETURN(kd_cuda_dnn_run(device, dnn, KD_DNN_DX, call->dout, call->packed, call->din[0],
                                  (float)adds(call, 0), call->work));
    if (!call->din[1]) return KDAS_OK;
    KD_RETURN(
        kd_cuda_dnn_run(device, dnn, KD_DNN_DW, call->in[0], call->dout, packed, 0, call->work));
    return LAUNCH_EACH(device, conv2d_add_narrow, s->o * s->width, (float *)call->din[1],
                       (const elem *)packed, s->o * s->width, (int)s->c, (int)(s->kh * s->kw));
}

/* ---- the op ---- */

/* The bias is written first, and the products are added to it, as in linear.cu. */
static kdas_status conv2d_forward(kdas_device *device, const kdas_call *call)
{
    conv_shape         s    = shape_of(call->node);
    const kd_cuda_dnn *dnn  = (const kd_cuda_dnn *)call->state;
    const float       *bias = (const float *)call->in[2];
    float              beta = bias ? 1 : 0;

    if (bias)
        KD_RETURN(KD_TYPED(kd_cuda_fill_rows)(device, call->out, NULL, bias, s.n * s.p * s.q, s.o));
    if (!dnn) return multiply_forward(device, call, &s, beta);
    return kd_cuda_dnn_run(device, dnn, KD_DNN_FORWARD, call->in[0], call->packed, call->out, beta,
                           call->work);
}

static kdas_status conv2d_backward(kdas_device *device, const kdas_call *call)
{
    conv_shape         s    = shape_of(call->node);
    const kd_cuda_dnn *dnn  = (const kd_cuda_dnn *)call->state;
    scratch            t    = scratch_of(call->node, &s, dnn);
    char              *work = (char *)call->work;

    if (dnn)
        KD_RETURN(dnn_backward(device, call, &s, dnn, (elem *)(work + t.rows)));
    else if (call->din[0] || call->din[1])
        KD_RETURN(multiply_backward(device, call, &s, (float *)(work + t.rows)));
    if (!call->din[2]) return KDAS_OK;
    return add_columns(device, (float *)call->din[2], call->dout, s.n * s.p * s.q, s.o,
                       (float *)(work + t.rows + t.weights));
}

KD_OP(conv2d, conv2d_prepare, conv2d_release, conv2d_pack, conv2d_forward, conv2d_backward)

#endif
