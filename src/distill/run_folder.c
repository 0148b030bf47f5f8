/* run_folder.c - the folder of a run: made, locked, and cleared of what killed processes have left.
 * A context may hold a folder several times: a host for all of its runs, and each of them. */
#include <kdas/train.h>
#include <sys/stat.h>
#include "base/context.h"
#include "base/process.h"
#include "distill/train.h"
#include "io/file.h"
#include "io/lock.h"

typedef struct hold hold;

struct hold {
    hold    *next;
    kd_lock *lock;
    dev_t    device; /* of the folder */
    ino_t    inode;
    int      users;
};

struct kdas_run_folder {
    kdas_context *ctx;
    hold         *hold;
};

typedef struct holds {
    hold *first;
} holds;

static const kd_part_type holds_part = { .size = sizeof(holds) };

/* The files that a run writes. */
static const char *const names[] = { "last.kdas", "best.safetensors", "log.csv", "run.json" };

static hold *find_hold(const holds *list, const struct stat *s)
{
    hold *h = list->first;

    while (h && (h->device != s->st_dev || h->inode != s->st_ino))
        h = h->next;
    return h;
}

static kdas_status make_hold(hold **out, kdas_context *ctx, const char *path, const struct stat *s)
{
    hold       *h = kd_calloc(ctx, 1, sizeof *h);
    kdas_status st;

    if (!h) return KDAS_ENOMEM;
    st = kd_lock_folder(&h->lock, ctx, path);
    if (st != KDAS_OK) {
        kd_free(ctx, h);
        return st;
    }
    h->device = s->st_dev;
    h->inode  = s->st_ino;
    if (kd_lock_holds(h->lock)) kd_remove_stale(ctx, path, names, (int)KD_COUNT(names));
    *out = h;
    return KDAS_OK;
}

/* Join the context's hold of the folder, or make it. */
static kdas_status take(kdas_run_folder *f, const char *path)
{
    struct stat s;
    void       *part;
    holds      *list;

    KD_RETURN(kd_make_folders(f->ctx, path));
    if (stat(path, &s) != 0) return kd_fail(KDAS_EIO, "the folder '%s' is gone", path);
    KD_RETURN(kd_context_part_make(&part, f->ctx, &holds_part));
    list    = part;
    f->hold = find_hold(list, &s);
    if (!f->hold) {
        KD_RETURN(make_hold(&f->hold, f->ctx, path, &s));
        f->hold->next = list->first;
        list->first   = f->hold;
    }
    f->hold->users++;
    return KDAS_OK;
}

kdas_status kd_train_folder_check(const kdas_run_folder *folder, const char *path)
{
    if (!folder || !kd_lock_is_lost(folder->hold->lock)) return KDAS_OK;
    return kd_fail(
        KDAS_ESTATE,
        "the folder '%s' is no longer this run's: it was removed or renamed, and another "
        "run writes into the one that has its name now",
        path);
}

kdas_status kdas_run_folder_open(kdas_run_folder **out, kdas_context *context, const char *path)
{
    kdas_run_folder *f;
    kdas_status      st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_run_folder_open: out is NULL");
    *out = NULL;
    if (!context || !path)
        return kd_fail(KDAS_EINVAL, "kdas_run_folder_open: context or path is NULL");
    KD_RETURN(kd_check_process(context));
    f = kd_calloc(context, 1, sizeof *f);
    if (!f) return KDAS_ENOMEM;
    f->ctx = context;
    st     = take(f, path);
    if (st == KDAS_OK)
        *out = f;
    else
        kd_free(context, f);
    return st;
}

void kdas_run_folder_destroy(kdas_run_folder *folder)
{
    hold **at, *h;

    if (!folder) return;
    h = folder->hold;
    if (--h->users == 0) {
        at = &((holds *)kd_context_part(folder->ctx, &holds_part))->first;
        while (*at != h)
            at = &(*at)->next;
        *at = h->next;
        kd_lock_drop(h->lock);
        kd_free(folder->ctx, h);
    }
    kd_free(folder->ctx, folder);
}
