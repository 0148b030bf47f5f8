/* kdas/loss.h - the KDAS objective (arXiv 2312.08555, Eq. 1-8): segmentation and guidance terms. */
#ifndef KDAS_LOSS_H
#define KDAS_LOSS_H
#include <kdas/model.h>
KDAS_BEGIN

/* total = seg_weight * seg + guidance_weight * (kd_weight * kd + sgm_weight * sgm) + feature_weight * feature; seg and kd
 * are summed over the maps, feature is the mean over the pairs of taps. See docs/objective.md, docs/guidance.md. */
typedef enum kdas_term {
    KDAS_TERM_SEG     = 0,
    KDAS_TERM_KD      = 1,
    KDAS_TERM_SGM     = 2,
    KDAS_TERM_FEATURE = 3 /* since 0.4 */
} kdas_term;
/* Those that these headers name (a later library may have more: kdas_loss_report.terms), and the room of the arrays in
 * reports, which never changes. */
#define KDAS_TERMS     4
#define KDAS_TERM_ROOM 16

/* Name of a term as in log.csv, "seg". Static; NULL: the library has no such term. Any thread. Since 0.4. */
KDAS_API const char *kdas_term_name(kdas_term term);

#define KDAS_SHARE_OFF (-1.0f) /* kdas_loss_options.share: no limit */

typedef struct kdas_loss_options {
    size_t size;
    /* "bce_dice" (default; Eq. 7), "bce_jaccard" (section 4.2), "structure" (boundary-weighted),
     * "structure_published" (its BCE unweighted, as published code runs) */
    const char *seg;
    const char *guidance; /* "none", "kl", "attention" (Eq. 1-3), "attention+sgm" (default; Eq. 8),
                             "published" (squared difference of P1 + P1^T, and a KL over one channel) */
    const char
        *sym; /* "covariance" (default; Eq. 4, 5), "sum" (A + A^T; square maps only), or since
                       * 0.4 "correlation" (Pearson's, of rows: bounded by 1) */
    const char *axis; /* what a map is a distribution over before KL: "spatial" (default), "row",
                       * "channel" (constant for one-channel maps: a fault, kept to show it), or since
                       * 0.4 "pixel" (each pixel: polyp or background; of logits alone, and not for the SGM) */
    /* The texts from here on, kd_weight, sgm_weight, share and what begins with feature: since 0.4 */
    const char *input; /* what guidance reads: "logits" (default), "probability" (their sigmoid) or
                             * "standardised" (each map less its mean, over its deviation) */
    const char *similarity; /* of rows in attention: "dot" (default; Eq. 1) or "cosine" (10 cos) */
    const char *distance; /* of kd and sgm: "kl" (default; Eq. 3), "squared" or "pearson" (1 - r) */
    float       tau;      /* temperature, > 0; default 2 */
    float       seg_weight;            /* >= 0; default 1             */
    float       guidance_weight;       /* >= 0; default 0.2           */
    float       kd_weight, sgm_weight; /* >= 0; defaults 1 and 1      */
    /* Limit what kd and sgm send: each is scaled down so that the norm of its gradient at the student's maps is at
     * most `share` of seg's, by running means of the norms (decay 0.9) up to the evaluation before. > 0, and seg_weight
     * then too; KDAS_SHARE_OFF (default): no limit */
    float share;
    /* Compare taps of student and teacher: "none" (default), "normalised" (squared error of standardised
     * features), "cosine", "channel" (each channel is a distribution over space) or "attention" (transfer of
     * channel energies; no projection). The student's tap is projected to the teacher's channels, by a 1x1
     * convolution that the optimizer trains, and resized to its height and width. See docs/features.md */
    const char *feature;
    /* Which taps: "teacher:student,...", 1 to 8 pairs of names (kdas_model_tap); NULL (default): for each of the
     * strides 4, 8, 16 and 32, the first tap of that stride in each model, where both have one */
    const char *feature_taps;
    float       feature_weight; /* >= 0; default 1 */
    float       feature_tau;    /* temperature of "channel", > 0; default 4 */
    /* The same limit for features: the norm of their gradient at the student's taps against seg's at the maps.
     * These are different places, so numbers above 1 are usual. > 0; KDAS_SHARE_OFF (default): no limit */
    float   feature_share;
    int32_t reserved; /* 0 */
} kdas_loss_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_loss_options_init(kdas_loss_options *options, size_t size);
/* Fill in a preset: "paper" (the defaults), "baseline" (no guidance), "kl", "attention" (Table 3's rows),
 * "published_code" (what the published script optimises), or since 0.4 "feature" (taps alone) and "kdas" (what
 * bench/RESULTS.md found best; the default of the programs). `size` must be set. KDAS_EINVAL (it is not),
 * KDAS_ENOTFOUND. Since 0.1. */
