/* polyp_pvt.c - Polyp-PVT (arXiv 2108.06932): cascaded fusion of the deep maps, camouflage
 * identification on the shallow map, and similarity aggregation of both. It has two logit maps
 * at input size, P1 and P2. The published predictor thresholds sigmoid(P1 + P2). */
#include "model/model.h"
#include "model/partial_decoder.h"
#include "model/pvt_v2.h"

#define CHANNELS 32 /* of the decoder */
#define STATES   16 /* of the similarity graph */
#define MIDS     4  /* its nodes are MIDS x MIDS */

/* `counted`: how often the published code runs it as a module. thop counts these runs. */
static kd_node *times(kd_graph *g, kd_node *x, double factor, bool align, int counted)
{
    kdas_desc s = kd_shape(x);

    return kd_resize(g, x, (int64_t)((double)s.dim[1] * factor),
                     (int64_t)((double)s.dim[2] * factor), align, counted);
}

/* The cascaded fusion module: dense aggregation, and back to the decoder's channels. */
static kd_node *cfm(kd_graph *g, kd_node *t4, kd_node *t3, kd_node *t2)
{
    kd_node *x;

    kd_scope(g, "CFM");
    x = kd_conv_bn(g, "conv4", kd_aggregate(g, t4, t3, t2), CHANNELS, 3, 1);
    kd_scope_end(g);
    return x;
}

/* Channel attention. Both pools go through the same two small layers. */
static kd_node *channel_attention(kd_graph *g, kd_node *x)
{
    int64_t  c       = kd_shape(x).dim[3];
    kd_node *pool[2] = { kd_pool_avg(g, x, 1, 1, 1), kd_pool_max(g, x) };

    kd_scope(g, "ca");
    for (int i = 0; i < 2; i++) {
        pool[i] = kd_conv_layer(g, "fc1", pool[i], c / 16, 1, 1, 0, false, KD_STYLE_TORCH);
        pool[i] = kd_conv_layer(g, "fc2", kd_relu(g, pool[i]), c, 1, 1, 0, false, KD_STYLE_TORCH);
    }
    kd_scope_end(g);
    return kd_sigmoid(g, kd_add(g, pool[0], pool[1]));
}

static kd_node *spatial_attention(kd_graph *g, kd_node *x)
{
    kd_node *both = kd_concat(g, 2, (kd_node *[]){ kd_channel_mean(g, x), kd_channel_max(g, x) });

    kd_scope(g, "sa");
    both = kd_conv_layer(g, "conv1", both, 1, 7, 1, 3, false, KD_STYLE_TORCH);
    kd_scope_end(g);
    return kd_sigmoid(g, both);
}

/* (N,H,W,C) as a matrix for each image: (N,1,HW,C). */
static kd_node *as_matrix(kd_graph *g, kd_node *x)
{
    kdas_desc s = kd_shape(x);

    return kd_reshape(g, x, s.dim[0], 1, s.dim[1] * s.dim[2], s.dim[3]);
}

/* The graph convolution on node states (N,1,STATES,nodes). */
static kd_node *gcn(kd_graph *g, kd_node *x)
{
    kd_node *h;

    kd_scope(g, "gcn");
    h = kd_pointwise_layer(g, "conv1", x, MIDS * MIDS, true); /* mixes nodes */
    h = kd_transpose(g, kd_sub(g, h, x));
    h = kd_pointwise_layer(g, "conv2", h, STATES, false); /* mixes states */
    h = kd_relu(g, kd_transpose(g, h));
    kd_scope_end(g);
    return h;
}

/* Similarity aggregation of the fused map x under the shallow map `edge` of the same size. */
static kd_node *sam(kd_graph *g, kd_node *x, kd_node *edge)
{
    kdas_desc s = kd_shape(x);
    kd_node  *state, *proj, *anchor, *assign, *node, *y;

    kd_scope(g, "SAM");
    edge   = kd_slice(g, kd_softmax(g, edge), 1, 1);
    state  = as_matrix(g, kd_conv_layer(g, "conv_state", x, STATES, 1, 1, 0, true, KD_STYLE_TORCH));
    proj   = kd_conv_layer(g, "conv_proj", x, STATES, 1, 1, 0, true, KD_STYLE_TORCH);
    anchor = kd_pool_avg(g, kd_mul(g, proj, edge), MIDS + 2, MIDS + 2,
                         3);                                     /* upstream pools three times */
    anchor = as_matrix(g, kd_crop(g, anchor, 1, 1, MIDS, MIDS)); /* (N,1,nodes,STATES) */
    assign = kd_softmax(
        g, kd_matmul(g, as_matrix(g, proj), anchor, false, true, 1)); /* (N,1,HW,nodes) */
    node = gcn(g, kd_matmul(g, state, assign, true, false, 1));       /* (N,1,STATES,nodes) */
    y    = kd_matmul(g, assign, node, false, true, 1);                /* (N,1,HW,STATES) */
    y    = kd_reshape(g, y, s.dim[0], s.dim[1], s.dim[2], STATES);
    y    = kd_conv_layer(g, "conv_extend", y, CHANNELS, 1, 1, 0, false, KD_STYLE_TORCH);
    kd_scope_end(g);
    return kd_add(g, x, y);
}

static kd_node *head(kd_graph *g, const char *name, kd_node *x)
{
    x = kd_conv_layer(g, name, x, 1, 1, 1, 0, true, KD_STYLE_TORCH);
    return times(g, kd_cast(g, x, KDAS_F32), 8, false, 0);
}

void kd_build_polyp_pvt(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    static const char *const tap[4] = { "backbone.x1", "backbone.x2", "backbone.x3",
                                        "backbone.x4" };
    kd_node                 *map[4], *x1, *cim, *t2, *t3, *t4, *shallow, *fused, *joined;

    kd_scope(g, "backbone");
    kd_pvt_v2(g, image, variant, drop_path, map);
    kd_scope_end(g);
    for (int s = 0; s < 4; s++)
        kd_tap(g, tap[s], map[s]);

    shallow = map[0];
    x1      = kd_mul(g, shallow, channel_attention(g, shallow));
    cim     = kd_tap(g, "cim", kd_mul(g, x1, spatial_attention(g, x1)));
    shallow = kd_conv_bn(g, "Translayer2_0", cim, CHANNELS, 1, 0);
    t2      = kd_conv_bn(g, "Translayer2_1", map[1], CHANNELS, 1, 0);
    t3      = kd_conv_bn(g, "Translayer3_1", map[2], CHANNELS, 1, 0);
    t4      = kd_conv_bn(g, "Translayer4_1", map[3], CHANNELS, 1, 0);
    fused   = kd_tap(g, "cfm", cfm(g, t4, t3, t2));
    joined  = kd_tap(g, "sam", sam(g, fused, times(g, shallow, 0.5, true, 1)));
    kd_output(g, "P1", head(g, "out_CFM", fused));
    kd_output(g, "P2", head(g, "out_SAM", joined));
}
