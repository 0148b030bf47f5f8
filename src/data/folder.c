/* folder.c - reading a dataset's folders: which image goes with which mask, and whether they fit.
 * No pixel is decoded here. A picture that cannot be used is refused, or skipped and counted, as
 * the options say. */
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "data/frames.h"
#include "image/image.h"

/* A picture file of one side. */
struct picture {
    char *stem, *path;
    bool  readable; /* by its ending */
};

/* images/ or masks/. */
struct side {
    char           *dir;
    struct picture *picture; /* by stem, then by path, in byte order */
    size_t          count, capacity;
};

static void side_finish(struct side *side, kdas_context *ctx)
{
    for (size_t i = 0; i < side->count; i++) {
        kd_free(ctx, side->picture[i].stem);
        kd_free(ctx, side->picture[i].path);
    }
    kd_free(ctx, side->picture);
    kd_free(ctx, side->dir);
}

static int by_stem(const void *a, const void *b)
{
    const struct picture *p = a, *q = b;
    int                   order = strcmp(p->stem, q->stem);

    return order ? order : strcmp(p->path, q->path);
}

static bool has_ending(const char *name, const char *const *endings)
{
    for (; *endings; endings++)
        if (kd_path_has_extension(name, *endings)) return true;
    return false;
}

static kdas_status add_picture(struct side *side, kdas_context *ctx, const char *name,
                               bool readable)
{
    struct picture p  = { kd_path_stem(ctx, name), kd_path_join(ctx, side->dir, name), readable };
    kdas_status    st = KDAS_OK;

    if (!p.stem || !p.path)
        st = KDAS_ENOMEM;
    else if (!kd_is_folder(p.path))
        st = kd_grow(ctx, (void **)&side->picture, &side->capacity, side->count + 1, sizeof p);
    else
        goto done;
    if (st == KDAS_OK) {
        side->picture[side->count++] = p;
        return KDAS_OK;
    }
done:
    kd_free(ctx, p.stem);
    kd_free(ctx, p.path);
    return st;
}

