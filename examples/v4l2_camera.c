/* v4l2_camera.c - segment what a camera or a capture card shows, without a copy where it gives NV12.
 * v4l2_camera /dev/videoN [weights.safetensors [frames]] */
#include <fcntl.h>
#include <kdas/kdas.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BUFFERS = 4 };

typedef struct camera {
    int                    fd;
    struct v4l2_pix_format format;                 /* NV12, or YUYV, which most webcams have */
    uint8_t               *memory[BUFFERS], *nv12; /* nv12: of a YUYV frame */
} camera;

/* Ask for NV12 at 1280x720; the driver answers with what it has. Map its buffers, and start. */
static const char *camera_open(camera *c, const char *path)
{
    struct v4l2_format         f    = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };
    struct v4l2_requestbuffers want = { .count  = BUFFERS,
                                        .type   = V4L2_BUF_TYPE_VIDEO_CAPTURE,
                                        .memory = V4L2_MEMORY_MMAP };
    int                        type = V4L2_BUF_TYPE_VIDEO_CAPTURE;

    if ((c->fd = open(path, O_RDWR)) < 0) return "cannot be opened";
    f.fmt.pix.width       = 1280;
    f.fmt.pix.height      = 720;
    f.fmt.pix.pixelformat = V4L2_PIX_FMT_NV12;
    if (ioctl(c->fd, VIDIOC_S_FMT, &f) != 0) return "does not capture video";
    c->format = f.fmt.pix;
    if (c->format.pixelformat != V4L2_PIX_FMT_NV12 && c->format.pixelformat != V4L2_PIX_FMT_YUYV)
        return "has neither NV12 nor YUYV";
    c->nv12 = malloc((size_t)c->format.width * (c->format.height + 1) * 3 / 2);
    if (!c->nv12 || ioctl(c->fd, VIDIOC_REQBUFS, &want) != 0 || want.count > BUFFERS)
        return "gives no buffers";
    for (unsigned i = 0; i < want.count; i++) {
        struct v4l2_buffer b = { .index = i, .type = want.type, .memory = want.memory };
        void              *m;

        if (ioctl(c->fd, VIDIOC_QUERYBUF, &b) != 0) return "gives no buffers";
        m = mmap(NULL, b.length, PROT_READ, MAP_SHARED, c->fd, b.m.offset);
        if (m == MAP_FAILED || ioctl(c->fd, VIDIOC_QBUF, &b) != 0) return "gives no buffers";
        c->memory[i] = m;
    }
    return ioctl(c->fd, VIDIOC_STREAMON, &type) == 0 ? NULL : "does not start";
}

/* Y U Y V of each pair of pixels into planes; chroma of every second row. */
static void planes_of(camera *c, const uint8_t *yuyv)
{
    uint8_t *luma = c->nv12, *chroma = luma + (size_t)c->format.width * c->format.height;

    for (unsigned y = 0; y < c->format.height; y++)
        for (unsigned x = 0; x < c->format.width; x++) {
            const uint8_t *p = yuyv + (size_t)y * c->format.bytesperline + 2 * x;

            *luma++ = p[0];
            if (y % 2 == 0) *chroma++ = p[1];
        }
}

static kdas_view view_of(camera *c, uint8_t *data)
{
    int       direct = c->format.pixelformat == V4L2_PIX_FMT_NV12;
    kdas_view v      = { .data   = data,
                         .width  = c->format.width,
                         .height = c->format.height,
                         .stride = c->format.bytesperline,
                         .pixel  = KDAS_PIXEL_NV12 };

    if (!direct) {
        planes_of(c, data);
        v.data   = c->nv12;
        v.stride = v.width;
    }
    v.chroma[0]        = (uint8_t *)v.data + v.stride * v.height;
    v.chroma_stride[0] = v.stride;
    return v;
}

/* Take a frame, find its polyps, and give its buffer back. */
static kdas_status next_frame(camera *c, kdas_segmenter *segmenter, uint8_t *polyps, int *ended)
{
    struct v4l2_buffer b = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP };
    kdas_view          frame;
    kdas_status        status;

    if ((*ended = ioctl(c->fd, VIDIOC_DQBUF, &b) != 0)) return KDAS_OK;
    frame  = view_of(c, c->memory[b.index]);
    status = kdas_segmenter_probability(segmenter, &frame, polyps, 0);
    *ended = ioctl(c->fd, VIDIOC_QBUF, &b) != 0;
    return status;
}

int main(int argc, char **argv)
{
    const char            *path      = argc > 1 ? argv[1] : NULL;
    long                   left      = argc > 3 ? strtol(argv[3], NULL, 10) : 250;
    camera                 c         = { .fd = -1 };
    kdas_context          *context   = NULL;
    kdas_model            *model     = NULL;
    kdas_segmenter        *segmenter = NULL;
    uint8_t               *polyps;
    size_t                 pixels;
    int                    ended = 0;
    kdas_status            status;
    kdas_segmenter_options options;
    const char            *wrong;

    if (!path) {
        puts("v4l2_camera /dev/videoN [weights.safetensors [frames]]");
        return 0; /* no camera is switched on unasked */
    }
    if ((wrong = camera_open(&c, path))) {
        fprintf(stderr, "v4l2_camera: %s %s\n", path, wrong);
        return 1;
    }
    kdas_segmenter_options_init(&options, sizeof options);
    options.frame_width  = c.format.width;
    options.frame_height = c.format.height;
    options.smoothing    = 0.6f;
    pixels               = (size_t)c.format.width * c.format.height;
    polyps               = malloc(pixels);
    if ((status = kdas_context_create(&context, NULL)) == KDAS_OK &&
        (status = kdas_model_create(&model, context, "polyp_pvt_b0", NULL)) == KDAS_OK &&
        (argc < 3 || (status = kdas_model_load(model, argv[2], NULL)) == KDAS_OK))
        status = kdas_segmenter_create(&segmenter, model, &options);
    while (polyps && status == KDAS_OK && left-- > 0) {
        double share = 0, sum = 0;

        status = next_frame(&c, segmenter, polyps, &ended);
        if (status != KDAS_OK || ended) break;
        for (size_t i = 0; i < pixels; i++) {
            share += polyps[i] >= 128;
            sum += polyps[i];
        }
        printf("%.1f %% of the frame is polyp, the mean probability is %.3f\n",
               100 * share / (double)pixels, sum / 255 / (double)pixels);
    }
    if (status != KDAS_OK) fprintf(stderr, "%s\n", kdas_last_error());
    kdas_segmenter_destroy(segmenter);
    kdas_model_destroy(model);
    kdas_context_destroy(context);
    free(polyps);
    free(c.nv12);
    close(c.fd);
    return status != KDAS_OK || ended || fflush(stdout) != 0; /* a full disk */
}