KDAS_API kdas_status kdas_loss_options_preset(kdas_loss_options *options, const char *preset);

/* What an evaluation found. Set `size`; arrays are indexed by kdas_term, the first `terms` elements of them mean
 * something and the others are 0. */
typedef struct kdas_loss_report {
    size_t  size;
    double  total;
    double  raw[KDAS_TERM_ROOM];      /* the term as the paper writes it                       */
    double  weighted[KDAS_TERM_ROOM]; /* its share of the total                                */
    double  gradient[KDAS_TERM_ROOM]; /* L2 norm of what its share sends to the student's maps */
    int32_t on[KDAS_TERM_ROOM];       /* whether the term is switched on                       */
    int32_t terms;                    /* that the library has                                  */
    int32_t reserved;                 /* 0                                                     */
} kdas_loss_report;

typedef struct kdas_loss kdas_loss;

/* Make an objective. Options may be NULL (defaults), strings are not kept. KDAS_EINVAL (range),
 * KDAS_ENOTFOUND (a name), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_loss_create(kdas_loss **out, kdas_context *context,
                                      const kdas_loss_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_loss_destroy(kdas_loss *loss);
/* Whether it needs a teacher's maps: 1 or 0 (NULL: 0). Since 0.1. */
KDAS_API int32_t kdas_loss_needs_teacher(const kdas_loss *loss);
/* Whether it needs a teacher's taps, so a teacher model (kdas_loss_options.feature): 1 or 0 (NULL: 0). Since 0.4. */
KDAS_API int32_t kdas_loss_needs_taps(const kdas_loss *loss);
/* Multiply all guidance terms by `factor`, >= 0, from the next forward on (1 at first): for ramps of the host's own;
 * kdas_train_options has linear ones. A term under factor 0 is not computed. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_loss_set_guidance_factor(kdas_loss *loss, double factor);
/* The factor in use (NULL: NaN). Since 0.4. */
KDAS_API double kdas_loss_guidance_factor(const kdas_loss *loss);
/* The options that it was made with, defaults filled in; texts are the loss's memory. Set `size` first, as
 * kdas_loss_options_init() does. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_loss_get_options(const kdas_loss *loss, kdas_loss_options *options);

/* The context that it was made in (NULL: NULL). Since 0.4. */
KDAS_API kdas_context *kdas_loss_context(const kdas_loss *loss);
/* Note the running means of the shares (kdas_loss_options.share), and go back to them where one of the micro-batches of an
 * update fails, any number of times. An objective has one mark, the last; a distiller sets its objective's.
 * KDAS_EINVAL; KDAS_ESTATE without a mark. Since 0.4. */
KDAS_API kdas_status kdas_loss_mark(kdas_loss *loss);
KDAS_API kdas_status kdas_loss_rollback(kdas_loss *loss);

/* ---- On maps in host memory ---------------------------------------------------------------------- */

/* Maps in host memory, (count,height,width) logits each, shallow to deep; the last one feeds the SGM.
 * Plain value: fill every member. */
typedef struct kdas_maps {
    const float *const *map;
    int64_t             maps; /* 1..8 */
    int64_t             count, height, width;
} kdas_maps;

