/* resnet.c - ResNet-50 (arXiv 1512.03385) as torchvision builds it: the stride of a group is in the
 * 3x3 convolution of its first block. Initial values: N(0, sqrt(2 / fan_out)). */
#include "model/resnet.h"

#define WIDER 4 /* a block's output has this many times its planes */

static kd_node *conv(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride)
{
    return kd_conv_layer(g, name, x, out, k, stride, k / 2, false, KD_STYLE_PVT);
}

static kd_node *norm(kd_graph *g, const char *name, kd_node *x)
{
    return kd_batch_norm_layer(g, name, x, 1e-5f, 0.1f);
}

kd_node *kd_resnet_stem(kd_graph *g, const char *name, kd_node *image)
{
    kd_node *x;

    kd_scope(g, "%s", name);
    x = kd_relu(g, norm(g, "1", conv(g, "0", image, 64, 7, 2)));
    kd_scope_end(g);
    return x;
}

static kd_node *bottleneck(kd_graph *g, kd_node *x, int64_t planes, int stride)
{
    int64_t  out  = WIDER * planes;
    bool     same = stride == 1 && kd_shape(x).dim[3] == out;
    kd_node *y;

    y = kd_relu(g, norm(g, "bn1", conv(g, "conv1", x, planes, 1, 1)));
    y = kd_relu(g, norm(g, "bn2", conv(g, "conv2", y, planes, 3, stride)));
    y = norm(g, "bn3", conv(g, "conv3", y, out, 1, 1));
    if (!same) x = norm(g, "downsample.1", conv(g, "downsample.0", x, out, 1, stride));
    return kd_relu(g, kd_add(g, y, x));
}

kd_node *kd_resnet_group(kd_graph *g, kd_node *x, int blocks, int64_t planes, int stride)
{
    for (int i = 0; i < blocks; i++) {
        kd_scope(g, "%d", i);
        x = bottleneck(g, x, planes, i ? 1 : stride);
        kd_scope_end(g);
    }
    return x;
}

/* ---- registered, but never run ---- */

static void idle_conv(kd_graph *g, const char *name, const char *norm_name, int64_t in, int64_t out,
                      int k)
{
    kd_idle_conv(g, name, in, out, k, false, KD_STYLE_PVT);
    kd_idle_batch_norm(g, norm_name, out);
}

void kd_resnet_group_idle(kd_graph *g, int64_t inputs, int blocks, int64_t planes)
{
    int64_t out = WIDER * planes;

    for (int i = 0; i < blocks; i++, inputs = out) {
        kd_scope(g, "%d", i);
        idle_conv(g, "conv1", "bn1", inputs, planes, 1);
        idle_conv(g, "conv2", "bn2", planes, planes, 3);
        idle_conv(g, "conv3", "bn3", planes, out, 1);
        if (i == 0) idle_conv(g, "downsample.0", "downsample.1", inputs, out, 1);
        kd_scope_end(g);
    }
}
