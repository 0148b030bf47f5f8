// dnn.cpp - cuDNN: dense convolution, N,H,W,C, as products with the patches of an image laid out as rows, in float. Of
// its algorithms there are two for each direction. Those that cuDNN calls not deterministic sum in another order at
// every other run, so that their use shows; those with a workspace leave NaN in it.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <cblas.h>
#include "cudnn.h"
#include "inside.h"

struct cudnnContext {
    cudaStream_t stream;
    int          device;
};
struct cudnnTensorStruct {
    bool            set;
    cudnnDataType_t type;
    int             n, c, h, w;
};
struct cudnnFilterStruct {
    bool            set;
    cudnnDataType_t type;
    int             o, c, h, w;
};
struct cudnnConvolutionStruct {
    bool            set;
    int             pad_h, pad_w, step_h, step_w, gap_h, gap_w, groups;
    cudnnMathType_t math;
};

namespace emulator {
namespace {

enum direction { FORWARD, BACKWARD_DATA, BACKWARD_FILTER };
const char *const names[] = { "cudnnConvolutionForward", "cudnnConvolutionBackwardData",
                              "cudnnConvolutionBackwardFilter" };

struct convolution {
    direction              way;
    cudaDataType           type;
    bool                   tf32, varies;
    cudnnTensorStruct      x, y;
    cudnnFilterStruct      w;
    cudnnConvolutionStruct conv;
    float                  alpha, beta;
    void                  *at_x, *at_w, *at_y, *workspace;
    size_t                 workspace_bytes;
    // Elements: of an image of x and of y, of the filter, of a row of patches of one group; rows of them; outputs of
    // one group.
    size_t image_x() const { return (size_t)x.c * (size_t)x.h * (size_t)x.w; }
    size_t image_y() const { return (size_t)y.c * rows(); }
    size_t filter() const { return (size_t)w.o * patch(); }
    size_t patch() const { return (size_t)w.h * (size_t)w.w * (size_t)w.c; }
    size_t rows() const { return (size_t)y.h * (size_t)y.w; }
    size_t outputs() const { return (size_t)(w.o / conv.groups); }
};

bool type_of(cudnnDataType_t type, cudaDataType *out)
{
    switch (type) {
    case CUDNN_DATA_FLOAT: *out = CUDA_R_32F; return true;
    case CUDNN_DATA_HALF: *out = CUDA_R_16F; return true;
    case CUDNN_DATA_BFLOAT16: *out = CUDA_R_16BF; return true;
    default: return false;
    }
}

int extent(int in, int pad, int kernel, int step, int gap)
{
    return (in + 2 * pad - (gap * (kernel - 1) + 1)) / step + 1;
}

// What the descriptors say together, or why they cannot be.
cudnnStatus_t describe(convolution *out, direction way, cudnnHandle_t handle,
                       cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
                       cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y)
{
    if (!handle || !x || !w || !conv || !y) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (!x->set || !w->set || !conv->set || !y->set) return CUDNN_STATUS_BAD_PARAM;
    *out      = {};
    out->way  = way;
    out->x    = *x;
    out->w    = *w;
    out->conv = *conv;
    out->y    = *y;
    if (x->type != w->type || x->type != y->type || !type_of(x->type, &out->type))
        return CUDNN_STATUS_NOT_SUPPORTED;
    if (out->type == CUDA_R_16BF && compute_capability() < 80)
        return CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH;
    if (w->o % conv->groups || x->c != w->c * conv->groups || y->c != w->o || x->n != y->n ||
        y->h != extent(x->h, conv->pad_h, w->h, conv->step_h, conv->gap_h) ||
        y->w != extent(x->w, conv->pad_w, w->w, conv->step_w, conv->gap_w))
        return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    out->tf32 =
        out->type == CUDA_R_32F && conv->math != CUDNN_FMA_MATH && compute_capability() >= 80;
    return CUDNN_STATUS_SUCCESS;
}

// ---- Patches ---------------------------------------------------------------------------------------

// patches[p][ky][kx][c] = x at output pixel p, tap (ky,kx), channel c of this group; zero outside of the image.
void lay_out_patches(float *patches, const float *x, const convolution &v, int group)
{
    const size_t bytes = (size_t)v.w.c * sizeof *x;

    for (int oy = 0; oy < v.y.h; oy++)
        for (int ox = 0; ox < v.y.w; ox++)
            for (int ky = 0; ky < v.w.h; ky++)
                for (int kx = 0; kx < v.w.w; kx++, patches += v.w.c) {
                    const int iy = oy * v.conv.step_h - v.conv.pad_h + ky * v.conv.gap_h;
                    const int ix = ox * v.conv.step_w - v.conv.pad_w + kx * v.conv.gap_w;
                    if (iy < 0 || iy >= v.x.h || ix < 0 || ix >= v.x.w)
                        std::memset(patches, 0, bytes);
                    else
                        std::memcpy(patches,
                                    x + ((size_t)iy * v.x.w + ix) * v.x.c + (size_t)group * v.w.c,
                                    bytes);
                }
}

// The other way: x += the patches, tap by tap, or with the last tap first.
void gather_patches(float *x, const float *patches, const convolution &v, int group,
                    bool last_first)
{
    const int taps = v.w.h * v.w.w;

    for (int i = 0; i < taps; i++) {
        const int tap = last_first ? taps - 1 - i : i, ky = tap / v.w.w, kx = tap % v.w.w;
        for (int oy = 0; oy < v.y.h; oy++)
            for (int ox = 0; ox < v.y.w; ox++) {
                const int iy = oy * v.conv.step_h - v.conv.pad_h + ky * v.conv.gap_h;
                const int ix = ox * v.conv.step_w - v.conv.pad_w + kx * v.conv.gap_w;
                if (iy < 0 || iy >= v.x.h || ix < 0 || ix >= v.x.w) continue;
                const float *from =
                    patches + ((size_t)oy * v.y.w + ox) * v.patch() + (size_t)tap * v.w.c;
                float *to = x + ((size_t)iy * v.x.w + ix) * v.x.c + (size_t)group * v.w.c;
                for (int c = 0; c < v.w.c; c++)
                    to[c] += from[c];
            }
    }
}

// ---- The three directions ----------------------------------------------------------------------

void read(float *out, const convolution &v, const void *memory, size_t first, size_t n)
{
    to_floats(out, (const char *)memory + first * size_of(v.type), v.type, n);
}

// memory = alpha * values + beta * memory, which beta 0 leaves unread.
void write(const convolution &v, void *memory, size_t first, float *values, float *old, size_t n)
{
    if (v.beta != 0.0f) read(old, v, memory, first, n);
    for (size_t i = 0; i < n; i++)
        values[i] = v.alpha * values[i] + (v.beta != 0.0f ? v.beta * old[i] : 0.0f);
    from_floats((char *)memory + first * size_of(v.type), values, v.type, n);
}

void read_factor(float *out, const convolution &v, const void *memory, size_t first, size_t n)
{
    read(out, v, memory, first, n);
    if (v.tf32) round_to_tf32(out, n);
}

// A row-major matrix: where it begins, and the elements from one row to the next.
struct matrix {
    float *at;
    size_t ld;
};

// c (m x n) = a (m x k) b (k x n), either transposed in memory; `add` to c.
void multiply(matrix c, matrix a, bool ta, matrix b, bool tb, size_t m, size_t n, size_t k,
              bool add)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                (int)m, (int)n, (int)k, 1.0f, a.at, (int)a.ld, b.at, (int)b.ld, add ? 1.0f : 0.0f,
                c.at, (int)c.ld);
}

