/* loader.c - the ring of groups that worker threads fill ahead of the step. The ring has a slot
 * for the group whose batches the host is reading, and slots for those to come; where the device
 * uploads ahead, one more slot holds the group before: a step still uses its batch while the next
 * one is fetched and uploaded. Group g always stands in slot g % slots. A worker takes one sample
 * at a time, from the earliest group that has samples left. So the next batch is finished first
 * with any number of workers. A sample depends on the plan alone. All members below `lock` in
 * kdas_loader, and the slots but for the pixels of samples that a worker has taken, are used
 * under the lock. */
#include <assert.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include "base/context.h"
#include "base/process.h"
#include "data/loader.h"
#include "ranks/ranks.h"

struct slot {
    int64_t     group;             /* -1: none yet */
    int64_t     size, taken, done; /* samples: all, taken by workers, finished */
    int64_t    *view;              /* (batch) */
    kdas_batch *batch[KD_LOADER_SCALES];
    kdas_status status; /* of the first sample that failed */
    int64_t     failed; /* its number                      */
    char        sentence[512];
};

struct worker {
    kdas_loader      *loader;
    pthread_t         thread;
    kd_loader_scratch scratch;
};

struct kdas_loader {
    kdas_context       *ctx;
    kd_loader_plan      plan;
    kdas_loader_options options;                 /* as they were taken */
    float               scale[KD_LOADER_SCALES]; /* options.scales */
    /* Wanted and running threads; `worker` has a scratch for each wanted, one at least. */
    int            workers, started;
    struct worker *worker;
    int64_t       *order; /* (frames) of epoch order_epoch */
    int64_t        order_epoch;
    int64_t        position;
    bool           ended; /* the next call reports the epoch's end */
    double         waited;

    pthread_mutex_t lock;
    pthread_cond_t  more, finished; /* samples to take; a group is done, or idle */
    bool            stop;
    int64_t         slots, behind; /* all; those for groups that have been read: 0 or 1 */
    struct slot    *slot;
};

/* ---- Workers ---- */

/* The earliest group with samples left, or NULL. */
static struct slot *open_slot(kdas_loader *l)
{
    struct slot *best = NULL;

    for (int64_t i = 0; i < l->slots; i++) {
        struct slot *s = &l->slot[i];

        if (s->group >= 0 && s->taken < s->size && (!best || s->group < best->group)) best = s;
    }
    return best;
}

/* Take a sample of a group and make it; the lock is held on entry and on return, not between. */
static void make_sample(kdas_loader *l, struct slot *s, kd_loader_scratch *scratch)
{
    int64_t     i = s->taken++, view = s->view[i], epoch = s->group / l->plan.groups;
    kdas_status st;

    pthread_mutex_unlock(&l->lock);
    st = kd_loader_make(&l->plan, scratch, epoch, view, i, s->batch);
    pthread_mutex_lock(&l->lock);
    if (st != KDAS_OK && i < s->failed) {
        s->status = st;
        s->failed = i;
        strncpy(s->sentence, kdas_last_error(), sizeof s->sentence - 1);
    }
    if (++s->done == s->taken) pthread_cond_broadcast(&l->finished);
}

