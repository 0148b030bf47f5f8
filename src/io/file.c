/* file.c - reading files, and writing them so that a reader sees the old content or the new, never
 * half. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "io/file.h"

#define BUFFER     (64 * 1024)
#define MOST_NAME  200 /* bytes of a file's name in its temporary name: NAME_MAX is 255 */
#define MOST_LINKS 40  /* as the kernel follows */

struct kd_file {
    kdas_context *ctx;
    char         *path;
    int           fd; /* -1: its bytes are in memory */
    char         *memory;
    uint64_t      size;
};

struct kd_writer {
    kdas_context  *ctx;
    char          *path; /* final path, links followed */
    char          *temp; /* temporary path             */
    int            fd;
    kdas_status    status; /* the first failure                        */
    int            error;  /* its errno                                */
    size_t         used;   /* bytes in buffer                          */
    unsigned char *buffer;
};

const char *kd_error_text(int error)
{
    static _Thread_local char text[128];

    return strerror_r(error, text, sizeof text); /* GNU's: returns the text */
}

/* ---- Reading --------------------------------------------------------------------------------- */

kdas_status kd_file_open(kd_file **out, kdas_context *ctx, const char *path)
{
    kdas_status st = KDAS_OK;
    kd_file    *f  = kd_calloc(ctx, 1, sizeof *f);
    struct stat s;

    *out = NULL;
    if (!f) return KDAS_ENOMEM;
    f->ctx  = ctx;
    f->fd   = -1;
    f->path = kd_strdup(ctx, path);
    if (!f->path) {
        st = KDAS_ENOMEM;
        goto done;
    }
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* do not block on a pipe */
    if (f->fd < 0 || fstat(f->fd, &s) != 0) {
        int error = errno;

        st = kd_fail(error == ENOENT || error == ENOTDIR ? KDAS_ENOTFOUND : KDAS_EIO,
                     "cannot open '%s': %s", path, kd_error_text(error));
        goto done;
    }
    if (!S_ISREG(s.st_mode)) {
        st = kd_fail(KDAS_EIO, "'%s' is %s, not a file", path,
                     S_ISDIR(s.st_mode) ? "a folder" : "a device or pipe");
        goto done;
    }
    f->size = (uint64_t)s.st_size;
    *out    = f;
    f       = NULL;
done:
    kd_file_close(f);
    return st;
}

kdas_status kd_file_of_memory(kd_file **out, kdas_context *ctx, const char *path, void *memory,
                              size_t size)
{
    kd_file *f = kd_calloc(ctx, 1, sizeof *f);

    *out = NULL;
    if (!f) {
        kd_free(ctx, memory);
        return KDAS_ENOMEM;
    }
    *f      = (kd_file){ .ctx = ctx, .fd = -1, .memory = memory, .size = size };
    f->path = kd_strdup(ctx, path);
    if (!f->path) {
        kd_file_close(f);
        return KDAS_ENOMEM;
    }
    *out = f;
    return KDAS_OK;
}

void kd_file_close(kd_file *file)
{
    if (!file) return;
    kd_free(file->ctx, file->memory);
    if (file->fd >= 0) close(file->fd);
    kd_free(file->ctx, file->path);
    kd_free(file->ctx, file);
}

uint64_t    kd_file_size(const kd_file *file) { return file->size; }
const char *kd_file_path(const kd_file *file) { return file->path; }

kdas_status kd_file_read(kd_file *file, uint64_t offset, void *to, size_t n)
{
    char *p = to;

    if (file->memory && offset <= file->size && n <= file->size - offset) {
        memcpy(to, file->memory + offset, n);
        return KDAS_OK;
    }
    while (n > 0) {
        ssize_t got =
            file->memory ? 0 : pread(file->fd, p, KD_MIN(n, (size_t)1 << 30), (off_t)offset);

        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            int error = errno;

            return kd_fail(KDAS_EIO, "cannot read '%s': %s", file->path, kd_error_text(error));
        }
        if (got == 0)
            return kd_fail(KDAS_EFORMAT, "'%s' is cut off: %zu bytes are missing at byte %llu",
                           file->path, n, (unsigned long long)offset);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return KDAS_OK;
}

