/* ranks_rig.h - a step over ranks for tests: small networks, and batches of which each rank takes its part. */
#ifndef KD_TEST_RANKS_RIG_H
#define KD_TEST_RANKS_RIG_H
#include "support/small_nets.h"
#include "support/thread_ranks.h"

/* What all ranks train, and one alone. */
typedef struct kd_test_job {
    kd_test_rig_options o;
    bool                norms;  /* the student has a batch norm */
    bool                half;   /* in f16, on the device of half_device.h */
    int64_t             images; /* of a whole batch             */
    int64_t             bucket; /* elements of a bucket; 0: the usual */
} kd_test_job;

/* The paper's objective between small networks with two maps, by SGD. */
kd_test_job kd_test_job_usual(void);
/* On this context; `ranks` NULL: alone. The status of kdas_distiller_create(); the rig is to be finished in any case. */
kdas_status kd_test_job_rig(kd_test_rig *rig, const kd_test_job *job, kdas_context *ctx,
                            kdas_ranks *ranks);
/* All but the context, which is not the rig's. */
void kd_test_job_finish(kd_test_rig *rig);
/* Images of batch number t that rank r of n has; the whole batch for 0 of 1. Sides are 32. */
kdas_batch *kd_test_job_batch(const kd_test_job *job, kdas_context *ctx, int r, int n, int t);
/* A step on this seat's part of batch number t. */
kdas_status kd_test_job_step(const kd_test_job *job, kd_test_rig *rig, kd_test_seat *seat, int t,
                             kdas_step_report *report);
/* Fail the running test unless all ranks have these bytes. Collective. */
void kd_test_assert_equal_on_ranks(kd_test_seat *seat, const void *bytes, size_t count);
/* Fail the running test unless all ranks' students have the same bits. Collective. */
void kd_test_assert_students_equal(kd_test_seat *seat, const kdas_model *student);

#endif
