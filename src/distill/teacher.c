/* teacher.c - the host's own teacher: its maps are kept until the backward that reads them. */
#include <string.h>
#include "base/process.h"
#include "base/sizes.h"
#include "distill/distiller.h"

enum { MAPS = sizeof((kd_host_teacher){ 0 }.map) / sizeof(float *) };

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

static kdas_status reserve(kdas_distiller *d, size_t count)
{
    kd_host_teacher *t = &d->host_teacher;

    if (t->room >= count) return KDAS_OK;
    kd_free(d->ctx, t->memory);
    t->room   = 0;
    t->memory = kd_alloc(d->ctx, count * sizeof *t->memory);
    if (!t->memory) return KDAS_ENOMEM;
    t->room = count;
    return KDAS_OK;
}

kdas_status kdas_distiller_set_teacher_maps(kdas_distiller *d, const kdas_maps *maps)
{
    kd_host_teacher *t;
    size_t           each;

    if (!d || !maps || !maps->map)
        return kd_fail(KDAS_EINVAL, "set_teacher_maps: an argument is NULL");
    KD_RETURN(kd_check_process(d->ctx));
    KD_RETURN(check(maps));
    t        = &d->host_teacher;
    t->fresh = false;
    each     = (size_t)(maps->count * maps->height * maps->width);
    KD_RETURN(reserve(d, each * (size_t)maps->maps));
    for (int i = 0; i < maps->maps; i++) {
        float *to = t->memory + each * (size_t)i;

        memcpy(to, maps->map[i], each * sizeof *to);
        t->map[i] = to;
    }
    t->maps     = *maps;
    t->maps.map = t->map;
    t->fresh    = true;
    return KDAS_OK;
}
