/* sgd.c - gradient descent with momentum, in PyTorch's order of operations:
 *   g += wd p;  m = momentum m + g (m = g at first);  p -= lr (nesterov ? g + momentum m : m). */
#include "optim/optim.h"

static int sgd_slots(const kdas_optim_options *options) { return options->momentum > 0; }

static kdas_status sgd_step(kdas_optim *optim, const kd_update *update)
{
    const kdas_optim_options *o    = &optim->options;
    kdas_sgd_attr             attr = {
                    .lr           = update->lr,
                    .momentum     = o->momentum,
                    .weight_decay = update->weight_decay,
                    .grad_scale   = update->grad_scale,
                    .clamp        = o->clamp,
                    .nesterov     = o->nesterov,
                    .step         = update->step,
    };
    float *blocks[] = { kd_params_values(update->params), kd_params_grads(update->params),
                        update->slot[0] };

    return kd_optim_run(optim, KDAS_OP_SGD, &attr, update, KD_COUNT(blocks), blocks);
}

const kd_optim_rule kd_optim_sgd = {
    .name      = "sgd",
    .slot_name = { "momentum_buffer" },
    .slots     = sgd_slots,
    .step      = sgd_step,
};
