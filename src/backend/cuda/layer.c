/* layer.c - see layer.h. */
#include "backend/cuda/layer.h"

kdas_status kd_cuda_layer_forward(kdas_device *device, const kd_cuda_layer *l, const void *x,
                                  const void *w, void *y, float beta)
{
    kd_cuda_product p = { .m           = l->rows,
                          .n           = l->out,
                          .k           = l->in,
                          .a           = x,
                          .lda         = l->in * l->groups,
                          .step_a      = l->in,
                          .b           = w,
                          .ldb         = l->in,
                          .step_b      = l->out * l->in,
                          .transpose_b = true,
                          .c           = y,
                          .ldc         = l->out * l->groups,
                          .step_c      = l->out,
                          .batch       = l->groups,
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
                          .lda    = l->out * l->groups,
                          .step_a = l->out,
                          .b      = w,
                          .ldb    = l->in,
                          .step_b = l->out * l->in,
                          .c      = dx,
                          .ldc    = l->in * l->groups,
                          .step_c = l->in,
                          .batch  = l->groups,
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
                          .lda         = l->out * l->groups,
                          .step_a      = l->out,
                          .transpose_a = true,
                          .b           = x,
                          .ldb         = l->in * l->groups,
                          .step_b      = l->in,
                          .c           = dw,
                          .ldc         = l->in,
                          .step_c      = l->out * l->in,
                          .batch       = l->groups,
                          .type        = l->type,
                          .type_c      = KDAS_F32,
                          .alpha       = 1,
                          .beta        = beta };

    return kd_cuda_multiply(device, &p);
}
