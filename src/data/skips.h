/* skips.h - frames that were left out as bad, and why. */
#ifndef KD_SKIPS_H
#define KD_SKIPS_H
#include "base/base.h"

typedef struct kd_skip {
    char *name, *reason;
} kd_skip;

typedef struct kd_skips {
    kd_skip *skip;
    size_t   count, capacity;
} kd_skips;

/* Append copies of both texts. */
kdas_status kd_skips_add(kd_skips *skips, kdas_context *ctx, const char *name, const char *reason);
/* Append copies of all of `from`. */
kdas_status kd_skips_join(kd_skips *skips, kdas_context *ctx, const kd_skips *from);
void        kd_skips_finish(kd_skips *skips, kdas_context *ctx);

#endif
