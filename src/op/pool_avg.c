/* pool_avg.c - adaptive average pooling: (N,H,W,C) -> (N,h,w,C). Window i of `out` over `in`
 * samples is floor(i in/out) .. ceil((i+1) in/out)-1. Windows overlap where out does not divide
 * in. */
#include "op/op_util.h"

static kdas_status pool_avg_infer(kdas_node_desc *node)
{
    const kdas_pool_attr *attr = node->attr;
    const kdas_desc      *x    = &node->in[0];

    KD_RETURN(kd_op_check(node));
    if (attr->height < 1 || attr->width < 1 || attr->height > INT32_MAX || attr->width > INT32_MAX)
        return kd_fail(KDAS_ESHAPE, "pool_avg: %s cannot become %lldx%lld", kd_dims_text(x),
                       (long long)attr->height, (long long)attr->width);
    return kd_op_output(node, x->dim[0], attr->height, attr->width, x->dim[3]);
}

typedef struct window {
    int64_t top, bottom, left, right; /* bottom and right are one past the end */
    int64_t first;                    /* offset in x of its image               */
} window;

/* The window of output row r, over N, h and w. */
static window window_of(const kdas_node_desc *node, int64_t r)
{
    const int64_t *in = node->in[0].dim, *out = node->out.dim;
    int64_t        n = r / (out[1] * out[2]), i = r / out[2] % out[1], j = r % out[2];

    return (window){ .top    = i * in[1] / out[1],
                     .bottom = ((i + 1) * in[1] + out[1] - 1) / out[1],
                     .left   = j * in[2] / out[2],
                     .right  = ((j + 1) * in[2] + out[2] - 1) / out[2],
                     .first  = n * in[1] * in[2] * in[3] };
}

static kdas_status pool_avg_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node  = call->node;
    int64_t               width = node->in[0].dim[2], channels = node->out.dim[3];
    float                *y = call->out;

    (void)device;
    for (int64_t r = 0; r < kd_rows(&node->out); r++, y += channels) {
        window       w = window_of(node, r);
        const float *x = (const float *)call->in[0] + w.first;

        for (int64_t c = 0; c < channels; c++) {
            double sum = 0;
            for (int64_t i = w.top; i < w.bottom; i++)
                for (int64_t j = w.left; j < w.right; j++)
                    sum += x[(i * width + j) * channels + c];
            y[c] = (float)(sum / (double)((w.bottom - w.top) * (w.right - w.left)));
        }
    }
    return KDAS_OK;
}

static kdas_status pool_avg_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node  = call->node;
    int64_t               width = node->in[0].dim[2], channels = node->out.dim[3];
    const float          *dy = call->dout;

    (void)device;
    for (int64_t r = 0; r < kd_rows(&node->out); r++, dy += channels) {
        window w     = window_of(node, r);
        float *dx    = (float *)call->din[0] + w.first;
        float  share = 1.0f / (float)((w.bottom - w.top) * (w.right - w.left));

        for (int64_t i = w.top; i < w.bottom; i++)
            for (int64_t j = w.left; j < w.right; j++)
                for (int64_t c = 0; c < channels; c++)
                    dx[(i * width + j) * channels + c] += dy[c] * share;
    }
    return KDAS_OK;
}

/* For each output element thop counts the ratio of the sides, plus one. */
static double pool_avg_thop(const kdas_node_desc *node)
{
    const kdas_pool_attr *attr = node->attr;
    const int64_t        *in = node->in[0].dim, *out = node->out.dim;
    double                ratio = (double)in[1] / (double)out[1] * ((double)in[2] / (double)out[2]);

    return (double)attr->counted * (ratio + 1) * (double)kd_elements(&node->out);
}

/* fvcore counts input elements, of every run. */
static double pool_avg_fvcore(const kdas_node_desc *node)
{
    const kdas_pool_attr *attr = node->attr;

    return (double)(KD_MAX(attr->counted, 1) * kd_elements(&node->in[0]));
}

const kd_op kd_op_pool_avg = {
    .name       = "pool_avg",
    .min_inputs = 1,
    .max_inputs = 1,
    .attr_size  = sizeof(kdas_pool_attr),
    .infer      = pool_avg_infer,
    .thop       = pool_avg_thop,
    .fvcore     = pool_avg_fvcore,
    .ref = { .op = KDAS_OP_POOL_AVG, .forward = pool_avg_forward, .backward = pool_avg_backward },
};
