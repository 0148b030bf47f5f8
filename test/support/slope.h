/* slope.h - finite differences of a whole network. */
#ifndef KD_TEST_SLOPE_H
#define KD_TEST_SLOPE_H
#include <kdas/kdas.h>

/* Fail the running test unless the gradient of tensor `name` fits differences of the value
 *     sum over the maps, images and positions of map * weight,
 * where `weight` has the shape of a map. The network runs on the batch in the mode EVAL, where
 * running statistics are constants. The tensor moves along its own gradient g, both ways, by a
 * length of 3e-4: the value changes by the length times |g|, but for rounding and for the kinks of
 * activations that are passed. Their share shrinks with the step: in lite_fpn0 4 % at 1e-2, 0.5 %
 * here. `tolerance`: the relative error that is allowed. */
void kd_test_assert_slope(kdas_model *model, kdas_batch *batch, const float *weight,
                          const char *name, double tolerance);

#endif
