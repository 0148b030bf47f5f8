/* log.c - lines for the host's log callback, and the host's request to cancel. */
#include <time.h>
#include "base/context.h"
#include "base/text.h"

void kd_log(kdas_context *ctx, kdas_log_level level, const char *format, ...)
{
    char    text[512];
    va_list args;

    if (!ctx->log) return;
    va_start(args, format);
    kd_vformat(text, sizeof text, format, args);
    va_end(args);
    kd_make_plain(text);
    ctx->log(ctx->log_user, level, text);
}

int32_t kdas_context_cancelled(const kdas_context *ctx)
{
    return ctx && ctx->held == 0 && atomic_load_explicit(&ctx->cancelled, memory_order_relaxed);
}

kdas_status kd_check_cancel(const kdas_context *ctx)
{
    if (!kdas_context_cancelled(ctx)) return KDAS_OK;
    return kd_fail(KDAS_ECANCELLED, "the host asked to stop");
}

kdas_status kd_check_stop(const kdas_context *ctx)
{
    KD_RETURN(kd_check_cancel(ctx));
    return ctx->give_up && ctx->give_up(ctx->give_up_user) ? KDAS_ECANCELLED : KDAS_OK;
}

double kd_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
