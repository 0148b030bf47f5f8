/* onednn.h - the only interface to oneDNN: CONV2D and DECONV2D with N,H,W,C activations and PyTorch's weights. The files
 * onednn*.c build with 2.6 and with v3; no other file includes a header of oneDNN. */
#ifndef KD_ONEDNN_H
#define KD_ONEDNN_H
#include "backend/cpu/cpu.h"

/* `isa`: the highest instruction set that oneDNN may use, "amx" for no limit. It holds for the process: the first call
 * settles it, unless the host has used oneDNN itself before. A lower limit than that in a later call is logged.
 * `threads`: into how many parts work is cut. */
kdas_status kd_onednn_open(kd_onednn **out, const kdas_host *host, const char *isa, int threads);
void        kd_onednn_close(kd_onednn *dnn); /* NULL is fine */
/* What oneDNN really uses in this process: an earlier device, the host or ONEDNN_MAX_CPU_ISA may have limited it. */
bool        kd_onednn_has_bf16(const kd_onednn *dnn); /* products of bf16 */
const char *kd_onednn_isa(const kd_onednn *dnn);      /* in words */
void        kd_onednn_version(char *text, size_t size);

/* ---- Convolution ---- */

/* x, out and their gradients are f32 or bf16, as the node says. Outside, weights have PyTorch's order, (O,C/groups,kh,kw) or
 * (C,O,kh,kw); kd_conv_pack() converts them to the layouts that the primitives chose. All sizes are in bytes. */
typedef struct kd_conv kd_conv;

typedef struct kd_conv_sizes {
    size_t   packed;        /* kd_conv_pack() fills it, forward and backward to x read it */
    uint64_t pack_key;      /* a hash of its layout; not 0                                */
    size_t   forward;       /* work of forward                                            */
    size_t   data, weights; /* work of the two halves of backward                         */
} kd_conv_sizes;

/* Make what the node needs: forward, and the halves of backward that node->wants. */
kdas_status kd_conv_create(kd_conv **out, kd_onednn *dnn, const kdas_node_desc *node,
                           kd_conv_sizes *sizes);
void        kd_conv_destroy(kd_conv *conv); /* NULL is fine */
kdas_status kd_conv_pack(kd_conv *conv, const float *w, void *packed);
kdas_status kd_conv_forward(kd_conv *conv, const void *x, const void *packed, const float *b,
                            void *out, void *work);
/* Sets dx. */
kdas_status kd_conv_backward_data(kd_conv *conv, const void *dout, const void *packed, void *dx,
                                  void *work);
/* Adds to dw (PyTorch's layout) and db; either may be NULL. */
kdas_status kd_conv_backward_weights(kd_conv *conv, const void *x, const void *dout, float *dw,
                                     float *db, void *work);

#endif
