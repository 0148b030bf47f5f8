/* lite_fpn.c - EfficientNet-Lite (arXiv 1905.11946, without squeeze-excitation and with ReLU6)
 * under a light feature pyramid (arXiv 1612.03144). It has one logit map at input size, P1. The
 * backbone's names are those of the published ImageNet weights, prefixed with "backbone.". The
 * published head (_conv_head, _bn1, _fc) is not part of this network. The backbone's initial
 * values are EfficientNet's, N(0, sqrt(2 / fan_out)). The others are PyTorch's. */
#include <math.h>
#include <stdio.h>
#include "model/model.h"
#include "nn/nn.h"

#define CHANNELS 64 /* of the pyramid */

enum { STAGES = 7, LEVELS = 4 };

/* Multipliers of channels and of repeats. */
static const struct {
    double width, depth;
} sizes[] = { { 1.0, 1.0 }, { 1.0, 1.1 }, { 1.1, 1.2 }, { 1.2, 1.4 }, { 1.4, 1.8 } };

/* `level`: the map that goes to the pyramid after this stage, 0 for stride 4; -1: none. */
static const struct {
    int kernel, stride, expand, channels, repeats, level;
} stages[STAGES] = {
    { 3, 1, 1, 16, 1, -1 }, { 3, 2, 6, 24, 2, 0 },   { 5, 2, 6, 40, 2, 1 },  { 3, 2, 6, 80, 3, -1 },
    { 5, 1, 6, 112, 3, 2 }, { 5, 2, 6, 192, 4, -1 }, { 3, 1, 6, 320, 1, 3 },
};

/* Round c to a multiple of 8, not below 0.9 c. */
static int64_t scaled_channels(int c, double by)
{
    double  wanted = c * by;
    int64_t n      = (int64_t)(wanted + 4) / 8 * 8;

    n = KD_MAX(n, (int64_t)8);
    return (double)n < 0.9 * wanted ? n + 8 : n;
}

/* The first and the last stage are the same in all sizes. */
static int scaled_repeats(int stage, double by)
{
    int n = stages[stage].repeats;

    return stage == 0 || stage == STAGES - 1 ? n : (int)ceil(n * by - 1e-9);
}

static kd_node *norm(kd_graph *g, const char *name, kd_node *x)
{
    return kd_batch_norm_layer(g, name, x, 1e-3f, 0.01f);
}

/* Widen, filter each channel, narrow. x is added if the shape is unchanged. */
static kd_node *block(kd_graph *g, kd_node *x, int64_t out, int k, int stride, int expand,
                      float drop)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *y = x;

    if (expand != 1) {
        y = norm(g, "_bn0", kd_same_conv_layer(g, "_expand_conv", y, c * expand, 1, 1));
        y = kd_relu6(g, y);
    }
    y = norm(g, "_bn1", kd_same_dwconv_layer(g, "_depthwise_conv", y, k, stride));
    y = norm(g, "_bn2", kd_same_conv_layer(g, "_project_conv", kd_relu6(g, y), out, 1, 1));
    return stride == 1 && c == out ? kd_residual(g, x, y, drop) : y;
}

static void backbone(kd_graph *g, kd_node *x, int variant, float drop_path, kd_node *map[LEVELS])
{
    static const char *const tap[LEVELS] = { "s4", "s8", "s16", "s32" };
    int                      blocks = 0, done = 0;

    for (int s = 0; s < STAGES; s++)
        blocks += scaled_repeats(s, sizes[variant].depth);
    kd_scope(g, "backbone");
    x = kd_relu6(g, norm(g, "_bn0", kd_same_conv_layer(g, "_conv_stem", x, 32, 3, 2)));
    for (int s = 0; s < STAGES; s++) {
        int64_t out = scaled_channels(stages[s].channels, sizes[variant].width);

        for (int i = 0; i < scaled_repeats(s, sizes[variant].depth); i++, done++) {
            kd_scope(g, "_blocks.%d", done);
            x = block(g, x, out, stages[s].kernel, i ? 1 : stages[s].stride, stages[s].expand,
                      drop_path * (float)done / (float)(blocks - 1));
            kd_scope_end(g);
        }
        if (stages[s].level >= 0) {
            x                    = kd_tap(g, tap[stages[s].level], x);
            map[stages[s].level] = x;
        }
    }
    kd_scope_end(g);
}

/* Half-pixel bilinear, to the height and width of `like`. */
static kd_node *resized(kd_graph *g, kd_node *x, kd_node *like)
{
    kdas_desc s = kd_shape(like);

    return kd_resize(g, x, s.dim[1], s.dim[2], false, 1);
}

void kd_build_lite_fpn(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *map[LEVELS] = { NULL }, *y = NULL;
    char     name[16];

    backbone(g, image, variant, drop_path, map);
    for (int i = LEVELS - 1; i >= 0; i--) {
        kd_node *z;

        snprintf(name, sizeof name, "lateral.%d", i);
        z = kd_conv_layer(g, name, map[i], CHANNELS, 1, 1, 0, true, KD_STYLE_TORCH);
        if (y) z = kd_add(g, z, resized(g, y, z));
        kd_scope(g, "smooth.%d", i);
        z = kd_conv_layer(g, "0", z, CHANNELS, 3, 1, 1, false, KD_STYLE_TORCH);
        y = kd_relu(g, kd_batch_norm_layer(g, "1", z, 1e-5f, 0.1f));
        kd_scope_end(g);
    }
    y = kd_conv_layer(g, "out", y, 1, 1, 1, 0, true, KD_STYLE_TORCH);
    kd_output(g, "P1", resized(g, y, image));
}
