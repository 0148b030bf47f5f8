/* conv.h - the shape of a dense convolution, for kernels, cuBLAS and cuDNN. x (N,H,W,C), w (O,kh,kw,C/groups), y (N,P,Q,O). */
#ifndef KD_CUDA_CONV_H
#define KD_CUDA_CONV_H

typedef struct kd_cuda_conv {
    int64_t n, h, w, c, p, q, o, kh, kw;
    int64_t stride, dilation, groups;
    int64_t top, left, bottom, right; /* padding                                          */
    int64_t width;                    /* kh kw C/groups: inputs of one output             */
} kd_cuda_conv;

#endif
