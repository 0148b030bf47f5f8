/* keras.h - layers as Keras has them: padding SAME, weights uniform by Glorot's rule, biases 0.
 * Parameters have PyTorch's names and axes: Keras's kernel and bias are NAME.weight and NAME.bias.
 * The sides of x are multiples of the stride. */
#ifndef KD_KERAS_H
#define KD_KERAS_H
#include "nn/nn.h"

/* Conv2D, k x k. NAME.weight (out,C,k,k), [NAME.bias (out)]. */
kd_node *kd_keras_conv(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride,
                       bool bias);
/* DepthwiseConv2D without bias. NAME.weight (C,1,k,k). */
kd_node *kd_keras_dwconv(kd_graph *g, const char *name, kd_node *x, int k, int stride);
/* Conv2DTranspose with bias; k - stride is even. NAME.weight (C,out,k,k), NAME.bias (out). */
kd_node *kd_keras_deconv(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride);
/* BatchNormalization: eps 1e-3. `momentum`: PyTorch's, 1 less Keras's. */
kd_node *kd_keras_norm(kd_graph *g, const char *name, kd_node *x, float momentum);

#endif
