/* cpu.h - the inside of the CPU backend: the device, and the kernels, of which there is one copy for each instruction set.
 * Like a plug-in, this folder includes kdas/backend.h and src/base/ and nothing else. */
#ifndef KD_CPU_H
#define KD_CPU_H
#include <kdas/backend.h>
#include "base/base.h"

/* The tables of the two built-in backends: "cpu", and "reference", which has no kernels, so that every op runs on its plain-C
 * reference kernel. */
extern const kdas_backend kd_backend_cpu;
extern const kdas_backend kd_backend_reference;

typedef struct kd_onednn kd_onednn; /* onednn.h */

/* One op compiled for one instruction set; members as in kdas_kernel, NULL: nothing to do. */
typedef struct kd_cpu_kernel {
    kdas_status (*prepare)(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan);
    void (*release)(kdas_device *device, void *state);
    kdas_status (*pack)(kdas_device *device, const kdas_call *call);
    kdas_status (*forward)(kdas_device *device, const kdas_call *call);
    kdas_status (*backward)(kdas_device *device, const kdas_call *call);
} kd_cpu_kernel;

/* All kernels of one instruction set by the op's number; NULL: there is none. */
#define KD_CPU_OPS 80
typedef const kd_cpu_kernel *kd_cpu_code[KD_CPU_OPS];
extern const kd_cpu_code     kd_code_avx512, kd_code_avx2, kd_code_plain, kd_code_bf16, kd_code_amx;
/* Kernels of integer nodes. */
extern const kd_cpu_code kd_code_vnni, kd_code_avxvnni, kd_code_avx2_int8, kd_code_amx_int8;

struct kdas_device {
    kdas_host          host;
    int                threads; /* how many parts the work has, and so in what order sums are made */
    const char        *isa;     /* "avx512", "avx2" or "plain"                         */
    const kd_cpu_code *code;    /* its kernels                                         */
    const kd_cpu_code *half;    /* kernels for bf16 activations; NULL: not on this CPU */
    const kd_cpu_code *integer; /* kernels of integer nodes; NULL: not on this CPU     */
    size_t             large;   /* bytes; larger outputs are streamed                  */
    bool               held;    /* no bf16 because oneDNN is limited to less in this process */
    kd_onednn         *onednn;
    int                outer_threads; /* the thread count that kd_cpu_leave() restores */
};

/* ---- memory.c: device memory that is the host's ---- */
void       *kd_cpu_alloc(kdas_device *device, size_t bytes);
void        kd_cpu_free(kdas_device *device, void *memory);
kdas_status kd_cpu_copy(kdas_device *device, void *to, const void *from, size_t bytes);
kdas_status kd_cpu_zero(kdas_device *device, void *memory, size_t bytes);
kdas_status kd_cpu_sync(kdas_device *device);

/* ---- device.c: opening, and the choice of the instruction set ---- */
kdas_status kd_cpu_open(kdas_device **out, const kdas_host *host,
                        const kdas_device_options *options);
void        kd_cpu_close(kdas_device *device);
void        kd_cpu_describe(kdas_device *device, char *text, size_t size);

/* ---- threads.c: OpenMP's thread count of a run ---- */
void kd_cpu_enter(kdas_device *device); /* the calling thread's OpenMP uses one thread from here on */
void kd_cpu_leave(kdas_device *device); /* and the caller's own number again                        */

/* ---- amx.c: matrix tiles ---- */

/* Does the CPU have tiles with bf16 products, and does the system grant them? It asks for permission. */
bool kd_cpu_has_tiles(void);
/* The same of products of 8-bit integers. */
bool kd_cpu_has_int8_tiles(void);

/* Do two copies of the kernels compute the same? Of those for bf16, but for rounding; of those for integers, to the bit.
 * KDAS_ENOMEM: it could not be tested. */
typedef struct kd_cpu_trial {
    const char *numbers; /* what is computed with, for messages */
    kdas_status (*agree)(bool *out, const kdas_host *host, const kd_cpu_code *tried,
                         const kd_cpu_code *known);
} kd_cpu_trial;
extern const kd_cpu_trial kd_cpu_trial_bf16, kd_cpu_trial_int8;

/* The result of a trial: 0 not tried yet, 1 yes, -1 no. */
typedef atomic_int kd_cpu_verdict;
/* *out = `tried` if it agrees with `known`, else `known`, with a warning. Thread-safe. */
kdas_status kd_cpu_trusted(const kd_cpu_code **out, const kdas_host *host, const kd_cpu_trial *of,
                           kd_cpu_verdict *verdict, const kd_cpu_code *tried,
                           const kd_cpu_code *known);

/* ---- conv.c: CONV2D and DECONV2D on oneDNN, some of them in simd/ ---- */
extern const kd_cpu_kernel kd_cpu_conv;
bool                       kd_cpu_conv_by_winograd(const kdas_node_desc *node); /* in simd/; it can apply `post` */

/* ---- matmul.c: MATMUL on OpenBLAS where it is large, else in simd/ ---- */
extern const kd_cpu_kernel kd_cpu_matmul;
void                       kd_openblas_version(char *text, size_t size); /* "OpenBLAS 0.3.21" */

#endif
