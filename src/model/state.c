/* state.c - the state that a training forward changes besides activations: running statistics,
 * batch counters, and the count of forwards that seeds random draws. A copy is kept, so that it
 * can be restored. */
#include "model/state.h"
#include <string.h>
#include "base/process.h"
#include "graph/device.h"
#include "model/model.h"

static kdas_status reserve(kd_model_state *s, const kdas_model *m)
{
    size_t count = (size_t)kd_params_count(m->params);

    if (!s->statistics)
        s->statistics =
            kd_device_alloc(m->ctx, (size_t)kd_params_running(m->params) * sizeof(float));
    if (!s->statistics) return KDAS_ENOMEM;
    if (!s->counter) s->counter = kd_calloc(m->ctx, count, sizeof *s->counter);
    return s->counter ? KDAS_OK : KDAS_ENOMEM;
}

kdas_status kd_model_state_keep(kd_model_state *s, const kdas_model *m)
{
    kd_params *p = m->params;

    s->kept = false;
    KD_RETURN(reserve(s, m));
    KD_RETURN(kd_device_copy(m->ctx, s->statistics, kd_params_values(p) + kd_params_trainable(p),
                             kd_params_running(p)));
    kd_params_read_counters(p, s->counter);
    s->forwards = m->forwards;
    s->version  = kd_params_version(p);
    s->kept     = true;
    return KDAS_OK;
}

kdas_status kd_model_state_put_back(const kd_model_state *s, kdas_model *m)
{
    kd_params *p = m->params;

    if (!s->kept || s->version != kd_params_version(p)) return KDAS_OK;
    m->forwards = s->forwards;
    kd_params_write_counters(p, s->counter);
    kd_params_touch_stats(p);
    return kd_device_copy(m->ctx, kd_params_values(p) + kd_params_trainable(p), s->statistics,
                          kd_params_running(p));
}

void kd_model_state_finish(kd_model_state *s, kdas_context *ctx)
{
    kd_device_free(ctx, s->statistics);
    kd_free(ctx, s->counter);
    *s = (kd_model_state){ 0 };
}

/* ---- for hosts ---- */

kdas_status kdas_model_mark(kdas_model *m)
{
    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_mark: the model is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    return kd_model_state_keep(&m->mark, m);
}

kdas_status kdas_model_rollback(kdas_model *m)
{
    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_rollback: the model is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    if (!m->mark.kept)
        return kd_fail(KDAS_ESTATE, "kdas_model_rollback: no kdas_model_mark() comes before it");
    return kd_model_state_put_back(&m->mark, m);
}
