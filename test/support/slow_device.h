/* slow_device.h - the CPU's backend with a clock of its own: every forward of a kernel lets time pass, so that a network is
 * as slow as a test wants, on any machine. */
#ifndef KD_TEST_SLOW_DEVICE_H
#define KD_TEST_SLOW_DEVICE_H
#include "infer/segmenter.h"
#include "support/run_util.h"

typedef struct kd_test_slow {
    double now;       /* seconds                            */
    double step;      /* that a forward of a kernel takes   */
    long   kernels;   /* forwards so far                    */
    long   cancel_at; /* the forward that cancels the context; 0: none */
} kd_test_slow;
extern kd_test_slow kd_test_slow_time;

/* A context on that device, with two threads and counted memory. Sets the clock to 0. */
kdas_context *kd_test_slow_device(kd_test_meter *meter);
/* The segmenter's clock is the device's. */
void kd_test_slow_clock(kdas_segmenter *segmenter);

#endif
