/* layer.h - the three products of a linear layer, which convolutions use, too, on top of kd_cuda_multiply(). x (rows,
 * groups, in), w (groups, out, in), y (rows, groups, out), row-major: each group is a layer of its own. */
#ifndef KD_CUDA_LAYER_H
#define KD_CUDA_LAYER_H
#include "backend/cuda/cuda.h"

KDAS_BEGIN

typedef struct kd_cuda_layer {
    kdas_dtype type; /* of x, w, y and the gradients of x and y */
    int64_t    rows, in, out, groups;
} kd_cuda_layer;

/* y = x w' + beta y */
kdas_status kd_cuda_layer_forward(kdas_device *device, const kd_cuda_layer *l, const void *x,
                                  const void *w, void *y, float beta);
/* dx = dy w + beta dx */
kdas_status kd_cuda_layer_dx(kdas_device *device, const kd_cuda_layer *l, const void *dy,
                             const void *w, void *dx, float beta);
/* dw = dy' x + beta dw */
kdas_status kd_cuda_layer_dw(kdas_device *device, const kd_cuda_layer *l, const void *dy,
                             const void *x, float *dw, float beta);

KDAS_END
#endif
