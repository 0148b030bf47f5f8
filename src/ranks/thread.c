/* thread.c - the thread that talks to the other ranks. Jobs are a list, done in its order. After the first failure no
 * job reaches the collective any more: each fails with the same sentence. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/process.h"
#include "base/text.h"
#include "ranks/ranks_inside.h"

enum { MOST_RANKS = 1 << 20 }; /* of each there are some bytes */

static kdas_status open_group(kdas_ranks *r)
{
    kdas_collective_options o  = { .size         = sizeof o,
                                   .timeout      = r->timeout,
                                   .communicator = r->communicator };
    kdas_status             st = r->table.open(&r->group, &r->host, &o);

    if (st != KDAS_OK) r->group = NULL; /* errors leave nothing behind to close */
    if (st != KDAS_OK) return st;
    if (!r->group)
        return kd_fail(KDAS_EBACKEND, "collective '%s': its open() gives no group", r->table.name);
    r->rank  = r->table.rank(r->group);
    r->count = r->table.count(r->group);
    if (r->count >= 1 && r->count <= MOST_RANKS && r->rank >= 0 && r->rank < r->count) {
        r->table.describe(r->group, r->text, sizeof r->text);
        r->text[sizeof r->text - 1] = 0;
        return KDAS_OK;
    }
    return kd_fail(KDAS_EBACKEND, "collective '%s' calls this process rank %d of %d", r->table.name,
                   r->rank, r->count);
}

static kdas_status run(kdas_ranks *r, const kd_ranks_job *job)
{
    switch (job->kind) {
    case KD_RANKS_OPEN: return open_group(r);
    case KD_RANKS_SUM_F32:
        return r->table.sum(r->group, job->values, job->count, KDAS_COLLECTIVE_F32);
    case KD_RANKS_SUM_F64:
        return r->table.sum(r->group, job->values, job->count, KDAS_COLLECTIVE_F64);
    case KD_RANKS_BROADCAST:
        return r->table.broadcast(r->group, job->values, job->count, job->root);
    case KD_RANKS_BARRIER: return r->table.barrier(r->group);
    }
    return kd_fail(KDAS_EINVAL, "ranks: there is no job %d", (int)job->kind);
}

static const char *const called[] = { [KD_RANKS_OPEN]      = "open()",
                                      [KD_RANKS_SUM_F32]   = "sum()",
                                      [KD_RANKS_SUM_F64]   = "sum()",
                                      [KD_RANKS_BROADCAST] = "broadcast()",
                                      [KD_RANKS_BARRIER]   = "barrier()" };

/* The statuses that a call may return, as kdas/ranks.h has them: of a host's table it may be any number. */
static bool may_return(kd_ranks_kind kind, kdas_status st)
{
    if (st == KDAS_OK || st == KDAS_EBACKEND || st == KDAS_ENOMEM) return true;
    return kind == KD_RANKS_OPEN &&
           (st == KDAS_EINVAL || st == KDAS_ENOTFOUND || st == KDAS_ESTATE);
}

/* A failure always has a sentence, and it is of this call. */
static kdas_status run_and_tell(kdas_ranks *r, const kd_ranks_job *job)
{
    kdas_status st;

    kd_fail(KDAS_OK, "%s", "");
    st = run(r, job);
    if (st == KDAS_OK) return st;
    if (!kdas_last_error()[0])
        kd_fail(st, "collective '%s': its %s fails with status %d and no sentence", r->table.name,
                called[job->kind], (int)st);
    return may_return(job->kind, st) ? st : KDAS_EBACKEND;
}

/* Under the lock: the next job; NULL: the end. */
static kd_ranks_job *take(kdas_ranks *r)
{
    kd_ranks_job *job;

    while (!r->first && !r->ended)
        pthread_cond_wait(&r->work, &r->lock);
    job = r->first;
    if (job) r->first = job->next;
    return job;
}

/* Under the lock: the thread's sentence is the reason. */
static void give_up(kdas_ranks *r, kdas_status st)
{
    if (r->broken) return;
    r->broken = true;
    r->status = st;
    snprintf(r->why, sizeof r->why, "%s", kdas_last_error());
}

kdas_status kd_ranks_break(kdas_ranks *r, const char *format, ...)
{
    char    text[KD_RANKS_TEXT];
    va_list list;

    va_start(list, format);
    kd_vformat(text, sizeof text, format, list);
    va_end(list);
    kd_fail(KDAS_EBACKEND, "%s", text);
    pthread_mutex_lock(&r->lock);
    give_up(r, KDAS_EBACKEND);
    pthread_mutex_unlock(&r->lock);
    return KDAS_EBACKEND;
}

/* Under the lock. */
static void finish(kdas_ranks *r, kd_ranks_job *job, kdas_status st)
{
    if (st != KDAS_OK) give_up(r, st);
    r->worked += job->seconds;
    job->status = st;
    job->done   = true;
    pthread_cond_broadcast(&r->done);
}

static void *serve(void *user)
{
    kdas_ranks   *r = user;
    kd_ranks_job *job;

    pthread_mutex_lock(&r->lock);
    while ((job = take(r))) {
        kdas_status st = r->broken ? r->status : KDAS_OK;

        pthread_mutex_unlock(&r->lock);
        job->seconds = -kd_now();
        if (st == KDAS_OK) st = run_and_tell(r, job);
        job->seconds += kd_now();
        pthread_mutex_lock(&r->lock);
        finish(r, job, st);
    }
    pthread_mutex_unlock(&r->lock);
    if (r->group) r->table.close(r->group);
    return NULL;
}

kdas_status kd_ranks_thread_start(kdas_ranks *r)
{
    sigset_t all, before;
    int      error;

    sigfillset(&all); /* signals are the host's threads' */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&r->thread, NULL, serve, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return kd_fail(KDAS_EBACKEND, "ranks: the system refuses a thread: %s", strerror(error));
    r->has_thread = true;
    return KDAS_OK;
}

void kd_ranks_thread_end(kdas_ranks *r)
{
    if (!r->has_thread || kd_is_inherited(r->ctx)) return;
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
}

/* ---- jobs ---- */

void kd_ranks_start(kdas_ranks *r, kd_ranks_job *job)
{
    job->next    = NULL;
    job->seconds = 0;
    job->status  = KDAS_OK;
    job->done    = r->alone;
    if (job->done) return;
    pthread_mutex_lock(&r->lock);
    if (r->first)
        r->last->next = job;
    else
        r->first = job;
    r->last = job;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
}

kdas_status kd_ranks_wait(kdas_ranks *r, kd_ranks_job *job)
{
    double start = kd_now();

    if (r->alone) return KDAS_OK;
    pthread_mutex_lock(&r->lock);
    while (!job->done)
        pthread_cond_wait(&r->done, &r->lock);
    pthread_mutex_unlock(&r->lock);
    r->waited += kd_now() - start;
    return job->status == KDAS_OK ? KDAS_OK : kd_fail(job->status, "%s", r->why);
}

kdas_status kd_ranks_do(kdas_ranks *r, kd_ranks_kind kind, void *values, size_t count, int32_t root)
{
    kd_ranks_job job = { .kind = kind, .values = values, .count = count, .root = root };

    kd_ranks_start(r, &job);
    return kd_ranks_wait(r, &job);
}
