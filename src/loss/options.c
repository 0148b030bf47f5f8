/* options.c - the objective's settings: defaults, presets, checks. */
#include <stdio.h>
#include <string.h>
#include "loss/loss.h"

void kdas_loss_options_init(kdas_loss_options *options, size_t size)
{
    kdas_loss_options defaults = { .size            = size,
                                   .seg             = "bce_dice",
                                   .guidance        = "attention+sgm",
                                   .sym             = "covariance",
                                   .axis            = "spatial",
                                   .tau             = 2,
                                   .seg_weight      = 1,
                                   .guidance_weight = 0.2f };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

static const struct {
    const char       *name;
    kdas_loss_options o;
} presets[] = {
    { "paper", { 0, "bce_dice", "attention+sgm", "covariance", "spatial", 2, 1, 0.2f } },
    { "baseline", { 0, "bce_dice", "none", "covariance", "spatial", 2, 1, 0.2f } },
    { "kl", { 0, "bce_dice", "kl", "covariance", "spatial", 2, 1, 0.2f } },
    { "attention", { 0, "bce_dice", "attention", "covariance", "spatial", 2, 1, 0.2f } },
    { "published_code",
      { 0, "structure_published", "published", "sum", "channel", 2, 0.7f, 0.3f } },
};

kdas_status kdas_loss_options_preset(kdas_loss_options *options, const char *preset)
{
    if (!options || !preset)
        return kd_fail(KDAS_EINVAL, "kdas_loss_options_preset: an argument is NULL");
    if (options->size < sizeof options->size)
        return kd_fail(KDAS_EINVAL, "kdas_loss_options: call the init function first");
    for (size_t i = 0; i < KD_COUNT(presets); i++) {
        kdas_loss_options o = presets[i].o;

        if (strcmp(presets[i].name, preset) != 0) continue;
        o.size = options->size;
        memcpy(options, &o, KD_MIN(o.size, sizeof o));
        return KDAS_OK;
    }
    return kd_fail(KDAS_ENOTFOUND, "there is no preset '%.32s'", preset);
}

static kdas_status check(const kdas_loss_options *o)
{
    if (!o->seg || !o->guidance || !o->sym || !o->axis)
        return kd_fail(KDAS_EINVAL, "loss: seg, guidance, sym or axis is NULL");
    if (strcmp(o->sym, "covariance") && strcmp(o->sym, "sum"))
        return kd_fail(KDAS_ENOTFOUND, "there is no symmetrical structure '%.32s'", o->sym);
    if (strcmp(o->axis, "spatial") && strcmp(o->axis, "row") && strcmp(o->axis, "channel"))
        return kd_fail(KDAS_ENOTFOUND, "there is no axis '%.32s'", o->axis);
    if (!(o->tau > 0 && o->tau < 1e6f))
        return kd_fail(KDAS_EINVAL, "loss: tau is %g, not above 0", (double)o->tau);
    if (!(o->seg_weight >= 0 && o->seg_weight < 1e9f))
        return kd_fail(KDAS_EINVAL, "loss: seg_weight is %g, below 0", (double)o->seg_weight);
    if (!(o->guidance_weight >= 0 && o->guidance_weight < 1e9f))
        return kd_fail(KDAS_EINVAL, "loss: guidance_weight is %g, below 0",
                       (double)o->guidance_weight);
    return KDAS_OK;
}

kdas_status kdas_loss_create(kdas_loss **out, kdas_context *ctx, const kdas_loss_options *options)
{
    kdas_loss_options  o;
    kdas_loss         *loss;
    const kd_guidance *guidance;
    const kd_seg      *seg;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_loss_create: out is NULL");
    *out = NULL;
    if (!ctx) return kd_fail(KDAS_EINVAL, "kdas_loss_create: the context is NULL");
    kdas_loss_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_loss_options"));
    KD_RETURN(check(&o));
    if (!(seg = kd_seg_find(o.seg)) || !(guidance = kd_guidance_find(o.guidance)))
        return KDAS_ENOTFOUND;
    loss = kd_calloc(ctx, 1, sizeof *loss);
    if (!loss) return KDAS_ENOMEM;
    loss->ctx      = ctx;
    loss->options  = o;
    loss->seg      = seg;
    loss->guidance = guidance;
    snprintf(loss->seg_name, sizeof loss->seg_name, "%s", o.seg);
    snprintf(loss->guidance_name, sizeof loss->guidance_name, "%s", o.guidance);
    snprintf(loss->sym, sizeof loss->sym, "%s", o.sym);
    snprintf(loss->axis, sizeof loss->axis, "%s", o.axis);
    loss->options.seg      = loss->seg_name;
    loss->options.guidance = loss->guidance_name;
    loss->options.sym      = loss->sym;
    loss->options.axis     = loss->axis;
    loss->arena            = kd_arena_create(ctx);
    loss->weight_arena     = kd_arena_create(ctx);
    loss->found            = kd_device_alloc(ctx, sizeof *loss->found);
    if (!loss->arena || !loss->weight_arena || !loss->found) {
        kdas_loss_destroy(loss);
        return KDAS_ENOMEM;
    }
    *out = loss;
    return KDAS_OK;
}

int32_t kdas_loss_needs_teacher(const kdas_loss *loss)
{
    return loss && (loss->guidance->kd || loss->guidance->sgm);
}
