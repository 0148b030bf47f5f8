/* layer.c - see layer.h. */
#include "backend/cuda/layer.h"

kdas_status kd_cuda_layer_forward(kdas_device *device, const kd_cuda_layer *l, const void *x,
                                  const void *w, void *y, float beta)
{
    kd_cuda_product p = { .m           = l->rows,
                          .n           = l->out,
                          .k           = l->in,
                          .a           = x,
                          .lda         = l->in,
                          .b           = w,
                          .ldb         = l->in,
                          .transpose_b = true,
                          .c           = y,
                          .ldc         = l->out,
                          .type        = l->type,
                          .type_c      = l->type,
                          .alpha       = 1,
                          .beta        = beta };

    return kd_cuda_multiply(device, &p);
}

kdas_status kd_cuda_layer_dx(kdas_device *device, const kd_cuda_layer *l, const void *dy,
                             const void *w, void *dx, float beta)
{
    kd_cuda_product p = { .m      = l->rows,
                          .n      = l->in,
                          .k      = l->out,
                          .a      = dy,
                          .lda    = l->out,
                          .b      = w,
                          .ldb    = l->in,
                          .c      = dx,
                          .ldc    = l->in,
                          .type   = l->type,
                          .type_c = l->type,
                          .alpha  = 1,
                          .beta   = beta };

    return kd_cuda_multiply(device, &p);
}

kdas_status kd_cuda_layer_dw(kdas_device *device, const kd_cuda_layer *l, const void *dy,
                             const void *x, float *dw, float beta)
{
    kd_cuda_product p = { .m           = l->out,
                          .n           = l->in,
                          .k           = l->rows,
                          .a           = dy,
                          .lda         = l->out,
                          .transpose_a = true,
                          .b           = x,
                          .ldb         = l->in,
                          .c           = dw,
                          .ldc         = l->in,
                          .type        = l->type,
                          .type_c      = KDAS_F32,
                          .alpha       = 1,
                          .beta        = beta };

    return kd_cuda_multiply(device, &p);
}
