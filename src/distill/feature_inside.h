/* feature_inside.h - feature guidance in a step: taps, projections, and the programs
 * of their sizes. */
#ifndef KD_FEATURE_INSIDE_H
#define KD_FEATURE_INSIDE_H
#include "distill/feature_step.h"
#include "loss/feature.h"
#include "model/model.h"

typedef struct kd_feature_program {
    int64_t        n, h, w; /* of the images */
    kd_program    *program;
    const kd_node *teacher[KD_MAX_PAIRS], *student[KD_MAX_PAIRS], *value;
} kd_feature_program;

/* The results of a step, in device memory. */
typedef struct kd_feature_results {
    double squares[KD_MAX_PAIRS]; /* of a student tap's gradient, before the share */
    float  value, padding[KDAS_ALIGNMENT / sizeof(float) - 1];
} kd_feature_results;

struct kd_feature {
    kdas_context          *ctx;
    const kd_feature_kind *kind;
    int                    pairs;
    kd_feature_pair pair[KD_MAX_PAIRS]; /* names are the models'; shapes of the program last made */
    kd_params      *params;             /* the projections; NULL: the kind has none */
    kd_arena       *arena;
    kd_feature_program **program; /* in the order of their last use */
    size_t               programs, program_capacity;
    kd_feature_results  *results; /* device memory */
    uint64_t             zeroed;  /* student->zeroed when the projections' gradients were */
};

/* The pairs that `text` names (kdas_loss_options.feature_taps), or those of one stride; shapes are
 * left open. KDAS_EINVAL, KDAS_ENOTFOUND. (taps.c) */
kdas_status kd_pair_taps(kd_feature_pair *pair, int *pairs, const kdas_model *teacher,
                         const kdas_model *student, const char *text);

/* "teacher's tap:student's tap,..." of all pairs. */
#define KD_FEATURE_PAIRS 1024
void kd_feature_pairs(char to[KD_FEATURE_PAIRS], const kd_feature *f);

#endif
