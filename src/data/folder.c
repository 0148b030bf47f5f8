/* folder.c - reading a dataset's folders: which image goes with which mask, and whether they fit.
 * No pixel is decoded here. A picture that cannot be used is refused, or left out and noted, as the
 * options say. */
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "data/frames.h"
#include "data/layout.h"
#include "data/name_list.h"
#include "data/pictures.h"
#include "image/image.h"

/* ---- What is left out ---- */

kdas_status kd_frames_take(kd_frames *frames, kdas_status st, const char *name, bool skip_bad)
{
    if (st == KDAS_OK || !skip_bad || st == KDAS_ENOMEM || st == KDAS_ECANCELLED) return st;
    kd_warn(frames->ctx, "left out: %s", kdas_last_error());
    return kd_skips_add(&frames->skips, frames->ctx, name, kdas_last_error());
}

/* A folder that gave no frame. */
static kdas_status check_any(const kd_frames *frames, const char *dir)
{
    const kd_skips *s = &frames->skips;

    if (frames->count) return KDAS_OK;
    if (s->count)
        return kd_fail(KDAS_EFORMAT, "none of the %zu frames in '%s' can be used: %s", s->count,
                       dir, s->skip[s->count - 1].reason);
    return kd_fail(KDAS_ENOTFOUND, "'%s' has no JPEG, PNG, BMP or TIFF files", dir);
}

/* ---- A frame's files ---- */

/* The pictures of one name: `images` of them from `image` on, `masks` from `mask` on. */
struct group {
    const kd_picture *image, *mask;
    size_t            images, masks;
};

/* A mask whose name begins with the image's, such as 'a_mask.png', shows how the folder names its
 * masks. */
static kdas_status refuse_alone(const kd_picture *image, const kd_pictures *masks)
{
    size_t      at = kd_pictures_place(masks, image->name), n = strlen(image->name);
    const char *next = at < masks->count ? masks->picture[at].name : NULL;

    if (!next || strncmp(next, image->name, n) != 0)
        return kd_fail(KDAS_ESHAPE, "'%s' has no mask in '%s'", image->path, masks->dir);
    return kd_fail(KDAS_ESHAPE,
                   "'%s' has no mask in '%s', where it would be called '%s' like its image; "
                   "there is '%s'",
                   image->path, masks->dir, image->name, kd_path_base(masks->picture[at].path));
}

/* The first of these files and the next have one name. */
static kdas_status refuse_both(const kd_picture *files)
{
    return kd_fail(KDAS_EFORMAT, "'%s' and '%s' have the same base name%s", files[0].path,
                   files[1].path, kd_pictures_form(&files[0], &files[1]));
}

static kdas_status check_names(const struct group *g, const kd_pictures *images,
                               const kd_pictures *masks, const kd_scan *scan)
{
    if (g->images > 1) return refuse_both(g->image);
    if (g->masks > 1) return refuse_both(g->mask);
    if (!g->masks) return refuse_alone(g->image, masks);
    if (!g->images)
        return kd_fail(KDAS_ESHAPE, "'%s' has no %s in '%s'", g->mask->path,
                       scan->predictions ? "prediction" : "image", images->dir);
    if (!g->image->readable || !g->mask->readable)
        return kd_fail(KDAS_EFORMAT, "'%s' is not of a kind that is read: JPEG, PNG, BMP, TIFF",
                       g->image->readable ? g->mask->path : g->image->path);
    return KDAS_OK;
}

/* `note` is a clause about EXIF, or "". */
static kdas_status check_sizes(const kd_frame_files *f, const char *note, const kd_scan *scan)
{
    if (scan->fit || (f->image_width == f->mask_width && f->image_height == f->mask_height))
        return KDAS_OK;
    if (scan->predictions)
        return kd_fail(KDAS_ESHAPE,
                       "'%s' is %lld x %lld, but its mask '%s' is %lld x %lld; "
                       "--resize-predictions (fit_masks) resizes it",
                       f->image_path, (long long)f->image_width, (long long)f->image_height,
                       f->mask_path, (long long)f->mask_width, (long long)f->mask_height);
    return kd_fail(KDAS_ESHAPE,
                   "'%s' is %lldx%lld, but its image '%s' is %lldx%lld%s; "
                   "--resize-masks (fit_masks) resizes it",
                   f->mask_path, (long long)f->mask_width, (long long)f->mask_height, f->image_path,
                   (long long)f->image_width, (long long)f->image_height, note);
}

