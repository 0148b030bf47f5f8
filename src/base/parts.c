/* parts.c - parts of a context: a list of blocks, found by their type. It is short, two or three
 * parts. */
#include "base/context.h"

struct kd_part {
    kd_part            *next;
    const kd_part_type *type;
    max_align_t         memory[];
};

void *kd_context_part(const kdas_context *ctx, const kd_part_type *type)
{
    for (kd_part *p = ctx->parts; p; p = p->next)
        if (p->type == type) return p->memory;
    return NULL;
}

kdas_status kd_context_part_make(void **out, kdas_context *ctx, const kd_part_type *type)
{
    kd_part *p;

    *out = kd_context_part(ctx, type);
    if (*out) return KDAS_OK;
    p = kd_calloc(ctx, 1, sizeof *p + type->size);
    if (!p) return KDAS_ENOMEM;
    p->type    = type;
    p->next    = ctx->parts;
    ctx->parts = p;
    *out       = p->memory;
    return KDAS_OK;
}

void kd_context_parts_finish(kdas_context *ctx)
{
    while (ctx->parts) {
        kd_part *p = ctx->parts;

        if (p->type->finish) p->type->finish(ctx, p->memory);
        ctx->parts = p->next;
        kd_free(ctx, p);
    }
}