// One group of one image, of x, y, w and scratch for patches, all in floats. `add` to the filter's gradient.
void compute_group(const convolution &v, int group, bool reversed, bool add, float *x, float *y,
                   float *w, float *patches)
{
    const size_t outputs = v.outputs();
    const matrix rows    = { patches, v.patch() },
                 out     = { y + (size_t)group * outputs, (size_t)v.y.c },
                 filter  = { w + (size_t)group * outputs * v.patch(), v.patch() };

    if (v.way != BACKWARD_DATA) lay_out_patches(patches, x, v, group);
    if (v.way == FORWARD) {
        multiply(out, rows, false, filter, true, v.rows(), outputs, v.patch(), false);
    } else if (v.way == BACKWARD_DATA) {
        multiply(rows, out, false, filter, false, v.rows(), v.patch(), outputs, false);
        gather_patches(x, patches, v, group, reversed);
    } else {
        multiply(filter, out, true, rows, false, outputs, v.patch(), v.rows(), add);
    }
}

void compute(const convolution &v, bool reversed, float *memory)
{
    float *x = memory, *y = x + v.image_x(), *w = y + v.image_y(), *patches = w + v.filter(),
          *old = patches + v.rows() * v.patch();

    if (v.way != BACKWARD_FILTER) read_factor(w, v, v.at_w, 0, v.filter());
    for (int k = 0; k < v.x.n; k++) {
        const size_t i = (size_t)(reversed ? v.x.n - 1 - k : k);
        if (v.way != BACKWARD_DATA)
            read_factor(x, v, v.at_x, i * v.image_x(), v.image_x());
        else
            std::fill(x, x + v.image_x(), 0.0f);
        if (v.way != FORWARD) read_factor(y, v, v.at_y, i * v.image_y(), v.image_y());
        for (int g = 0; g < v.conv.groups; g++)
            compute_group(v, g, reversed, k > 0, x, y, w, patches);
        if (v.way == FORWARD) write(v, v.at_y, i * v.image_y(), y, old, v.image_y());
        if (v.way == BACKWARD_DATA) write(v, v.at_x, i * v.image_x(), x, old, v.image_x());
    }
    if (v.way == BACKWARD_FILTER) write(v, v.at_w, 0, w, old, v.filter());
}

