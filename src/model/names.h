/* names.h - tensor names of other writers, as names of ours. The one place where names are
 * translated. */
#ifndef KD_NAMES_H
#define KD_NAMES_H
#include "base/base.h"

#define KD_NAME_ROOM 512 /* bytes of a name, its NUL included */

/* Whose names a file has. */
typedef enum kd_naming {
    KD_NAMES_PUBLISHED,    /* those of the published state_dict, which are ours */
    KD_NAMES_TIMM,         /* of PVTv2 as timm gives them */
    KD_NAMES_TRANSFORMERS, /* of PVTv2 as Hugging Face's transformers gives them */
    KD_NAMINGS
} kd_naming;

/* What is done to each name of a file. */
typedef struct kd_renaming {
    size_t    strip; /* bytes taken off the front: words that all names of the file begin with */
    kd_naming naming;
} kd_renaming;

/* Which part of our tensor another's tensor is, along the first axis. */
typedef enum kd_piece { KD_WHOLE, KD_FIRST_HALF, KD_SECOND_HALF } kd_piece;

/* The renamed name, and the part of that tensor. False: it is longer than KD_NAME_ROOM. */
bool kd_rename(char out[KD_NAME_ROOM], kd_piece *piece, const kd_renaming *renaming,
               const char *name);
/* Whose name it is. */
kd_naming kd_name_naming(const char *name);
/* Bytes of the words ("module.", "model.backbone.") that two names begin with, up to and with the
 * last full stop; `most` bounds it. */
size_t kd_names_common(const char *a, const char *b, size_t most);

#endif
