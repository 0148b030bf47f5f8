/* adamw.c - Adam with decoupled weight decay (arXiv 1711.05101), in PyTorch's order of operations:
 *   p -= lr wd p;  m += (1 - b1)(g - m);  v = b2 v + (1 - b2) g^2;
 *   p -= lr / (1 - b1^t)  m / (sqrt(v) / sqrt(1 - b2^t) + eps). */
#include "optim/optim.h"

static int adamw_slots(const kdas_optim_options *options)
{
    (void)options;
    return 2;
}

static kdas_status adamw_step(kdas_optim *optim, const kd_update *update)
{
    const kdas_optim_options *o    = &optim->options;
    kdas_adamw_attr           attr = {
                  .lr           = update->lr,
                  .beta1        = o->beta1,
                  .beta2        = o->beta2,
                  .eps          = o->eps,
                  .weight_decay = update->weight_decay,
                  .grad_scale   = update->grad_scale,
                  .clamp        = o->clamp,
                  .step         = update->step,
    };
    float *blocks[] = { kd_params_values(update->params), kd_params_grads(update->params),
                        update->slot[0], update->slot[1] };

    return kd_optim_run(optim, KDAS_OP_ADAMW, &attr, update, KD_COUNT(blocks), blocks);
}

const kd_optim_rule kd_optim_adamw = {
    .name      = "adamw",
    .slot_name = { "exp_avg", "exp_avg_sq" },
    .slots     = adamw_slots,
    .step      = adamw_step,
};
