/* half_device.h - the CPU as a device that has f16, for what the engine does with such a device: its kernels for
 * f16 activations are the reference's, between conversions. Slow, and right by construction. */
#ifndef KD_TEST_HALF_DEVICE_H
#define KD_TEST_HALF_DEVICE_H
#include <kdas/base.h>

/* Make a context of the device "cpu", that nothing has been made from yet, compute in f16. */
void kd_test_half_device(kdas_context *ctx);

#endif
