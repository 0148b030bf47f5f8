/* masks.c - the masks of a folder as a set: by which rule they are read, and whether any of them
 * has a polyp. With an explicit rule nothing is decoded here but masks up to the first that has
 * one. */
#include "base/context.h"
#include "data/frames.h"
#include "io/file.h"

static const char *mask_path(const void *user, int64_t i)
{
    return ((const kd_frames *)user)->frame[i].mask_path;
}

static const kd_mask_survey *mask_survey(const void *user, int64_t i)
{
    const kd_frame_files *frame = &((const kd_frames *)user)->frame[i];

    return frame->mask_path ? &frame->survey : NULL;
}

/* The brightest value of all masks: luma, or the largest colour sample. */
static int brightest(const kd_frames *frames, bool luma)
{
    int most = 0;

    for (size_t i = 0; i < frames->count; i++) {
        const kd_mask_survey *s = &frames->frame[i].survey;

        most = KD_MAX(most, luma ? s->luma : s->level);
    }
    return most;
}

static kdas_status find_rule(kd_frames *frames, const char *dir)
{
    kd_mask_set set = { frames, (int64_t)frames->count, mask_path, mask_survey };

    KD_RETURN(kd_mask_set_rule(&frames->mask_rule, &set));
    for (size_t i = 0; i < frames->count; i++) {
        kd_frame_files *frame = &frames->frame[i];

        if (frame->mask_path)
            frame->seen = kd_mask_is_empty(&frame->empty, &frame->survey, frames->mask_rule);
    }
    if (frames->mask_rule != KDAS_MASK_BRIGHT)
        kd_warn(frames->ctx,
                "the masks of '%s' are not simply 0 and 255 (their brightest value is %d) and are "
                "read by the mask rule '%s'",
                dir, brightest(frames, false), kdas_mask_rule_name(frames->mask_rule));
    return KDAS_OK;
}

/* Frames that a viewer shows otherwise than their rows are stored. */
static void tell_turned(kd_frames *frames, const char *dir)
{
    const kd_frame_files *first = NULL;
    long long             n     = 0, side[2];

    for (size_t i = 0; i < frames->count; i++) {
        if (frames->frame[i].turn <= 1) continue;
        if (!first) first = &frames->frame[i];
        n++;
    }
    if (!first) return;
    side[0] = first->width;
    side[1] = first->height;
    kd_warn(frames->ctx,
            "%lld of %lld frames of '%s' are turned as their EXIF orientation says, such as '%s': "
            "%lldx%lld as it is seen, stored as %lldx%lld; their masks must be as frames are seen",
            n, (long long)frames->count, dir, kd_path_base(first->image_path), side[0], side[1],
            side[first->turn >= 5], side[first->turn < 5]);
}

/* Masks that cannot be read are found when they are due, and until then may have a polyp. */
static kdas_status any_polyp(bool *out, kd_frames *frames)
{
    *out = false;
    for (size_t i = 0; i < frames->count && !*out; i++) {
        bool        empty = false;
        kdas_status st    = kd_frames_empty(&empty, frames, i);

        if (st == KDAS_ENOMEM) return st;
        *out = !empty;
    }
    return KDAS_OK;
}

static kdas_status refuse_empty(kd_frames *frames, const char *dir)
{
    bool luma = frames->mask_rule == KDAS_MASK_BRIGHT;

    for (size_t i = 0; i < frames->count; i++) {
        kd_frame_files *frame = &frames->frame[i];

        if (!frame->survey.background)
            KD_RETURN(kd_mask_survey_file(&frame->survey, frames->ctx, frame->mask_path));
    }
    return kd_fail(
        KDAS_EFORMAT,
        "none of the %lld masks of '%s' has a polyp: their brightest value is %d, and "
        "the mask rule '%s' %s; choose another rule (--mask-rule in the programs), or "
        "allow empty masks (allow_empty, --allow-empty) if all frames are without polyps",
        (long long)frames->count, dir, brightest(frames, luma),
        kdas_mask_rule_name(frames->mask_rule), luma ? "counts values above 127" : "finds none");
}

/* Whether a prediction has colours, or parts that cannot be seen. Most are grey by their headers. */
static kdas_status is_painted(bool *out, kdas_context *ctx, const char *path)
{
    kd_image_info  info;
    kd_mask_survey survey;

    *out = false;
    KD_RETURN(kd_image_info_load(&info, ctx, path));
    if (info.channels == 1) return KDAS_OK;
    KD_RETURN(kd_mask_survey_file(&survey, ctx, path));
    *out = survey.kind == KD_MASK_COLOURED || survey.alpha != KD_ALPHA_OPAQUE;
    return KDAS_OK;
}

kdas_status kd_frames_tell_painted(kd_frames *frames, const char *dir)
{
    const char *first = NULL;
    size_t      count = 0;

    for (size_t i = 0; i < frames->count; i++) {
        bool        painted;
        kdas_status st = is_painted(&painted, frames->ctx, frames->frame[i].image_path);

        if (st == KDAS_ENOMEM) return st;
        if (st == KDAS_OK && painted && !count++) first = frames->frame[i].image_path;
    }
    if (count)
        kd_warn(
            frames->ctx,
            "%zu of the %zu predictions of '%s' are coloured or transparent, such as '%s': they "
            "are read by their luma, and transparency is ignored; a prediction is grey, the "
            "probability times 255",
            count, frames->count, dir, kd_path_base(first));
    return KDAS_OK;
}

static bool has_masks(const kd_frames *frames)
{
    return frames->count && frames->frame[0].mask_path;
}

kdas_status kd_frames_settle(kd_frames *frames, const char *images, const char *masks)
{
    tell_turned(frames, images);
    if (frames->mask_rule != KDAS_MASK_AUTO) return KDAS_OK;
    if (has_masks(frames)) return find_rule(frames, masks);
    frames->mask_rule = KDAS_MASK_BRIGHT;
    return KDAS_OK;
}

kdas_status kd_frames_need_polyp(kd_frames *frames, const char *dir)
{
    bool any = true;

    if (has_masks(frames)) KD_RETURN(any_polyp(&any, frames));
    return any ? KDAS_OK : refuse_empty(frames, dir);
}
