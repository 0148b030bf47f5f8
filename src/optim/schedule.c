/* schedule.c - the learning rate as a pure function of the options and the number of the update. */
#include <math.h>
#include <string.h>
#include "base/base.h"
#include "optim/optim.h"

#define PI 3.14159265358979323846

/* For update s after the warm-up: the fraction of the way from the end of the warm-up to the end
 * of the run. */
static double way(const kdas_optim_options *o, int64_t s)
{
    return KD_MIN((double)s / (double)(o->total - o->warmup), 1.0);
}

static double constant_lr(const kdas_optim_options *o, int64_t s)
{
    (void)s;
    return o->lr;
}

static double step_lr(const kdas_optim_options *o, int64_t s)
{
    return o->lr * pow(o->step_factor, (double)(s / o->step_every));
}

static double cosine_lr(const kdas_optim_options *o, int64_t s)
{
    return o->lr_min + (o->lr - o->lr_min) * (1 + cos(PI * way(o, s))) / 2;
}

static double poly_lr(const kdas_optim_options *o, int64_t s)
{
    return KD_MAX(o->lr * pow(1 - way(o, s), o->power), o->lr_min);
}

static const struct {
    const char *name;
    double (*lr)(const kdas_optim_options *o, int64_t s); /* of update s after the warm-up */
} schedules[] = {
    { "constant", constant_lr },
    { "step", step_lr },
    { "cosine", cosine_lr },
    { "poly", poly_lr },
};

const char *kd_schedule_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNT(schedules); i++)
        if (strcmp(schedules[i].name, name) == 0) return schedules[i].name;
    return NULL;
}

double kd_schedule_lr(const kdas_optim_options *o, int64_t t)
{
    double warm = t < o->warmup ? (double)(t + 1) / (double)o->warmup : 1;

    for (size_t i = 0; i < KD_COUNT(schedules); i++)
        if (strcmp(schedules[i].name, o->schedule) == 0)
            return warm * schedules[i].lr(o, KD_MAX(t - o->warmup, 0));
    return NAN;
}

double kdas_schedule_lr(int64_t t, const kdas_optim_options *options)
{
    kdas_optim_options o;

    kdas_optim_options_init(&o, sizeof o);
    if (t < 0 || kd_take_options(&o, sizeof o, options, "kdas_optim_options") != KDAS_OK ||
        kd_optim_check(&o) != KDAS_OK)
        return NAN;
    return kd_schedule_lr(&o, t);
}
