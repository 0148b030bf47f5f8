/* partial_decoder.c - the cascaded partial decoder (arXiv 1904.08739) and its receptive field block
 * (after arXiv 1711.07767), as PraNet modified them. Their convolutions have batch norms and no
 * activation. */
#include <stdio.h>
#include "model/partial_decoder.h"

/* ---- The receptive field block ---- */

enum { BRANCHES = 4 };

/* Convolution and batch norm NAME.conv and NAME.bn, of any form; the output has the input's size. */
static kd_node *conv_bn(kd_graph *g, const char *name, kd_node *x, int64_t out, int kh, int kw,
                        int dilation)
{
    kd_conv_form form = { .out      = out,
                          .kh       = kh,
                          .kw       = kw,
                          .stride   = 1,
                          .pad_y    = kh / 2 * dilation,
                          .pad_x    = kw / 2 * dilation,
                          .dilation = dilation,
                          .style    = KD_STYLE_TORCH };

    kd_scope(g, "%s", name);
    x = kd_conv_form_layer(g, "conv", x, form);
    x = kd_batch_norm_layer(g, "bn", x, 1e-5f, 0.1f);
    kd_scope_end(g);
    return x;
}

/* Branch i sees further the larger i is. Its k x k filter is one row and one column; the 3x3 filter
 * after them has holes, so that it spans the same k pixels on either side. */
static kd_node *branch(kd_graph *g, int i, kd_node *x, int64_t out)
{
    int k = 2 * i + 1;

    kd_scope(g, "branch%d", i);
    x = kd_conv_bn(g, "0", x, out, 1, 0);
    if (i > 0) {
        x = conv_bn(g, "1", x, out, 1, k, 1);
        x = conv_bn(g, "2", x, out, k, 1, 1);
        x = conv_bn(g, "3", x, out, 3, 3, k);
    }
    kd_scope_end(g);
    return x;
}

kd_node *kd_rfb(kd_graph *g, const char *name, kd_node *x, int64_t out)
{
    kd_node *y[BRANCHES], *sum;

    kd_scope(g, "%s", name);
    for (int i = 0; i < BRANCHES; i++)
        y[i] = branch(g, i, x, out);
    sum = kd_add(g, kd_conv_bn(g, "conv_cat", kd_concat(g, BRANCHES, y), out, 3, 1),
                 kd_conv_bn(g, "conv_res", x, out, 1, 0));
    kd_scope_end(g);
    return kd_tap(g, name, kd_relu(g, sum));
}

/* ---- The decoder ---- */

/* `counted`: how often the published code runs it as a module. thop counts these runs. */
static kd_node *up2(kd_graph *g, kd_node *x, int counted)
{
    kdas_desc s = kd_shape(x);

    return kd_resize(g, x, 2 * s.dim[1], 2 * s.dim[2], true, counted);
}

kd_node *kd_aggregate(kd_graph *g, kd_node *x32, kd_node *x16, kd_node *x8)
{
    int64_t  c = kd_shape(x32).dim[3];
    kd_node *up_x32, *a, *b, *x;

    up_x32 = up2(g, x32, 3);
    a      = kd_mul(g, x16, kd_conv_bn(g, "conv_upsample1", up_x32, c, 3, 1));
    b      = kd_mul(g, kd_conv_bn(g, "conv_upsample2", up2(g, up_x32, 1), c, 3, 1),
                    kd_conv_bn(g, "conv_upsample3", up2(g, x16, 1), c, 3, 1));
    b      = kd_mul(g, b, x8);
    x      = kd_conv_bn(g, "conv_upsample4", up_x32, c, 3, 1);
    x      = kd_conv_bn(g, "conv_concat2", kd_concat(g, 2, (kd_node *[]){ a, x }), 2 * c, 3, 1);
    x      = kd_conv_bn(g, "conv_upsample5", up2(g, x, 1), 2 * c, 3, 1);
    return kd_conv_bn(g, "conv_concat3", kd_concat(g, 2, (kd_node *[]){ b, x }), 3 * c, 3, 1);
}

kd_node *kd_partial_decoder(kd_graph *g, kd_node *x32, kd_node *x16, kd_node *x8)
{
    kd_node *x;

    kd_scope(g, "agg1");
    x = kd_aggregate(g, x32, x16, x8);
    x = kd_conv_bn(g, "conv4", x, kd_shape(x).dim[3], 3, 1);
    x = kd_conv_layer(g, "conv5", x, 1, 1, 1, 0, true, KD_STYLE_TORCH);
    kd_scope_end(g);
    return kd_cast(g, x, KDAS_F32);
}
