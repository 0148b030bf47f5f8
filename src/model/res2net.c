/* res2net.c - Res2Net-50 (arXiv 1904.01169) in the form v1b 26w x 4s: a ResNet-50 whose 3x3 filter
 * is split. The channels of a block are four groups of equal width. Each group but the last has a
 * filter of its own, which also reads what the group before it has found, so that receptive fields
 * of several sizes stand side by side. v1b: three 3x3 convolutions as the stem, and shortcuts that
 * average before their 1x1 convolution. Names are those of the published ImageNet weights.
 * Convolutions start at N(0, sqrt(2 / fan_out)), as published. */
#include <stdio.h>
#include "model/res2net.h"

enum { GROUPS = 4, STAGES = 4 };

/* `width`: of a group. `out`: the block's channels. */
static const struct {
    int blocks, stride, width, out;
} stages[STAGES] = {
    { 3, 1, 26, 256 }, { 4, 2, 52, 512 }, { 6, 2, 104, 1024 }, { 3, 2, 208, 2048 }
};

static kd_node *conv(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride)
{
    return kd_conv_layer(g, name, x, out, k, stride, k / 2, false, KD_STYLE_PVT);
}

static kd_node *norm(kd_graph *g, const char *name, kd_node *x)
{
    return kd_batch_norm_layer(g, name, x, 1e-5f, 0.1f);
}

/* Three convolutions in place of ResNet's one of 7x7; stride 2, and pooled to stride 4. */
static kd_node *stem(kd_graph *g, kd_node *x)
{
    kd_scope(g, "conv1");
    x = kd_relu(g, norm(g, "1", conv(g, "0", x, 32, 3, 2)));
    x = kd_relu(g, norm(g, "4", conv(g, "3", x, 32, 3, 1)));
    x = conv(g, "6", x, 64, 3, 1);
    kd_scope_end(g);
    return kd_window_max(g, kd_relu(g, norm(g, "bn1", x)), 3, 2, 1);
}

/* The filter of group i. */
static kd_node *filter(kd_graph *g, int i, kd_node *x, int stride)
{
    char conv_name[16], norm_name[16];

    snprintf(conv_name, sizeof conv_name, "convs.%d", i);
    snprintf(norm_name, sizeof norm_name, "bns.%d", i);
    return kd_relu(g, norm(g, norm_name, conv(g, conv_name, x, kd_shape(x).dim[3], 3, stride)));
}

/* The first block of a stage changes the size: its groups do not read each other, and its last group
 * is averaged. In the other blocks the last group passes unchanged. */
static kd_node *split_filters(kd_graph *g, kd_node *x, int width, int stride, bool first)
{
    kd_node *y[GROUPS], *group;

    for (int i = 0; i < GROUPS; i++) {
        group = kd_slice(g, x, (int64_t)i * width, width);
        if (i == GROUPS - 1)
            y[i] = first ? kd_window_avg(g, group, 3, stride, 1, false, true) : group;
        else
            y[i] = filter(g, i, i == 0 || first ? group : kd_add(g, y[i - 1], group), stride);
    }
    return kd_concat(g, GROUPS, y);
}

static kd_node *shortcut(kd_graph *g, kd_node *x, int out, int stride)
{
    kd_scope(g, "downsample");
    x = kd_window_avg(g, x, stride, stride, 0, true, false); /* published with stride 1, too */
    x = norm(g, "2", conv(g, "1", x, out, 1, 1));
    kd_scope_end(g);
    return x;
}

static kd_node *block(kd_graph *g, kd_node *x, int stage, bool first)
{
    int      width = stages[stage].width, out = stages[stage].out;
    int      stride = first ? stages[stage].stride : 1;
    kd_node *y      = kd_relu(g, norm(g, "bn1", conv(g, "conv1", x, GROUPS * width, 1, 1)));

    y = norm(g, "bn3", conv(g, "conv3", split_filters(g, y, width, stride, first), out, 1, 1));
    return kd_relu(g, kd_add(g, y, first ? shortcut(g, x, out, stride) : x));
}

void kd_res2net(kd_graph *g, kd_node *image, kd_node *map[KD_RES2NET_MAPS])
{
    static const char *const tap[STAGES] = { "resnet.layer1", "resnet.layer2", "resnet.layer3",
                                             "resnet.layer4" };

    kd_scope(g, "resnet");
    map[0] = stem(g, image);
    for (int s = 0; s < STAGES; s++) {
        kd_node *x = map[s];

        for (int i = 0; i < stages[s].blocks; i++) {
            kd_scope(g, "layer%d.%d", s + 1, i);
            x = block(g, x, s, i == 0);
            kd_scope_end(g);
        }
        map[s + 1] = kd_tap(g, tap[s], x);
    }
    kd_idle_linear(g, "fc", stages[STAGES - 1].out, 1000);
    kd_scope_end(g);
}
