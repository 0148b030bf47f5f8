/* dataset.c - datasets as handles: make them from a folder or from scenes, split them, return their
 * frames. */
#include <string.h>
#include "base/context.h"
#include "data/dataset.h"
#include "scene/scene.h"
#include "image/image.h"

void kdas_dataset_options_init(kdas_dataset_options *options, size_t size)
{
    kdas_dataset_options defaults = {
        .size = size, .bad_file = KDAS_BAD_FILE_REFUSE, .cache = (uint64_t)2 << 30, .check = 1
    };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* ---- Making ---- */

kdas_status kd_dataset_make(kdas_dataset **out, kdas_context *ctx, int64_t count)
{
    kdas_dataset *dataset = kd_calloc(ctx, 1, sizeof *dataset);

    *out = NULL;
    if (!dataset) return KDAS_ENOMEM;
    dataset->ctx   = ctx;
    dataset->entry = kd_calloc(ctx, (size_t)count, sizeof *dataset->entry);
    if (!dataset->entry) {
        kd_free(ctx, dataset);
        return KDAS_ENOMEM;
    }
    *out = dataset;
    return KDAS_OK;
}

void kd_dataset_append(kdas_dataset *dataset, kd_entry entry)
{
    kd_frames_share(entry.frames);
    kd_map_share(entry.map);
    dataset->entry[dataset->count++] = entry;
}

/* Note what one or two sources left out; on failure the dataset is destroyed. */
static kdas_status note_skips(kdas_dataset *dataset, const kd_skips *a, const kd_skips *b)
{
    kdas_status st = kd_skips_join(&dataset->skips, dataset->ctx, a);

    if (st == KDAS_OK && b) st = kd_skips_join(&dataset->skips, dataset->ctx, b);
    if (st != KDAS_OK) kdas_dataset_destroy(dataset);
    return st;
}

/* All frames of a store, in its order. */
static kdas_status dataset_of_all(kdas_dataset **out, kd_frames *frames)
{
    KD_RETURN(kd_dataset_make(out, frames->ctx, (int64_t)frames->count));
    for (size_t i = 0; i < frames->count; i++)
        kd_dataset_append(*out, (kd_entry){ frames, i, NULL });
    if (note_skips(*out, &frames->skips, NULL) == KDAS_OK) return KDAS_OK;
    *out = NULL;
    return KDAS_ENOMEM;
}

/* Read the folder `dir`, or `dir` of predictions and `masks`. */
static kdas_status open_folders(kdas_dataset **out, kdas_context *ctx, const char *dir,
                                const char *masks, kd_scan scan,
                                const kdas_dataset_options *options)
{
    kdas_status          st     = KDAS_OK;
    kd_frames           *frames = NULL;
    kdas_dataset_options o;

    kdas_dataset_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_dataset_options"));
    if (o.bad_file != KDAS_BAD_FILE_REFUSE && o.bad_file != KDAS_BAD_FILE_SKIP)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_options: bad_file is %d", o.bad_file);
    if (!kdas_mask_rule_name((kdas_mask_rule)o.mask_rule))
        return kd_fail(KDAS_EINVAL, "kdas_dataset_options: mask_rule is %d", o.mask_rule);
    if (scan.predictions && o.unlabelled)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_options: predictions need masks, but unlabelled "
                                    "is set");
    scan.list        = o.list;
    scan.unlabelled  = o.unlabelled != 0;
    scan.skip_bad    = o.bad_file == KDAS_BAD_FILE_SKIP;
    scan.fit         = o.fit_masks != 0;
    scan.check       = o.check != 0;
    scan.allow_empty = o.allow_empty != 0;

    KD_TRY(kd_frames_create(&frames, ctx, o.cache));
    frames->mask_rule = (kdas_mask_rule)o.mask_rule;
    KD_TRY(scan.predictions ? kd_frames_scan_predictions(frames, dir, masks, &scan)
                            : kd_frames_scan(frames, dir, &scan));
    st = dataset_of_all(out, frames);
done:
    kd_frames_drop(frames);
    return st;
}

