/* run_util.h - what the tests of runs share: contexts whose memory is counted and can run out, and a
 * small teacher and student ready to be trained. */
#ifndef KD_TEST_RUN_UTIL_H
#define KD_TEST_RUN_UTIL_H
#include <kdas/kdas.h>
#include <stdatomic.h>
#include <stdbool.h>

/* ---- A context on a device ---- */

/* Memory hooks that count. Loader threads use them too. */
typedef struct kd_test_meter {
    atomic_long taken, given_back;
    long        fail_at; /* the allocation that fails, counted from 1, and all after it; 0: none */
    long        fail_to; /* the last of those; 0: all after it fail */
    atomic_long refused; /* how many have failed */
} kd_test_meter;

/* A context on a device ("far": that of far_device.h), with counted memory unless `meter` is NULL, and two threads. Fails the
 * running test if it cannot be made. */
kdas_context *kd_test_device(const char *device, kd_test_meter *meter);
/* One on the CPU that says its log. */
kdas_context *kd_test_logging(kd_test_meter *meter, kdas_log_fn log, void *user);
/* Whether this CPU has products in bf16; where not, says on standard output that the test is skipped. */
bool kd_test_can_half(void);
/* Fail the running test unless all that was taken has been given back. */
void kd_test_assert_given_back(const kd_test_meter *meter);

/* ---- A rig: all that a step needs, on a context of its own ---- */

/* What a rig is made of; kd_test_rig_options gives the usual. */
typedef struct kd_test_rig_options {
    const char            *student, *teacher; /* teacher NULL: none */
    kdas_model_options     model;             /* of the student     */
    kdas_loss_options      loss;
    kdas_optim_options     optim;
    kdas_distiller_options distiller;
    kdas_log_fn            log;
    void                  *log_user;
    kd_test_meter         *meter;
    kdas_precision         precision; /* f32 */
    const char            *device;    /* NULL: "cpu"; "far" is that of far_device.h, too */
    void (*adapt)(kdas_context *ctx); /* before anything is made from the context; NULL: nothing */
} kd_test_rig_options;

typedef struct kd_test_rig {
    kdas_context   *ctx;
    kdas_model     *teacher, *student;
    kdas_loss      *loss;
    kdas_optim     *optim;
    kdas_distiller *distiller;
} kd_test_rig;

/* polyp_pvt_b0 learns from another polyp_pvt_b0 by the paper's objective with AdamW at 1e-3. */
kd_test_rig_options kd_test_rig_usual(void);
void                kd_test_rig_make(kd_test_rig *rig, const kd_test_rig_options *options);
void                kd_test_rig_finish(kd_test_rig *rig);
/* Batch number t, n images of side x side. */
kdas_batch *kd_test_batch(kdas_context *ctx, int64_t n, int64_t side, int t);
/* One step on batch number t, two images of 32 x 32 that depend on t alone: its report, or the total loss. */
kdas_step_report kd_test_rig_report(kd_test_rig *rig, int t);
double           kd_test_rig_step(kd_test_rig *rig, int t);
/* All tensors of a model, one after the other, from malloc; *count numbers. */
float *kd_test_weights(const kdas_model *model, size_t *count);
/* Fail the running test unless two models hold the same bits. */
void kd_test_assert_same_weights(const kdas_model *a, const kdas_model *b);

#endif
