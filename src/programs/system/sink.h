/* sink.h - a FILE over a descriptor that keeps why a write failed: stdio itself only knows that one did. */
#ifndef PROGRAMS_SINK_H
#define PROGRAMS_SINK_H
#include <stdio.h>

typedef struct sink {
    int fd;    /* the owner's to close */
    int error; /* errno of the first write that failed, or 0; nothing is written after it */
} sink;

/* Begin to write. The sink must stay where it is until the FILE is closed. NULL: no memory. */
FILE *sink_file(sink *s);
/* Write what the FILE still holds. Returns the sink's error. */
int sink_flush(sink *s, FILE *file);
#endif
