/* cuda_util.h - what the tests of the CUDA plug-in share: finding it (emulated, unless KDAS_TEST_CUDA names
 * the folder of another one), opening its device, and comparing its kernels with the reference. */
#ifndef KD_TEST_CUDA_UTIL_H
#define KD_TEST_CUDA_UTIL_H
#include "support/op_run.h"

const char *kd_test_cuda_folder(void);
/* The plug-in's table; loaded once. Fails the running test if it cannot be. */
const kdas_backend *kd_test_cuda(void);
/* A device of it: "cuda:<index>", deterministic. */
kdas_device *kd_test_cuda_open(int index);
/* Its kernel number `nth` (from 0) for a case's op: f32, f16, bf16 in this order; NULL: it has none. */
const kdas_kernel *kd_test_cuda_kernel(const kd_op_case *test, int nth);
/* Is it the emulation, whose devices can be told to fail? */
bool kd_test_cuda_emulated(void);

#endif
