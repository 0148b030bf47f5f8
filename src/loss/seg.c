/* seg.c - segmentation terms for one map, means over the batch. To add one: a function and a row. */
#include <string.h>
#include "loss/loss.h"
#include "op/build.h"

#define SMOOTH 1.0f

/* Weights up to 6 near the boundary: 1 + 5 |mean of 31 x 31 - y|. */
static kd_node *boundary(kd_graph *g, kd_node *y) { return kd_boundary(g, y, 31, 5.0f); }

static kd_node *bce_dice(kd_graph *g, kd_node *p, kd_node *y)
{
    return kd_add(g, kd_mean(g, kd_bce(g, p, y, NULL)),
                  kd_mean(g, kd_overlap(g, p, y, NULL, false, SMOOTH)));
}

static kd_node *bce_jaccard(kd_graph *g, kd_node *p, kd_node *y)
{
    return kd_add(g, kd_mean(g, kd_bce(g, p, y, NULL)),
                  kd_mean(g, kd_overlap(g, p, y, NULL, true, SMOOTH)));
}

static kd_node *structure(kd_graph *g, kd_node *p, kd_node *y)
{
    kd_node *w = boundary(g, y);

    return kd_add(g, kd_mean(g, kd_bce(g, p, y, w)),
                  kd_mean(g, kd_overlap(g, p, y, w, true, SMOOTH)));
}

/* As the published code runs: its BCE is averaged before it is weighted, so that the weight cancels. */
static kd_node *structure_published(kd_graph *g, kd_node *p, kd_node *y)
{
    kd_node *w = boundary(g, y);

    return kd_add(g, kd_mean(g, kd_bce(g, p, y, NULL)),
                  kd_mean(g, kd_overlap(g, p, y, w, true, SMOOTH)));
}

static const struct {
    const char *name;
    kd_seg_fn   fn;
} rows[] = {
    { "bce_dice", bce_dice },
    { "bce_jaccard", bce_jaccard },
    { "structure", structure },
    { "structure_published", structure_published },
};

kd_seg_fn kd_seg_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNT(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return rows[i].fn;
    kd_fail(KDAS_ENOTFOUND, "there is no segmentation term '%.32s'", name);
    return NULL;
}
