/* conv2d.cu - CONV2D and DECONV2D: by cuDNN where it can, else as matrix products (im2col). A row of that matrix has the inputs of one
 * output, of each group in the order (kh,kw,C/groups). Weights are packed (O,kh,kw,C/groups) for both. A 1x1 filter uses x
 * itself as the matrix; a filter whose stride is its size copies each input once, so im2col wastes nothing and cuDNN is not
 * asked. DECONV2D is the convolution from its output to its input, run the other way: its forward is the gradient of that
 * convolution's input. Its weight (C,O,kh,kw) is that convolution's as it is.
 *
 * At most KD_CONV_WORK bytes of rows (or those of one image) are made at a time. */
#include "backend/cuda/op/linear.h"
#ifdef KD_HOST
#include "backend/cuda/dnn.h"
#else
#include "backend/cuda/conv.h"
#endif

/* ---- im2col and col2im ---- */

static __device__ __forceinline__ void rows_of_x(elem *rows, const elem *x, int64_t count,
                                                 const kd_cuda_conv *s, const int width)
{
    int64_t all = s->width * s->groups;
    cell    at  = cell_of(count, all, width);
    int     own = (int)s->c / (int)s->groups, kw = (int)s->kw, w = (int)s->w;
    int     group = (int)at.c / (int)s->width, place = (int)at.c - group * (int)s->width;
    int     tap = place / own, c = group * own + place - tap * own;
    int     i = tap / kw * (int)s->dilation - (int)s->top;
    int     j = tap % kw * (int)s->dilation - (int)s->left;

    EACH_ROW(r, at, count)
    {
        int64_t line = over(r, s->q), image = over(line, s->p);
        int     y  = (int)((line - image * s->p) * s->stride) + i;
        int     to = (int)((r - line * s->q) * s->stride) + j;
        quad    v  = { { 0, 0, 0, 0 } };

        if (y >= 0 && y < s->h && to >= 0 && to < w)
            v = load(x + ((image * s->h + y) * w + to) * s->c + c, width);
        store(rows + r * all + at.c, v, width);
    }
}

KERNEL(conv2d_rows)(elem *rows, const elem *x, int64_t count, kd_cuda_conv s, int width)
{
    DISPATCH_WIDTH(width, rows_of_x, rows, x, count, &s);
}

/* The first output p whose filter reaches h = p stride - pad + i dilation, 0 <= i dilation <= reach; h counts the padding. */
static __device__ __forceinline__ int first_over(int h, int reach, int stride)
{
    return h <= reach ? 0 : (h - reach - 1) / stride + 1;
}

/* The tap at this distance from the first one; -1: between two. */
static __device__ __forceinline__ int tap_at(int distance, int dilation)
{
    if (dilation == 1) return distance;
    return distance % dilation ? -1 : distance / dilation;
}

/* col2im: dx from the gradients of the rows. Each input sums over the outputs that cover it. */
static __device__ __forceinline__ void x_of_rows(elem *dx, const elem *rows, int64_t count, int add,
                                                 const kd_cuda_conv *s, const int width)
{
    cell at     = cell_of(count, s->c, width);
    int  stride = (int)s->stride, dilation = (int)s->dilation, kw = (int)s->kw;
    int  high = ((int)s->kh - 1) * dilation, wide = (kw - 1) * dilation;
    int  own = (int)s->c / (int)s->groups, group = (int)at.c / own;
    int  first = group * (int)s->width + (int)at.c - group * own;

    EACH_ROW(r, at, count)
    {
        int64_t     line = over(r, s->w), image = over(line, s->h);
        const elem *from = rows + image * s->p * s->q * s->width * s->groups + first;
        int         h = (int)(line - image * s->h + s->top), w = (int)(r - line * s->w + s->left);
        int         p1 = h / stride, q1 = w / stride;
        quad        sum = { { 0, 0, 0, 0 } };

        p1 = p1 < s->p ? p1 : (int)s->p - 1;
        q1 = q1 < s->q ? q1 : (int)s->q - 1;
        for (int p = first_over(h, high, stride); p <= p1; p++) {
            int i = tap_at(h - p * stride, dilation);

            for (int q = first_over(w, wide, stride); i >= 0 && q <= q1; q++) {
                int  j = tap_at(w - q * stride, dilation);
                quad v;

                if (j < 0) continue;
                v = load(from + (p * s->q + q) * s->width * s->groups + (i * kw + j) * own, width);
                EACH_VALUE(k, width) sum.v[k] += v.v[k];
            }
        }
        accumulate_quad(dx + r * s->c + at.c, sum, add, width);
    }
}

