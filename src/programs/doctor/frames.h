/* frames.h - the folders that are examined, and what is measured of each of their frames. */
#ifndef DOCTOR_FRAMES_H
#define DOCTOR_FRAMES_H
#include <kdas/data.h>
#include "arguments/group.h"
#include "doctor/findings.h"
#include "doctor/masks.h"
#include "doctor/sketch.h"

typedef struct folder {
    char         *dir;
    bool          train; /* else it is tested on */
    kdas_dataset *set;
    int64_t       first, count; /* its frames in `frames.list` */
} folder;

typedef struct frame {
    int         folder;
    int64_t     index; /* in the folder's dataset */
    const char *name;
    bool        read, masked;
    int64_t     width, height;
    double      mean, deviation; /* of the grey values, 0..255 */
    uint64_t    pixels;          /* hash of size and RGB values */
    mask_facts  mask;
    sketch      sketch;
} frame;

typedef struct frames {
    folder *folders;
    int     folder_count;
    frame  *list; /* folder by folder */
    int64_t count;
} frames;

/* Open a folder; `dir` is freed with the frames. Files that cannot be used become findings. False
 * after a sentence. */
bool frames_add(frames *f, findings *found, kdas_context *context, char *dir, bool train,
                bool unlabelled);
/* Decode and measure all frames, on `threads` threads; ranks do a share each, and all have all results. Frames that cannot
 * be decoded become findings. False after a sentence or when the user asked to stop. */
bool frames_measure(frames *f, findings *found, int threads, const group *g);
void frames_close(frames *f);
/* Call `work` with 0 .. count - 1, on several threads at once, until it returns false or the user
 * asks to stop: then false. `thread` counts them from 0. */
typedef bool (*work_fn)(void *user, int thread, int64_t i);
bool on_threads(int threads, int64_t count, work_fn work, void *user);
/* Receives the log of the context (kdas_log_fn) while folders are opened; `user` is a
 * `findings`. */
void frames_log(void *user, kdas_log_level level, const char *text);
#endif
