/* average.c - a moving average of the student: after every update each parameter and
 * running statistic, and each range of a grid, moves a fraction of the way to the student's value.
 * The batch counters are the student's. */
#include <string.h>
#include "base/process.h"
#include "distill/distiller.h"
#include "graph/device.h"
#include "op/op.h"
#include "model/model.h"
#include "optim/optim.h"

kdas_status kd_average_init(kdas_distiller *d)
{
    size_t bytes = (size_t)kd_params_total(d->student->params) * sizeof(float);

    if (d->options.ema == 0) return KDAS_OK;
    d->average.values = kd_device_alloc(d->ctx, bytes);
    return d->average.values ? KDAS_OK : KDAS_ENOMEM;
}

void kd_average_finish(kdas_distiller *d) { kd_device_free(d->ctx, d->average.values); }

/* The fraction of update t: 1 - min(ema, (1 + t) / (10 + t)). So the average forgets its
 * initial value quickly. */
static float update_fraction(float ema, int64_t t)
{
    double warm = (1 + (double)t) / (10 + (double)t);

    return (float)(1 - KD_MIN((double)ema, warm));
}

kdas_status kd_average_update(kdas_distiller *d)
{
    kd_params      *params = d->student->params;
    int64_t         n      = kd_params_total(params);
    kdas_desc       block  = { .dtype = KDAS_F32, .rank = 1, .dim = { n, 1, 1, 1 } };
    kdas_scale_attr attr   = { .factor = 1 };
    kdas_node_desc  node   = {
           .op = KDAS_OP_LERP, .inputs = 2, .attr = &attr, .in = { block, block }
    };
    kdas_call call = { .node = &node, .in = { d->average.values, kd_params_values(params) } };

    if (!d->average.values) return KDAS_OK;
    if (d->average.begun)
        attr.factor = update_fraction(d->options.ema, kdas_optim_updates(d->optim));
    else /* fraction 1 on zeros copies the student */
        KD_RETURN(kd_device_zero(d->ctx, d->average.values, (size_t)n * sizeof(float)));
    KD_RETURN(kd_device_update(d->ctx, &kd_update_lerp, &call));
    d->average.begun = true;
    return KDAS_OK;
}

/* A tensor of the average, through host memory. Ranges of grids are nothing to a model without. */
static kdas_status read_tensor(kdas_distiller *d, int i, kd_params *to, float *values)
{
    const kd_param_entry *e = kd_params_at(d->student->params, i);
    int                   k = kd_params_find(to, e->name);

    if (k < 0) return KDAS_OK;
    if (e->init.kind == KD_COUNTER || !d->average.begun)
        KD_RETURN(kd_params_read(d->student->params, i, values));
    else
        KD_RETURN(kd_device_download(d->ctx, values, d->average.values + e->offset,
                                     (size_t)e->count * sizeof(float)));
    return kd_params_write(to, k, values);
}

kdas_status kdas_distiller_read_average(kdas_distiller *d, kdas_model *to)
{
    kd_model_facts facts = { 0 };
    float         *values;
    kdas_status    st = KDAS_OK;

    if (!d || !to)
        return kd_fail(KDAS_EINVAL, "kdas_distiller_read_average: the %s is NULL",
                       d ? "model" : "distiller");
    KD_RETURN(kd_check_process(d->ctx));
    if (!d->average.values)
        return kd_fail(KDAS_ESTATE, "the distiller keeps no average (ema is 0)");
    if (to->def != d->student->def)
        return kd_fail(KDAS_EINVAL, "'%s' cannot take the average of '%s'", to->def->name,
                       d->student->def->name);
    values = kd_alloc(d->ctx, (size_t)kd_params_total(d->student->params) * sizeof *values);
    if (!values) return KDAS_ENOMEM;
    KD_TRY(kd_model_facts_add(&facts, to->ctx, &d->student->facts, false));
    for (int i = 0; i < kd_params_count(d->student->params); i++)
        KD_TRY(read_tensor(d, i, to->params, values));
    kd_params_touch_stats(to->params);
    kd_model_facts_take(to, &facts);
done:
    kd_model_facts_clear(&facts, to->ctx);
    kd_free(d->ctx, values);
    return st;
}
