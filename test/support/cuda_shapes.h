/* cuda_shapes.h - cases beside those of op_cases.h for kernels that cut rows, columns or pixels into pieces. */
#ifndef KD_TEST_CUDA_SHAPES_H
#define KD_TEST_CUDA_SHAPES_H
#include "support/op_cases.h"

extern const kd_op_case kd_test_cuda_shapes[];
extern const int        kd_test_cuda_shape_count;

#endif
