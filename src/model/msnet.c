/* msnet.c - MSNet (arXiv 2108.05082): differences of neighbouring maps of Res2Net-50, and
 * differences of those differences, are summed at each level and decoded from the deepest on. It has
 * one logit map at input size, P1. Its training code normalises colours a little differently than
 * its test code; the network here takes the test code's, ImageNet's. Outside the backbone, initial
 * values are PyTorch's. The second loss of its training (LossNet) is no part of the network. */
#include "model/model.h"
#include "model/res2net.h"

#define CHANNELS 64 /* of every map of the decoder */

const kd_model_rules kd_rules_msnet = { .backbone = "resnet." };

/* 3x3 convolution with bias, batch norm, ReLU. */
static kd_node *unit(kd_graph *g, const char *name, kd_node *x)
{
    kd_scope(g, "%s", name);
    x = kd_conv_layer(g, "0", x, CHANNELS, 3, 1, 1, true, KD_STYLE_TORCH);
    x = kd_relu(g, kd_batch_norm_layer(g, "1", x, 1e-5f, 0.1f));
    kd_scope_end(g);
    return x;
}

/* Half-pixel bilinear, to the size of `like`, which may be x's. */
static kd_node *resized(kd_graph *g, kd_node *x, kd_node *like)
{
    kdas_desc from = kd_shape(x), to = kd_shape(like);

    if (from.dim[1] == to.dim[1] && from.dim[2] == to.dim[2]) return x;
    return kd_resize(g, x, to.dim[1], to.dim[2], false, 0);
}

/* The subtraction unit: what two maps differ in. */
static kd_node *difference(kd_graph *g, const char *name, kd_node *deep, kd_node *shallow)
{
    return unit(g, name, kd_abs(g, kd_sub(g, resized(g, deep, shallow), shallow)));
}

/* A step of the decoder. */
static kd_node *joined(kd_graph *g, kd_node *deep, kd_node *level)
{
    return kd_add(g, resized(g, deep, level), level);
}

void kd_build_msnet(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *map[KD_RES2NET_MAPS], *x1, *x2, *x3, *x4, *x5;
    kd_node *x54, *x43, *x32, *x21, *x543, *x432, *x321, *x5432, *x4321, *x54321;
    kd_node *level1, *level2, *level3, *y;

    (void)variant;
    (void)drop_path; /* the network has none */
    kd_res2net(g, image, map);
    x1 = map[0];
    x2 = unit(g, "x2_dem_1", map[1]);
    x3 = unit(g, "x3_dem_1", map[2]);
    x4 = unit(g, "x4_dem_1", map[3]);
    x5 = unit(g, "x5_dem_1", map[4]);

    x54    = difference(g, "x5_x4", x5, x4);
    x43    = difference(g, "x4_x3", x4, x3);
    x32    = difference(g, "x3_x2", x3, x2);
    x21    = difference(g, "x2_x1", x2, x1);
    x543   = difference(g, "x5_x4_x3", x54, x43);
    x432   = difference(g, "x4_x3_x2", x43, x32);
    x321   = difference(g, "x3_x2_x1", x32, x21);
    x5432  = difference(g, "x5_x4_x3_x2", x543, x432);
    x4321  = difference(g, "x4_x3_x2_x1", x432, x321);
    x54321 = difference(g, "x5_x4_x3_x2_x1", unit(g, "x5_dem_4", x5432), x4321);

    level3 = unit(g, "level3", kd_add(g, x43, x543));
    level2 = unit(g, "level2", kd_add(g, kd_add(g, x32, x432), x5432));
    level1 = unit(g, "level1", kd_add(g, kd_add(g, kd_add(g, x21, x321), x4321), x54321));

    y = unit(g, "x5_dem_5", map[4]);
    y = unit(g, "output4", joined(g, y, x54));
    y = unit(g, "output3", joined(g, y, level3));
    y = unit(g, "output2", joined(g, y, level2));
    kd_scope(g, "output1");
    y = kd_conv_layer(g, "0", joined(g, y, level1), 1, 3, 1, 1, true, KD_STYLE_TORCH);
    kd_scope_end(g);
    kd_output(g, "P1", resized(g, kd_cast(g, y, KDAS_F32), image));
}
