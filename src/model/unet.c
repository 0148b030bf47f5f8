/* unet.c - U-Net (arXiv 1505.04597) in the form of pytorch-nested-unet: narrow, with batch norm, and
 * bilinear on the way up. It has one logit map at input size, P1. Initial values are PyTorch's. It
 * was trained on pixels that are normalised and then divided by 255 again, blue first. */
#include "model/unet.h"
#include <stdio.h>
#include "model/colours.h"
#include "model/model.h"

const kd_model_rules kd_rules_unet = { .colours = &kd_colours_bgr_twice };

const int64_t kd_unet_channels[KD_UNET_LEVELS] = { 32, 64, 128, 256, 512 };

kd_node *kd_unet_node(kd_graph *g, int level, int column, kd_node *x)
{
    char name[16];

    snprintf(name, sizeof name, "conv%d_%d", level, column);
    kd_scope(g, "%s", name);
    for (int i = 1; i <= 2; i++) {
        char conv[8], norm[8];

        snprintf(conv, sizeof conv, "conv%d", i);
        snprintf(norm, sizeof norm, "bn%d", i);
        x = kd_conv_layer(g, conv, x, kd_unet_channels[level], 3, 1, 1, true, KD_STYLE_TORCH);
        x = kd_relu(g, kd_batch_norm_layer(g, norm, x, 1e-5f, 0.1f));
    }
    kd_scope_end(g);
    return level >= 2 ? kd_tap(g, name, x) : x;
}

kd_node *kd_unet_down(kd_graph *g, kd_node *x) { return kd_window_max(g, x, 2, 2, 0); }

kd_node *kd_unet_up(kd_graph *g, kd_node *x)
{
    kdas_desc s = kd_shape(x);

    return kd_resize(g, x, 2 * s.dim[1], 2 * s.dim[2], true, 1);
}

kd_node *kd_unet_head(kd_graph *g, const char *name, kd_node *x)
{
    return kd_conv_layer(g, name, x, 1, 1, 1, 0, true, KD_STYLE_TORCH);
}

void kd_build_unet(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *skip[KD_UNET_LEVELS], *x = image;

    (void)variant;
    (void)drop_path;
    for (int i = 0; i < KD_UNET_LEVELS; i++) {
        if (i > 0) x = kd_unet_down(g, x);
        skip[i] = x = kd_unet_node(g, i, 0, x);
    }
    for (int i = KD_UNET_LEVELS - 2; i >= 0; i--) {
        x = kd_concat(g, 2, (kd_node *[]){ skip[i], kd_unet_up(g, x) });
        x = kd_unet_node(g, i, KD_UNET_LEVELS - 1 - i, x);
    }
    kd_output(g, "P1", kd_unet_head(g, "final", x));
}