cudaError_t run_convolution(int device, void *payload)
{
    static unsigned    runs;
    const convolution &v     = *(convolution *)payload;
    const cudaError_t  error = count_launch(names[v.way]);
    const size_t       n = (size_t)v.x.n, size = size_of(v.type);

    if (error != cudaSuccess) return error;
    const struct {
        const char *name;
        const void *memory;
        size_t      bytes;
    } ranges[] = { { "x", v.at_x, n * v.image_x() * size },
                   { "w", v.at_w, v.filter() * size },
                   { "y", v.at_y, n * v.image_y() * size },
                   { "the workspace", v.workspace, v.workspace_bytes } };
    for (const auto &r : ranges) {
        int owner = -1;
        if (r.bytes > 0 && (!is_device(r.memory, r.bytes, &owner) || owner != device))
            return explain(cudaErrorIllegalAddress,
                           "%s: %s does not lie inside a block of device %d", names[v.way], r.name,
                           device);
    }
    if (v.workspace_bytes) std::memset(v.workspace, 0xff, v.workspace_bytes);
    const size_t largest = std::max({ v.image_x(), v.image_y(), v.filter() });
    float       *memory  = (float *)std::malloc(
               (v.image_x() + v.image_y() + v.filter() + v.rows() * v.patch() + largest) * sizeof *memory);
    if (!memory) return cudaErrorMemoryAllocation;
    compute(v, v.varies && runs++ % 2 == 1, memory);
    std::free(memory);
    return cudaSuccess;
}

// ---- Algorithms --------------------------------------------------------------------------------

struct algorithm {
    int  number;
    bool works, varies;
};

// The first is what a search names first: fast, and perhaps not deterministic.
const algorithm algorithms[3][2] = {
    { { CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, true, false },
      { CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, false, false } },
    { { CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, false, true },
      { CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, true, false } },
    { { CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, false, true },
      { CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, true, false } },
};

const algorithm *find(direction way, int number)
{
    for (const algorithm &a : algorithms[way]) {
        if (a.number == number) return &a;
    }
    return nullptr;
}

size_t workspace_of(const convolution &v, const algorithm &a)
{
    return a.works ? 256 + 4 * v.rows() * (size_t)v.w.h * (size_t)v.w.w : 0;
}