kdas_status kdas_dataset_open(kdas_dataset **out, kdas_context *context, const char *dir,
                              const kdas_dataset_options *options)
{
    if (!out) return kd_fail(KDAS_EINVAL, "kdas_dataset_open: out is NULL");
    *out = NULL;
    if (!context || !dir)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_open: the %s is NULL",
                       context ? "folder" : "context");
    return open_folders(out, context, dir, NULL, (kd_scan){ 0 }, options);
}

kdas_status kdas_dataset_open_predictions(kdas_dataset **out, kdas_context *context,
                                          const char *predictions, const char *masks,
                                          const kdas_dataset_options *options)
{
    if (!out) return kd_fail(KDAS_EINVAL, "kdas_dataset_open_predictions: out is NULL");
    *out = NULL;
    if (!context || !predictions || !masks)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_open_predictions: the %s is NULL",
                       context ? "folder" : "context");
    return open_folders(out, context, predictions, masks, (kd_scan){ .predictions = true },
                        options);
}

kdas_status kdas_dataset_synthetic(kdas_dataset **out, kdas_context *context,
                                   const kdas_scene_options *options)
{
    kdas_status          st     = KDAS_OK;
    kd_frames           *frames = NULL;
    kdas_dataset_options defaults;
    kdas_scene_options   o;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_dataset_synthetic: out is NULL");
    *out = NULL;
    if (!context) return kd_fail(KDAS_EINVAL, "kdas_dataset_synthetic: the context is NULL");
    kdas_scene_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_scene_options"));
    KD_RETURN(kd_scene_check(&o, "kdas_scene_options"));

    kdas_dataset_options_init(&defaults, sizeof defaults);
    KD_TRY(kd_frames_create(&frames, context, defaults.cache));
    frames->scene = o;
    KD_TRY(kd_grow(context, (void **)&frames->frame, &frames->capacity, (size_t)o.count,
                   sizeof *frames->frame));
    for (int64_t i = 0; i < o.count; i++)
        KD_TRY(kd_frames_add(
            frames, (kd_frame_files){ .name   = kd_printf(context, "scene-%06lld", (long long)i),
                                      .width  = o.width,
                                      .height = o.height }));
    st = dataset_of_all(out, frames);
done:
    kd_frames_drop(frames);
    return st;
}

/* The number of frames in a share of n, rounded to nearest. A share between 0 and 1 takes at least
 * one frame and leaves at least one, if n allows. */
static int64_t share_count(double share, int64_t n)
{
    int64_t k = (int64_t)(share * (double)n + 0.5);

    if (share > 0 && k == 0 && n > 1) return 1;
    if (share < 1 && k == n && n > 1) return n - 1;
    return k;
}

/* held[i] = 1 for k of n frames, chosen by the head of a shuffle. */
static kdas_status choose(uint8_t *held, kdas_context *ctx, int64_t n, int64_t k, uint64_t seed)
{
    static const uint64_t stream = 0x73706C6974; /* "split": apart from other draws of this seed */
    kd_random             r      = kd_random_make(seed, stream);
    int64_t              *order  = kd_alloc(ctx, (size_t)n * sizeof *order);

    if (!order) return KDAS_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = 0; i < k; i++) {
        int64_t j = i + kd_random_below(&r, n - i), t = order[i];

        order[i]       = order[j];
        order[j]       = t;
        held[order[i]] = 1;
    }
    kd_free(ctx, order);
    return KDAS_OK;
}

/* Whether a part of a split is of masks in files, all of them empty. A mask that cannot be read is
 * found when it is due, and until then may have a polyp. */
static kdas_status all_empty(bool *out, const kdas_dataset *part)
{
    int64_t masks = 0;

    *out = false;
    for (int64_t i = 0; i < part->count; i++) {
        bool        empty = false;
        kdas_status st;

        if (!kd_dataset_frame(part, i)->mask_path) continue;
        masks++;
        st = kd_dataset_empty(&empty, part, i);
        if (st == KDAS_ENOMEM) return st;
        if (st != KDAS_OK || !empty) return KDAS_OK;
    }
    *out = masks > 0;
    return KDAS_OK;
}

/* A set without any polyp is refused when it is opened, unless that is meant; a split may make one
 * of a set that has some. */
