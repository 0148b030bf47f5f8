/* device.c - see device.h. */
#include <stdio.h>
#include <string.h>
#include "base/pin.h"
#include "base/process.h"
#include "graph/device.h"
#include "op/op.h"
#include "graph/profile.h"

/* "3 MiB", or bytes for small sizes. Needed sizes are rounded up, available sizes are rounded
 * down. */
static const char *amount(char *to, size_t size, size_t bytes)
{
    const size_t mib = (size_t)1 << 20;

    if (bytes < mib)
        snprintf(to, size, "%zu bytes", bytes);
    else
        snprintf(to, size, "%zu MiB", bytes / mib + (bytes % mib != 0));
    return to;
}

/* A failed device reports its failure here. The failure is then why there is no memory. */
static void fail_memory(kdas_context *ctx, size_t bytes)
{
    const kdas_backend *backend   = ctx->backend;
    size_t              available = 0, total = 0;
    char                needed[32];

    amount(needed, sizeof needed, bytes);
    if (!backend->memory)
        kd_fail(KDAS_ENOMEM, "out of device memory: %s were needed (%s)", needed, ctx->device_text);
    else if (backend->memory(ctx->device, &available, &total) == KDAS_OK)
        kd_fail(KDAS_ENOMEM, "out of device memory: %s were needed, %zu of %zu MiB are free (%s)",
                needed, available >> 20, total >> 20, ctx->device_text);
}

void *kd_device_alloc(kdas_context *ctx, size_t bytes)
{
    void *memory;

    if (kd_check_process(ctx) != KDAS_OK) return NULL;
    memory = ctx->backend->alloc(ctx->device, KD_MAX(bytes, 1));
    if (!memory) fail_memory(ctx, bytes);
    return memory;
}

void kd_device_free(kdas_context *ctx, void *memory)
{
    if (memory && kd_device_is_here(ctx)) ctx->backend->free(ctx->device, memory);
}

kdas_status kd_device_upload(kdas_context *ctx, void *to, const void *from, size_t bytes)
{
    KD_RETURN(kd_check_process(ctx));
    return ctx->backend->upload(ctx->device, to, from, bytes);
}

kdas_status kd_device_download(kdas_context *ctx, void *to, const void *from, size_t bytes)
{
    KD_RETURN(kd_check_process(ctx));
    return ctx->backend->download(ctx->device, to, from, bytes);
}

/* A device in the host's memory computes on the context's team. */
static void use_team(kdas_context *ctx, bool on)
{
    if (!ctx->host_memory || !ctx->team) return;
    if (on) kd_team_start(ctx->team);
    kd_team_use(on ? ctx->team : NULL);
}

kdas_status kd_device_zero(kdas_context *ctx, void *memory, size_t bytes)
{
    kdas_status st;

    KD_RETURN(kd_check_process(ctx));
    use_team(ctx, true);
    st = ctx->backend->zero(ctx->device, memory, bytes);
    use_team(ctx, false);
    return st;
}

/* Backends only copy between host and device. With separate device memory, x is copied as 0 + 1
 * * x. */
kdas_status kd_device_copy(kdas_context *ctx, float *to, const float *from, int64_t count)
{
    if (count == 0) return KDAS_OK;
    if (ctx->host_memory) {
        memcpy(to, from, (size_t)count * sizeof *to);
        return KDAS_OK;
    }
    KD_RETURN(kd_device_zero(ctx, to, (size_t)count * sizeof *to));
    return kd_device_add(ctx, to, from, count, 1);
}

kdas_status kd_device_upload_wait(kdas_context *ctx)
{
    KD_RETURN(kd_check_process(ctx));
    return ctx->backend->upload_wait(ctx->device);
}

void kd_device_graph_destroy(kdas_context *ctx, void *graph)
{
    if (graph && kd_device_is_here(ctx)) ctx->backend->graph_destroy(ctx->device, graph);
}

void kd_device_release(kdas_context *ctx, const kdas_kernel *kernel, void *state)
{
    if (state && kernel->release && kd_device_is_here(ctx)) kernel->release(ctx->device, state);
}

void *kd_device_host_alloc(kdas_context *ctx, size_t bytes)
{
    return ctx->backend->host_alloc(ctx->device, bytes);
}

void kd_device_host_free(kdas_context *ctx, void *memory)
{
    if (memory && kd_device_is_here(ctx)) ctx->backend->host_free(ctx->device, memory);
}

