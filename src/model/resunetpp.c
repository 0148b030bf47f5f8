/* resunetpp.c - ResUNet++ (arXiv 1911.07067): a U-Net of pre-activated residual blocks. Each block
 * ends in squeeze-and-excitation; an atrous spatial pyramid is the bridge, and a second one stands
 * before the logits; the decoder weighs its maps by attention under the encoder's. It has one logit
 * map at input size, P1. Names and wiring are those of the authors' PyTorch module. */
#include <stdio.h>
#include "model/colours.h"
#include "model/model.h"
#include "nn/nn.h"

#define REDUCTION 8 /* of squeeze-and-excitation */

const kd_model_rules kd_rules_resunetpp = { .colours = &kd_colours_bgr };

enum { RATES = 4 };
static const int rates[RATES] = { 1, 6, 12, 18 };

static kd_node *norm(kd_graph *g, const char *name, kd_node *x)
{
    return kd_batch_norm_layer(g, name, x, 1e-5f, 0.1f);
}

static kd_node *conv3x3(kd_graph *g, const char *name, kd_node *x, int64_t out, int stride)
{
    return kd_conv_layer(g, name, x, out, 3, stride, 1, true, KD_STYLE_TORCH);
}

/* Batch norm, ReLU and a 3x3 convolution: entries `at` to `at` + 2 of a sequence. */
static kd_node *norm_relu_conv(kd_graph *g, int at, kd_node *x, int64_t out, int stride)
{
    char of_norm[8], of_conv[8];

    snprintf(of_norm, sizeof of_norm, "%d", at);
    snprintf(of_conv, sizeof of_conv, "%d", at + 2);
    return conv3x3(g, of_conv, kd_relu(g, norm(g, of_norm, x)), out, stride);
}

/* What the filters of a block, c1, made of x, plus the shortcut c2; then squeeze-and-excitation. */
static kd_node *joined(kd_graph *g, kd_node *x, kd_node *filtered, int stride)
{
    int64_t        out    = kd_shape(filtered).dim[3];
    kd_excite_form excite = { .narrow = "attn.net.0",
                              .wide   = "attn.net.2",
                              .hidden = out / REDUCTION,
                              .style  = KD_STYLE_TORCH };

    kd_scope(g, "c2");
    x = norm(g, "1", kd_conv_layer(g, "0", x, out, 1, stride, 0, true, KD_STYLE_TORCH));
    kd_scope_end(g);
    return kd_squeeze_excite(g, kd_add(g, filtered, x), excite);
}

static kd_node *stem(kd_graph *g, const char *name, kd_node *x, int64_t out)
{
    kd_node *y;

    kd_scope(g, "%s", name);
    kd_scope(g, "c1");
    y = norm_relu_conv(g, 1, conv3x3(g, "0", x, out, 1), out, 1);
    kd_scope_end(g);
    x = joined(g, x, y, 1);
    kd_scope_end(g);
    return x;
}

static kd_node *residual_block(kd_graph *g, const char *name, kd_node *x, int64_t out, int stride)
{
    kd_node *y;

    kd_scope(g, "%s", name);
    kd_scope(g, "c1");
    y = norm_relu_conv(g, 3, norm_relu_conv(g, 0, x, out, stride), out, 1);
    kd_scope_end(g);
    x = joined(g, x, y, stride);
    kd_scope_end(g);
    return x;
}

/* Atrous spatial pyramid pooling: the sum of four 3x3 filters of growing dilation, mixed by c5. */
static kd_node *aspp(kd_graph *g, const char *name, kd_node *x, int64_t out)
{
    kd_node *sum = NULL;

    kd_scope(g, "%s", name);
    for (int i = 0; i < RATES; i++) {
        kd_conv_form form = { .out      = out,
                              .kh       = 3,
                              .kw       = 3,
                              .stride   = 1,
                              .pad_y    = rates[i],
                              .pad_x    = rates[i],
                              .dilation = rates[i],
                              .bias     = true,
                              .style    = KD_STYLE_TORCH };
        kd_node     *y;

        kd_scope(g, "c%d", i + 1);
        y   = norm(g, "1", kd_conv_form_layer(g, "0", x, form));
        sum = i ? kd_add(g, sum, y) : y;
        kd_scope_end(g);
    }
    x = kd_conv_layer(g, "c5", sum, out, 1, 1, 0, true, KD_STYLE_TORCH);
    kd_scope_end(g);
    return x;
}

/* x times weights, which are made of it and of the encoder's map, of twice its sides. The weights
 * are not squashed. */
static kd_node *attention(kd_graph *g, kd_node *encoder, kd_node *x)
{
    int64_t  c = kd_shape(x).dim[3];
    kd_node *of_encoder, *weights;

    kd_scope(g, "g_conv");
    of_encoder = kd_window_max(g, norm_relu_conv(g, 0, encoder, c, 1), 2, 2, 0);
    kd_scope_end(g);
    kd_scope(g, "x_conv");
    weights = kd_add(g, of_encoder, norm_relu_conv(g, 0, x, c, 1));
    kd_scope_end(g);
    kd_scope(g, "gc_conv");
    weights = norm_relu_conv(g, 0, weights, c, 1);
    kd_scope_end(g);
    return kd_mul(g, weights, x);
}

static kd_node *decoder_block(kd_graph *g, const char *name, kd_node *encoder, kd_node *x,
                              int64_t out)
{
    kd_scope(g, "%s", name);
    kd_scope(g, "a1");
    x = kd_repeat_pixels(g, attention(g, encoder, x));
    kd_scope_end(g);
    x = residual_block(g, "r1", kd_concat(g, 2, (kd_node *[]){ x, encoder }), out, 1);
    kd_scope_end(g);
    return x;
}

void kd_build_resunetpp(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *c1, *c2, *c3, *c4, *x;

    (void)variant, (void)drop_path;
    c1 = kd_tap(g, "c1", stem(g, "c1", image, 16));
    c2 = kd_tap(g, "c2", residual_block(g, "c2", c1, 32, 2));
    c3 = kd_tap(g, "c3", residual_block(g, "c3", c2, 64, 2));
    c4 = kd_tap(g, "c4", residual_block(g, "c4", c3, 128, 2));
    x  = kd_tap(g, "b1", aspp(g, "b1", c4, 256));
    x  = kd_tap(g, "d1", decoder_block(g, "d1", c3, x, 128));
    x  = kd_tap(g, "d2", decoder_block(g, "d2", c2, x, 64));
    x  = kd_tap(g, "d3", decoder_block(g, "d3", c1, x, 32));
    x  = kd_conv_layer(g, "output", aspp(g, "aspp", x, 16), 1, 1, 1, 0, true, KD_STYLE_TORCH);
    kd_output(g, "P1", x);
}
