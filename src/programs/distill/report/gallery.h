/* gallery.h - sheets of chosen frames: frame, truth, every model's mask, and where they differ. */
#ifndef PROGRAMS_GALLERY_H
#define PROGRAMS_GALLERY_H
#include "distill/work.h"

enum { MAX_MODELS = MAX_ROWS + 1 };

/* Models in the order of the tables, of the first seed: the teacher, if there is one, then the
 * students. */
typedef struct cast {
    kdas_model *model[MAX_MODELS]; /* NULL where no pictures are drawn */
    const char *name[MAX_MODELS];
    int         count, students; /* where the students begin */
} cast;

/* Draw sheets of some frames of a set, from the worst to the best for the last student, into
 * `dir`. Calls `each` for every sheet with a JPEG of it, which is removed afterwards. */
typedef bool (*sheet_fn)(void *user, const char *jpeg, const char *caption);
bool gallery_draw(const work *w, const cast *c, int set, const char *dir, sheet_fn each,
                  void *user);
#endif
