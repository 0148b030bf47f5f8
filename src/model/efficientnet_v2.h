/* efficientnet_v2.h - the EfficientNetV2 backbone, for networks that are built on it. */
#ifndef KD_EFFICIENTNET_V2_H
#define KD_EFFICIENTNET_V2_H
#include "nn/keras.h"

enum { KD_EFFICIENTNET_V2_MAPS = 5 };

/* Add EfficientNetV2-B0. map[0..4] have strides 2, 4, 8, 16, 32 and 16, 32, 48, 112, 1280
 * channels. */
void kd_efficientnet_v2_b0(kd_graph *g, kd_node *image, kd_node *map[KD_EFFICIENTNET_V2_MAPS]);

#endif
