/* train_options.c - the options of a run: defaults and ranges. */
#include <string.h>
#include "distill/train.h"

void kdas_train_options_init(kdas_train_options *options, size_t size)
{
    kdas_train_options defaults = { .size = size, .epochs = 20, .evaluate_ema = 1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

kdas_status kd_train_check_options(const kdas_train_options *o)
{
    if (o->epochs < 1 || o->epochs > INT32_MAX)
        return kd_fail(KDAS_EINVAL, "train: epochs is %lld, not 1 to %d", (long long)o->epochs,
                       INT32_MAX);
    if (o->max_steps < 0)
        return kd_fail(KDAS_EINVAL, "train: max_steps is %lld, below 0", (long long)o->max_steps);
    if (o->save_every < 0)
        return kd_fail(KDAS_EINVAL, "train: save_every is %lld, below 0", (long long)o->save_every);
    if (!(o->ramp_up >= 0 && o->ramp_up < 1e9))
        return kd_fail(KDAS_EINVAL, "train: ramp_up is %g, not from 0 to below 1e9", o->ramp_up);
    if (!(o->ramp_down >= 0 && o->ramp_down < 1e9))
        return kd_fail(KDAS_EINVAL, "train: ramp_down is %g, not from 0 to below 1e9",
                       o->ramp_down);
    if (!(o->freeze_ranges >= 0 && o->freeze_ranges < (double)o->epochs))
        return kd_fail(KDAS_EINVAL,
                       "train: freeze_ranges is %g, not from 0 to below the %lld epochs "
                       "(kdas_model_hold_ranges keeps ranges for a whole run)",
                       o->freeze_ranges, (long long)o->epochs);
    if (o->patience < 0)
        return kd_fail(KDAS_EINVAL, "train: patience is %lld, below 0", (long long)o->patience);
    return KDAS_OK;
}