/* List side->dir. Files without an image extension are ignored. */
static kdas_status side_list(struct side *side, kdas_context *ctx)
{
    static const char *const ours[]   = { ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", NULL };
    static const char *const others[] = { ".gif",  ".webp", ".jp2", ".avif",
                                          ".heic", ".ppm",  ".pgm", NULL };
    kdas_status              st       = KDAS_OK;
    kd_names                 names    = { 0 };

    KD_TRY(kd_list_folder(&names, ctx, side->dir));
    for (size_t i = 0; i < names.count; i++) {
        bool readable = has_ending(names.name[i], ours);

        if (readable || has_ending(names.name[i], others))
            KD_TRY(add_picture(side, ctx, names.name[i], readable));
    }
    if (side->count) qsort(side->picture, side->count, sizeof *side->picture, by_stem);
done:
    kd_names_clear(&names, ctx);
    return st;
}

/* DIR/images or DIR/image, whichever there is. */
static kdas_status side_find(struct side *side, kdas_context *ctx, const char *dir,
                             const char *plural, const char *singular)
{
    side->dir = kd_path_join(ctx, dir, plural);
    if (!side->dir) return KDAS_ENOMEM;
    if (!kd_is_folder(side->dir)) {
        kd_free(ctx, side->dir);
        side->dir = kd_path_join(ctx, dir, singular);
        if (!side->dir) return KDAS_ENOMEM;
    }
    if (!kd_is_folder(side->dir))
        return kd_fail(KDAS_ENOTFOUND, "'%s' has no folder '%s' or '%s'", dir, plural, singular);
    return side_list(side, ctx);
}

/* ---- Pairs ---- */

/* The pictures of one stem: `images` of them from `image` on, `masks` from `mask` on. */
struct group {
    const struct picture *image, *mask;
    size_t                images, masks;
};

static size_t run_length(const struct side *side, size_t from, const char *stem)
{
    size_t n = 0;

    while (from + n < side->count && strcmp(side->picture[from + n].stem, stem) == 0)
        n++;
    return n;
}

static kdas_status check_names(const struct group *g, const struct side *images,
                               const struct side *masks)
{
    if (g->images > 1)
        return kd_fail(KDAS_EFORMAT, "'%s' and '%s' have the same base name", g->image[0].path,
                       g->image[1].path);
    if (g->masks > 1)
        return kd_fail(KDAS_EFORMAT, "'%s' and '%s' have the same base name", g->mask[0].path,
                       g->mask[1].path);
    if (!g->masks)
        return kd_fail(KDAS_ESHAPE, "'%s' has no mask in '%s'", g->image->path, masks->dir);
    if (!g->images)
        return kd_fail(KDAS_ESHAPE, "'%s' has no image in '%s'", g->mask->path, images->dir);
    if (!g->image->readable || !g->mask->readable)
        return kd_fail(KDAS_EFORMAT, "'%s' is not of a kind that is read: JPEG, PNG, BMP, TIFF",
                       g->image->readable ? g->mask->path : g->image->path);
    return KDAS_OK;
}

static kdas_status add_group(kd_frames *frames, const struct group *g, const struct side *images,
                             const struct side *masks)
{
    kdas_context  *ctx = frames->ctx;
    kd_image_info  image, mask;
    kd_mask_survey look;
    kd_frame_files frame;

    KD_RETURN(check_names(g, images, masks));
    KD_RETURN(kd_image_info_load(&image, ctx, g->image->path));
    KD_RETURN(kd_image_info_load(&mask, ctx, g->mask->path));
    if (mask.width != image.width || mask.height != image.height)
        return kd_fail(KDAS_ESHAPE, "'%s' is %lldx%lld, but its image '%s' is %lldx%lld%s",
                       g->mask->path, (long long)mask.width, (long long)mask.height, g->image->path,
                       (long long)image.width, (long long)image.height,
                       kd_image_turn_note(&image, &mask));
    KD_RETURN(kd_frames_survey(frames, &look, g->mask->path));
    frame = (kd_frame_files){ .image_path = kd_strdup(ctx, g->image->path),
                              .mask_path  = kd_strdup(ctx, g->mask->path),
                              .width      = image.width,
                              .height     = image.height,
                              .turn       = image.turn,
                              .survey     = look };
    /* the name is last: if it is NULL, the frame is refused and the paths are freed */
    if (frame.image_path && frame.mask_path) frame.name = kd_strdup(ctx, g->image->stem);
    return kd_frames_add(frames, frame);
}

/* Handle the result of adding a frame. */
static kdas_status take(kd_frames *frames, kdas_status st, bool skip_bad)
{
    if (st == KDAS_OK || !skip_bad || st == KDAS_ENOMEM) return st;
    kd_warn(frames->ctx, "left out: %s", kdas_last_error());
    frames->skipped++;
    return KDAS_OK;
}

static kdas_status pair(kd_frames *frames, const struct side *images, const struct side *masks,
                        bool skip_bad)
{
    size_t i = 0, m = 0;

    while (i < images->count || m < masks->count) {
        const char  *a    = i < images->count ? images->picture[i].stem : NULL;
        const char  *b    = m < masks->count ? masks->picture[m].stem : NULL;
        const char  *stem = !b || (a && strcmp(a, b) <= 0) ? a : b;
        struct group g    = { images->picture + i, masks->picture + m, run_length(images, i, stem),
                              run_length(masks, m, stem) };

        KD_RETURN(take(frames, add_group(frames, &g, images, masks), skip_bad));
        i += g.images;
        m += g.masks;
    }
    return KDAS_OK;
}

/* A folder that gave no frame. */
static kdas_status check_any(const kd_frames *frames, const struct side *images)
{
    if (frames->count) return KDAS_OK;
    if (frames->skipped)
        return kd_fail(KDAS_EFORMAT, "none of the %lld frames in '%s' can be used: %s",
                       (long long)frames->skipped, images->dir, kdas_last_error());
    return kd_fail(KDAS_ENOTFOUND, "'%s' has no JPEG, PNG, BMP or TIFF files", images->dir);
}

kdas_status kd_frames_scan(kd_frames *frames, const char *dir, bool skip_bad)
{
    kdas_status st     = KDAS_OK;
    struct side images = { 0 }, masks = { 0 };

    if (!kd_is_folder(dir)) return kd_fail(KDAS_ENOTFOUND, "there is no folder '%s'", dir);
    KD_TRY(side_find(&images, frames->ctx, dir, "images", "image"));
    KD_TRY(side_find(&masks, frames->ctx, dir, "masks", "mask"));
    KD_TRY(pair(frames, &images, &masks, skip_bad));
    st = check_any(frames, &images);
done:
    side_finish(&images, frames->ctx);
    side_finish(&masks, frames->ctx);
    return st;
}

/* ---- Frames without masks ---- */

static kdas_status add_alone(kd_frames *frames, const struct picture *p, size_t same)
{
    kdas_context  *ctx = frames->ctx;
    kd_image_info  image;
    kd_frame_files frame;

    if (same > 1)
        return kd_fail(KDAS_EFORMAT, "'%s' and '%s' have the same base name", p[0].path, p[1].path);
    if (!p->readable)
        return kd_fail(KDAS_EFORMAT, "'%s' is not of a kind that is read: JPEG, PNG, BMP, TIFF",
                       p->path);
    KD_RETURN(kd_image_info_load(&image, ctx, p->path));
    frame = (kd_frame_files){ .image_path = kd_strdup(ctx, p->path),
                              .unlabelled = true,
                              .width      = image.width,
                              .height     = image.height,
                              .turn       = image.turn };
    if (frame.image_path) frame.name = kd_strdup(ctx, p->stem);
    return kd_frames_add(frames, frame);
}

/* DIR/images, DIR/image, or DIR itself where it has neither. */
static kdas_status find_alone(struct side *images, kdas_context *ctx, const char *dir)
{
    kdas_status st = side_find(images, ctx, dir, "images", "image");

    if (st != KDAS_ENOTFOUND) return st;
    kd_free(ctx, images->dir);
    images->dir = kd_strdup(ctx, dir);
    return images->dir ? side_list(images, ctx) : KDAS_ENOMEM;
}

kdas_status kd_frames_scan_unlabelled(kd_frames *frames, const char *dir, bool skip_bad)
{
    kdas_status st     = KDAS_OK;
    struct side images = { 0 };

    if (!kd_is_folder(dir)) return kd_fail(KDAS_ENOTFOUND, "there is no folder '%s'", dir);
    KD_TRY(find_alone(&images, frames->ctx, dir));
    for (size_t i = 0, n; i < images.count; i += n) {
        n = run_length(&images, i, images.picture[i].stem);
        KD_TRY(take(frames, add_alone(frames, &images.picture[i], n), skip_bad));
    }
    st = check_any(frames, &images);
done:
    side_finish(&images, frames->ctx);
    return st;
}
