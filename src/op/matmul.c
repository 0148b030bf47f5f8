/* matmul.c - alpha op(a) op(b) on the last two axes. op transposes or does nothing. a (N,H,.,.),
 * b (N,H,.,.) -> y (N,H,rows,cols). */
#include "op/op_util.h"

/* A factor as a matrix of rows x cols, with its strides: between rows, between columns, and
 * between matrices. */
typedef struct factor {
    int64_t rows, cols, row_step, col_step, size;
} factor;

static factor factor_of(const kdas_desc *d, bool transpose)
{
    int64_t r = d->dim[2], c = d->dim[3];

    return transpose ? (factor){ c, r, 1, c, r * c } : (factor){ r, c, c, 1, r * c };
}

static kdas_status matmul_infer(kdas_node_desc *node)
{
    const kdas_matmul_attr *attr = node->attr;
    const kdas_desc        *a = &node->in[0], *b = &node->in[1];
    factor                  fa, fb;

    KD_RETURN(kd_op_check(node));
    fa = factor_of(a, attr->transpose_a);
    fb = factor_of(b, attr->transpose_b);
    if (a->dim[0] != b->dim[0] || a->dim[1] != b->dim[1] || fa.cols != fb.rows)
        return kd_fail(KDAS_ESHAPE, "matmul: %s%s does not fit %s%s", kd_dims_text(a),
                       attr->transpose_a ? " transposed" : "", kd_dims_text(b),
                       attr->transpose_b ? " transposed" : "");
    if (!isfinite(attr->alpha))
        return kd_fail(KDAS_EINVAL, "matmul: alpha %g is not finite", (double)attr->alpha);
    return kd_op_output(node, a->dim[0], a->dim[1], fa.rows, fb.cols);
}

/* Element (i,j) of the product of two matrices. */
static double product_at(const float *a, factor fa, const float *b, factor fb, int64_t i, int64_t j)
{
    double sum = 0;

    for (int64_t k = 0; k < fa.cols; k++)
        sum += (double)a[i * fa.row_step + k * fa.col_step] * b[k * fb.row_step + j * fb.col_step];
    return sum;
}

static factor flip(factor f) { return (factor){ f.cols, f.rows, f.col_step, f.row_step, f.size }; }

/* y = alpha a b, or y += alpha a b, for every matrix of the batch. y has its own strides. */
static void products(const kdas_node_desc *node, const float *a, factor fa, const float *b,
                     factor fb, float *y, factor fy, bool add)
{
    double  alpha = ((const kdas_matmul_attr *)node->attr)->alpha;
    int64_t batch = node->out.dim[0] * node->out.dim[1];

    for (int64_t m = 0; m < batch; m++, a += fa.size, b += fb.size, y += fy.size)
        for (int64_t i = 0; i < fy.rows; i++)
            for (int64_t j = 0; j < fy.cols; j++) {
                float *at    = y + i * fy.row_step + j * fy.col_step;
                float  value = (float)(alpha * product_at(a, fa, b, fb, i, j));

                *at = add ? *at + value : value;
            }
}

static kdas_status matmul_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc   *node = call->node;
    const kdas_matmul_attr *attr = node->attr;

    (void)device;
    products(node, call->in[0], factor_of(&node->in[0], attr->transpose_a), call->in[1],
             factor_of(&node->in[1], attr->transpose_b), call->out, factor_of(&node->out, false),
             false);
    return KDAS_OK;
}

/* d op(a) = alpha dy op(b)', d op(b) = alpha op(a)' dy. */
static kdas_status matmul_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc   *node = call->node;
    const kdas_matmul_attr *attr = node->attr;
    factor                  fa   = factor_of(&node->in[0], attr->transpose_a);
    factor                  fb   = factor_of(&node->in[1], attr->transpose_b);
    factor                  fy   = factor_of(&node->out, false);

    (void)device;
    if (call->din[0]) products(node, call->dout, fy, call->in[1], flip(fb), call->din[0], fa, true);
    if (call->din[1]) products(node, call->in[0], flip(fa), call->dout, fy, call->din[1], fb, true);
    return KDAS_OK;
}

static int64_t matmul_macs(const kdas_node_desc *node)
{
    const kdas_matmul_attr *attr = node->attr;

    return kd_elements(&node->out) * node->in[0].dim[attr->transpose_a ? 2 : 3];
}

const kd_op kd_op_matmul = {
    .name       = "matmul",
    .min_inputs = 2,
    .max_inputs = 2,
    .attr_size  = sizeof(kdas_matmul_attr),
    .infer      = matmul_infer,
    .macs       = matmul_macs,
    .ref        = { .op       = KDAS_OP_MATMUL,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .forward  = matmul_forward,
                    .backward = matmul_backward },
};
