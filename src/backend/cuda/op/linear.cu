/* linear.cu - LINEAR on cuBLAS, and helpers over rows that other ops use: adding a bias, 16-bit copies of parameters. */
#include "backend/cuda/op/linear.h"

static __device__ __forceinline__ void fill(elem *y, const elem *residual, const float *bias,
                                            int64_t rows, int64_t columns, const int width)
{
    cell at = cell_of(rows, columns, width);
    quad b  = { { 0, 0, 0, 0 } };

    if (bias && at.r < rows) b = load_f(bias + at.c, width);
    EACH_ROW(r, at, rows)
    {
        quad v = b;

        if (residual) {
            v = load(residual + r * columns + at.c, width);
            EACH_VALUE(k, width) v.v[k] += b.v[k];
        }
        store(y + r * columns + at.c, v, width);
    }
}

KERNEL(linear_fill)
(elem *y, const elem *residual, const float *bias, int64_t rows, int64_t columns, int width)
{
    DISPATCH_WIDTH(width, fill, y, residual, bias, rows, columns);
}

KERNEL(linear_narrow)(elem *to, const float *from, int64_t n) { EACH(i, n) set(&to[i], from[i]); }

#ifdef KD_HOST

kdas_status KD_TYPED(kd_cuda_fill_rows)(kdas_device *device, void *y, const void *residual,
                                        const float *bias, int64_t rows, int64_t columns)
{
    int width = width_of(columns, y, residual, bias, NULL);

    return LAUNCH_MATRIX(device, linear_fill, rows, columns, width, (elem *)y,
                         (const elem *)residual, bias, rows, columns, width);
}

kdas_status KD_TYPED(kd_cuda_narrow)(kdas_device *device, void *to, const float *from, int64_t n)
{
    return LAUNCH_EACH(device, linear_narrow, n, (elem *)to, from, n);
}

static kd_cuda_layer layer_of(const kdas_node_desc *node)
{
    kd_cuda_layer l = { KD_ELEM, rows_of(&node->out), node->in[0].dim[3], node->out.dim[3], 1 };

    return l;
}

/* Weights in the type of activations: the parameter itself, or a 16-bit copy. */
static const void *weights(const kdas_call *call)
{
    return KD_ELEM == KDAS_F32 ? call->in[1] : call->packed;
}

static kdas_status linear_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    kd_cuda_layer l = layer_of(node);

    (void)device;
    if (KD_ELEM != KDAS_F32) plan->packed = (size_t)(l.in * l.out) * sizeof(elem);
    plan->pack_key = 1;
    if (node->wants & 4) plan->work_backward = kd_cuda_parts_bytes(l.rows, l.out);
    return KDAS_OK;
}

static kdas_status linear_pack(kdas_device *device, const kdas_call *call)
{
    kd_cuda_layer l = layer_of(call->node);

    if (KD_ELEM == KDAS_F32) return KDAS_OK;
    return KD_TYPED(kd_cuda_narrow)(device, call->packed, (const float *)call->in[1], l.in * l.out);
}

/* The bias is written first and the product added to it (beta 1): the same traffic as adding it after, and one rounding
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
