/* layout.h - how folders of frames are laid out. */
#ifndef KD_LAYOUT_H
#define KD_LAYOUT_H
#include <kdas/data.h>
#include "base/base.h"

typedef enum kd_side { KD_SIDE_IMAGES, KD_SIDE_MASKS } kd_side;

/* The folder of images or of masks in `dir`, from kd_alloc; NULL if there is none. Of several, the
 * best known name counts, and the others are logged. KDAS_ENOTFOUND: there is no folder `dir`. */
kdas_status kd_find_side(char **out, kdas_context *ctx, const char *dir, kd_side side);
/* Fail with KDAS_ENOTFOUND: `dir` has not that side. The sentence says what there is, and what is
 * wanted. */
kdas_status kd_fail_side(kdas_context *ctx, const char *dir, kd_side side);

#endif
