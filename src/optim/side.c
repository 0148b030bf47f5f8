/* side.c - side parameters, trained beside the model's but not part of the model: the
 * projections of feature guidance.
 * It and optim.c call each other: a step updates both sets, by the same rule. */
#include "optim/optim.h"

kdas_status kd_optim_side_create(kdas_optim *optim, kd_params *params)
{
    size_t         bytes = (size_t)kd_params_trainable(params) * sizeof(float);
    kd_optim_side *side;
    kdas_status    st = KDAS_OK;

    if (optim->side)
        return kd_fail(KDAS_EINVAL,
                       "optimizer: it trains the projections of another distiller already");
    side = kd_calloc(optim->ctx, 1, sizeof *side);
    if (!side) return KDAS_ENOMEM;
    side->params = params;
    optim->side  = side;
    for (int i = 0; i < optim->slots && st == KDAS_OK; i++) {
        side->slot[i] = kd_device_alloc(optim->ctx, bytes);
        st = side->slot[i] ? kd_device_zero(optim->ctx, side->slot[i], bytes) : KDAS_ENOMEM;
    }
    if (st != KDAS_OK) kd_optim_side_destroy(optim);
    return st;
}

void kd_optim_side_destroy(kdas_optim *optim)
{
    if (!optim->side) return;
    for (int i = 0; i < KD_OPTIM_SLOTS; i++)
        kd_device_free(optim->ctx, optim->side->slot[i]);
    kd_free(optim->ctx, optim->side);
    optim->side = NULL;
}

kdas_status kd_optim_side_step(kdas_optim *optim, kd_update update, double norm)
{
    kd_optim_side *side = optim->side;

    update.params     = side->params;
    update.slot       = side->slot;
    update.grad_scale = (float)(kd_optim_clip(optim, norm) / (double)optim->scale.value);
    kd_params_touch_update(side->params);
    for (int i = 0; i < kd_params_count(side->params); i++) {
        const kd_param_entry *e = kd_params_at(side->params, i);

        update.first        = e->offset;
        update.count        = e->count;
        update.weight_decay = kd_optim_decays(optim, e->name) ? optim->options.weight_decay : 0;
        KD_RETURN(optim->rule->step(optim, &update));
    }
    return KDAS_OK;
}
