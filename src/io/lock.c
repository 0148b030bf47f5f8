/* lock.c - see lock.h. */
#define _GNU_SOURCE
#include "io/lock.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/process.h"
#include "base/text.h"
#include "io/file.h"

enum { OWNER = 160, TRIES = 100 };

struct kd_lock {
    kdas_context *ctx;
    char         *path; /* of the lock's file */
    int           fd;   /* -1: not locked     */
    kd_lock      *next, **at;
};

/* ---- forks ---- */

/* All locks of the process, under the process's lock. A child closes its copies of their files:
 * else it would keep the lock when the owner has died. */
static kd_lock *locks;

static void close_in_child(void)
{
    for (kd_lock *l = locks; l; l = l->next) {
        if (l->fd >= 0) close(l->fd);
        l->fd = -1;
    }
}

static void watch_forks(void) { (void)pthread_atfork(NULL, NULL, close_in_child); }

static void link_lock(kd_lock *l)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, watch_forks);
    kd_process_lock();
    l->next = locks;
    l->at   = &locks;
    if (locks) locks->at = &l->next;
    locks = l;
    kd_process_unlock();
}

static void unlink_lock(kd_lock *l)
{
    if (!l->at) return;
    kd_process_lock();
    *l->at = l->next;
    if (l->next) l->next->at = l->at;
    kd_process_unlock();
}

/* ---- the owner ---- */

/* Write who has the lock. Where the disk is full it stays unknown. */
static void write_owner(int fd)
{
    char host[OWNER / 2] = "", text[OWNER];
    int  n;

    if (gethostname(host, sizeof host - 1) != 0) host[0] = 0;
    n = kd_format(text, sizeof text, "%lld %s\n", (long long)getpid(), host);
    if (ftruncate(fd, 0) == 0) (void)!kd_write_some(fd, text, (size_t)n);
}

/* "process 77", "process 77 on other-host", "another run of this process". */
static void name_owner(char to[OWNER + 32], int fd)
{
    char        text[OWNER] = "", host[OWNER / 2] = "";
    const char *end;
    int64_t     pid;

    kd_format(to, OWNER + 32, "another process");
    if (pread(fd, text, sizeof text - 1, 0) < 1) return;
    text[strcspn(text, "\n")] = 0;
    if (!kd_parse_whole(text, &end, &pid) || pid < 1 || *end != ' ') return;
    if (gethostname(host, sizeof host - 1) != 0) host[0] = 0;
    if (strcmp(end + 1, host) != 0)
        kd_format(to, OWNER + 32, "process %lld on the host '%s'", (long long)pid, end + 1);
    else if (pid == getpid())
        kd_format(to, OWNER + 32, "another run of this process (%lld)", (long long)pid);
    else
        kd_format(to, OWNER + 32, "process %lld", (long long)pid);
}

static kdas_status refuse(const char *folder, int fd)
{
    char owner[OWNER + 32];

    name_owner(owner, fd);
    return kd_fail(KDAS_ESTATE,
                   "the folder '%s' is in use: %s writes a run into it; wait for its end, or name "
                   "another folder",
                   folder, owner);
}

/* ---- locking ---- */

/* A former owner may have been another user, whose file can only be read: that is enough to lock
 * it. */
static int open_file(const char *path, bool *made)
{
    int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd    = open(path, O_RDWR | O_CREAT | O_EXCL | flags, 0666);

    *made = fd >= 0;
    if (fd < 0 && errno == EEXIST) fd = open(path, O_RDWR | O_CREAT | flags, 0666);
    if (fd < 0 && errno == EACCES) fd = open(path, O_RDONLY | flags);
    return fd;
}

/* Whether the file still is at the path. Its former owner removes it before unlocking. */
static bool is_at(int fd, const char *path)
{
    struct stat here, there;

    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}

static int lock_file(int fd)
{
    while (flock(fd, LOCK_EX | LOCK_NB) != 0)
        if (errno != EINTR) return errno;
    return 0;
}

/* Open and lock the file; *moved: a former owner has removed it in between. */
static kdas_status try_lock(kd_lock *l, const char *folder, bool *moved)
{
    bool        made;
    int         fd = open_file(l->path, &made), error = fd < 0 ? errno : 0;
    kdas_status st = KDAS_OK;

    *moved = false;
    if (error) return kd_fail(KDAS_EIO, "cannot write '%s': %s", l->path, kd_error_text(error));
    error = lock_file(fd);
    if (error == EWOULDBLOCK) {
        st = refuse(folder, fd);
    } else if (error) {
        kd_info(l->ctx, "the folder '%s' cannot be locked (%s): another run may write into it",
                folder, kd_error_text(error));
        if (made) unlink(l->path); /* else it may be an owner's */
    } else if (!is_at(fd, l->path)) {
        *moved = true;
    } else {
        write_owner(fd);
        l->fd = fd;
        return KDAS_OK;
    }
    close(fd);
    return st;
}

kdas_status kd_lock_folder(kd_lock **out, kdas_context *ctx, const char *folder)
{
    kd_lock    *l     = kd_calloc(ctx, 1, sizeof *l);
    bool        moved = true;
    kdas_status st    = KDAS_OK;
    char        whole[PATH_MAX]; /* the working folder may change */

    *out = NULL;
    if (!l) return KDAS_ENOMEM;
    l->ctx  = ctx;
    l->fd   = -1;
    l->path = kd_path_join(ctx, realpath(folder, whole) ? whole : folder, KD_LOCK_NAME);
    if (!l->path) {
        kd_free(ctx, l);
        return KDAS_ENOMEM;
    }
    link_lock(l);
    for (int i = 0; i < TRIES && moved && st == KDAS_OK; i++)
        st = try_lock(l, folder, &moved);
    if (st == KDAS_OK && moved)
        st = kd_fail(KDAS_EIO, "the folder '%s' cannot be locked: '%s' comes and goes", folder,
                     l->path);
    if (st == KDAS_OK)
        *out = l;
    else
        kd_lock_drop(l);
    return st;
}

bool kd_lock_holds(const kd_lock *lock) { return lock->fd >= 0; }

bool kd_lock_is_lost(const kd_lock *lock)
{
    struct stat here, there; /* what cannot be seen is not lost */

    return lock->fd >= 0 && fstat(lock->fd, &here) == 0 && lstat(lock->path, &there) == 0 &&
           (here.st_dev != there.st_dev || here.st_ino != there.st_ino);
}

void kd_lock_drop(kd_lock *lock)
{
    if (!lock) return;
    unlink_lock(lock);
    if (lock->fd >= 0) {
        if (is_at(lock->fd, lock->path)) unlink(lock->path); /* else it is another run's */
        close(lock->fd);
    }
    kd_free(lock->ctx, lock->path);
    kd_free(lock->ctx, lock);
}
