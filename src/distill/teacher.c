/* teacher.c - the host's own teacher: its maps are kept until the backward that reads them. */
#include <string.h>
#include "base/process.h"
#include "base/sizes.h"
#include "distill/distiller.h"

enum { MAPS = sizeof((kd_host_maps){ 0 }.map) / sizeof(float *) };

static kdas_status check(const kdas_maps *maps)
{
    int64_t bytes;

    if (maps->maps < 1 || maps->maps > MAPS)
        return kd_fail(KDAS_ESHAPE, "the teacher has %lld maps, not 1 to %d", (long long)maps->maps,
                       MAPS);
    if (maps->count < 1 || maps->height < 1 || maps->width < 1)
        return kd_fail(KDAS_ESHAPE, "the teacher's maps are %lldx%lldx%lld", (long long)maps->count,
                       (long long)maps->height, (long long)maps->width);
    if (!kd_product(&bytes, maps->maps, maps->count, maps->height, maps->width, sizeof(float)))
        return kd_fail(KDAS_ESHAPE,
                       "the teacher's %lld maps are %lldx%lldx%lld, more than memory has",
                       (long long)maps->maps, (long long)maps->count, (long long)maps->height,
                       (long long)maps->width);
    for (int i = 0; i < maps->maps; i++)
        if (!maps->map[i]) return kd_fail(KDAS_EINVAL, "map %d of the teacher is NULL", i);
    return KDAS_OK;
}

/* On failure the copy stays as it was. */
static kdas_status reserve(kdas_context *ctx, kd_host_maps *copy, size_t count)
{
    float *memory;

    if (copy->room >= count) return KDAS_OK;
    memory = kd_alloc(ctx, count * sizeof *memory);
    if (!memory) return KDAS_ENOMEM;
    kd_free(ctx, copy->memory);
    copy->memory = memory;
    copy->room   = count;
    return KDAS_OK;
}

/* The copy to write: not the one that a backward is still to read. */
static int writable(const kdas_distiller *d)
{
    const kd_host_teacher *t = &d->host_teacher;

    if (t->fresh) return t->next;
    return t->taken && d->phase == KD_PHASE_FORWARD ? !t->last : t->last;
}

kdas_status kdas_distiller_set_teacher_maps(kdas_distiller *d, const kdas_maps *maps)
{
    kd_host_maps *copy;
    size_t        each;
    int           next;

    if (!d || !maps || !maps->map)
        return kd_fail(KDAS_EINVAL, "set_teacher_maps: an argument is NULL");
    KD_RETURN(kd_check_process(d->ctx));
    KD_RETURN(check(maps));
    next = writable(d);
    copy = &d->host_teacher.copy[next];
    each = (size_t)(maps->count * maps->height * maps->width);
    KD_RETURN(reserve(d->ctx, copy, each * (size_t)maps->maps));
    for (int i = 0; i < maps->maps; i++) {
        float *to = copy->memory + each * (size_t)i;

        memcpy(to, maps->map[i], each * sizeof *to);
        copy->map[i] = to;
    }
    copy->maps            = *maps;
    copy->maps.map        = copy->map;
    d->host_teacher.next  = next;
    d->host_teacher.fresh = true;
    return KDAS_OK;
}
