/* dnn.c - see dnn.h. The heuristics of cuDNN's v7 API, which cuDNN 8 and 9 both have, propose algorithms. The first is taken that
 * fits our scratch and, where asked, is deterministic. */
#include <limits.h>
#include <string.h>
#include "backend/cuda/dnn.h"

#ifdef KD_CUDNN

enum { PROPOSALS = 8 };

struct kd_cuda_dnn {
    cudnnTensorDescriptor_t      x, y;
    cudnnFilterDescriptor_t      w;
    cudnnConvolutionDescriptor_t conv[KD_DNN_WAYS]; /* each with the math of its algorithm */
    int                          algorithm[KD_DNN_WAYS];
    size_t                       work[KD_DNN_WAYS];
};

static cudnnDataType_t data_type(int32_t type)
{
    return type == KDAS_F16    ? CUDNN_DATA_HALF
           : type == KDAS_BF16 ? CUDNN_DATA_BFLOAT16
                               : CUDNN_DATA_FLOAT;
}

static cudnnMathType_t math_type(const kdas_device *device, int32_t type)
{
    if (type != KDAS_F32) return CUDNN_TENSOR_OP_MATH;
    return device->tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

static bool fits(int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t dim[] = { a, b, c, d };
    int64_t       n     = 1;

    for (size_t i = 0; i < KD_COUNT(dim); i++)
        n = dim[i] > 0 && n <= INT_MAX / dim[i] ? n * dim[i] : INT64_MAX;
    return n <= INT_MAX;
}

/* It counts in ints, and pads both sides equally. */
static bool takes(const kd_cuda_conv *s)
{
    return s->top == s->bottom && s->left == s->right && fits(s->n, s->h, s->w, s->c) &&
           fits(s->n, s->p, s->q, s->o) && fits(s->o, s->width, 1, 1);
}

/* ---- descriptors ---- */

static cudnnStatus_t describe_map(cudnnTensorDescriptor_t to, kdas_dtype type, int64_t n, int64_t c,
                                  int64_t h, int64_t w)
{
    return cudnnSetTensor4dDescriptor(to, CUDNN_TENSOR_NHWC, data_type(type), (int)n, (int)c,
                                      (int)h, (int)w);
}

static cudnnStatus_t describe_convolution(const kdas_device *device, const kd_cuda_conv *s,
                                          kdas_dtype type, cudnnConvolutionDescriptor_t *out)
{
    cudnnStatus_t status = cudnnCreateConvolutionDescriptor(out);

    if (status != CUDNN_STATUS_SUCCESS) return status;
    status = cudnnSetConvolution2dDescriptor(*out, (int)s->top, (int)s->left, (int)s->stride,
                                             (int)s->stride, (int)s->dilation, (int)s->dilation,
                                             CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
    if (status == CUDNN_STATUS_SUCCESS && s->groups > 1)
        status = cudnnSetConvolutionGroupCount(*out, (int)s->groups);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    return cudnnSetConvolutionMathType(*out, math_type(device, type));
}

static cudnnStatus_t describe(const kdas_device *device, const kd_cuda_conv *s, kdas_dtype type,
                              kd_cuda_dnn *d)
{
    cudnnStatus_t status = cudnnCreateTensorDescriptor(&d->x);

    if (status == CUDNN_STATUS_SUCCESS) status = describe_map(d->x, type, s->n, s->c, s->h, s->w);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnCreateTensorDescriptor(&d->y);
    if (status == CUDNN_STATUS_SUCCESS) status = describe_map(d->y, type, s->n, s->o, s->p, s->q);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnCreateFilterDescriptor(&d->w);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnSetFilter4dDescriptor(d->w, data_type(type), CUDNN_TENSOR_NHWC, (int)s->o,
                                            (int)(s->c / s->groups), (int)s->kh, (int)s->kw);
    for (int i = 0; i < KD_DNN_WAYS && status == CUDNN_STATUS_SUCCESS; i++)
        status = describe_convolution(device, s, type, &d->conv[i]);
    return status;
}

/* ---- algorithms ---- */

/* Accept a proposal if it qualifies. f32 algorithms keep the math type that was asked for: the default would allow TF32. */
static bool take(const kdas_device *device, kd_cuda_dnn *d, int way, bool full, int algorithm,
                 cudnnStatus_t status, size_t bytes, cudnnDeterminism_t determinism,
                 cudnnMathType_t math)
{
    if (status != CUDNN_STATUS_SUCCESS || bytes > KD_CONV_WORK) return false;
    if (device->deterministic && determinism != CUDNN_DETERMINISTIC) return false;
    if (!full && cudnnSetConvolutionMathType(d->conv[way], math) != CUDNN_STATUS_SUCCESS)
        return false;
    d->algorithm[way] = algorithm;
    d->work[way]      = bytes;
    return true;
}

/* The proposals for one direction, and whether one was accepted. `full`: f32 without TF32. */
#define CHOOSE(name, way, algorithms, results, first, second, third)                             \
    static bool name(const kdas_device *device, kd_cuda_dnn *d, bool full)                       \
    {                                                                                            \
        results p[PROPOSALS];                                                                    \
        int     count = 0;                                                                       \
                                                                                                 \
        if (algorithms(device->dnn, first, second, d->conv[way], third, PROPOSALS, &count, p) != \
            CUDNN_STATUS_SUCCESS)                                                                \
            return false;                                                                        \
        for (int i = 0; i < count; i++)                                                          \
            if (take(device, d, way, full, (int)p[i].algo, p[i].status, p[i].memory,             \
                     p[i].determinism, p[i].mathType))                                           \
                return true;                                                                     \
        return false;                                                                            \
    }
CHOOSE(choose_forward, KD_DNN_FORWARD, cudnnGetConvolutionForwardAlgorithm_v7,
       cudnnConvolutionFwdAlgoPerf_t, d->x, d->w, d->y)
CHOOSE(choose_dx, KD_DNN_DX, cudnnGetConvolutionBackwardDataAlgorithm_v7,
       cudnnConvolutionBwdDataAlgoPerf_t, d->w, d->y, d->x)
CHOOSE(choose_dw, KD_DNN_DW, cudnnGetConvolutionBackwardFilterAlgorithm_v7,
       cudnnConvolutionBwdFilterAlgoPerf_t, d->x, d->y, d->w)

static bool choose(const kdas_device *device, kdas_dtype type, unsigned ways, kd_cuda_dnn *d)
{
    bool full = type == KDAS_F32 && !device->tf32;

    return (!(ways >> KD_DNN_FORWARD & 1) || choose_forward(device, d, full)) &&
           (!(ways >> KD_DNN_DX & 1) || choose_dx(device, d, full)) &&
           (!(ways >> KD_DNN_DW & 1) || choose_dw(device, d, full));
}

/* ---- open, close, run ---- */

kdas_status kd_cuda_dnn_open(kdas_device *device, const kd_cuda_conv *shape, kdas_dtype type,
                             unsigned ways, kd_cuda_dnn **out)
{
    kd_cuda_dnn  *d;
    cudnnStatus_t status;

    *out = NULL;
    if (!device->dnn || !takes(shape)) return KDAS_OK;
    d = device->host.alloc(device->host.user, sizeof *d);
    if (!d)
        return device->host.fail(KDAS_ENOMEM, "cuda:%d: %s: no memory for its algorithms",
                                 device->index, device->op);
    memset(d, 0, sizeof *d);
    status = describe(device, shape, type, d);
    if (status == CUDNN_STATUS_SUCCESS && choose(device, type, ways, d)) {
        *out = d;
        return KDAS_OK;
    }
    kd_cuda_dnn_close(device, d);
    if (status == CUDNN_STATUS_SUCCESS || status == CUDNN_STATUS_NOT_SUPPORTED) return KDAS_OK;
    return kd_cuda_check_dnn(device, status, "descriptors");
}

void kd_cuda_dnn_close(kdas_device *device, kd_cuda_dnn *d)
{
    if (!d) return;
    for (int i = 0; i < KD_DNN_WAYS; i++)
        if (d->conv[i]) cudnnDestroyConvolutionDescriptor(d->conv[i]);
    if (d->w) cudnnDestroyFilterDescriptor(d->w);
    if (d->y) cudnnDestroyTensorDescriptor(d->y);
    if (d->x) cudnnDestroyTensorDescriptor(d->x);
    device->host.free(device->host.user, d);
}

size_t kd_cuda_dnn_work(const kd_cuda_dnn *d, int way) { return d->work[way]; }

kdas_status kd_cuda_dnn_run(kdas_device *device, const kd_cuda_dnn *d, int way, const void *a,
                            const void *b, void *to, float beta, void *work)
{
    const float one = 1;

    switch (way) {
    case KD_DNN_FORWARD:
        return kd_cuda_check_dnn(
            device,
            cudnnConvolutionForward(device->dnn, &one, d->x, a, d->w, b, d->conv[way],
                                    (cudnnConvolutionFwdAlgo_t)d->algorithm[way], work,
                                    d->work[way], &beta, d->y, to),
            "cudnnConvolutionForward");
    case KD_DNN_DX:
        return kd_cuda_check_dnn(
            device,
            cudnnConvolutionBackwardData(device->dnn, &one, d->w, b, d->y, a, d->conv[way],
                                         (cudnnConvolutionBwdDataAlgo_t)d->algorithm[way], work,
                                         d->work[way], &beta, d->x, to),
            "cudnnConvolutionBackwardData");
    default:
        return kd_cuda_check_dnn(
            device,
            cudnnConvolutionBackwardFilter(device->dnn, &one, d->x, a, d->y, b, d->conv[way],
                                           (cudnnConvolutionBwdFilterAlgo_t)d->algorithm[way], work,
                                           d->work[way], &beta, d->w, to),
            "cudnnConvolutionBackwardFilter");
    }
}

#else

kdas_status kd_cuda_dnn_open(kdas_device *device, const kd_cuda_conv *shape, kdas_dtype type,
                             unsigned ways, kd_cuda_dnn **out)
{
    (void)device, (void)shape, (void)type, (void)ways;
    *out = NULL;
    return KDAS_OK;
}

void kd_cuda_dnn_close(kdas_device *device, kd_cuda_dnn *dnn) { (void)device, (void)dnn; }

size_t kd_cuda_dnn_work(const kd_cuda_dnn *dnn, int way)
{
    (void)dnn, (void)way;
    return 0;
}

/* Unreachable: there is no kd_cuda_dnn without cuDNN. */
kdas_status kd_cuda_dnn_run(kdas_device *device, const kd_cuda_dnn *dnn, int way, const void *a,
                            const void *b, void *to, float beta, void *work)
{
    (void)dnn, (void)way, (void)a, (void)b, (void)to, (void)beta, (void)work;
    return device->host.fail(KDAS_EUNSUPPORTED, "cuda:%d: this plug-in was built without cuDNN",
                             device->index);
}

#endif