KERNEL(conv2d_col2im)
(elem *dx, const elem *rows, int64_t count, int add, kd_cuda_conv s, int width)
{
    DISPATCH_WIDTH(width, x_of_rows, dx, rows, count, add, &s);
}

/* ---- weights: (O,C,taps) and (O,taps,C), C of one group ---- */

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

/* Is x itself the matrix of rows? */
static bool is_product(const kd_cuda_conv *s)
{
    return s->kh == 1 && s->kw == 1 && s->stride == 1 && s->p == s->h && s->q == s->w;
}

/* Does no input belong to two outputs? */
static bool is_copy(const kd_cuda_conv *s)
{
    return s->kh == s->stride && s->kw == s->stride && s->dilation == 1 && s->top == 0 &&
           s->left == 0;
}

/* Weights that need no packing. */
static bool is_packed(const kd_cuda_conv *s) { return is_product(s) && KD_ELEM == KDAS_F32; }

static int64_t group_channels(const kd_cuda_conv *s) { return s->c / s->groups; }
static int     taps_of(const kd_cuda_conv *s) { return (int)(s->kh * s->kw); }
static int     width_in(const kd_cuda_conv *s) { return group_channels(s) % 4 ? 1 : 4; }

/* ---- memory ---- */

/* Bytes of the rows of one image. */
static int64_t image_bytes(const kd_cuda_conv *s)
{
    return s->p * s->q * s->width * s->groups * (int64_t)sizeof(elem);
}

/* Images whose rows are made at a time. */
static int64_t images_of(const kd_cuda_conv *s)
{
    if (is_product(s)) return s->n;
    return KD_MAX(KD_MIN((int64_t)KD_CONV_WORK / image_bytes(s), s->n), (int64_t)1);
}

/* Scratch of one direction, KD_DNN_*: what cuDNN asks for, or rows. */
static size_t work_of(const kd_cuda_conv *s, const kd_cuda_dnn *dnn, int way)
{
    if (dnn) return KD_ALIGN_UP(kd_cuda_dnn_work(dnn, way));
    return is_product(s) ? 0 : KD_ALIGN_UP((size_t)(images_of(s) * image_bytes(s)));
}

/* The packed gradient of the weights. */
static size_t packed_bytes(const kd_cuda_conv *s, const kd_cuda_dnn *dnn)
{
    if (is_product(s)) return 0;
    return KD_ALIGN_UP((size_t)(s->o * s->width) * (dnn ? sizeof(elem) : sizeof(float)));
}

/* ---- as products ---- */

/* A range of images. */
typedef struct image_range {
    const elem   *x, *y; /* its first image */
    kd_cuda_layer layer;
} image_range;

static image_range range_at(const kd_cuda_conv *s, const void *x, const void *y, int64_t first)
{
    image_range t;

    t.x            = (const elem *)x + first * s->h * s->w * s->c;
    t.y            = (const elem *)y + first * s->p * s->q * s->o;
    t.layer.type   = KD_ELEM;
    t.layer.rows   = KD_MIN(images_of(s), s->n - first) * s->p * s->q;
    t.layer.in     = s->width;
    t.layer.out    = s->o / s->groups;
    t.layer.groups = s->groups;
    return t;
}

/* The rows of a range: x itself, or im2col in scratch. */
static kdas_status make_rows(kdas_device *device, const kd_cuda_conv *s, const image_range *t,
                             void *work, const void **out)
{
    int width = width_in(s);

    *out = t->x;
    if (is_product(s)) return KDAS_OK;
    *out = work;
    return LAUNCH_MATRIX(device, conv2d_rows, t->layer.rows, s->width * s->groups, width,
                         (elem *)work, t->x, t->layer.rows, *s, width);
}

static kdas_status range_dx(kdas_device *device, const kd_cuda_conv *s, const image_range *t,
                            const void *w, int add, void *work)
{
    int     width  = width_in(s);
    int64_t pixels = t->layer.rows / (s->p * s->q) * s->h * s->w;

    if (is_product(s))
        return kd_cuda_layer_dx(device, &t->layer, t->y, w, (void *)t->x, (float)add);
    KD_RETURN(kd_cuda_layer_dx(device, &t->layer, t->y, w, work, 0));
    return LAUNCH_MATRIX(device, conv2d_col2im, pixels, s->c, width, (elem *)t->x,
                         (const elem *)work, pixels, add, *s, width);
}

