/* moments.c - for each channel the mean and the biased variance over N, H and W, and their number: x (N,H,W,C) ->
 * (1,1,1,2C+1), the means, the variances, N H W. The last has no gradient. */
#include "op/op_util.h"

static kdas_status moments_infer(kdas_node_desc *node)
{
    KD_RETURN(kd_op_check(node));
    return kd_op_output(node, 1, 1, 1, 2 * node->in[0].dim[3] + 1);
}

static kdas_status moments_forward(kdas_device *device, const kdas_call *call)
{
    const float *x    = call->in[0];
    float       *out  = call->out;
    int64_t      rows = kd_rows(&call->node->in[0]), channels = call->node->in[0].dim[3];

    (void)device;
    for (int64_t c = 0; c < channels; c++) {
        double mean = 0, squares = 0;

        for (int64_t r = 0; r < rows; r++)
            mean += x[r * channels + c];
        mean /= (double)rows;
        for (int64_t r = 0; r < rows; r++)
            squares += (x[r * channels + c] - mean) * (x[r * channels + c] - mean);
        out[c]            = (float)mean;
        out[channels + c] = (float)(squares / (double)rows);
    }
    out[2 * channels] = (float)rows;
    return KDAS_OK;
}

/* dx = (dmean + 2 (x - mean) dvar) / rows. */
static kdas_status moments_backward(kdas_device *device, const kdas_call *call)
{
    const float *x = call->in[0], *mean = call->out, *dout = call->dout;
    float       *dx   = call->din[0];
    int64_t      rows = kd_rows(&call->node->in[0]), channels = call->node->in[0].dim[3];

    (void)device;
    for (int64_t r = 0; r < rows; r++, x += channels, dx += channels)
        for (int64_t c = 0; c < channels; c++)
            dx[c] += (float)((dout[c] + 2 * ((double)x[c] - mean[c]) * dout[channels + c]) /
                             (double)rows);
    return KDAS_OK;
}

const kd_op kd_op_moments = {
    .name       = "moments",
    .min_inputs = 1,
    .max_inputs = 1,
    .wide       = KDAS_NEEDS_OUT,
    .infer      = moments_infer,
    .ref        = { .op       = KDAS_OP_MOMENTS,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_OUT,
                    .forward  = moments_forward,
                    .backward = moments_backward },
};
