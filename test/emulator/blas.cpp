// blas.cpp - cuBLAS, served by the host's BLAS in float: halves are converted before, the product after. A product
// goes through the stream's queue as a kernel does, and its matrices must lie inside blocks of the device.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <cblas.h>
#include "cublas_v2.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "inside.h"

struct cublasContext {
    cudaStream_t stream;
    int          device;
};

namespace emulator {

size_t size_of(cudaDataType type)
{
    switch (type) {
    case CUDA_R_32F: return 4;
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
    default: return 0;
    }
}

void to_floats(float *out, const void *in, cudaDataType type, size_t n)
{
    if (type == CUDA_R_32F) std::memcpy(out, in, n * sizeof *out);
    if (type == CUDA_R_16F)
        std::transform((const __half *)in, (const __half *)in + n, out, __half2float);
    if (type == CUDA_R_16BF)
        std::transform((const __nv_bfloat16 *)in, (const __nv_bfloat16 *)in + n, out,
                       __bfloat162float);
}

void from_floats(void *out, const float *in, cudaDataType type, size_t n)
{
    if (type == CUDA_R_32F) std::memcpy(out, in, n * sizeof *in);
    if (type == CUDA_R_16F) std::transform(in, in + n, (__half *)out, __float2half_rn);
    if (type == CUDA_R_16BF) std::transform(in, in + n, (__nv_bfloat16 *)out, __float2bfloat16_rn);
}

void round_to_tf32(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & 0xffffe000u;
        std::memcpy(x + i, &bits, sizeof bits);
    }
}

