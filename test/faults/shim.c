/* shim.c - a library for LD_PRELOAD that makes chosen file calls of a program fail. Only calls on paths below one
 * folder count; they are numbered from 1. What fopen() opens there goes through the same calls, as a stream of its own:
 * inside the C library, stdio would pass them by. The environment says what happens:
 *
 *   KDAS_FAULT_UNDER=DIR   the folder, absolute, without links
 *   KDAS_FAULT_AT=N        the call that fails; N+: and all after it; without it none
 *   KDAS_FAULT_HOW=WHAT    an errno (EIO, ENOSPC, EINTR, EDQUOT, EMFILE, EACCES, EROFS); short: half of what was to
 *                          be read or written; kill: SIGKILL before the call
 *   KDAS_FAULT_CALLS=LIST  calls that count, e.g. "write,fsync"; without it all. A short call counts reads and writes
 *   KDAS_FAULT_PATH=END    only paths that end so count
 *   KDAS_FAULT_BYTES=N     no more than N bytes are written in all; then ENOSPC: a full disk
 *   KDAS_FAULT_LOG=FILE    a line for each call that counts: number, call, path; "! NUMBER CALL PATH" for one that fails
 *   KDAS_FAULT_CLOCK=1     time stands still, so that two runs write the same bits */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SHORT = -1, KILL = -2, FDS = 4096, FOLDERS = 64 };

static struct {
    const char *under, *calls, *end;
    long        at;
    bool        on; /* and all after it */
    int         how;
    int         log;
    bool        clock;
    atomic_long left; /* bytes that may still be written; < 0: any number */
} told;

static atomic_long count;
static char       *path_of[FDS]; /* of a file below the folder; else NULL */
static struct {
    DIR  *dir;
    char *path;
} folder[FOLDERS];

#define REAL(name)                 \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name) /* as POSIX has it */

/* ---- What is told ---------------------------------------------------------------------------- */

static int number_of(const char *how)
{
    static const struct {
        const char *name;
        int         number;
    } known[] = { { "EIO", EIO },       { "ENOSPC", ENOSPC }, { "EINTR", EINTR },
                  { "EDQUOT", EDQUOT }, { "EMFILE", EMFILE }, { "EACCES", EACCES },
                  { "EROFS", EROFS },   { "short", SHORT },   { "kill", KILL } };

    for (size_t i = 0; how && i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(how, known[i].name)) return known[i].number;
    return EIO;
}

