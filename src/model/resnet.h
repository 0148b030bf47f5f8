/* resnet.h - the ResNet-50 backbone, for networks that are built on it. */
#ifndef KD_RESNET_H
#define KD_RESNET_H
#include "nn/nn.h"

/* A group of bottleneck blocks, torchvision's layer1 ... layer4: 1x1 to `planes`, 3x3 with `stride`
 * in the first block, 1x1 to 4 `planes`. The blocks are called 0, 1, ... in the current scope. */
kd_node *kd_resnet_group(kd_graph *g, kd_node *x, int blocks, int64_t planes, int stride);
/* The names of such a group's parameters, for a network that registers it and never runs it.
 * `inputs`: the channels that it would take. */
void kd_resnet_group_idle(kd_graph *g, int64_t inputs, int blocks, int64_t planes);
/* 7x7 convolution of stride 2 (NAME.0), batch norm (NAME.1), ReLU. */
kd_node *kd_resnet_stem(kd_graph *g, const char *name, kd_node *image);

#endif
