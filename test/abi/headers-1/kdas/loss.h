/* kdas/loss.h - the KDAS objective (arXiv 2312.08555, Eq. 1-8): segmentation and guidance terms. */
#ifndef KDAS_LOSS_H
#define KDAS_LOSS_H
#include <kdas/model.h>
KDAS_BEGIN

/* total = seg_weight * seg + guidance_weight * (kd_weight * kd + sgm_weight * sgm)
 *       + feature_weight * feature
 * seg and kd are sums over the maps. feature is the mean over the pairs of taps. See
 * docs/objective.md and docs/guidance.md. */
typedef enum kdas_term {
    KDAS_TERM_SEG     = 0,
    KDAS_TERM_KD      = 1,
    KDAS_TERM_SGM     = 2,
    KDAS_TERM_FEATURE = 3 /* since 0.4 */
} kdas_term;
/* Number of terms in these headers; a newer library may have more (kdas_loss_report.terms). The
 * room of arrays in reports never changes. */
#define KDAS_TERMS     4
#define KDAS_TERM_ROOM 16

/* Name of a term as in log.csv, "seg". Static; NULL if there is no such term. Any thread.
 * Since 0.4. */
KDAS_API const char *kdas_term_name(kdas_term term);

#define KDAS_SHARE_OFF (-1.0f) /* kdas_loss_options.share: no limit */

typedef struct kdas_loss_options {
    size_t size;
    /* Segmentation loss: "bce_dice" (default; Eq. 7), "bce_jaccard" (section 4.2), "structure"
     * (boundary-weighted) or "structure_published" (with unweighted BCE, as in published code). */
    const char *seg;
    /* Map guidance: "none", "kl", "attention" (Eq. 1-3), "attention+sgm" (default; Eq. 8) or
     * "published" (squared difference of P1 + P1^T, and a KL over one channel). */
    const char *guidance;
    /* Structure that the SGM compares: "covariance" (default; Eq. 4, 5), "sum" (A + A^T; square
     * maps only) or, since 0.4, "correlation" (Pearson's, of rows; bounded by 1). */
    const char *sym;
    /* What KL treats as one distribution: "spatial" (default; the whole map), "row", "channel" or,
     * since 0.4, "pixel" (polyp or background at each pixel; for input "logits" only, and not for
     * the SGM). "channel" is constant for one-channel maps; this known fault is kept for
     * comparison. */
    const char *axis;
    /* What guidance reads: "logits" (default), "probability" (their sigmoid) or "standardised"
     * (each map minus its mean, divided by its deviation). The strings from here on, kd_weight,
     * sgm_weight, share and feature* are since 0.4. */
    const char *input;
    const char *similarity; /* of rows in attention: "dot" (default; Eq. 1) or "cosine" (10 cos) */
    const char *distance;   /* of kd, sgm: "kl" (default; Eq. 3), "squared" or "pearson" (1 - r) */
    /* Which map of the teacher guides which of the student, where T and S are their numbers: "deep"
     * (default): teacher map max(0, T - S + i) guides student map i, so the deepest guides the
     * deepest, and a single one guides all. "spread": the first guides the first, the deepest the
     * deepest, those between in proportion: map i (T - 1) / (S - 1), rounded; a single student map
     * is guided by the deepest. "answer": the teacher's answer guides every map of the student: the
     * sum of its maps from kdas_model_answer() on; of maps that are no model's (kdas_maps), the
     * sum of all. */
    const char *pair;
    float       tau;                   /* temperature, > 0; default 2 */
    float       seg_weight;            /* >= 0; default 1 */
    float       guidance_weight;       /* >= 0; default 0.2 */
    float       kd_weight, sgm_weight; /* >= 0; default 1 and 1 */
    /* Limit for kd and sgm: each is scaled down so that the norm of its gradient at the
     * student's maps is at most `share` times that of seg. Norms are running means (decay 0.9) up
     * to the previous evaluation. > 0, and seg_weight must be > 0 too; KDAS_SHARE_OFF (default): no
     * limit. */
    float share;
    /* Feature guidance compares taps of student and teacher: "none" (default), "normalised"
     * (squared error of standardised features), "cosine", "channel" (each channel is a distribution
     * over space) or "attention" (transfer of channel energies; no projection). The student's tap
     * is projected to the teacher's channels by a 1x1 convolution, which the optimizer trains, and
     * resized to the teacher's height and width. See docs/features.md. */
    const char *feature;
    /* Pairs of taps, "teacher:student,...", 1 to 8, by names of kdas_model_tap(). NULL (default):
     * for each of the strides 4, 8, 16 and 32 that both models have, the first tap of that stride
     * in each; where they share none of these, that of stride 2, else of stride 1. */
    const char *feature_taps;
    float       feature_weight; /* >= 0; default 1 */
    float       feature_tau;    /* temperature of "channel", > 0; default 4 */
    /* The limit `share` for features: the norm of their gradient at the student's taps, relative to
     * seg's at the maps. The places differ, so values above 1 are usual. > 0; KDAS_SHARE_OFF
     * (default): no limit. */
    float   feature_share;
    int32_t reserved; /* 0 */
} kdas_loss_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_loss_options_init(kdas_loss_options *options, size_t size);
/* Fill in a preset: "paper" (the defaults), "baseline" (no guidance), "kl" and "attention" (rows of
 * Table 3), "published_code" (what the published script optimises) or, since 0.4, "feature" (taps
 * only) and "kdas" (the best in bench/RESULTS.md; default of the programs). Set `size` first.
 * KDAS_EINVAL (size not set), KDAS_ENOTFOUND. Since 0.1. */