__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("KDAS_FAULT_AT"), *bytes = getenv("KDAS_FAULT_BYTES");
    const char *log = getenv("KDAS_FAULT_LOG"), *still = getenv("KDAS_FAULT_CLOCK");

    told.under = getenv("KDAS_FAULT_UNDER");
    told.calls = getenv("KDAS_FAULT_CALLS");
    told.end   = getenv("KDAS_FAULT_PATH");
    told.at    = at ? atol(at) : 0;
    told.on    = at && strchr(at, '+');
    told.how   = number_of(getenv("KDAS_FAULT_HOW"));
    told.clock = still && *still == '1';
    told.left  = bytes ? atol(bytes) : -1;
    told.log   = -1;
    if (log)
        told.log = (int)syscall(SYS_openat, AT_FDCWD, log,
                                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

/* ---- Which calls count ------------------------------------------------------------------------ */

/* A path as an absolute one below the folder, from malloc; else NULL. */
static char *placed(const char *path)
{
    char  *whole = NULL, here[PATH_MAX];
    size_t n     = told.under ? strlen(told.under) : 0;

    if (!n || !path) return NULL;
    if (*path == '/')
        whole = strdup(path);
    else if (!getcwd(here, sizeof here) || asprintf(&whole, "%s/%s", here, path) < 0)
        return NULL;
    if (whole && !strncmp(whole, told.under, n) && (!whole[n] || whole[n] == '/')) return whole;
    free(whole);
    return NULL;
}

static bool listed(const char *call)
{
    size_t      n  = strlen(call);
    const char *at = told.calls;

    if (!at || !*at) return true;
    for (; (at = strstr(at, call)); at += n)
        if ((at == told.calls || at[-1] == ',') && (!at[n] || at[n] == ',')) return true;
    return false;
}

static bool ends(const char *path)
{
    size_t n = strlen(path), end = told.end ? strlen(told.end) : 0;

    return n >= end && !strcmp(path + n - end, told.end ? told.end : "");
}

static void note(const char *mark, long n, const char *call, const char *path)
{
    char line[PATH_MAX + 64];
    int  length = snprintf(line, sizeof line, "%s%ld %s %s\n", mark, n, call, path);

    if (told.log >= 0 && length > 0 && length < (int)sizeof line)
        (void)!syscall(SYS_write, told.log, line, (size_t)length);
}

/* Count a call. 0: it may go on; else an errno, or SHORT. */
static int fault(const char *call, const char *path, bool of_data)
{
    long n;

    if (!path || !listed(call) || !ends(path) || (told.how == SHORT && !of_data)) return 0;
    n = atomic_fetch_add(&count, 1) + 1;
    note("", n, call, path);
    if (!told.at || n < told.at || (n > told.at && !told.on)) return 0;
    note("! ", n, call, path);
    if (told.how == KILL) kill(getpid(), SIGKILL);
    return told.how;
}

static const char *path_of_fd(int fd) { return fd >= 0 && fd < FDS ? path_of[fd] : NULL; }

/* The file is open, or is not: its path is the table's, or free. */
static int opened(int fd, char *path)
{
    if (fd >= 0 && fd < FDS)
        path_of[fd] = path;
    else
        free(path);
    return fd;
}

/* ---- Files ------------------------------------------------------------------------------------ */

#define MODE_OF(flags, mode)                                                     \
    do {                                                                         \
        va_list list;                                                            \
        va_start(list, flags);                                                   \
        if ((flags) & (O_CREAT | __O_TMPFILE)) mode = (mode_t)va_arg(list, int); \
        va_end(list);                                                            \
    } while (0)

static int open_counted(int at, const char *path, int flags, mode_t mode)
{
    char *whole = at == AT_FDCWD || (path && *path == '/') ? placed(path) : NULL;
    int   why   = fault("open", whole, false);

    if (why > 0) {
        free(whole);
        errno = why;
        return -1;
    }
    return opened((int)syscall(SYS_openat, at, path, flags, mode), whole);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE_OF(flags, mode);
    return open_counted(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int openat(int at, const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE_OF(flags, mode);
    return open_counted(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) __attribute__((alias("openat")));

int creat(const char *path, mode_t mode)
{
    return open_counted(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

/* Linux closes the file even where close() fails. */
int close(int fd)
{
    const char *path = path_of_fd(fd);
    int         why  = fault("close", path, false), rc;

    if (path) {
        free(path_of[fd]);
        path_of[fd] = NULL;
    }
    rc = (int)syscall(SYS_close, fd);
    if (why <= 0) return rc;
    errno = why;
    return -1;
}

/* Count a read or write of n bytes, and how many of them it may be; -1: it fails. */
static ssize_t data(const char *call, int fd, size_t n)
{
    int why = fault(call, path_of_fd(fd), true);

    if (why > 0) {
        errno = why;
        return -1;
    }
    return (ssize_t)(why == SHORT && n > 1 ? n / 2 : n);
}

/* The same for a write, where the disk may be full. */
static ssize_t data_out(const char *call, int fd, size_t n)
{
    ssize_t m    = data(call, fd, n);
    long    left = told.left;

    if (m <= 0 || left < 0 || !path_of_fd(fd)) return m;
    if (left == 0) {
        note("! ", count, call, path_of_fd(fd));
        errno = ENOSPC;
        return -1;
    }
    if (m > left) m = left;
    told.left -= m;
    return m;
}

ssize_t read(int fd, void *to, size_t n)
{
    ssize_t m = data("read", fd, n);

    return m < 0 ? m : syscall(SYS_read, fd, to, (size_t)m);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    ssize_t m = data("pread", fd, n);

    return m < 0 ? m : syscall(SYS_pread64, fd, to, (size_t)m, at);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at) __attribute__((alias("pread")));

ssize_t write(int fd, const void *from, size_t n)
{
    ssize_t m = data_out("write", fd, n);

    return m < 0 ? m : syscall(SYS_write, fd, from, (size_t)m);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    ssize_t m = data_out("pwrite", fd, n);

    return m < 0 ? m : syscall(SYS_pwrite64, fd, from, (size_t)m, at);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) __attribute__((alias("pwrite")));

/* As a write of the first part alone, which is a short one. */
ssize_t writev(int fd, const struct iovec *part, int parts)
{
    ssize_t m;

    if (!path_of_fd(fd) || parts < 1) return syscall(SYS_writev, fd, part, parts);
    m = data_out("writev", fd, part[0].iov_len);
    return m < 0 ? m : syscall(SYS_write, fd, part[0].iov_base, (size_t)m);
}

/* A call on a file or a path that does nothing else than fail. */
#define FAILS(call, path, value)            \
    do {                                    \
        int why = fault(call, path, false); \
        if (why > 0) {                      \
            errno = why;                    \
            return value;                   \
        }                                   \
    } while (0)

#define FAILS_AT(call, path, value)              \
    do {                                         \
        char *whole = placed(path);              \
        int   why   = fault(call, whole, false); \
        free(whole);                             \
        if (why > 0) {                           \
            errno = why;                         \
            return value;                        \
        }                                        \
    } while (0)

int fsync(int fd)
{
    FAILS("fsync", path_of_fd(fd), -1);
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    FAILS("fdatasync", path_of_fd(fd), -1);
    return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t length)
{
    FAILS("ftruncate", path_of_fd(fd), -1);
    return (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate64(int fd, off64_t length) __attribute__((alias("ftruncate")));

int fchmod(int fd, mode_t mode)
{
    FAILS("fchmod", path_of_fd(fd), -1);
    return (int)syscall(SYS_fchmod, fd, mode);
}

int fstat(int fd, struct stat *info)
{
    REAL(fstat);
    FAILS("fstat", path_of_fd(fd), -1);
    return real(fd, info);
}

int flock(int fd, int what)
{
    FAILS("flock", path_of_fd(fd), -1);
    return (int)syscall(SYS_flock, fd, what);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    FAILS("mmap", path_of_fd(fd), MAP_FAILED);
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

/* ---- Paths ------------------------------------------------------------------------------------ */

int stat(const char *restrict path, struct stat *restrict info)
{
    REAL(stat);
    FAILS_AT("stat", path, -1);
    return real(path, info);
}

int lstat(const char *restrict path, struct stat *restrict info)
{
    REAL(lstat);
    FAILS_AT("lstat", path, -1);
    return real(path, info);
}

int access(const char *path, int how)
{
    FAILS_AT("access", path, -1);
    return (int)syscall(SYS_access, path, how);
}

int mkdir(const char *path, mode_t mode)
{
    FAILS_AT("mkdir", path, -1);
    return (int)syscall(SYS_mkdir, path, mode);
}

int rmdir(const char *path)
{
    FAILS_AT("rmdir", path, -1);
    return (int)syscall(SYS_rmdir, path);
}

int unlink(const char *path)
{
    FAILS_AT("unlink", path, -1);
    return (int)syscall(SYS_unlink, path);
}

int remove(const char *path)
{
    REAL(remove);
    FAILS_AT("unlink", path, -1);
    return real(path);
}

int rename(const char *from, const char *to)
{
    FAILS_AT("rename", to, -1);
    return (int)syscall(SYS_rename, from, to);
}

char *realpath(const char *restrict path, char *restrict to)
{
    REAL(realpath);
    FAILS_AT("realpath", path, NULL);
    return real(path, to);
}

/* ---- Folders ---------------------------------------------------------------------------------- */

DIR *opendir(const char *path)
{
    REAL(opendir);
    char *whole = placed(path);
    int   why   = fault("opendir", whole, false);
    DIR  *dir   = NULL;

    if (why > 0)
        errno = why;
    else
        dir = real(path);
    for (int i = 0; i < FOLDERS && dir && whole; i++) {
        if (folder[i].dir) continue;
        folder[i].dir  = dir;
        folder[i].path = whole;
        return dir;
    }
    free(whole);
    return dir;
}

struct dirent *readdir(DIR *dir)
{
    REAL(readdir);
    for (int i = 0; i < FOLDERS; i++)
        if (folder[i].dir == dir) FAILS("readdir", folder[i].path, NULL);
    return real(dir);
}

int closedir(DIR *dir)
{
    REAL(closedir);
    for (int i = 0; i < FOLDERS; i++) {
        if (folder[i].dir != dir) continue;
        free(folder[i].path);
        folder[i].dir = NULL;
    }
    return real(dir);
}

/* ---- Streams ---------------------------------------------------------------------------------- */

static ssize_t stream_read(void *user, char *to, size_t n) { return read((int)(long)user, to, n); }

/* A stream goes on after a short write by itself. */
static ssize_t stream_write(void *user, const char *from, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t put = write((int)(long)user, from + done, n - done);

        if (put < 0) return 0; /* what fopencookie() takes for an error */
        done += (size_t)put;
    }
    return (ssize_t)n;
}

static int stream_seek(void *user, off64_t *at, int whence)
{
    off_t now = lseek((int)(long)user, *at, whence);

    if (now < 0) return -1;
    *at = now;
    return 0;
}

static int stream_close(void *user) { return close((int)(long)user); }

static FILE *stream_on(int fd, const char *mode)
{
    static const cookie_io_functions_t calls = { stream_read, stream_write, stream_seek,
                                                 stream_close };

    return fd < 0 ? NULL : fopencookie((void *)(long)fd, mode, calls);
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
    REAL(fopen);
    char *whole = placed(path);
    int   flags = *mode == 'r'   ? O_RDONLY
                  : *mode == 'a' ? O_WRONLY | O_CREAT | O_APPEND
                                 : O_WRONLY | O_CREAT | O_TRUNC;

    if (!whole) return real(path, mode);
    free(whole);
    if (strchr(mode, '+')) flags = (flags & ~O_WRONLY) | O_RDWR;
    if (strchr(mode, 'x')) flags |= O_EXCL;
    if (strchr(mode, 'e')) flags |= O_CLOEXEC;
    return stream_on(open(path, flags, 0666), mode);
}

FILE *fopen64(const char *restrict path, const char *restrict mode) __attribute__((alias("fopen")));

FILE *fdopen(int fd, const char *mode)
{
    REAL(fdopen);
    return path_of_fd(fd) ? stream_on(fd, mode) : real(fd, mode);
}

/* ---- Time ------------------------------------------------------------------------------------- */

time_t time(time_t *to)
{
    struct timespec now = { .tv_sec = 1700000000 };

    if (!told.clock) syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

int clock_gettime(clockid_t clock, struct timespec *to)
{
    if (!told.clock) return (int)syscall(SYS_clock_gettime, clock, to);
    *to = (struct timespec){ .tv_sec = 1700000000 };
    return 0;
}
