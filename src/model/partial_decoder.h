/* partial_decoder.h - blocks of the networks that decode the maps of strides 8, 16 and 32 alone:
 * PraNet, HarDNet-MSEG and Polyp-PVT. */
#ifndef KD_PARTIAL_DECODER_H
#define KD_PARTIAL_DECODER_H
#include "nn/nn.h"

/* The receptive field block in scope NAME: four branches with growing and dilated filters, joined,
 * and a shortcut. x (N,H,W,C) -> (N,H,W,out), a tap of that name. */
kd_node *kd_rfb(kd_graph *g, const char *name, kd_node *x, int64_t out);

/* Dense aggregation of three maps with c channels each, strides 32, 16 and 8, in the current scope:
 * conv_upsample1 to conv_upsample5, conv_concat2 and conv_concat3. Returns 3 c channels at stride
 * 8. */
kd_node *kd_aggregate(kd_graph *g, kd_node *x32, kd_node *x16, kd_node *x8);

/* The partial decoder: scope "agg1" with kd_aggregate(), conv4 and conv5. One logit map (f32) at
 * stride 8. */
kd_node *kd_partial_decoder(kd_graph *g, kd_node *x32, kd_node *x16, kd_node *x8);

#endif
