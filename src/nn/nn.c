/* nn.c - see nn.h. */
#include <math.h>
#include "nn/nn.h"

kdas_desc kd_shape(const kd_node *node)
{
    return node ? node->desc.out : (kdas_desc){ KDAS_F32, 4, { 0, 0, 0, 0 } };
}

static kd_init trainable(kd_init_rule rule, float a) { return (kd_init){ KD_TRAINABLE, rule, a }; }

static kd_init uniform_by(int64_t fan_in)
{
    return trainable(KD_INIT_UNIFORM, fan_in ? 1.0f / sqrtf((float)fan_in) : 0);
}

static kd_node *weight(kd_graph *g, kd_init init, int rank, int64_t o, int64_t i, int64_t kh,
                       int64_t kw)
{
    return kd_param(g, "weight", init, rank, (const int64_t[]){ o, i, kh, kw });
}

static kd_node *vector(kd_graph *g, const char *name, kd_init init, int64_t n)
{
    return kd_param(g, name, init, 1, &n);
}

static kd_init bias_init(kd_style style, int64_t fan_in)
{
    return style == KD_STYLE_PVT ? trainable(KD_INIT_ZERO, 0) : uniform_by(fan_in);
}

static kd_node *bias_of(kd_graph *g, bool wanted, kd_style style, int64_t out, int64_t fan_in)
{
    return wanted ? vector(g, "bias", bias_init(style, fan_in), out) : NULL;
}

/* Of a k x k convolution. */
static kd_init conv_init(kd_style style, int64_t in, int64_t out, int k)
{
    return style == KD_STYLE_PVT ? trainable(KD_INIT_NORMAL, sqrtf(2.0f / (float)(k * k * out)))
                                 : uniform_by(in * k * k);
}

/* Mark a layer whose input is on a grid: its weights are rounded, too. */
static kd_node *layer(kd_graph *g, kd_node *node)
{
    if (node) node->rounded = kd_graph_has_grids(g);
    return node;
}

kd_node *kd_linear_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, bool bias,
                         kd_style style)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *w, *b;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, style == KD_STYLE_PVT ? trainable(KD_INIT_NORMAL, 0.02f) : uniform_by(c), 2, out,
               c, 1, 1);
    b = bias_of(g, bias, style, out, c);
    x = layer(g, kd_linear(g, kd_on_grid(g, x), w, b));
    kd_scope_end(g);
    return x;
}

kd_node *kd_conv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride,
                       int pad, bool bias, kd_style style)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *w, *b;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, conv_init(style, c, out, k), 4, out, c, k, k);
    b = bias_of(g, bias, style, out, c * k * k);
    x = kd_on_grid(g, x);
    x = layer(g, k == 1 && stride == 1 && pad == 0 ? kd_linear(g, x, w, b)
                                                   : kd_conv2d(g, x, w, b, stride, pad));
    kd_scope_end(g);
    return x;
}

kd_node *kd_conv_form_layer(kd_graph *g, const char *name, kd_node *x, kd_conv_form form)
{
    int            groups = KD_MAX(form.groups, 1);
    int64_t        c = kd_shape(x).dim[3] / groups, taps = (int64_t)form.kh * form.kw;
    kdas_conv_attr attr = { .stride   = form.stride,
                            .pad      = { form.pad_y, form.pad_x },
                            .pad_end  = { form.pad_y, form.pad_x },
                            .dilation = KD_MAX(form.dilation, 1),
                            .groups   = groups };
    kd_init        init =
        form.style == KD_STYLE_PVT
                   ? trainable(KD_INIT_NORMAL, sqrtf(2.0f * (float)groups / (float)(taps * form.out)))
                   : uniform_by(c * taps);
    kd_node *w, *b;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, init, 4, form.out, c, form.kh, form.kw);
    b = bias_of(g, form.bias, form.style, form.out, c * taps);
    /* integer products have no groups */
    x = groups == 1 ? layer(g, kd_conv2d_of(g, kd_on_grid(g, x), w, b, attr))
                    : kd_conv2d_of(g, x, w, b, attr);
    kd_scope_end(g);
    return x;
}

