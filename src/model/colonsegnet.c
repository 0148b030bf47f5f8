/* colonsegnet.c - ColonSegNet (arXiv 2011.07631): two encoders of residual blocks with squeeze and
 * excitation, and a decoder that enlarges their maps by transposed convolutions. It has one logit
 * map at input size, P1. Initial values are PyTorch's. It was trained on pixels / 255, blue
 * first. */
#include "model/colours.h"
#include "model/excited_block.h"
#include "model/model.h"

const kd_model_rules kd_rules_colonsegnet = { .colours = &kd_colours_bgr };

/* half[0]: after the first block. half[1]: at half the size, after the second one. */
static void encoder_block(kd_graph *g, const char *name, kd_node *x, int64_t out, kd_node *half[2])
{
    kd_scope(g, "%s", name);
    half[0] = x = kd_excited_block(g, "residual_block1", x, out);
    kd_scope(g, "strided_conv");
    x = kd_relu(g, kd_conv_norm(g, "conv", "bn", x, out, 3, 2));
    kd_scope_end(g);
    half[1] = kd_excited_block(g, "residual_block2", x, out);
    kd_scope_end(g);
}

static kd_node *joined(kd_graph *g, const char *name, kd_node *a, kd_node *b, int64_t out)
{
    return kd_excited_block(g, name, kd_concat(g, 2, (kd_node *[]){ a, b }), out);
}

void kd_build_colonsegnet(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *s1[2], *s2[2], *x, *y;

    (void)variant;
    (void)drop_path;
    encoder_block(g, "e1", image, 64, s1);                             /* strides 1, 2 */
    encoder_block(g, "e2", kd_window_max(g, s1[1], 2, 2, 0), 256, s2); /* strides 4, 8 */
    s2[0] = kd_tap(g, "s4", s2[0]);
    s2[1] = kd_tap(g, "s8", s2[1]);

    x = joined(g, "r1", kd_deconv_layer(g, "t1", s2[1], 128, 4, 4, 0), s1[1], 128);
    y = kd_deconv_layer(g, "t2", s2[0], 128, 4, 2, 1);
    x = joined(g, "r2", x, y, 128);
    x = joined(g, "r3", kd_deconv_layer(g, "t3", x, 64, 4, 2, 1), s1[0], 64);
    y = kd_deconv_layer(g, "t4", s1[1], 32, 4, 2, 1);
    x = joined(g, "r4", x, y, 32);
    kd_output(g, "P1", kd_conv_layer(g, "output", x, 1, 1, 1, 0, true, KD_STYLE_TORCH));
}
