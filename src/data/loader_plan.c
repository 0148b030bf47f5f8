/* loader_plan.c - the content of the loader's batches, a function of options and position alone,
 * and the making of one sample. There are no threads here. */
#include <math.h>
#include <string.h>
#include "base/context.h"
#include "data/loader.h"
#include "image/image.h"
#include "ranks/ranks.h"

void kdas_loader_options_init(kdas_loader_options *options, size_t size)
{
    kdas_loader_options defaults = { .size        = size,
                                     .batch       = 8,
                                     .height      = 352,
                                     .width       = 352,
                                     .shuffle     = 1,
                                     .augment     = 1,
                                     .rotation    = 90,
                                     .workers     = 1,
                                     .ahead       = 3,
                                     .seed        = 1,
                                     .scale_min   = 1,
                                     .scale_max   = 1,
                                     .crop        = 1,
                                     .crop_aspect = 4.0f / 3,
                                     .empty_share = -1 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* A number within bounds; the comparisons are false for NaN, so that it is refused too. */
static kdas_status check_range(const char *name, float value, double low, double high)
{
    if ((double)value >= low && (double)value <= high) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "kdas_loader_options: %s is %g, not %g to %g", name, (double)value,
                   low, high);
}

static kdas_status check_augmentation(const kdas_loader_options *o)
{
    if (!(o->rotation >= 0 && o->rotation <= 180))
        return kd_fail(KDAS_EINVAL, "kdas_loader_options: rotation is %g degrees, not 0 to 180",
                       (double)o->rotation);
    KD_RETURN(check_range("scale_min", o->scale_min, 0.1f, 10));
    KD_RETURN(check_range("scale_max", o->scale_max, 0.1f, 10));
    if (o->scale_min > o->scale_max)
        return kd_fail(KDAS_EINVAL, "kdas_loader_options: scale_min is %g, above a scale_max of %g",
                       (double)o->scale_min, (double)o->scale_max);
    if (!(o->crop > 0 && o->crop <= 1))
        return kd_fail(KDAS_EINVAL, "kdas_loader_options: crop is %g, not above 0 and up to 1",
                       (double)o->crop);
    KD_RETURN(check_range("crop_aspect", o->crop_aspect, 1, 4));
    KD_RETURN(check_range("brightness", o->brightness, 0, 1));
    KD_RETURN(check_range("contrast", o->contrast, 0, 1));
    KD_RETURN(check_range("saturation", o->saturation, 0, 1));
    KD_RETURN(check_range("hue", o->hue, 0, 0.5));
    KD_RETURN(check_range("blur", o->blur, 0, 1));
    KD_RETURN(check_range("cutout", o->cutout, 0, 1));
    if (o->empty_share == -1) return KDAS_OK;
    return check_range("empty_share", o->empty_share, 0, 1);
}

/* Every rank has a frame of each group. */
static kdas_status check_share(const kdas_loader_options *o, int64_t frames)
{
    int32_t ranks = kdas_ranks_count(o->ranks);

    if (frames < ranks)
        return kd_fail(KDAS_EINVAL, "kdas_loader_create: %lld frame%s cannot be shared by %d ranks",
                       (long long)frames, frames == 1 ? "" : "s", ranks);
    if (o->drop_last && frames < o->batch * ranks)
        return kd_fail(
            KDAS_EINVAL,
            "kdas_loader_options: %lld frames fill no batch of %lld, and drop_last is set",
            (long long)frames, (long long)(o->batch * ranks));
    return KDAS_OK;
}

static kdas_status check_options(const kdas_loader_options *o, int64_t frames)
{
    if (frames < 1) return kd_fail(KDAS_EINVAL, "kdas_loader_create: the dataset has no frames");
    if (o->batch < 1 || o->batch > 65536)
        return kd_fail(KDAS_EINVAL, "kdas_loader_options: batch is %lld, not 1 to 65536",
                       (long long)o->batch);
    if (o->height < 32 || o->width < 32 || o->height % 32 || o->width % 32 ||
        o->height > KDAS_IMAGE_MAX_SIDE || o->width > KDAS_IMAGE_MAX_SIDE)
        return kd_fail(KDAS_EINVAL,
                       "kdas_loader_options: %lldx%lld pixels; sides are multiples of 32",
                       (long long)o->width, (long long)o->height);
    if (o->scale_count < 0 || o->scale_count > KD_LOADER_SCALES || !o->scales != !o->scale_count)
        return kd_fail(KDAS_EINVAL, "kdas_loader_options: scale_count is %lld with %s; at most %d",
                       (long long)o->scale_count, o->scales ? "scales" : "no scales",
                       KD_LOADER_SCALES);
    if (o->workers < 0 || o->workers > KD_LOADER_WORKERS)
        return kd_fail(KDAS_EINVAL, "kdas_loader_options: workers is %d, not 0 to %d", o->workers,
                       KD_LOADER_WORKERS);
    if (o->ahead < 1 || o->ahead > KD_LOADER_AHEAD)
        return kd_fail(KDAS_EINVAL, "kdas_loader_options: ahead is %d, not 1 to %d", o->ahead,
                       KD_LOADER_AHEAD);
    return check_share(o, frames);
}

/* A side at a scale, rounded to 32 (halves to even). */
static int64_t scaled(int64_t side, float scale)
{
    return (int64_t)rint((double)side * (double)scale / 32) * 32;
}

static kdas_status plan_scales(kd_loader_plan *plan, const kdas_loader_options *o)
{
    static const float one   = 1.0f;
    const float       *scale = o->scales ? o->scales : &one;

    plan->scales = (int)KD_MAX(o->scale_count, 1);
    for (int s = 0; s < plan->scales; s++) {
        bool fits = scale[s] > 0 && scale[s] <= 16;

        plan->height[s] = fits ? scaled(o->height, scale[s]) : 0;
        plan->width[s]  = fits ? scaled(o->width, scale[s]) : 0;
        if (plan->height[s] < 32 || plan->width[s] < 32 || plan->height[s] > KDAS_IMAGE_MAX_SIDE ||
            plan->width[s] > KDAS_IMAGE_MAX_SIDE)
            return kd_fail(KDAS_EINVAL,
                           "kdas_loader_options: scale %g of %lldx%lld pixels cannot be used",
                           (double)scale[s], (long long)o->width, (long long)o->height);
    }
    return KDAS_OK;
}

static kd_augment_rules rules_of(const kdas_loader_options *o)
{
    return (kd_augment_rules){ .rotation    = o->rotation,
                               .scale_min   = o->scale_min,
                               .scale_max   = o->scale_max,
                               .crop        = o->crop,
                               .crop_aspect = o->crop_aspect,
                               .brightness  = o->brightness,
                               .contrast    = o->contrast,
                               .saturation  = o->saturation,
                               .hue         = o->hue,
                               .blur        = o->blur,
                               .cutout      = o->cutout };
}

/* An epoch ends with an incomplete group, unless that is dropped or has no frame for some rank. */
static int64_t count_groups(const kd_loader_plan *plan, bool drop_last)
{
    int64_t last = plan->frames % plan->whole;

    if (last && !drop_last && last < plan->ranks)
        kd_info(plan->dataset->ctx,
                "an epoch ends before its last batch, whose %lld images are too few for %d ranks",
                (long long)last, plan->ranks);
    return plan->frames / plan->whole + (!drop_last && last >= plan->ranks);
}

kdas_status kd_loader_plan_init(kd_loader_plan *plan, kdas_loader_options *o, kdas_dataset *dataset,
                                const kdas_loader_options *options)
{
    int64_t frames = kdas_dataset_count(dataset);

    kdas_loader_options_init(o, sizeof *o);
    KD_RETURN(kd_take_options(o, sizeof *o, options, "kdas_loader_options"));
    KD_RETURN(kd_check_reserved(o->reserved, "kdas_loader_options"));
    KD_RETURN(kd_ranks_check(o->ranks, dataset->ctx, "kdas_loader_options"));
    KD_RETURN(check_options(o, frames));
    KD_RETURN(check_augmentation(o));
    *plan        = (kd_loader_plan){ .dataset    = dataset,
                                     .batch      = o->batch,
                                     .frames     = frames,
                                     .whole      = o->batch * kdas_ranks_count(o->ranks),
                                     .rank       = kdas_ranks_rank(o->ranks),
                                     .ranks      = kdas_ranks_count(o->ranks),
                                     .shuffle    = o->shuffle,
                                     .augment    = o->augment,
                                     .rules      = rules_of(o),
                                     .maps       = kd_dataset_has_maps(dataset),
                                     .unlabelled = kdas_dataset_unlabelled(dataset) > 0,
                                     .seed       = o->seed };
    plan->groups = count_groups(plan, o->drop_last);
    KD_RETURN(plan_scales(plan, o));
    return o->empty_share < 0 ? KDAS_OK : kd_sampling_init(plan, o->empty_share);
}

void kd_loader_plan_finish(kd_loader_plan *plan)
{
    kd_free(plan->dataset->ctx, plan->empty);
    plan->empty = NULL;
}

void kd_loader_plan_order(const kd_loader_plan *plan, int64_t epoch, int64_t *order)
{
    kd_random r = kd_random_make(plan->seed, (uint64_t)epoch);

    if (plan->empty)
        kd_sampling_views(plan, &r, order);
    else
        for (int64_t i = 0; i < plan->frames; i++)
            order[i] = i;
    for (int64_t i = plan->frames - 1; plan->shuffle && i > 0; i--) {
        int64_t j = kd_random_below(&r, i + 1), t = order[i];

        order[i] = order[j];
        order[j] = t;
    }
}

int64_t kd_loader_plan_share(const kd_loader_plan *plan, int64_t group, int64_t *first)
{
    int64_t start = group % plan->groups * plan->whole;
    int64_t size  = KD_MIN(plan->whole, plan->frames - start);
    int64_t from  = plan->rank * size / plan->ranks;

    *first = start + from;
    return (plan->rank + 1) * size / plan->ranks - from;
}

/* ---- A sample ---- */

void kd_loader_scratch_finish(kd_loader_scratch *scratch, const kd_loader_plan *plan)
{
    for (int k = 0; k < 2; k++) {
        kd_free(plan->dataset->ctx, scratch->rgb[k]);
        kd_free(plan->dataset->ctx, scratch->mask[k]);
    }
    kd_free(plan->dataset->ctx, scratch->blur);
    kd_free(plan->dataset->ctx, scratch->map);
    *scratch = (kd_loader_scratch){ 0 };
}

kdas_status kd_loader_scratch_init(kd_loader_scratch *scratch, const kd_loader_plan *plan)
{
    kdas_context *ctx    = plan->dataset->ctx;
    int64_t       pixels = 0;

    *scratch = (kd_loader_scratch){ 0 };
    for (int s = 0; s < plan->scales; s++)
        pixels = KD_MAX(pixels, plan->height[s] * plan->width[s]);
    for (int k = 0; k < 2; k++) {
        scratch->rgb[k]  = kd_alloc(ctx, (size_t)pixels * 3);
        scratch->mask[k] = kd_alloc(ctx, (size_t)pixels);
        if (scratch->rgb[k] && scratch->mask[k]) continue;
        kd_loader_scratch_finish(scratch, plan);
        return KDAS_ENOMEM;
    }
    if (plan->augment && plan->rules.blur > 0)
        scratch->blur = kd_alloc(ctx, (size_t)pixels * 3 * sizeof *scratch->blur);
    if (plan->maps) scratch->map = kd_alloc(ctx, (size_t)pixels * sizeof *scratch->map);
    if ((scratch->blur || !plan->augment || plan->rules.blur <= 0) && (scratch->map || !plan->maps))
        return KDAS_OK;
    kd_loader_scratch_finish(scratch, plan);
    return KDAS_ENOMEM;
}

static kdas_status fit(uint8_t *to, kdas_context *ctx, int64_t width, int64_t height,
                       const kdas_view *from)
{
    if (from->width != width || from->height != height)
        return kd_resize_bytes(ctx, to, width, height, from);
    kd_view_pack(to, from->pixel, from);
    return KDAS_OK;
}

/* The mask at a batch's size, 0 and 255; zeros where there is none. */
static kdas_status fit_mask(uint8_t *to, kdas_context *ctx, int64_t width, int64_t height,
                            const kdas_view *from)
{
    if (!from->data) {
        memset(to, 0, (size_t)(width * height));
        return KDAS_OK;
    }
    KD_RETURN(fit(to, ctx, width, height, from));
    for (int64_t k = 0; k < width * height; k++)
        to[k] = to[k] >= 128 ? 255 : 0;
    return KDAS_OK;
}

/* Put the teacher's map of a frame at place i, with the frame's augmentation (NULL: none). Outside
 * of the frame there is no polyp. */
static kdas_status put_map(kdas_batch *batch, int64_t i, kd_map *map, float *moved,
                           const kd_augment *augment, double aspect)
{
    float *p;

    KD_RETURN(kd_map_read(&p, map, batch->width, batch->height));
    if (augment) kd_augment_plane(augment, aspect, batch->width, batch->height, moved, p, 0);
    kd_batch_put_teacher(batch, i, augment ? moved : p, map->least);
    kd_free(batch->ctx, p);
    return KDAS_OK;
}

kdas_status kd_loader_make(const kd_loader_plan *plan, kd_loader_scratch *scratch, int64_t epoch,
                           int64_t view, int64_t i, kdas_batch *const *batch)
{
    kdas_context *ctx  = plan->dataset->ctx;
    kdas_status   st   = KDAS_OK;
    kd_loan       loan = { 0 };
    kd_augment    augment;

    KD_TRY(kd_dataset_lend(&loan, plan->dataset, view % plan->frames));
    augment = kd_augment_draw(plan->seed, (uint64_t)epoch, (uint64_t)view, &plan->rules);
    for (int s = 0; s < plan->scales; s++) {
        int64_t w = plan->width[s], h = plan->height[s];
        double  aspect =
            (double)loan.image.width / (double)w * (double)h / (double)loan.image.height;

        KD_TRY(fit(scratch->rgb[0], ctx, w, h, &loan.image));
        KD_TRY(fit_mask(scratch->mask[0], ctx, w, h, &loan.mask));
        if (plan->augment) {
            kd_augment_apply(&augment, aspect, w, h, scratch->rgb[1], scratch->mask[1],
                             scratch->rgb[0], scratch->mask[0]);
            kd_colour_apply(&augment, w, h, scratch->rgb[1], scratch->rgb[0], scratch->blur);
        }
        kd_batch_put(batch[s], i, scratch->rgb[plan->augment], scratch->mask[plan->augment]);
        if (!loan.mask.data) KD_TRY(kdas_batch_set_labelled(batch[s], i, 0));
        if (plan->maps)
            KD_TRY(put_map(batch[s], i, plan->dataset->entry[view % plan->frames].map, scratch->map,
                           plan->augment ? &augment : NULL, aspect));
    }
done:
    kd_loan_return(&loan);
    return st;
}
