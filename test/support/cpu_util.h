/* cpu_util.h - what the tests of the CPU's kernels share: a host that counts its blocks and can run out
 * of memory, devices opened by it, cases, and the comparison of kernels in bf16. */
#ifndef KD_TEST_CPU_UTIL_H
#define KD_TEST_CPU_UTIL_H
#include "backend/cpu/cpu.h"
#include "support/op_run.h"

/* ---- a host and its device ---- */

extern int kd_test_cpu_allocations;      /* before they fail; negative, the start: they do not */
extern int kd_test_cpu_blocks;           /* not given back                                     */
extern const kdas_host kd_test_cpu_host; /* its log goes nowhere */

/* A device of the backend "cpu" with at most `isa`; fails the running test if there is none. */
kdas_device *kd_test_cpu_open(const char *isa, int threads);

/* The kernel of a case's op, and the one that takes activations in bf16; NULL: it has none. */
const kdas_kernel *kd_test_cpu_kernel(const kd_op_case *test);
const kdas_kernel *kd_test_cpu_half_kernel(const kd_op_case *test);

/* Whether oneDNN computes the case in bf16: it needs a CPU with AVX-512. */
bool kd_test_cpu_by_onednn(const kd_op_case *test);

/* ---- cases ---- */

#define KD_TEST_OPERAND(n, h, w, c)                            \
    {                                                          \
        .desc = { KDAS_F32, 4, { n, h, w, c } }, .scale = 1.0f \
    }
#define KD_TEST_WEIGHT(r, a, b, c, d)                                         \
    {                                                                         \
        .desc = { KDAS_F32, r, { a, b, c, d } }, .scale = 0.5f, .param = true \
    }

/* Those of op_cases.h, and shapes that reach past one chunk, block, panel or part of the kernels. */
int               kd_test_cpu_cases(void);
const kd_op_case *kd_test_cpu_case(int i);

/* ---- comparing ---- */

/* Fail the running test unless two runs of a case are the same; the others are for the sentence. */
void kd_test_cpu_assert_same(const kd_op_run *got, const kd_op_run *want, double tolerance,
                             const char *isa, int threads, const kd_op_options *o);
/* One case with activations in bf16 against the reference in f32 on the same values. An output is off
 * by its own rounding, 2^-9 of itself; what is rounded on the way (probabilities, rows that are paired)
 * and gradients that are added to by halves make that a few times more of the largest element; four ops
 * in one round four times. */
void kd_test_cpu_compare_half(const kd_op_case *test, kdas_device *device);

#endif
