/* output.c - see output.h. */
#define _GNU_SOURCE
#include "system/output.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "system/say.h"
#include "system/streams.h"

static bool is_standard(const char *path) { return strcmp(path, "-") == 0; }

void output_claim(const char *path)
{
    if (path && is_standard(path)) streams_claim();
}

/* The part of a path before its last slash, to be freed. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash) return text_of(".");
    return text_of("%.*s", (int)(slash > path ? slash - path : 1), path);
}

/* Whether it is a link that stands for an open file: /dev/stdout, /dev/fd/3, /proc/self/fd/3. */
static bool is_descriptor(const char *path)
{
    char        real[PATH_MAX], *folder;
    struct stat info;
    bool        it_is;

    if (lstat(path, &info) != 0 || !S_ISLNK(info.st_mode)) return false;
    folder = folder_of(path);
    it_is  = realpath(folder, real) && (!strcmp(real, "/dev") || !strncmp(real, "/proc/", 6));
    free(folder);
    return it_is;
}

/* ---- What a path leads to --------------------------------------------------------------------- */

/* "folder/name" without a slash too many, to be freed; "." and ".." are taken away. */
static char *join(const char *folder, const char *name)
{
    if (!*name || !strcmp(name, ".")) return text_of("%s", folder);
    if (!strcmp(name, "..")) return folder_of(folder);
    return text_of("%s/%s", strcmp(folder, "/") ? folder : "", name);
}

/* Where a file of this path is or would be, through all links, to be freed. `links`: that were followed. */
static char *resolve(const char *path, int links)
{
    char        real[PATH_MAX], target[PATH_MAX];
    const char *slash  = strrchr(path, '/');
    char       *folder = folder_of(path), *whole, *out;
    ssize_t     n;

    if (realpath(path, real)) {
        free(folder);
        return text_of("%s", real);
    }
    n = links < 40 ? readlink(path, target, sizeof target - 1) : -1;
    if (n > 0) {
        target[n] = 0;
        whole     = *target == '/' ? text_of("%s", target) : text_of("%s/%s", folder, target);
        out       = resolve(whole, links + 1);
    } else {
        whole = !*path || !strcmp(folder, path) ? text_of("%s", folder) : resolve(folder, links);
        out   = join(whole, slash ? slash + 1 : path);
    }
    free(whole);
    free(folder);
    return out;
}

/* One of them is standard output, or stands for an open file. */
static bool same_descriptor(const char *a, const char *b)
{
    const char *path[2] = { a, b };
    struct stat info[2];
    bool        open[2];

    for (int i = 0; i < 2; i++) {
        open[i] = is_standard(path[i]) || is_descriptor(path[i]);
        if ((is_standard(path[i]) ? fstat(STDOUT_FILENO, &info[i]) : stat(path[i], &info[i])) != 0)
            return false;
    }
    return info[0].st_dev == info[1].st_dev && info[0].st_ino == info[1].st_ino &&
           ((open[0] && open[1]) || S_ISREG(info[0].st_mode));
}

bool output_same(const char *a, const char *b)
{
    char *x, *y;
    bool  same;

    if (!a || !b || !strcmp(a, b)) return a && b;
    if (is_standard(a) || is_standard(b) || is_descriptor(a) || is_descriptor(b))
        return same_descriptor(a, b);
    x    = resolve(a, 0);
    y    = resolve(b, 0);
    same = !strcmp(x, y);
    free(x);
    free(y);
    return same;
}

/* ---- Writing ---------------------------------------------------------------------------------- */

/* Create a file that nobody else has, beside the path. Its descriptor, or -1 with errno. */
static int create_beside(output *o, mode_t mode)
{
    static unsigned counter;
    int             fd = -1;

    for (int tries = 0; tries < 1000 && fd < 0; tries++) {
        free(o->temp);
        o->temp = text_of("%s.tmp-%ld-%u", o->path, (long)getpid(), counter++);
        fd      = open(o->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode ? mode | 0600 : 0666);
        if (fd < 0 && errno != EEXIST) break; /* else a process that was killed left it */
    }
    if (fd >= 0 && mode)
        (void)!fchmod(fd, mode); /* what the umask took; some file systems refuse */
    return fd;
}

/* A device, or a pipe that somebody reads: none is waited for. */
static int open_other(const char *path)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_NONBLOCK | O_CLOEXEC);

    if (fd >= 0) (void)!fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

/* A descriptor to write to, or -1 with errno. */
static int open_place(output *o, const char *path)
{
    struct stat info;
    bool        there = stat(path, &info) == 0;

    if (is_standard(path)) return streams_claim();
    if (there && S_ISDIR(info.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    o->path = there && !S_ISREG(info.st_mode) ? text_of("%s", path) : resolve(path, 0);
    if (there && (!S_ISREG(info.st_mode) || is_descriptor(path))) return open_other(path);
    return create_beside(o, there ? info.st_mode & 0777 : 0);
}

static void finish(output *o)
{
    free(o->to);
    free(o->name);
    free(o->path);
    free(o->temp);
    *o = (output){ 0 };
}

bool output_open(output *o, const char *path)
{
    *o        = (output){ .to = need(sizeof *o->to) };
    o->name   = is_standard(path) ? text_of("to standard output") : text_of("'%s'", path);
    o->to->fd = open_place(o, path);
    o->file   = o->to->fd >= 0 ? sink_file(o->to) : NULL;
    if (o->file) return true;
    say_error("cannot write %s: %s", o->name, strerror(errno));
    if (o->to->fd >= 0 && o->path) close(o->to->fd);
    if (o->to->fd >= 0 && o->temp) unlink(o->temp);
    finish(o);
    return false;
}

bool output_ready(const char *path)
{
    struct stat info;
    output      probe;

    if (is_standard(path)) return true;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) return true;
    if (!output_open(&probe, path)) return false;
    output_drop(&probe);
    return true;
}

/* The name itself must reach the disk. A folder may be writable and yet not be readable; some file
 * systems cannot bring folders to the disk. Returns errno or 0. */
static int sync_folder(const char *path)
{
    char *folder = folder_of(path);
    int   fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

    if (fd >= 0 && fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP) error = errno;
    if (fd >= 0) close(fd);
    free(folder);
    return error;
}

/* Returns errno or 0. */
static int put_in_place(output *o)
{
    int error = sink_flush(o->to, o->file);

    fclose(o->file);
    if (!o->path) return error; /* standard output stays open */
    if (!error && o->temp && fsync(o->to->fd) != 0 && errno != EINVAL) error = errno;
    if (close(o->to->fd) != 0 && !error) error = errno;
    if (!o->temp) return error;
    if (!error && rename(o->temp, o->path) != 0) error = errno;
    if (error) unlink(o->temp);
    return error ? error : sync_folder(o->path);
}

bool output_close(output *o)
{
    int  error = put_in_place(o);
    bool fine  = !error || (!o->path && error == EPIPE);

    if (error && o->path) say_error("cannot write %s: %s", o->name, strerror(error));
    if (error && !o->path) streams_lose(error); /* said when the program ends */
    finish(o);
    return fine;
}

bool output_move(const char *from, const char *to)
{
    int error = rename(from, to) == 0 ? sync_folder(to) : errno;

    if (error) say_error("cannot write '%s': %s", to, strerror(error));
    return !error;
}

void output_drop(output *o)
{
    fclose(o->file);
    if (o->path) close(o->to->fd);
    if (o->temp) unlink(o->temp);
    finish(o);
}
