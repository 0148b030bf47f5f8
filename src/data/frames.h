/* frames.h - the store of frames behind datasets: the source of each frame, and the frames that are
 * kept decoded. Datasets that were split from one another share a store. It is safe to use from
 * several threads. */
#ifndef KD_FRAMES_H
#define KD_FRAMES_H
#include <pthread.h>
#include <kdas/data.h>
#include "base/base.h"
#include "data/skips.h"
#include "image/mask.h"

typedef struct kd_frame_files {
    char          *name;                      /* path below the folder, without its ending */
    char          *image_path, *mask_path;    /* NULL: a scene, drawn                      */
    bool           unlabelled;                /* there is no mask                          */
    int64_t        width, height;             /* of the frame: what differs is resized     */
    int64_t        image_width, image_height; /* as the files' headers said                */
    int64_t        mask_width, mask_height;
    kdas_image    *image, *mask; /* kept decoded, or NULL; under `lock`  */
    bool           seen, empty;  /* its mask has been looked at, and is all 0; under `lock` */
    int            turn;         /* of the image, EXIF's: as kd_image_info says */
    kd_mask_survey survey;       /* with mask_rule AUTO: what its mask holds   */
} kd_frame_files;

typedef struct kd_frames {
    kdas_context      *ctx;
    atomic_int         users;
    pthread_mutex_t    lock;
    uint64_t           budget, used; /* bytes of decoded frames; used is under `lock` */
    kdas_scene_options scene;
    kd_frame_files    *frame;
    size_t             count, capacity;
    kd_skips           skips;     /* frames that were left out when the folder was read  */
    kdas_mask_rule     mask_rule; /* while folders are read perhaps AUTO, later never    */
} kd_frames;

/* An empty store with one user. */
kdas_status kd_frames_create(kd_frames **out, kdas_context *ctx, uint64_t budget);
/* Add a user; remove a user. Removing the last one destroys the store. NULL is fine. */
kd_frames *kd_frames_share(kd_frames *frames);
void       kd_frames_drop(kd_frames *frames);
/* Append a frame. Ownership of its strings passes to the store, also on failure; a NULL name is a
 * failed allocation. */
kdas_status kd_frames_add(kd_frames *frames, kd_frame_files frame);

/* Free what a frame owns; its place is then to be used anew. */
void kd_frame_finish(kdas_context *ctx, kd_frame_files *frame);

/* How folders are read. */
typedef struct kd_scan {
    const char *list;        /* a file that names the frames to read; NULL: all        */
    bool        unlabelled;  /* there are no masks                                     */
    bool        predictions; /* images are predictions, and frames have the mask's size */
    bool        skip_bad;    /* leave out what cannot be used, else refuse it          */
    bool        fit;         /* resize what differs in size                            */
    bool        check;       /* decode everything now                                  */
    bool        allow_empty; /* take a set whose masks are all empty                   */
} kd_scan;

/* Fill an empty store from a folder (folder.c), or from a folder of predictions and one of their
 * masks. */
kdas_status kd_frames_scan(kd_frames *frames, const char *dir, const kd_scan *scan);
kdas_status kd_frames_scan_predictions(kd_frames *frames, const char *predictions,
                                       const char *masks, const kd_scan *scan);
/* The result `st` of adding or checking a frame: a failure is noted and logged if bad frames are
 * left out, else returned. */
kdas_status kd_frames_take(kd_frames *frames, kdas_status st, const char *name, bool skip_bad);
/* Look at every frame in threads, and leave out or refuse those that fail (check_frames.c): survey
 * its mask, if the rule is not known yet; later decode it. */
kdas_status kd_frames_survey(kd_frames *frames, bool skip_bad);
kdas_status kd_frames_check(kd_frames *frames, bool skip_bad);

/* After the survey: find the rule by which masks are read, and log what is unusual. The folders
 * are for sentences; that of masks may be NULL without masks (masks.c). */
kdas_status kd_frames_settle(kd_frames *frames, const char *images, const char *masks);
/* Log that predictions have colours or parts that cannot be seen, if some have: neither counts. What
 * cannot be read is found when it is due. */
kdas_status kd_frames_tell_painted(kd_frames *frames, const char *dir);
/* After that: refuse a set without any polyp. */
kdas_status kd_frames_need_polyp(kd_frames *frames, const char *dir);

/* A borrowed decoded frame: RGB8, and GREY8 of 0 and 255, or a view without data if there is no
 * mask. The borrower must return it. */
typedef struct kd_loan {
    kdas_view   image, mask;
    kdas_image *own_image, *own_mask; /* freed on return; NULL: the store keeps them */
} kd_loan;
kdas_status kd_frames_lend(kd_loan *out, kd_frames *frames, size_t i);
void        kd_loan_return(kd_loan *loan);
/* Whether frame i has no polyp; known after the first time. Decodes its mask alone. A frame without
 * a mask is not known to be empty: false. */
kdas_status kd_frames_empty(bool *out, kd_frames *frames, size_t i);

#endif
