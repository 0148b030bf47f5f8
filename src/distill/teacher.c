/* teacher.c - where a forward's teacher maps come from: the teacher model, maps that the host has set, or the batch's
 * own; and which of them guides which map of the student. */
#include "data/batch.h"
#include "distill/distiller.h"

int32_t kd_maps_of(const kdas_model *m)
{
    const kd_node *node;
    int32_t        maps = 0;

    for (; kd_graph_output(m->shape, maps, &node); maps++)
        if (node->desc.out.dim[3] != 1) return 0;
    return maps;
}

/* ---- the host's own teacher ---- */

kdas_status kdas_distiller_set_teacher_maps(kdas_distiller *d, const kdas_maps *maps)
{
    size_t bytes;

    if (!d || !maps || !maps->map)
        return kd_fail(KDAS_EINVAL, "set_teacher_maps: an argument is NULL");
    if (maps->maps < 1 || maps->maps > KD_MAX_MAPS)
        return kd_fail(KDAS_ESHAPE, "the teacher has %lld maps, not 1 to %d", (long long)maps->maps,
                       KD_MAX_MAPS);
    if (maps->count < 1 || maps->height < 1 || maps->width < 1)
        return kd_fail(KDAS_ESHAPE, "the teacher's maps are %lldx%lldx%lld", (long long)maps->count,
                       (long long)maps->height, (long long)maps->width);
    for (int i = 0; i < maps->maps; i++)
        if (!maps->map[i]) return kd_fail(KDAS_EINVAL, "map %d of the teacher is NULL", i);
    bytes                 = (size_t)(maps->count * maps->height * maps->width) * sizeof(float);
    d->host_teacher.fresh = false;
    if (d->host_teacher.bytes < bytes * (size_t)maps->maps) {
        kd_device_free(d->ctx, d->host_teacher.memory);
        d->host_teacher.bytes  = 0;
        d->host_teacher.memory = kd_device_alloc(d->ctx, bytes * (size_t)maps->maps);
        if (!d->host_teacher.memory) return KDAS_ENOMEM;
        d->host_teacher.bytes = bytes * (size_t)maps->maps;
    }
    for (int i = 0; i < maps->maps; i++)
        KD_RETURN(kd_device_upload(d->ctx, (char *)d->host_teacher.memory + bytes * (size_t)i,
                                   maps->map[i], bytes));
    d->host_teacher.maps  = maps->maps;
    d->host_teacher.n     = maps->count;
    d->host_teacher.h     = maps->height;
    d->host_teacher.w     = maps->width;
    d->host_teacher.fresh = true;
    return KDAS_OK;
}

static kdas_status place_host_teacher(kdas_distiller *d, int64_t n)
{
    size_t each;

    if (d->host_teacher.n != n)
        return kd_fail(KDAS_ESHAPE, "the teacher's maps are of %lld images, the batch has %lld",
                       (long long)d->host_teacher.n, (long long)n);
    each            = (size_t)(n * d->host_teacher.h * d->host_teacher.w);
    d->at.teacher_h = d->host_teacher.h;
    d->at.teacher_w = d->host_teacher.w;
    d->teacher_maps = d->host_teacher.maps;
    for (int i = 0; i < d->teacher_maps; i++)
        d->teacher_map[i] = d->host_teacher.memory + each * (size_t)i;
    return KDAS_OK;
}

/* ---- the others ---- */

static kdas_status run_teacher_model(kdas_distiller *d, const kdas_batch *batch, float *images)
{
    KD_RETURN(
        kd_model_run(d->teacher, KD_INFER, images, batch->count, batch->height, batch->width));
    if (d->feature) d->feature->ready = true;
    d->holds[0]     = kd_model_generation(d->teacher);
    d->teacher_maps = kd_maps_of(d->teacher);
    for (int i = 0; i < d->teacher_maps; i++) {
        const kd_node *node = kd_model_output_node(d->teacher, i, NULL);

        d->teacher_map[i] = kd_program_value(d->teacher->current, node);
        d->at.teacher_h   = node->desc.out.dim[1];
        d->at.teacher_w   = node->desc.out.dim[2];
    }
    return KDAS_OK;
}

/* The batch's own: one map. */
static kdas_status place_batch_teacher(kdas_distiller *d, const kdas_batch *batch, float *maps)
{
    static const char from[] =
        "give a model, set its maps before each forward, or have them in the batch";
    bool has;

    KD_RETURN(kd_batch_has_teacher(batch, &has));
    if (!has && kd_pseudo_wanted(batch))
        return kd_fail(KDAS_ESTATE, "a frame without a mask needs a teacher: %s", from);
    if (!has)
        return kd_fail(KDAS_ESTATE, "guidance \"%s\" needs a teacher: %s",
                       d->loss->options.guidance, from);
    d->teacher_maps   = 1;
    d->teacher_map[0] = maps;
    return KDAS_OK;
}

kdas_status kd_teacher_run(kdas_distiller *d, kdas_batch *batch, const kd_uploaded *on)
{
    bool unlabelled = kd_pseudo_wanted(batch), guides = kd_loss_guides(d->loss);
    bool maps    = unlabelled || (guides && kdas_loss_needs_teacher(d->loss));
    int  student = kd_maps_of(d->student);

    d->at.teacher_h = batch->height;
    d->at.teacher_w = batch->width;
    d->teacher_maps = 0;
    d->holds[0]     = 0;
    if (d->feature) d->feature->ready = false;
    if (!maps && !kd_feature_wanted(d)) return KDAS_OK;
    if (d->teacher)
        KD_RETURN(run_teacher_model(d, batch, on->images));
    else if (d->host_teacher.fresh)
        KD_RETURN(place_host_teacher(d, batch->count));
    else
        KD_RETURN(place_batch_teacher(d, batch, on->teacher));
    for (int i = 0; d->teacher_maps && i < student; i++)
        d->at.teacher[i] = d->teacher_map[kd_teacher_map(d->teacher_maps, student, i)];
    if (unlabelled && d->teacher_maps == 0)
        return kd_fail(KDAS_EINVAL,
                       "teacher '%s' has no one-channel maps, and a frame without a mask needs one",
                       d->teacher->def->name);
    return unlabelled ? kd_pseudo_fill(d, batch) : KDAS_OK;
}
