/* bce.c - binary cross entropy of logits p against targets y, weighted by w (1 if absent):
 * for each image sum(w l) / sum(w), l = max(p,0) - p y + log(1 + exp(-|p|)).
 * All (N,H,W,C) -> (N,1,1,1). */
#include "op/op_util.h"

/* Sum of an image's weights; `size` without weights. */
static double weight_sum(const float *w, int64_t size)
{
    double sum = w ? 0 : (double)size;

    for (int64_t i = 0; w && i < size; i++)
        sum += w[i];
    return sum;
}

static kdas_status bce_forward(kdas_device *device, const kdas_call *call)
{
    const float *p = call->in[0], *y = call->in[1], *w = call->in[2];
    float       *out  = call->out;
    int64_t      size = kd_image_elements(&call->node->in[0]);

    (void)device;
    for (int64_t n = 0; n < call->node->out.dim[0]; n++, p += size, y += size, w += w ? size : 0) {
        double sum = 0;

        for (int64_t i = 0; i < size; i++)
            sum += (w ? w[i] : 1) * (fmax(p[i], 0) - (double)p[i] * y[i] + log1p(exp(-fabs(p[i]))));
        out[n] = (float)(sum / weight_sum(w, size));
    }
    return KDAS_OK;
}

static kdas_status bce_backward(kdas_device *device, const kdas_call *call)
{
    const float *p = call->in[0], *y = call->in[1], *w = call->in[2], *dout = call->dout;
    float       *dp   = call->din[0];
    int64_t      size = kd_image_elements(&call->node->in[0]);

    (void)device;
    for (int64_t n = 0; n < call->node->out.dim[0]; n++, w += w ? size : 0) {
        double share = dout[n] / weight_sum(w, size);

        for (int64_t i = 0; i < size; i++, p++, y++, dp++)
            *dp += (float)((w ? w[i] : 1) * share * (kd_sigmoid_of(*p) - *y));
    }
    return KDAS_OK;
}

const kd_op kd_op_bce = {
    .name       = "bce",
    .min_inputs = 2,
    .max_inputs = 3,
    .constant   = 1u << 1 | 1u << 2,
    .infer      = kd_infer_loss,
    .ref        = { .op       = KDAS_OP_BCE,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1) | KDAS_NEEDS_IN(2),
                    .forward  = bce_forward,
                    .backward = bce_backward },
};
