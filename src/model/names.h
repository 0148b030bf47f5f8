/* names.h - tensor names of other writers, as names of ours. The one place where names are
 * translated. */
#ifndef KD_NAMES_H
#define KD_NAMES_H
#include "base/base.h"

#define KD_NAME_ROOM 512 /* bytes of a name, its NUL included */

/* What is done to each name of a file. */
typedef struct kd_renaming {
    size_t strip; /* bytes taken off the front: words that all names of the file begin with */
    bool   timm;  /* names of PVTv2 as timm gives them */
} kd_renaming;

/* The renamed name. False: it is longer than KD_NAME_ROOM. */
bool kd_rename(char out[KD_NAME_ROOM], const kd_renaming *renaming, const char *name);
/* Whether the name is one that `timm` changes. */
bool kd_name_is_timm(const char *name);
/* Bytes of the words ("module.", "model.backbone.") that two names begin with, up to and with the
 * last full stop; `most` bounds it. */
size_t kd_names_common(const char *a, const char *b, size_t most);

#endif
