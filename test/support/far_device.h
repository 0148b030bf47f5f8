/* far_device.h - a device for tests whose memory is not the host's: its addresses are none that the host can read
 * or write, and none is given out twice. It computes with the CPU's kernels, has graphs, uploads beside kernels, counts
 * what it is asked for, and fails when told to. */
#ifndef KD_TEST_FAR_DEVICE_H
#define KD_TEST_FAR_DEVICE_H
#include <kdas/backend.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "support/run_util.h"

typedef enum kd_test_far_stage {
    KD_FAR_CAPTURE_BEGIN,
    KD_FAR_CAPTURE_END,
    KD_FAR_GRAPH_LAUNCH
} kd_test_far_stage;

/* How the device is, and what it has seen. Zeros are a device that can do everything. */
typedef struct kd_test_far {
    /* set before the context is made */
    bool reference; /* kernels are the ops' references, else those of the CPU backend       */
    bool no_graphs; /* the table ends before capture_begin()                                     */
    bool no_ahead; /* it has no upload_async(), host_alloc() or capture_begin(), nor memory()     */
    int32_t without; /* an op that it has no kernel for; 0: it has all                       */
    size_t  total;   /* bytes of its memory, 0: 1 GiB                                        */
    /* at any time */
    bool              late;       /* upload_async() copies in upload_wait(), else at once       */
    long              fail_alloc; /* the allocation that fails, from 1, and all after it; 0: none */
    long              fail_kernel; /* the kernel that fails, from 1, this one alone; 0: none    */
    kdas_status       refuse;      /* what `stage` of a graph gives; 0: nothing is refused     */
    kd_test_far_stage stage;
    /* what there is now */
    long        blocks, graphs; /* of memory, kept */
    atomic_long host_blocks;
    size_t      bytes;
    /* how often */
    long allocs, kernels, captured, uploads, downloads, asyncs, waits, syncs, captures, launches;
} kd_test_far;
extern kd_test_far kd_far;

/* A context on it with two threads. Fails the running test if there is none. */
kdas_context *kd_test_far_context(kd_test_meter *meter, kdas_log_fn log, void *user);
kdas_status   kd_test_far_try(kdas_context **out, const kdas_context_options *options);
/* Its table as kd_far says; a test may change it. */
kdas_backend kd_test_far_table(void);
/* Fail the running test unless memory, host memory and graphs have all been given back. */
void kd_test_far_assert_empty(void);

#endif
