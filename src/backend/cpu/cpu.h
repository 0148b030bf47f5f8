/* cpu.h - the CPU backend seen from within: the device, and the kernels that come in one copy for
 * each instruction set. Like a plug-in, this folder knows kdas/backend.h and src/base/ and nothing
 * else. */
#ifndef KD_CPU_H
#define KD_CPU_H
#include <kdas/backend.h>
#include "base/base.h"

/* The tables of the two backends that are always there: "cpu", and "reference", which has memory
 * and not one kernel, so that everything runs on the plain-C kernels of the ops. */
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

/* All of them, by the op's number; a number without a kernel has NULL. */
#define KD_CPU_OPS 80
typedef const kd_cpu_kernel *kd_cpu_code[KD_CPU_OPS];
extern const kd_cpu_code     kd_code_avx512, kd_code_avx2, kd_code_plain, kd_code_bf16, kd_code_amx;

struct kdas_device {
    kdas_host          host;
    int                threads;
    const char        *isa;   /* "avx512", "avx2" or "plain" */
    const kd_cpu_code *code;  /* the kernels of that instruction set */
    const kd_cpu_code *half;  /* those for bf16 activations, NULL: not on this CPU */
    size_t             large; /* bytes; larger outputs are written past the caches */
    kd_onednn         *onednn;
    int                outer_threads; /* OpenMP's setting outside of enter .. leave */
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

/* ---- threads.c: the OpenMP thread count of a run ---- */
void kd_cpu_enter(kdas_device *device); /* OpenMP uses device->threads from here on */
void kd_cpu_leave(kdas_device *device); /* and the caller's own number again        */

/* ---- amx.c: matrix tiles ---- */

/* Are there tiles with products of bf16, and has the system lent them to this process? It is asked to. */
bool kd_cpu_has_tiles(void);

/* Do two copies of the kernels for bf16 compute the same but for rounding? KDAS_ENOMEM: it was not to be
 * found out. */
kdas_status kd_cpu_agree(bool *out, const kdas_host *host, const kd_cpu_code *tried,
                         const kd_cpu_code *known);

/* What kd_cpu_agree() has said: 0 not yet, 1 yes, -1 no. */
typedef atomic_int kd_cpu_verdict;
/* `tried` if it agrees with `known`, else that, and a warning. Any thread may call it. */
kdas_status kd_cpu_trusted(const kd_cpu_code **out, const kdas_host *host, kd_cpu_verdict *verdict,
                           const kd_cpu_code *tried, const kd_cpu_code *known);

/* ---- conv.c: CONV2D on oneDNN ---- */
extern const kd_cpu_kernel kd_cpu_conv2d;

/* ---- matmul.c: MATMUL on OpenBLAS where it is large, else in simd/ ---- */
extern const kd_cpu_kernel kd_cpu_matmul;

#endif
