/* slope.h - gradients of a network against finite differences. */
#ifndef KD_TEST_SLOPE_H
#define KD_TEST_SLOPE_H
#include <kdas/kdas.h>

/* The values of a tensor by its name, from malloc. */
float *kd_test_values(const kdas_model *m, const char *name, int64_t *count);

/* A weighted sum of all elements of all outputs (EVAL, so running statistics are constants), with weights
 * by name, is moved along its own gradient by one tensor, both ways, by a length of 3e-4: it changes by
 * the length times the gradient's norm, but for kinks of activations that are passed, whose share shrinks
 * with the step (4 % at 1e-2, 0.5 % here), and rounding. Fails the running test if the two differ by more
 * than the share `apart`. */
void kd_test_assert_slope(kdas_model *m, kdas_batch *b, const char *name, double apart);

#endif
