/* snapshot.c - the flat blocks of a distiller, copied between device and host. */
#include "distill/snapshot.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "distill/distiller.h"
#include "optim/optim.h"

static kdas_status add_block(kd_snapshot *s, const char *prefix, bool trainable, float *device)
{
    kd_block *b = &s->block[s->blocks];
    int64_t   n = trainable ? kd_params_trainable(s->params) : kd_params_total(s->params);

    snprintf(b->prefix, sizeof b->prefix, "%s", prefix);
    b->trainable = trainable;
    b->device    = device;
    b->bytes     = (size_t)n * sizeof(float);
    b->host      = kd_calloc(s->ctx, (size_t)n, sizeof(float));
    if (!b->host) return KDAS_ENOMEM;
    s->blocks++;
    return KDAS_OK;
}

kdas_status kd_snapshot_init(kd_snapshot *s, const kdas_distiller *d, bool gradients, bool average)
{
    const kdas_optim *optim = d->optim;

    *s = (kd_snapshot){ .ctx = d->ctx, .params = d->student->params };
    KD_RETURN(add_block(s, "student", false, kd_params_values(s->params)));
    if (gradients) KD_RETURN(add_block(s, "gradient", true, kd_params_grads(s->params)));
    for (int i = 0; i < optim->slots; i++)
        KD_RETURN(add_block(s, optim->rule->slot_name[i], true, optim->slot[i]));
    return average ? add_block(s, "average", false, d->average.values) : KDAS_OK;
}

kdas_status kd_snapshot_init_feature(kd_snapshot *s, const kdas_distiller *d, bool gradients)
{
    const kdas_optim *optim = d->optim;
    char              prefix[40];

    *s = (kd_snapshot){ .ctx = d->ctx };
    if (!d->feature || !d->feature->params) return KDAS_OK;
    s->params = d->feature->params;
    KD_RETURN(add_block(s, "feature", false, kd_params_values(s->params)));
    if (gradients) KD_RETURN(add_block(s, "feature.gradient", true, kd_params_grads(s->params)));
    for (int i = 0; i < optim->slots; i++) {
        snprintf(prefix, sizeof prefix, "feature.%s", optim->rule->slot_name[i]);
        KD_RETURN(add_block(s, prefix, true, optim->side->slot[i]));
    }
    return KDAS_OK;
}

kdas_status kd_snapshot_download(kd_snapshot *s)
{
    for (int i = 0; i < s->blocks; i++)
        KD_RETURN(
            kd_device_download(s->ctx, s->block[i].host, s->block[i].device, s->block[i].bytes));
    return KDAS_OK;
}

kdas_status kd_snapshot_upload(const kd_snapshot *s)
{
    for (int i = 0; i < s->blocks; i++)
        KD_RETURN(
            kd_device_upload(s->ctx, s->block[i].device, s->block[i].host, s->block[i].bytes));
    return KDAS_OK;
}

void kd_snapshot_finish(kd_snapshot *s)
{
    for (int i = 0; i < s->blocks; i++)
        kd_free(s->ctx, s->block[i].host);
}

kdas_status kd_snapshot_counters(kd_snapshot *s, bool write)
{
    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);

        if (e->init.kind != KD_COUNTER) continue;
        if (write)
            KD_RETURN(kd_params_write(s->params, i, s->block[0].host + e->offset));
        else
            KD_RETURN(kd_params_read(s->params, i, s->block[0].host + e->offset));
    }
    return KDAS_OK;
}

static bool begins(const char *record, const char *prefix)
{
    return strncmp(record, prefix, strlen(prefix)) == 0;
}

/* Variances of batch norms, and second moments. */
static bool is_square(const char *record)
{
    static const char variance[] = ".running_var";
    size_t            n = strlen(record), tail = sizeof variance - 1;

    return begins(record, "exp_avg_sq.") || begins(record, "feature.exp_avg_sq.") ||
           (n > tail && strcmp(record + n - tail, variance) == 0);
}

const char *kd_snapshot_fault(const char *record, const float *value, int64_t count, float *bad)
{
    bool square = is_square(record);

    /* gradients that wait may have overflowed: their update will be skipped */
    if (begins(record, "gradient.") || begins(record, "feature.gradient.")) return NULL;
    for (int64_t i = 0; i < count; i++) {
        if (isfinite(value[i]) && !(square && value[i] < 0)) continue;
        *bad = value[i];
        return square ? "0 or above and finite" : "finite";
    }
    return NULL;
}

const kd_param_entry *kd_snapshot_bad_counter(const kd_snapshot *s)
{
    for (int i = 0; s->blocks && i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);

        if (e->init.kind == KD_COUNTER && !kd_is_counter_value(s->block[0].host[e->offset]))
            return e;
    }
    return NULL;
}

kdas_status kd_snapshot_tensors(kd_snapshot *s, kd_tensor_fn each, void *user)
{
    for (int k = 0; k < s->blocks; k++) {
        const kd_block *b = &s->block[k];

        for (int i = 0; i < kd_params_count(s->params); i++) {
            const kd_param_entry *e = kd_params_at(s->params, i);
            char                  record[512];

            if (b->trainable && e->init.kind != KD_TRAINABLE) continue;
            if (k > 0 && e->init.kind == KD_COUNTER) continue; /* the student's */
            snprintf(record, sizeof record, "%s.%s", b->prefix, e->name);
            KD_RETURN(each(user, record, e->rank, e->dim, b->host + e->offset));
        }
    }
    return KDAS_OK;
}
