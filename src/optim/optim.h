/* optim.h - the inside of kdas_optim: state blocks, counters, and what a rule's file defines. */
#ifndef KD_OPTIM_H
#define KD_OPTIM_H
#include <kdas/optim.h>
#include "graph/device.h"
#include "graph/param.h"

#define KD_OPTIM_SLOTS 2 /* most state blocks that a rule keeps */

/* Parameters beside the model's that are trained alike: same rule, rate, decay and clamp, same count of updates. They
 * are clipped to the same norm, but by their own, so that the model's updates do not depend on them. */
typedef struct kd_optim_side {
    kd_params *params;
    float     *slot[KD_OPTIM_SLOTS]; /* device memory, as in kdas_optim */
} kd_optim_side;

/* One call of a rule: a stretch of the flat blocks whose parameters share a weight decay. */
typedef struct kd_update {
    kd_params    *params;
    float *const *slot;
    int64_t       first, count; /* elements                                        */
    float         lr, weight_decay;
    float         grad_scale; /* the gradient is multiplied by this              */
    int64_t       step;       /* 1 for the first update                          */
} kd_update;

typedef struct kd_optim_rule {
    const char *name;
    const char *slot_name[KD_OPTIM_SLOTS];           /* as PyTorch calls its state buffers */
    int (*slots)(const kdas_optim_options *options); /* how many of them are kept */
    kdas_status (*step)(kdas_optim *optim, const kd_update *update);
} kd_optim_rule;

const kd_optim_rule *kd_optim_rule_find(const char *name); /* NULL: none */

/* A run of neighbouring parameters that share a weight decay. */
typedef struct kd_optim_range {
    int64_t first, count; /* elements, the gaps between parameters counted */
    bool    decay;
} kd_optim_range;

/* What losses are multiplied by, and what has become of it. */
typedef struct kd_loss_scale {
    float   value;   /* a power of two, 1 to KD_SCALE_MOST             */
    int32_t every;   /* updates after which it is doubled; 0: it stays */
    int32_t good;    /* updates since it was changed                   */
    int64_t skipped; /* updates, for overflow                          */
} kd_loss_scale;

struct kdas_optim {
    kdas_context        *ctx;
    kd_params           *params;
    kdas_model          *model; /* of the parameters; NULL: they have none around them */
    const kd_optim_rule *rule;
    kdas_optim_options   options; /* strings are static or ours */
    char                *no_decay;
    kd_optim_range      *range;
    size_t               ranges, range_capacity;
    int                  slots;
    float               *slot[KD_OPTIM_SLOTS]; /* device memory, kd_params_trainable() elements */
    double              *squares;              /* device memory, two sums of squares            */
    kd_optim_side       *side;                 /* NULL: none                                    */
    int64_t              updates;
    kd_loss_scale        scale;
};

/* As kdas_optim_create, for parameters without a model around them. */
kdas_status kd_optim_create_for(kdas_optim **out, kdas_context *ctx, kd_params *params,
                                const kdas_optim_options *options);
/* Run an UPDATE kernel on the stretch of `blocks` blocks; a NULL block is an absent operand. */
kdas_status kd_optim_run(kdas_optim *optim, int32_t op, const void *attr, const kd_update *update,
                         int blocks, float *const *block);

/* Check options against each other and their ranges; the strings become static ones, but for
 * no_decay. */
kdas_status kd_optim_check(kdas_optim_options *options);
/* Go on as another optimizer did: its options (checked here; the rule must be the same), its count and
 * its scale (NULL: as the options start it). The state blocks are the caller's to fill. On failure nothing
 * is changed. */
kdas_status kd_optim_restore(kdas_optim *optim, const kdas_optim_options *options, int64_t updates,
                             const kd_loss_scale *scale);

/* ---- side.c ---- */

/* Train `params` (sealed, with gradients) beside the model's, with moments of zero, until kd_optim_side_destroy(), which
 * comes before theirs. KDAS_EINVAL: there are some already. */
kdas_status kd_optim_side_create(kdas_optim *optim, kd_params *params);
void        kd_optim_side_destroy(kdas_optim *optim);
/* Update them by `update`, whose stretch, decay and clipping are set here; `norm` is of their gradients. */
kdas_status kd_optim_side_step(kdas_optim *optim, kd_update update, double norm);

/* optim.c: what side.c needs of it. */
bool   kd_optim_decays(const kdas_optim *optim, const char *name);
double kd_optim_clip(const kdas_optim *optim, double norm); /* what the limit leaves of gradients */

/* ---- scale.c ---- */
#define KD_SCALE_F16  65536.0f   /* where f16 starts */
#define KD_SCALE_MOST 16777216.0 /* 2^24: lifts the least that f16 has to 1 */

bool        kd_scale_possible(double scale);
kdas_status kd_scale_check(const kdas_optim_options *options);
/* As the options have it for networks that compute in `type`. */
void kd_scale_start(kd_loss_scale *scale, const kdas_optim_options *options, kdas_dtype type);
/* The gradients overflowed: true, the update is skipped and the scale halved; false: the scale is not to
 * blame, or fixed. */
bool kd_scale_overflow(kd_loss_scale *scale);
/* An update was made. */
void kd_scale_passed(kd_loss_scale *scale);

/* ---- schedule.c ---- */
/* The static name of a schedule, or NULL. */
const char *kd_schedule_find(const char *name);
/* Learning rate of update t under options that have been checked. */
double kd_schedule_lr(const kdas_optim_options *options, int64_t t);

#endif
