/* device.h - the context's backend as plain calls: memory, copies, and UPDATE kernels. In a
 * forked child, objects made before the fork are refused (KDAS_ESTATE; allocations return NULL). */
#ifndef KD_DEVICE_H
#define KD_DEVICE_H
#include <kdas/backend.h>
#include "base/context.h"

void       *kd_device_alloc(kdas_context *ctx, size_t bytes); /* NULL: KDAS_ENOMEM, sentence set */
void        kd_device_free(kdas_context *ctx, void *memory);
kdas_status kd_device_upload(kdas_context *ctx, void *to, const void *from, size_t bytes);
kdas_status kd_device_download(kdas_context *ctx, void *to, const void *from, size_t bytes);
kdas_status kd_device_zero(kdas_context *ctx, void *memory, size_t bytes);
/* Copy `count` floats on the device. The two ranges do not overlap. */
kdas_status kd_device_copy(kdas_context *ctx, float *to, const float *from, int64_t count);
/* Call these around kernels. On KDAS_ESTATE or KDAS_EBACKEND the calling thread cannot have its
 * compute threads; do not call leave then. */
kdas_status kd_device_enter(kdas_context *ctx);
void        kd_device_leave(kdas_context *ctx);

/* Optional functions of the backend's table. Functions that free accept NULL. In a forked child
 * they do nothing if the device does not support the fork. */
kdas_status kd_device_upload_wait(kdas_context *ctx);
void        kd_device_graph_destroy(kdas_context *ctx, void *graph);
void        kd_device_release(kdas_context *ctx, const kdas_kernel *kernel, void *state);
void       *kd_device_host_alloc(kdas_context *ctx, size_t bytes); /* NULL: out of memory */
void        kd_device_host_free(kdas_context *ctx, void *memory);

/* Make host data readable by kernels. *out is `from` itself where device memory is the host's.
 * Otherwise *out is a copy in the staging memory, which grows as needed and holds one copy at a
 * time. */
typedef struct kd_staging {
    void  *memory;
    size_t bytes;
} kd_staging;
kdas_status kd_device_stage(kdas_context *ctx, kd_staging *staging, float **out, const float *from,
                            size_t bytes);
/* Reserve this many bytes. Growing discards the contents. */
kdas_status kd_device_reserve(kdas_context *ctx, kd_staging *staging, size_t bytes);
void        kd_device_unstage(kdas_context *ctx, kd_staging *staging);

/* The backend's kernel for a node. If it has none, `reference` where memory is the host's, else
 * NULL. */
const kdas_kernel *kd_device_kernel(kdas_context *ctx, const kdas_node_desc *node,
                                    const kdas_kernel *reference);
/* Run an UPDATE kernel (ops.def) on flat blocks. */
kdas_status kd_device_update(kdas_context *ctx, const kdas_kernel *reference,
                             const kdas_call *call);
/* y += factor x, and the sum of squares (one double in device memory), over `count` numbers. */
kdas_status kd_device_add(kdas_context *ctx, float *y, const float *x, int64_t count,
                          double factor);
kdas_status kd_device_sum_squares(kdas_context *ctx, double *sum, const float *x, int64_t count);

#endif
