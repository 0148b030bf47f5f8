/* transnetr.c - TransNetR (arXiv 2303.07428): a ResNet-50 encoder without its last group, and a
 * decoder of two residual transformer blocks and a residual block. It has one logit map at input
 * size, P1.
 *
 * The published code has two peculiarities, which its weights depend on. A transformer block reads
 * the memory of a map (N,C,H,W) as 1024 tokens of C H W / 1024 numbers each: a token is a sixteenth
 * of one channel's plane. So the network takes one size alone. And its attention runs over the
 * batch: token i of an image attends to token i of every image, not to other tokens. This is how it
 * is trained, here as well. Published results are of one image at a time: attention over a batch of
 * one. In inference (KD_INFER) every image here is alone, so that its answer does not depend on the
 * batch it is in. */
#include <math.h>
#include "base/text.h"
#include "model/colours.h"
#include "model/model.h"
#include "model/resnet.h"

enum { CHANNELS = 64, TOKENS = 1024, HEADS = 4, HIDDEN = 2048, LAYERS = 2, SIDE = 256 };

const kd_model_rules kd_rules_transnetr = { .colours = &kd_colours_bgr, .side = SIDE };

/* ---- convolutions ---- */

static kd_node *active(kd_graph *g, kd_node *x) { return kd_leaky_relu(g, x, 0.1f); }

/* Convolution and batch norm, NAME.first and NAME.second. */
static kd_node *conv_norm(kd_graph *g, const char *name, int first, kd_node *x, int k)
{
    char index[2][8];

    kd_format(index[0], sizeof index[0], "%d", first);
    kd_format(index[1], sizeof index[1], "%d", first + 1);
    kd_scope(g, "%s", name);
    x = kd_conv_layer(g, index[0], x, CHANNELS, k, 1, k / 2, true, KD_STYLE_TORCH);
    x = kd_batch_norm_layer(g, index[1], x, 1e-5f, 0.1f);
    kd_scope_end(g);
    return x;
}

/* Twice the size, under a shallower map. */
static kd_node *join(kd_graph *g, kd_node *deep, kd_node *shallow)
{
    kdas_desc s = kd_shape(shallow);

    deep = kd_resize(g, deep, s.dim[1], s.dim[2], true, 1);
    return kd_concat(g, 2, (kd_node *[]){ deep, shallow });
}

static kd_node *residual_block(kd_graph *g, const char *name, kd_node *x)
{
    kd_node *y;

    kd_scope(g, "%s", name);
    y = active(g, conv_norm(g, "conv", 0, x, 3));
    y = conv_norm(g, "conv", 3, y, 3);
    x = active(g, kd_add(g, y, conv_norm(g, "shortcut", 0, x, 1)));
    kd_scope_end(g);
    return x;
}

/* ---- the transformer; tokens are (rows,1,sequence,width) ---- */

static kd_node *dropped(kd_graph *g, kd_node *x, float rate)
{
    return rate > 0 && kd_graph_mode(g) == KD_TRAIN ? kd_dropout(g, x, rate) : x;
}

/* NAMEweight and NAMEbias, in PyTorch's initial values for MultiheadAttention: the bias is 0. */
static kd_node *projection(kd_graph *g, const char *name, kd_node *x, int64_t out, float within)
{
    int64_t  width = kd_shape(x).dim[3];
    char     text[24];
    kd_node *w, *b;

    kd_format(text, sizeof text, "%sweight", name);
    w = kd_param(g, text, (kd_init){ KD_TRAINABLE, KD_INIT_UNIFORM, within }, 2,
                 (const int64_t[]){ out, width });
    kd_format(text, sizeof text, "%sbias", name);
    b = kd_param(g, text, (kd_init){ KD_TRAINABLE, KD_INIT_ZERO, 0 }, 1, &out);
    x = kd_linear(g, x, w, b);
    if (x) x->functional = true;
    return x;
}

/* Attention head by head, for training: its weights are dropped out, too. */
static kd_node *attention_by_head(kd_graph *g, kd_node *qkv, int64_t width, float scale, float rate)
{
    int64_t  size = width / HEADS;
    kd_node *head[HEADS];

    for (int i = 0; i < HEADS; i++) {
        kd_node *q = kd_slice(g, qkv, i * size, size);
        kd_node *k = kd_slice(g, qkv, width + i * size, size);
        kd_node *v = kd_slice(g, qkv, 2 * width + i * size, size);
        kd_node *p = kd_softmax(g, kd_matmul(g, q, k, false, true, scale));

        head[i] = kd_matmul(g, dropped(g, p, rate), v, false, false, 1);
    }
    return kd_concat(g, HEADS, head);
}

static kd_node *self_attention(kd_graph *g, kd_node *x, float rate)
{
    int64_t  d     = kd_shape(x).dim[3];
    float    width = (float)d, scale = sqrtf((float)HEADS / width);
    kd_node *qkv;

    if (!x) return NULL;
    kd_scope(g, "self_attn");
    qkv = projection(g, "in_proj_", x, 3 * d, sqrtf(6 / (4 * width)));
    if (rate > 0 && kd_graph_mode(g) == KD_TRAIN)
        x = attention_by_head(g, qkv, d, scale, rate);
    else
        x = kd_attention(g, kd_slice(g, qkv, 0, d), kd_slice(g, qkv, d, 2 * d), HEADS, scale);
    x = projection(g, "out_proj.", x, d, 1 / sqrtf(width));
    kd_scope_end(g);
    return x;
}

