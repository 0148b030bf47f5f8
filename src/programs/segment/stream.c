/* stream.c - raw video on standard input and output. */
#define _GNU_SOURCE
#include "segment/stream.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "system/say.h"
#include "system/stop.h"

static const struct {
    const char *name;
    kdas_pixel  pixel;
    int         bytes, chroma; /* of a pixel, or of its luma; of 2 x 2 pixels' chroma in a plane */
    int         planes;        /* of chroma                                                      */
} formats[] = {
    { "gray", KDAS_PIXEL_GREY8, 1, 0, 0 }, { "grey", KDAS_PIXEL_GREY8, 1, 0, 0 },
    { "rgb24", KDAS_PIXEL_RGB8, 3, 0, 0 }, { "bgr24", KDAS_PIXEL_BGR8, 3, 0, 0 },
    { "rgba", KDAS_PIXEL_RGBA8, 4, 0, 0 }, { "rgb0", KDAS_PIXEL_RGBA8, 4, 0, 0 },
    { "bgra", KDAS_PIXEL_BGRA8, 4, 0, 0 }, { "bgr0", KDAS_PIXEL_BGRA8, 4, 0, 0 },
    { "nv12", KDAS_PIXEL_NV12, 1, 2, 1 },  { "yuv420p", KDAS_PIXEL_I420, 1, 1, 2 },
    { "i420", KDAS_PIXEL_I420, 1, 1, 2 },  { "p010le", KDAS_PIXEL_P010, 2, 4, 1 },
    { "p010", KDAS_PIXEL_P010, 2, 4, 1 },
};

/* Number of a view's format in the table. */
static int format_of(const kdas_view *view)
{
    int i = 0;

    while ((int32_t)formats[i].pixel != view->pixel)
        i++;
    return i;
}

/* ---- Formats --------------------------------------------------------------------------------- */

/* Digits up to `stop`; where they end, or NULL. */
static const char *read_side(const char *text, const char *stop, int64_t *out)
{
    char *end;

    if (*text < '0' || *text > '9') return NULL;
    errno = 0;
    *out  = strtoll(text, &end, 10);
    return errno || !*end || !strchr(stop, *end) ? NULL : end + 1;
}

const char *stream_format(kdas_view *out, const char *text)
{
    kdas_view   v  = { 0 };
    const char *at = read_side(text, "xX", &v.width);

    at = at ? read_side(at, ":", &v.height) : NULL;
    if (!at) return "wants WIDTHxHEIGHT:FORMAT, as in 1280x720:nv12";
    if (v.width < 1 || v.height < 1 || v.width > KDAS_IMAGE_MAX_SIDE ||
        v.height > KDAS_IMAGE_MAX_SIDE || v.width * v.height > KDAS_IMAGE_MAX_PIXELS) {
        return "wants sides from 1 to 16384, and 67108864 pixels at most";
    }
    for (int i = 0; i < COUNT(formats); i++) {
        if (strcmp(at, formats[i].name) != 0) continue;
        v.pixel = formats[i].pixel;
        *out    = v;
        return NULL;
    }
    return "knows the formats gray, rgb24, bgr24, rgba, rgb0, bgra, bgr0, nv12, yuv420p (i420) and "
           "p010le (p010)";
}

bool stream_is_yuv(const kdas_view *format) { return formats[format_of(format)].planes > 0; }

/* Bytes of the first plane, and of each of chroma. */
static size_t first_plane(const kdas_view *v)
{
    return (size_t)formats[format_of(v)].bytes * (size_t)(v->width * v->height);
}

static size_t chroma_plane(const kdas_view *v)
{
    return (size_t)formats[format_of(v)].chroma *
           (size_t)((v->width + 1) / 2 * ((v->height + 1) / 2));
}

size_t stream_bytes(const kdas_view *format)
{
    return first_plane(format) + (size_t)formats[format_of(format)].planes * chroma_plane(format);
}

kdas_view stream_view(const kdas_view *format, void *memory)
{
    kdas_view v = *format;

    v.data = memory;
    for (int i = 0; i < formats[format_of(format)].planes; i++)
        v.chroma[i] = (char *)memory + first_plane(format) + (size_t)i * chroma_plane(format);
    return v;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

void stream_begin(void)
{
#ifdef F_SETPIPE_SZ
    fcntl(STDIN_FILENO, F_SETPIPE_SZ,
          1 << 20); /* fewer turns for each frame; no matter if refused */
    fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 1 << 20);
#endif
}

/* Wait for input, but not beyond a Ctrl-C; one that comes just before is seen by the next turn. */
static bool wait_for_input(void)
{
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };

    while (!stop_asked()) {
        int ready = poll(&in, 1, 200);

        if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
    }
    return false;
}

stream_state stream_read(void *to, size_t bytes, long long number)
{
    size_t have = 0;

    while (have < bytes) {
        ssize_t n;

        if (!wait_for_input()) return STREAM_STOPPED;
        n = read(STDIN_FILENO, (char *)to + have, bytes - have);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) {
            say_error("cannot read standard input: %s", strerror(errno));
            return STREAM_BREAKS;
        }
        if (n == 0) break;
        have += (size_t)n;
    }
    if (have == bytes) return STREAM_FINE;
    if (have == 0) return STREAM_ENDS;
    say_error("the stream ends %zu bytes into frame %lld, which has %zu", have, number, bytes);
    return STREAM_BREAKS;
}

stream_state stream_write(const void *from, size_t bytes)
{
    struct pollfd out  = { .fd = STDOUT_FILENO, .events = POLLOUT };
    size_t        done = 0;

    while (done < bytes) {
        ssize_t n = write(STDOUT_FILENO, (const char *)from + done, bytes - done);

        if (n < 0 && errno == EAGAIN) poll(&out, 1, -1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0 && errno == EPIPE) return STREAM_CLOSED;
        if (n < 0) {
            say_error("cannot write to standard output: %s", strerror(errno));
            return STREAM_BREAKS;
        }
        done += (size_t)n;
    }
    return STREAM_FINE;
}
