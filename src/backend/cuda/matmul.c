/* matmul.c - MATMUL: alpha op(a) op(b) on the last two axes, as one batched product of cuBLAS. The objective uses it, which is
 * computed in f32 whatever the type of the networks. */
#include "backend/cuda/cuda.h"

extern const kd_cuda_kernel kd_cuda_matmul_f32;

/* One factor: its memory, whether it is transposed, and its leading dimension. */
typedef struct factor {
    const void *at;
    bool        transpose;
    int64_t     rows, columns; /* as stored */
} factor;

static factor factor_of(const kdas_desc *d, const void *at, bool transpose)
{
    return (factor){ at, transpose, d->dim[2], d->dim[3] };
}

static factor flip(factor f)
{
    f.transpose = !f.transpose;
    return f;
}

/* c (m x n) = alpha a b + beta c, for each matrix of the batch. */
static kdas_status multiply(kdas_device *device, const kdas_node_desc *node, factor a, factor b,
                            float *c, bool add)
{
    kd_cuda_product p = { .m           = a.transpose ? a.columns : a.rows,
                          .k           = a.transpose ? a.rows : a.columns,
                          .n           = b.transpose ? b.rows : b.columns,
                          .a           = a.at,
                          .lda         = a.columns,
                          .transpose_a = a.transpose,
                          .step_a      = a.rows * a.columns,
                          .b           = b.at,
                          .ldb         = b.columns,
                          .transpose_b = b.transpose,
                          .step_b      = b.rows * b.columns,
                          .c           = c,
                          .alpha       = ((const kdas_matmul_attr *)node->attr)->alpha,
                          .beta        = add ? 1 : 0,
                          .exact       = true,
                          .batch       = node->out.dim[0] * node->out.dim[1] };

    p.ldc    = p.n;
    p.step_c = p.m * p.n;
    return kd_cuda_multiply(device, &p);
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_matmul_attr *attr = call->node->attr;

    return multiply(
        device, call->node, factor_of(&call->node->in[0], call->in[0], attr->transpose_a),
        factor_of(&call->node->in[1], call->in[1], attr->transpose_b), call->out, false);
}

/* d op(a) = alpha dy op(b)', d op(b) = alpha op(a)' dy; where op transposes, both sides are transposed. */
static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc   *node  = call->node;
    const kdas_matmul_attr *attr  = node->attr;
    factor                  a     = factor_of(&node->in[0], call->in[0], attr->transpose_a);
    factor                  b     = factor_of(&node->in[1], call->in[1], attr->transpose_b);
    factor                  dy    = factor_of(&node->out, call->dout, false);
    bool                    add_a = call->add & 1, add_b = call->add & 2;

    if (call->din[0] && a.transpose)
        KD_RETURN(multiply(device, node, b, flip(dy), call->din[0], add_a));
    else if (call->din[0])
        KD_RETURN(multiply(device, node, dy, flip(b), call->din[0], add_a));
    if (call->din[1] && b.transpose)
        return multiply(device, node, flip(dy), a, call->din[1], add_b);
    if (call->din[1]) return multiply(device, node, flip(a), dy, call->din[1], add_b);
    return KDAS_OK;
}

const kd_cuda_kernel kd_cuda_matmul_f32 = { .forward = forward, .backward = backward };