/* ---- the three directions: `add` 1 adds to what is there ---- */

/* y from x */
static kdas_status give_y(kdas_device *device, const kd_cuda_conv *s, const kdas_call *call,
                          const void *x, void *y, int add)
{
    const kd_cuda_dnn *dnn = (const kd_cuda_dnn *)call->state;
    const void        *w   = is_packed(s) ? call->in[1] : call->packed, *rows;

    if (dnn) return kd_cuda_dnn_run(device, dnn, KD_DNN_FORWARD, x, w, y, (float)add, call->work);
    for (int64_t i = 0; i < s->n; i += images_of(s)) {
        image_range t = range_at(s, x, y, i);

        KD_RETURN(make_rows(device, s, &t, call->work, &rows));
        KD_RETURN(kd_cuda_layer_forward(device, &t.layer, rows, w, (void *)t.y, (float)add));
    }
    return KDAS_OK;
}

/* dx from dy */
static kdas_status give_x(kdas_device *device, const kd_cuda_conv *s, const kdas_call *call,
                          const void *dy, void *dx, int add)
{
    const kd_cuda_dnn *dnn = (const kd_cuda_dnn *)call->state;
    const void        *w   = is_packed(s) ? call->in[1] : call->packed;

    if (dnn) return kd_cuda_dnn_run(device, dnn, KD_DNN_DX, dy, w, dx, (float)add, call->work);
    for (int64_t i = 0; i < s->n; i += images_of(s)) {
        image_range t = range_at(s, dx, dy, i);

        KD_RETURN(range_dx(device, s, &t, w, add, call->work));
    }
    return KDAS_OK;
}

/* dw += the gradient; by products it is summed in place where it needs no packing. */
static kdas_status add_w(kdas_device *device, const kd_cuda_conv *s, const kdas_call *call,
                         const void *x, const void *dy, void *packed)
{
    const kd_cuda_dnn *dnn = (const kd_cuda_dnn *)call->state;
    float             *dw = (float *)call->din[1], *to = is_product(s) ? dw : (float *)packed;
    int64_t            n = s->o * s->width;
    const void        *rows;

    if (dnn) {
        KD_RETURN(kd_cuda_dnn_run(device, dnn, KD_DNN_DW, x, dy, packed, 0, call->work));
        return LAUNCH_EACH(device, conv2d_add_narrow, n, dw, (const elem *)packed, n,
                           (int)group_channels(s), taps_of(s));
    }
    for (int64_t i = 0; i < s->n; i += images_of(s)) {
        image_range t = range_at(s, x, dy, i);

        KD_RETURN(make_rows(device, s, &t, call->work, &rows));
        KD_RETURN(kd_cuda_layer_dw(device, &t.layer, t.y, rows, to, to == dw || i > 0 ? 1 : 0));
    }
    if (to == dw) return KDAS_OK;
    return LAUNCH_EACH(device, conv2d_add, n, dw, (const float *)packed, n, (int)group_channels(s),
                       taps_of(s));
}

/* ---- the ops ---- */

static bool is_reversed(const kdas_node_desc *node) { return node->op == KDAS_OP_DECONV2D; }

static kd_cuda_conv shape_of(const kdas_node_desc *node)
{
    const kdas_conv_attr *a = (const kdas_conv_attr *)node->attr;
    const int64_t        *w = node->in[1].dim;
    const int64_t        *x = (is_reversed(node) ? &node->out : &node->in[0])->dim;
    const int64_t        *y = (is_reversed(node) ? &node->in[0] : &node->out)->dim;
    kd_cuda_conv          s;

    s.n        = x[0];
    s.h        = x[1];
    s.w        = x[2];
    s.c        = x[3];
    s.p        = y[1];
    s.q        = y[2];
    s.o        = y[3];
    s.kh       = w[2];
    s.kw       = w[3];
    s.stride   = a->stride;
    s.dilation = a->dilation;
    s.groups   = a->groups;
    s.top      = a->pad[0];
    s.left     = a->pad[1];
    s.bottom   = a->pad_end[0];
    s.right    = a->pad_end[1];
    s.width    = w[1] * w[2] * w[3];
    return s;
}

