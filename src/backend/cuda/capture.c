/* capture.c - a run of kernels as a CUDA graph: captured once, launched many times. */
#include "backend/cuda/cuda.h"

kdas_status kd_cuda_capture_begin(kdas_device *device)
{
    device->op = NULL;
    kd_cuda_enter(device);
    return kd_cuda_check(device,
                         cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal),
                         "cudaStreamBeginCapture");
}

/* Capture ends here whatever has failed since capture_begin(). The thread's last error is cleared: a later launch would
 * report it as its own. An error that is neither lack of memory nor a failed card means that the run has no graph. */
kdas_status kd_cuda_capture_end(kdas_device *device, void **out)
{
    cudaGraph_t     graph = NULL;
    cudaGraphExec_t ready = NULL;
    cudaError_t     error;
    kdas_status     status;

    *out       = NULL;
    device->op = NULL;
    kd_cuda_enter(device);
    error = cudaStreamEndCapture(device->stream, &graph);
    if (error == cudaSuccess) error = cudaGraphInstantiateWithFlags(&ready, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    status = kd_cuda_check(device, error, "graph");
    if (status == KDAS_EBACKEND && device->lost == KDAS_OK)
        status = device->host.fail(KDAS_EUNSUPPORTED, "cuda:%d: no graph of this run: %s",
                                   device->index, cudaGetErrorString(error));
    if (status == KDAS_OK) *out = ready;
    return status;
}

kdas_status kd_cuda_graph_launch(kdas_device *device, void *graph)
{
    device->op = NULL;
    kd_cuda_enter(device);
    return kd_cuda_check(device, cudaGraphLaunch((cudaGraphExec_t)graph, device->stream), "graph");
}

void kd_cuda_graph_destroy(kdas_device *device, void *graph)
{
    if (!graph) return;
    kd_cuda_enter(device);
    if (cudaGraphExecDestroy((cudaGraphExec_t)graph) != cudaSuccess) cudaGetLastError();
}
