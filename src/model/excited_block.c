/* excited_block.c - see excited_block.h. */
#include "model/excited_block.h"

kd_node *kd_conv_norm(kd_graph *g, const char *conv, const char *norm, kd_node *x, int64_t out,
                      int k, int stride)
{
    x = kd_conv_layer(g, conv, x, out, k, stride, k / 2, true, KD_STYLE_TORCH);
    return kd_batch_norm_layer(g, norm, x, 1e-5f, 0.1f);
}

kd_node *kd_excited_block(kd_graph *g, const char *name, kd_node *x, int64_t out)
{
    kd_excite_form form = {
        .narrow = "se.fc.0", .wide = "se.fc.2", .hidden = out / 16, .style = KD_STYLE_TORCH
    };
    kd_node *y, *s;

    kd_scope(g, "%s", name);
    y = kd_relu(g, kd_conv_norm(g, "conv1", "bn1", x, out, 3, 1));
    y = kd_conv_norm(g, "conv2", "bn2", y, out, 3, 1);
    s = kd_squeeze_excite(g, kd_conv_norm(g, "conv3", "bn3", x, out, 1, 1), form);
    kd_scope_end(g);
    return kd_relu(g, kd_add(g, y, s));
}
