/* dnn.h - dense convolution by cuDNN, where it has an algorithm. x (N,H,W,C), w (O,kh,kw,C/groups), y (N,P,Q,O), and their
 * gradients, all of one type. */
#ifndef KD_CUDA_DNN_H
#define KD_CUDA_DNN_H
#include "backend/cuda/cuda.h"
#include "backend/cuda/conv.h"

KDAS_BEGIN

enum { KD_DNN_FORWARD, KD_DNN_DX, KD_DNN_DW, KD_DNN_WAYS };

/* The most scratch that an algorithm, or im2col, may use. */
#define KD_CONV_WORK ((size_t)256 << 20)

typedef struct kd_cuda_dnn kd_cuda_dnn;

/* Choose algorithms for a convolution of this type and the directions in `ways`: bit i is the i-th of KD_DNN_*. *out is NULL
 * without cuDNN, or if it lacks one of them; released by kd_cuda_dnn_close(). */
kdas_status kd_cuda_dnn_open(kdas_device *device, const kd_cuda_conv *shape, kdas_dtype type,
                             unsigned ways, kd_cuda_dnn **out);
void        kd_cuda_dnn_close(kdas_device *device, kd_cuda_dnn *dnn);
/* Bytes of scratch for one of KD_DNN_*. */
size_t kd_cuda_dnn_work(const kd_cuda_dnn *dnn, int way);

/* to = result + beta to. FORWARD: y from x and w; DX: dx from dy and w; DW: dw from x and dy. */
kdas_status kd_cuda_dnn_run(kdas_device *device, const kd_cuda_dnn *dnn, int way, const void *a,
                            const void *b, void *to, float beta, void *work);

KDAS_END
#endif