static kdas_status add_group(kd_frames *frames, const struct group *g, const kd_pictures *images,
                             const kd_pictures *masks, const kd_scan *scan)
{
    kdas_context        *ctx = frames->ctx;
    kd_image_info        image, mask;
    const kd_image_info *size = scan->predictions ? &mask : &image;
    kd_frame_files       frame;

    KD_RETURN(check_names(g, images, masks, scan));
    KD_RETURN(kd_image_info_load(&image, ctx, g->image->path));
    KD_RETURN(kd_image_info_load(&mask, ctx, g->mask->path));
    frame = (kd_frame_files){ .image_path   = g->image->path,
                              .mask_path    = g->mask->path,
                              .width        = size->width,
                              .height       = size->height,
                              .image_width  = image.width,
                              .image_height = image.height,
                              .mask_width   = mask.width,
                              .mask_height  = mask.height,
                              .turn         = image.turn };
    KD_RETURN(check_sizes(&frame, kd_image_turn_note(&image, &mask), scan));
    frame.image_path = kd_strdup(ctx, g->image->path);
    frame.mask_path  = kd_strdup(ctx, g->mask->path);
    /* the name is last: if it is NULL, the frame is refused and the paths are freed */
    if (frame.image_path && frame.mask_path) frame.name = kd_strdup(ctx, g->image->name);
    return kd_frames_add(frames, frame);
}

static kdas_status add_alone(kd_frames *frames, const struct group *g)
{
    kdas_context  *ctx = frames->ctx;
    kd_image_info  image;
    kd_frame_files frame;

    if (g->images > 1) return refuse_both(g->image);
    if (!g->image->readable)
        return kd_fail(KDAS_EFORMAT, "'%s' is not of a kind that is read: JPEG, PNG, BMP, TIFF",
                       g->image->path);
    KD_RETURN(kd_image_info_load(&image, ctx, g->image->path));
    frame = (kd_frame_files){ .image_path   = kd_strdup(ctx, g->image->path),
                              .unlabelled   = true,
                              .width        = image.width,
                              .height       = image.height,
                              .image_width  = image.width,
                              .image_height = image.height,
                              .turn         = image.turn };
    if (frame.image_path) frame.name = kd_strdup(ctx, g->image->name);
    return kd_frames_add(frames, frame);
}

/* ---- All frames of a folder ---- */

/* What the lines of a list name, or the lack of it. */
static kdas_status check_list(kd_frames *frames, const kd_name_list *list,
                              const kd_pictures *images, bool skip_bad)
{
    for (size_t i = 0; i < list->count; i++)
        KD_RETURN(kd_frames_take(frames, kd_name_list_check(list, i, images), list->entry[i].text,
                                 skip_bad));
    return KDAS_OK;
}

/* Add every name of the two sides, or those of the list. Without masks, `masks` is empty. */
static kdas_status add_all(kd_frames *frames, const kd_pictures *images, const kd_pictures *masks,
                           const kd_name_list *list, const kd_scan *scan)
{
    size_t i = 0, m = 0;

    while (i < images->count || m < masks->count) {
        const char  *a    = i < images->count ? images->picture[i].name : NULL;
        const char  *b    = m < masks->count ? masks->picture[m].name : NULL;
        const char  *name = !b || (a && strcmp(a, b) <= 0) ? a : b;
        struct group g    = { images->picture + i, masks->picture + m,
                              kd_pictures_same(images, i, name), kd_pictures_same(masks, m, name) };

        if (!list->path || kd_name_list_has(list, name)) {
            kdas_status st = scan->unlabelled ? add_alone(frames, &g)
                                              : add_group(frames, &g, images, masks, scan);

            KD_RETURN(kd_frames_take(frames, st, name, scan->skip_bad));
        }
        i += g.images;
        m += g.masks;
    }
    return KDAS_OK;
}

