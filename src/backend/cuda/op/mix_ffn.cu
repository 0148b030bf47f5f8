/* mix_ffn.cu - MIX_FFN: fc2(gelu(dwconv3x3(fc1(x)))) + residual. The linear layers are cuBLAS's; filter and GELU between them are
 * one kernel, and so is their backward up to the filter's output. Of the hidden maps only the output of fc1 is saved; the
 * other two are recomputed. x (N,H,W,C), hidden maps (N,H,W,F), out (N,H,W,O). */
#include "backend/cuda/op/dwconv.h"
#include "backend/cuda/op/linear.h"

enum { X, W1, B1, WD, BD, W2, B2, RESIDUAL };

/* y = gelu(filter(x)) */
KERNEL(mix_ffn_activate)(dwconv_job j) { DISPATCH_WIDTH(j.width, dwconv_walk, DW_GELU, &j); }

/* The same, and dy becomes the gradient of the filter's output. */
KERNEL(mix_ffn_slope)(dwconv_job j) { DISPATCH_WIDTH(j.width, dwconv_walk, DW_GELU_BACKWARD, &j); }

static __device__ __forceinline__ void residual(elem *dx, const elem *dy, int add, int64_t n,
                                                const int width)
{
    EACH(i, n / width) accumulate_quad(dx + i * width, load(dy + i * width, width), add, width);
}

KERNEL(mix_ffn_residual)(elem *dx, const elem *dy, int add, int64_t n, int width)
{
    DISPATCH_WIDTH(width, residual, dx, dy, add, n);
}

#ifdef KD_HOST

typedef struct ffn {
    kd_cuda_layer fc1, fc2;
    dwconv_shape  filter;
    size_t        hidden; /* bytes of a hidden map, a multiple of the alignment */
    /* packed: the filter, and where activations have 16 bits the weights of both layers */
    size_t pack_filter, pack_w1, pack_w2;
} ffn;

static ffn ffn_of(const kdas_node_desc *node)
{
    const int64_t *x = node->in[X].dim;
    int64_t        f = node->in[W1].dim[0], rows = rows_of(&node->in[X]);
    int64_t        map[4] = { x[0], x[1], x[2], f };
    ffn            s;

    s.fc1.type = s.fc2.type = KD_ELEM;
    s.fc1.rows = s.fc2.rows = rows;
    s.fc1.groups = s.fc2.groups = 1;
    s.fc1.in                    = x[3];
    s.fc1.out = s.fc2.in = f;
    s.fc2.out            = node->out.dim[3];
    s.filter             = dwconv_shape_of(map, map, 3, 3, 1, 1, 1);
    s.hidden             = KD_ALIGN_UP((size_t)(rows * f) * sizeof(elem));
    s.pack_filter        = KD_ALIGN_UP((size_t)(DW_TAPS * f) * sizeof(float));
    s.pack_w1            = KD_ALIGN_UP((size_t)(f * s.fc1.in) * sizeof(elem));
    s.pack_w2            = KD_ALIGN_UP((size_t)(f * s.fc2.out) * sizeof(elem));
    if (KD_ELEM == KDAS_F32) s.pack_w1 = s.pack_w2 = 0;
    return s;
}

static const void *w1_of(const kdas_call *call, const ffn *s)
{
    return KD_ELEM == KDAS_F32 ? call->in[W1] : (char *)call->packed + s->pack_filter;
}

static const void *w2_of(const kdas_call *call, const ffn *s)
{
    return KD_ELEM == KDAS_F32 ? call->in[W2] : (char *)call->packed + s->pack_filter + s->pack_w1;
}

/* Is any gradient wanted that flows through GELU; through the filter? */
static bool wants_slope(uint32_t wants)
{
    return wants & (1u << X | 1u << W1 | 1u << B1 | 1u << WD | 1u << BD);
}
static bool wants_fc1(uint32_t wants) { return wants & (1u << X | 1u << W1 | 1u << B1); }

/* ---- scratch of backward: two hidden maps, then parts of sums ---- */

static size_t parts_bytes(const ffn *s)
{
    size_t a = kd_cuda_parts_bytes(s->fc1.rows, s->fc1.out);
    size_t b = kd_cuda_parts_bytes(s->fc2.rows, s->fc2.out);
    size_t c = KD_TYPED(kd_cuda_dwconv_parts_bytes)(&s->filter);

    return KD_MAX(a, KD_MAX(b, c));
}

static kdas_status mix_ffn_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    ffn s = ffn_of(node);

    if (!dwconv_is_same(&s.filter))
        return device->host.fail(KDAS_EUNSUPPORTED,
                                 "cuda:%d: mix_ffn: a map of %lld x %lld is too large",
                                 device->index, (long long)s.filter.h, (long long)s.filter.w);
    plan->packed       = s.pack_filter + s.pack_w1 + s.pack_w2;
    plan->pack_key     = 1;
    plan->saved        = node->wants ? s.hidden : 0;
    plan->work_forward = s.hidden * (node->wants ? 1 : 2);
    if (node->wants) plan->work_backward = 2 * s.hidden + parts_bytes(&s);
    return KDAS_OK;
}

static kdas_status mix_ffn_pack(kdas_device *device, const kdas_call *call)
{
    ffn s = ffn_of(call->node);

    KD_RETURN(KD_TYPED(kd_cuda_dwconv_pack)(device, (float *)call->packed,
                                            (const float *)call->in[WD], DW_TAPS, s.filter.c));
    if (s.pack_w1 == 0) return KDAS_OK;
    KD_RETURN(KD_TYPED(kd_cuda_narrow)(device, (void *)w1_of(call, &s), (const float *)call->in[W1],
                                       s.fc1.in * s.fc1.out));
    return KD_TYPED(kd_cuda_narrow)(device, (void *)w2_of(call, &s), (const float *)call->in[W2],
                                    s.fc2.in * s.fc2.out);
}