template <class Perf>
cudnnStatus_t search(direction way, cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                     cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t conv,
                     cudnnTensorDescriptor_t y, int wanted, int *found, Perf *results)
{
    convolution         v;
    const cudnnStatus_t status = describe(&v, way, handle, x, w, conv, y);

    if (status != CUDNN_STATUS_SUCCESS) return status;
    if (wanted < 1 || !found || !results) return CUDNN_STATUS_BAD_PARAM;
    *found = std::min(wanted, 2);
    for (int i = 0; i < *found; i++) {
        const algorithm &a     = algorithms[way][i];
        results[i]             = {};
        results[i].algo        = (decltype(results[i].algo))a.number;
        results[i].time        = -1.0f;
        results[i].memory      = workspace_of(v, a);
        results[i].determinism = a.varies ? CUDNN_NON_DETERMINISTIC : CUDNN_DETERMINISTIC;
        results[i].mathType    = conv->math;
    }
    return CUDNN_STATUS_SUCCESS;
}

// `v` has its descriptors and pointers; the rest is as the call gave it.
cudnnStatus_t submit(cudnnHandle_t handle, convolution &v, int algo, const void *alpha,
                     const void *beta, void *work, size_t bytes)
{
    const algorithm *a     = find(v.way, algo);
    cudaError_t      error = cudaSuccess;

    if (!alpha || !beta || !v.at_x || !v.at_w || !v.at_y)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (!a) return CUDNN_STATUS_NOT_SUPPORTED;
    if (bytes < workspace_of(v, *a) || (workspace_of(v, *a) && !work))
        return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
    if (handle->device != current_device() || device_of(handle->stream) != handle->device) {
        explain(cudaErrorInvalidResourceHandle,
                "%s: the handle, its stream and the thread are not of one device", names[v.way]);
        return CUDNN_STATUS_EXECUTION_FAILED;
    }
    v.alpha             = *(const float *)alpha;
    v.beta              = *(const float *)beta;
    v.varies            = a->varies;
    v.workspace         = work;
    v.workspace_bytes   = workspace_of(v, *a);
    convolution *queued = (convolution *)enqueue(&error, handle->stream, run_convolution, sizeof v);
    if (!queued) return give(error), CUDNN_STATUS_EXECUTION_FAILED;
    *queued = v;
    return CUDNN_STATUS_SUCCESS;
}

template <class T> cudnnStatus_t create(T **out)
{
    lock held;

    *out = new (std::nothrow) T{};
    if (!*out) return CUDNN_STATUS_ALLOC_FAILED;
    handles++;
    return CUDNN_STATUS_SUCCESS;
}

template <class T> cudnnStatus_t destroy(T *it)
{
    lock held;

    if (!it) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    delete it;
    handles--;
    return CUDNN_STATUS_SUCCESS;
}
} // namespace
} // namespace emulator

using namespace emulator;