kdas_status kd_device_reserve(kdas_context *ctx, kd_staging *staging, size_t bytes)
{
    if (staging->bytes >= bytes) return KDAS_OK;
    kd_device_unstage(ctx, staging);
    staging->memory = kd_device_alloc(ctx, bytes);
    if (!staging->memory) return KDAS_ENOMEM;
    staging->bytes = bytes;
    return KDAS_OK;
}

kdas_status kd_device_stage(kdas_context *ctx, kd_staging *staging, float **out, const float *from,
                            size_t bytes)
{
    if (ctx->host_memory) {
        *out = (float *)from;
        return KDAS_OK;
    }
    KD_RETURN(kd_device_reserve(ctx, staging, bytes));
    *out = staging->memory;
    return kd_device_upload(ctx, staging->memory, from, bytes);
}

void kd_device_unstage(kdas_context *ctx, kd_staging *staging)
{
    kd_device_free(ctx, staging->memory);
    *staging = (kd_staging){ 0 };
}

/* A device that computes on the host's processors uses the context's threads. A device without
 * enter() has no threads. */
static bool has_threads(const kdas_context *ctx) { return ctx->host_memory && ctx->backend->enter; }

kdas_status kd_device_enter(kdas_context *ctx)
{
    KD_RETURN(kd_check_process(ctx));
    kd_process_enter();
    use_team(ctx, true);
    if (has_threads(ctx)) kd_pin_enter(ctx); /* binds threads that were just made, too */
    if (ctx->backend->enter) ctx->backend->enter(ctx->device);
    return KDAS_OK;
}

void kd_device_leave(kdas_context *ctx)
{
    if (ctx->backend->leave) ctx->backend->leave(ctx->device);
    use_team(ctx, false);
    kd_process_leave();
    if (has_threads(ctx)) kd_pin_leave();
}

/* Values that an activation follows are only for kernels that know of it; integer nodes always are. */
static bool can_post(const kdas_kernel *kernel, const kdas_node_desc *node)
{
    return node->post == KDAS_POST_NONE || node->in[0].dtype == KDAS_U8 ||
           (kernel->flags & KDAS_KERNEL_POST);
}

const kdas_kernel *kd_device_kernel(kdas_context *ctx, const kdas_node_desc *node,
                                    const kdas_kernel *reference)
{
    for (const kdas_kernel *k = ctx->backend->kernels; k && k->op; k++)
        if (k->op == node->op && can_post(k, node) &&
            (!k->supports || k->supports(ctx->device, node)))
            return k;
    return ctx->host_memory ? reference : NULL;
}

kdas_status kd_device_update(kdas_context *ctx, const kdas_kernel *reference, const kdas_call *call)
{
    const kdas_kernel *kernel = kd_device_kernel(ctx, call->node, reference);
    double             start;
    kdas_status        st;

    if (!kernel)
        return kd_fail(KDAS_EUNSUPPORTED, "device '%s' has no %s", ctx->backend->name,
                       kd_op_name(call->node->op));
    start = kd_profile_start(ctx);
    KD_RETURN(kd_device_enter(ctx));
    st = kernel->forward(ctx->device, call);
    kd_device_leave(ctx);
    if (st != KDAS_OK || !ctx->profiling) return st;
    return kd_profile_stop(ctx, start, "", kd_op_name(call->node->op), "", KDAS_PROFILE_UPDATE,
                           kd_work_of(call->node, kernel, KDAS_PROFILE_UPDATE));
}

kdas_status kd_device_add(kdas_context *ctx, float *y, const float *x, int64_t count, double factor)
{
    const kdas_scale_attr times = { .factor = (float)factor };
    kdas_node_desc        desc  = { .op = KDAS_OP_AXPY, .inputs = 2, .attr = &times };
    kdas_call             call  = { .node = &desc, .in = { y, (void *)x } };

    desc.in[0] = desc.in[1] = (kdas_desc){ KDAS_F32, 1, { count, 1, 1, 1 } };
    return kd_device_update(ctx, &kd_update_axpy, &call);
}

kdas_status kd_device_sum_squares(kdas_context *ctx, double *sum, const float *x, int64_t count)
{
    kdas_node_desc desc = { .op     = KDAS_OP_SUM_SQUARES,
                            .inputs = 1,
                            .in     = { { KDAS_F32, 1, { count, 1, 1, 1 } } },
                            .out    = { KDAS_F64, 1, { 1, 1, 1, 1 } } };
    kdas_call      call = { .node = &desc, .in = { (void *)x }, .out = sum };

    return kd_device_update(ctx, &kd_update_sum_squares, &call);
}
