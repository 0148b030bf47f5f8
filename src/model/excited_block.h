/* excited_block.h - the residual block of ColonSegNet and DDANet, which are by the same authors. */
#ifndef KD_EXCITED_BLOCK_H
#define KD_EXCITED_BLOCK_H
#include "nn/nn.h"

/* Two 3 x 3 convolutions (conv1, bn1, conv2, bn2) and a shortcut of 1 x 1 (conv3, bn3), whose
 * channels are weighted by squeeze and excitation of a sixteenth of their number (se.fc). In scope
 * NAME; x (N,H,W,C) -> (N,H,W,out). */
kd_node *kd_excited_block(kd_graph *g, const char *name, kd_node *x, int64_t out);
/* A convolution with bias of k x k that keeps the size but for its stride, and its batch norm. */
kd_node *kd_conv_norm(kd_graph *g, const char *conv, const char *norm, kd_node *x, int64_t out,
                      int k, int stride);

#endif