/* Say how many sizes differ. */
static void tell_sizes(const kd_frames *frames, const kd_scan *scan)
{
    const kd_frame_files *first = NULL;
    size_t                count = 0;

    for (size_t i = 0; i < frames->count && !scan->unlabelled; i++) {
        const kd_frame_files *f = &frames->frame[i];

        if (f->image_width == f->mask_width && f->image_height == f->mask_height) continue;
        if (!count++) first = f;
    }
    if (count)
        kd_warn(frames->ctx, "%s resized: %zu, the first '%s' (image %lldx%lld, mask %lldx%lld)",
                scan->predictions ? "predictions" : "masks", count,
                scan->predictions ? first->image_path : first->mask_path,
                (long long)first->image_width, (long long)first->image_height,
                (long long)first->mask_width, (long long)first->mask_height);
}

/* Images both in a folder and in folders below it may be there by mistake. */
static void tell_mixed(const kd_pictures *images, kdas_context *ctx)
{
    const char *first = NULL;
    size_t      below = 0;

    for (size_t i = 0; i < images->count; i++) {
        if (!strchr(images->picture[i].name, '/')) continue;
        if (!below++) first = images->picture[i].name;
    }
    if (below && below < images->count)
        kd_warn(ctx,
                "'%s' has %zu images of its own and %zu in folders below, such as '%s': all "
                "are read",
                images->dir, images->count - below, below, first);
}

static kdas_status scan_pictures(kd_frames *frames, const kd_pictures *images,
                                 const kd_pictures *masks, const kd_scan *scan)
{
    kdas_status  st   = KDAS_OK;
    kd_name_list list = { 0 };

    kd_pictures_tell(images, frames->ctx);
    if (!scan->predictions) tell_mixed(images, frames->ctx);
    kd_pictures_tell(masks, frames->ctx);
    if (scan->list) {
        KD_TRY(kd_name_list_read(&list, frames->ctx, scan->list, images, masks));
        KD_TRY(check_list(frames, &list, images, scan->skip_bad));
    }
    KD_TRY(add_all(frames, images, masks, &list, scan));
    KD_TRY(check_any(frames, images->dir));
    KD_TRY(kd_frames_survey(frames, scan->skip_bad));
    KD_TRY(check_any(frames, images->dir));
    KD_TRY(kd_frames_settle(frames, images->dir, masks->dir));
    if (scan->check) KD_TRY(kd_frames_check(frames, scan->skip_bad));
    KD_TRY(check_any(frames, images->dir));
    if (!scan->allow_empty) KD_TRY(kd_frames_need_polyp(frames, masks->dir));
    tell_sizes(frames, scan);
done:
    kd_name_list_finish(&list, frames->ctx);
    return st;
}

/* ---- Where the files are ---- */

static kdas_status list_side(kd_pictures *pictures, kdas_context *ctx, const char *dir,
                             kd_side side)
{
    char       *path;
    kdas_status st;

    KD_RETURN(kd_find_side(&path, ctx, dir, side));
    if (!path) return kd_fail_side(ctx, dir, side);
    st = kd_pictures_list(pictures, ctx, path, NULL);
    kd_free(ctx, path);
    return st;
}

/* The side's folder in `dir`, or `dir` itself where it has none. */
static kdas_status list_side_or_all(kd_pictures *pictures, kdas_context *ctx, const char *dir,
                                    kd_side side)
{
    char       *path;
    kdas_status st;

    KD_RETURN(kd_find_side(&path, ctx, dir, side));
    st = kd_pictures_list(pictures, ctx, path ? path : dir, NULL);
    kd_free(ctx, path);
    return st;
}

kdas_status kd_frames_scan(kd_frames *frames, const char *dir, const kd_scan *scan)
{
    kdas_status st     = KDAS_OK;
    kd_pictures images = { 0 }, masks = { 0 };

    if (scan->unlabelled) {
        KD_TRY(list_side_or_all(&images, frames->ctx, dir, KD_SIDE_IMAGES));
    } else {
        KD_TRY(list_side(&images, frames->ctx, dir, KD_SIDE_IMAGES));
        KD_TRY(list_side(&masks, frames->ctx, dir, KD_SIDE_MASKS));
    }
    st = scan_pictures(frames, &images, &masks, scan);
done:
    kd_pictures_finish(&images, frames->ctx);
    kd_pictures_finish(&masks, frames->ctx);
    return st;
}

/* ---- Predictions and their masks ---- */

/* The endings of names that kdas-segment gives; the first two may serve as predictions. */
static const char *const segmented[] = { "_probability", "_mask", "_overlay" };

