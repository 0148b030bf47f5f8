/* efficientnet_v2.c - EfficientNetV2-B0 (arXiv 2104.00298) up to the last activation, with the
 * layer names of keras_cv_attention_models ("sortcut" is spelled so there). Stages without
 * squeeze-and-excitation have fused blocks: one 3x3 convolution widens and filters. */
#include "base/text.h"
#include "model/efficientnet_v2.h"

enum { STAGES = 6 };

/* `map`: where the last block of the stage goes, -1: nowhere. */
static const struct {
    int expand, channels, blocks, stride, squeeze, map;
} stages[STAGES] = {
    { 1, 16, 1, 1, 0, 0 },  { 4, 32, 2, 2, 0, 1 },  { 4, 48, 2, 2, 0, 2 },
    { 4, 96, 3, 2, 4, -1 }, { 6, 112, 5, 1, 4, 3 }, { 6, 192, 8, 2, 4, -1 },
};

/* "PREFIX" "part": Keras joins them without a dot. */
typedef struct layer_name {
    char text[48];
} layer_name;

static layer_name part(const char *prefix, const char *name)
{
    layer_name n;

    kd_format(n.text, sizeof n.text, "%s%s", prefix, name);
    return n;
}

static kd_node *norm(kd_graph *g, layer_name prefix, kd_node *x)
{
    return kd_keras_norm(g, part(prefix.text, "bn").text, x, 0.1f);
}

/* Convolution without bias and batch norm: PREFIXconv and PREFIXbn. */
static kd_node *conv_norm(kd_graph *g, layer_name prefix, kd_node *x, int64_t out, int k,
                          int stride)
{
    x = kd_keras_conv(g, part(prefix.text, "conv").text, x, out, k, stride, false);
    return norm(g, prefix, x);
}

/* Weigh the channels by what their means say. */
static kd_node *squeeze_excite(kd_graph *g, const char *prefix, kd_node *x, int64_t hidden)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *s = kd_pool_avg(g, x, 1, 1, 1);

    s = kd_silu(g, kd_keras_conv(g, part(prefix, "se_1_conv").text, s, hidden, 1, 1, true));
    s = kd_keras_conv(g, part(prefix, "se_2_conv").text, s, c, 1, 1, true);
    return kd_mul(g, x, kd_sigmoid(g, s));
}

/* Widen, filter, narrow. */
static kd_node *block(kd_graph *g, const char *prefix, kd_node *x, int s, int stride)
{
    int64_t    in = kd_shape(x).dim[3], out = stages[s].channels, wide = in * stages[s].expand;
    bool       fused = !stages[s].squeeze;
    layer_name widen = part(prefix, "sortcut_"), filter = part(prefix, "MB_dw_");
    kd_node   *y = x;

    if (stages[s].expand == 1)
        return kd_silu(g, conv_norm(g, part(prefix, "fu_"), x, out, 3, stride));
    y = kd_silu(g, conv_norm(g, widen, y, wide, fused ? 3 : 1, fused ? stride : 1));
    if (!fused) {
        y = kd_silu(g, norm(g, filter, kd_keras_dwconv(g, filter.text, y, 3, stride)));
        y = squeeze_excite(g, prefix, y, in / stages[s].squeeze);
    }
    y = conv_norm(g, part(prefix, "MB_pw_"), y, out, 1, 1);
    return stride == 1 && in == out ? kd_add(g, x, y) : y;
}

void kd_efficientnet_v2_b0(kd_graph *g, kd_node *image, kd_node *map[KD_EFFICIENTNET_V2_MAPS])
{
    kd_node *x = kd_silu(g, conv_norm(g, part("", "stem_"), image, 32, 3, 2));

    for (int s = 0; s < STAGES; s++) {
        for (int i = 0; i < stages[s].blocks; i++) {
            char prefix[24];

            kd_format(prefix, sizeof prefix, "stack_%d_block%d_", s, i);
            x = block(g, prefix, x, s, i ? 1 : stages[s].stride);
        }
        if (stages[s].map >= 0) map[stages[s].map] = x;
    }
    map[4] = kd_silu(g, conv_norm(g, part("", "post_"), x, 1280, 1, 1));
}