/* Evaluate: value and gradients (gradients[i]: memory of student map i's size, or NULL). `teacher` may be NULL
 * if no term needs it; maps of another size than the student's are resized to it (bilinear, half-pixel). Of T
 * teacher's maps, map max(0, T - S + i) guides map i of S: the deepest the deepest, a single one all (since 0.4). Features
 * are not evaluated here: they need models.
 * `masks` is (count,height,width) of 0..1 at the student's size. A term that is on but sends exactly zero is
 * logged as a warning, once. With options.share, an evaluation with gradients moves the running means, and the first one
 * measures before it sends. KDAS_ESHAPE, KDAS_ENUMERIC (NaN), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_loss_evaluate(kdas_loss *loss, const kdas_maps *student,
                                        const kdas_maps *teacher, const float *masks,
                                        float *const *gradients, kdas_loss_report *report);
/* The same with weights of the masks' pixels in the segmentation term, (count,height,width), >= 0, of which each image
 * needs one above 0; NULL: all 1. BCE is then sum(w bce) / sum(w) over an image, Dice and Jaccard sum with w;
 * where a term has weights of the boundary, the two are multiplied. KDAS_EINVAL: weights that are none, or all 0 in
 * an image, which is named. Since 0.4. */
KDAS_API kdas_status kdas_loss_evaluate_weighted(kdas_loss *loss, const kdas_maps *student,
                                                 const kdas_maps *teacher, const float *masks,
                                                 const float *weights, float *const *gradients,
                                                 kdas_loss_report *report);

/* ---- Where the models' outputs are --------------------------------------------------------------- */

typedef struct kdas_loss_run_options {
    size_t size;
    /* What gradients are multiplied by, > 0: 1 / micro-batches, times kdas_optim_loss_scale(); reports are without it;
     * default 1 */
    float scale;
    /* Measure what each term sends (kdas_loss_report.gradient); default 1. Where KD and SGM share their attention, 0
     * spares a second backward of it. With options.share they are measured in any case */
    int32_t gradient_norms;
    /* The host's own teacher, maps of the batch's count, where `teacher` is NULL; read by the call. NULL (default): the
     * batch has the maps, if any */
    const kdas_maps *teacher_maps;
} kdas_loss_run_options;
/* Write the defaults; pass sizeof *options. Since 0.4. */
KDAS_API void kdas_loss_run_options_init(kdas_loss_run_options *options, size_t size);

/* Whether an evaluation on this batch reads a teacher's maps, so that its forward must be run: guidance is on, with a
 * factor above 0, or an image has neither a label nor a map (kdas_batch_set_labelled). 0 for NULL. Since 0.4. */
KDAS_API int32_t kdas_loss_reads_teacher(const kdas_loss *loss, const kdas_batch *batch);
/* Whether kdas_loss_run() could evaluate these, before any forward of them; what it says is what that would say. `batch`
 * NULL: the models alone are looked at. KDAS_EINVAL: not of one context; a model without maps of one channel, where the
 * objective compares maps; a segmentation term, and a batch without masks; maps that are none. KDAS_ESHAPE: the batch's
 * sides, the count of the host's maps. KDAS_ESTATE: a teacher's maps are read, and there are none. Since 0.4. */
KDAS_API kdas_status kdas_loss_check(const kdas_loss *loss, const kdas_model *student,
                                     const kdas_model *teacher, const kdas_batch *batch,
                                     const kdas_loss_run_options *options);
/* Evaluate on what the last forwards of student (EVAL or TRAIN) and teacher on this batch have left, in device memory,
 * and leave the gradients at the student's outputs, for kdas_model_backward(student, NULL); which map guides which,
 * kdas_loss_evaluate() says. Masks, weights and maps of the batch are read where kdas_batch_upload() has put them, else
 * uploaded. Images without a label learn from the teacher, through the host. `teacher` NULL: the maps are
 * options->teacher_maps, or the batch's; where no maps are read (kdas_loss_reads_teacher) it need not have run. Features
 * are not evaluated.
 * `options` may be NULL. `report` may be NULL: then a device with memory of its own is read only for the norms that a
 * share needs, and values are not checked. With options.share, running means move. After the first call of a size
 * nothing is allocated. As kdas_loss_check(), and KDAS_ESTATE: a forward is missing, its outputs are gone, or it had its
 * backward; KDAS_ESHAPE: it was on another size; KDAS_ENUMERIC, KDAS_ENOMEM, KDAS_ECANCELLED, KDAS_EBACKEND. Running
 * means stay as they were where it fails. Since 0.4. */
KDAS_API kdas_status kdas_loss_run(kdas_loss *loss, kdas_model *student, kdas_model *teacher,
                                   kdas_batch *batch, const kdas_loss_run_options *options,
                                   kdas_loss_report *report);
KDAS_END
#endif
