/* hardnet_mseg.c - HarDNet-MSEG (arXiv 2101.07172): HarDNet68 (arXiv 1909.00948) under PraNet's
 * partial decoder. It has one logit map at input size, P1. The published files also hold PraNet's
 * modules of reverse attention, some convolutions and the classifier, which never run. All initial
 * values are PyTorch's. */
#include "model/model.h"
#include "model/partial_decoder.h"

#define CHANNELS 32 /* of the decoder */

enum { STAGES = 5, LAYERS = 16, MAPS = 4 };

/* A block at place `at` of the backbone's list, and a 1x1 convolution to `out` channels after it.
 * `map`: what it gives, 0 for stride 4; -1: nothing. `pool`: halved before the next block. */
static const struct {
    int  at, growth, layers, out, map;
    bool pool;
} stages[STAGES] = { { 3, 14, 8, 128, 0, true },
                     { 6, 16, 16, 256, -1, false },
                     { 8, 20, 16, 320, 1, true },
                     { 11, 40, 16, 640, 2, true },
                     { 14, 160, 4, 1024, 3, false } };

const kd_model_rules kd_rules_hardnet_mseg = { .backbone = "hardnet." };

/* Convolution, batch norm, ReLU6. */
static kd_node *layer(kd_graph *g, const char *list, int i, kd_node *x, int64_t out, int k,
                      int stride)
{
    kd_scope(g, "%s.%d", list, i);
    x = kd_conv_layer(g, "conv", x, out, k, stride, k / 2, false, KD_STYLE_TORCH);
    x = kd_relu6(g, kd_batch_norm_layer(g, "norm", x, 1e-5f, 0.1f));
    kd_scope_end(g);
    return x;
}

/* The harmonic dense block. Layer l reads layers l - 1, l - 2, l - 4 ... as far as these powers of 2
 * divide l; layer 0 is the block's input. The more it reads, the wider it is: by 1.7 for each layer
 * but the first. The block gives its odd layers and its last one. */
static kd_node *dense_block(kd_graph *g, kd_node *x, int growth, int layers)
{
    kd_node *y[LAYERS + 1] = { x }, *kept[LAYERS];
    int      count         = 0;

    for (int l = 1; l <= layers; l++) {
        kd_node *in[LAYERS];
        int      reads = 0;
        double   width = growth;

        for (int step = 1; l % step == 0 && step <= l; step *= 2) {
            in[reads++] = y[l - step];
            if (step > 1) width *= 1.7;
        }
        x    = reads == 1 ? in[0] : kd_concat(g, reads, in);
        y[l] = layer(g, "layers", l - 1, x, (int64_t)(width + 1) / 2 * 2, 3, 1);
        if (l % 2 || l == layers) kept[count++] = y[l];
    }
    return kd_concat(g, count, kept);
}

static void backbone(kd_graph *g, kd_node *x, kd_node *map[MAPS])
{
    static const char *const tap[MAPS] = { "hardnet.x1", "hardnet.x2", "hardnet.x3", "hardnet.x4" };

    kd_scope(g, "hardnet");
    x = layer(g, "base", 1, layer(g, "base", 0, x, 32, 3, 2), 64, 3, 1);
    x = kd_window_max(g, x, 3, 2, 1);
    for (int s = 0; s < STAGES; s++) {
        kd_scope(g, "base.%d", stages[s].at);
        x = dense_block(g, x, stages[s].growth, stages[s].layers);
        kd_scope_end(g);
        x = layer(g, "base", stages[s].at + 1, x, stages[s].out, 1, 1);
        if (stages[s].map >= 0) map[stages[s].map] = kd_tap(g, tap[stages[s].map], x);
        if (stages[s].pool) x = kd_window_max(g, x, 2, 2, 0);
    }
    kd_idle_linear(g, "base.16.3", stages[STAGES - 1].out, 1000);
    kd_scope_end(g);
}

/* Tensors of the published files that the network does not use. */
static void idle_parts(kd_graph *g)
{
    static const struct {
        const char *name;
        int         in, out, k;
    } parts[] = {
        { "ra4_conv1", 1024, 256, 1 }, { "ra4_conv2", 256, 256, 5 }, { "ra4_conv3", 256, 256, 5 },
        { "ra4_conv4", 256, 256, 5 },  { "ra4_conv5", 256, 1, 1 },   { "ra3_conv1", 640, 64, 1 },
        { "ra3_conv2", 64, 64, 3 },    { "ra3_conv3", 64, 64, 3 },   { "ra3_conv4", 64, 1, 3 },
        { "ra2_conv1", 320, 64, 1 },   { "ra2_conv2", 64, 64, 3 },   { "ra2_conv3", 64, 64, 3 },
        { "ra2_conv4", 64, 1, 3 },     { "conv2", 320, 32, 1 },      { "conv3", 640, 32, 1 },
        { "conv4", 1024, 32, 1 },      { "conv5", 1024, 1024, 3 }
    };

    for (size_t i = 0; i < KD_COUNT(parts); i++)
        kd_idle_conv_bn(g, parts[i].name, parts[i].in, parts[i].out, parts[i].k);
    kd_idle_conv(g, "conv6", 1024, 1, 1, true, KD_STYLE_TORCH);
}

void kd_build_hardnet_mseg(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kdas_desc s         = kd_shape(image);
    kd_node  *map[MAPS] = { NULL }, *x8, *x16, *x32, *y;

    (void)variant;
    (void)drop_path; /* the network has none */
    backbone(g, image, map);
    x8  = kd_rfb(g, "rfb2_1", map[1], CHANNELS);
    x16 = kd_rfb(g, "rfb3_1", map[2], CHANNELS);
    x32 = kd_rfb(g, "rfb4_1", map[3], CHANNELS);
    y   = kd_partial_decoder(g, x32, x16, x8);
    kd_output(g, "P1", kd_resize(g, y, s.dim[1], s.dim[2], false, 0));
    idle_parts(g);
}
