/* run.c - runs the objective on the device memory of the models' outputs. It finds the student's
 * and teacher's maps there, and leaves its gradients there. */
#include "base/process.h"
#include "data/batch.h"
#include "data/upload.h"
#include "loss/loss.h"
#include <math.h>
#include <string.h>

void kdas_loss_run_options_init(kdas_loss_run_options *options, size_t size)
{
    kdas_loss_run_options defaults = { .size = size, .scale = 1, .gradient_norms = 1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* ---- what can be evaluated ---- */

static bool has_seg(const kdas_loss *loss) { return kd_loss_weight(loss, KDAS_TERM_SEG) > 0; }

int32_t kdas_loss_reads_teacher(const kdas_loss *loss, const kdas_batch *batch)
{
    if (!loss || !batch) return 0;
    return (kd_loss_guides(loss) && kdas_loss_needs_teacher(loss)) || kd_pseudo_wanted(batch);
}

/* Terms over maps need maps in both networks. Feature terms need no maps. */
static kdas_status check_models(const kdas_loss *loss, const kdas_model *student,
                                const kdas_model *teacher)
{
    bool guided = kdas_loss_needs_teacher(loss);

    if (student->ctx != loss->ctx || (teacher && teacher->ctx != loss->ctx))
        return kd_fail(KDAS_EINVAL, "teacher, student and loss are not of one context");
    if (kdas_model_maps(student) == 0 && (guided || has_seg(loss) || !kdas_loss_needs_taps(loss)))
        return kd_fail(KDAS_EINVAL,
                       "'%s' has no one-channel maps to learn masks with: it can learn features "
                       "alone, with seg_weight 0 and guidance \"none\"",
                       student->def->name);
    if (teacher && guided && kdas_model_maps(teacher) == 0)
        return kd_fail(KDAS_EINVAL,
                       "teacher '%s' has no one-channel maps for guidance \"%s\": it can give "
                       "features alone, with guidance \"none\"",
                       teacher->def->name, loss->options.guidance);
    if (teacher && teacher->def->rules->side && student->def->rules->side &&
        teacher->def->rules->side != student->def->rules->side)
        return kd_fail(KDAS_ESHAPE,
                       "teacher '%s' takes images of %dx%d alone, and student '%s' of %dx%d alone: "
                       "they cannot see the same images",
                       teacher->def->name, teacher->def->rules->side, teacher->def->rules->side,
                       student->def->name, student->def->rules->side, student->def->rules->side);
    return KDAS_OK;
}

/* The batch's own maps, if a term needs them. */
static kdas_status check_own_maps(const kdas_loss *loss, const kdas_batch *batch)
{
    static const char from[] =
        "give a model, set its maps before each forward, or have them in the batch";
    bool has;

    KD_RETURN(kd_batch_has_teacher(batch, &has));
    if (has) return KDAS_OK;
    if (kd_pseudo_wanted(batch))
        return kd_fail(KDAS_ESTATE, "a frame without a mask needs a teacher: %s", from);
    return kd_fail(KDAS_ESTATE, "guidance \"%s\" needs a teacher: %s", loss->options.guidance,
                   from);
}

/* Teacher and student read the same images, so both must take their size. */
static kdas_status check_sizes(const kdas_loss *loss, const kdas_model *student,
                               const kdas_model *teacher, const kdas_batch *batch)
{
    bool teaches = teacher && (kdas_loss_reads_teacher(loss, batch) ||
                               (kdas_loss_needs_taps(loss) && kd_loss_guides(loss)));

    KD_RETURN(kd_check_size(student->def, batch->count, batch->height, batch->width));
    return teaches ? kd_check_size(teacher->def, batch->count, batch->height, batch->width)
                   : KDAS_OK;
}

static kdas_status check_batch(const kdas_loss *loss, const kdas_model *teacher,
                               const kdas_batch *batch, const kdas_maps *maps)
{
    if (has_seg(loss) && !batch->masks)
        return kd_fail(KDAS_EINVAL, "the batch was made without masks, and the objective has a "
                                    "segmentation term (seg_weight)");
    if (!kdas_loss_reads_teacher(loss, batch)) return KDAS_OK;
    if (teacher && kdas_model_maps(teacher) == 0)
        return kd_fail(KDAS_EINVAL,
                       "teacher '%s' has no one-channel maps, and a frame without a mask needs one",
                       teacher->def->name);
    if (teacher) return KDAS_OK;
    if (!maps) return check_own_maps(loss, batch);
    KD_RETURN(kd_loss_check_maps(maps, "teacher"));
    if (maps->count != batch->count)
        return kd_fail(KDAS_ESHAPE, "the teacher's maps are of %lld images, the batch has %lld",
                       (long long)maps->count, (long long)batch->count);
    return KDAS_OK;
}

static kdas_status take(kdas_loss_run_options *o, const kdas_loss_run_options *options)
{
    kdas_loss_run_options_init(o, sizeof *o);
    KD_RETURN(kd_take_options(o, sizeof *o, options, "kdas_loss_run_options"));
    if (!(o->scale > 0 && isfinite(o->scale)))
        return kd_fail(KDAS_EINVAL, "kdas_loss_run: a scale of %g is not above 0",
                       (double)o->scale);
    return KDAS_OK;
}

kdas_status kdas_loss_check(const kdas_loss *loss, const kdas_model *student,
                            const kdas_model *teacher, const kdas_batch *batch,
                            const kdas_loss_run_options *options)
{
    kdas_loss_run_options o;

    if (!loss || !student) return kd_fail(KDAS_EINVAL, "kdas_loss_check: loss or student is NULL");
    KD_RETURN(take(&o, options));
    KD_RETURN(check_models(loss, student, teacher));
    if (!batch) return KDAS_OK;
    KD_RETURN(check_sizes(loss, student, teacher, batch));
    return check_batch(loss, teacher, batch, o.teacher_maps);
}

/* ---- where everything is ---- */

static kdas_status check_dims(const kd_node *node, const kdas_model *m, const kdas_batch *batch,
                              const char *whose)
{
    const int64_t *dim = node->desc.out.dim;

    if (dim[0] == batch->count && dim[1] == batch->height && dim[2] == batch->width) return KDAS_OK;
    return kd_fail(KDAS_ESHAPE,
                   "the last forward of %s '%s' was on %lldx%lldx%lld, the batch is %lldx%lldx%lld",
                   whose, m->def->name, (long long)dim[0], (long long)dim[1], (long long)dim[2],
                   (long long)batch->count, (long long)batch->height, (long long)batch->width);
}

static kdas_status check_reads(const kdas_model *m, const kdas_batch *batch, const char *whose)
{
    if (kdas_model_batch(m) == batch) return KDAS_OK;
    return kd_fail(
        KDAS_ESTATE,
        "the last forward of %s '%s' was on another batch, or this one was changed since", whose,
        m->def->name);
}

static const kd_node *image_of(const kdas_model *m)
{
    return kd_find(kd_program_graph(m->current), "image");
}

static kdas_status place_student(kd_loss_place *at, const kdas_model *m, const kdas_batch *batch)
{
    KD_RETURN(kd_model_check_backward(m));
    KD_RETURN(check_dims(image_of(m), m, batch, "student"));
    KD_RETURN(check_reads(m, batch, "student"));
    for (at->maps = 0; at->maps < kdas_model_maps(m); at->maps++) {
        const kd_node *node = kd_model_output_node(m, at->maps, NULL);

        at->student[at->maps]  = kd_program_value(m->current, node);
        at->gradient[at->maps] = kd_program_grad(m->current, node);
        at->h                  = node->desc.out.dim[1];
        at->w                  = node->desc.out.dim[2];
    }
    at->n = batch->count;
    return KDAS_OK;
}

static kdas_status place_teacher(kd_teacher_maps *to, const kdas_model *m, const kdas_batch *batch)
{
    KD_RETURN(kd_model_check_values(m));
    KD_RETURN(check_dims(image_of(m), m, batch, "teacher"));
    KD_RETURN(check_reads(m, batch, "teacher"));
    to->maps   = kdas_model_maps(m);
    to->answer = kdas_model_answer(m);
    for (int i = 0; i < to->maps; i++) {
        const kd_node *node = kd_model_output_node(m, i, NULL);

        to->map[i] = kd_program_value(m->current, node);
        to->h      = node->desc.out.dim[1];
        to->w      = node->desc.out.dim[2];
    }
    return KDAS_OK;
}

/* Host data: the teacher's maps from the host, and the parts of the batch that are not on the
 * device. */
enum { MOST = KD_MAX_MAPS + 2 };
typedef struct piece {
    const float *from;
    size_t       count;
    float      **to;
} piece;

/* Upload the data side by side, unless kernels can read it in place. */
static kdas_status stage(kdas_loss *loss, const piece *all, int pieces)
{
    size_t total = 0;
    float *to;

    for (int i = 0; i < pieces; i++) {
        *all[i].to = (float *)all[i].from;
        total += all[i].count;
    }
    if (loss->ctx->host_memory || pieces == 0) return KDAS_OK;
    KD_RETURN(kd_device_reserve(loss->ctx, &loss->staging, total * sizeof *to));
    to = loss->staging.memory;
    for (int i = 0; i < pieces; i++) {
        KD_RETURN(kd_device_upload(loss->ctx, to, all[i].from, all[i].count * sizeof *to));
        *all[i].to = to;
        to += all[i].count;
    }
    return KDAS_OK;
}

/* The batch's masks, weights and map, unless another teacher supplies the maps. `waits`: masks
 * come later. */
static kdas_status place_host(kdas_loss *loss, kd_loss_place *at, kd_teacher_maps *teacher,
                              kdas_batch *batch, const kdas_maps *maps, bool reads, bool waits)
{
    size_t         n       = (size_t)(batch->count * batch->height * batch->width);
    bool           masks   = has_seg(loss) && !waits;
    piece          p[MOST] = { 0 };
    int            pieces  = 0;
    kd_batch_place on;

    KD_RETURN(kd_batch_find(&on, loss->ctx, batch));
    if (masks) {
        at->mask   = on.masks;
        at->weight = on.weights;
        if (!on.masks) p[pieces++] = (piece){ batch->masks, n, &at->mask };
        if (!on.weights && batch->weights) p[pieces++] = (piece){ batch->weights, n, &at->weight };
    }
    if (reads && maps) {
        teacher->maps = maps->maps;
        teacher->h    = maps->height;
        teacher->w    = maps->width;
        for (int i = 0; i < maps->maps; i++)
            p[pieces++] = (piece){ maps->map[i], (size_t)(maps->count * maps->height * maps->width),
                                   &teacher->map[i] };
    } else if (reads) {
        teacher->maps   = 1;
        teacher->h      = batch->height;
        teacher->w      = batch->width;
        teacher->map[0] = on.teacher;
        if (!on.teacher) p[pieces++] = (piece){ batch->teacher, n, &teacher->map[0] };
    }
    return stage(loss, p, pieces);
}

/* ---- run ---- */

static kdas_status run(kdas_loss *loss, const kdas_model *student, const kdas_model *teacher,
                       kdas_batch *batch, const kdas_loss_run_options *o, kdas_loss_report *report)
{
    bool            reads = kdas_loss_reads_teacher(loss, batch), waits = kd_pseudo_wanted(batch);
    kd_teacher_maps maps = { 0 };
    kd_loss_place   at   = { 0 };

    KD_RETURN(place_student(&at, student, batch));
    if (reads && teacher) KD_RETURN(place_teacher(&maps, teacher, batch));
    KD_RETURN(place_host(loss, &at, &maps, batch, o->teacher_maps, reads && !teacher, waits));
    at.teacher_h = maps.maps ? maps.h : batch->height;
    at.teacher_w = maps.maps ? maps.w : batch->width;
    KD_RETURN(kd_loss_pair(loss, &at, &maps));
    if (waits) KD_RETURN(kd_pseudo_fill(loss, &at, batch, &maps));
    return kd_loss_run(loss, &at, o->scale, o->gradient_norms, report);
}

kdas_status kdas_loss_run(kdas_loss *loss, kdas_model *student, kdas_model *teacher,
                          kdas_batch *batch, const kdas_loss_run_options *options,
                          kdas_loss_report *report)
{
    kdas_loss_run_options o;

    if (!batch) return kd_fail(KDAS_EINVAL, "kdas_loss_run: the batch is NULL");
    if (loss) KD_RETURN(kd_check_process(loss->ctx));
    if (report && report->size < sizeof report->size)
        return kd_fail(KDAS_EINVAL, "kdas_loss_report: size is not set");
    KD_RETURN(kdas_loss_check(loss, student, teacher, batch, options));
    KD_RETURN(take(&o, options));
    return run(loss, student, teacher, batch, &o, report);
}
