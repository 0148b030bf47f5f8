/* tensors.c - a model's parameters and buffers by name: read, write, load, save, copy. */
#include <string.h>
#include "base/process.h"
#include "graph/profile.h"
#include "model/model.h"

int64_t kdas_model_parameters(const kdas_model *m) { return m ? kd_params_numbers(m->params) : 0; }
int32_t kdas_model_tensors(const kdas_model *m) { return m ? kd_params_count(m->params) : 0; }

const char   *kdas_model_network(const kdas_model *m) { return m ? m->def->name : NULL; }
kdas_context *kdas_model_context(const kdas_model *m) { return m ? m->ctx : NULL; }

static bool has_tensor(const kdas_model *m, int32_t i)
{
    return m && i >= 0 && i < kd_params_count(m->params);
}

const char *kdas_model_tensor(const kdas_model *m, int32_t i, int32_t *rank, int64_t *dims,
                              int32_t *trainable)
{
    const kd_param_entry *e;

    if (!has_tensor(m, i)) return NULL;
    e = kd_params_at(m->params, i);
    if (rank) *rank = e->rank;
    if (dims) memcpy(dims, e->dim, sizeof e->dim);
    if (trainable) *trainable = e->init.kind == KD_TRAINABLE;
    return e->name;
}

int32_t kdas_model_idle(const kdas_model *m, int32_t i)
{
    return has_tensor(m, i) && kd_param_is_idle(kd_params_at(m->params, i));
}

int32_t kdas_model_find(const kdas_model *m, const char *name)
{
    return m && name ? kd_params_find(m->params, name) : -1;
}

static kdas_status check_tensor(const kdas_model *m, int32_t i, const void *memory)
{
    if (!m || !memory) return kd_fail(KDAS_EINVAL, "model or memory is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    if (!has_tensor(m, i))
        return kd_fail(KDAS_EINVAL, "'%s' has no tensor %d, only %d", m->def->name, i,
                       kd_params_count(m->params));
    return KDAS_OK;
}

kdas_status kdas_model_read(const kdas_model *m, int32_t i, float *to)
{
    KD_RETURN(check_tensor(m, i, to));
    return kd_params_read(m->params, i, to);
}

kdas_status kdas_model_write(kdas_model *m, int32_t i, const float *from)
{
    KD_RETURN(check_tensor(m, i, from));
    if (kd_params_at(m->params, i)->init.kind == KD_COUNTER && !kd_is_counter_value(*from))
        return kd_fail(KDAS_EINVAL, "'%s' is a number of batches, 0 to 2^53, which %g is not",
                       kd_params_at(m->params, i)->name, (double)*from);
    return kd_params_write(m->params, i, from);
}

kdas_status kdas_model_hash(const kdas_model *m, uint64_t *out)
{
    uint64_t    hash  = 0;
    float      *value = NULL;
    size_t      room  = 0;
    kdas_status st    = KDAS_OK;

    if (!m || !out)
        return kd_fail(KDAS_EINVAL, "kdas_model_hash: the %s is NULL", m ? "output" : "model");
    KD_RETURN(kd_check_process(m->ctx));
    for (int i = 0; i < kd_params_count(m->params); i++) {
        const kd_param_entry *e     = kd_params_at(m->params, i);
        size_t                count = (size_t)e->count;

        KD_TRY(kd_grow(m->ctx, (void **)&value, &room, count, sizeof *value));
        KD_TRY(kd_params_read(m->params, i, value));
        hash = kd_mix64(hash ^ kd_hash64(e->name));
        hash = kd_mix64(hash ^ kd_hash_bytes(e->dim, (size_t)e->rank * sizeof *e->dim));
        hash = kd_mix64(hash ^ kd_hash_bytes(value, count * sizeof *value));
    }
    *out = hash;
done:
    kd_free(m->ctx, value);
    return st;
}

static kdas_status check_trainable(const kdas_model *m)
{
    if (!m) return kd_fail(KDAS_EINVAL, "the model is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    if (!kd_params_grads(m->params))
        return kd_fail(KDAS_ESTATE, "model '%s' was made without gradients (trainable = 0)",
                       m->def->name);
    return KDAS_OK;
}

kdas_status kdas_model_read_gradient(const kdas_model *m, int32_t i, float *to)
{
    KD_RETURN(check_tensor(m, i, to));
    KD_RETURN(check_trainable(m));
    if (kd_params_at(m->params, i)->init.kind != KD_TRAINABLE)
        return kd_fail(KDAS_EINVAL, "'%s' has no gradient", kd_params_at(m->params, i)->name);
    return kd_params_read_grad(m->params, i, to);
}

kdas_status kdas_model_zero_gradients(kdas_model *m)
{
    KD_RETURN(check_trainable(m));
    m->zeroed++;
    return kd_params_zero_grads(m->params, m->def->name);
}

uint64_t kdas_model_zeroed(const kdas_model *m) { return m ? m->zeroed : 0; }

/* Copy every entry's values from `from` to `to`, through host memory. */
kdas_status kdas_model_copy(kdas_model *to, const kdas_model *from)
{
    kd_model_facts facts = { 0 };
    float         *values;
    kdas_status    st = KDAS_OK;

    if (!to || !from) return kd_fail(KDAS_EINVAL, "kdas_model_copy: a model is NULL");
    if (to == from) return KDAS_OK;
    if (to->def != from->def)
        return kd_fail(KDAS_EINVAL, "'%s' cannot take the values of '%s'", to->def->name,
                       from->def->name);
    KD_RETURN(kd_check_process(from->ctx));
    KD_RETURN(kd_check_process(to->ctx));
    values = kd_alloc(from->ctx, (size_t)kd_params_total(from->params) * sizeof *values);
    if (!values) return KDAS_ENOMEM;
    KD_TRY(kd_model_facts_add(&facts, to->ctx, &from->facts, false));
    for (int i = 0; i < kd_params_count(to->params); i++) {
        int k = kd_params_find(from->params, kd_params_at(to->params, i)->name);

        if (k < 0) /* the range of a grid that the other has not */
            values[0] = values[1] = 0;
        else
            KD_TRY(kd_params_read(from->params, k, values));
        KD_TRY(kd_params_write(to->params, i, values));
    }
    kd_model_facts_take(to, &facts);
done:
    kd_model_facts_clear(&facts, to->ctx);
    kd_free(from->ctx, values);
    return st;
}
