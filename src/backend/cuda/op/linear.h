/* linear.h - helpers of linear.cu for other ops; operands have the activation type that the file is compiled for. */
#ifndef KD_CUDA_LINEAR_H
#define KD_CUDA_LINEAR_H
#include "backend/cuda/wide.h"
#ifdef KD_HOST
#include "backend/cuda/layer.h"

KDAS_BEGIN
/* y[r] = residual[r] + bias; either may be NULL. (rows, columns) */
kdas_status KD_TYPED(kd_cuda_fill_rows)(kdas_device *device, void *y, const void *residual,
                                        const float *bias, int64_t rows, int64_t columns);
/* Parameters in the type of activations. */
kdas_status KD_TYPED(kd_cuda_narrow)(kdas_device *device, void *to, const float *from, int64_t n);
KDAS_END

/* The gradient of a bias: += column sums of a gradient; `parts` as in cuda.h. */
#define add_columns KD_TYPED(kd_cuda_add_columns)
#endif
#endif
