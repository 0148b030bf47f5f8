/* sink.c - see sink.h. */
#define _GNU_SOURCE
#include "system/sink.h"
#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* stdio wants 0 for a failure. */
static ssize_t put(void *cookie, const char *bytes, size_t size)
{
    sink         *s    = cookie;
    struct pollfd room = { .fd = s->fd, .events = POLLOUT };
    size_t        done = 0;

    while (done < size && !s->error) {
        ssize_t n = write(s->fd, bytes + done, size - done);

        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) { /* a pipe that does not block */
            poll(&room, 1, -1);
        } else if (errno != EINTR) {
            s->error = errno;
        }
    }
    return s->error ? 0 : (ssize_t)size;
}

FILE *sink_file(sink *s) { return fopencookie(s, "w", (cookie_io_functions_t){ .write = put }); }

int sink_flush(sink *s, FILE *file)
{
    if ((fflush(file) != 0 || ferror(file)) && !s->error) s->error = EIO;
    return s->error;
}
