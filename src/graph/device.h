/* device.h - the context's backend as plain calls: memory, copies, and UPDATE kernels. In a child of a fork what was made
 * before is refused (KDAS_ESTATE; NULL where memory is given). */
#ifndef KD_DEVICE_H
#define KD_DEVICE_H
#include <kdas/backend.h>
#include "base/context.h"

void       *kd_device_alloc(kdas_context *ctx, size_t bytes); /* NULL: KDAS_ENOMEM, sentence set */
void        kd_device_free(kdas_context *ctx, void *memory);
kdas_status kd_device_upload(kdas_context *ctx, void *to, const void *from, size_t bytes);
kdas_status kd_device_download(kdas_context *ctx, void *to, const void *from, size_t bytes);
kdas_status kd_device_zero(kdas_context *ctx, void *memory, size_t bytes);
/* `count` floats from one place on the device to another; they do not overlap. */
kdas_status kd_device_copy(kdas_context *ctx, float *to, const float *from, int64_t count);
/* Around kernels. KDAS_ESTATE, KDAS_EBACKEND: the calling thread cannot have its compute threads; then there is no leave. */
kdas_status kd_device_enter(kdas_context *ctx);
void        kd_device_leave(kdas_context *ctx);

/* Those of the table that devices may lack. What gives back does nothing in a child of a fork that the device has not
 * come along to, and NULL is fine. */
kdas_status kd_device_upload_wait(kdas_context *ctx);
void        kd_device_graph_destroy(kdas_context *ctx, void *graph);
void        kd_device_release(kdas_context *ctx, const kdas_kernel *kernel, void *state);
void       *kd_device_host_alloc(kdas_context *ctx, size_t bytes); /* NULL: none left */
void        kd_device_host_free(kdas_context *ctx, void *memory);

/* Let kernels read host data: *out is `from` itself where device memory is the host's, else a copy in the
 * staging memory, which grows as needed and holds one thing at a time. */
typedef struct kd_staging {
    void  *memory;
    size_t bytes;
} kd_staging;
kdas_status kd_device_stage(kdas_context *ctx, kd_staging *staging, float **out, const float *from,
                            size_t bytes);
/* Have room for so many bytes; what was there goes if there was not. */
kdas_status kd_device_reserve(kdas_context *ctx, kd_staging *staging, size_t bytes);
void        kd_device_unstage(kdas_context *ctx, kd_staging *staging);

/* The backend's kernel for a node, or `reference` where it has none and memory is the host's, or NULL. */
const kdas_kernel *kd_device_kernel(kdas_context *ctx, const kdas_node_desc *node,
                                    const kdas_kernel *reference);
/* Run an UPDATE kernel (ops.def) on flat blocks. */
kdas_status kd_device_update(kdas_context *ctx, const kdas_kernel *reference,
                             const kdas_call *call);
/* y += factor x, and the sum of squares (one double, on the device too), over `count` numbers. */
kdas_status kd_device_add(kdas_context *ctx, float *y, const float *x, int64_t count,
                          double factor);
kdas_status kd_device_sum_squares(kdas_context *ctx, double *sum, const float *x, int64_t count);

#endif
