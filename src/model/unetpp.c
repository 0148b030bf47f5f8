/* unetpp.c - U-Net++ (arXiv 1807.10165) in the form of pytorch-nested-unet. Node j of a level gets
 * the nodes before it and the enlarged node j - 1 of the level below. Its logit map at input size,
 * P1, is made of the last node of the first level. With deep supervision (variant 1) the nodes 1 to 4
 * of that level give P1 to P4, and the answer is P4 alone. Colours and initial values as in
 * unet.c. */
#include <stdio.h>
#include "model/colours.h"
#include "model/model.h"
#include "model/unet.h"

const kd_model_rules kd_rules_unetpp_ds = { .colours = &kd_colours_bgr_twice, .last = true };

static void heads(kd_graph *g, kd_node *const *node, bool deep)
{
    if (!deep) {
        kd_output(g, "P1", kd_unet_head(g, "final", node[KD_UNET_LEVELS - 1]));
        return;
    }
    for (int j = 1; j < KD_UNET_LEVELS; j++) {
        char head[16], map[8];

        snprintf(head, sizeof head, "final%d", j);
        snprintf(map, sizeof map, "P%d", j);
        kd_output(g, map, kd_unet_head(g, head, node[j]));
    }
}

void kd_build_unetpp(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    kd_node *x[KD_UNET_LEVELS][KD_UNET_LEVELS + 1]; /* level, column; room for what is joined */

    (void)drop_path;
    for (int i = 0; i < KD_UNET_LEVELS; i++)
        x[i][0] = kd_unet_node(g, i, 0, i ? kd_unet_down(g, x[i - 1][0]) : image);
    for (int j = 1; j < KD_UNET_LEVELS; j++)
        for (int i = KD_UNET_LEVELS - 1 - j; i >= 0; i--) {
            x[i][j] = kd_unet_up(g, x[i + 1][j - 1]);
            x[i][j] = kd_unet_node(g, i, j, kd_concat(g, j + 1, x[i]));
        }
    heads(g, x[0], variant == 1);
}