kd_node *kd_deconv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride,
                         int pad)
{
    int64_t c = kd_shape(x).dim[3], fan_in = out * k * k; /* PyTorch takes the second axis for it */
    kd_node *w, *b;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, uniform_by(fan_in), 4, c, out, k, k);
    b = bias_of(g, true, KD_STYLE_TORCH, out, fan_in);
    x = kd_deconv2d(g, x, w, b, stride, pad);
    kd_scope_end(g);
    return x;
}

kd_node *kd_pointwise_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, bool bias)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *w, *b;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, uniform_by(c), 3, out, c, 1, 1);
    b = bias_of(g, bias, KD_STYLE_TORCH, out, c);
    x = kd_linear(g, x, w, b);
    kd_scope_end(g);
    return x;
}

kd_node *kd_dwconv_layer(kd_graph *g, const char *name, kd_node *x)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *w, *b;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, trainable(KD_INIT_NORMAL, sqrtf(2.0f / 9.0f)), 4, c, 1, 3, 3);
    b = bias_of(g, true, KD_STYLE_PVT, c, 9);
    x = layer(g, kd_dwconv2d(g, kd_on_grid(g, x), w, b, 1, 1));
    kd_scope_end(g);
    return x;
}

kd_node *kd_same_conv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k,
                            int stride)
{
    int64_t  c      = kd_shape(x).dim[3];
    int      before = (k - stride) / 2;
    kd_node *w;

    if (!x) return NULL;
    if (k == 1) return kd_conv_layer(g, name, x, out, k, stride, 0, false, KD_STYLE_PVT);
    kd_scope(g, "%s", name);
    w = weight(g, trainable(KD_INIT_NORMAL, sqrtf(2.0f / (float)(k * k * out))), 4, out, c, k, k);
    x = layer(g,
              kd_conv2d_padded(g, kd_on_grid(g, x), w, NULL, stride, before, k - stride - before));
    kd_scope_end(g);
    return x;
}

kd_node *kd_same_dwconv_layer(kd_graph *g, const char *name, kd_node *x, int k, int stride)
{
    int64_t  c      = kd_shape(x).dim[3];
    int      before = (k - stride) / 2;
    kd_node *w;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    w = weight(g, trainable(KD_INIT_NORMAL, sqrtf(2.0f / (float)(k * k))), 4, c, 1, k, k);
    x = layer(
        g, kd_dwconv2d_padded(g, kd_on_grid(g, x), w, NULL, stride, before, k - stride - before));
    kd_scope_end(g);
    return x;
}

kd_node *kd_gelu_layer(kd_graph *g, const char *name, kd_node *x)
{
    kd_scope(g, "%s", name);
    x = kd_gelu(g, kd_on_grid(g, x));
    kd_scope_end(g);
    return x;
}

kd_node *kd_norm_layer(kd_graph *g, const char *name, kd_node *x, float eps)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *gamma, *beta;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    gamma = vector(g, "weight", trainable(KD_INIT_ONE, 0), c);
    beta  = vector(g, "bias", trainable(KD_INIT_ZERO, 0), c);
    x     = kd_layer_norm(g, x, gamma, beta, eps);
    kd_scope_end(g);
    return x;
}

/* Running mean or variance, and the number of batches seen. */
static kd_node *running(kd_graph *g, const char *name, kd_init_rule rule, bool idle, int64_t c)
{
    return vector(g, name, (kd_init){ KD_BUFFER, rule, 0, idle }, c);
}

static void batches(kd_graph *g, bool idle)
{
    kd_param(g, "num_batches_tracked", (kd_init){ KD_COUNTER, KD_INIT_ZERO, 0, idle }, 0, NULL);
}

kd_node *kd_batch_norm_layer(kd_graph *g, const char *name, kd_node *x, float eps, float momentum)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *gamma, *beta, *mean, *var;

    if (!x) return NULL;
    kd_scope(g, "%s", name);
    gamma = vector(g, "weight", trainable(KD_INIT_ONE, 0), c);
    beta  = vector(g, "bias", trainable(KD_INIT_ZERO, 0), c);
    mean  = running(g, "running_mean", KD_INIT_ZERO, false, c);
    var   = running(g, "running_var", KD_INIT_ONE, false, c);
    batches(g, false);
    if (kd_graph_has_exchanges(g))
        x = kd_apply_moments(g, x, kd_exchange(g, kd_moments(g, x)), gamma, beta, mean, var, eps,
                             momentum);
    else
        x = kd_batch_norm(g, x, gamma, beta, mean, var, eps, momentum);
    kd_scope_end(g);
    return x;
}

