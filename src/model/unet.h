/* unet.h - what U-Net and U-Net++ share, in the form of pytorch-nested-unet. */
#ifndef KD_UNET_H
#define KD_UNET_H
#include "nn/nn.h"

enum { KD_UNET_LEVELS = 5 };

extern const int64_t kd_unet_channels[KD_UNET_LEVELS]; /* of the levels, from stride 1 to 16 */

/* Node `column` of level `level`: two 3 x 3 convolutions, each with batch norm and ReLU, under the
 * name convLEVEL_COLUMN. At strides 4, 8 and 16 it is a tap of that name. */
kd_node *kd_unet_node(kd_graph *g, int level, int column, kd_node *x);
/* Half the size, by the largest of 2 x 2; twice the size, bilinear with aligned corners. */
kd_node *kd_unet_down(kd_graph *g, kd_node *x);
kd_node *kd_unet_up(kd_graph *g, kd_node *x);
/* One logit for each position: a 1 x 1 convolution. */
kd_node *kd_unet_head(kd_graph *g, const char *name, kd_node *x);

#endif