// ---- Handles and descriptors ---------------------------------------------------------------------

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    lock held;

    *out = nullptr;
    if (ready() != cudaSuccess) return CUDNN_STATUS_NOT_INITIALIZED;
    const cudnnStatus_t status = create(out);
    if (status == CUDNN_STATUS_SUCCESS) (*out)->device = current_device();
    return status;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy(handle); }

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    if (!handle) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *out) { return create(out); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t it) { return destroy(it); }
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *out) { return create(out); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t it) { return destroy(it); }
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *out)
{
    return create(out);
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t it)
{
    return destroy(it);
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w)
{
    if (!tensor || n < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    if (format != CUDNN_TENSOR_NHWC) return CUDNN_STATUS_NOT_SUPPORTED;
    *tensor = { true, type, n, c, h, w };
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w)
{
    if (!filter || k < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    if (format != CUDNN_TENSOR_NHWC) return CUDNN_STATUS_NOT_SUPPORTED;
    *filter = { true, type, k, c, h, w };
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t conv, int pad_h,
                                              int pad_w, int u, int v, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute)
{
    if (!conv || pad_h < 0 || pad_w < 0 || u < 1 || v < 1 || dilation_h < 1 || dilation_w < 1)
        return CUDNN_STATUS_BAD_PARAM;
    if (mode != CUDNN_CROSS_CORRELATION || compute != CUDNN_DATA_FLOAT)
        return CUDNN_STATUS_NOT_SUPPORTED;
    *conv = { true, pad_h, pad_w, u, v, dilation_h, dilation_w, 1, CUDNN_DEFAULT_MATH };
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t conv, int groups)
{
    if (!conv || groups < 1) return CUDNN_STATUS_BAD_PARAM;
    conv->groups = groups;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t conv, cudnnMathType_t math)
{
    if (!conv) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    conv->math = math;
    return CUDNN_STATUS_SUCCESS;
}

// ---- Calls: x, w, y or their gradients ---------------------------------------------------------

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
    const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t y, const int wanted,
    int *found, cudnnConvolutionFwdAlgoPerf_t *results)
{
    return search(FORWARD, handle, x, w, conv, y, wanted, found, results);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t dx, const int wanted,
    int *found, cudnnConvolutionBwdDataAlgoPerf_t *results)
{
    return search(BACKWARD_DATA, handle, dx, w, conv, dy, wanted, found, results);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t dw, const int wanted,
    int *found, cudnnConvolutionBwdFilterAlgoPerf_t *results)
{
    return search(BACKWARD_FILTER, handle, x, dw, conv, dy, wanted, found, results);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha,
                                      const cudnnTensorDescriptor_t xDesc, const void *x,
                                      const cudnnFilterDescriptor_t wDesc, const void *w,
                                      const cudnnConvolutionDescriptor_t conv,
                                      cudnnConvolutionFwdAlgo_t algo, void *work, size_t bytes,
                                      const void *beta, const cudnnTensorDescriptor_t yDesc,
                                      void *y)
{
    lock                held;
    convolution         v;
    const cudnnStatus_t status = describe(&v, FORWARD, handle, xDesc, wDesc, conv, yDesc);

    v.at_x = (void *)x;
    v.at_w = (void *)w;
    v.at_y = y;
    return status == CUDNN_STATUS_SUCCESS ? submit(handle, v, algo, alpha, beta, work, bytes)
                                          : status;
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha,
                                           const cudnnFilterDescriptor_t wDesc, const void *w,
                                           const cudnnTensorDescriptor_t dyDesc, const void *dy,
                                           const cudnnConvolutionDescriptor_t conv,
                                           cudnnConvolutionBwdDataAlgo_t algo, void *work,
                                           size_t bytes, const void *beta,
                                           const cudnnTensorDescriptor_t dxDesc, void *dx)
{
    lock                held;
    convolution         v;
    const cudnnStatus_t status = describe(&v, BACKWARD_DATA, handle, dxDesc, wDesc, conv, dyDesc);

    v.at_x = dx;
    v.at_w = (void *)w;
    v.at_y = (void *)dy;
    return status == CUDNN_STATUS_SUCCESS ? submit(handle, v, algo, alpha, beta, work, bytes)
                                          : status;
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha,
                                             const cudnnTensorDescriptor_t xDesc, const void *x,
                                             const cudnnTensorDescriptor_t dyDesc, const void *dy,
                                             const cudnnConvolutionDescriptor_t conv,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void *work,
                                             size_t bytes, const void *beta,
                                             const cudnnFilterDescriptor_t dwDesc, void *dw)
{
    lock                held;
    convolution         v;
    const cudnnStatus_t status = describe(&v, BACKWARD_FILTER, handle, xDesc, dwDesc, conv, dyDesc);

    v.at_x = (void *)x;
    v.at_w = dw;
    v.at_y = (void *)dy;
    return status == CUDNN_STATUS_SUCCESS ? submit(handle, v, algo, alpha, beta, work, bytes)
                                          : status;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
#define NAME(status) \
    case status: return #status;
    switch (status) {
        NAME(CUDNN_STATUS_SUCCESS)
        NAME(CUDNN_STATUS_NOT_INITIALIZED)
        NAME(CUDNN_STATUS_BAD_PARAM)
        NAME(CUDNN_STATUS_BAD_PARAM_NULL_POINTER)
        NAME(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT)
        NAME(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH)
        NAME(CUDNN_STATUS_NOT_SUPPORTED)
        NAME(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH)
        NAME(CUDNN_STATUS_INTERNAL_ERROR)
        NAME(CUDNN_STATUS_ALLOC_FAILED)
        NAME(CUDNN_STATUS_EXECUTION_FAILED)
    }
#undef NAME
    return "unknown";
}
