/* streams.c - see streams.h. */
#define _GNU_SOURCE
#include "system/streams.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "system/say.h"
#include "system/sink.h"

static sink printed = { .fd = STDOUT_FILENO }; /* what is printed */
static int  claimed = -1;                      /* standard output, where it is for a table alone */
static int  lost;                              /* errno of the first write to it that failed */
static int  failed = EXIT_FAILED;

static void take_free_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* errno of standard error, or 0. stdio does not keep it; whether a reader left can be asked. */
static int error_of_messages(void)
{
    struct pollfd reader = { .fd = STDERR_FILENO, .events = POLLOUT };

    if (fflush(stderr) == 0 && !ferror(stderr)) return 0;
    return poll(&reader, 1, 0) == 1 && (reader.revents & POLLERR) ? EPIPE : EIO;
}

static void settle(int status, void *unused)
{
    int error = sink_flush(&printed, stdout), messages;

    (void)unused;
    if (!error && close(STDOUT_FILENO) != 0 && errno != EBADF) error = errno;
    if (claimed < 0) lost = error; /* else it was standard error's */
    if (lost && lost != EPIPE) say_error("cannot write to standard output: %s", strerror(lost));
    messages = error_of_messages();
    if (!lost) lost = error ? error : messages;
    if (lost && status < failed) _exit(lost == EPIPE ? EXIT_CLOSED : failed);
}

void streams_begin(void)
{
    FILE *file;

    take_free_descriptors();
    signal(SIGPIPE, SIG_IGN);
    file = sink_file(&printed);
    if (file) {
        stdout = file;
        if (isatty(STDOUT_FILENO)) setvbuf(stdout, NULL, _IOLBF, 0);
    }
    on_exit(settle, NULL);
}

void streams_failed_as(int status) { failed = status; }

int streams_failure(void) { return failed; }

bool streams_lost(void) { return lost || printed.error; }

int streams_claim(void)
{
    if (claimed >= 0) return claimed;
    fflush(stdout);
    claimed = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (claimed >= 0) dup2(STDERR_FILENO, STDOUT_FILENO);
    return claimed;
}

void streams_lose(int error) { lost = lost ? lost : error; }
