/* name_list.h - a text file with the names of frames, one in a line: which frames of a folder to
 * read. */
#ifndef KD_NAME_LIST_H
#define KD_NAME_LIST_H
#include "data/pictures.h"

typedef struct kd_listed {
    char *text; /* the line */
    int   line; /* from 1   */
    char *name; /* of the frame; NULL: there is none */
} kd_listed;

typedef struct kd_name_list {
    char      *path;
    kd_listed *entry; /* by name, then by line; those without a frame come first */
    size_t     count, capacity;
} kd_name_list;

/* Read the file and find each line among images or masks: the name with or without its ending, also
 * as a path that leads through their folder ("images/a.jpg"), also before a blank or a comma.
 * `list` comes zeroed, and must be finished also on failure. */
kdas_status kd_name_list_read(kd_name_list *list, kdas_context *ctx, const char *path,
                              const kd_pictures *images, const kd_pictures *masks);
void        kd_name_list_finish(kd_name_list *list, kdas_context *ctx);
/* Whether a frame is in the list. */
bool kd_name_list_has(const kd_name_list *list, const char *name);
/* KDAS_EFORMAT or KDAS_ENOTFOUND if entry i has no frame, or that of the entry before. */
kdas_status kd_name_list_check(const kd_name_list *list, size_t i, const kd_pictures *images);

#endif