static int forward_way(const kdas_node_desc *node)
{
    return is_reversed(node) ? KD_DNN_DX : KD_DNN_FORWARD;
}

/* That of the gradient of x. */
static int back_way(const kdas_node_desc *node)
{
    return is_reversed(node) ? KD_DNN_FORWARD : KD_DNN_DX;
}

/* Scratch of backward: that of the directions; the packed gradient of the weights; the parts of the bias's gradient. */
typedef struct scratch {
    size_t work, packed, parts;
} scratch;

static scratch scratch_of(const kdas_node_desc *node, const kd_cuda_conv *s, const kd_cuda_dnn *dnn)
{
    scratch t = { 0, 0, 0 };

    if (node->wants & 1) t.work = work_of(s, dnn, back_way(node));
    if (node->wants & 2) {
        t.work   = KD_MAX(t.work, work_of(s, dnn, KD_DNN_DW));
        t.packed = packed_bytes(s, dnn);
    }
    if (node->wants & 4) t.parts = kd_cuda_parts_bytes(rows_of(&node->out), node->out.dim[3]);
    return t;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    kd_cuda_conv s    = shape_of(node);
    unsigned     ways = 1u << forward_way(node);
    kd_cuda_dnn *dnn  = NULL;
    scratch      t;

    if (s.width * s.groups > INT32_MAX || s.h + s.top + s.bottom > INT32_MAX ||
        s.w + s.left + s.right > INT32_MAX)
        return device->host.fail(KDAS_EUNSUPPORTED,
                                 "cuda:%d: %s: a map of %lld x %lld, or its filter, is too large",
                                 device->index, device->op, (long long)s.h, (long long)s.w);
    if (node->wants & 1) ways |= 1u << back_way(node);
    if (node->wants & 2) ways |= 1u << KD_DNN_DW;
    if (!is_product(&s) && !is_copy(&s))
        KD_RETURN(kd_cuda_dnn_open(device, &s, KD_ELEM, ways, &dnn));
    t           = scratch_of(node, &s, dnn);
    plan->state = dnn;
    if (!is_packed(&s)) plan->packed = (size_t)(s.o * s.width) * sizeof(elem);
    plan->pack_key     = 1;
    plan->work_forward = work_of(&s, dnn, forward_way(node));
    if (node->wants) plan->work_backward = t.work + t.packed + t.parts;
    return KDAS_OK;
}

static void release(kdas_device *device, void *state)
{
    kd_cuda_dnn_close(device, (kd_cuda_dnn *)state);
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    kd_cuda_conv s = shape_of(call->node);

    if (is_packed(&s)) return KDAS_OK;
    return LAUNCH_EACH(device, conv2d_pack, s.o * s.width, (elem *)call->packed,
                       (const float *)call->in[1], s.o * s.width, (int)group_channels(&s),
                       taps_of(&s));
}

/* The bias is written first, and the products are added to it, as in linear.cu. */
static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_desc *out  = &call->node->out;
    kd_cuda_conv     s    = shape_of(call->node);
    const float     *bias = (const float *)call->in[2];

    if (bias)
        KD_RETURN(
            KD_TYPED(kd_cuda_fill_rows)(device, call->out, NULL, bias, rows_of(out), out->dim[3]));
    return (is_reversed(call->node) ? give_x : give_y)(device, &s, call, call->in[0], call->out,
                                                       bias ? 1 : 0);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const kdas_desc *out      = &call->node->out;
    kd_cuda_conv     s        = shape_of(call->node);
    bool             reversed = is_reversed(call->node);
    scratch          t        = scratch_of(call->node, &s, (const kd_cuda_dnn *)call->state);
    char            *packed   = (char *)call->work + t.work;

    if (call->din[0])
        KD_RETURN((reversed ? give_y : give_x)(device, &s, call, call->dout, call->din[0],
                                               adds(call, 0)));
    if (call->din[1])
        KD_RETURN(add_w(device, &s, call, reversed ? call->dout : call->in[0],
                        reversed ? call->in[0] : call->dout, packed));
    if (!call->din[2]) return KDAS_OK;
    return add_columns(device, (float *)call->din[2], call->dout, rows_of(out), out->dim[3],
                       (float *)(packed + t.packed));
}

KD_OP(conv2d, prepare, release, pack, forward, backward)
KD_OP(deconv2d, prepare, release, pack, forward, backward)

#endif
