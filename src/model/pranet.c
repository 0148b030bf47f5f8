/* pranet.c - PraNet (arXiv 2006.11392): a partial decoder of the deep maps of Res2Net-50 makes a
 * coarse map, and three modules of reverse attention refine it, from stride 32 to stride 8. It has
 * four logit maps at input size, in the order in which they are made: P1, the decoder's, to P4, the
 * last refinement, which is the answer. Upstream supervises all four. Outside the backbone, initial
 * values are PyTorch's. */
#include <stdio.h>
#include "model/model.h"
#include "model/partial_decoder.h"
#include "model/res2net.h"

#define CHANNELS 32 /* of the decoder */

/* Names begin with ra<level>_conv. `filters`: k x k convolutions between the first and the last,
 * whose filter is last x last. */
typedef struct attention {
    int level, width, filters, k, last;
} attention;

const kd_model_rules kd_rules_pranet = { .last = true, .backbone = "resnet." };

/* Half-pixel bilinear. Sides of another size are not smoothed before they shrink. */
static kd_node *resized(kd_graph *g, kd_node *x, kd_node *like)
{
    kdas_desc s = kd_shape(like);

    return kd_resize(g, x, s.dim[1], s.dim[2], false, 0);
}

/* Refine the logits `coarse` by x, the backbone's map, where they do NOT see a polyp yet. */
static kd_node *reverse_attention(kd_graph *g, attention a, kd_node *x, kd_node *coarse)
{
    char     name[32];
    kd_node *away;

    coarse = resized(g, coarse, x);
    away   = kd_scale(g, kd_sigmoid(g, coarse), -1, 1);
    x      = kd_mul(g, x, away);
    for (int i = 0; i < a.filters + 2; i++) {
        bool first = i == 0, last = i == a.filters + 1;
        int  k = first ? 1 : last ? a.last : a.k;

        snprintf(name, sizeof name, "ra%d_conv%d", a.level, i + 1);
        x = kd_conv_bn(g, name, x, last ? 1 : a.width, k, k / 2);
        if (!first && !last) x = kd_relu(g, x);
    }
    return kd_add(g, kd_cast(g, x, KDAS_F32), coarse);
}

void kd_build_pranet(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *map[KD_RES2NET_MAPS], *x8, *x16, *x32, *s5, *s4, *s3, *s2;

    (void)variant;
    (void)drop_path; /* the network has none */
    kd_res2net(g, image, map);
    x8  = kd_rfb(g, "rfb2_1", map[2], CHANNELS);
    x16 = kd_rfb(g, "rfb3_1", map[3], CHANNELS);
    x32 = kd_rfb(g, "rfb4_1", map[4], CHANNELS);
    s5  = kd_partial_decoder(g, x32, x16, x8);
    s4  = reverse_attention(g, (attention){ 4, 256, 3, 5, 1 }, map[4], s5);
    s3  = reverse_attention(g, (attention){ 3, 64, 2, 3, 3 }, map[3], s4);
    s2  = reverse_attention(g, (attention){ 2, 64, 2, 3, 3 }, map[2], s3);
    kd_output(g, "P1", resized(g, s5, image));
    kd_output(g, "P2", resized(g, s4, image));
    kd_output(g, "P3", resized(g, s3, image));
    kd_output(g, "P4", resized(g, s2, image));
}
