/* optim.h - the internals of kdas_optim: state blocks, counters, and the definition that a
 * rule's file supplies. */
#ifndef KD_OPTIM_H
#define KD_OPTIM_H
#include <kdas/optim.h>
#include "graph/device.h"
#include "graph/param.h"

#define KD_OPTIM_SLOTS 2 /* the most state blocks that a rule keeps */

/* Side parameters, trained beside the model's with the same rule, rate, decay, clamp and update
 * count. They are clipped to the same limit by their own norm, so that the model's updates do
 * not depend on them. */
typedef struct kd_optim_side {
    kd_params *params;
    float     *slot[KD_OPTIM_SLOTS]; /* device memory, as in kdas_optim */
} kd_optim_side;

/* One call of a rule, on a range of the flat blocks whose parameters share a weight decay. */
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

/* A range of adjacent parameters that share a weight decay. */
typedef struct kd_optim_range {
    int64_t first, count; /* elements, including gaps between parameters */
    bool    decay;
} kd_optim_range;

/* The loss scale and its history. */
typedef struct kd_loss_scale {
    float   value;   /* a power of two, 1 to KD_SCALE_MOST             */
    int32_t every;   /* updates after which it is doubled; 0: it stays */
    int32_t good;    /* updates since it was changed                   */
    int64_t skipped; /* updates skipped on overflow                    */
} kd_loss_scale;

struct kdas_optim {
    kdas_context        *ctx;
    kd_params           *params;
    kdas_model          *model; /* owner of the parameters; NULL: no model */
    const kd_optim_rule *rule;
    kdas_optim_options   options; /* strings are static or owned */
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

/* The same as kdas_optim_create, for parameters without a model. */
kdas_status kd_optim_create_for(kdas_optim **out, kdas_context *ctx, kd_params *params,
                                const kdas_optim_options *options);
/* Run an UPDATE kernel on the range of `blocks` blocks. A NULL block is an absent operand. */
kdas_status kd_optim_run(kdas_optim *optim, int32_t op, const void *attr, const kd_update *update,
                         int blocks, float *const *block);

/* Check options against each other and their ranges. The strings except no_decay become static
 * ones. */
kdas_status kd_optim_check(kdas_optim_options *options);
/* Continue from another optimizer's options (checked here; the rule must be the same), count and
 * scale (NULL: the initial scale of the options). The caller fills the state blocks. On failure
 * nothing is changed. */
kdas_status kd_optim_restore(kdas_optim *optim, const kdas_optim_options *options, int64_t updates,
                             const kd_loss_scale *scale);

/* ---- side.c ---- */

/* Train `params` (sealed, with gradients) beside the model's, with moments of zero. Call
 * kd_optim_side_destroy() before `params` are destroyed. KDAS_EINVAL: there are side parameters
 * already. */
kdas_status kd_optim_side_create(kdas_optim *optim, kd_params *params);
void        kd_optim_side_destroy(kdas_optim *optim);
/* Update the side parameters by `update`. Its range, decay and clipping are set here. `norm` is
 * the norm of their gradients. */
kdas_status kd_optim_side_step(kdas_optim *optim, kd_update update, double norm);

/* optim.c: functions that side.c needs. */
bool   kd_optim_decays(const kdas_optim *optim, const char *name);
double kd_optim_clip(const kdas_optim *optim, double norm); /* factor that clips the gradients */

/* ---- scale.c ---- */
#define KD_SCALE_F16  65536.0f   /* the initial scale of f16 */
#define KD_SCALE_MOST 16777216.0 /* 2^24: scales the smallest f16 to 1 */

bool        kd_scale_possible(double scale);
kdas_status kd_scale_check(const kdas_optim_options *options);
/* The initial scale by the options, for networks that compute in `type`. */
void kd_scale_start(kd_loss_scale *scale, const kdas_optim_options *options, kdas_dtype type);
/* The gradients overflowed. True: the scale is halved, and the update is skipped. False: the
 * scale is not the cause, or it is fixed. */
bool kd_scale_overflow(kd_loss_scale *scale);
/* An update was made. */
void kd_scale_passed(kd_loss_scale *scale);

/* ---- schedule.c ---- */
/* The static name of a schedule, or NULL. */
const char *kd_schedule_find(const char *name);
/* Learning rate of update t. The options have been checked. */
double kd_schedule_lr(const kdas_optim_options *options, int64_t t);

#endif
