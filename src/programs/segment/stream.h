/* stream.h - raw video on standard input and output, as ffmpeg's rawvideo: frame after frame, nothing
 * between them. */
#ifndef PROGRAMS_STREAM_H
#define PROGRAMS_STREAM_H
#include <kdas/image.h>
#include <stdbool.h>

/* "1280x720:nv12" into a view without data; formats have ffmpeg's names. NULL, or what is wrong with it. */
const char *stream_format(kdas_view *out, const char *text);
/* Whether a format has planes of luma and chroma. */
bool stream_is_yuv(const kdas_view *format);
/* Bytes of such a frame. */
size_t stream_bytes(const kdas_view *format);
/* A view of a frame in `memory`, its planes one after the other. */
kdas_view stream_view(const kdas_view *format, void *memory);

typedef enum stream_state {
    STREAM_FINE,
    STREAM_ENDS,   /* no further frame                                  */
    STREAM_BREAKS, /* in the midst of a frame, or on an error: was said */
    STREAM_CLOSED, /* nobody reads what is written                      */
    STREAM_STOPPED /* by Ctrl-C                                         */
} stream_state;

/* Call once before: makes pipes roomier. */
void stream_begin(void);
/* The next frame, all of it; `number` is for the sentence. Waits, but not beyond a Ctrl-C. */
stream_state stream_read(void *to, size_t bytes, long long number);
/* A frame that has begun is written to its end, so that whoever reads gets whole ones. */
stream_state stream_write(const void *from, size_t bytes);
#endif
