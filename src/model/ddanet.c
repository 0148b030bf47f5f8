/* ddanet.c - DDANet (arXiv 2012.15245): one encoder and two decoders. The second decoder was made to
 * restore the image in grey; each of its maps, reduced to one channel, is an attention map for the
 * first decoder's. The first one's logits at input size are the output, P1.
 * The layer that makes the grey image of the second decoder's last map, output2, is in files and
 * never runs: a grey image is no map of polyps, so no objective may see it. */
#include <stdio.h>
#include "model/colours.h"
#include "model/excited_block.h"
#include "model/model.h"

const kd_model_rules kd_rules_ddanet = { .colours = &kd_colours_bgr };

enum { LEVELS = 4 };
static const int encoder_channels[LEVELS] = { 32, 64, 128, 256 };
static const int decoder_channels[LEVELS] = { 128, 64, 32, 16 };

static kd_node *two_blocks(kd_graph *g, kd_node *x, int64_t out)
{
    return kd_excited_block(g, "r2", kd_excited_block(g, "r1", x, out), out);
}

/* x enlarged, then joined with the encoder's map of that size. */
static kd_node *decoder_block(kd_graph *g, const char *name, kd_node *x, kd_node *encoder,
                              int64_t out)
{
    kd_scope(g, "%s", name);
    x = kd_deconv_layer(g, "upsample", x, out, 4, 2, 1);
    x = two_blocks(g, kd_concat(g, 2, (kd_node *[]){ x, encoder }), out);
    kd_scope_end(g);
    return kd_tap(g, name, x);
}

/* The second decoder's map as one channel of weights. */
static kd_node *attention_map(kd_graph *g, const char *name, kd_node *x)
{
    kd_scope(g, "%s", name);
    x = kd_sigmoid(g, kd_conv_layer(g, "0", x, 1, 1, 1, 0, true, KD_STYLE_TORCH));
    kd_scope_end(g);
    return x;
}

void kd_build_ddanet(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *map[LEVELS], *x = image, *grey;
    char     name[8];

    (void)variant, (void)drop_path;
    for (int i = 0; i < LEVELS; i++) { /* the encoder */
        snprintf(name, sizeof name, "e%d", i + 1);
        kd_scope(g, "%s", name);
        map[i] = two_blocks(g, x, encoder_channels[i]);
        kd_scope_end(g);
        kd_tap(g, name, map[i]);
        x = kd_window_max(g, map[i], 2, 2, 0);
    }
    grey = x = kd_tap(g, "p4", x);
    for (int i = 0; i < LEVELS; i++) { /* both decoders */
        kd_node *encoder = map[LEVELS - 1 - i];
        int64_t  out     = decoder_channels[i];

        snprintf(name, sizeof name, "s%d", i + 1);
        x = decoder_block(g, name, x, encoder, out);
        snprintf(name, sizeof name, "a%d", i + 1);
        grey = decoder_block(g, name, grey, encoder, out);
        snprintf(name, sizeof name, "m%d", i + 1);
        x = kd_mul(g, x, attention_map(g, name, grey));
    }
    kd_output(g, "P1", kd_conv_layer(g, "output1", x, 1, 1, 1, 0, true, KD_STYLE_TORCH));
    kd_idle_conv(g, "output2", decoder_channels[LEVELS - 1], 1, 1, true, KD_STYLE_TORCH);
}
