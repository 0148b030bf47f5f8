/* overlap.c - one minus the overlap of s = sigmoid(p) with targets y, weighted by w (1 if
 * absent). I = sum(w s y) and U = sum(w (s + y)). For each image dice is 1 - (2I + smooth) / (U
 * + smooth), and jaccard is 1 - (I + smooth) / (U - I + smooth). All (N,H,W,C) -> (N,1,1,1). */
#include "op/op_util.h"

static kdas_status overlap_infer(kdas_node_desc *node)
{
    const kdas_overlap_attr *attr = node->attr;

    KD_RETURN(kd_infer_loss(node));
    if (!(attr->smooth >= 0) || !isfinite(attr->smooth))
        return kd_fail(KDAS_EINVAL, "overlap: smooth %g is out of range", (double)attr->smooth);
    return KDAS_OK;
}

/* Numerator and denominator of an image's overlap. */
typedef struct ratio {
    double above, below;
} ratio;

static ratio ratio_of(const kdas_overlap_attr *attr, const float *p, const float *y, const float *w,
                      int64_t size)
{
    double both = 0, sum = 0, smooth = attr->smooth;

    for (int64_t i = 0; i < size; i++) {
        double s = kd_sigmoid_of(p[i]), weight = w ? w[i] : 1;

        both += weight * s * y[i];
        sum += weight * (s + y[i]);
    }
    return attr->jaccard ? (ratio){ both + smooth, sum - both + smooth }
                         : (ratio){ 2 * both + smooth, sum + smooth };
}

static kdas_status overlap_forward(kdas_device *device, const kdas_call *call)
{
    const float *p = call->in[0], *y = call->in[1], *w = call->in[2];
    float       *out  = call->out;
    int64_t      size = kd_image_elements(&call->node->in[0]);

    (void)device;
    for (int64_t n = 0; n < call->node->out.dim[0]; n++, p += size, y += size, w += w ? size : 0) {
        ratio r = ratio_of(call->node->attr, p, y, w, size);

        out[n] = (float)(1 - r.above / r.below);
    }
    return KDAS_OK;
}

static kdas_status overlap_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_overlap_attr *attr = call->node->attr;
    const float *p = call->in[0], *y = call->in[1], *w = call->in[2], *dout = call->dout;
    float       *dp   = call->din[0];
    int64_t      size = kd_image_elements(&call->node->in[0]);

    (void)device;
    for (int64_t n = 0; n < call->node->out.dim[0]; n++, p += size, y += size, w += w ? size : 0) {
        ratio r = ratio_of(attr, p, y, w, size);

        for (int64_t i = 0; i < size; i++, dp++) {
            double s = kd_sigmoid_of(p[i]), weight = w ? w[i] : 1;
            double above = weight * y[i] * (attr->jaccard ? 1 : 2); /* d above / d s */
            double below = weight * (attr->jaccard ? 1 - y[i] : 1); /* d below / d s */
            double slope = (r.above * below - above * r.below) / (r.below * r.below);

            *dp += (float)(dout[n] * slope * s * (1 - s));
        }
    }
    return KDAS_OK;
}

const kd_op kd_op_overlap = {
    .name       = "overlap",
    .min_inputs = 2,
    .max_inputs = 3,
    .constant   = 1u << 1 | 1u << 2,
    .attr_size  = sizeof(kdas_overlap_attr),
    .infer      = overlap_infer,
    .ref        = { .op       = KDAS_OP_OVERLAP,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1) | KDAS_NEEDS_IN(2),
                    .forward  = overlap_forward,
                    .backward = overlap_backward },
};