kdas_status kd_file_read_all(kdas_context *ctx, const char *path, uint64_t limit, size_t spare,
                             void **data, size_t *size)
{
    kdas_status st   = KDAS_OK;
    kd_file    *f    = NULL;
    char       *text = NULL;

    KD_TRY(kd_file_open(&f, ctx, path));
    if (f->size > limit) {
        st = kd_fail(KDAS_EFORMAT, "'%s' has %llu bytes; at most %llu are read", path,
                     (unsigned long long)f->size, (unsigned long long)limit);
        goto done;
    }
    text = kd_alloc(ctx, (size_t)f->size + spare);
    if (!text) {
        st = KDAS_ENOMEM;
        goto done;
    }
    KD_TRY(kd_file_read(f, 0, text, (size_t)f->size));
    memset(text + f->size, 0, spare);
    *data = text;
    *size = (size_t)f->size;
    text  = NULL;
done:
    kd_free(ctx, text);
    kd_file_close(f);
    return st;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* Keep the first failure: later ones are its consequences. */
static kdas_status writer_failed(kd_writer *w, int error)
{
    if (w->status == KDAS_OK) {
        w->status = KDAS_EIO;
        w->error  = error;
    }
    return kd_fail(w->status, "cannot write '%s': %s", w->path, kd_error_text(w->error));
}

/* The path that the link at *path leads to, in its place. */
static kdas_status read_link(kd_writer *w, char **path)
{
    char    target[PATH_MAX];
    ssize_t n     = readlink(*path, target, sizeof target - 1);
    int     error = n < 0 ? errno : 0;
    char   *to;

    if (error) return kd_fail(KDAS_EIO, "cannot write '%s': %s", *path, kd_error_text(error));
    target[n] = 0;
    to        = target[0] == '/'
                    ? kd_strdup(w->ctx, target)
                    : kd_printf(w->ctx, "%.*s%s", (int)(kd_path_base(*path) - *path), *path, target);
    if (!to) return KDAS_ENOMEM;
    kd_free(w->ctx, *path);
    *path = to;
    return KDAS_OK;
}

/* Links are followed to the file that they name, whether it is there or not. */
static kdas_status follow_links(kd_writer *w, const char *path)
{
    struct stat s;

    w->path = kd_strdup(w->ctx, path);
    if (!w->path) return KDAS_ENOMEM;
    for (int i = 0; lstat(w->path, &s) == 0 && S_ISLNK(s.st_mode); i++) {
        if (i == MOST_LINKS)
            return kd_fail(KDAS_EIO, "cannot write '%s': %s", path, kd_error_text(ELOOP));
        KD_RETURN(read_link(w, &w->path));
    }
    return KDAS_OK;
}

/* Find the file to replace, and the permissions of the new file (0: the default). */
static kdas_status writer_target(kd_writer *w, const char *path, mode_t *mode)
{
    struct stat s;

    *mode = 0;
    if (!*path) return kd_fail(KDAS_EIO, "cannot write a file without a name");
    KD_RETURN(follow_links(w, path));
    if (stat(w->path, &s) != 0) return KDAS_OK;
    if (!S_ISREG(s.st_mode))
        return kd_fail(KDAS_EIO, "cannot write '%s': it is %s, not a file", path,
                       S_ISDIR(s.st_mode) ? "a folder" : "a device or pipe");
    *mode = s.st_mode & 0777;
    return KDAS_OK;
}

/* Create a temporary file that nobody else has, beside the target. mode: see writer_target(). */
static kdas_status writer_temp(kd_writer *w, mode_t mode)
{
    static atomic_uint counter;
    int                error = EEXIST;
    const char        *base  = kd_path_base(w->path);
    size_t             kept  = (size_t)(base - w->path) + KD_MIN(strlen(base), (size_t)MOST_NAME);

    for (int tries = 0; tries < 1000; tries++) {
        w->temp = kd_printf(w->ctx, "%.*s.tmp-%ld-%u", (int)kept, w->path, (long)getpid(),
                            atomic_fetch_add(&counter, 1));
        if (!w->temp) return KDAS_ENOMEM;
        w->fd = open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode ? mode | 0600 : 0666);
        if (w->fd >= 0) break;
        error = errno;
        kd_free(w->ctx, w->temp);
        w->temp = NULL;
        if (error != EEXIST) break; /* else a killed process left it: take the next number */
    }
    if (w->fd < 0) return writer_failed(w, error);
    /* What the umask took away comes back. Some file systems (CIFS, FUSE) refuse this; the file is
     * then as they made it. */
    if (mode) (void)!fchmod(w->fd, mode);
    return KDAS_OK;
}

kdas_status kd_writer_open(kd_writer **out, kdas_context *ctx, const char *path)
{
    kdas_status st;
    mode_t      mode;
    kd_writer  *w = kd_calloc(ctx, 1, sizeof *w);

    *out = NULL;
    if (!w) return KDAS_ENOMEM;
    w->ctx    = ctx;
    w->fd     = -1;
    w->buffer = kd_alloc(ctx, BUFFER);
    if (!w->buffer) {
        st = KDAS_ENOMEM;
        goto done;
    }
    KD_TRY(writer_target(w, path, &mode));
    KD_TRY(writer_temp(w, mode));
    *out = w;
    w    = NULL;
done:
    kd_writer_discard(w);
    return st;
}

