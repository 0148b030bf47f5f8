/* skips.c - see skips.h. */
#include "data/skips.h"

kdas_status kd_skips_add(kd_skips *skips, kdas_context *ctx, const char *name, const char *reason)
{
    kd_skip     one = { kd_strdup(ctx, name), kd_strdup(ctx, reason) };
    kdas_status st  = one.name && one.reason ? KDAS_OK : KDAS_ENOMEM;

    if (st == KDAS_OK)
        st = kd_grow(ctx, (void **)&skips->skip, &skips->capacity, skips->count + 1, sizeof one);
    if (st == KDAS_OK) {
        skips->skip[skips->count++] = one;
        return KDAS_OK;
    }
    kd_free(ctx, one.name);
    kd_free(ctx, one.reason);
    return st;
}

kdas_status kd_skips_join(kd_skips *skips, kdas_context *ctx, const kd_skips *from)
{
    for (size_t i = 0; i < from->count; i++)
        KD_RETURN(kd_skips_add(skips, ctx, from->skip[i].name, from->skip[i].reason));
    return KDAS_OK;
}

void kd_skips_finish(kd_skips *skips, kdas_context *ctx)
{
    for (size_t i = 0; i < skips->count; i++) {
        kd_free(ctx, skips->skip[i].name);
        kd_free(ctx, skips->skip[i].reason);
    }
    kd_free(ctx, skips->skip);
    *skips = (kd_skips){ 0 };
}
