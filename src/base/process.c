/* process.c - see process.h. */
#include "base/process.h"
#include <pthread.h>
#include "base/context.h"

static atomic_uint forks; /* written by a child before it has a second thread */
static atomic_int  under_way;
static atomic_bool torn; /* this process was forked while something was under way */
static int         watched;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void kd_process_lock(void) { pthread_mutex_lock(&lock); }
void kd_process_unlock(void) { pthread_mutex_unlock(&lock); }

/* The thread that forked holds the lock, and is the one that the child has. */
static void in_child(void)
{
    atomic_fetch_add(&forks, 1);
    if (atomic_load(&under_way)) atomic_store(&torn, true);
    kd_process_unlock();
}

static void watch(void)
{
    watched = pthread_atfork(kd_process_lock, kd_process_unlock, in_child) == 0;
}

kdas_status kd_process_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, watch);
    return watched ? KDAS_OK : kd_fail(KDAS_ENOMEM, "out of memory: forks cannot be watched");
}

unsigned kd_process_forks(void) { return atomic_load_explicit(&forks, memory_order_relaxed); }

void kd_process_enter(void) { atomic_fetch_add(&under_way, 1); }
void kd_process_leave(void) { atomic_fetch_sub(&under_way, 1); }

kdas_status kd_process_check(void)
{
    if (!atomic_load(&torn)) return KDAS_OK;
    return kd_fail(KDAS_ESTATE,
                   "this process was forked while its parent was inside of libkdas: it "
                   "can compute after exec alone");
}

bool kd_is_inherited(const kdas_context *ctx) { return ctx->forks != kd_process_forks(); }

bool kd_device_is_here(const kdas_context *ctx)
{
    return ctx->host_memory || !kd_is_inherited(ctx);
}

kdas_status kd_check_process(const kdas_context *ctx)
{
    if (!kd_is_inherited(ctx)) return KDAS_OK;
    return kd_fail(KDAS_ESTATE, "the process was forked after the context was made: in the child, "
                                "what was made from it can only be destroyed");
}
