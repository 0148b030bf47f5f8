/* camera.c - /dev/video0 for a sample to open, by LD_PRELOAD: a driver of four buffers that gives NV12, or YUYV where CAMERA
 * says so. Each frame is the same picture, a bright field on stripes. A buffer that was not given back is not filled again,
 * so a program that keeps them gets no fourth frame. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WIDTH = 160, HEIGHT = 96, STRIDE = 192, BUFFERS = 4, ROOM = 1 << 16 };

static int      device = -1;
static bool     started, queued[BUFFERS];
static unsigned count, next;

static bool is_yuyv(void)
{
    const char *kind = getenv("CAMERA");

    return kind && !strcmp(kind, "YUYV");
}

/* Luma (0) or chroma (1, 2) at a pixel; chroma is alike for 2 x 2 pixels. */
static uint8_t sample(int plane, int x, int y)
{
    int dx, dy, inside;

    if (plane) {
        x &= ~1;
        y &= ~1;
    }
    dx     = x - 60;
    dy     = y - 50;
    inside = dx * dx + dy * dy < 900;
    if (plane == 0) return (uint8_t)(inside ? 200 : 60 + x % 32);
    return (uint8_t)(inside ? 90 + 60 * plane : 120 + 4 * plane);
}

static void fill(uint8_t *to)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            if (is_yuyv()) {
                to[y * 2 * STRIDE + 2 * x]     = sample(0, x, y);
                to[y * 2 * STRIDE + 2 * x + 1] = sample(1 + x % 2, x, y);
            } else {
                to[y * STRIDE + x] = sample(0, x, y);
                if (y % 2 == 0) to[(HEIGHT + y / 2) * STRIDE + x] = sample(1 + x % 2, x, y);
            }
        }
}

static int camera_open(void)
{
    device = memfd_create("camera", MFD_CLOEXEC);
    if (device >= 0 && ftruncate(device, BUFFERS * ROOM) != 0) return -1;
    return device;
}

int open(const char *path, int flags, ...)
{
    va_list list;
    int     mode;

    va_start(list, flags);
    mode = va_arg(list, int);
    va_end(list);
    if (!strcmp(path, "/dev/video0")) return camera_open();
    return (int)syscall(SYS_openat, -100 /* AT_FDCWD */, path, flags, mode);
}

static int refused(int why)
{
    errno = why;
    return -1;
}

static int set_format(struct v4l2_pix_format *f)
{
    f->width        = WIDTH;
    f->height       = HEIGHT;
    f->pixelformat  = is_yuyv() ? V4L2_PIX_FMT_YUYV : V4L2_PIX_FMT_NV12;
    f->bytesperline = is_yuyv() ? 2 * STRIDE : STRIDE;
    f->sizeimage    = ROOM;
    return 0;
}

static int dequeue(struct v4l2_buffer *b)
{
    void *memory;

    if (!started || !queued[next]) return refused(EAGAIN);
    memory = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, device, next * ROOM);
    if (memory == MAP_FAILED) return -1;
    fill(memory);
    munmap(memory, ROOM);
    b->index     = next;
    queued[next] = false;
    next         = (next + 1) % count;
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    void   *to;

    va_start(list, request);
    to = va_arg(list, void *);
    va_end(list);
    if (fd != device) return (int)syscall(SYS_ioctl, fd, request, to);
    switch (request) {
    case VIDIOC_S_FMT: return set_format(&((struct v4l2_format *)to)->fmt.pix);
    case VIDIOC_REQBUFS:
        count = ((struct v4l2_requestbuffers *)to)->count;
        return count == BUFFERS ? 0 : refused(ENOMEM);
    case VIDIOC_QUERYBUF:
        ((struct v4l2_buffer *)to)->length   = ROOM;
        ((struct v4l2_buffer *)to)->m.offset = ((struct v4l2_buffer *)to)->index * ROOM;
        return 0;
    case VIDIOC_QBUF: queued[((struct v4l2_buffer *)to)->index] = true; return 0;
    case VIDIOC_DQBUF: return dequeue(to);
    case VIDIOC_STREAMON: started = true; return 0;
    default: return refused(ENOTTY);
    }
}