kd_node *kd_conv_bn(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int pad)
{
    kd_scope(g, "%s", name);
    x = kd_conv_layer(g, "conv", x, out, k, 1, pad, false, KD_STYLE_TORCH);
    x = kd_batch_norm_layer(g, "bn", x, 1e-5f, 0.1f);
    kd_scope_end(g);
    return x;
}

static kd_init idle(kd_init init)
{
    init.kind = KD_IDLE;
    return init;
}

void kd_idle_conv(kd_graph *g, const char *name, int64_t in, int64_t out, int k, bool bias,
                  kd_style style)
{
    kd_scope(g, "%s", name);
    weight(g, idle(conv_init(style, in, out, k)), 4, out, in, k, k);
    if (bias) vector(g, "bias", idle(bias_init(style, in * k * k)), out);
    kd_scope_end(g);
}

void kd_idle_linear(kd_graph *g, const char *name, int64_t in, int64_t out)
{
    kd_scope(g, "%s", name);
    weight(g, idle(uniform_by(in)), 2, out, in, 1, 1);
    vector(g, "bias", idle(uniform_by(in)), out);
    kd_scope_end(g);
}

void kd_idle_batch_norm(kd_graph *g, const char *name, int64_t c)
{
    kd_scope(g, "%s", name);
    vector(g, "weight", idle(trainable(KD_INIT_ONE, 0)), c);
    vector(g, "bias", idle(trainable(KD_INIT_ZERO, 0)), c);
    running(g, "running_mean", KD_INIT_ZERO, true, c);
    running(g, "running_var", KD_INIT_ONE, true, c);
    batches(g, true);
    kd_scope_end(g);
}

void kd_idle_conv_bn(kd_graph *g, const char *name, int64_t in, int64_t out, int k)
{
    kd_scope(g, "%s", name);
    kd_idle_conv(g, "conv", in, out, k, false, KD_STYLE_TORCH);
    kd_idle_batch_norm(g, "bn", out);
    kd_scope_end(g);
}

static kd_node *excite_layer(kd_graph *g, const char *name, kd_node *x, int64_t out,
                             const kd_excite_form *form)
{
    return form->conv ? kd_conv_layer(g, name, x, out, 1, 1, 0, form->bias, form->style)
                      : kd_linear_layer(g, name, x, out, form->bias, form->style);
}

kd_node *kd_squeeze_excite(kd_graph *g, kd_node *x, kd_excite_form form)
{
    kd_node *s = kd_pool_avg(g, x, 1, 1, 1);

    s = excite_layer(g, form.narrow, s, form.hidden, &form);
    s = form.silu ? kd_silu(g, s) : kd_relu(g, s);
    s = excite_layer(g, form.wide, s, kd_shape(x).dim[3], &form);
    return kd_mul(g, x, kd_sigmoid(g, s));
}

kd_node *kd_repeat_pixels(kd_graph *g, kd_node *x)
{
    kdas_desc s = kd_shape(x);
    int64_t   n = s.dim[0], h = s.dim[1], row = 2 * s.dim[2] * s.dim[3];

    x = kd_concat(g, 2, (kd_node *[]){ x, x }); /* every pixel twice in a row */
    x = kd_reshape(g, x, n, h, 1, row);
    x = kd_concat(g, 2, (kd_node *[]){ x, x }); /* every row twice */
    return kd_reshape(g, x, n, 2 * h, 2 * s.dim[2], s.dim[3]);
}

kd_node *kd_residual(kd_graph *g, kd_node *x, kd_node *branch, float drop_path)
{
    if (drop_path > 0 && kd_graph_mode(g) == KD_TRAIN) branch = kd_drop_path(g, branch, drop_path);
    return kd_add(g, x, branch);
}