/* The length of a name without that ending, or 0. */
static size_t without(const char *name, const char *ending)
{
    size_t n = strlen(name), tail = strlen(ending);

    return n > tail && strcmp(name + n - tail, ending) == 0 ? n - tail : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const kd_picture *)a)->name, ((const kd_picture *)b)->name);
}

/* Name pictures NAME_ending after their mask NAME, unless there is a NAME already. */
static kdas_status drop_ending(kd_pictures *p, kdas_context *ctx, const kd_pictures *masks,
                               const char *ending)
{
    kdas_status st   = KDAS_OK;
    char      **name = kd_calloc(ctx, p->count, sizeof *name);

    if (!name) return KDAS_ENOMEM;
    for (size_t i = 0; i < p->count; i++) {
        size_t n = without(p->picture[i].name, ending);

        if (!n || kd_pictures_find(masks, p->picture[i].name)) continue;
        name[i] = kd_printf(ctx, "%.*s", (int)n, p->picture[i].name);
        if (!name[i]) {
            st = KDAS_ENOMEM;
            goto done;
        }
        if (kd_pictures_find(masks, name[i]) && !kd_pictures_find(p, name[i])) continue;
        kd_free(ctx, name[i]);
        name[i] = NULL;
    }
    for (size_t i = 0; i < p->count; i++) {
        char *before = p->picture[i].name;

        if (!name[i]) continue;
        p->picture[i].name = name[i];
        name[i]            = before;
    }
    if (p->count) qsort(p->picture, p->count, sizeof *p->picture, by_name);
done:
    for (size_t i = 0; i < p->count; i++)
        kd_free(ctx, name[i]);
    kd_free(ctx, name);
    return st;
}

/* Remove predictions without a mask; those that kdas-segment wrote beside others are not
 * counted. */
static void drop_spare(kd_pictures *p, kdas_context *ctx, const kd_pictures *masks)
{
    size_t kept = 0, spare = 0;

    for (size_t i = 0; i < p->count; i++) {
        kd_picture one = p->picture[i];
        bool       own = false;

        if (kd_pictures_find(masks, one.name)) {
            p->picture[kept++] = one;
            continue;
        }
        for (size_t k = 0; k < KD_COUNT(segmented); k++) {
            size_t n    = without(one.name, segmented[k]);
            char   last = one.name[n];

            if (!n) continue;
            one.name[n] = 0;
            own         = own || kd_pictures_find(masks, one.name);
            one.name[n] = last;
        }
        spare += !own;
        kd_free(ctx, one.name);
        kd_free(ctx, one.path);
    }
    p->count = kept;
    if (spare) kd_warn(ctx, "predictions without a mask in '%s', left out: %zu", p->dir, spare);
}

kdas_status kd_frames_scan_predictions(kd_frames *frames, const char *predictions,
                                       const char *masks, const kd_scan *scan)
{
    kdas_status  st   = KDAS_OK;
    kd_pictures  maps = { 0 }, truth = { 0 };
    kd_path_kind kind;

    KD_TRY(list_side_or_all(&truth, frames->ctx, masks, KD_SIDE_MASKS));
    KD_TRY(kd_look_at(&kind, predictions));
    if (kind != KD_PATH_FOLDER) {
        st = kd_fail(KDAS_ENOTFOUND, "there is no folder '%s'", predictions);
        goto done;
    }
    KD_TRY(kd_pictures_list(&maps, frames->ctx, predictions, NULL));
    if (!truth.count || !maps.count) {
        st = kd_fail(KDAS_ENOTFOUND, "'%s' has no JPEG, PNG, BMP or TIFF files",
                     truth.count ? maps.dir : truth.dir);
        goto done;
    }
    KD_TRY(drop_ending(&maps, frames->ctx, &truth, segmented[0]));
    KD_TRY(drop_ending(&maps, frames->ctx, &truth, segmented[1]));
    drop_spare(&maps, frames->ctx, &truth);
    KD_TRY(scan_pictures(frames, &maps, &truth, scan));
    st = kd_frames_tell_painted(frames, maps.dir);
done:
    kd_pictures_finish(&maps, frames->ctx);
    kd_pictures_finish(&truth, frames->ctx);
    return st;
}
