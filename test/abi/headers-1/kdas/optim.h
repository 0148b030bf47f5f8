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
    const char *schedule; /* "constant" (default), "step", "cosine", "poly"                       */
    /* parameters whose name has one of these comma-separated parts get no decay, e.g. "bias,norm,bn";
     * NULL (default): all decay */
    const char *no_decay;
    int64_t warmup; /* updates of warm-up: update t < warmup has (t + 1)/warmup of the rate, and the
                                 schedule counts its updates s = t - warmup from there; default 0         */
    int64_t total;  /* updates of the whole run, for cosine and poly; default 0: must be set    */
    int64_t
          step_every; /* step: updates between drops, >= 1; default 1000                          */
    float lr;         /* base learning rate, > 0; default 1e-4                                    */
    float
        weight_decay; /* >= 0; default 1e-4                                                       */
    float beta1, beta2,
        eps;          /* adamw; defaults 0.9, 0.999, 1e-8                                    */
    float   momentum; /* sgd, 0..1; default 0.9                                                   */
    int32_t nesterov; /* sgd; default 0                                                           */
    float   clamp;    /* hold each gradient element within +-clamp; 0: not; default 0.5           */
    float
        clip_norm; /* scale gradients so that their global norm is at most this; 0 (default): not */
    float
        step_factor; /* step: what the rate is multiplied by, > 0; default 0.1                   */
    float power;     /* poly: (1 - s/(total - warmup))^power; default 0.9                        */
    float lr_min;    /* cosine, poly: the rate never falls below, <= lr; default 0               */
    /* What losses are multiplied by before the backward pass, so that small gradients survive f16; the update
     * divides by it. A power of two, 1 to 2^24; 0 (default): 65536 where the context computes in f16, else 1
     * and fixed. See kdas_optim_loss_scale. Since 0.3. */
    float loss_scale;
    /* Updates without overflow after which the scale is doubled, up to 2^24; an overflow skips the update
     * and halves the scale, down to 1. 0: it is fixed, and overflow an error. Default 2000. Since 0.3. */
    int32_t loss_scale_every;
} kdas_optim_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_optim_options_init(kdas_optim_options *options, size_t size);

/* Make an optimizer for the trainable parameters of `model`, which must outlive it. `options` may be NULL
 * and is not kept. KDAS_EINVAL (range), KDAS_ENOTFOUND (rule, schedule), KDAS_ESTATE (model not trainable),
 * KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_optim_create(kdas_optim **out, kdas_model *model,
                                       const kdas_optim_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_optim_destroy(kdas_optim *optim);
/* The model that it was made for (NULL: NULL). Since 0.4. */
KDAS_API kdas_model *kdas_optim_model(const kdas_optim *optim);

/* Update the parameters from their gradients (divided by the loss scale, clipped by norm, then clamped), then
 * advance the schedule. Gradients are left as they are. KDAS_ENUMERIC: a gradient is not finite, the sentence
 * names the first such parameter and nothing was changed. Since 0.1.
 * Since 0.3, where the loss scale is not fixed and above 1: a gradient that is not finite is an overflow; the
 * update is skipped (parameters, moments, count and schedule stay as they are), counted in kdas_optim_skipped, and
 * the scale halved; the status is KDAS_OK. Zero the gradients after it as after any update. */
KDAS_API kdas_status kdas_optim_step(kdas_optim *optim);
/* What to multiply a loss, or the gradients given to kdas_model_backward, by, until the next kdas_optim_step; a
 * distiller does it itself. All of an update's gradients are gathered under one scale, those that
 * kdas_model_read_gradient shows among them. A power of two; 1 where no scale is in use (NULL: NaN). Since 0.3. */
KDAS_API double kdas_optim_loss_scale(const kdas_optim *optim);
/* Updates skipped so far for overflow (NULL: 0). Since 0.3. */
KDAS_API int64_t kdas_optim_skipped(const kdas_optim *optim);
/* Global L2 norm of the model's gradients, without the loss scale, before any clipping. KDAS_ENUMERIC: one is not finite.
 * Since 0.1. */
KDAS_API kdas_status kdas_optim_gradient_norm(kdas_optim *optim, double *out);
/* Updates made so far, and the learning rate of the next one (NULL: 0 and NaN). Since 0.1. */
KDAS_API int64_t kdas_optim_updates(const kdas_optim *optim);
KDAS_API double  kdas_optim_lr(const kdas_optim *optim);
/* Change the base learning rate; the schedule goes on from it. KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_optim_set_lr(kdas_optim *optim, float lr);

/* Learning rate of update `t` (0-based) under `options` (NULL: defaults), without an optimizer: for plots.
 * NaN where the options are out of range or t < 0. Since 0.1. */
KDAS_API double kdas_schedule_lr(int64_t t, const kdas_optim_options *options);
KDAS_END
#endif
