/* res2net.h - Res2Net-50 v1b 26w x 4s (arXiv 1904.01169), the backbone of PraNet and MSNet. */
#ifndef KD_RES2NET_H
#define KD_RES2NET_H
#include "nn/nn.h"

/* The stem and four stages. */
enum { KD_RES2NET_MAPS = 5 };

/* Add the backbone in scope "resnet", with taps "resnet.layer1" to "resnet.layer4" at the strides 4,
 * 8, 16 and 32. map[0]: the stem's, pooled, 64 channels at stride 4. map[1..4]: the layers', 256,
 * 512, 1024 and 2048 channels. The published classifier is declared, but does not run. */
void kd_res2net(kd_graph *g, kd_node *image, kd_node *map[KD_RES2NET_MAPS]);

#endif
