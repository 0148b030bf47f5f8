/* kdas/loss.h - the KDAS objective (arXiv 2312.08555, Eq. 1-8): segmentation and guidance terms. */
#ifndef KDAS_LOSS_H
#define KDAS_LOSS_H
#include <kdas/base.h>
KDAS_BEGIN

/* total = seg_weight * seg + guidance_weight * (kd + sgm), each summed over the maps; see docs/objective.md */
typedef enum kdas_term { KDAS_TERM_SEG = 0, KDAS_TERM_KD = 1, KDAS_TERM_SGM = 2 } kdas_term;
#define KDAS_TERMS 3

typedef struct kdas_loss_options {
    size_t size;
    /* "bce_dice" (default; Eq. 7), "bce_jaccard" (section 4.2), "structure" (boundary-weighted),
     * "structure_published" (its BCE unweighted, as published code runs) */
    const char *seg;
    const char *guidance; /* "none", "kl", "attention" (Eq. 1-3), "attention+sgm" (default; Eq. 8),
                             "published" (squared difference of P1 + P1^T, and a KL over one channel) */
    const char *sym;  /* "covariance" (default; Eq. 4, 5) or "sum" (A + A^T; square maps only) */
    const char *axis; /* what a map is a distribution over before KL: "spatial" (default), "row",
                             or "channel" (constant for one-channel maps: a fault, kept to show it)  */
    float       tau;  /* temperature, > 0; default 2      */
    float       seg_weight;      /* >= 0; default 1                  */
    float       guidance_weight; /* >= 0; default 0.2                */
} kdas_loss_options;
KDAS_API void kdas_loss_options_init(kdas_loss_options *options, size_t size);
/* Fill in a preset: "paper" (the defaults), "baseline" (no guidance), "kl", "attention" (Table 3's rows), or
 * "published_code" (what the published script optimises). `size` must be set. KDAS_ENOTFOUND. Since 0.1. */
KDAS_API kdas_status kdas_loss_options_preset(kdas_loss_options *options, const char *preset);

/* What an evaluation found. Set `size`; arrays are indexed by kdas_term. */
typedef struct kdas_loss_report {
    size_t  size;
    double  total;
    double  raw[KDAS_TERMS];      /* the term as the paper writes it                              */
    double  weighted[KDAS_TERMS]; /* its share of the total                                       */
    double  gradient[KDAS_TERMS]; /* L2 norm of what its share sends to the student's maps        */
    int32_t on[KDAS_TERMS];       /* whether the term is switched on                              */
} kdas_loss_report;

typedef struct kdas_loss kdas_loss;

/* Make an objective. Options may be NULL (defaults), strings are not kept. KDAS_EINVAL (range),
 * KDAS_ENOTFOUND (a name), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_loss_create(kdas_loss **out, kdas_context *context,
                                      const kdas_loss_options *options);
KDAS_API void        kdas_loss_destroy(kdas_loss *loss); /* NULL is fine */
/* Whether it needs a teacher's maps. Since 0.1. */
KDAS_API int32_t kdas_loss_needs_teacher(const kdas_loss *loss);

/* Maps in host memory, (count,height,width) logits each, shallow to deep; the last one feeds the SGM.
 * Plain value: fill every member. */
typedef struct kdas_maps {
    const float *const *map;
    int32_t             maps; /* 1..8 */
    int64_t             count, height, width;
} kdas_maps;

/* Evaluate: value and gradients (gradients[i]: memory of student map i's size, or NULL). `teacher` may be NULL
 * if no term needs it; maps of another size than the student's are resized to it (bilinear, half-pixel).
 * `masks` is (count,height,width) of 0..1 at the student's size. A term that is on but sends exactly zero is
 * logged as a warning, once. KDAS_ESHAPE, KDAS_ENUMERIC (NaN), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_loss_evaluate(kdas_loss *loss, const kdas_maps *student,
                                        const kdas_maps *teacher, const float *masks,
                                        float *const *gradients, kdas_loss_report *report);
KDAS_END
#endif
