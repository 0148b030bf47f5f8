/* check_frames.c - look at every frame of a store once, in threads: survey its mask, or decode it.
 * So a damaged file is found before anything is made of the others. */
#include <pthread.h>
#include <signal.h>
#include "base/context.h"
#include "data/frames.h"

enum { MOST_THREADS = 32, LEAST_FRAMES = 4 /* for each thread */ };

typedef kdas_status (*look_fn)(kd_frames *frames, size_t i);

struct check {
    kd_frames    *frames;
    look_fn       look;
    atomic_size_t next;
    atomic_bool   stop;   /* out of memory, or cancelled */
    kdas_status  *status; /* (count) of each frame       */
    char        **reason; /* (count) NULL: none          */
};

static kdas_status look_at(struct check *c, size_t i)
{
    kdas_status st;

    KD_RETURN(kd_check_cancel(c->frames->ctx));
    st = c->look(c->frames, i);
    if (st == KDAS_OK || st == KDAS_ENOMEM) return st;
    c->reason[i] = kd_strdup(c->frames->ctx, kdas_last_error());
    return c->reason[i] ? st : KDAS_ENOMEM;
}

static void *work(void *data)
{
    struct check *c = data;
    size_t        i;

    while (!c->stop && (i = atomic_fetch_add(&c->next, 1)) < c->frames->count) {
        c->status[i] = look_at(c, i);
        if (c->status[i] == KDAS_ENOMEM || c->status[i] == KDAS_ECANCELLED) c->stop = true;
    }
    return NULL;
}

/* Threads block all signals, so that the host's own handle them. The calling thread works, too; it
 * does everything if no thread can be made. */
static void look_at_all(struct check *c)
{
    pthread_t thread[MOST_THREADS];
    size_t    count = c->frames->count / LEAST_FRAMES, made = 0;
    sigset_t  all, before;

    count = KD_MIN(count, (size_t)KD_MAX(c->frames->ctx->threads, 1));
    count = KD_MIN(count, MOST_THREADS);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (made + 1 < count && pthread_create(&thread[made], NULL, work, c) == 0)
        made++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work(c);
    for (size_t i = 0; i < made; i++)
        pthread_join(thread[i], NULL);
}

/* Why the check itself failed. */
static kdas_status check_stopped(const struct check *c)
{
    if (!c->stop) return KDAS_OK;
    KD_RETURN(kd_check_cancel(c->frames->ctx));
    return kd_fail(KDAS_ENOMEM, "out of memory while frames were checked");
}

/* Leave out the bad frames, or refuse the first. */
static kdas_status judge(struct check *c, bool skip_bad)
{
    kd_frames *frames = c->frames;
    size_t     bad = 0, kept = 0, count = frames->count;

    for (size_t i = 0; i < count; i++)
        bad += c->status[i] != KDAS_OK;
    for (size_t i = 0; i < count; i++) {
        kdas_status st = c->status[i];

        if (st == KDAS_OK) continue;
        if (!skip_bad && bad > 1)
            return kd_fail(st, "%s; %zu more of the %zu frames cannot be used", c->reason[i],
                           bad - 1, count);
        kd_fail(st, "%s", c->reason[i]);
        KD_RETURN(kd_frames_take(frames, st, frames->frame[i].name, skip_bad));
    }
    for (size_t i = 0; i < count && bad; i++) {
        if (c->status[i] == KDAS_OK)
            frames->frame[kept++] = frames->frame[i];
        else
            kd_frame_finish(frames->ctx, &frames->frame[i]);
    }
    if (bad) frames->count = kept;
    return KDAS_OK;
}

static kdas_status check(kd_frames *frames, bool skip_bad, look_fn look)
{
    kdas_context *ctx = frames->ctx;
    kdas_status   st  = KDAS_OK;
    struct check  c   = { .frames = frames, .look = look };
    size_t        all = frames->count;

    c.status = kd_calloc(ctx, frames->count, sizeof *c.status);
    c.reason = kd_calloc(ctx, frames->count, sizeof *c.reason);
    if (!c.status || !c.reason) {
        st = KDAS_ENOMEM;
        goto done;
    }
    look_at_all(&c);
    KD_TRY(check_stopped(&c));
    st = judge(&c, skip_bad);
done:
    for (size_t i = 0; c.reason && i < all; i++)
        kd_free(ctx, c.reason[i]);
    kd_free(ctx, c.reason);
    kd_free(ctx, c.status);
    return st;
}

/* What fits the budget stays decoded. */
static kdas_status decode(kd_frames *frames, size_t i)
{
    kd_loan     loan;
    kdas_status st = kd_frames_lend(&loan, frames, i);

    kd_loan_return(&loan);
    return st;
}

static kdas_status survey(kd_frames *frames, size_t i)
{
    kd_frame_files *frame = &frames->frame[i];

    return frame->mask_path ? kd_mask_survey_file(&frame->survey, frames->ctx, frame->mask_path)
                            : KDAS_OK;
}

kdas_status kd_frames_check(kd_frames *frames, bool skip_bad)
{
    return check(frames, skip_bad, decode);
}

kdas_status kd_frames_survey(kd_frames *frames, bool skip_bad)
{
    return frames->mask_rule == KDAS_MASK_AUTO ? check(frames, skip_bad, survey) : KDAS_OK;
}
