/* keras.c - see keras.h. */
#include <math.h>
#include "nn/keras.h"

/* `taps`: k * k; Keras counts the channels of a depthwise kernel as C and 1. */
static kd_init glorot(int64_t taps, int64_t in, int64_t out)
{
    float fans = (float)(taps * (in + out));

    return (kd_init){ .kind = KD_TRAINABLE, .rule = KD_INIT_UNIFORM, .a = sqrtf(6 / fans) };
}

static kd_node *weight(kd_graph *g, kd_init init, int64_t a, int64_t b, int k)
{
    return kd_param(g, "weight", init, 4, (const int64_t[]){ a, b, k, k });
}

static kd_node *zero_bias(kd_graph *g, int64_t n)
{
    return kd_param(g, "bias", (kd_init){ .kind = KD_TRAINABLE, .rule = KD_INIT_ZERO }, 1, &n);
}

kd_node *kd_keras_conv(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride,
                       bool bias)
{
    int64_t  c      = kd_shape(x).dim[3];
    int      before = (k - stride) / 2;
    kd_node *w, *b;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, glorot(k * k, c, out), out, c, k);
    b = bias ? zero_bias(g, out) : NULL;
    x = k == 1 && stride == 1 ? kd_linear(g, x, w, b)
                              : kd_conv2d_padded(g, x, w, b, stride, before, k - stride - before);
    kd_scope_end(g);
    return x;
}

kd_node *kd_keras_dwconv(kd_graph *g, const char *name, kd_node *x, int k, int stride)
{
    int64_t  c      = kd_shape(x).dim[3];
    int      before = (k - stride) / 2;
    kd_node *w;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, glorot(k * k, c, 1), c, 1, k);
    x = kd_dwconv2d_padded(g, x, w, NULL, stride, before, k - stride - before);
    kd_scope_end(g);
    return x;
}

kd_node *kd_keras_deconv(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *w, *b;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, glorot(k * k, c, out), c, out, k);
    b = zero_bias(g, out);
    x = kd_deconv2d(g, x, w, b, stride, (k - stride) / 2);
    kd_scope_end(g);
    return x;
}

kd_node *kd_keras_norm(kd_graph *g, const char *name, kd_node *x, float momentum)
{
    return kd_batch_norm_layer(g, name, x, 1e-3f, momentum);
}
