/* blas.c - matrix products on cuBLAS, which is column-major: a row-major C = A B is computed as C' = B' A'. */
#include <limits.h>
#include "backend/cuda/cuda.h"

static cudaDataType_t data_type(kdas_dtype type)
{
    return type == KDAS_F16 ? CUDA_R_16F : type == KDAS_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasComputeType_t compute_type(const kdas_device *device, const kd_cuda_product *p)
{
    return p->type == KDAS_F32 && device->tf32 && !p->exact ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                            : CUBLAS_COMPUTE_32F;
}

static bool fits(const kd_cuda_product *p)
{
    return p->m <= INT_MAX && p->n <= INT_MAX && p->k <= INT_MAX && p->lda <= INT_MAX &&
           p->ldb <= INT_MAX && p->ldc <= INT_MAX && p->batch <= INT_MAX;
}

kdas_status kd_cuda_multiply(kdas_device *device, const kd_cuda_product *p)
{
    cublasOperation_t a = p->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t b = p->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;

    if (p->m == 0 || p->n == 0) return KDAS_OK;
    if (!fits(p))
        return device->host.fail(KDAS_EUNSUPPORTED,
                                 "cuda:%d: %s: a matrix of more than %d rows or columns",
                                 device->index, device->op ? device->op : "product", INT_MAX);
    if (p->batch > 1)
        return kd_cuda_check_blas(
            device,
            cublasGemmStridedBatchedEx(device->blas, b, a, (int)p->n, (int)p->m, (int)p->k,
                                       &p->alpha, p->b, data_type(p->type), (int)p->ldb, p->step_b,
                                       p->a, data_type(p->type), (int)p->lda, p->step_a, &p->beta,
                                       p->c, data_type(p->type_c), (int)p->ldc, p->step_c,
                                       (int)p->batch, compute_type(device, p), CUBLAS_GEMM_DEFAULT),
            "cublasGemmStridedBatchedEx");
    return kd_cuda_check_blas(device,
                              cublasGemmEx(device->blas, b, a, (int)p->n, (int)p->m, (int)p->k,
                                           &p->alpha, p->b, data_type(p->type), (int)p->ldb, p->a,
                                           data_type(p->type), (int)p->lda, &p->beta, p->c,
                                           data_type(p->type_c), (int)p->ldc,
                                           compute_type(device, p), CUBLAS_GEMM_DEFAULT),
                              "cublasGemmEx");
}