KDAS_API kdas_status kdas_loss_options_preset(kdas_loss_options *options, const char *preset);

/* Write the options in words: the preset that is nearest, and what differs from it, "kdas" or
 * "paper with tau 4, axis row". At most `size` bytes with the terminator; what does not fit is cut
 * off. It is not read back: names and form may change. KDAS_EINVAL (NULL, size not set). Since
 * 0.4. */
KDAS_API kdas_status kdas_loss_options_describe(const kdas_loss_options *options, char *text,
                                                size_t size);

/* Result of an evaluation. Set `size`. Arrays are indexed by kdas_term; the first `terms` elements
 * are valid, the others are 0. */
typedef struct kdas_loss_report {
    size_t size;
    double total;
    double raw[KDAS_TERM_ROOM];      /* the term as in the paper */
    double weighted[KDAS_TERM_ROOM]; /* its contribution to the total */
    /* L2 norm of the contribution's gradient at the student's maps */
    double  gradient[KDAS_TERM_ROOM];
    int32_t on[KDAS_TERM_ROOM]; /* whether the term is on */
    int32_t terms;              /* number of terms in the library */
    int32_t reserved;           /* 0 */
} kdas_loss_report;

typedef struct kdas_loss kdas_loss;

/* Create an objective. `options` may be NULL (defaults); it and its strings are not kept.
 * KDAS_EINVAL (range), KDAS_ENOTFOUND (a name), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_loss_create(kdas_loss **out, kdas_context *context,
                                      const kdas_loss_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_loss_destroy(kdas_loss *loss);
/* Whether it needs teacher maps: 1 or 0 (NULL: 0). Since 0.1. */
KDAS_API int32_t kdas_loss_needs_teacher(const kdas_loss *loss);
/* Whether it needs teacher taps, and so a teacher model (kdas_loss_options.feature): 1 or 0 (NULL:
 * 0). Since 0.4. */
KDAS_API int32_t kdas_loss_needs_taps(const kdas_loss *loss);
/* Multiply all guidance terms by `factor`, >= 0, from the next forward on; initially 1. For the
 * host's own ramps; kdas_train_options has linear ones. With factor 0 the terms are not computed.
 * KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_loss_set_guidance_factor(kdas_loss *loss, double factor);
/* Current guidance factor (NULL: NaN). Since 0.4. */
KDAS_API double kdas_loss_guidance_factor(const kdas_loss *loss);
/* Read the options it was created with, defaults filled in. Strings belong to the loss. Set `size`
 * first, as kdas_loss_options_init() does. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_loss_get_options(const kdas_loss *loss, kdas_loss_options *options);

/* The context it was created in (NULL: NULL). Since 0.4. */
KDAS_API kdas_context *kdas_loss_context(const kdas_loss *loss);
/* Save and restore the running means of the shares (kdas_loss_options.share). Roll back if a
 * micro-batch of an update fails; any number of times. An objective has one mark, the last; a
 * distiller sets its objective's. KDAS_EINVAL, KDAS_ESTATE (no mark). Since 0.4. */
KDAS_API kdas_status kdas_loss_mark(kdas_loss *loss);
KDAS_API kdas_status kdas_loss_rollback(kdas_loss *loss);

/* ---- Evaluate on maps in host memory --------------------------------------------------------- */

/* Maps in host memory, (count,height,width) logits each, shallow to deep. The last one feeds the
 * SGM. Plain value: fill every member. */
typedef struct kdas_maps {
    const float *const *map;
    int64_t             maps; /* 1..8 */
    int64_t             count, height, width;
} kdas_maps;

