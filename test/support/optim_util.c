/* optim_util.c - see optim_util.h. */
#include "support/optim_util.h"
#include <check.h>
#include <stdio.h>
#include "support/check_util.h"

static const struct {
    const char *name;
    int64_t     dims[2];
    int         rank, kind;
} entries[KD_TEST_ENTRIES] = {
    { "stem.weight", { 7, 5 }, 2, KD_TRAINABLE }, { "stem.bias", { 7 }, 1, KD_TRAINABLE },
    { "stem.running_mean", { 7 }, 1, KD_BUFFER }, { "head.weight", { 33, 31 }, 2, KD_TRAINABLE },
    { "norm.gain", { 3 }, 1, KD_TRAINABLE },
};

void kd_test_optim_params(kd_test_optim *s, const char *device, kd_test_meter *memory)
{
    float values[KD_TEST_LARGEST];

    s->ctx = kd_test_device(device, memory);
    kd_assert_ok(kd_params_create(&s->params, s->ctx));
    for (size_t i = 0; i < KD_TEST_ENTRIES; i++) {
        kd_init init = { .kind = (kd_param_kind)entries[i].kind };

        ck_assert_int_ge(
            kd_params_declare(s->params, entries[i].name, init, entries[i].rank, entries[i].dims),
            0);
    }
    kd_assert_ok(kd_params_seal(s->params, true));
    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);

        kd_test_fill(values, e->count, e->name, 1, 0);
        kd_assert_ok(kd_params_write(s->params, i, values));
    }
}

void kd_test_optim_make(kd_test_optim *s, const char *device, const kdas_optim_options *options)
{
    kd_test_optim_params(s, device, NULL);
    kd_assert_ok(kd_optim_create_for(&s->optim, s->ctx, s->params, options));
}

void kd_test_optim_finish(kd_test_optim *s)
{
    kdas_optim_destroy(s->optim);
    kd_params_destroy(s->params);
    kdas_context_destroy(s->ctx);
}

void kd_test_optim_gradients(kd_test_optim *s, int t, double scale)
{
    float g[KD_TEST_LARGEST];

    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);
        char                  name[64];

        if (e->init.kind != KD_TRAINABLE) continue;
        snprintf(name, sizeof name, "%s.%d", e->name, t);
        kd_test_fill(g, e->count, name, scale, 0.1 * scale);
        kd_assert_ok(kd_device_upload(s->ctx, kd_params_grads(s->params) + e->offset, g,
                                      (size_t)e->count * sizeof *g));
    }
}

kdas_optim_options kd_test_optim_options(const char *rule)
{
    kdas_optim_options o;

    kdas_optim_options_init(&o, sizeof o);
    o.rule = rule;
    return o;
}