static void *work(void *argument)
{
    struct worker *w = argument;
    kdas_loader   *l = w->loader;
    struct slot   *s;

    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        s = open_slot(l);
        if (s)
            make_sample(l, s, &w->scratch);
        else
            pthread_cond_wait(&l->more, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- The ring; the lock is held ---- */

static void slot_restart(struct slot *s)
{
    s->taken = s->done = 0;
    s->status          = KDAS_OK;
    s->failed          = INT64_MAX;
}

/* Stop workers from taking samples of a slot, and wait for those under way. */
static void slot_quiesce(kdas_loader *l, struct slot *s)
{
    s->size = s->taken;
    while (s->done < s->taken)
        pthread_cond_wait(&l->finished, &l->lock);
}

static void slot_assign(kdas_loader *l, struct slot *s, int64_t group)
{
    int64_t epoch = group / l->plan.groups, first;

    slot_quiesce(l, s);
    if (l->order_epoch != epoch) {
        kd_loader_plan_order(&l->plan, epoch, l->order);
        l->order_epoch = epoch;
    }
    s->group = group;
    s->size  = kd_loader_plan_share(&l->plan, group, &first);
    memcpy(s->view, l->order + first, (size_t)s->size * sizeof *s->view);
    for (int k = 0; k < l->plan.scales; k++) {
        kdas_batch_resize(s->batch[k], s->size);
        /* before workers write: what has read it must not read it again */
        kd_batch_change(s->batch[k]);
    }
    slot_restart(s);
}

/* Groups that could not be made are made anew: the cause may be gone. */
static void ring_retry(kdas_loader *l)
{
    bool again = false;

    for (int64_t i = 0; i < l->slots; i++) {
        struct slot *s = &l->slot[i];

        if (s->group < 0 || s->status == KDAS_OK) continue;
        slot_assign(l, s, s->group);
        again = true;
    }
    if (again) pthread_cond_broadcast(&l->more);
}

/* Make the ring hold `group` and the groups after it. Those already in the ring stay. */
static void ring_move(kdas_loader *l, int64_t group)
{
    bool moved = false;

    for (int64_t g = group; g < group + l->slots - l->behind; g++) {
        struct slot *s = &l->slot[g % l->slots];

        if (s->group == g) continue;
        slot_assign(l, s, g);
        moved = true;
    }
    if (moved) pthread_cond_broadcast(&l->more);
}

/* ---- Making and destroying ---- */

static void keep_options(kdas_loader *l, const kdas_loader_options *o)
{
    l->options = *o;
    if (!o->scales) return;
    memcpy(l->scale, o->scales, (size_t)o->scale_count * sizeof *l->scale);
    l->options.scales = l->scale;
}

static kdas_status make_slots(kdas_loader *l, int32_t ahead)
{
    const kd_loader_plan *plan = &l->plan;

    /* enough groups for `ahead` batches after the one that is being read */
    l->behind = l->ctx->table.upload_async != NULL;
    l->slots  = (l->workers ? (ahead + plan->scales - 1) / plan->scales + 1 : 1) + l->behind;
    l->slot   = kd_calloc(l->ctx, (size_t)l->slots, sizeof *l->slot);
    if (!l->slot) return KDAS_ENOMEM;
    for (int64_t i = 0; i < l->slots; i++) {
        struct slot *s = &l->slot[i];

        s->group = -1;
        s->view  = kd_alloc(l->ctx, (size_t)plan->batch * sizeof *s->view);
        if (!s->view) return KDAS_ENOMEM;
        for (int k = 0; k < plan->scales; k++) {
            KD_RETURN(kdas_batch_create(&s->batch[k], l->ctx, plan->batch, plan->height[k],
                                        plan->width[k]));
            if (plan->maps) KD_RETURN(kd_batch_make_teacher(s->batch[k]));
            if (plan->unlabelled) KD_RETURN(kd_batch_make_weights(s->batch[k]));
        }
    }
    return KDAS_OK;
}

static kdas_status make_scratch(kdas_loader *l)
{
    int n = KD_MAX(l->workers, 1);

    l->worker = kd_calloc(l->ctx, (size_t)n, sizeof *l->worker);
    if (!l->worker) return KDAS_ENOMEM;
    for (int i = 0; i < n; i++) {
        l->worker[i].loader = l;
        KD_RETURN(kd_loader_scratch_init(&l->worker[i].scratch, &l->plan));
    }
    return KDAS_OK;
}

/* Worker threads block all signals, so the host's threads handle them. If some threads cannot be
 * made, fewer do the work; if none can, the caller does it. */
static void start_workers(kdas_loader *l)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (l->started < l->workers &&
           pthread_create(&l->worker[l->started].thread, NULL, work, &l->worker[l->started]) == 0)
        l->started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (l->started < l->workers)
        kd_warn(l->ctx,
                "%d of the loader's %d worker threads can be made, the system refuses more%s",
                l->started, l->workers, l->started ? "" : ": batches are made in the call");
}

/* The loader of a plan, which it takes over also where it fails. */
static kdas_status make_loader(kdas_loader **out, const kd_loader_plan *plan,
                               const kdas_loader_options *o)
{
    kdas_status  st = KDAS_OK;
    kdas_loader *l  = kd_calloc(plan->dataset->ctx, 1, sizeof *l);

    if (!l) {
        kd_free(plan->dataset->ctx, plan->empty);
        return KDAS_ENOMEM;
    }
    l->ctx     = plan->dataset->ctx;
    l->plan    = *plan;
    l->workers = o->workers;
    keep_options(l, o);
    l->order_epoch = -1;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->more, NULL);
    pthread_cond_init(&l->finished, NULL);
    l->order = kd_alloc(l->ctx, (size_t)plan->frames * sizeof *l->order);
    if (!l->order) {
        st = KDAS_ENOMEM;
        goto done;
    }
    KD_TRY(make_slots(l, o->ahead));
    KD_TRY(make_scratch(l));
    ring_move(l, 0);
    *out = l;
    l    = NULL;
done:
    kdas_loader_destroy(l);
    return st;
}

kdas_status kdas_loader_create(kdas_loader **out, kdas_dataset *dataset,
                               const kdas_loader_options *options)
{
    kdas_loader_options o;
    kd_loader_plan      plan = { .dataset = dataset };
    kdas_loader        *l    = NULL;
    kdas_status         st, own;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_loader_create: out is NULL");
    *out = NULL;
    if (!dataset) return kd_fail(KDAS_EINVAL, "kdas_loader_create: the dataset is NULL");
    KD_RETURN(kd_check_process(dataset->ctx));
    own = kd_loader_plan_init(&plan, &o, dataset, options);
    st  = kd_loader_agree(&o, dataset, own);
    if (st != KDAS_OK) {
        if (own == KDAS_OK) kd_loader_plan_finish(&plan);
        return st;
    }
    st = kd_ranks_vote_sum(o.ranks, make_loader(&l, &plan, &o), NULL, 0);
    if (st != KDAS_OK) {
        kdas_loader_destroy(l);
        return st;
    }
    assert(l); /* a rank without one says so */
    start_workers(l);
    *out = l;
    return KDAS_OK;
}