static kdas_status tell_empty(kdas_dataset *const two[2])
{
    bool none[2];

    for (int i = 0; i < 2; i++)
        KD_RETURN(all_empty(&none[i], two[i]));
    if (none[0] && !none[1] && two[1]->count)
        kd_warn(two[0]->ctx,
                "the split leaves %lld frames of which none has a polyp: what is trained on them "
                "learns to find none; take another seed or share",
                (long long)two[0]->count);
    if (none[1] && !none[0] && two[0]->count)
        kd_warn(
            two[0]->ctx,
            "the split holds out %lld frames of which none has a polyp: their Dice says nothing "
            "of what is found; take another seed or share",
            (long long)two[1]->count);
    return KDAS_OK;
}

kdas_status kdas_dataset_split(kdas_dataset **rest, kdas_dataset **part, const kdas_dataset *from,
                               double share, uint64_t seed)
{
    kdas_status   st     = KDAS_OK;
    kdas_dataset *two[2] = { NULL, NULL };
    uint8_t      *held   = NULL;
    int64_t       k;

    if (rest) *rest = NULL;
    if (part) *part = NULL;
    if (!rest || !part || rest == part || !from)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_split: %s",
                       !from ? "the dataset is NULL" : "rest and part must be two places");
    if (!(share >= 0 && share <= 1))
        return kd_fail(KDAS_EINVAL, "kdas_dataset_split: the share is %g, not 0 to 1", share);

    k    = share_count(share, from->count);
    held = kd_calloc(from->ctx, (size_t)from->count, 1);
    if (!held) return KDAS_ENOMEM;
    KD_TRY(choose(held, from->ctx, from->count, k, seed));
    KD_TRY(kd_dataset_make(&two[0], from->ctx, from->count - k));
    KD_TRY(kd_dataset_make(&two[1], from->ctx, k));
    for (int64_t i = 0; i < from->count; i++)
        kd_dataset_append(two[held[i]], from->entry[i]);
    for (int i = 0; i < 2; i++)
        KD_TRY(kd_skips_join(&two[i]->skips, from->ctx, &from->skips));
    KD_TRY(tell_empty(two));

    *rest  = two[0];
    *part  = two[1];
    two[0] = two[1] = NULL;
done:
    kdas_dataset_destroy(two[0]);
    kdas_dataset_destroy(two[1]);
    kd_free(from->ctx, held);
    return st;
}

kdas_status kdas_dataset_join(kdas_dataset **out, const kdas_dataset *a, const kdas_dataset *b)
{
    if (!out) return kd_fail(KDAS_EINVAL, "kdas_dataset_join: out is NULL");
    *out = NULL;
    if (!a || !b) return kd_fail(KDAS_EINVAL, "kdas_dataset_join: a dataset is NULL");
    if (a->ctx != b->ctx)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_join: the datasets are not of one context");
    if (a->count && b->count && kd_dataset_has_maps(a) != kd_dataset_has_maps(b))
        return kd_fail(KDAS_EINVAL, "kdas_dataset_join: one has a teacher's maps, the other has "
                                    "not; add them to both, or afterwards");
    KD_RETURN(kd_dataset_make(out, a->ctx, a->count + b->count));
    for (int64_t i = 0; i < a->count; i++)
        kd_dataset_append(*out, a->entry[i]);
    for (int64_t i = 0; i < b->count; i++)
        kd_dataset_append(*out, b->entry[i]);
    if (note_skips(*out, &a->skips, &b->skips) == KDAS_OK) return KDAS_OK;
    *out = NULL;
    return KDAS_ENOMEM;
}

void kdas_dataset_destroy(kdas_dataset *dataset)
{
    if (!dataset) return;
    for (int64_t i = 0; i < dataset->count; i++) {
        kd_map_drop(dataset->entry[i].map);
        kd_frames_drop(dataset->entry[i].frames);
    }
    kd_skips_finish(&dataset->skips, dataset->ctx);
    kd_free(dataset->ctx, dataset->entry);
    kd_free(dataset->ctx, dataset);
}

/* ---- Asking ---- */

kdas_context *kdas_dataset_context(const kdas_dataset *dataset)
{
    return dataset ? dataset->ctx : NULL;
}

int64_t kdas_dataset_count(const kdas_dataset *dataset) { return dataset ? dataset->count : 0; }

int64_t kdas_dataset_skipped(const kdas_dataset *dataset)
{
    return dataset ? (int64_t)dataset->skips.count : 0;
}

