/* pictures.h - the files of a folder and of those below it that may be frames, masks or maps, by
 * name. A name is the path below the folder without its ending, in composed Unicode. */
#ifndef KD_PICTURES_H
#define KD_PICTURES_H
#include "base/base.h"
#include "io/file.h"

typedef struct kd_picture {
    char *name, *path;
    bool  readable; /* by its ending */
} kd_picture;

typedef struct kd_pictures {
    char       *dir;
    kd_picture *picture; /* by name, then by path, in byte order */
    size_t      count, capacity;
    size_t      others; /* files with other endings, passed over */
    char       *other;  /* the first of them, or NULL            */
} kd_pictures;

/* List `dir`. `endings` ends with NULL; NULL for those of images. `pictures` comes zeroed, and must
 * be finished also on failure. */
kdas_status kd_pictures_list(kd_pictures *pictures, kdas_context *ctx, const char *dir,
                             const char *const *endings);
void        kd_pictures_finish(kd_pictures *pictures, kdas_context *ctx);
/* Log that files were passed over, if some were. */
void kd_pictures_tell(const kd_pictures *pictures, kdas_context *ctx);
/* The place of the first picture of a name, or of the next name if there is none. */
size_t kd_pictures_place(const kd_pictures *pictures, const char *name);
/* The first picture of a name, or NULL. */
const kd_picture *kd_pictures_find(const kd_pictures *pictures, const char *name);
/* How many pictures from place `from` on have this name. */
size_t kd_pictures_same(const kd_pictures *pictures, size_t from, const char *name);
/* Two pictures whose paths may read the same: "", or which of them is in another Unicode form. For
 * the end of a sentence. */
const char *kd_pictures_form(const kd_picture *a, const kd_picture *b);
/* A path's name, as above: without its ending if that is one of an image. kd_free it. */
char *kd_picture_name(kdas_context *ctx, const char *path);

#endif
