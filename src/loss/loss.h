/* loss.h - the inside of kdas_loss: terms are functions that build nodes. */
#ifndef KD_LOSS_H
#define KD_LOSS_H
#include <kdas/loss.h>
#include "base/context.h"
#include "graph/program.h"

#define KD_MAX_MAPS 8

/* The maps that a term is made of, logits (N,H,W,1), shallow to deep, and the targets. */
typedef struct kd_loss_maps {
    int      count;
    kd_node *student[KD_MAX_MAPS], *teacher[KD_MAX_MAPS]; /* teacher: NULL where no term needs it */
    kd_node *mask;
} kd_loss_maps;

/* How a segmentation term for one map is built, a row of seg.c's table. */
typedef kd_node *(*kd_seg_fn)(kd_graph *g, kd_node *logits, kd_node *mask);
kd_seg_fn kd_seg_find(const char *name); /* NULL with the sentence set (KDAS_ENOTFOUND) */

/* What guides the student, a row of guidance.c's table. Either function may be NULL. */
typedef struct kd_guidance {
    const char *name;
    kd_node *(*kd)(kd_graph *g, const kd_loss_maps *maps, const kdas_loss_options *o);
    kd_node *(*sgm)(kd_graph *g, const kd_loss_maps *maps, const kdas_loss_options *o);
} kd_guidance;
const kd_guidance *kd_guidance_find(const char *name); /* NULL with the sentence set */

/* Build one term: its unweighted value (1,1,1,1). */
kd_node *kd_loss_term(kd_graph *g, kdas_term term, const kdas_loss *loss, const kd_loss_maps *maps);

/* Where the maps of a step are, in device memory. */
typedef struct kd_loss_place {
    int32_t maps;
    int64_t n, h, w; /* of the student's maps and the mask */
    int64_t teacher_h, teacher_w;
    float  *student[KD_MAX_MAPS];
    float  *teacher[KD_MAX_MAPS]; /* NULL: no teacher */
    float  *mask;
    float  *gradient
        [KD_MAX_MAPS]; /* the weighted sum over the terms is written here; NULL: not wanted */
} kd_loss_place;

/* Evaluate on device memory. The gradients are multiplied by `scale` (1 / micro-batches). `norms` asks for
 * report->gradient. */
kdas_status kd_loss_run(kdas_loss *loss, const kd_loss_place *place, float scale, bool norms,
                        kdas_loss_report *report);

#define KD_LOSS_NAME 24

/* One term's compiled program for one shape. */
typedef struct kd_term_program {
    int32_t        maps;
    int64_t        n, h, w, teacher_h, teacher_w;
    kd_program    *program[KDAS_TERMS]; /* NULL: the term is off */
    const kd_node *student[KDAS_TERMS][KD_MAX_MAPS], *teacher[KDAS_TERMS][KD_MAX_MAPS],
        *mask[KDAS_TERMS];
    const kd_node *value[KDAS_TERMS];
} kd_term_program;

struct kdas_loss {
    kdas_context     *ctx;
    kdas_loss_options options; /* its strings are the names below */
    char      seg[KD_LOSS_NAME], guidance_name[KD_LOSS_NAME], sym[KD_LOSS_NAME], axis[KD_LOSS_NAME];
    kd_seg_fn seg_fn;
    const kd_guidance *guidance;
    kd_arena          *arena; /* the terms run one after the other */
    kd_term_program  **program;
    size_t             programs, program_capacity;
    kd_staging         staging;
    void              *norm; /* device memory for a sum of squares */
    bool               warned[KDAS_TERMS];
};

#endif
