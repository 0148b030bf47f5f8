/* seg.c - segmentation terms for one map, means over the batch. To add one, add its function and
 * a row. */
#include <string.h>
#include "loss/loss.h"
#include "graph/build.h"

#define SMOOTH 1.0f

/* Weights up to 6 near the boundary: 1 + 5 |mean of 31 x 31 - y|, multiplied by the caller's
 * weights. */
kd_node *kd_seg_weight(kd_graph *g, kd_node *mask, kd_node *pixel)
{
    kd_node *boundary = kd_boundary(g, mask, 31, 5.0f);

    return pixel ? kd_mul(g, boundary, pixel) : boundary;
}

static kd_node *bce_dice(kd_graph *g, const kd_loss_map *m)
{
    return kd_add(g, kd_mean(g, kd_bce(g, m->student, m->mask, m->pixel)),
                  kd_mean(g, kd_overlap(g, m->student, m->mask, m->pixel, false, SMOOTH)));
}

static kd_node *bce_jaccard(kd_graph *g, const kd_loss_map *m)
{
    return kd_add(g, kd_mean(g, kd_bce(g, m->student, m->mask, m->pixel)),
                  kd_mean(g, kd_overlap(g, m->student, m->mask, m->pixel, true, SMOOTH)));
}

static kd_node *structure(kd_graph *g, const kd_loss_map *m)
{
    return kd_add(g, kd_mean(g, kd_bce(g, m->student, m->mask, m->weight)),
                  kd_mean(g, kd_overlap(g, m->student, m->mask, m->weight, true, SMOOTH)));
}

/* As in the published code: BCE is averaged before it is weighted, so the weight cancels. */
static kd_node *structure_published(kd_graph *g, const kd_loss_map *m)
{
    return kd_add(g, kd_mean(g, kd_bce(g, m->student, m->mask, m->pixel)),
                  kd_mean(g, kd_overlap(g, m->student, m->mask, m->weight, true, SMOOTH)));
}

static const kd_seg rows[] = {
    { "bce_dice", bce_dice, false, true },
    { "bce_jaccard", bce_jaccard, false, true },
    { "structure", structure, true, false },
    { "structure_published", structure_published, true, true },
};

const kd_seg *kd_seg_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNT(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    kd_fail(KDAS_ENOTFOUND, "there is no segmentation term '%.32s'", name);
    return NULL;
}
