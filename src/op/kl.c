/* kl.c - KL divergence of softmax(s / tau) from softmax(t / tau), for each image over all its
 * elements: tau^2 sum pt (log pt - log ps). s and t (N,H,W,C) -> (N,1,1,1). t is constant. */
#include "op/op_util.h"

static kdas_status kl_infer(kdas_node_desc *node)
{
    const kdas_kl_attr *attr = node->attr;

    KD_RETURN(kd_infer_loss(node));
    if (!(attr->tau > 0) || !isfinite(attr->tau))
        return kd_fail(KDAS_EINVAL, "kl: temperature %g is not positive", (double)attr->tau);
    return KDAS_OK;
}

/* log(sum(exp(x / tau))). */
static double log_sum(const float *x, int64_t n, double tau)
{
    double largest = x[0], sum = 0;

    for (int64_t i = 1; i < n; i++)
        largest = KD_MAX(largest, (double)x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp((x[i] - largest) / tau);
    return largest / tau + log(sum);
}

static kdas_status kl_forward(kdas_device *device, const kdas_call *call)
{
    double       tau = ((const kdas_kl_attr *)call->node->attr)->tau;
    const float *s = call->in[0], *t = call->in[1];
    float       *out  = call->out;
    int64_t      size = kd_image_elements(&call->node->in[0]);

    (void)device;
    for (int64_t n = 0; n < call->node->out.dim[0]; n++, s += size, t += size) {
        double s_log = log_sum(s, size, tau), t_log = log_sum(t, size, tau), sum = 0;

        for (int64_t i = 0; i < size; i++) {
            double log_ps = s[i] / tau - s_log, log_pt = t[i] / tau - t_log;

            sum += exp(log_pt) * (log_pt - log_ps);
        }
        out[n] = (float)(tau * tau * sum);
    }
    return KDAS_OK;
}

/* ds = tau (ps - pt). */
static kdas_status kl_backward(kdas_device *device, const kdas_call *call)
{
    double       tau = ((const kdas_kl_attr *)call->node->attr)->tau;
    const float *s = call->in[0], *t = call->in[1], *dout = call->dout;
    float       *ds   = call->din[0];
    int64_t      size = kd_image_elements(&call->node->in[0]);

    (void)device;
    for (int64_t n = 0; n < call->node->out.dim[0]; n++, s += size, t += size, ds += size) {
        double s_log = log_sum(s, size, tau), t_log = log_sum(t, size, tau);

        for (int64_t i = 0; i < size; i++)
            ds[i] += (float)(dout[n] * tau * (exp(s[i] / tau - s_log) - exp(t[i] / tau - t_log)));
    }
    return KDAS_OK;
}

const kd_op kd_op_kl = {
    .name       = "kl",
    .min_inputs = 2,
    .max_inputs = 2,
    .constant   = 1u << 1,
    .attr_size  = sizeof(kdas_kl_attr),
    .infer      = kl_infer,
    .ref        = { .op       = KDAS_OP_KL,
                    .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
                    .forward  = kl_forward,
                    .backward = kl_backward },
};
