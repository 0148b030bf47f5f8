/* run_util.h - what the tests of runs share: contexts whose memory is counted and can run out. */
#ifndef KD_TEST_RUN_UTIL_H
#define KD_TEST_RUN_UTIL_H
#include <kdas/kdas.h>
#include <stdatomic.h>

/* Memory hooks that count. Loader threads use them too. */
typedef struct kd_test_meter {
    atomic_long taken, given_back;
    long        fail_at; /* the allocation that fails, counted from 1, and all after it; 0: none */
} kd_test_meter;

/* A context on a device, with counted memory unless `memory` is NULL, and two threads. Fails the
 * running test if it cannot be made. */
kdas_context *kd_test_device(const char *device, kd_test_meter *memory);
/* The same, but a failure (memory that runs out) gives NULL. */
kdas_context *kd_test_try_device(const char *device, kd_test_meter *memory);

/* Fail the running test unless all that was taken has been given back. */
void kd_test_assert_given_back(const kd_test_meter *memory);

#endif
