/* mask.h - inside of mask files: which pixels are polyp. A survey says what one file holds; the
 * surveys of a set say by which rule all its files are read. docs/data.md has the reasons. */
#ifndef KD_MASK_H
#define KD_MASK_H
#include "image/image.h"

/* What a file holds. "Painted" pixels are those that are not black. A level is the largest of a
 * visible pixel's colours; invisible pixels (alpha of at most half the file's largest) have
 * level 0. */
typedef enum kd_mask_kind {
    KD_MASK_BLACK,    /* nothing is painted                                                    */
    KD_MASK_NOISE,    /* a few dim pixels, such as JPEG leaves in an empty mask                */
    KD_MASK_DIM,      /* grey, nothing above 127, in flat areas: class numbers, dim paint      */
    KD_MASK_LIGHT,    /* grey, with luma above 127                                             */
    KD_MASK_COLOURED, /* colours                                                               */
    KD_MASK_KINDS
} kd_mask_kind;

/* What its alpha says. */
typedef enum kd_mask_alpha {
    KD_ALPHA_OPAQUE, /* nothing: there is none, or it has one value                             */
    KD_ALPHA_CLEAR,  /* nothing can be seen: it is 0 everywhere, over one colour                */
    KD_ALPHA_DRAWN,  /* what can be seen is painted all over                                    */
    KD_ALPHA_DARK,   /* what can be seen is black all over                                      */
    KD_ALPHA_MIXED   /* what can be seen is partly black                                        */
} kd_mask_alpha;

typedef struct kd_mask_survey {
    uint8_t kind, alpha; /* kd_mask_kind, kd_mask_alpha                                         */
    bool    lossy;       /* JPEG: levels have noise                                             */
    bool    background;  /* some pixel is black, or nearly so in JPEG, or invisible             */
    uint8_t luma;        /* the largest, of all pixels, as rule BRIGHT counts them              */
    uint8_t level;       /* the largest                                                         */
    uint8_t cut;         /* rule COLOUR: levels above this are painted                          */
    uint8_t doubt;       /* KD_MASK_LIGHT: a level up to 127 that fills an area; 0: none        */
} kd_mask_survey;

/* Look at a file. Fails as kdas_image_load. */
kdas_status kd_mask_survey_file(kd_mask_survey *out, kdas_context *ctx, const char *path);
/* The rule for a set of files, never AUTO. KDAS_EFORMAT with a sentence that names a file and the
 * cure where it is not clear. Files are named by a callback, since lists differ. */
typedef const char *(*kd_mask_path_fn)(const void *user, int64_t i);
typedef const kd_mask_survey *(*kd_mask_survey_fn)(const void *user, int64_t i);
typedef struct kd_mask_set {
    const void       *user;
    int64_t           count;
    kd_mask_path_fn   path;
    kd_mask_survey_fn survey; /* NULL from it: a file that has none, which is passed over */
} kd_mask_set;
kdas_status kd_mask_set_rule(kdas_mask_rule *out, const kd_mask_set *set);

/* Read a mask by a rule that is not AUTO: GREY8 of 0 and 255. */
kdas_status kd_mask_read(kdas_image **out, kdas_context *ctx, const char *path,
                         kdas_mask_rule rule);
/* Whether a file has no polyp by that rule, where its survey is enough to know. */
bool kd_mask_is_empty(bool *empty, const kd_mask_survey *survey, kdas_mask_rule rule);

#endif