/* ---- forward ---- */

/* y = x w' + bias + residual; `bias` and `residual` may be NULL. */
static kdas_status layer(kdas_device *device, const kd_cuda_layer *l, const void *x, const void *w,
                         const void *bias, const void *residual, void *y)
{
    if (bias || residual)
        KD_RETURN(
            KD_TYPED(kd_cuda_fill_rows)(device, y, residual, (const float *)bias, l->rows, l->out));
    return kd_cuda_layer_forward(device, l, x, w, y, bias || residual ? 1 : 0);
}

static dwconv_job job_of(const kdas_device *device, const kdas_call *call, const ffn *s,
                         const void *hidden)
{
    dwconv_job j = dwconv_job_of(device, &s->filter);

    j.x      = (const elem *)hidden;
    j.filter = (const float *)call->packed;
    j.bias   = (const float *)call->in[BD];
    return j;
}

static kdas_status mix_ffn_forward(kdas_device *device, const kdas_call *call)
{
    ffn        s      = ffn_of(call->node);
    void      *active = call->work;
    void      *hidden = call->saved ? call->saved : (char *)call->work + s.hidden;
    dwconv_job j      = job_of(device, call, &s, hidden);

    j.y = (elem *)active;
    KD_RETURN(layer(device, &s.fc1, call->in[X], w1_of(call, &s), call->in[B1], NULL, hidden));
    KD_RETURN(LAUNCH(device, mix_ffn_activate, dwconv_blocks(&j), KD_BLOCK, j));
    return layer(device, &s.fc2, active, w2_of(call, &s), call->in[B2], call->in[RESIDUAL],
                 call->out);
}

/* ---- backward ---- */

static kdas_status add_bias(kdas_device *device, const kd_cuda_layer *l, const void *dy, void *db,
                            float *parts)
{
    return db ? add_columns(device, (float *)db, dy, l->rows, l->out, parts) : KDAS_OK;
}

/* `active` receives the output of gelu if the gradient of fc2's weights needs it, `slope` the gradient of the filter's output. */
static kdas_status back_to_filter(kdas_device *device, const kdas_call *call, const ffn *s,
                                  elem *active, elem *slope)
{
    dwconv_job j = job_of(device, call, s, call->saved);

    j.y  = call->din[W2] ? active : NULL;
    j.dy = wants_slope(call->node->wants) ? slope : NULL;
    if (j.dy) KD_RETURN(kd_cuda_layer_dx(device, &s->fc2, call->dout, w2_of(call, s), slope, 0));
    if (j.y || j.dy) KD_RETURN(LAUNCH(device, mix_ffn_slope, dwconv_blocks(&j), KD_BLOCK, j));
    if (!j.y) return KDAS_OK;
    return kd_cuda_layer_dw(device, &s->fc2, call->dout, active, (float *)call->din[W2], 1);
}

/* From the gradient of fc1's output: the gradients of fc1's parameters and of x. */
static kdas_status back_to_x(kdas_device *device, const kdas_call *call, const ffn *s,
                             const elem *slope, elem *dhidden, float *parts)
{
    dwconv_job j = dwconv_job_of(device, &s->filter);

    j.x       = slope;
    j.y       = dhidden;
    j.filter  = (const float *)call->packed;
    j.rotated = 1;
    KD_RETURN(KD_TYPED(kd_cuda_dwconv_same)(device, &j));
    if (call->din[W1])
        KD_RETURN(
            kd_cuda_layer_dw(device, &s->fc1, dhidden, call->in[X], (float *)call->din[W1], 1));
    KD_RETURN(add_bias(device, &s->fc1, dhidden, call->din[B1], parts));
    if (!call->din[X]) return KDAS_OK;
    return kd_cuda_layer_dx(device, &s->fc1, dhidden, w1_of(call, s), call->din[X],
                            (float)adds(call, X));
}

static kdas_status residual_gradient(kdas_device *device, const kdas_call *call)
{
    int64_t n     = elements(&call->node->out);
    int     width = width_of(n, call->din[RESIDUAL], call->dout, NULL, NULL);

    return LAUNCH_EACH(device, mix_ffn_residual, n / width, (elem *)call->din[RESIDUAL],
                       (const elem *)call->dout, adds(call, RESIDUAL), n, width);
}

static kdas_status mix_ffn_backward(kdas_device *device, const kdas_call *call)
{
    ffn      s      = ffn_of(call->node);
    uint32_t wants  = call->node->wants;
    char    *work   = (char *)call->work;
    elem    *active = (elem *)work, *slope = (elem *)(work + s.hidden);
    float   *parts = (float *)(work + 2 * s.hidden), *dwd = (float *)call->din[WD];

    KD_RETURN(add_bias(device, &s.fc2, call->dout, call->din[B2], parts));
    KD_RETURN(back_to_filter(device, call, &s, active, slope));
    if (dwd || call->din[BD])
        KD_RETURN(KD_TYPED(kd_cuda_dwconv_parameters)(device, &s.filter, (const elem *)call->saved,
                                                      slope, dwd, (float *)call->din[BD], parts));
    /* the output of gelu is no longer needed */
    if (wants_fc1(wants)) KD_RETURN(back_to_x(device, call, &s, slope, active, parts));
    return call->din[RESIDUAL] ? residual_gradient(device, call) : KDAS_OK;
}

KD_OP(mix_ffn, mix_ffn_prepare, NULL, mix_ffn_pack, mix_ffn_forward, mix_ffn_backward)

#endif
