/* boundary.c - weights that are large near the edges of a mask: 1 + gain |box(y) - y|. box is
 * the mean over window x window with zeros outside, always divided by window^2. The shape
 * (N,H,W,C) is kept. No gradient. */
#include "op/op_util.h"

static kdas_status boundary_infer(kdas_node_desc *node)
{
    const kdas_boundary_attr *attr = node->attr;

    KD_RETURN(kd_infer_same(node));
    if (attr->window < 1 || attr->window % 2 == 0 || !isfinite(attr->gain))
        return kd_fail(KDAS_EINVAL, "boundary: window %d is not odd, or gain %g is not finite",
                       attr->window, (double)attr->gain);
    return KDAS_OK;
}

/* Scratch: the row sums of one image. */
static kdas_status boundary_prepare(kdas_device *device, const kdas_node_desc *node,
                                    kdas_plan *plan)
{
    (void)device;
    plan->work_forward = (size_t)kd_image_elements(&node->out) * sizeof(double);
    return KDAS_OK;
}

static kdas_status boundary_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_boundary_attr *attr = call->node->attr;
    const int64_t            *s    = call->node->out.dim;
    const float              *y    = call->in[0];
    float                    *out  = call->out;
    double                   *sums = call->work, area = (double)attr->window * attr->window;
    int64_t                   reach = attr->window / 2, row = s[2] * s[3];

    (void)device;
    for (int64_t n = 0; n < s[0]; n++, y += s[1] * row, out += s[1] * row) {
        for (int64_t i = 0; i < s[1] * row; i++) {
            int64_t x = i % row / s[3];

            sums[i] = 0;
            for (int64_t k = KD_MAX(x - reach, 0); k <= KD_MIN(x + reach, s[2] - 1); k++)
                sums[i] += y[i + (k - x) * s[3]];
        }
        for (int64_t i = 0; i < s[1] * row; i++) {
            int64_t top = KD_MAX(i / row - reach, 0), bottom = KD_MIN(i / row + reach, s[1] - 1);
            double  sum = 0;

            for (int64_t k = top; k <= bottom; k++)
                sum += sums[k * row + i % row];
            out[i] = (float)(1 + attr->gain * fabs(sum / area - y[i]));
        }
    }
    return KDAS_OK;
}

const kd_op kd_op_boundary = {
    .name       = "boundary",
    .min_inputs = 1,
    .max_inputs = 1,
    .constant   = 1u << 0,
    .attr_size  = sizeof(kdas_boundary_attr),
    .infer      = boundary_infer,
    .ref = { .op = KDAS_OP_BOUNDARY, .prepare = boundary_prepare, .forward = boundary_forward },
};
