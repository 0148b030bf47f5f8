/* run_util.c - see run_util.h. */
#include "support/run_util.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/far_device.h"

/* ---- a context on a device ---- */

static void *counted_alloc(void *user, size_t bytes)
{
    kd_test_meter *m      = user;
    long           at     = atomic_fetch_add(&m->taken, 1) + 1;
    bool           refuse = m->fail_at && at >= m->fail_at && (!m->fail_to || at <= m->fail_to);
    void          *got    = refuse ? NULL : malloc(bytes);

    if (refuse) atomic_fetch_add(&m->refused, 1);
    if (!got) atomic_fetch_add(&m->given_back, 1); /* nothing to give back */
    return got;
}

static void counted_free(void *user, void *memory)
{
    atomic_fetch_add(&((kd_test_meter *)user)->given_back, 1);
    free(memory);
}

static kdas_context *make_context(const char *device, kd_test_meter *meter, kdas_log_fn log,
                                  void *log_user, kdas_precision precision)
{
    kdas_context_options o;
    kdas_context        *ctx;

    kdas_context_options_init(&o, sizeof o);
    o.device    = device;
    o.threads   = 2;
    o.log       = log;
    o.log_user  = log_user;
    o.precision = precision;
    if (meter) {
        o.alloc      = counted_alloc;
        o.free       = counted_free;
        o.alloc_user = meter;
    }
    if (strcmp(device, "far") == 0)
        kd_assert_ok(kd_test_far_try(&ctx, &o));
    else
        kd_assert_ok(kdas_context_create(&ctx, &o));
    return ctx;
}

kdas_context *kd_test_far_context(kd_test_meter *meter, kdas_log_fn log, void *user)
{
    return make_context("far", meter, log, user, KDAS_PRECISION_F32);
}

kdas_context *kd_test_logging(kd_test_meter *meter, kdas_log_fn log, void *user)
{
    return make_context("cpu", meter, log, user, KDAS_PRECISION_F32);
}

kdas_context *kd_test_device(const char *device, kd_test_meter *meter)
{
    return make_context(device, meter, NULL, NULL, KDAS_PRECISION_F32);
}

bool kd_test_can_half(void)
{
    kdas_context_options o;
    kdas_context        *ctx;
    bool                 can;

    kdas_context_options_init(&o, sizeof o);
    o.precision = KDAS_PRECISION_BF16;
    can         = kdas_context_create(&ctx, &o) == KDAS_OK;
    kdas_context_destroy(ctx);
    if (!can) printf("SKIP: this CPU has no products in bf16\n");
    return can;
}

void kd_test_assert_given_back(const kd_test_meter *meter)
{
    ck_assert_int_eq(atomic_load(&meter->taken), atomic_load(&meter->given_back));
}

/* ---- a rig ---- */

kd_test_rig_options kd_test_rig_usual(void)
{
    kd_test_rig_options o = { .student = "polyp_pvt_b0", .teacher = "polyp_pvt_b0" };

    kdas_model_options_init(&o.model, sizeof o.model);
    kdas_loss_options_init(&o.loss, sizeof o.loss);
    kdas_optim_options_init(&o.optim, sizeof o.optim);
    kdas_distiller_options_init(&o.distiller, sizeof o.distiller);
    o.model.seed = 7;
    o.optim.lr   = 1e-3f;
    return o;
}

void kd_test_rig_make(kd_test_rig *rig, const kd_test_rig_options *o)
{
    kdas_model_options teacher = o->model;

    *rig = (kd_test_rig){ .ctx = make_context(o->device ? o->device : "cpu", o->meter, o->log,
                                              o->log_user, o->precision) };
    if (o->adapt) o->adapt(rig->ctx);
    teacher.seed      = 8;
    teacher.trainable = 0;
    teacher.quantize  = KDAS_QUANTIZE_NONE;
    teacher.wide      = NULL;
    if (o->teacher) kd_assert_ok(kdas_model_create(&rig->teacher, rig->ctx, o->teacher, &teacher));
    kd_assert_ok(kdas_model_create(&rig->student, rig->ctx, o->student, &o->model));
    kd_assert_ok(kdas_loss_create(&rig->loss, rig->ctx, &o->loss));
    kd_assert_ok(kdas_optim_create(&rig->optim, rig->student, &o->optim));
    kd_assert_ok(kdas_distiller_create(&rig->distiller, rig->teacher, rig->student, rig->loss,
                                       rig->optim, &o->distiller));
}

void kd_test_rig_finish(kd_test_rig *rig)
{
    kdas_distiller_destroy(rig->distiller);
    kdas_optim_destroy(rig->optim);
    kdas_loss_destroy(rig->loss);
    kdas_model_destroy(rig->student);
    kdas_model_destroy(rig->teacher);
    kdas_context_destroy(rig->ctx);
}

kdas_batch *kd_test_batch(kdas_context *ctx, int64_t n, int64_t side, int t)
{
    kdas_batch *batch;
    char        name[32];

    snprintf(name, sizeof name, "batch.%d", t);
    kd_assert_ok(kdas_batch_create(&batch, ctx, n, side, side));
    kd_test_fill(kdas_batch_images(batch), n * side * side * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(batch), n, side, side, name);
    return batch;
}

kdas_step_report kd_test_rig_report(kd_test_rig *rig, int t)
{
    kdas_step_report report = { .size = sizeof report };
    kdas_batch      *batch  = kd_test_batch(rig->ctx, 2, 32, t);

    kd_assert_ok(kdas_distiller_step(rig->distiller, batch, &report));
    kdas_batch_destroy(batch);
    return report;
}

double kd_test_rig_step(kd_test_rig *rig, int t) { return kd_test_rig_report(rig, t).total; }

float *kd_test_weights(const kdas_model *model, size_t *count)
{
    float  *all  = NULL;
    size_t  used = 0;
    int64_t dims[4];
    int32_t rank;

    for (int32_t i = 0; kdas_model_tensor(model, i, &rank, dims, NULL); i++) {
        size_t n = 1;

        for (int32_t k = 0; k < rank; k++)
            n *= (size_t)dims[k];
        all = realloc(all, (used + n) * sizeof *all);
        kd_assert_ok(kdas_model_read(model, i, all + used));
        used += n;
    }
    *count = used;
    return all;
}

void kd_test_assert_same_weights(const kdas_model *a, const kdas_model *b)
{
    size_t na, nb;
    float *wa = kd_test_weights(a, &na), *wb = kd_test_weights(b, &nb);

    ck_assert_uint_eq(na, nb);
    for (size_t i = 0; i < na; i++)
        if (memcmp(&wa[i], &wb[i], sizeof *wa) != 0)
            ck_abort_msg("number %zu of %zu is %.9g in one model, %.9g in the other", i, na, wa[i],
                         wb[i]);
    free(wa);
    free(wb);
}
