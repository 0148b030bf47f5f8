/* pvt_v2.h - the PVTv2 backbone, for networks that are built on it. */
#ifndef KD_PVT_V2_H
#define KD_PVT_V2_H
#include "nn/nn.h"

/* Add the backbone. map[0..3] are the stages' maps at strides 4, 8, 16, 32, shallow to deep. */
void kd_pvt_v2(kd_graph *g, kd_node *image, int variant, float drop_path, kd_node *map[4]);

#endif
