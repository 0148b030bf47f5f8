/* unet_milesial.c - U-Net (arXiv 1505.04597) in the form of Pytorch-UNet: as wide as the paper's,
 * with batch norm and padding. It has one logit map at input size, P1. Variant 1 enlarges
 * bilinearly instead of by transposed convolutions, and its decoder is half as wide. Initial
 * values are PyTorch's. It was trained on pixels / 255. */
#include <stdio.h>
#include "model/colours.h"
#include "model/model.h"
#include "nn/nn.h"

enum { STEPS = 4 }; /* down, and up again */

const kd_model_rules kd_rules_unet_milesial = { .colours = &kd_colours_rgb };

/* Two 3 x 3 convolutions, each with batch norm and ReLU. */
static kd_node *double_conv(kd_graph *g, const char *name, kd_node *x, int64_t mid, int64_t out)
{
    kd_scope(g, "%s.double_conv", name);
    x = kd_conv_layer(g, "0", x, mid, 3, 1, 1, false, KD_STYLE_TORCH);
    x = kd_relu(g, kd_batch_norm_layer(g, "1", x, 1e-5f, 0.1f));
    x = kd_conv_layer(g, "3", x, out, 3, 1, 1, false, KD_STYLE_TORCH);
    x = kd_relu(g, kd_batch_norm_layer(g, "4", x, 1e-5f, 0.1f));
    kd_scope_end(g);
    return x;
}

/* Twice the size: bilinear with aligned corners, or learned with half the channels. */
static kd_node *enlarged(kd_graph *g, kd_node *x, bool bilinear)
{
    kdas_desc s = kd_shape(x);

    return bilinear ? kd_resize(g, x, 2 * s.dim[1], 2 * s.dim[2], true, 1)
                    : kd_deconv_layer(g, "up", x, s.dim[3] / 2, 2, 2, 0);
}

void kd_build_unet_milesial(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    static const int64_t     channels[] = { 64, 128, 256, 512, 1024 };
    static const char *const down[]     = { NULL, NULL, "s4", "s8", "s16" };
    static const char *const up[]       = { NULL, NULL, "up4", "up8" };
    bool                     bilinear   = variant == 1;
    kd_node                 *skip[STEPS], *x;

    (void)drop_path;
    x = double_conv(g, "inc", image, channels[0], channels[0]);
    for (int i = 1; i <= STEPS; i++) {
        int64_t out = bilinear && i == STEPS ? channels[i] / 2 : channels[i];

        skip[i - 1] = x;
        kd_scope(g, "down%d", i);
        x = double_conv(g, "maxpool_conv.1", kd_window_max(g, x, 2, 2, 0), out, out);
        kd_scope_end(g);
        if (down[i]) x = kd_tap(g, down[i], x);
    }
    for (int i = STEPS - 1; i >= 0; i--) {
        int64_t mid = channels[i], out = bilinear && i > 0 ? mid / 2 : mid;

        kd_scope(g, "up%d", STEPS - i);
        x = kd_concat(g, 2, (kd_node *[]){ skip[i], enlarged(g, x, bilinear) });
        x = double_conv(g, "conv", x, mid, out);
        kd_scope_end(g);
        if (up[i]) x = kd_tap(g, up[i], x);
    }
    kd_scope(g, "outc");
    x = kd_conv_layer(g, "conv", x, 1, 1, 1, 0, true, KD_STYLE_TORCH);
    kd_scope_end(g);
    kd_output(g, "P1", x);
}
