/* stale.c - temporary files that killed processes have left; see lock.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/text.h"
#include "io/file.h"
#include "io/lock.h"

enum { STAT = 1024, MARGIN = 2 /* seconds by which two clocks may differ */ };

/* The number at *text, without sign or leading zeros, of at most 18 digits; -1: there is none. */
static int64_t take_number(const char **text)
{
    size_t  n = strspn(*text, "0123456789");
    int64_t number;

    if (n < 1 || n > 18 || (n > 1 && **text == '0')) return -1;
    if (!kd_parse_whole(*text, text, &number)) return -1;
    return number;
}

/* The process of a temporary file of `name`; 0: the entry is no such file. */
static pid_t process_of(const char *entry, const char *name)
{
    static const char mark[] = ".tmp-";
    size_t            n      = strlen(name);
    const char       *at     = entry + n;
    int64_t           pid, count;

    if (strncmp(entry, name, n) != 0 || strncmp(at, mark, sizeof mark - 1) != 0) return 0;
    at += sizeof mark - 1;
    pid = take_number(&at);
    if (pid < 1 || pid > INT32_MAX || *at++ != '-') return 0;
    count = take_number(&at);
    return count >= 0 && count <= UINT32_MAX && *at == 0 ? (pid_t)pid : 0;
}

/* When a process began, in seconds of the wall clock; -1: it is not known. */
static double start_of(pid_t pid)
{
    char            path[40], text[STAT];
    const char     *at;
    struct timespec wall, up;
    int64_t         ticks;
    ssize_t         n;
    int             fd;

    kd_format(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n < 1) return -1;
    text[n] = 0;
    at      = strrchr(text, ')'); /* the name may have blanks and parentheses */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at || !kd_parse_whole(at + 1, &at, &ticks)) return -1;
    if (clock_gettime(CLOCK_REALTIME, &wall) || clock_gettime(CLOCK_BOOTTIME, &up)) return -1;
    return (double)(wall.tv_sec - up.tv_sec) + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static bool is_stale(const char *path, pid_t pid)
{
    struct stat s;
    double      start;

    if (lstat(path, &s) != 0 || !S_ISREG(s.st_mode)) return false;
    if (kill(pid, 0) != 0 && errno == ESRCH) return true;
    start = start_of(pid);
    return start >= 0 && (double)s.st_mtime < start - MARGIN;
}

static void remove_if_stale(kdas_context *ctx, const char *folder, const char *entry, pid_t pid)
{
    char *path = kd_path_join(ctx, folder, entry);

    if (path && is_stale(path, pid) && unlink(path) == 0)
        kd_info(ctx, "'%s' is removed: a killed process has left it", path);
    kd_free(ctx, path);
}

void kd_remove_stale(kdas_context *ctx, const char *folder, const char *const *names, int count)
{
    DIR           *dir = opendir(folder);
    struct dirent *entry;

    while (dir && (entry = readdir(dir)) != NULL)
        for (int i = 0; i < count; i++) {
            pid_t pid = process_of(entry->d_name, names[i]);

            if (pid) remove_if_stale(ctx, folder, entry->d_name, pid);
        }
    if (dir) closedir(dir);
}
