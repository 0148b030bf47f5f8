/* resize.c - bilinear to another height and width, without antialiasing. (N,H,W,C) -> (N,h,w,C).
 * An output sample mixes the samples at floor(s) and floor(s)+1 of its source position s:
 * corners aligned: s = i (in-1)/(out-1);
 * else half-pixel centres: s = (i+.5) in/out - .5, at least 0. */
#include "op/op_util.h"

static kdas_status resize_infer(kdas_node_desc *node)
{
    const kdas_resize_attr *attr = node->attr;
    const kdas_desc        *x    = &node->in[0];

    KD_RETURN(kd_op_check(node));
    if (attr->height < 1 || attr->width < 1 || attr->height > INT32_MAX || attr->width > INT32_MAX)
        return kd_fail(KDAS_ESHAPE, "resize: %s cannot become %lldx%lld", kd_dims_text(x),
                       (long long)attr->height, (long long)attr->width);
    return kd_op_output(node, x->dim[0], attr->height, attr->width, x->dim[3]);
}

/* The two input samples that output sample i mixes along an axis, and their weights. */
typedef struct mix {
    int64_t at[2];
    double  share[2];
} mix;

static mix mix_of(int64_t i, int64_t in, int64_t out, bool align)
{
    double s = align ? (out > 1 ? (double)i * (double)(in - 1) / (double)(out - 1) : 0)
                     : ((double)i + 0.5) * (double)in / (double)out - 0.5;
    mix    m;

    s          = KD_MAX(s, 0.0);
    m.at[0]    = KD_MIN((int64_t)s, in - 1);
    m.at[1]    = KD_MIN(m.at[0] + 1, in - 1);
    m.share[1] = s - (double)m.at[0];
    m.share[0] = 1 - m.share[1];
    return m;
}

/* Forward: y is set from x. Backward: x is a gradient, and dy accumulates into it. */
static void walk(const kdas_node_desc *node, float *x, float *y, bool backward)
{
    const kdas_resize_attr *attr = node->attr;
    const int64_t          *in = node->in[0].dim, *out = node->out.dim;

    for (int64_t r = 0; r < kd_rows(&node->out); r++, y += out[3]) {
        mix v = mix_of(r / out[2] % out[1], in[1], out[1], attr->align);
        mix h = mix_of(r % out[2], in[2], out[2], attr->align);

        for (int64_t c = 0; !backward && c < out[3]; c++)
            y[c] = 0;
        for (int k = 0; k < 4; k++) {
            int64_t n = r / (out[1] * out[2]), row = v.at[k >> 1], col = h.at[k & 1];
            float   share = (float)(v.share[k >> 1] * h.share[k & 1]);
            float  *from  = x + ((n * in[1] + row) * in[2] + col) * in[3];

            for (int64_t c = 0; c < out[3]; c++)
                if (backward)
                    from[c] += share * y[c];
                else
                    y[c] += share * from[c];
        }
    }
}

static kdas_status resize_forward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    walk(call->node, call->in[0], call->out, false);
    return KDAS_OK;
}

static kdas_status resize_backward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    walk(call->node, call->din[0], (float *)call->dout, true);
    return KDAS_OK;
}

static double resize_thop(const kdas_node_desc *node)
{
    const kdas_resize_attr *attr = node->attr;

    return 11.0 * attr->counted * (double)kd_elements(&node->out);
}

/* fvcore counts functions as well as modules: where `counted` is 0, it has run once. */
static double resize_fvcore(const kdas_node_desc *node)
{
    const kdas_resize_attr *attr = node->attr;

    return 4.0 * KD_MAX(attr->counted, 1) * (double)kd_elements(&node->out);
}

const kd_op kd_op_resize = {
    .name       = "resize",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_resize_attr),
    .infer      = resize_infer,
    .thop       = resize_thop,
    .fvcore     = resize_fvcore,
    .ref        = { .op = KDAS_OP_RESIZE, .forward = resize_forward, .backward = resize_backward },
};
