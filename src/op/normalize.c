/* normalize.c - x divided by its L2 norm along the last axis. A norm below eps is replaced by
 * eps. */
#include "op/op_util.h"

static kdas_status normalize_infer(kdas_node_desc *node)
{
    const kdas_normalize_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (!(attr->eps > 0) || !isfinite(attr->eps))
        return kd_fail(KDAS_EINVAL, "normalize: eps %g is not positive", (double)attr->eps);
    return KDAS_OK;
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static kdas_status normalize_forward(kdas_device *device, const kdas_call *call)
{
    double       eps  = ((const kdas_normalize_attr *)call->node->attr)->eps;
    const float *x    = call->in[0];
    float       *y    = call->out;
    int64_t      rows = kd_rows(&call->node->out), n = call->node->out.dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        double norm = sqrt(dot(x, x, n));

        if (norm < eps) norm = eps;
        for (int64_t i = 0; i < n; i++)
            y[i] = (float)(x[i] / norm);
    }
    return KDAS_OK;
}

/* dx = (dy - x (x dy) / |x|^2) / |x|, or dy / eps. */
static kdas_status normalize_backward(kdas_device *device, const kdas_call *call)
{
    double       eps = ((const kdas_normalize_attr *)call->node->attr)->eps;
    const float *x = call->in[0], *dy = call->dout;
    float       *dx   = call->din[0];
    int64_t      rows = kd_rows(&call->node->out), n = call->node->out.dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += n, dy += n, dx += n) {
        double square = dot(x, x, n), norm = sqrt(square), along = dot(x, dy, n) / square;

        if (norm < eps) {
            norm  = eps;
            along = 0;
        }
        for (int64_t i = 0; i < n; i++)
            dx[i] += (float)((dy[i] - x[i] * along) / norm);
    }
    return KDAS_OK;
}

const kd_op kd_op_normalize = {
    .name       = "normalize",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_normalize_attr),
    .infer      = normalize_infer,
    .ref        = { .op       = KDAS_OP_NORMALIZE,
                    .needs    = KDAS_NEEDS_IN(0),
                    .flags    = KDAS_KERNEL_INPLACE,
                    .forward  = normalize_forward,
                    .backward = normalize_backward },
};
