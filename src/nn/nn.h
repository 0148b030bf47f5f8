/* nn.h - blocks made only of ops. A layer declares its parameters under its name and applies its
 * op. */
#ifndef KD_NN_H
#define KD_NN_H
#include "graph/build.h"

/* The rule for initial values. PVT: the published backbone's rule (linear N(0, 0.02),
 * convolution N(0, sqrt(2 / fan_out)), bias 0). TORCH: PyTorch's default (weight and bias
 * uniform +-1/sqrt(fan_in)). */
typedef enum kd_style { KD_STYLE_PVT, KD_STYLE_TORCH } kd_style;

/* x (N,H,W,C) -> (N,H,W,out). Parameters NAME.weight (out,C), [NAME.bias (out)]. */
kd_node *kd_linear_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, bool bias,
                         kd_style style);
/* A k x k convolution. A 1 x 1 convolution of stride 1 runs as linear. NAME.weight (out,C,k,k),
 * [NAME.bias]. */
kd_node *kd_conv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride,
                       int pad, bool bias, kd_style style);
/* Any other form of convolution: NAME.weight (out,C/groups,kh,kw), [NAME.bias]. */
typedef struct kd_conv_form {
    int64_t  out;
    int      kh, kw, stride, pad_y, pad_x, dilation, groups; /* dilation, groups: 0 stands for 1 */
    bool     bias;
    kd_style style;
} kd_conv_form;
kd_node *kd_conv_form_layer(kd_graph *g, const char *name, kd_node *x, kd_conv_form form);
/* A k x k transposed convolution with bias; PyTorch's initial values. NAME.weight (C,out,k,k),
 * NAME.bias (out). */
kd_node *kd_deconv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride,
                         int pad);
/* A 1-D pointwise convolution over the last axis. The weight has Conv1d's shape (out,C,1). */
kd_node *kd_pointwise_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, bool bias);
/* 3 x 3 depthwise convolution with bias. NAME.weight (C,1,3,3), NAME.bias. */
kd_node *kd_dwconv_layer(kd_graph *g, const char *name, kd_node *x);
/* GELU. Its input is on a grid where layers are, so that a table can answer for it. */
kd_node *kd_gelu_layer(kd_graph *g, const char *name, kd_node *x);
/* Convolutions without bias. They pad as TensorFlow's SAME does where the sides are multiples of
 * the stride: k - stride zeros in all, the odd one after the last row and column. NAME.weight
 * (out,C,k,k), or depthwise (C,1,k,k). */
kd_node *kd_same_conv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k,
                            int stride);
kd_node *kd_same_dwconv_layer(kd_graph *g, const char *name, kd_node *x, int k, int stride);
/* Batch norm; in a training graph over ranks (kd_graph_use_ranks) in three nodes. NAME.weight, .bias, .running_mean, .running_var, .num_batches_tracked. */
kd_node *kd_batch_norm_layer(kd_graph *g, const char *name, kd_node *x, float eps, float momentum);
/* Layer norm over C. NAME.weight, NAME.bias. */
kd_node *kd_norm_layer(kd_graph *g, const char *name, kd_node *x, float eps);
/* Convolution without bias and batch norm (eps 1e-5, momentum 0.1), no activation: NAME.conv and
 * NAME.bn. */
kd_node *kd_conv_bn(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int pad);
/* Parameters of layers that a published network has and never runs, so that its files fit: k x k
 * convolution from `in` to `out` channels, linear layer with bias, batch norm of c channels, and
 * what kd_conv_bn() has. Initial values as the layer's. */
void kd_idle_conv(kd_graph *g, const char *name, int64_t in, int64_t out, int k, bool bias,
                  kd_style style);
void kd_idle_linear(kd_graph *g, const char *name, int64_t in, int64_t out);
void kd_idle_batch_norm(kd_graph *g, const char *name, int64_t c);
void kd_idle_conv_bn(kd_graph *g, const char *name, int64_t in, int64_t out, int k);
/* Squeeze and excitation (arXiv 1709.01507): each channel of x times a factor in (0, 1), which two
 * small layers make of the channels' means. */
typedef struct kd_excite_form {
    const char *narrow, *wide; /* names of the layers, C to hidden and back */
    int64_t     hidden;
    bool        conv; /* the weights are those of 1 x 1 convolutions, (out,C,1,1); else (out,C) */
    bool        bias;
    bool        silu; /* between the layers; else ReLU */
    kd_style    style;
} kd_excite_form;
kd_node *kd_squeeze_excite(kd_graph *g, kd_node *x, kd_excite_form form);
/* Twice as high and as wide: each pixel four times, as PyTorch's "nearest" resize does. */
kd_node *kd_repeat_pixels(kd_graph *g, kd_node *x);
/* x + drop_path(branch). */
kd_node *kd_residual(kd_graph *g, kd_node *x, kd_node *branch, float drop_path);

/* Shape of a node; 0s for NULL. So blocks can compute with shapes before the graph's error is
 * reported. */
kdas_desc kd_shape(const kd_node *node);

#endif
