/* kdas/optim.h - optimizers and schedules: rules that turn gradients into parameter updates. */
#ifndef KDAS_OPTIM_H
#define KDAS_OPTIM_H
#include <kdas/model.h>
KDAS_BEGIN

typedef struct kdas_optim kdas_optim;

/* Settings. Call kdas_optim_options_init() first, then change what you need. */
typedef struct kdas_optim_options {
    size_t      size;     /* set by init; members are only added at the end */
    const char *rule;     /* "adamw" (default; decoupled decay, PyTorch's order) or "sgd" */
    const char *schedule; /* "constant" (default), "step", "cosine" or "poly" */
    /* Comma-separated parts of names, e.g. "bias,norm,bn": parameters whose name contains one get
     * no weight decay. NULL (default): all decay. */
    const char *no_decay;
    /* Warm-up updates: update t < warmup uses (t + 1)/warmup of the rate. The schedule then counts
     * its updates s = t - warmup from 0. Default 0. */
    int64_t warmup;
    int64_t total;             /* cosine, poly: updates in the whole run; default 0, must be set */
    int64_t step_every;        /* step: updates between drops, >= 1; default 1000 */
    float   lr;                /* base learning rate, > 0; default 1e-4 */
    float   weight_decay;      /* >= 0; default 1e-4 */
    float   beta1, beta2, eps; /* adamw; defaults 0.9, 0.999, 1e-8 */
    float   momentum;          /* sgd, 0..1; default 0.9 */
    int32_t nesterov;          /* sgd; default 0 */
    float   clamp;             /* clamp each gradient element to +-clamp; 0: off; default 0.5 */
    float   clip_norm;         /* limit of the global gradient norm; 0 (default): off */
    float   step_factor; /* step: the rate is multiplied by this at each drop, > 0; default 0.1 */
    float   power;       /* poly: (1 - s/(total - warmup))^power; default 0.9 */
    float   lr_min;      /* cosine, poly: lower bound of the rate, <= lr; default 0 */
    /* Loss scale: losses are multiplied by it before the backward pass, so that small gradients
     * survive f16; the update divides by it. A power of two, 1 to 2^24. 0 (default): 65536 if the
     * context computes in f16, else 1 and fixed. See kdas_optim_loss_scale(). Since 0.3. */
    float loss_scale;
    /* The loss scale doubles after this many updates without overflow, up to 2^24. An overflow
     * skips the update and halves the scale, down to 1. 0: the scale is fixed and an overflow is an
     * error. Default 2000. Since 0.3. */
    int32_t loss_scale_every;
} kdas_optim_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_optim_options_init(kdas_optim_options *options, size_t size);

/* Create an optimizer for the trainable parameters of `model`, which must outlive it. `options` may
 * be NULL (defaults) and is not kept. KDAS_EINVAL (range), KDAS_ENOTFOUND (rule, schedule),
 * KDAS_ESTATE (model not trainable), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_optim_create(kdas_optim **out, kdas_model *model,
                                       const kdas_optim_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_optim_destroy(kdas_optim *optim);
/* The model it was created for (NULL: NULL). Since 0.4. */
KDAS_API kdas_model *kdas_optim_model(const kdas_optim *optim);

/* Update the parameters from their gradients, then advance the schedule. Gradients are divided by
 * the loss scale, clipped by norm, then clamped; the stored gradients do not change. KDAS_ENUMERIC:
 * a gradient is not finite; the message names the first such parameter and nothing changes.
 * Since 0.1. With a dynamic loss scale above 1 (since 0.3), a gradient that is not finite is an
 * overflow instead: the update is skipped, the scale is halved and the status is KDAS_OK.
 * Parameters, moments, update count and schedule do not change; kdas_optim_skipped() counts it.
 * Zero the gradients afterwards, as after any update. */
KDAS_API kdas_status kdas_optim_step(kdas_optim *optim);
/* Current loss scale, a power of two; 1 if none is in use (NULL: NaN). Multiply the loss, or the
 * gradients given to kdas_model_backward(), by it; a distiller does so itself. It is constant until
 * the next kdas_optim_step(). Gradients accumulate with it, and kdas_model_read_gradient() returns
 * them with it. Since 0.3. */
KDAS_API double kdas_optim_loss_scale(const kdas_optim *optim);
/* Number of updates skipped for overflow (NULL: 0). Since 0.3. */
KDAS_API int64_t kdas_optim_skipped(const kdas_optim *optim);
/* Global L2 norm of the model's gradients, without the loss scale and before clipping.
 * KDAS_ENUMERIC (a gradient is not finite). Since 0.1. */
KDAS_API kdas_status kdas_optim_gradient_norm(kdas_optim *optim, double *out);
/* Number of updates made, and learning rate of the next one (NULL: 0 and NaN). Since 0.1. */
KDAS_API int64_t kdas_optim_updates(const kdas_optim *optim);
KDAS_API double  kdas_optim_lr(const kdas_optim *optim);
/* Set the base learning rate; the schedule continues from it. KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_optim_set_lr(kdas_optim *optim, float lr);

/* Learning rate of update `t` (0-based) under `options` (NULL: defaults), without an optimizer,
 * e.g. for a plot. NaN if the options are out of range or t < 0. Since 0.1. */
KDAS_API double kdas_schedule_lr(int64_t t, const kdas_optim_options *options);
KDAS_END
#endif