static kd_node *feed_forward(kd_graph *g, kd_node *x, float rate)
{
    int64_t d = kd_shape(x).dim[3];

    x = kd_relu(g, kd_linear_layer(g, "linear1", x, HIDDEN, true, KD_STYLE_TORCH));
    return kd_linear_layer(g, "linear2", dropped(g, x, rate), d, true, KD_STYLE_TORCH);
}

/* PyTorch's TransformerEncoderLayer: each norm follows the sum. */
static kd_node *encoder_layer(kd_graph *g, kd_node *x, float rate)
{
    x = kd_add(g, x, dropped(g, self_attention(g, x, rate), rate));
    x = kd_norm_layer(g, "norm1", x, 1e-5f);
    x = kd_add(g, x, dropped(g, feed_forward(g, x, rate), rate));
    return kd_norm_layer(g, "norm2", x, 1e-5f);
}

/* (a,b,c) -> (b,a,c), in two transpositions of a matrix. */
static kd_node *swap(kd_graph *g, kd_node *x, int64_t a, int64_t b, int64_t c)
{
    x = kd_transpose(g, kd_reshape(g, x, 1, 1, a, b * c)); /* b, c, a */
    return kd_transpose(g, kd_reshape(g, x, 1, b, c, a));  /* b, a, c */
}

/* The map (n,h,w,c) as tokens of attention over the batch, through the encoder, and back. */
static kd_node *transformer(kd_graph *g, kd_node *x, float rate)
{
    kdas_desc s = kd_shape(x);
    int64_t   n = s.dim[0], area = s.dim[1] * s.dim[2], c = s.dim[3], d = c * area / TOKENS;
    bool      alone = n == 1 || kd_graph_mode(g) == KD_INFER;

    x = kd_transpose(g, kd_reshape(g, x, n, 1, area, c)); /* PyTorch's order: n, c, area */
    if (!alone) x = swap(g, x, n, TOKENS, d);
    x = alone ? kd_reshape(g, x, n * TOKENS, 1, 1, d) : kd_reshape(g, x, TOKENS, 1, n, d);
    for (int i = 0; i < LAYERS; i++) {
        kd_scope(g, "te.layers.%d", i);
        x = encoder_layer(g, x, rate);
        kd_scope_end(g);
    }
    if (!alone) x = swap(g, x, TOKENS, n, d);
    x = kd_transpose(g, kd_reshape(g, x, n, 1, c, area));
    return kd_reshape(g, x, n, s.dim[1], s.dim[2], c);
}

static kd_node *residual_transformer(kd_graph *g, const char *name, kd_node *x, float rate)
{
    kd_node *y;

    kd_scope(g, "%s", name);
    y = active(g, conv_norm(g, "c1.conv", 0, x, 3));
    y = conv_norm(g, "c2.conv", 0, transformer(g, y, rate), 1);
    x = active(g, kd_add(g, y, conv_norm(g, "c3.conv", 0, x, 1)));
    x = residual_block(g, "r1", x);
    kd_scope_end(g);
    return x;
}

/* ---- the network ---- */

/* Maps of strides 2, 4, 8 and 16. The last group is in the published files and is never run. */
static void encoder(kd_graph *g, kd_node *image, kd_node *map[4])
{
    static const int blocks[] = { 3, 4, 6 };
    kd_node         *x;

    map[0] = kd_resnet_stem(g, "layer0", image);
    x      = kd_window_max(g, map[0], 3, 2, 1);
    for (int i = 0; i < 3; i++) {
        kd_scope(g, i ? "layer%d" : "layer%d.1", i + 1);
        x = map[i + 1] = kd_resnet_group(g, x, blocks[i], 64 << i, i ? 2 : 1);
        kd_scope_end(g);
    }
    kd_scope(g, "layer4");
    kd_resnet_group_idle(g, 1024, 3, 512);
    kd_scope_end(g);
}

void kd_build_transnetr(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    static const char *const name[4] = { "e1.conv", "e2.conv", "e3.conv", "e4.conv" };
    static const char *const tap[4]  = { "s2", "s4", "s8", "s16" };
    kd_node                 *map[4], *e[4], *x;

    (void)variant;
    encoder(g, image, map);
    for (int i = 0; i < 4; i++)
        e[i] = active(g, conv_norm(g, name[i], 0, kd_tap(g, tap[i], map[i]), 1));
    x = kd_tap(g, "r1", residual_transformer(g, "r1", join(g, e[3], e[2]), drop_path));
    x = kd_tap(g, "r2", residual_transformer(g, "r2", join(g, x, e[1]), drop_path));
    x = kd_tap(g, "r3", residual_block(g, "r3", join(g, x, e[0])));
    x = kd_resize(g, x, SIDE, SIDE, true, 1);
    kd_output(g, "P1", kd_conv_layer(g, "outputs", x, 1, 1, 1, 0, true, KD_STYLE_TORCH));
}
