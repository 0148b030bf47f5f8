/* linear.h - what linear.cu has for other ops as well; operands are of the type that a file is
 * compiled for. */
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

/* Sums of a gradient's rows into the gradient of a bias; `parts` as in cuda.h. */
#define add_columns KD_TYPED(kd_cuda_add_columns)
#endif
#endif
