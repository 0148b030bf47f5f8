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
/* Cases for the plug-in's kernels: those of cpu_util.h, and shapes that reach past its blocks and grids. */
int               kd_test_cuda_cases(void);
const kd_op_case *kd_test_cuda_case(int i);
/* Is it the emulation, whose devices can be told to fail? */
bool kd_test_cuda_emulated(void);
/* Set KDAS_BACKEND_PATH, so that contexts on "cuda" find it. */
void kd_test_cuda_path(void);

/* ---- The emulation's own functions ---- */

/* As in test/emulator/emulator.h. */
typedef struct kd_test_emulator {
    void (*set)(const char *name, const char *value); /* KDAS_EMULATOR_<name> */
    size_t (*used_bytes)(void);
    int (*streams)(void), (*events)(void), (*graphs)(void), (*host_blocks)(void), (*handles)(void);
    size_t (*launches)(void), (*allocations)(void);
} kd_test_emulator;

/* From the plug-in, which stays loaded from then on. NULL, and a line that the test is skipped: it is a real card
 * that is tested. */
const kd_test_emulator *kd_test_emulated(void);
/* Fail the running test unless devices hold nothing any more. */
void kd_test_emulator_assert_empty(const kd_test_emulator *emulator);

/* What main() calls first. The emulation's products are OpenBLAS's, whose threads are to wait without spinning.
 * OpenMP reads this when it is loaded, so the program starts again. */
void kd_test_cuda_wait_passively(char **argv);

#endif