ssize_t kd_write_some(int fd, const void *data, size_t n)
{
    const struct timespec none = { 0 };
    sigset_t              limit, before, pending;
    ssize_t               put;
    int                   error;

    sigemptyset(&limit);
    sigaddset(&limit, SIGXFSZ);
    sigemptyset(&pending);
    sigpending(&pending);
    error = pthread_sigmask(SIG_BLOCK, &limit, &before);
    put   = write(fd, data, n);
    if (error) return put;
    error = errno;
    if (put < 0 && error == EFBIG && !sigismember(&pending, SIGXFSZ))
        while (sigtimedwait(&limit, NULL, &none) < 0 && errno == EINTR)
            continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return put;
}

static kdas_status write_through(kd_writer *w, const unsigned char *p, size_t n)
{
    while (n > 0) {
        ssize_t put = kd_write_some(w->fd, p, KD_MIN(n, (size_t)1 << 30));

        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return writer_failed(w, errno);
        p += put;
        n -= (size_t)put;
    }
    return KDAS_OK;
}

static kdas_status write_buffer(kd_writer *w)
{
    size_t n = w->used;

    w->used = 0;
    return write_through(w, w->buffer, n);
}

kdas_status kd_writer_put(kd_writer *writer, const void *data, size_t n)
{
    if (writer->status != KDAS_OK) return writer_failed(writer, 0);
    if (n > BUFFER - writer->used) KD_RETURN(write_buffer(writer));
    if (n >= BUFFER) return write_through(writer, data, n);
    if (n > 0) memcpy(writer->buffer + writer->used, data, n);
    writer->used += n;
    return KDAS_OK;
}

/* What a file system answers that has no such call, or not for folders. */
static bool cannot_sync(int error)
{
    return error == EINVAL || error == ENOTSUP || error == ENOSYS || error == EBADF;
}

int kd_sync_folder_of(const char *path)
{
    char        folder[PATH_MAX];
    const char *base  = kd_path_base(path);
    size_t      n     = (size_t)(base - path);
    int         error = 0, fd;

    if (n >= sizeof folder) return 0; /* which open() would refuse, too */
    memcpy(folder, path, n);
    folder[n] = 0;
    fd        = open(n ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return 0; /* a folder may be written to and yet not be readable */
    if (fsync(fd) != 0 && !cannot_sync(errno)) error = errno;
    close(fd);
    return error;
}

/* The rename itself must reach the disk. */
static kdas_status sync_folder(kd_writer *w)
{
    int error = kd_sync_folder_of(w->path);

    return error ? writer_failed(w, error) : KDAS_OK;
}

/* All bytes reach the disk before the file gets its name. */
static kdas_status sync_file(kd_writer *w)
{
    int error = fsync(w->fd) != 0 && !cannot_sync(errno) ? errno : 0;

    if (close(w->fd) != 0 && !error && errno != EINTR) error = errno;
    w->fd = -1;
    return error ? writer_failed(w, error) : KDAS_OK;
}

kdas_status kd_writer_commit(kd_writer **writer)
{
    kd_writer  *w = *writer;
    kdas_status st;

    *writer = NULL;
    if (w->status != KDAS_OK) {
        st = writer_failed(w, 0);
        goto done;
    }
    KD_TRY(write_buffer(w));
    KD_TRY(sync_file(w));
    if (rename(w->temp, w->path) != 0) {
        st = writer_failed(w, errno);
        goto done;
    }
    kd_free(w->ctx, w->temp);
    w->temp = NULL;
    st      = sync_folder(w);
done:
    kd_writer_discard(w);
    return st;
}

void kd_writer_discard(kd_writer *writer)
{
    if (!writer) return;
    if (writer->fd >= 0) close(writer->fd);
    if (writer->temp) unlink(writer->temp);
    kd_free(writer->ctx, writer->temp);
    kd_free(writer->ctx, writer->path);
    kd_free(writer->ctx, writer->buffer);
    kd_free(writer->ctx, writer);
}

kdas_status kd_file_write_all(kdas_context *ctx, const char *path, const void *data, size_t n)
{
    kdas_status st;
    kd_writer  *w = NULL;

    KD_TRY(kd_writer_open(&w, ctx, path));
    KD_TRY(kd_writer_put(w, data, n));
    st = kd_writer_commit(&w);
done:
    kd_writer_discard(w);
    return st;
}