static const kd_skip *skip_at(const kdas_dataset *dataset, int64_t i)
{
    return i >= 0 && i < kdas_dataset_skipped(dataset) ? &dataset->skips.skip[i] : NULL;
}

const char *kdas_dataset_skipped_name(const kdas_dataset *dataset, int64_t i)
{
    const kd_skip *skip = skip_at(dataset, i);

    return skip ? skip->name : NULL;
}

const char *kdas_dataset_skipped_reason(const kdas_dataset *dataset, int64_t i)
{
    const kd_skip *skip = skip_at(dataset, i);

    return skip ? skip->reason : NULL;
}

int64_t kdas_dataset_unlabelled(const kdas_dataset *dataset)
{
    int64_t n = 0;

    for (int64_t i = 0; i < kdas_dataset_count(dataset); i++)
        n += kd_dataset_frame(dataset, i)->unlabelled;
    return n;
}

kdas_mask_rule kdas_dataset_mask_rule(const kdas_dataset *dataset, int64_t i)
{
    if (!dataset || i < 0 || i >= dataset->count || !kd_dataset_frame(dataset, i)->mask_path)
        return KDAS_MASK_AUTO;
    return dataset->entry[i].frames->mask_rule;
}

const char *kdas_dataset_name(const kdas_dataset *dataset, int64_t i)
{
    return dataset && i >= 0 && i < dataset->count ? kd_dataset_frame(dataset, i)->name : NULL;
}

const char *kdas_dataset_image_path(const kdas_dataset *dataset, int64_t i)
{
    return kdas_dataset_name(dataset, i) ? kd_dataset_frame(dataset, i)->image_path : NULL;
}

const char *kdas_dataset_mask_path(const kdas_dataset *dataset, int64_t i)
{
    return kdas_dataset_name(dataset, i) ? kd_dataset_frame(dataset, i)->mask_path : NULL;
}

uint64_t kdas_dataset_hash(const kdas_dataset *dataset)
{
    uint64_t h = kd_mix64((uint64_t)kdas_dataset_count(dataset));

    for (int64_t i = 0; i < kdas_dataset_count(dataset); i++) {
        const kd_frame_files *f = kd_dataset_frame(dataset, i);

        h = kd_mix64(h ^ kd_hash64(f->name));
        h = kd_mix64(h ^ ((uint64_t)f->width << 32 | (uint64_t)f->height));
        if (f->unlabelled) h = kd_mix64(h + 1);
        if (f->mask_path && dataset->entry[i].frames->mask_rule != KDAS_MASK_BRIGHT)
            h = kd_mix64(h + 2 + (uint64_t)dataset->entry[i].frames->mask_rule);
        if (dataset->entry[i].map) h = kd_mix64(h ^ kd_map_hash(dataset->entry[i].map));
    }
    return h;
}

/* A caller-owned copy of borrowed pixels. */
static kdas_status copy_view(kdas_image **out, kdas_context *ctx, const kdas_view *view)
{
    KD_RETURN(kdas_image_create(out, ctx, view->width, view->height, view->pixel));
    kd_view_pack(kdas_image_pixels(*out), view->pixel, view);
    return KDAS_OK;
}

kdas_status kdas_dataset_get(kdas_image **image, kdas_image **mask, kdas_dataset *dataset,
                             int64_t i)
{
    kdas_status st    = KDAS_OK;
    kdas_image *frame = NULL, *truth = NULL;
    kd_loan     loan = { 0 };

    if (image) *image = NULL;
    if (mask) *mask = NULL;
    if (!dataset || !image || !mask)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_get: the %s is NULL",
                       !dataset ? "dataset"
                       : !image ? "image"
                                : "mask");
    if (i < 0 || i >= dataset->count)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_get: there is no frame %lld of %lld",
                       (long long)i, (long long)dataset->count);

    KD_TRY(kd_dataset_lend(&loan, dataset, i));
    KD_TRY(copy_view(&frame, dataset->ctx, &loan.image));
    if (loan.mask.data) KD_TRY(copy_view(&truth, dataset->ctx, &loan.mask));
    *image = frame;
    *mask  = truth;
    frame = truth = NULL;
done:
    kd_loan_return(&loan);
    kdas_image_destroy(frame);
    kdas_image_destroy(truth);
    return st;
}