namespace {

struct matrix {
    const void  *memory;
    cudaDataType type;
    int          rows, columns, ld; // as stored, column after column
    long long    stride;            // elements, between those of a batch
    // Bytes of one: to the last element of the last column.
    size_t bytes() const
    {
        if (rows == 0 || columns == 0) return 0;
        return ((size_t)(columns - 1) * (size_t)ld + (size_t)rows) * size_of(type);
    }
    const char *at(int i) const
    {
        return (const char *)memory + (long long)i * stride * (long long)size_of(type);
    }
};

struct product {
    const char *name;
    bool        transpose_a, transpose_b, tf32;
    int         m, n, k, batch;
    float       alpha, beta;
    matrix      a, b, c;
};

bool lies_in_device(const matrix &x, int batch, int device)
{
    for (int i : { 0, batch - 1 }) {
        int owner = -1;
        if (!is_device(x.at(i), x.bytes(), &owner) || owner != device) return false;
    }
    return true;
}

// The matrix as dense floats, in memory of the caller: rows x columns.
void gather(float *out, const matrix &x, int i, bool tf32)
{
    for (int j = 0; j < x.columns; j++)
        to_floats(out + (size_t)j * x.rows, x.at(i) + (size_t)j * x.ld * size_of(x.type), x.type,
                  (size_t)x.rows);
    if (tf32) round_to_tf32(out, (size_t)x.rows * (size_t)x.columns);
}

// One product of the batch, of floats as they lie.
void multiply(const product &p, const float *a, int lda, const float *b, int ldb, float beta,
              float *c, int ldc)
{
    cblas_sgemm(CblasColMajor, p.transpose_a ? CblasTrans : CblasNoTrans,
                p.transpose_b ? CblasTrans : CblasNoTrans, p.m, p.n, p.k, p.alpha, a, lda, b, ldb,
                beta, c, ldc);
}

cudaError_t multiply_converted(const product &p)
{
    const size_t na = (size_t)p.a.rows * (size_t)p.a.columns,
                 nb = (size_t)p.b.rows * (size_t)p.b.columns, nc = (size_t)p.m * (size_t)p.n;
    float *floats = (float *)std::malloc((na + nb + nc) * sizeof *floats);

    if (!floats) return cudaErrorMemoryAllocation;
    float *a = floats, *b = a + na, *c = b + nb;
    for (int i = 0; i < p.batch; i++) {
        gather(a, p.a, i, p.tf32);
        gather(b, p.b, i, p.tf32);
        if (p.beta != 0.0f) gather(c, p.c, i, false);
        multiply(p, a, std::max(p.a.rows, 1), b, std::max(p.b.rows, 1), p.beta, c,
                 std::max(p.m, 1));
        for (int j = 0; j < p.n; j++)
            from_floats((void *)(p.c.at(i) + (size_t)j * p.c.ld * size_of(p.c.type)),
                        c + (size_t)j * p.m, p.c.type, (size_t)p.m);
    }
    std::free(floats);
    return cudaSuccess;
}

cudaError_t run_product(int device, void *payload)
{
    const product    &p     = *(product *)payload;
    const cudaError_t error = count_launch(p.name);

    if (error != cudaSuccess) return error;
    for (const matrix *x : { &p.a, &p.b, &p.c }) {
        if (!lies_in_device(*x, p.batch, device))
            return explain(cudaErrorIllegalAddress,
                           "%s: %s does not lie inside a block of device %d", p.name,
                           x == &p.a   ? "A"
                           : x == &p.b ? "B"
                                       : "C",
                           device);
    }
    const bool floats = p.a.type == CUDA_R_32F && p.b.type == CUDA_R_32F && p.c.type == CUDA_R_32F;
    if (!floats || p.tf32) return multiply_converted(p);
    for (int i = 0; i < p.batch; i++)
        multiply(p, (const float *)p.a.at(i), p.a.ld, (const float *)p.b.at(i), p.b.ld, p.beta,
                 (float *)p.c.at(i), p.c.ld);
    return cudaSuccess;
}

bool is_operation(cublasOperation_t op) { return op >= CUBLAS_OP_N && op <= CUBLAS_OP_C; }

// What cuBLAS refuses at the call.
cublasStatus_t check(const product &p, cublasOperation_t ta, cublasOperation_t tb,
                     cublasComputeType_t compute)
{
    if (!is_operation(ta) || !is_operation(tb) || p.m < 0 || p.n < 0 || p.k < 0 || p.batch < 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (const matrix *x : { &p.a, &p.b, &p.c }) {
        if (x->ld < std::max(1, x->rows)) return CUBLAS_STATUS_INVALID_VALUE;
        if (size_of(x->type) == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
        if (x->type == CUDA_R_16BF && compute_capability() < 80) return CUBLAS_STATUS_ARCH_MISMATCH;
        if ((uintptr_t)x->memory % size_of(x->type)) return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (p.a.type != p.b.type || (p.c.type != p.a.type && p.c.type != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
        compute != CUBLAS_COMPUTE_32F_FAST_TF32)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32 && p.a.type != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t submit(cublasHandle_t handle, const product &p)
{
    cudaError_t error = cudaSuccess;

    if (handle->device != current_device() || device_of(handle->stream) != handle->device) {
        explain(cudaErrorInvalidResourceHandle,
                "%s: the handle, its stream and the thread are not of one device", p.name);
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    if (p.m == 0 || p.n == 0 || p.batch == 0) return CUBLAS_STATUS_SUCCESS;
    product *queued = (product *)enqueue(&error, handle->stream, run_product, sizeof p);
    if (!queued) return give(error), CUBLAS_STATUS_EXECUTION_FAILED;
    *queued = p;
    return CUBLAS_STATUS_SUCCESS;
}

bool uses_tf32(cublasComputeType_t compute, cudaDataType type)
{
    return type == CUDA_R_32F && compute_capability() >= 80 &&
           compute == CUBLAS_COMPUTE_32F_FAST_TF32;
}
} // namespace
} // namespace emulator

using namespace emulator;

cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
    const void *alpha, const void *A, cudaDataType Atype, int lda, long long strideA, const void *B,
    cudaDataType Btype, int ldb, long long strideB, const void *beta, void *C, cudaDataType Ctype,
    int ldc, long long strideC, int batch, cublasComputeType_t compute, cublasGemmAlgo_t)
{
    lock held;

    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || !beta || in_device_range(alpha) || in_device_range(beta))
        return CUBLAS_STATUS_INVALID_VALUE;
    const bool           ta = transa != CUBLAS_OP_N, tb = transb != CUBLAS_OP_N;
    product              p      = { "gemm",
                                    ta,
                                    tb,
                                    uses_tf32(compute, Atype),
                                    m,
                                    n,
                                    k,
                                    batch,
                                    *(const float *)alpha,
                                    *(const float *)beta,
                                    { A, Atype, ta ? k : m, ta ? m : k, lda, strideA },
                                    { B, Btype, tb ? n : k, tb ? k : n, ldb, strideB },
                                    { C, Ctype, m, n, ldc, strideC } };
    const cublasStatus_t status = check(p, transa, transb, compute);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    // Matrices of C that overlap have no defined value. They may lie side by side, each with columns between
    // another's: the heads of an attention do.
    const unsigned long long step  = (unsigned long long)std::llabs(strideC);
    const bool               apart = step * size_of(Ctype) >= p.c.bytes();
    const bool beside              = step >= (unsigned)m && step * (batch - 1) + m <= (unsigned)ldc;

    if (batch > 1 && !apart && !beside) return CUBLAS_STATUS_INVALID_VALUE;
    return submit(handle, p);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const void *alpha,
                            const void *A, cudaDataType Atype, int lda, const void *B,
                            cudaDataType Btype, int ldb, const void *beta, void *C,
                            cudaDataType Ctype, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algo)
{
    return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, A, Atype, lda, 0, B,
                                      Btype, ldb, 0, beta, C, Ctype, ldc, 0, 1, compute, algo);
}

cublasStatus_t cublasCreate(cublasHandle_t *out)
{
    lock held;

    *out = nullptr;
    if (ready() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (outside_captures("cublasCreate") != cudaSuccess) return CUBLAS_STATUS_ALLOC_FAILED;
    *out = new (std::nothrow) cublasContext{ nullptr, current_device() };
    if (!*out) return CUBLAS_STATUS_ALLOC_FAILED;
    handles++;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    lock held;

    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    handles--;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

// Nothing is done with it here, but that it must be the device's, and aligned as cuBLAS wants it.
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes)
{
    lock held;

    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (workspace && !is_device(workspace, bytes, nullptr)) return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t)
{
    return handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

const char *cublasGetStatusString(cublasStatus_t status)
{
#define NAME(status) \
    case status: return #status;
    switch (status) {
        NAME(CUBLAS_STATUS_SUCCESS)
        NAME(CUBLAS_STATUS_NOT_INITIALIZED)
        NAME(CUBLAS_STATUS_ALLOC_FAILED)
        NAME(CUBLAS_STATUS_INVALID_VALUE)
        NAME(CUBLAS_STATUS_ARCH_MISMATCH)
        NAME(CUBLAS_STATUS_MAPPING_ERROR)
        NAME(CUBLAS_STATUS_EXECUTION_FAILED)
        NAME(CUBLAS_STATUS_INTERNAL_ERROR)
        NAME(CUBLAS_STATUS_NOT_SUPPORTED)
        NAME(CUBLAS_STATUS_LICENSE_ERROR)
    }
#undef NAME
    return "unknown";
}
