/* check_util.h - what the tests share: values that any language can make again, and comparisons. */
#ifndef KD_TEST_CHECK_UTIL_H
#define KD_TEST_CHECK_UTIL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Draw i of the stream called `name`, in [-1, 1): 2 u - 1, where u = top 53 bits / 2^53 of
 * splitmix64's finaliser of fnv1a64(name) + (i + 1) 0x9E3779B97F4A7C15. The scripts that make
 * golden tensors use the same rule. */
double kd_test_unit(const char *name, uint64_t i);
/* out[i] = shift + scale * draw i, computed in double and rounded once. */
void kd_test_fill(float *out, int64_t n, const char *name, double scale, double shift);
/* Binary ellipses, one for each image, centre and radii drawn from the name.
 * (N,H,W,1) of 0 and 1. */
void kd_test_ellipses(float *out, int64_t n, int64_t h, int64_t w, const char *name);

/* NCHW memory to NHWC and back, for golden tensors kept in PyTorch's order. */
void kd_test_to_nhwc(float *out, const float *in, int64_t n, int64_t c, int64_t h, int64_t w);
void kd_test_to_nchw(float *out, const float *in, int64_t n, int64_t c, int64_t h, int64_t w);

/* Largest |got - want| over the largest |want| (at least `floor`); *at receives where, unless NULL.
 * Infinite if either holds a NaN that the other lacks. */
double kd_test_worst(const float *got, const float *want, int64_t n, double floor, int64_t *at);
/* Root of sum (got - want)^2 / sum want^2. */
double kd_test_rms_error(const float *got, const float *want, int64_t n);
bool   kd_test_same_bits(const void *a, const void *b, size_t bytes);

/* Fail the running test with the worst element unless `got` is within `tolerance` of `want`. */
#define kd_assert_close(got, want, n, tolerance) \
    kd_test_assert_close(got, want, n, tolerance, #got, __FILE__, __LINE__)
void kd_test_assert_close(const float *got, const float *want, int64_t n, double tolerance,
                          const char *what, const char *file, int line);
/* Fail the running test, with the library's sentence, unless a call gives the status wanted. */
#define kd_assert_status(call, status) \
    kd_test_assert_status(call, status, #call, __FILE__, __LINE__)
#define kd_assert_ok(call) kd_assert_status(call, 0)
void kd_test_assert_status(int got, int want, const char *what, const char *file, int line);
/* Fail the running test unless the last error's sentence holds `part`. */
#define kd_assert_sentence(part) kd_test_assert_sentence(part, __FILE__, __LINE__)
void kd_test_assert_sentence(const char *part, const char *file, int line);

/* Path of a shared folder beside the checkout ("../shared/<name>"), or NULL after printing SKIP. */
const char *kd_test_shared(const char *name);

#endif
