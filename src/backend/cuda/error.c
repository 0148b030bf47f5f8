/* error.c - errors of CUDA and its libraries as a status and a sentence. */
#include "backend/cuda/cuda.h"

/* After these the card, or the use of it by this process, is lost. */
static bool is_final(cudaError_t error)
{
    switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorDevicesUnavailable: return true;
    default: return false;
    }
}

static kdas_status status_of(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation: return KDAS_ENOMEM;
    case cudaErrorNotSupported:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated: return KDAS_EUNSUPPORTED;
    default: return KDAS_EBACKEND;
    }
}

/* "cuda:0: gelu: cublasGemmEx: ..." */
static kdas_status say(kdas_device *device, kdas_status status, const char *what, const char *text)
{
    const char *op = device->op;

    return device->host.fail(status, "cuda:%d: %s%s%s%s%s", device->index, op ? op : "",
                             op ? ": " : "", what ? what : "", what ? ": " : "", text);
}

kdas_status kd_cuda_check(kdas_device *device, cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return KDAS_OK;
    cudaGetLastError(); /* reported here: the next call must not report it again */
    if (is_final(error)) device->lost = KDAS_EBACKEND;
    return say(device, status_of(error), what, cudaGetErrorString(error));
}

kdas_status kd_cuda_launched(kdas_device *device, const char *kernel)
{
    return kd_cuda_check(device, cudaGetLastError(), kernel);
}

kdas_status kd_cuda_check_blas(kdas_device *device, cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS) return KDAS_OK;
    cudaGetLastError(); /* of a CUDA call within the library */
    return say(device, status == CUBLAS_STATUS_ALLOC_FAILED ? KDAS_ENOMEM : KDAS_EBACKEND, what,
               cublasGetStatusString(status));
}

#ifdef KD_CUDNN
kdas_status kd_cuda_check_dnn(kdas_device *device, cudnnStatus_t status, const char *what)
{
    if (status == CUDNN_STATUS_SUCCESS) return KDAS_OK;
    cudaGetLastError();
    return say(device, status == CUDNN_STATUS_NOT_SUPPORTED ? KDAS_EUNSUPPORTED : KDAS_EBACKEND,
               what, cudnnGetErrorString(status));
}
#endif