/* Compute the loss and its gradients. gradients[i] has the size of student map i, or is NULL.
 * `masks` is (count,height,width), 0..1, at the student's size. Features are not evaluated: they
 * need models.
 * `teacher` may be NULL if no term needs it. Teacher maps of another size are resized to the
 * student's (bilinear, half-pixel). kdas_loss_options.pair says which guides which (since 0.4).
 * With options.share, an evaluation with gradients updates the running means. The first one
 * measures the norms before it applies the limit. A term that is on but has a gradient of exactly
 * zero is logged once, as a warning.
 * KDAS_ESHAPE, KDAS_ENUMERIC (NaN), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_loss_evaluate(kdas_loss *loss, const kdas_maps *student,
                                        const kdas_maps *teacher, const float *masks,
                                        float *const *gradients, kdas_loss_report *report);
/* kdas_loss_evaluate() with pixel weights in the segmentation term, (count,height,width), >= 0, at
 * least one above 0 per image. NULL: all 1. BCE becomes sum(w bce) / sum(w) per image; the sums of
 * Dice and Jaccard are weighted with w. Boundary weights, if the term has them, are multiplied by
 * w. KDAS_EINVAL (invalid weights, or all 0 in an image; the message names it), and as
 * kdas_loss_evaluate(). Since 0.4. */
KDAS_API kdas_status kdas_loss_evaluate_weighted(kdas_loss *loss, const kdas_maps *student,
                                                 const kdas_maps *teacher, const float *masks,
                                                 const float *weights, float *const *gradients,
                                                 kdas_loss_report *report);

/* ---- Evaluate on the models' device ---------------------------------------------------------- */

typedef struct kdas_loss_run_options {
    size_t size;
    /* Factor of the gradients, > 0: 1 / micro-batches, times kdas_optim_loss_scale(). Reports are
     * without it. Default 1. */
    float scale;
    /* Measure the gradient norm of each term (kdas_loss_report.gradient); default 1. With 0, KD and
     * SGM share the backward of their common attention. With options.share norms are always
     * measured. */
    int32_t gradient_norms;
    /* The host's own teacher maps, one set for the batch's count, if `teacher` is NULL. Read during
     * the call. NULL (default): the batch's maps, if any. */
    const kdas_maps *teacher_maps;
} kdas_loss_run_options;
/* Write the defaults; pass sizeof *options. Since 0.4. */
KDAS_API void kdas_loss_run_options_init(kdas_loss_run_options *options, size_t size);

/* Whether an evaluation on this batch reads teacher maps, so that the teacher's forward must run: 1
 * or 0. It does if guidance is on with a factor above 0, or if an image has neither a label nor a
 * map (kdas_batch_set_labelled). 0 for NULL. Since 0.4. */
KDAS_API int32_t kdas_loss_reads_teacher(const kdas_loss *loss, const kdas_batch *batch);
/* Check whether kdas_loss_run() can evaluate these, before any forward; the errors are those of
 * kdas_loss_run(). `batch` NULL: check only the models. KDAS_EINVAL: different contexts; a model
 * without one-channel maps although the objective compares maps; a segmentation term and a batch
 * without masks; invalid maps. KDAS_ESHAPE: the batch's height or width, which a network does not
 * take; two networks that take only one size, and not the same; the count of the host's maps.
 * KDAS_ESTATE: teacher maps are needed and there are none. Since 0.4. */
KDAS_API kdas_status kdas_loss_check(const kdas_loss *loss, const kdas_model *student,
                                     const kdas_model *teacher, const kdas_batch *batch,
                                     const kdas_loss_run_options *options);
/* Evaluate on the outputs of the last forwards of student (EVAL or TRAIN) and teacher on this
 * batch, in device memory. Gradients stay at the student's outputs, for
 * kdas_model_backward(student, NULL). Maps are paired as in kdas_loss_evaluate(). Features are not
 * evaluated.
 * Batch: masks, weights and maps are read where kdas_batch_upload() put them, else uploaded. Images
 * without a label learn from the teacher, through host memory.
 * `teacher` may be NULL: the maps are then options->teacher_maps, or the batch's. If no maps are
 * read (kdas_loss_reads_teacher), the teacher need not have run.
 * `options` and `report` may be NULL. On a GPU with a NULL report only the norms for options.share
 * are read back, and values are not checked. options.share updates its running means. Nothing is
 * allocated after the first call of a size.
 * Errors of kdas_loss_check(); also KDAS_ESTATE (a forward is missing, was on another batch or on
 * this one before a call changed it; its outputs are gone, or its backward has run), KDAS_ESHAPE
 * (the forward had another size), KDAS_ENUMERIC, KDAS_ENOMEM, KDAS_ECANCELLED, KDAS_EBACKEND. On
 * failure the running means are unchanged. Since 0.4. */
KDAS_API kdas_status kdas_loss_run(kdas_loss *loss, kdas_model *student, kdas_model *teacher,
                                   kdas_batch *batch, const kdas_loss_run_options *options,
                                   kdas_loss_report *report);
KDAS_END
#endif
