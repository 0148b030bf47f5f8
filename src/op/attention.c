/* attention.c - attention of every pixel of q over every pixel of kv: softmax over keys of (q .
 * k) scale, times values. q, y (N,H,W,C); kv (N,h,w,2C): keys in the first C channels, values in
 * the last C. Head i has channels i C/heads .. (i+1) C/heads - 1 of each. */
#include "op/op_util.h"

static kdas_status attention_infer(kdas_node_desc *node)
{
    const kdas_attention_attr *attr = node->attr;
    const kdas_desc           *q = &node->in[0], *kv = &node->in[1];

    KD_RETURN(kd_infer_same(node));
    if (attr->heads < 1 || q->dim[3] % attr->heads || !isfinite(attr->scale))
        return kd_fail(KDAS_EINVAL, "attention: %d heads or scale %g does not suit %s", attr->heads,
                       (double)attr->scale, kd_dims_text(q));
    if (kv->dim[0] != q->dim[0] || kv->dim[3] != 2 * q->dim[3])
        return kd_fail(KDAS_ESHAPE, "attention: keys and values %s do not fit queries %s",
                       kd_dims_text(kv), kd_dims_text(q));
    return KDAS_OK;
}

static int64_t keys_of(const kdas_node_desc *node)
{
    return node->in[1].dim[1] * node->in[1].dim[2];
}

/* Scratch: the probabilities of one query's keys. Backward also holds their gradients. */
static kdas_status attention_prepare(kdas_device *device, const kdas_node_desc *node,
                                     kdas_plan *plan)
{
    (void)device;
    plan->work_forward  = (size_t)keys_of(node) * sizeof(double);
    plan->work_backward = 2 * plan->work_forward;
    return KDAS_OK;
}

/* One head of one query: its offsets and its sizes. */
typedef struct query {
    int64_t q;    /* offset in q, y and their gradients                        */
    int64_t kv;   /* offset of the image's first key in kv; values: + channels */
    int64_t size; /* channels of the head                                      */
    int64_t keys, channels;
} query;

/* Query i counts over N, H, W and heads. */
static query query_at(const kdas_node_desc *node, int64_t i)
{
    const kdas_attention_attr *attr = node->attr;
    const int64_t             *q    = node->in[0].dim;
    query   s   = { .size = q[3] / attr->heads, .keys = keys_of(node), .channels = q[3] };
    int64_t row = i / attr->heads, head = i % attr->heads;

    s.q  = row * q[3] + head * s.size;
    s.kv = row / (q[1] * q[2]) * s.keys * 2 * q[3] + head * s.size;
    return s;
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* p[j] = softmax over the keys j. */
static void probabilities(const query *s, double scale, const float *q, const float *kv, double *p)
{
    double largest = -INFINITY, sum = 0;

    for (int64_t j = 0; j < s->keys; j++) {
        p[j]    = scale * dot(q + s->q, kv + s->kv + j * 2 * s->channels, s->size);
        largest = KD_MAX(largest, p[j]);
    }
    for (int64_t j = 0; j < s->keys; j++)
        sum += p[j] = exp(p[j] - largest);
    for (int64_t j = 0; j < s->keys; j++)
        p[j] /= sum;
}

static int64_t queries_of(const kdas_node_desc *node)
{
    return kd_rows(&node->out) * ((const kdas_attention_attr *)node->attr)->heads;
}

static kdas_status attention_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_attention_attr *attr = call->node->attr;
    const float               *kv   = call->in[1];
    double                    *p    = call->work;

    (void)device;
    for (int64_t i = 0; i < queries_of(call->node); i++) {
        query        s = query_at(call->node, i);
        const float *v = kv + s.kv + s.channels;
        float       *y = (float *)call->out + s.q;

        probabilities(&s, attr->scale, call->in[0], kv, p);
        for (int64_t c = 0; c < s.size; c++) {
            double sum = 0;
            for (int64_t j = 0; j < s.keys; j++)
                sum += p[j] * v[j * 2 * s.channels + c];
            y[c] = (float)sum;
        }
    }
    return KDAS_OK;
}

/* dv = p dy; the scores' gradient is p (v . dy - sum_j p_j v_j . dy) scale, and flows to q and
 * k. */
static kdas_status attention_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_attention_attr *attr = call->node->attr;
    const float               *q = call->in[0], *kv = call->in[1];
    double                    *p = call->work, *dp = p + keys_of(call->node);

    (void)device;
    for (int64_t i = 0; i < queries_of(call->node); i++) {
        query        s    = query_at(call->node, i);
        const float *dy   = (const float *)call->dout + s.q;
        float       *dq   = call->din[0] ? (float *)call->din[0] + s.q : NULL;
        float       *dkv  = call->din[1] ? (float *)call->din[1] + s.kv : NULL;
        int64_t      step = 2 * s.channels;
        double       mean = 0;

        probabilities(&s, attr->scale, q, kv, p);
        for (int64_t j = 0; j < s.keys; j++) {
            dp[j] = dot(kv + s.kv + s.channels + j * step, dy, s.size);
            mean += p[j] * dp[j];
        }
        for (int64_t c = 0; c < s.size; c++) {
            double sum = 0;

            for (int64_t j = 0; j < s.keys; j++) {
                double ds = p[j] * (dp[j] - mean) * attr->scale;

                sum += ds * kv[s.kv + j * step + c];
                if (!dkv) continue;
                dkv[j * step + c] += (float)(ds * q[s.q + c]);
                dkv[j * step + s.channels + c] += (float)(p[j] * dy[c]);
            }
            if (dq) dq[c] += (float)sum;
        }
    }
    return KDAS_OK;
}

/* Both products: scores, and probabilities times values. */
static int64_t attention_macs(const kdas_node_desc *node)
{
    return 2 * kd_elements(&node->out) * keys_of(node);
}

const kd_op kd_op_attention = {
    .name       = "attention",
    .min_inputs = 2,
    .max_inputs = 2,
    .attr_size  = sizeof(kdas_attention_attr),
    .infer      = attention_infer,
    .macs       = attention_macs,
    .ref        = { .op       = KDAS_OP_ATTENTION,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .prepare  = attention_prepare,
                    .forward  = attention_forward,
                    .backward = attention_backward },
};
