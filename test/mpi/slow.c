/* slow.c - preloaded into MPICH's launcher. On a busy machine its proxy, which passes on what ranks print, comes late: much has
 * happened when it looks, and others run between two of its writes. Other programs are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void come_late(void)
{
    struct timespec pause = { 0, 100000000 };

    if (strcmp(program_invocation_short_name, "hydra_pmi_proxy") == 0) nanosleep(&pause, NULL);
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

ssize_t write(int fd, const void *bytes, size_t count)
{
    ssize_t (*function)(int, const void *, size_t);
    ssize_t n;

    *(void **)&function = next("write");
    n                   = function(fd, bytes, count);
    come_late();
    return n;
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    int (*function)(struct pollfd *, nfds_t, int);
    int n;

    *(void **)&function = next("poll");
    n                   = function(fds, count, timeout);
    if (n <= 0) return n;
    come_late();
    return function(fds, count, 0);
}
