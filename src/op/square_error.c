/* square_error.c - the mean of (a-b)^2 for each image; b is constant.
 * a, b (N,H,W,C) -> (N,1,1,1). */
#include "op/op_util.h"

static kdas_status square_error_forward(kdas_device *device, const kdas_call *call)
{
    const float *a = call->in[0], *b = call->in[1];
    float       *out  = call->out;
    int64_t      size = kd_image_elements(&call->node->in[0]);

    (void)device;
    for (int64_t n = 0; n < call->node->out.dim[0]; n++, a += size, b += size) {
        double sum = 0;

        for (int64_t i = 0; i < size; i++)
            sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        out[n] = (float)(sum / (double)size);
    }
    return KDAS_OK;
}

static kdas_status square_error_backward(kdas_device *device, const kdas_call *call)
{
    const float *a = call->in[0], *b = call->in[1], *dout = call->dout;
    float       *da   = call->din[0];
    int64_t      size = kd_image_elements(&call->node->in[0]);

    (void)device;
    for (int64_t n = 0; n < call->node->out.dim[0]; n++, a += size, b += size, da += size)
        for (int64_t i = 0; i < size; i++)
            da[i] += (float)(2 * dout[n] * ((double)a[i] - b[i]) / (double)size);
    return KDAS_OK;
}

const kd_op kd_op_square_error = {
    .name       = "square_error",
    .min_inputs = 2,
    .max_inputs = 2,
    .constant   = 1u << 1,
    .infer      = kd_infer_loss,
    .ref        = { .op       = KDAS_OP_SQUARE_ERROR,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .forward  = square_error_forward,
                    .backward = square_error_backward },
};
