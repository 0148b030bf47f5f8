/* context.c - creating a context: hooks, thread count, and the device for a name. */
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/registry.h"
#include "base/context.h"
#include "base/cores.h"
#include "base/pin.h"
#include "base/process.h"
#include "base/team.h"

static void *host_malloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}
static void host_free(void *user, void *memory)
{
    (void)user;
    free(memory);
}

/* The host table that a backend gets: functions that forward to the context. */
static void *lend_alloc(void *user, size_t bytes) { return kd_alloc(user, bytes); }
static void  lend_free(void *user, void *memory) { kd_free(user, memory); }
static void  lend_log(void *user, kdas_log_level level, const char *text)
{
    kd_log(user, level, "%s", text);
}

void kdas_context_options_init(kdas_context_options *options, size_t size)
{
    kdas_context_options defaults = { .size = size, .device = "cpu", .deterministic = 1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* Is vector code disabled, by the option or the environment variable, as for the CPU backend? */
static bool plain_asked(const char *isa)
{
    const char *limit = getenv("KDAS_CPU_ISA");

    return (isa && !strcmp(isa, "plain")) || (limit && !strcmp(limit, "plain"));
}

static kdas_status check_options(const kdas_context_options *o)
{
    if (!o->device) return kd_fail(KDAS_EINVAL, "context: device is NULL");
    if (o->threads < 0 || o->threads > 1024)
        return kd_fail(KDAS_EINVAL, "context: threads is %d, not 0 to 1024", o->threads);
    if (!o->alloc != !o->free)
        return kd_fail(KDAS_EINVAL, "context: set both memory hooks or neither");
    if (o->isa && strcmp(o->isa, "amx") && strcmp(o->isa, "avx512") && strcmp(o->isa, "avx2") &&
        strcmp(o->isa, "plain"))
        return kd_fail(KDAS_EINVAL, "context: isa '%.32s' is not amx, avx512, avx2 or plain",
                       o->isa);
    if (o->precision < KDAS_PRECISION_F32 || o->precision > KDAS_PRECISION_INT8)
        return kd_fail(KDAS_EINVAL, "context: precision is %d, not a kdas_precision",
                       (int)o->precision);
    if (o->wait < KDAS_WAIT_AUTO || o->wait > KDAS_WAIT_SLEEP)
        return kd_fail(KDAS_EINVAL, "context: wait is %d, not a kdas_wait", (int)o->wait);
    return KDAS_OK;
}

/* Does the backend have kernels with activations of this type? Tested with a linear layer. */
static bool can_compute_in(const kdas_context *ctx, kdas_dtype type)
{
    const kdas_node_desc node = { .op     = KDAS_OP_LINEAR,
                                  .inputs = 2,
                                  .in     = { { type, 4, { 1, 1, 16, 16 } },
                                              { KDAS_F32, 2, { 16, 16, 1, 1 } } },
                                  .out    = { type, 4, { 1, 1, 16, 16 } } };

    for (const kdas_kernel *k = ctx->backend->kernels; k && k->op; k++)
        if (k->op == node.op && (!k->supports || k->supports(ctx->device, &node))) return true;
    return false;
}

/* Does it have integer products? */
static bool has_integers(const kdas_context *ctx)
{
    const kdas_node_desc node = { .op     = KDAS_OP_LINEAR,
                                  .inputs = 5,
                                  .in     = { { KDAS_U8, 4, { 1, 1, 16, 16 } },
                                              { KDAS_F32, 2, { 16, 16, 1, 1 } },
                                              [3] = { KDAS_F32, 1, { 2, 1, 1, 1 } } },
                                  .out    = { KDAS_F32, 4, { 1, 1, 16, 16 } } };

    for (const kdas_kernel *k = ctx->backend->kernels; k && k->op; k++)
        if (k->op == node.op && (!k->supports || k->supports(ctx->device, &node))) return true;
    return false;
}

static kdas_status refuse_precision(const kdas_context *ctx, int32_t precision)
{
    switch (precision) {
    case KDAS_PRECISION_INT8:
        return kd_fail(
            KDAS_EUNSUPPORTED,
            "context: %s has no products of 8-bit integers (x86 needs AVX2); "
            "KDAS_PRECISION_AUTO (--dtype auto) runs networks on grids with floats there",
            ctx->device_text);
    case KDAS_PRECISION_TF32:
        return kd_fail(KDAS_EUNSUPPORTED,
                       "context: %s has no products in tf32 (a GPU from sm_80 has)",
                       ctx->device_text);
    case KDAS_PRECISION_F16:
        return kd_fail(KDAS_EUNSUPPORTED, "context: %s has no kernels for f16 (a GPU has)",
                       ctx->device_text);
    default:
        return kd_fail(KDAS_EUNSUPPORTED,
                       "context: %s has no kernels for bf16 (x86 needs AVX-512 BF16, a GPU sm_80)",
                       ctx->device_text);
    }
}

static kdas_status choose_precision(kdas_context *ctx, const kdas_context_options *o)
{
    bool bf16 = o->precision == KDAS_PRECISION_BF16 ||
                o->precision == KDAS_PRECISION_BF16_IF_ABLE ||
                o->precision == KDAS_PRECISION_AUTO || o->precision == KDAS_PRECISION_INT8;
    bool f16 = o->precision == KDAS_PRECISION_F16 || o->precision == KDAS_PRECISION_AUTO;

    ctx->type    = KDAS_F32;
    ctx->int8    = o->precision == KDAS_PRECISION_INT8;
    ctx->integer = (ctx->int8 || o->precision == KDAS_PRECISION_AUTO) && has_integers(ctx);
    if (ctx->int8 && !ctx->integer) return refuse_precision(ctx, o->precision);
    if (o->precision == KDAS_PRECISION_F32) return KDAS_OK;
    if (o->precision == KDAS_PRECISION_TF32) {
        ctx->tf32 = ctx->backend->has_tf32 && ctx->backend->has_tf32(ctx->device);
        return ctx->tf32 ? KDAS_OK : refuse_precision(ctx, o->precision);
    }
    if (bf16 && can_compute_in(ctx, KDAS_BF16))
        ctx->type = KDAS_BF16;
    else if (f16 && can_compute_in(ctx, KDAS_F16))
        ctx->type = KDAS_F16;
    if (ctx->type != KDAS_F32 || ctx->int8) return KDAS_OK;
    if (o->precision == KDAS_PRECISION_BF16 || o->precision == KDAS_PRECISION_F16)
        return refuse_precision(ctx, o->precision);
    kd_log(ctx, KDAS_LOG_WARN, "%s has no kernels for %s: computing in f32", ctx->device_text,
           f16 ? "bf16 or f16" : "bf16");
    return KDAS_OK;
}

static kdas_status open_device(kdas_context *ctx, const kdas_context_options *o, int32_t index)
{
    kdas_device_options options  = { .size          = sizeof options,
                                     .index         = index,
                                     .threads       = ctx->threads,
                                     .isa           = o->isa,
                                     .deterministic = o->deterministic,
                                     .tf32          = o->precision == KDAS_PRECISION_TF32 };
    char                why[256] = "";

    ctx->host = (kdas_host){ .abi   = KDAS_BACKEND_ABI,
                             .size  = sizeof ctx->host,
                             .user  = ctx,
                             .alloc = lend_alloc,
                             .free  = lend_free,
                             .log   = lend_log,
                             .fail  = kd_fail };

    if (ctx->backend->probe(options.index, why, sizeof why) <= 0)
        return kd_fail(KDAS_EBACKEND, "device '%s' cannot be used: %s", o->device, why);
    KD_RETURN(ctx->backend->open(&ctx->device, &ctx->host, &options));
    ctx->host_memory = ctx->backend->host_memory;
    ctx->backend->describe(ctx->device, ctx->device_text, sizeof ctx->device_text);
    return KDAS_OK;
}

/* The number of threads: as asked for, but for OpenMP's own limit. */
static void choose_threads(kdas_context *ctx, int32_t asked)
{
    int32_t wanted = asked ? asked : kd_default_threads(ctx);

    ctx->threads = KD_MIN(wanted, (int32_t)omp_get_thread_limit());
    if (ctx->threads < wanted)
        kd_warn(ctx, "%d compute threads are wanted, OMP_THREAD_LIMIT allows %d", wanted,
                ctx->threads);
}

static kdas_status open_context(kdas_context *ctx, const kdas_context_options *o, int32_t index)
{
    kdas_status st;

    choose_threads(ctx, o->threads);
    if (o->pin_threads) KD_RETURN(kd_pin_open(ctx));
    kd_process_enter();
    st = open_device(ctx, o, index);
    kd_process_leave();
    KD_RETURN(st);
    if (ctx->threads > 1) KD_RETURN(kd_team_create(&ctx->team, ctx, ctx->threads, o->wait));
    return choose_precision(ctx, o);
}

/* Requirements on the process, whatever the options. */
static kdas_status check_process(void)
{
    KD_RETURN(kd_process_watch());
    return kd_process_check();
}

static kdas_status take_options(kdas_context_options *o, const kdas_context_options *options)
{
    kdas_context_options_init(o, sizeof *o);
    KD_RETURN(kd_take_options(o, sizeof *o, options, "kdas_context_options"));
    KD_RETURN(check_options(o));
    if (!o->alloc) {
        o->alloc = host_malloc;
        o->free  = host_free;
    }
    return KDAS_OK;
}

/* A context on a table; owns the plug-in, also on failure. */
static kdas_status create(kdas_context **out, const kdas_context_options *o,
                          const kdas_backend *table, kd_plugin plugin, int32_t index)
{
    kdas_context *ctx = o->alloc(o->alloc_user, sizeof *ctx);
    kdas_status   st;

    if (!ctx) {
        kd_plugin_close(&plugin);
        return kd_fail(KDAS_ENOMEM, "out of memory: %zu bytes were needed", sizeof *ctx);
    }
    memset(ctx, 0, sizeof *ctx);
    ctx->alloc      = o->alloc;
    ctx->free       = o->free;
    ctx->alloc_user = o->alloc_user;
    ctx->log        = o->log;
    ctx->log_user   = o->log_user;
    ctx->forks      = kd_process_forks();
    ctx->plain      = plain_asked(o->isa);
    ctx->plugin     = plugin;
    kd_backend_take(&ctx->table, table);
    ctx->backend = &ctx->table;
    atomic_init(&ctx->cancelled, 0);
    st = open_context(ctx, o, index);
    if (st != KDAS_OK) {
        kdas_context_destroy(ctx);
        return st;
    }
    *out = ctx;
    return KDAS_OK;
}

kdas_status kdas_context_create(kdas_context **out, const kdas_context_options *options)
{
    kdas_context_options o;
    const kdas_backend  *table;
    kd_plugin            plugin;
    int32_t              index;
    char                 name[64];

    if (!out) return kd_fail(KDAS_EINVAL, "context: out is NULL");
    *out = NULL;
    KD_RETURN(take_options(&o, options));
    KD_RETURN(kd_backend_parse(name, sizeof name, &index, o.device));
    KD_RETURN(check_process());
    KD_RETURN(kd_backend_find(&table, &plugin, name, o.plugin_path));
    return create(out, &o, table, plugin, index);
}

kdas_status kd_context_create_on(kdas_context **out, const kdas_context_options *options,
                                 const kdas_backend *table)
{
    kdas_context_options o;

    *out = NULL;
    KD_RETURN(take_options(&o, options));
    KD_RETURN(check_process());
    KD_RETURN(kd_backend_check(table, table->name));
    return create(out, &o, table, (kd_plugin){ 0 }, 0);
}

void kdas_context_destroy(kdas_context *ctx)
{
    if (!ctx) return;
    kd_context_parts_finish(ctx);
    kd_profile_finish(ctx);
    kd_team_destroy(ctx->team);
    kd_pin_close(ctx);
    if (kd_device_is_here(ctx)) {
        if (ctx->device) ctx->backend->close(ctx->device);
        kd_plugin_close(&ctx->plugin);
    }
    ctx->free(ctx->alloc_user, ctx);
}

void kdas_context_cancel(kdas_context *ctx)
{
    if (ctx) atomic_store(&ctx->cancelled, 1);
}

void kdas_context_resume(kdas_context *ctx)
{
    if (ctx) atomic_store(&ctx->cancelled, 0);
}

kdas_status kdas_context_hold(kdas_context *ctx)
{
    if (!ctx) return kd_fail(KDAS_EINVAL, "kdas_context_hold: the context is NULL");
    if (ctx->held == INT_MAX)
        return kd_fail(KDAS_ESTATE, "kdas_context_hold: it is held %d times", ctx->held);
    ctx->held++;
    return KDAS_OK;
}

kdas_status kdas_context_release(kdas_context *ctx)
{
    if (!ctx) return kd_fail(KDAS_EINVAL, "kdas_context_release: the context is NULL");
    if (ctx->held == 0)
        return kd_fail(KDAS_ESTATE, "kdas_context_release: no kdas_context_hold() comes before it");
    ctx->held--;
    return KDAS_OK;
}

kdas_status kdas_context_wait(kdas_context *ctx)
{
    if (!ctx) return kd_fail(KDAS_EINVAL, "kdas_context_wait: the context is NULL");
    KD_RETURN(kd_check_process(ctx));
    return ctx->backend->sync(ctx->device);
}

int32_t kdas_context_threads(const kdas_context *ctx) { return ctx ? ctx->threads : 0; }

int32_t kdas_context_pinned(const kdas_context *ctx) { return ctx && kd_pin_holds(ctx); }

kdas_precision kdas_context_precision(const kdas_context *ctx)
{
    if (!ctx) return KDAS_PRECISION_F32;
    if (ctx->int8) return KDAS_PRECISION_INT8;
    if (ctx->type == KDAS_BF16) return KDAS_PRECISION_BF16;
    if (ctx->type == KDAS_F16) return KDAS_PRECISION_F16;
    return ctx->tf32 ? KDAS_PRECISION_TF32 : KDAS_PRECISION_F32;
}

const char *kdas_context_device(const kdas_context *ctx) { return ctx ? ctx->device_text : NULL; }
