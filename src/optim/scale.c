/* scale.c - the loss scale. In f16 a gradient below 2^-24 becomes 0, and one below 2^-14 loses
 * digits. Losses are multiplied by the scale, and so are all gradients. The update divides by
 * it. Scales are powers of two, so both are exact. If the scale is too large, gradients
 * overflow. That update is skipped, and the scale is halved. After a set number of updates
 * without overflow the scale is doubled. */
#include <math.h>
#include <string.h>
#include "optim/optim.h"

bool kd_scale_possible(double scale)
{
    int exponent;

    return scale >= 1 && scale <= KD_SCALE_MOST && frexp(scale, &exponent) == 0.5;
}

kdas_status kd_scale_check(const kdas_optim_options *o)
{
    if (o->loss_scale != 0 && !kd_scale_possible((double)o->loss_scale))
        return kd_fail(KDAS_EINVAL,
                       "optimizer: loss_scale is %g, not 0 or a power of two from 1 to %g",
                       (double)o->loss_scale, KD_SCALE_MOST);
    if (o->loss_scale_every < 0)
        return kd_fail(KDAS_EINVAL, "optimizer: loss_scale_every is %d, below 0",
                       (int)o->loss_scale_every);
    return KDAS_OK;
}

void kd_scale_start(kd_loss_scale *s, const kdas_optim_options *o, kdas_dtype type)
{
    bool wanted = o->loss_scale != 0 || type == KDAS_F16;

    *s = (kd_loss_scale){ .value = wanted ? o->loss_scale : 1,
                          .every = wanted ? o->loss_scale_every : 0 };
    if (s->value == 0) s->value = KD_SCALE_F16;
}

bool kd_scale_overflow(kd_loss_scale *s)
{
    if (s->every == 0 || s->value <= 1) return false;
    s->value /= 2;
    s->good = 0;
    s->skipped++;
    return true;
}

void kd_scale_passed(kd_loss_scale *s)
{
    if (s->every == 0 || ++s->good < s->every) return;
    s->value = KD_MIN(2 * s->value, (float)KD_SCALE_MOST);
    s->good  = 0;
}
