/* ranks_rig.c - see ranks_rig.h. */
#include "support/ranks_rig.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "graph/settings.h"
#include "support/check_util.h"
#include "support/half_device.h"

enum { SIDE = 32, AREA = SIDE * SIDE };

kd_test_job kd_test_job_usual(void)
{
    kd_test_job job = { .o = kd_test_rig_usual(), .images = 4, .bucket = 200 };

    job.o.optim.rule = "sgd";
    job.o.optim.lr   = 0.05f;
    return job;
}

enum { STRIDES = KD_TEST_USUAL_STRIDES | KD_TEST_NOT_IDLE };

static const kd_model_def networks[] = {
    { "small", KD_TEST_SMALL(2, STRIDES | KD_TEST_NO_NORM), &kd_rules_common, kd_test_build_small },
    { "small with norms", KD_TEST_SMALL(2, STRIDES), &kd_rules_common, kd_test_build_small },
};

kdas_status kd_test_job_rig(kd_test_rig *rig, const kd_test_job *job, kdas_context *ctx,
                            kdas_ranks *ranks)
{
    const kd_model_def    *def    = &networks[job->norms];
    kdas_model_options     frozen = job->o.model;
    kdas_distiller_options d      = job->o.distiller;

    if (job->half) kd_test_half_device(ctx);
    *rig             = (kd_test_rig){ .ctx = ctx };
    frozen.seed      = 8;
    frozen.trainable = 0;
    d.ranks          = ranks;
    if (job->bucket) kd_graph_settings_change(ctx)->bucket = job->bucket;
    if (job->o.teacher) kd_assert_ok(kd_model_create(&rig->teacher, ctx, def, &frozen));
    kd_assert_ok(kd_model_create(&rig->student, ctx, def, &job->o.model));
    kd_assert_ok(kdas_loss_create(&rig->loss, ctx, &job->o.loss));
    kd_assert_ok(kdas_optim_create(&rig->optim, rig->student, &job->o.optim));
    return kdas_distiller_create(&rig->distiller, rig->teacher, rig->student, rig->loss, rig->optim,
                                 &d);
}

void kd_test_job_finish(kd_test_rig *rig)
{
    kdas_distiller_destroy(rig->distiller);
    kdas_optim_destroy(rig->optim);
    kdas_loss_destroy(rig->loss);
    kdas_model_destroy(rig->student);
    kdas_model_destroy(rig->teacher);
}

kdas_batch *kd_test_job_batch(const kd_test_job *job, kdas_context *ctx, int r, int n, int t)
{
    int64_t     first = r * job->images / n, count = (r + 1) * job->images / n - first;
    size_t      whole = (size_t)(job->images * AREA);
    float      *image = malloc(3 * whole * sizeof *image), *mask = malloc(whole * sizeof *mask);
    char        name[32];
    kdas_batch *b;

    snprintf(name, sizeof name, "batch.%d", t);
    kd_test_fill(image, (int64_t)(3 * whole), name, 1, 0);
    kd_test_ellipses(mask, job->images, SIDE, SIDE, name);
    kd_assert_ok(kdas_batch_create(&b, ctx, count, SIDE, SIDE));
    memcpy(kdas_batch_images(b), image + 3 * first * AREA,
           (size_t)(3 * count * AREA) * sizeof *image);
    memcpy(kdas_batch_masks(b), mask + first * AREA, (size_t)(count * AREA) * sizeof *mask);
    free(image);
    free(mask);
    return b;
}

kdas_status kd_test_job_step(const kd_test_job *job, kd_test_rig *rig, kd_test_seat *s, int t,
                             kdas_step_report *report)
{
    kdas_batch *b  = kd_test_job_batch(job, s->ctx, s->rank, kdas_ranks_count(s->ranks), t);
    kdas_status st = kdas_distiller_step(rig->distiller, b, report);

    kdas_batch_destroy(b);
    return st;
}

void kd_test_assert_equal_on_ranks(kd_test_seat *s, const void *bytes, size_t count)
{
    void *first = malloc(count);

    memcpy(first, bytes, count);
    kd_assert_ok(kdas_ranks_broadcast(s->ranks, first, count, 0));
    ck_assert_msg(memcmp(first, bytes, count) == 0, "rank %d has other bytes", s->rank);
    free(first);
}

void kd_test_assert_students_equal(kd_test_seat *s, const kdas_model *student)
{
    size_t n;
    float *w = kd_test_weights(student, &n);

    kd_test_assert_equal_on_ranks(s, w, n * sizeof *w);
    free(w);
}