static void stop_workers(kdas_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->more);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->started; i++)
        pthread_join(l->worker[i].thread, NULL);
    pthread_cond_destroy(&l->finished);
    pthread_cond_destroy(&l->more);
    pthread_mutex_destroy(&l->lock);
}

/* A forked child has no worker threads, and the lock may stay locked. */
void kdas_loader_destroy(kdas_loader *l)
{
    if (!l) return;
    if (!kd_is_inherited(l->ctx)) stop_workers(l);
    for (int i = 0; l->worker && i < KD_MAX(l->workers, 1); i++)
        kd_loader_scratch_finish(&l->worker[i].scratch, &l->plan);
    for (int64_t i = 0; l->slot && i < l->slots; i++) {
        kd_free(l->ctx, l->slot[i].view);
        for (int k = 0; k < l->plan.scales; k++)
            kdas_batch_destroy(l->slot[i].batch[k]);
    }
    kd_free(l->ctx, l->worker);
    kd_free(l->ctx, l->slot);
    kd_free(l->ctx, l->order);
    kd_loader_plan_finish(&l->plan);
    kd_free(l->ctx, l);
}

/* ---- Reading ---- */

int64_t kdas_loader_batches(const kdas_loader *loader)
{
    return loader ? loader->plan.groups * loader->plan.scales : 0;
}

int32_t kdas_loader_size(const kdas_loader *loader, int32_t i, int64_t *height, int64_t *width)
{
    if (!loader || i < 0 || i >= loader->plan.scales) return 0;
    if (height) *height = loader->plan.height[i];
    if (width) *width = loader->plan.width[i];
    return 1;
}

int32_t kdas_loader_kept(const kdas_loader *loader)
{
    return loader ? 1 + (int32_t)loader->behind : 0;
}

kdas_context *kdas_loader_context(const kdas_loader *loader) { return loader ? loader->ctx : NULL; }

kdas_dataset *kdas_loader_dataset(const kdas_loader *loader)
{
    return loader ? loader->plan.dataset : NULL;
}

kdas_status kdas_loader_get_options(const kdas_loader *loader, kdas_loader_options *options)
{
    if (!loader) return kd_fail(KDAS_EINVAL, "kdas_loader_get_options: the loader is NULL");
    return kd_give_options(options, &loader->options, sizeof loader->options,
                           "kdas_loader_options");
}

int64_t kdas_loader_position(const kdas_loader *loader) { return loader ? loader->position : 0; }
double  kdas_loader_waited(const kdas_loader *loader) { return loader ? loader->waited : NAN; }

kdas_status kdas_loader_seek(kdas_loader *loader, int64_t position)
{
    if (!loader) return kd_fail(KDAS_EINVAL, "kdas_loader_seek: the loader is NULL");
    if (position < 0 || position > INT64_MAX / 2)
        return kd_fail(KDAS_EINVAL, "kdas_loader_seek: there is no position %lld",
                       (long long)position);
    KD_RETURN(kd_check_process(loader->ctx));
    loader->position = position;
    loader->ended    = false;
    pthread_mutex_lock(&loader->lock);
    ring_retry(loader);
    ring_move(loader, position / loader->plan.scales);
    pthread_mutex_unlock(&loader->lock);
    return KDAS_OK;
}

/* Finish all samples of a slot; the lock is held. */
static void slot_complete(kdas_loader *l, struct slot *s)
{
    double start = kd_now();

    while (l->started == 0 && s->taken < s->size)
        make_sample(l, s, &l->worker[0].scratch);
    while (s->done < s->size)
        pthread_cond_wait(&l->finished, &l->lock);
    l->waited += kd_now() - start;
}

kdas_status kdas_loader_next(kdas_loader *loader, kdas_batch **out)
{
    kdas_loader *l  = loader;
    kdas_status  st = KDAS_OK;
    struct slot *s;
    int64_t      group;

    if (out) *out = NULL;
    if (!l || !out)
        return kd_fail(KDAS_EINVAL, "kdas_loader_next: the %s is NULL",
                       l ? "place of the batch" : "loader");
    KD_RETURN(kd_check_process(l->ctx));
    if (l->ended) {
        l->ended = false;
        return KDAS_OK;
    }
    group = l->position / l->plan.scales;
    pthread_mutex_lock(&l->lock);
    ring_move(l, group);
    s = &l->slot[group % l->slots];
    slot_complete(l, s);
    if (s->status != KDAS_OK) {
        st = kd_fail(s->status, "%s", s->sentence);
        slot_restart(s); /* the next call tries again */
        pthread_cond_broadcast(&l->more);
    } else {
        *out     = s->batch[l->position % l->plan.scales];
        l->ended = ++l->position % kdas_loader_batches(l) == 0;
    }
    pthread_mutex_unlock(&l->lock);
    return st;
}
