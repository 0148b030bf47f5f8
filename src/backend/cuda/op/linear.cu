/* linear.cu - LINEAR on cuBLAS, and what else takes rows: their beginning by a bias, parameters of 16 bits. */
#include "backend/cuda/op/rows.h"
#ifdef KD_HOST
#include "backend/cuda/layer.h"
#endif

static __device__ __forceinline__ void fill(const int n, elem *y, const elem *residual,
                                            const float *bias, int64_t rows, int64_t columns,
                                            unsigned across)
{
    EACH_ROW(r, rows, across)
    {
        EACH_COLUMN(c, columns, across, n)
        {
            float v[4] = { 0, 0, 0, 0 }, b[4] = { 0, 0, 0, 0 };

            if (residual) load(n, v, residual + r * columns + c);
            if (bias) load_floats(n, b, bias + c);
            for (int i = 0; i < n; i++)
                v[i] += b[i];
            store(n, y + r * columns + c, v);
        }
    }
}

KERNEL(linear_fill)
(elem *y, const elem *residual, const float *bias, int64_t rows, int64_t columns, unsigned across)
{
    if (columns % 4 == 0)
        fill(4, y, residual, bias, rows, columns, across);
    else
        fill(1, y, residual, bias, rows, columns, across);
}

KERNEL(linear_narrow)(elem *to, const float *from, int64_t n) { EACH(i, n) set(&to[i], from[i]); }

#ifdef KD_HOST

kdas_status KD_TYPED(kd_cuda_fill_rows)(kdas_device *device, void *y, const void *residual,
                                        const float *bias, int64_t rows, int64_t columns)
{
    unsigned across = across_of(columns % 4 ? columns : columns / 4);

    return LAUNCH(device, linear_fill, row_blocks(device, rows, across), KD_BLOCK, (elem *)y,
                  (const elem *)residual, bias, rows, columns, across);
}

kdas_status KD_TYPED(kd_cuda_narrow)(kdas_device *device, void *to, const float *from, int64_t n)
{
    return LAUNCH_EACH(device, linear_narrow, n, (elem *)to, from, n);
}

static kd_cuda_layer layer_of(const kdas_node_desc *node)
{
    kd_cuda_layer l = { KD_ELEM, rows_of(&node->out), node->in[0].dim[3], node->out.dim[3] };

    return l;
}

/* Weights in the type of activations: themselves, or a copy. */
static const void *weights(const kdas_call *call)
{
    return KD_ELEM == KDAS_F32 ? call->in[1] : call->packed;
}

static kdas_status linear_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    kd_cuda_layer l = layer_of(node);

    (void)device;
    if (KD_ELEM != KDAS_F32) plan->packed = (size_t)(l.in * l.out) * sizeof(elem);
    if (node->wants & 4) plan->work_backward = kd_cuda_parts_bytes(l.rows, l.out);
    return KDAS_OK;
}

static kdas_status linear_pack(kdas_device *device, const kdas_call *call)
{
    kd_cuda_layer l = layer_of(call->node);

    if (KD_ELEM == KDAS_F32) return KDAS_OK;
    return KD_TYPED(kd_cuda_narrow)(device, call->packed, (const float *)call->in[1], l.in * l.out);
}

/* The bias is put where the product is added: it costs no more traffic than adding it after, and one rounding
 * less. */
static kdas_status linear_forward(kdas_device *device, const kdas_call *call)
{
    kd_cuda_layer l    = layer_of(call->node);
    const float  *bias = (const float *)call->in[2];

    if (bias) KD_RETURN(KD_TYPED(kd_cuda_fill_rows)(device, call->out, NULL, bias, l.rows, l.out));
    return kd_cuda_layer_forward(device, &l, call->in[0], weights(call), call->out, bias ? 1 : 0);
}

static kdas_status linear_backward(kdas_device *device, const kdas_call *call)
{
    kd_cuda_layer l = layer_of(call->node);

    if (call->din[0])
        KD_RETURN(kd_cuda_layer_dx(device, &l, call->dout, weights(call), call->din[0],
                                   (float)adds(call, 0)));
    if (call->din[1])
        KD_RETURN(kd_cuda_layer_dw(device, &l, call->dout, call->in[0], (float *)call->din[1], 1));
    if (!call->din[2]) return KDAS_OK;
    return add_columns(device, (float *)call->din[2], call->dout, l.rows, l.out,
                       (float *)call->work);
}

KD_OP(linear, linear_prepare, NULL, linear_pack, linear_forward, linear_backward)

#endif
