/* kdas/optim.h - optimizers and schedules: rules that turn gradients into parameter updates. */
#ifndef KDAS_OPTIM_H
#define KDAS_OPTIM_H
#include <kdas/model.h>
KDAS_BEGIN

typedef struct kdas_optim kdas_optim;

/* Settings. Call kdas_optim_options_init() first, then change what you need. */
typedef struct kdas_optim_options {
    size_t      size;
    const char *rule; /* "adamw" (default; decoupled decay, PyTorch's order) or "sgd"             */
    float       lr;   /* base learning rate, > 0; default 1e-4                                    */
    float
        weight_decay; /* >= 0; default 1e-4                                                       */
    float beta1, beta2,
        eps;          /* adamw; defaults 0.9, 0.999, 1e-8                                    */
    float   momentum; /* sgd, 0..1; default 0.9                                                   */
    int32_t nesterov; /* sgd; default 0                                                           */
    float   clamp;    /* hold each gradient element within +-clamp; 0: not; default 0.5           */
    float
        clip_norm; /* scale gradients so that their global norm is at most this; 0 (default): not */
    /* parameters whose name has one of these comma-separated parts get no decay, e.g. "bias,norm,bn";
     * NULL (default): all decay */
    const char *no_decay;
    const char *schedule; /* "constant" (default), "step", "cosine", "poly" */
    int64_t warmup; /* updates of warm-up: update t < warmup has (t + 1)/warmup of the rate, and the
                                 schedule counts its updates s = t - warmup from there; default 0         */
    int64_t total;  /* updates of the whole run, for cosine and poly; default 0: must be set    */
    int64_t
        step_every; /* step: updates between drops, >= 1; default 1000                          */
    float
        step_factor; /* step: what the rate is multiplied by, > 0; default 0.1                   */
    float power;     /* poly: (1 - s/(total - warmup))^power; default 0.9                        */
    float lr_min;    /* cosine, poly: the rate never falls below, <= lr; default 0               */
} kdas_optim_options;
KDAS_API void kdas_optim_options_init(kdas_optim_options *options, size_t size);

/* Make an optimizer for the trainable parameters of `model`, which must outlive it. `options` may be NULL
 * and is not kept. KDAS_EINVAL (range), KDAS_ENOTFOUND (rule, schedule), KDAS_ESTATE (model not trainable),
 * KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_optim_create(kdas_optim **out, kdas_model *model,
                                       const kdas_optim_options *options);
KDAS_API void        kdas_optim_destroy(kdas_optim *optim); /* NULL is fine */

/* Update the parameters from their gradients (clip by norm first, then clamp), then advance the schedule.
 * Gradients are left as they are. KDAS_ENUMERIC: a gradient is not finite, the sentence names the first such
 * parameter and nothing was changed. Since 0.1. */
KDAS_API kdas_status kdas_optim_step(kdas_optim *optim);
/* Global L2 norm of the gradients, before any clipping. KDAS_ENUMERIC as above. Since 0.1. */
KDAS_API kdas_status kdas_optim_gradient_norm(kdas_optim *optim, double *out);
/* Updates made so far, and the learning rate of the next one (NULL: 0 and NaN). Since 0.1. */
KDAS_API int64_t kdas_optim_updates(const kdas_optim *optim);
KDAS_API double  kdas_optim_lr(const kdas_optim *optim);
/* Change the base learning rate; the schedule goes on from it. KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_optim_set_lr(kdas_optim *optim, float lr);

/* Learning rate of update `t` (0-based) under `options` (NULL: defaults), without an optimizer: for plots.
 * NaN where the options are out of range or t < 0. Since 0.1. */
KDAS_API double kdas_schedule_lr(const kdas_optim_options *options, int64_t t);
KDAS_END
#endif
